"""The parameters of a model at every place of several scales: one pattern of names for all that have one rule.

Multipliers between two places name the parameters of one model.  Code that serves every target needs to know besides
which names there are at a depth, and how the code's own init follows the scales.  Both are read off the model as it is
built at a few places, and whatever then differs from the numbers of a target is refused (:class:`NoPattern`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import hypot, isclose, prod
from typing import Any, Optional

from tpcalc.algebra.fit import half_power
from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import fraction
from tpcalc.algebra.scales import Point, ray
from tpcalc.algebra.size import Size
from tpcalc.document.scaled import PatternOf, RangeOf, SlicePattern, formulas_of, sympy_text
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import InitLaw
from tpcalc.program.names import starred
from tpcalc.scaling.initial import read
from tpcalc.scaling.many import ManyScales
from tpcalc.trace.built import Built

__all__ = ["NoPattern", "patterns"]

#: Relative difference up to which numbers of formulas are those of a target.
NEAR = 1e-9

#: First index, what is behind the last, and the stride.
Run = tuple[int, int, int]


class NoPattern(Exception):
    """Why no formulas give the multipliers at every place."""


@dataclass(frozen=True)
class _Group:
    """Names that differ in whole numbers of their path alone, and have one rule, one size and one init."""

    template: str
    source: str
    aliases: tuple[str, ...]


def patterns(model: ManyScales, base: Point, documents: Sequence[Mapping[str, Any]]) -> list[PatternOf]:
    """The patterns of all parameters of ``model``.

    Raises NoPattern with the reason where there are none that give the same multipliers as ``documents``, which hold
    those from ``base`` to some targets.
    """
    found = _Patterns(model, base)
    rows = found.rows()
    for document in documents:
        found.compare(document)
    return rows


class _Patterns:
    def __init__(self, model: ManyScales, base: Point) -> None:
        self.model, self.base = model, base
        traced: Point = model.program.widths[0]
        self.deeper = {
            scale: traced.with_(**{scale: traced.by_name[scale] + step}) for scale, step in model.periods.steps.items()
        }
        self.groups = self._groups(model.built(traced))
        self.at_traced = self._indices(model.built(traced))
        self.runs: dict[_Group, list[tuple[Run, dict[str, Run]]]] = {}
        self.code: dict[tuple[str, Optional[str]], Formula] = {}

    # -- names -------------------------------------------------------------------------------------------

    def _groups(self, built: Built) -> dict[str, _Group]:
        """Traced name -> its group; the group has the first name that is alike."""
        first: dict[Any, _Group] = {}
        found = {}
        for names in built.tied.values():
            name, aliases = names[0], tuple(names[1:])
            rule = self.model.rules[name]
            template = starred(name)
            if aliases and "*" in template + "".join(map(starred, aliases)):
                raise NoPattern(f"{name} is tied to {aliases[0]}, one of a block to one of another")
            law = built.law(name)
            formulas = tuple(rule.formulas.items())
            key = template, formulas, rule.shape, rule.optimizer, law.std, law.mean, len(rule.slices)
            found[name] = first.setdefault(key, _Group(template, name, aliases))
        return found

    def _indices(self, built: Built) -> dict[_Group, set[tuple[int, ...]]]:
        """Of each group the whole numbers in the names that the model has at one place."""
        found: dict[_Group, set[tuple[int, ...]]] = {}
        sources = self.model.periods.sources(built)
        for names in built.tied.values():
            group = self.groups[sources[names[0]]]
            if starred(names[0]) != group.template or (group.aliases and tuple(names[1:]) != group.aliases):
                raise NoPattern(f"the number of the block is inside a word of {names[0]}, where no pattern finds it")
            parts = zip(names[0].split("."), group.template.split("."))
            found.setdefault(group, set()).add(tuple(int(part) for part, star in parts if star == "*"))
        return found

    def _ranges(self, group: _Group) -> list[RangeOf]:
        """The whole numbers of a group at every place."""
        here = _runs(self.at_traced[group], group)
        there = {
            scale: _runs(self._indices(self.model.built(place)).get(group, set()), group)
            for scale, place in self.deeper.items()
        }
        self.runs[group] = [
            (run, {scale: runs[index] for scale, runs in there.items()}) for index, run in enumerate(here)
        ]
        return [
            RangeOf(start=self._text(each, 0), stop=self._text(each, 1), step=_step(each)) for each in self.runs[group]
        ]

    def _text(self, runs: tuple[Run, dict[str, Run]], end: int) -> str:
        constant, slopes = self._affine(runs, end)
        symbols = {scale.name: scale.symbol for scale in self.model.program.scales}
        text = str(constant) if constant or not slopes else ""
        for scale, slope in slopes.items():
            term = symbols[scale] if abs(slope) == 1 else f"{abs(slope)}*{symbols[scale]}"
            sign = " - " if slope < 0 else " + " if text else ""
            text = f"{text}{sign}{term}"
        return text

    def _affine(self, runs: tuple[Run, dict[str, Run]], end: int) -> tuple[Fraction, dict[str, Fraction]]:
        """One end of a run as ``constant + sum of slope * depth``."""
        here, there = runs
        stride = _step(runs)
        value = _end(here, end, stride)
        traced = self.model.program.widths[0].by_name
        slopes = {
            scale: Fraction(_end(run, end, stride) - value, self.model.periods.steps[scale])
            for scale, run in there.items()
        }
        constant = value - sum((slope * traced[scale] for scale, slope in slopes.items()), Fraction(0))
        return constant, {scale: slope for scale, slope in slopes.items() if slope}

    def _at(self, place: Point, constant: Fraction, slopes: Mapping[str, Fraction]) -> int:
        return int(constant + sum(slope * place.by_name[scale] for scale, slope in slopes.items()))

    def _names(self, group: _Group, place: Point) -> Iterator[str]:
        """Those that the pattern gives at a place."""
        ranges = []
        for runs in self.runs[group]:
            start, stop = (self._at(place, *self._affine(runs, end)) for end in (0, 1))
            ranges.append(range(start, stop, _step(runs)))
        for indices in product(*ranges):
            rest = iter(indices)
            yield ".".join(str(next(rest)) if part == "*" else part for part in group.template.split("."))

    # -- numbers -----------------------------------------------------------------------------------------

    def rows(self) -> list[PatternOf]:
        found = []
        for group in dict.fromkeys(self.groups.values()):
            rule = self.model.rules[group.source]
            blocks = self._blocks(group)
            self.code.update(
                {
                    (group.source, None if leaf is None else leaf.name): self._code(group, leaf)
                    for leaf in (None, *blocks)
                }
            )
            law = self._law(group, None, self.base)
            drawn = read(group.source, law, law)
            assert drawn is not None  # its law is known
            found.append(
                PatternOf(
                    name=group.template,
                    aliases=list(group.aliases),
                    blocks=self._ranges(group),
                    shape=[_plain(size, group.source) for size in rule.shape],
                    optimizer=rule.optimizer,
                    init_law=drawn.draw,
                    init_std=law.std,
                    init_mean=law.mean,
                    code_init=sympy_text(self.code[group.source, None]),
                    clip=sympy_text(self.model.clip(rule.name)),
                    formulas=formulas_of(rule),
                    slices=[
                        SlicePattern(
                            dim=piece.dim,
                            start=_plain(leaf.start, leaf.name),
                            length=_plain(leaf.length, leaf.name),
                            init_std=sympy_text(piece.formulas["init_std"]),
                            code_init=sympy_text(self.code[group.source, leaf.name]),
                        )
                        for piece, leaf in zip(rule.slices, blocks)
                    ],
                )
            )
        return found

    def _blocks(self, group: _Group) -> list[Leaf]:
        rule = self.model.rules[group.source]
        return [leaf for leaf, _ in self.model.cells[0].found.blocks(rule.name)] if rule.slices else []

    def _code(self, group: _Group, leaf: Optional[Leaf]) -> Formula:
        """How the code's own init of a group, or of a block, follows the scales, as a product of half powers."""
        traced: Point = self.model.program.widths[0]
        places = list(dict.fromkeys((traced, *self.model.program.widths, *self.deeper.values())))
        samples = {place: self._size(group, leaf, place) for place in places}
        scales = self.model.program.scales
        first = samples[traced]
        if all(size == first for size in samples.values()):
            return Formula(scales, (((Fraction(0),) * len(scales),),))
        powers = []
        for scale in scales:
            along = [(value, samples[place]) for value, place in ray(places, scale.name)]
            moved = len(along) > 1 and along[0][1] > 0 and along[-1][1] > 0
            powers.append(fraction(half_power(along[0], along[-1])) if moved else Fraction(0))
        found = Formula(scales, ((tuple(powers),),))
        for place, size in samples.items():
            expected = first * found.at(place.by_name) / found.at(traced.by_name)
            if not isclose(size, expected, rel_tol=1e-6):
                raise NoPattern(
                    f"the code's own init of {group.source} is {first:.4g} at {traced} and {size:.4g} at {place}, no "
                    f"product of powers of the scales"
                )
        return found

    def _size(self, group: _Group, leaf: Optional[Leaf], place: Point) -> float:
        law = self._law(group, leaf, place)
        return hypot(law.std, law.mean)

    def _law(self, group: _Group, leaf: Optional[Leaf], place: Point) -> InitLaw:
        """How the code draws a group, or a block, at a place."""
        built = self.model.built(place)
        sources = self.model.periods.sources(built)
        name = next((name for name, source in sources.items() if self.groups.get(source) == group), None)
        if name is None:
            raise NoPattern(f"{group.source} has no counterpart at {place}")
        law = self.model.law(built, name, leaf, self.model.sized(place))
        if law.kind == "unknown":
            raise NoPattern(f"the init of {name} can't be read from the code")
        return law

    # -- what they give, held against the numbers of a target -----------------------------------------------

    def compare(self, document: Mapping[str, Any]) -> None:
        """Raise NoPattern unless the formulas give the same names and numbers as the ``document`` of a target."""
        target = self.model.point(document["target"])
        rows = {entry["name"]: entry for entry in document["weights"]}
        named: set[str] = set()
        for group in dict.fromkeys(self.groups.values()):
            for name in self._names(group, target):
                named.update((name, *group.aliases))
                if name not in rows:
                    raise NoPattern(f"the names of blocks follow no pattern: there is no {name} at {target}")
                self._same(group, rows[name], target)
        if named != rows.keys():
            raise NoPattern(f"the names of blocks follow no pattern: {min(rows.keys() - named)} at {target} has none")

    def _same(self, group: _Group, row: Mapping[str, Any], target: Point) -> None:
        formulas = self.model.rules[group.source].formulas
        code = self.ratio(self.code[group.source, None], target)
        zero = not (row["init_std"]["base"] or row["init_mean"]["base"])
        numbers = {
            "init": 1.0 if zero else self.ratio(formulas["init_std"], target) / code,
            "lr": self.ratio(formulas["lr"], target),
            "weight_decay": self.ratio(formulas["weight_decay"], target),
            "eps": self.ratio(formulas["eps"], target) if formulas["eps"] is not None else None,
            "clip": self.ratio(self.model.clip(self.model.rules[group.source].name), target),
            "forward": self.ratio(formulas["multiplier"], target),
        }
        exact_ones = dict(row["multipliers"])
        for index, (piece, shown) in enumerate(zip(self.model.rules[group.source].slices, row["slices"])):
            own = self.ratio(self.code[group.source, self._blocks(group)[index].name], target)
            zero = not (shown["init_std"]["base"] or shown["init_mean"]["base"])
            numbers[f"init of block {index}"] = 1.0 if zero else self.ratio(piece.formulas["init_std"], target) / own
            exact_ones[f"init of block {index}"] = shown["multipliers"]["init"]
        for key, number in numbers.items():
            exact = exact_ones[key]
            if number is None and exact is None:
                continue
            if number is None or exact is None or not isclose(number, exact, rel_tol=NEAR):
                raise NoPattern(
                    f"the {key.replace('_', ' ')} of {row['name']} is {number:.6g} at {target} by its formula and "
                    f"{exact:.6g} by true sizes, which are rounded or have parts that grow differently"
                )

    def ratio(self, formula: Any, target: Point) -> float:
        return formula.at(target.by_name) / formula.at(self.base.by_name)


def _runs(indices: set[tuple[int, ...]], group: _Group) -> list[Run]:
    """A set of tuples as one run for each place in them; raises NoPattern where it is none."""
    each = [sorted(set(column)) for column in zip(*indices)]
    runs = []
    for values in each:
        strides = {y - x for x, y in zip(values, values[1:])}
        if len(strides) > 1:
            raise NoPattern(f"the numbers of {group.template} ({', '.join(map(str, values[:6]))}) are no even steps")
        runs.append((values[0], values[-1], strides.pop() if strides else 0))
    if len(indices) != prod(map(len, each)):
        raise NoPattern(f"the numbers of {group.template} are not all combinations of theirs")
    if len(runs) != group.template.split(".").count("*"):
        raise NoPattern(f"{group.template} is not there at all depths")
    return runs


def _step(runs: tuple[Run, dict[str, Run]]) -> int:
    here, there = runs
    return max((run[2] for run in (here, *there.values())), default=1) or 1


def _end(run: Run, end: int, stride: int) -> int:
    return run[0] if end == 0 else run[1] + stride


def _plain(size: Optional[Size], name: str) -> str:
    """A size as text that is exact at every place."""
    assert size is not None
    if size.rounded:
        raise NoPattern(f"{name} has the rounded size {size}, known where the model was traced alone")
    return str(size.expr)
