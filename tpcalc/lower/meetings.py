"""Where two values meet: which of their axes are summed over, and along which their entries differ at all."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.recognise import Recogniser
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Value
from tpcalc.rules.layout import Labels
from tpcalc.rules.structures import Contract, Product, Reduce, View


class Axis(NamedTuple):
    """A growing axis of a value: its place, from the right, and its growth."""

    place: int
    growth: Order


#: Those along which the entries of a value differ, by label.
Axes = Mapping[Hashable, Axis]


class Side(NamedTuple):
    """A value that meets another one in a sum over ``summed`` axes, with the axes of both; ``kept``: of the result."""

    x: Any
    y: Any
    of_x: Axes
    of_y: Axes
    summed: frozenset[Hashable]
    kept: Labels

    @property
    def other(self) -> "Side":
        return self._replace(x=self.y, y=self.x, of_x=self.of_y, of_y=self.of_x)

    def foreign(self, own: Collection[Hashable]) -> frozenset[int]:
        """The axes of the result that are none of these."""
        return frozenset(place for place, label in enumerate(reversed(self.kept), start=1) if label not in own)


class Meetings:
    """Mutable while a program is lowered.  ``alike``: axes of a value along which its entries repeat."""

    def __init__(
        self, growths: Mapping[Any, Order], values: Mapping[Any, Value], seen: Recogniser, wiring: Wiring
    ) -> None:
        self.growths, self.values, self.seen, self.wiring = growths, values, seen, wiring
        self.alike: dict[Any, frozenset[int]] = {}

    def side(self, s: Contract | Product | Reduce, node: Node) -> Optional[Side]:
        """Which axes are summed, if any, where two values meet; None where that is not known."""
        layout = self.wiring.layout(node)
        pair: Any = s
        kept = layout.results[0]
        if isinstance(s, Reduce):  # of a product that stands by itself
            whole: Any = s.x
            pair, made = self.seen.made.get(whole), self.wiring.program.producers.get(whole)
            if not isinstance(pair, Product) or made is None or node.refs != (whole,):
                return None
            before, layout = layout.operands[0], self.wiring.layout(made)
            names, node = layout.results[0], made
            if any(before[-p] is None or names[-p] is None for p in self.growing(whole)):
                return None
            kept = tuple(None if label is None else names[before.index(label)] for label in kept)
        refs = node.refs
        x, y = (self._read(vid, refs) for vid in (pair.x, pair.y))
        if x == y or len({x, y}.intersection(refs)) < (1 if len(refs) == 2 else 2):
            return None
        # a summand stands in the place of the sum
        i, j = (refs.index(a) if a in refs else 1 - refs.index(b) for a, b in ((x, y), (y, x)))
        of_x, of_y = self._axes(x, layout.operands[i]), self._axes(y, layout.operands[j])
        if of_x is None or of_y is None:
            return None
        return Side(x, y, of_x, of_y, frozenset(of_x.keys() | of_y.keys()) - set(kept), kept)

    def _read(self, vid: Any, refs: Collection[Any]) -> Any:
        """The operand of a node that is repeated inside it."""
        bare = self.bare(vid)
        while vid not in refs and vid != bare:
            made: Any = self.seen.made[vid]
            vid = made.x
        return vid

    def _axes(self, vid: Any, labels: Labels) -> Optional[Axes]:
        """The growing axes along which entries differ, by label; None where one has none."""
        found = {p: growth for p, growth in self.growing(vid).items() if p not in self.alike.get(vid, ())}
        if vid not in self.values or any(labels[-p] is None for p in found):
            return None
        return {labels[-p]: Axis(p, growth) for p, growth in found.items()}

    def growing(self, vid: Any) -> dict[int, Order]:
        """Growth of the axes of a value that grow, by place from the right."""
        sizes = enumerate(reversed(self.values[vid].shape if vid in self.values else ()), start=1)
        return {place: size.growth for place, size in sizes if size.growth > 0}

    def differing(self, vid: Any) -> Order:
        """Growth of the axes along which the entries of a value differ."""
        bare = self.bare(vid)
        alike = self.alike.get(bare)
        if not alike:
            return self.growths[bare]
        return self.growths[bare] - sum((g for place, g in self.growing(bare).items() if place in alike), ZERO)

    def bare(self, vid: Any) -> Any:
        """What is repeated by a view."""
        made = self.seen.made.get(vid)
        while isinstance(made, View) and made.repeated:
            vid, made = made.x, self.seen.made.get(made.x)
        return vid


def growth_of(labels: Collection[Hashable], axes: Axes) -> Order:
    return sum((axes[label].growth for label in labels), ZERO)


__all__ = ["Axes", "Axis", "Meetings", "Side", "growth_of"]
