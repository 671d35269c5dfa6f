"""The multipliers of one model between any two places of several scales: its names and its init at their depths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import hypot
from typing import Any, Optional

from tpcalc.algebra.fan import Cell
from tpcalc.algebra.form import coordinates
from tpcalc.algebra.formula import Formula, formula
from tpcalc.algebra.order import Order
from tpcalc.algebra.scales import Point
from tpcalc.derive.several import ScaledParametrization, together
from tpcalc.document.scaled import scaled_json, scaled_row
from tpcalc.errors import ScalingError
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import InitLaw, Program
from tpcalc.scaling.entries import filled
from tpcalc.scaling.initial import Initial, read
from tpcalc.scaling.numbers import Derived, Stretch
from tpcalc.trace.built import Built
from tpcalc.trace.depth import Periods

__all__ = ["ManyScales"]


class ManyScales:
    """The multipliers of one model between any two places, from the rules found in the cones of a fan."""

    def __init__(self, factory: Callable[..., Any], program: Program, cells: Sequence[Cell[Derived]]) -> None:
        self.factory, self.program, self.cells = factory, program, cells
        self.rules: ScaledParametrization = together(program, [Cell(cell.walls, cell.found.rules) for cell in cells])
        self.periods = Periods(factory, program.widths[0], dict(program.repeats.periods))
        self.alike = self.periods.alike()
        for name, first in self.alike.items():
            if self.rules[name].formulas != self.rules[first].formulas:
                raise ScalingError(
                    f"{first} and {name} stand at the same place of two blocks and have different rules, so those of "
                    f"deeper blocks are not known; make all blocks alike"
                )
        self._built: dict[Point, Built] = {}

    def point(self, values: Mapping[str, int]) -> Point:
        return Point(self.program.widths[0].names, (values[name] for name in self.program.widths[0].names))

    def document(self, base: Mapping[str, int], target: Mapping[str, int]) -> dict[str, Any]:
        """The multipliers from one place to another.

        Raises ScalingError where the code's own init is not known exactly, AlignError where the model at one end is
        not the traced one with whole periods more or less.
        """
        ends = self.point(base), self.point(target)
        way = Stretch(*ends, (self.sized(ends[0]), self.sized(ends[1])), *map(self.derived_at, ends))
        here, there = map(self.built, ends)
        from_base = self._by_place(here)
        sources = self.periods.sources(there)
        document = scaled_json(self.rules)
        document["base"], document["target"] = (end.by_name for end in ends)
        document["weights"] = [
            self._entry(way, name, names, sources, here, there, from_base)
            for names in there.tied.values()
            for name in names
        ]
        return document

    def clip(self, name: str) -> Formula:
        """What a gradient counts in the global norm, as :func:`tpcalc.scaling.numbers.clip_orders`."""
        count = len(self.program.scales)
        found = [(cell.walls, coordinates(-Order(cell.found.clips[name]), count)) for cell in self.cells]
        return formula(self.program.scales, found, f"the weight of the gradient of {name}")

    def _entry(
        self,
        way: Stretch,
        name: str,
        names: Sequence[str],
        sources: Mapping[str, str],
        here: Built,
        there: Built,
        from_base: Mapping[str, Sequence[str]],
    ) -> dict[str, Any]:
        source = sources[names[0]]
        others = from_base.get(self.alike[source])
        if not others:
            raise ScalingError(f"{names[0]} has no counterpart at the base; choose a deeper base")
        rule = replace(self.rules[source], name=names[0], aliases=tuple(names[1:]))
        entry = scaled_row(name, rule).data()
        first = self.rules[source].name
        laws = self._laws(way, first, names[0], others, here, there)
        shapes = here.shape(others[0]), there.shape(names[0])
        for place, shape in zip(way.sized, shapes):
            traced = tuple(size.at(place) for size in rule.shape)
            if traced != tuple(shape):
                raise ScalingError(
                    f"{names[0]} has shape {list(shape)} in the model that is built, and {list(traced)} in that traced"
                )
        filled(entry, way, first, laws, shapes)
        return entry

    def _laws(
        self, way: Stretch, first: str, name: str, others: Sequence[str], here: Built, there: Built
    ) -> dict[str, Initial]:
        """The code's own init of a parameter and of its blocks, by the names they have in the traced model."""
        blocks: list[Optional[Leaf]] = [None]
        if self.rules[first].slices:
            blocks += [leaf for leaf, _ in way.at_target.blocks(first)]
        found: dict[str, Initial] = {}
        for leaf in blocks:
            at_base = [self.law(here, other, leaf, way.sized[0]) for other in others]
            if any(hypot(law.std, law.mean) != hypot(at_base[0].std, at_base[0].mean) for law in at_base):
                raise ScalingError(
                    f"the init of {others[0]} and of {others[-1]}, one parameter of two blocks, differ at the base "
                    f"({at_base[0].call} and {at_base[-1].call}), and which of them a block of the target continues is "
                    f"not known; make it the same in all blocks"
                )
            law = self.law(there, name, leaf, way.sized[1])
            initial = read(name if leaf is None else leaf.name, at_base[0], law)
            if initial is None and leaf is not None:
                initial = found[first]
            if initial is None:
                why = at_base[0].call or law.call or "no init call"
                raise ScalingError(
                    f"the init of {name} can't be read from the code ({why}); initialise it with torch.nn.init"
                )
            found[first if leaf is None else leaf.name] = initial
        return found

    @staticmethod
    def law(built: Built, name: str, leaf: Optional[Leaf], place: Any) -> InitLaw:
        """How the code draws a parameter, or a block of it whose sizes are those at ``place``."""
        if leaf is None or leaf.dim is None or leaf.start is None or leaf.length is None:
            return built.law(name)
        return built.law_of_block(name, leaf.dim, leaf.start.at(place), leaf.length.at(place))

    def _by_place(self, built: Built) -> dict[str, list[str]]:
        """Traced name of the first period -> the names of the model ``built`` that stand at its place."""
        found: dict[str, list[str]] = {}
        for name, source in self.periods.sources(built).items():
            found.setdefault(self.alike[source], []).append(name)
        return found

    def sized(self, end: Point) -> Point:
        """The place of these sizes at the depths that were traced: sizes do not depend on a depth."""
        at = self.program.widths[0].by_name
        return end.with_(**{name: at[name] for name in self.periods.steps})

    def built(self, end: Point) -> Built:
        if end not in self._built:
            self._built[end] = Built.at(self.factory, end)
        return self._built[end]

    def derived_at(self, end: Point) -> Derived:
        """That of a cone in which a place lies; on a wall, either side has the same numbers."""
        found = self.cell_of([end])
        assert found is not None  # cones cover all directions
        return found.found

    def cell_of(self, ends: Sequence[Point]) -> Optional[Cell[Derived]]:
        """The first cone in which all these places lie, on its walls or inside; None where they lie in several."""
        inside = (cell for cell in self.cells if all(side >= 1 for end in ends for side in _sides(cell, end)))
        return next(inside, None)


def _sides(cell: Cell[Derived], end: Point) -> Iterator[Fraction]:
    """For each wall of a cone a number that is 1 on it, and larger inside."""
    for wall in cell.walls:
        side = Fraction(1)
        for value, power in zip(end, wall):
            side *= Fraction(value) ** power
        yield side
