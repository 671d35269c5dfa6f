"""Multilinear forms: a weight ``W_ijk`` that meets ``x_i`` and ``y_j``, as their outer product or one after the other.

What changes the result is a change of ``x`` or of ``y``: a vector along one axis, while the other factor stays what it
was.  So law 2 holds for the matrix from that axis to ``k`` that ``W`` and the other factor make, whose sum over the
other axis is a central limit: ``K_i/2 + max(K_j/2, K_j - R/2)``, which is law 2 for the outer product with the other
axis among the rest (of more factors, all axes but the longest).  The norm of a Gaussian tensor, of the order of
``sigma (sqrt(n_i) + sqrt(n_j) + sqrt(n_k))``, says the same of both changes at once.
``einsum("bi,bj,ijk->bk")``, ``nn.Bilinear``, features of second degree.

Where code contracts one factor after the other, ``(x W) y``, what the first leaves is no value of free entries, which
law 4 is about, but ``W`` still.  As long as an axis of ``W`` is left, the second contraction is written as one of ``W``
and the outer product: so are the gradients of the factors, which meet ``W`` and each other the same way.

A sum over some axes of ``x_i y_j A_ij``, the gradient of what structures the matrix ``A`` (numbers that mix it with
others, gains, a small factor of a Kronecker product), is a contraction of the same kind.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.factors import Emit
from tpcalc.lower.meetings import Meetings, Side, growth_of
from tpcalc.lower.picks import Picks
from tpcalc.lower.recognise import Recogniser
from tpcalc.program.ir import Node, Value
from tpcalc.rules.layout import Labels, grouped
from tpcalc.rules.structures import Contract, Known, Product, Reduce, Scale, Structure, Sum, View, operands


class Form(NamedTuple):
    """``n^shift`` times a ``weight`` that values were contracted with, of which ``vector`` is the outer product.

    ``lengths``: growths of the axes that were contracted, one for each value; ``beside``: the same less those of the
    weight's axes that values after it have as well.  ``foreign``: axes of what is left, from the right, that are not
    the weight's own.  ``added``: what no inputs enter, added to it.  Where only axes that do not grow were contracted,
    what is left is a weight itself, without a ``vector``.
    """

    weight: Any
    vector: Any
    lengths: tuple[Order, ...]
    beside: tuple[Order, ...]
    foreign: frozenset[int]
    shift: Order = ZERO
    added: tuple[Any, ...] = ()


class Factor(NamedTuple):
    """Of an outer product: growth of the axes that one factor has alone, and their places, where these are known."""

    growth: Order
    places: frozenset[int] = frozenset()


class Multilinear:
    """Which values are outer products, and which are what values have left of a weight.

    Mutable while a program is lowered.  ``products``: the factors of outer products.  ``data``: what depends on the
    inputs; ``plain``: constants that do not act as weights.
    """

    def __init__(self, growths: dict[Any, Order], values: Mapping[Any, Value], seen: Recogniser, picks: Picks) -> None:
        self.growths, self.picks, self.program, self.wiring = growths, picks, picks.program, picks.wiring
        self.meetings = Meetings(growths, values, seen, picks.wiring)
        leaves = {vid: value for vid, value in values.items() if value.kind != "op"}
        self.data: set[Any] = {vid for vid, value in leaves.items() if value.kind in ("input", "seed")}
        self.data |= self.program.from_inputs
        self.plain: set[Any] = {vid for vid, value in leaves.items() if value.kind != "weight" and not value.signs}
        self.products: dict[Any, tuple[Factor, ...]] = {}
        self.forms: dict[Any, Form] = {}

    def counted(self, s: Structure) -> Structure:
        """A contraction of an outer product with a weight."""
        if isinstance(s, Contract):
            for vector, weight, rest in ((s.x, s.y, "rest_y"), (s.y, s.x, "rest_x")):
                lengths = [factor.growth for factor in self.products.get(vector, ())]
                if lengths and self._is_weight(weight) and s.K == sum(lengths, ZERO):
                    return replace(s, sizes=None, **{rest: getattr(s, rest) + s.K - max(lengths)})
        return s

    def joined(self, s: Structure, at: int, emit: Emit) -> tuple[Structure, Optional[Form]]:
        """A contraction of a value with a weight, or with what others have left of one, or a sum of their products, as
        one of the weight; and what is left of the weight then.  ``emit`` writes a structure."""
        if (self.forms or self.products) and isinstance(s, (Contract, Reduce)) and s.K > 0:
            found = self.meetings.side(s, self.program.nodes[at])
            for side in () if found is None else (found, found.other):
                if side.x in self.forms and side.y in self.data:
                    joined = self._joined(s, side, at, emit)
                    if joined is not None:
                        return joined
                if side.y in self.products and self._is_weight(side.x):
                    summed = self._summed(s, side)
                    if summed is not None:
                        return summed, None
        return s, None

    def _summed(self, s: Contract | Reduce, side: Side) -> Optional[Contract]:
        """A sum over some axes of an outer product times a matrix: of each factor, law 2 to what is not summed of the
        others."""
        factors = self._labelled(side.other)
        whole = [growth_of(own, side.of_y) for own in factors]
        if not factors or side.x in self.plain:
            return None
        if sum(not own.isdisjoint(side.of_x) for own in factors) < 2 or growth_of(side.summed, side.of_y) != s.K:
            return None
        if not side.summed <= set().union(*factors) & side.of_x.keys():
            return None
        alone = growth_of(side.of_x.keys() - side.of_y.keys(), side.of_x)
        kept = [growth_of(own - side.summed, side.of_y) for own in factors]
        rests = (alone + sum(kept, ZERO) - own for own in kept)
        most = max(max(length - own - rest, ZERO) for length, own, rest in zip(whole, kept, rests))
        others = growth_of(side.of_y.keys() - side.of_x.keys(), side.of_y)
        return Contract(self.meetings.bare(side.y), self.meetings.bare(side.x), s.K, others, s.K - most)

    def _joined(
        self, s: Contract | Reduce, side: Side, at: int, emit: Emit
    ) -> Optional[tuple[Structure, Optional[Form]]]:
        form, y, of_x, of_y, summed = self.forms[side.x], side.y, side.of_x, side.of_y, side.summed
        own = {label for label, axis in of_x.items() if axis.place not in form.foreign}
        left = own - summed - of_y.keys()
        rest = growth_of(left, of_x)
        if not summed <= own & of_y.keys() or growth_of(summed, of_x) != s.K or rest == 0:
            return None
        if any(of_y[label].place in self.picks.gates.marks(y) for label in summed):  # these add up to 1
            return None
        rest -= self._picked(left, side.kept, at)
        others = growth_of((of_x.keys() | of_y.keys()) - own, {**of_x, **of_y})
        # each of what met the weight before meets all rows that this value tells apart
        apart = own & of_y.keys() - summed
        more = growth_of(apart, of_y) - self._picked(apart, side.kept, at)
        now = self._lengths(y, s.K)
        lengths, beside = (*form.lengths, *now), (*(length - more for length in form.beside), *now)
        vector = self.meetings.bare(y)
        then = form._replace(lengths=lengths, beside=beside, foreign=side.foreign(own), added=())
        if form.vector is not None:
            vector = emit(Product(*(emit(View(v, repeated=True)) for v in (form.vector, vector))))
            shared = growth_of(of_x.keys() & of_y.keys() - own, of_y)
            self.growths[vector] = self.meetings.differing(form.vector) + self.meetings.differing(y) - shared
        elif isinstance(s, Contract) and not form.added:
            return s, then._replace(vector=vector)
        K = sum(lengths, ZERO)
        whole: Structure = Contract(vector, form.weight, K, others, rest + K - max(beside))
        if form.shift != 0:
            whole = Scale(emit(whole), form.shift)
        if not form.added:
            return whole, then._replace(vector=vector)
        alone = growth_of(of_y.keys() - own, of_y)
        terms = (whole, *(Contract(added, self.meetings.bare(y), s.K, rest, alone) for added in form.added))
        return Sum(tuple(emit(term) for term in terms)), None

    def _picked(self, left: Collection[Hashable], kept: Labels, at: int) -> Order:
        """Growth of those of the axes that are left of a weight of which few entries count."""
        out: Any = self.program.nodes[at].outputs[0]
        marks = self.picks.marks.get(out, {})
        return sum((growth for place, growth in marks.items() if kept[-place] in left), ZERO)

    def note(self, out: int, s: Structure, whole: Structure, at: int, form: Optional[Form]) -> None:
        """Remember outer products, what depends on the inputs, and what is left of weights: ``form``, where it is
        known.  ``whole``: the structure before few of many were counted."""
        xs, node = operands(s), self.program.nodes[at]
        if not self.data.isdisjoint(xs):
            self.data.add(out)
        elif (isinstance(s, Known) and not s.weight) if not xs else self.plain.issuperset(xs):
            self.plain.add(out)
        if isinstance(s, (View, Scale)):
            known = s.x in self.forms or s.x in self.products or s.x in self.meetings.alike
            if known or self.growths[out] > self.growths[s.x]:
                self._arranged(out, s, node)
        elif isinstance(s, Product) or (isinstance(s, Contract) and s.K == 0):
            self._multiplied(out, s, node)
            for w, v in (xs, xs[::-1]) if isinstance(s, Product) else ():
                if v in self.data and w not in self.data and w not in self.plain and self.meetings.differing(v) == 0:
                    form = Form(out, None, (), (), frozenset())  # each entry times a number of the sample
        elif isinstance(s, Reduce) and s.K == 0 and (s.x in self.products or s.x in self.forms):
            self._arranged(out, s, node)
        elif isinstance(s, Sum) and s.how != "choice":
            left = [x for x in s.xs if x in self.forms]
            added = tuple(x for x in s.xs if x not in self.data)
            if len(left) == 1 and len(added) == len(s.xs) - 1:
                form = self.forms[left[0]]
                form = form._replace(added=form.added + added)
            factors = {self.products.get(x) for x in s.xs}
            if len(factors) == 1 and None not in factors and all(self.growths[x] == self.growths[out] for x in s.xs):
                self.products[out] = self.products[s.xs[0]]  # finitely many, of low rank
        if form is None and isinstance(whole, Contract) and isinstance(s, Contract):
            form = self._left(out, whole, node)
        if form is not None:
            self.forms[out] = form

    def _multiplied(self, out: int, s: Product | Contract, node: Node) -> None:
        """Remember an outer product; what varies along the axes of one factor alone, or along none, leaves it one."""
        alone = self.growths[out] - self.meetings.differing(s.y), self.growths[out] - self.meetings.differing(s.x)
        if min(alone) <= 0 and self.products.keys().isdisjoint(operands(s)):
            return
        found = self.meetings.side(s, node) if out in node.outputs else None
        if found is None or found.summed:
            if min(alone) > 0 and s.x in self.data and s.y in self.data:
                growths = (length for x, own in zip(operands(s), alone) for length in self._lengths(x, own))
                self.products[out] = tuple(map(Factor, growths))
            return
        places = {label: place for place, label in enumerate(reversed(found.kept), start=1)}
        factors: list[Factor] = []
        for side in (found, found.other):
            alone_x, alone_y = side.of_x.keys() - side.of_y.keys(), side.of_y.keys() - side.of_x.keys()
            inner = self._labelled(side)
            if alone_x and alone_y and side.x in self.data and side.y in self.data:
                inside = [own for own in inner if own <= alone_x]
                lengths = self._lengths(side.x, growth_of(alone_x, side.of_x))
                if len(lengths) > 1 and set().union(*inside) != alone_x:  # on merged axes
                    factors += map(Factor, lengths)
                    continue
                for own in inside or [alone_x]:
                    factors.append(Factor(growth_of(own, side.of_x), frozenset(places[label] for label in own)))
            elif inner and not alone_y and sum(not own.isdisjoint(side.of_y) for own in inner) < 2:
                factors = [Factor(growth_of(own, side.of_x), frozenset(places[x] for x in own)) for own in inner]
                break
        if factors:
            self.products[out] = tuple(factors)

    def _labelled(self, side: Side) -> list[set[Hashable]]:
        """The axes of each factor of an outer product, by label; none where they are not all known."""
        labels = {axis.place: label for label, axis in side.of_x.items()}
        factors = self.products.get(side.x, ())
        found = [{labels[p] for p in factor.places if p in labels} for factor in factors]
        return found if [growth_of(own, side.of_x) for own in found] == [factor.growth for factor in factors] else []

    def _lengths(self, vid: Any, own: Order) -> tuple[Order, ...]:
        """Of a factor of an outer product, which may be one itself, growths of the axes that it has alone."""
        lengths = tuple(factor.growth for factor in self.products.get(self.meetings.bare(vid), ()))
        return lengths if sum(lengths, ZERO) == own else (own,)

    def _is_weight(self, vid: Any) -> bool:
        """Whether it is one, or finitely many that are mixed."""
        return vid not in self.data or (vid in self.forms and self.forms[vid].vector is None)

    def _left(self, out: int, s: Contract, node: Node) -> Optional[Form]:
        """What a value that meets a weight leaves of it."""
        found = None if (s.x in self.data) == (s.y in self.data) else self.meetings.side(s, node)
        if found is None:
            return None
        side = found.other if s.x in self.data else found
        own = side.of_x.keys() - side.of_y.keys()
        if side.x in self.plain or not own or growth_of(side.summed, side.of_x) != s.K:
            return None
        foreign = side.foreign(own)
        return Form(side.x, side.y, (s.K,), (s.K,), foreign) if s.K > 0 else Form(out, None, (), (), foreign)

    def _arranged(self, out: int, s: View | Scale | Reduce, node: Node) -> None:
        """What is left of a weight, outer products, and what repeats, with their axes in other places."""
        layout, result = self.wiring.layout(node), node.outputs[0]
        if len(layout.operands) != 1 or len(layout.results) != 1:
            return
        (labels,), (names,), x = layout.operands, layout.results, node.refs[0]
        before, after = self.meetings.growing(x), self.meetings.growing(result)
        to = {p: {place} if (place := layout.place(0, labels[-p])) else set[int]() for p in before}
        if layout.regrouped is not None:
            for old, new in grouped(*layout.regrouped):
                to.update((p, new & after.keys()) for p in old & before.keys())
        reached = set[int]().union(*to.values())
        repeated = {p for p in after if names[-p] is not None and names[-p] not in labels} - reached
        factors = self.products.get(s.x, ()) if self.growths[out] == self.growths[s.x] else ()
        if after.keys() - reached - repeated:  # out of nowhere
            if factors:
                self.products[out] = tuple(Factor(factor.growth) for factor in factors)
            return

        def moved(places: frozenset[int]) -> frozenset[int]:
            return frozenset[int]().union(*(to.get(p, ()) for p in places))

        self.meetings.alike[out] = moved(self.meetings.alike.get(s.x, frozenset())) | repeated
        form = self.forms.get(s.x)
        if form is not None:
            by = s.order if isinstance(s, Scale) else ZERO
            self.forms[out] = form._replace(foreign=moved(form.foreign), shift=form.shift + by)
        if factors and not repeated:
            self.products[out] = tuple(factor._replace(places=moved(factor.places)) for factor in factors)
