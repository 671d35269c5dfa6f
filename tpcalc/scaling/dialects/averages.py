"""Betas under a stated rule for batch size and length: one number for all parameters, which multiplies 1 - beta.

Code that makes groups is given the betas of the base and applies it, by the text of the runtime; where a trainer's
table has no betas, its head says what to set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.dialects.table import Table
from tpcalc.scaling.standalone import code, imports

__all__ = ["applied", "examples", "imported"]

_MADE = """# Assumed, not derived: what 1 - beta is multiplied by. GROUPS have the other factors.
ASSUMED = Assumed(one_minus_beta={factor!r})
"""
_LINE = "    options = ASSUMED.options(options, ValueError)\n"
#: Of the base, for examples: those that are usual.
USUAL = (0.9, 0.95, 0.999)


def imported(table: Table, first: str) -> str:
    """Imports of a module, ``first``, with those that :func:`applied` needs, standard modules in their order."""
    return first if table.one_minus_beta == 1.0 else imports("assumed", first=first)


def applied(table: Table, body: str, changes: Mapping[str, str]) -> str:
    """``body`` of a module, in which options of all groups become those of the target; as it is where betas stay.

    ``changes``: what stands there once, and what takes its place; ``{}`` in that is the line that makes the options.
    """
    if table.one_minus_beta == 1.0:
        return body
    for there, then in changes.items():
        body = body.replace(there, then.replace("{}", _LINE), 1)
    made = _MADE.format(factor=table.one_minus_beta)
    return "\n\n" + "\n\n".join((code("assumed"), made)) + body


def examples(factor: float, betas: Sequence[float] = USUAL) -> Iterator[str]:
    """What usual betas become, in words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that are clipped
        found = Assumed(one_minus_beta=factor).options({"betas": tuple(betas)}, ValueError)["betas"]
    for beta, after in zip(betas, found, strict=True):
        yield f"{beta:g} becomes {after:.8g}" if after else f"{beta:g} is clipped to 0"
