"""What every dialect is written from: patterns on names, and the multipliers of what they match.

A pattern stands for parameters that differ in the numbers of their blocks alone.  Patterns are anchored and escaped,
and no name is matched by two of them, so it is the same whether a trainer takes the first match, the last or all.
That each name is matched by its own pattern, and by no other, is checked on every name when a table is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Optional

from tpcalc.errors import ScalingError
from tpcalc.program.names import fold, starred
from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.dialects.names import Rename, renamed, some
from tpcalc.scaling.exported import Exported, assumed, weights
from tpcalc.scaling.weight import _WRAPPERS, Weight


@dataclass(frozen=True)
class Numbers:
    """Multipliers of an optimizer's group; ``eps`` None where the update law has none."""

    lr: float
    weight_decay: float
    eps: Optional[float]


@dataclass(frozen=True)
class Row:
    """A pattern: ``name`` folded for people, ``names`` those it stands for, ``patterns`` that match exactly these.

    A row has one pattern, or one for each name where no pattern stands for exactly these.
    """

    name: str
    names: tuple[str, ...]
    numbers: Numbers
    init: float
    clip: float
    slices: bool
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """All rows, in the order of the model's parameters, and the multipliers they come from.

    ``renamed``: whether any name is another than in the traced model; ``mapped``: those that the user's rules made or
    kept.
    """

    scaling: Exported
    rows: tuple[Row, ...]
    renamed: bool
    mapped: frozenset[str]

    @cached_property
    def groups(self) -> dict[Numbers, list[Row]]:
        """Rows that share an optimizer's group."""
        groups: dict[Numbers, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.numbers, []).append(row)
        return groups

    @property
    def law(self) -> str:
        return next(weight.optimizer for weight in self.scaling.values())

    @property
    def one_minus_beta(self) -> float:
        """What a stated rule for batch size and length multiplies 1 - beta by: one number for all parameters."""
        return assumed(self.scaling.document).get(self.law, Assumed()).one_minus_beta

    @property
    def partial(self) -> list[str]:
        """Names that some of their blocks have to themselves: a trainer that counts blocks anew would mix them up."""
        alike: dict[str, list[str]] = {}
        for row in self.rows:
            alike.setdefault(starred(row.names[0]), []).append(row.name)
        return [name for names in alike.values() if len(names) > 1 for name in names]


def numbers_of(weight: Weight, names: Iterable[str], no_decay: Sequence[re.Pattern[str]], beside: Assumed) -> Numbers:
    """``beside``: factors of a stated rule for batch size and length."""
    exempt = any(pattern.search(name) for pattern in no_decay for name in names)
    decay = 0.0 if exempt else weight.weight_decay * beside.weight_decay
    return Numbers(weight.lr * beside.lr, decay, None if weight.eps is None else weight.eps * beside.eps)


def table(
    scaling: Exported, rules: Sequence[Rename], no_decay: Sequence[re.Pattern[str]], tied: bool, globs: bool
) -> Table:
    """The rows of ``scaling`` under the trainer's names.

    ``no_decay``: whose names (the trainer's) have no decay.  ``tied``: whether a tied weight is matched under each of
    its names, or under its first alone.  ``globs``: shell patterns in place of regular expressions.

    Raises ScalingError where weights that become one have different multipliers.
    """
    first, rule = weights(scaling.document), assumed(scaling.document)
    names, mapped = renamed([name for weight in first for name in (weight.name, *weight.aliases)], rules)
    for exempt in no_decay:
        if not any(exempt.search(name) for name in names.values()):
            raise ScalingError(f"--no-decay {exempt.pattern!r} matches no name; they are {some(names.values())}")
    found: dict[str, Row] = {}
    for weight in first:
        own = [names[name] for name in (weight.name, *weight.aliases)]
        for name in own if tied else own[:1]:
            numbers = numbers_of(weight, own, no_decay, rule.get(weight.optimizer, Assumed()))
            row = Row(name, (name,), numbers, weight.init, weight.clip, bool(weight.slices))
            before = found.setdefault(name, row)
            if before.numbers != row.numbers:
                raise ScalingError(
                    f"{weight.name} is renamed to {name}, as another weight is, but one parameter has one of each "
                    f"multiplier and these differ: {before.numbers} and {row.numbers}"
                )
            if before.init != row.init:  # of several weights in one, each has its own
                found[name] = replace(before, slices=True)
    pattern = _glob if globs else _regex
    rows = tuple(_with_patterns(_folded(found), list(found), pattern, matcher(globs, list(found))))
    return Table(scaling, rows, any(name != here for name, here in names.items()), frozenset(mapped))


def _folded(found: dict[str, Row]) -> Iterator[Row]:
    for row in fold((name, replace(entry, name="", names=())) for name, entry in found.items()):
        yield replace(found[row.names[0]], name=row.name, names=row.names)


Match = Callable[[str, str], bool]


def _with_patterns(
    rows: Iterable[Row], names: Sequence[str], pattern: Callable[[Row, bool], str], match: Match
) -> Iterator[Row]:
    """Each row with the fewest patterns that match its names and no other."""
    for row in rows:
        for tried in _tries(row, pattern):
            if {name for name in names if any(match(one, name) for one in tried)} == set(row.names):
                yield replace(row, patterns=tried)
                break
        else:
            raise ScalingError(f"no pattern tells {some(row.names)} from other parameters; rename them with --rename")


def _tries(row: Row, pattern: Callable[[Row, bool], str]) -> Iterator[tuple[str, ...]]:
    yield (pattern(row, True),)
    yield (pattern(row, False),)
    yield tuple(pattern(replace(row, names=(name,)), False) for name in row.names)


def _regex(row: Row, wide: bool) -> str:
    """Anchors left out.  ``wide``: a varying number is any, or else one of those that occur."""
    parts = []
    for texts in zip(*(name.split(".") for name in row.names), strict=True):
        each = sorted(set(texts), key=lambda text: (len(text), text))
        if len(each) == 1:
            parts.append(re.escape(each[0]))
        else:
            parts.append(r"\d+" if wide else f"(?:{'|'.join(each)})")
    return r"\.".join(parts)


def _glob(row: Row, wide: bool) -> str:
    parts = []
    for texts in zip(*(name.split(".") for name in row.names), strict=True):
        alike = len(set(texts)) == 1
        parts.append(re.sub(r"([*?[])", r"[\1]", texts[0]) if alike or not wide else "*")
    return ".".join(parts)


def wrapped(names: Iterable[str]) -> tuple[str, str]:
    """What may stand before a name, and after each dot in it, as regular expressions.

    It is DDP's ``module``, and what torch.compile, activation checkpointing and FSDP1 put there: any part that begins
    with an underscore, or, where the model has such parts itself, the known ones by name.
    """
    parts = [name.split(".") for name in names]
    own = any(part.startswith("_") for each in parts for part in each)
    part = f"(?:{'|'.join(_WRAPPERS)})" if own else r"_\w+"
    ddp = "" if any(each[0] == "module" for each in parts) else r"module\.|"
    return rf"(?:{ddp}{part}\.)*", rf"(?:{part}\.)*"


def anchored(pattern: str, lead: str, gap: str) -> str:
    """A regular expression for ``re.match`` or ``re.search``, that lets wrappers stand in a name."""
    return f"^{lead}{pattern.replace(chr(92) + '.', chr(92) + '.' + gap)}$"


def matcher(globs: bool, names: Sequence[str]) -> Match:
    """How a pattern is matched by the trainer."""
    if globs:
        return lambda pattern, name: fnmatchcase(name, pattern)
    lead, gap = wrapped(names)
    compiled: dict[str, re.Pattern[str]] = {}

    def match(pattern: str, name: str) -> bool:
        if pattern not in compiled:
            compiled[pattern] = re.compile(anchored(pattern, lead, gap))
        return compiled[pattern].search(name) is not None

    return match
