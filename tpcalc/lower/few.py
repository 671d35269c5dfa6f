"""Few of many: of an axis that grows, finitely many entries are not zero, and a sum over it has that many terms.

``zeros.scatter(-1, picked, values)``, ``one_hot``, the gradient of a maximum, of a top-k, of rows that were looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.lower.lowered import Leaf
from tpcalc.lower.recognise import Recogniser
from tpcalc.rules.structures import (
    Bounded,
    Contract,
    Discrete,
    Guard,
    Known,
    LinearLike,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
    operands,
)


class Few:
    """Which values are zero but for few entries.  Mutable while a program is lowered.

    ``growths``: of the axes of values.  ``many``: value -> growth of the axes along which only few are not zero.
    ``alike``: those of which that is so along each axis that grows (a diagonal, a band).  ``rest``: what is zero
    exactly where few others are not.  ``picked``: values of which a mask picks few entries, in the forward pass.
    ``below``: value -> few entries that it is a sum of, and by which order it is less than they are.
    ``along``: whether a node sums over the axis along which a value is few, None where that is not known; ``reads``:
    what a node of the backward pass reads, indices as well: what stands where an entry was found is its gradient.
    """

    def __init__(
        self,
        growths: Mapping[int, Order],
        seen: Recogniser,
        along: Callable[[Any, int, Order], Optional[bool]],
        reads: Callable[[int], Collection[Any]],
    ) -> None:
        self.growths, self.seen, self.along, self.reads = growths, seen, along, reads
        self.many: dict[Any, Order] = {}
        self.alike: set[Any] = set()
        self.rest: dict[Any, Order] = {}
        self.picked: set[Any] = set()
        self.extreme: dict[Any, tuple[Any, Order]] = {}  # a value's extreme entries: whose, and growth of the others
        self.largest: set[Any] = set()  # of these the least of finitely many largest ones
        self.equal: dict[Any, Any] = {}  # what is few since it is where an extreme entry is -> of which value
        self.found: dict[int, Any] = {}  # node that finds an extreme entry -> of which value
        self.places: dict[Any, Any] = {}  # an index, where an extreme entry stands -> of which value
        self.measure: dict[Any, frozenset[Any]] = {}  # made of extreme entries alone -> of which values
        self.measured: set[Any] = set()  # values whose extreme entries something is multiplied or divided by
        self.uneven: set[int] = set()  # nodes that add an extreme entry's gradient to others, as spread over them
        self.zero: set[Any] = set()
        self.below: dict[Any, tuple[Any, Order]] = {}

    def counted(self, s: Structure, node: int) -> Structure:
        """A sum over such axes as one of few terms."""
        if not isinstance(s, (Contract, Reduce)):
            return s
        by = max((min(many, s.K) for x, many in self._sides(s) if self._summed(s, x, many, node)), default=ZERO)
        return replace(s, K=s.K - by, sizes=None) if by > 0 else s

    def note(self, out: int, s: Structure, node: int) -> None:
        """Remember what is zero, and what is but for few entries."""
        xs, how = operands(s), s.how if isinstance(s, Discrete) else ""
        self._thresholds(out, s, node)
        self._sums(out, s, node)
        if isinstance(s, Known):
            if s.order is MINUS_INFINITY:
                self.zero.add(out)
        elif (isinstance(s, (View, Scale, Product)) or how == "and") and not self.zero.isdisjoint(xs):
            self.zero.add(out)
        elif (isinstance(s, Sum) or how == "or") and self.zero.issuperset(xs):
            self.zero.add(out)
        else:
            many = self._many(out, s, node)
            if many > 0:
                self.many[out] = many
                if not self.alike.isdisjoint(xs) and not isinstance(s, Sum):
                    self.alike.add(out)
                where = self._stands(s, node)
                if where is not None:
                    self.equal[out] = where

    def _stands(self, s: Structure, node: int) -> Any:
        """The value whose extreme entry stands where ``s`` is not zero, if that is why it is few."""
        if isinstance(s, Discrete) and s.how == "same":
            return self._source(*s.xs)
        if isinstance(s, Sum) and s.how == "put":
            return next((self.places[x] for x in self.reads(node) if x in self.places), None)
        return next((self.equal[x] for x in operands(s) if x in self.equal), None)

    def beside(self, s: Sum, node: int) -> list[Order]:
        """By how much each summand is less than its entries that are not zero: what an extreme entry's gradient adds to
        those of all entries counts as spread over them.

        A softmax does not change with what is taken off all entries: there the gradient of the largest one, which is
        taken off, comes to nothing.  Where the values are divided by it (a norm by the largest), it is n^0 beside n^-1:
        ``uneven`` for who follows the size of gradients.
        """
        among = s.how in ("sum", "difference") and any(x not in self.many and x not in self.zero for x in s.xs)
        spread = [among and x in self.equal and x in self.many for x in s.xs]
        if any(apart and self.equal[x] in self.measured for x, apart in zip(s.xs, spread)):
            self.uneven.add(node)
        return [self.many[x] if apart else ZERO for x, apart in zip(s.xs, spread)]

    def counted_in(self, leaf: Leaf) -> Leaf:
        """A weight, with how few entries its gradient has: few for each sample that it is a sum over."""
        if leaf.grad not in self.many or leaf.bulk is not None:
            return leaf
        few = max(self.many[leaf.grad] - self._samples(leaf.grad), ZERO)
        return replace(leaf, few=few, thin=few > 0 and leaf.grad in self.alike)

    def _samples(self, grad: Any) -> Order:
        """Growth of the terms of the sum that a gradient is, through views of it and sums of uses; what is written
        into zeros is counted as it is written."""
        s = self.seen.made.get(grad)
        if isinstance(s, (Contract, Reduce)):
            return s.K
        if isinstance(s, (View, Scale)) or (isinstance(s, Sum) and s.how == "sum"):
            return max_order(*map(self._samples, operands(s)))
        return ZERO

    def _many(self, out: int, s: Structure, node: int) -> Order:
        many = self.many.get
        if isinstance(s, Sum):
            hard = self._straight_through(s)
            if hard is not None:
                return many(hard, ZERO)
            counted = (x for x in s.xs if x not in self.zero and not self._is_faint(x, s))
            return min((self._among(out, x, s) for x in counted), default=ZERO)
        if isinstance(s, Product):
            sides = many(s.x, ZERO), many(s.y, ZERO)
            if min(sides) == 0 < max(sides):
                self.picked.add(s.y if sides[0] else s.x)
            return max(sides)
        if isinstance(s, Discrete) and s.how == "and":
            return max_order(*(many(x, ZERO) for x in s.xs))
        if isinstance(s, Discrete) and s.how == "or":
            return min((many(x, ZERO) for x in s.xs if x not in self.zero), default=ZERO)
        if isinstance(s, (View, Scale, Normalise)):
            return many(s.x, ZERO) if self.growths[out] >= many(s.x, ZERO) else ZERO
        if isinstance(s, Discrete):
            few, above = self._compared(s)
            if few > 0 and not above:
                self.rest[out] = few
            one = self.growths[out] - max_order(*map(self._growth, s.xs)) if s.one else ZERO
            return few if above else one
        if isinstance(s, Power):
            return many(s.x, ZERO) if s.k > 0 else ZERO
        if isinstance(s, Bounded):
            return many(s.x, ZERO) if s.zero else ZERO
        if isinstance(s, LinearLike):
            return ZERO if s.offset else many(s.x, ZERO)
        if isinstance(s, (Contract, Reduce)):
            return max((found for x, found in self._sides(s) if self._kept(s, x, found, node)), default=ZERO)
        return ZERO

    def _sums(self, out: int, s: Structure, node: int) -> None:
        """Remember sums of few entries that are spread over the others: the ``p sum(dy)`` of a softmax's gradient."""
        if isinstance(s, Product):
            for x, y in ((s.x, s.y), (s.y, s.x)):
                made = self.seen.made.get(self.seen.same.get(y, y))
                if x in self.many and isinstance(made, Softmax) and not made.log:
                    self.below[out] = x, made.growth
        elif isinstance(s, Reduce) and s.x in self.many and self._summed(s, s.x, self.many[s.x], node):
            self.below[out] = self.below.get(s.x, (s.x, ZERO))
        elif isinstance(s, (View, Scale)) and s.x in self.below:
            x, by = self.below[s.x]
            self.below[out] = x, by - (s.order if isinstance(s, Scale) else ZERO)

    def _is_faint(self, x: Any, s: Sum) -> bool:
        """Whether all that it adds to few entries comes to no more in a sum than they do."""
        few, by = self.below.get(x, (None, ZERO))
        return few in s.xs and few in self.many and by >= self.many[few]

    def _thresholds(self, out: int, s: Structure, node: int) -> None:
        """Remember extreme entries, and masks that leave the largest ones out."""
        if isinstance(s, Power) and s.k == 1 and self.growths[out] < self._growth(s.x):
            self.extreme[out] = self.seen.same.get(s.x, s.x), self._growth(s.x) - self.growths[out]
            if s.largest:
                self.largest.add(out)
            else:
                self.found[node] = self.extreme[out][0]
        elif isinstance(s, Discrete) and node in self.found:
            self.places[out] = self.found[node]
        elif isinstance(s, View):
            if s.x in self.extreme:
                self.extreme[out] = self.extreme[s.x]
            if s.x in self.largest:
                self.largest.add(out)
            if s.x in self.rest:
                self.rest[out] = self.rest[s.x]
        self._measures(out, s)

    def _measures(self, out: int, s: Structure) -> None:
        """Remember what extreme entries something is multiplied by, or divided."""
        if out in self.extreme:
            self.measure[out] = frozenset((self.extreme[out][0],))
        elif isinstance(s, (View, Guard, Scale, Power)) and s.x in self.measure:
            self.measure[out] = self.measure[s.x]
        elif isinstance(s, Sum):
            others = [x for x in s.xs if not isinstance(self.seen.made.get(x), Known)]
            if others and self.measure.keys() >= set(others):
                self.measure[out] = frozenset().union(*(self.measure[x] for x in others))
        elif isinstance(s, Product):
            for x in operands(s):
                self.measured |= self.measure.get(x, frozenset())

    def _source(self, *xs: Any) -> Any:
        """The value of which one of these is an extreme entry."""
        found = (self.extreme.get(self.seen.same.get(x, x), self.extreme.get(x)) for x in xs)
        return next((source[0] for source in found if source is not None), None)

    def _compared(self, s: Discrete) -> tuple[Order, bool]:
        """Of a comparison of a value with one of its extreme entries: growth of the others, and whether it holds for
        few: above the largest, or where they are equal."""
        if s.how == "same" and len(s.xs) == 2:
            return max(self._of_extreme(*s.xs), self._of_extreme(*s.xs[::-1])), True
        if s.above is None or not s.xs:
            return ZERO, False
        if len(s.xs) == 1:
            x = s.xs[0]
            return self.many.get(x, self.rest.get(x, ZERO)), (x in self.many) == s.above
        for x, y, above in ((s.xs[0], s.xs[1], s.above), (s.xs[1], s.xs[0], not s.above)):
            few = self._of_extreme(x, y) if not self.largest.isdisjoint((y, self.seen.same.get(y, y))) else ZERO
            if few > 0:
                return few, above
        return ZERO, False

    def _of_extreme(self, x: Any, y: Any) -> Order:
        """Growth of the other entries of ``x`` where ``y`` is an extreme one of them, or of their sizes; else 0."""
        same = self.seen.same.get
        source, few = self.extreme.get(same(y, y), self.extreme.get(y, (None, ZERO)))
        x = same(x, x)
        made = self.seen.made.get(x)
        size = same(made.x, made.x) if isinstance(made, Power) and made.k == 1 else x
        return few if source in (x, size) else ZERO

    def chosen(self, out: int, xs: tuple[Any, ...], mask: Optional[int]) -> None:
        """A choice by a mask (None: by what is no value) between zeros and another value."""
        for x, few in zip(xs, (self.many.get(mask, ZERO), self.rest.get(mask, ZERO))):
            others = set(xs) - {x}
            if few > 0 and self.zero.issuperset(others):
                self.many[out] = few
                self.picked.add(x)

    def _among(self, out: int, x: Any, s: Sum) -> Order:
        """What is written into zeros may have fewer axes that grow than these."""
        written = self.growths[out] - self.growths[x] if s.how == "put" else ZERO
        return max(written, self.many.get(x, ZERO))

    def _straight_through(self, s: Sum) -> Any:
        """``x`` of ``(x - y) + y``, which is ``x`` but for its gradient."""
        if len(s.xs) == 2 and s.how == "sum":
            seen = self.seen
            for x, y in (s.xs, s.xs[::-1]):
                made = seen.made.get(seen.same.get(x, x))
                if isinstance(made, Sum) and made.how == "difference" and len(made.xs) == 2:
                    if seen.same.get(made.xs[1], made.xs[1]) == seen.same.get(y, y):
                        return made.xs[0]
        return None

    def _sides(self, s: Any) -> list[tuple[Any, Order]]:
        return [(x, self.many[x]) for x in operands(s) if x in self.many]

    def _left(self, s: Contract | Reduce, x: Any) -> Order:
        """Growth of the axes of an operand that are not summed over."""
        return self._growth(x) - s.K

    def _growth(self, x: Any) -> Order:
        return self.growths[x]

    def _summed(self, s: Any, x: Any, many: Order, node: int) -> bool:
        """Whether the few are among what is summed; where they may be elsewhere, no."""
        if x in self.alike:
            return True
        known = self.along(x, node, many)
        return bool(s.K >= many > self._left(s, x)) if known is None else known

    def _kept(self, s: Any, x: Any, many: Order, node: int) -> bool:
        known = self.along(x, node, many)
        return bool(self._left(s, x) >= many > s.K) if known is None else not known
