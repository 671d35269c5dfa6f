"""Errors of tpcalc: one sentence that says what failed, where, and the remedy.

The command line prints ``str(error)`` to stderr and exits with code 2.  Everything a user can do
wrong raises a :class:`TpcalcError`; any other exception is a bug of ours.
"""

from __future__ import annotations


class TpcalcError(Exception):
    """Base class of every error caused by input; its text is one sentence with the remedy."""


def first_line(error: BaseException, most: int = 200) -> str:
    """Of somebody else's error message, for a sentence of ours."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:most]


class TargetError(TpcalcError):
    """The target can't be loaded or called: missing file, missing callable, factory that raises."""


class TraceError(TpcalcError):
    """The model can't be recorded at some width."""


class AlignError(TpcalcError):
    """The traces at two widths differ; names the first differing op, its module and its line."""


class FitError(TpcalcError):
    """A size or constant is no power of the width; never guessed."""


class UnsupportedOpError(TpcalcError):
    """An op has no rule; names op, module, line and the decorator that adds one."""


class ProgramError(TpcalcError):
    """The program breaks an invariant of the IR (raised by the checker)."""


class SetupError(TpcalcError):
    """The setup returned something that can't be verified."""


class DeriveError(TpcalcError):
    """No parametrization satisfies the budgets, or the model is outside the theory."""


class ScalingError(TpcalcError, ValueError):
    """Multipliers can't be computed, loaded or applied; names the weight or the file."""
