"""Modules by role: which weights are tuned together at the base, read off the program and not off names.

``embedding``
    A matrix that a look-up reads, or that meets what the inputs give before any other matrix.
``positions``
    A table that no input picks from: learned positions, class tokens, biases of relative positions.
``hidden``
    Any other matrix, filters and stacked experts too.
``projection``
    Those of them whose result a residual branch adds to what it started from, or to a shortcut of that; behind norms,
    biases, gates and the weights of experts.
``readout``
    A matrix whose result reaches an output before it meets another matrix, or a value that other weights made.
``router``
    A matrix to few outputs that through a softmax, a sigmoid or a top-k weigh what other weights made.
``norm``
    Gains (they start at one constant, or multiply a normalised value), and the biases right behind.
``bias``
    What else acts entry by entry.

A weight may belong to several (one that is embedding and readout), a frozen or unused one to none.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations

from tpcalc.errors import TpcalcError
from tpcalc.program.ir import Program
from tpcalc.program.names import starred
from tpcalc.transfer.roles import Roles

MODULES: tuple[str, ...] = (
    "embedding", "positions", "hidden", "projection", "readout", "norm", "bias", "router"
)  # fmt: skip


def modules_of(program: Program) -> dict[str, frozenset[str]]:
    """Name of a weight with indices starred, so that it serves any depth (``blocks.*.attn.q.weight``) -> its modules.

    Where weights of one starred name differ, the indices that tell them apart stay (``blocks.*.mlp.2.weight``); the
    starred name then says what most of them are, for indices that this program does not have.  :func:`modules_at` has
    the order.  Raises UnsupportedOpError for an op without a rule.
    """
    roles = Roles(program)
    copies: dict[str, dict[str, frozenset[str]]] = {}
    for weight in program.weights:
        found = roles.of(weight)
        for name in weight.names:
            copies.setdefault(starred(name), {})[name] = found
    table: dict[str, frozenset[str]] = {}
    for pattern, each in copies.items():
        if any(each.values()):
            table.update(_told_apart(each))
            table.setdefault(pattern, Counter(each.values()).most_common(1)[0][0])
    return table


def _told_apart(each: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The names with as few indices in them as tell apart those that differ, the last first."""
    for kept in _choices(starred(next(iter(each)))):
        table: dict[str, frozenset[str]] = {}
        if all(table.setdefault(_kept(name, kept), found) == found for name, found in each.items()):
            return table
    raise AssertionError("full names differ")


def _choices(pattern: str) -> Iterator[tuple[int, ...]]:
    """Sets of places that a starred name has an index at, the smallest first."""
    places = [place for place, part in enumerate(pattern.split(".")) if part == "*"][::-1]
    for count in range(len(places) + 1):
        yield from combinations(places, count)


def _kept(name: str, kept: Sequence[int]) -> str:
    """A name starred but for the indices at the places ``kept``."""
    return ".".join(full if i in kept else star for i, (full, star) in enumerate(_parts(name)))


def _parts(name: str) -> Iterator[tuple[str, str]]:
    return zip(name.split("."), starred(name).split("."), strict=True)


def modules_at(name: str, modules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The modules of the parameter ``name``: of those of its names that :func:`modules_of` has, the one with most
    indices; none for an unknown one."""
    found: frozenset[str] = frozenset()
    for kept in _choices(starred(name)):
        found = modules.get(_kept(name, kept), found)
    return found


def selected(selector: str, name: str, modules: Mapping[str, frozenset[str]]) -> bool:
    """Whether the parameter ``name`` is one of ``selector``: a module's name, or a glob of parameter names."""
    if selector in MODULES:
        return selector in modules_at(name, modules)
    return fnmatchcase(name, selector)


def check_selector(selector: str, names: Sequence[str], modules: Mapping[str, frozenset[str]]) -> None:
    """Raises TpcalcError where ``selector`` selects none of the parameters ``names``."""
    if any(selected(selector, name, modules) for name in names):
        return
    there = [module for module in MODULES if any(selected(module, name, modules) for name in names)]
    patterns = list(dict.fromkeys(map(starred, names)))
    close = difflib.get_close_matches(selector, [*MODULES, *patterns], n=3)
    near = f"did you mean {' or '.join(close)}? There are" if close and selector not in MODULES else "there are"
    what = f"the module {selector}" if selector in MODULES else f"a module or parameter {selector!r}"
    raise TpcalcError(
        f"the model has no weights of {what}; {near} the modules {', '.join(there)} and patterns such as {patterns[0]}"
    )


__all__ = ["MODULES", "check_selector", "modules_at", "modules_of", "selected"]
