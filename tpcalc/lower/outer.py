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

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import ZERO, Order
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


class Multilinear:
    """Which values are outer products, and which are what values have left of a weight.

    Mutable while a program is lowered.  ``products``: the factors of outer products.  ``alike``: axes of a value along
    which its entries repeat.  ``data``: what depends on the inputs; ``plain``: constants that do not act as weights.
    ``emit`` writes a structure of a node.
    """

    def __init__(
        self,
        growths: dict[Any, Order],
        values: Mapping[Any, Value],
        seen: Recogniser,
        picks: Picks,
        emit: Callable[[Structure, int], int],
    ) -> None:
        self.growths, self.values, self.seen, self.picks, self.emit = growths, values, seen, picks, emit
        self.program, self.wiring = picks.program, picks.wiring
        leaves = {vid: value for vid, value in values.items() if value.kind != "op"}
        self.data: set[Any] = {vid for vid, value in leaves.items() if value.kind in ("input", "seed")}
        self.data |= self.program.from_inputs
        self.plain: set[Any] = {vid for vid, value in leaves.items() if value.kind != "weight" and not value.signs}
        self.products: dict[Any, tuple[Factor, ...]] = {}
        self.forms: dict[Any, Form] = {}
        self.alike: dict[Any, frozenset[int]] = {}

    def counted(self, s: Structure) -> Structure:
        """A contraction of an outer product with a weight."""
        if isinstance(s, Contract):
            for vector, weight, rest in ((s.x, s.y, "rest_y"), (s.y, s.x, "rest_x")):
                lengths = [factor.growth for factor in self.products.get(vector, ())]
                if lengths and self._is_weight(weight) and s.K == sum(lengths, ZERO):
                    return replace(s, sizes=None, **{rest: getattr(s, rest) + s.K - max(lengths)})
        return s

    def joined(self, s: Structure, at: int) -> tuple[Structure, Optional[Form]]:
        """A contraction of a value with a weight, or with what others have left of one, or a sum of their products, as
        one of the weight; and what is left of the weight then."""
        if (self.forms or self.products) and isinstance(s, (Contract, Reduce)) and s.K > 0:
            found = self._meeting(s, self.program.nodes[at])
            for side in () if found is None else (found, found.other):
                if side.x in self.forms and side.y in self.data:
                    joined = self._joined(s, side, at)
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
        whole = [_growth(own, side.of_y) for own in factors]
        if not factors or side.x in self.plain:
            return None
        if sum(not own.isdisjoint(side.of_x) for own in factors) < 2 or _growth(side.summed, side.of_y) != s.K:
            return None
        if not side.summed <= set().union(*factors) & side.of_x.keys():
            return None
        alone = _growth(side.of_x.keys() - side.of_y.keys(), side.of_x)
        kept = [_growth(own - side.summed, side.of_y) for own in factors]
        rests = (alone + sum(kept, ZERO) - own for own in kept)
        most = max(max(length - own - rest, ZERO) for length, own, rest in zip(whole, kept, rests))
        others = _growth(side.of_y.keys() - side.of_x.keys(), side.of_y)
        return Contract(self.bare(side.y), self.bare(side.x), s.K, others, s.K - most)

    def _joined(self, s: Contract | Reduce, side: Side, at: int) -> Optional[tuple[Structure, Optional[Form]]]:
        form, y, of_x, of_y, summed = self.forms[side.x], side.y, side.of_x, side.of_y, side.summed
        own = {label for label, axis in of_x.items() if axis.place not in form.foreign}
        left = own - summed - of_y.keys()
        rest = _growth(left, of_x)
        if not summed <= own & of_y.keys() or _growth(summed, of_x) != s.K or rest == 0:
            return None
        if any(of_y[label].place in self.picks.gates.of.get(y, {}) for label in summed):  # these add up to 1
            return None
        rest -= self._picked(left, side.kept, at)
        others = _growth((of_x.keys() | of_y.keys()) - own, {**of_x, **of_y})
        # each of what met the weight before meets all rows that this value tells apart
        apart = own & of_y.keys() - summed
        more = _growth(apart, of_y) - self._picked(apart, side.kept, at)
        now = self._lengths(y, s.K)
        lengths, beside = (*form.lengths, *now), (*(length - more for length in form.beside), *now)
        vector, then = self.bare(y), form._replace(lengths=lengths, beside=beside, foreign=side.foreign(own), added=())
        if form.vector is not None:
            vector = self.emit(Product(*(self.emit(View(v, repeated=True), at) for v in (form.vector, vector))), at)
            shared = _growth(of_x.keys() & of_y.keys() - own, of_y)
            self.growths[vector] = self._differing(form.vector) + self._differing(y) - shared
        elif isinstance(s, Contract) and not form.added:
            return s, then._replace(vector=vector)
        K = sum(lengths, ZERO)
        whole: Structure = Contract(vector, form.weight, K, others, rest + K - max(beside))
        if form.shift != 0:
            whole = Scale(self.emit(whole, at), form.shift)
        if not form.added:
            return whole, then._replace(vector=vector)
        alone = _growth(of_y.keys() - own, of_y)
        terms = (whole, *(Contract(added, self.bare(y), s.K, rest, alone) for added in form.added))
        return Sum(tuple(self.emit(term, at) for term in terms)), None

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
            known = s.x in self.forms or s.x in self.products or s.x in self.alike
            if known or self.growths[out] > self.growths[s.x]:
                self._arranged(out, s, node)
        elif isinstance(s, Product) or (isinstance(s, Contract) and s.K == 0):
            self._multiplied(out, s, node)
            for w, v in (xs, xs[::-1]) if isinstance(s, Product) else ():
                if v in self.data and w not in self.data and w not in self.plain and self._differing(v) == 0:
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
        alone = self.growths[out] - self._differing(s.y), self.growths[out] - self._differing(s.x)
        if min(alone) <= 0 and self.products.keys().isdisjoint(operands(s)):
            return
        found = self._meeting(s, node) if out in node.outputs else None
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
                lengths = self._lengths(side.x, _growth(alone_x, side.of_x))
                if len(lengths) > 1 and set().union(*inside) != alone_x:  # on merged axes
                    factors += map(Factor, lengths)
                    continue
                for own in inside or [alone_x]:
                    factors.append(Factor(_growth(own, side.of_x), frozenset(places[label] for label in own)))
            elif inner and not alone_y and sum(not own.isdisjoint(side.of_y) for own in inner) < 2:
                factors = [Factor(_growth(own, side.of_x), frozenset(places[x] for x in own)) for own in inner]
                break
        if factors:
            self.products[out] = tuple(factors)

    def _labelled(self, side: Side) -> list[set[Hashable]]:
        """The axes of each factor of an outer product, by label; none where they are not all known."""
        labels = {axis.place: label for label, axis in side.of_x.items()}
        factors = self.products.get(side.x, ())
        found = [{labels[p] for p in factor.places if p in labels} for factor in factors]
        return found if [_growth(own, side.of_x) for own in found] == [factor.growth for factor in factors] else []

    def _lengths(self, vid: Any, own: Order) -> tuple[Order, ...]:
        """Of a factor of an outer product, which may be one itself, growths of the axes that it has alone."""
        lengths = tuple(factor.growth for factor in self.products.get(self.bare(vid), ()))
        return lengths if sum(lengths, ZERO) == own else (own,)

    def _differing(self, vid: Any) -> Order:
        """Growth of the axes along which the entries of a value differ."""
        bare = self.bare(vid)
        alike = self.alike.get(bare, frozenset())
        return self.growths[bare] - sum((g for place, g in self._growing(bare).items() if place in alike), ZERO)

    def bare(self, vid: Any) -> Any:
        """What is repeated by a view."""
        made = self.seen.made.get(vid)
        while isinstance(made, View) and made.repeated:
            vid, made = made.x, self.seen.made.get(made.x)
        return vid

    def _is_weight(self, vid: Any) -> bool:
        """Whether it is one, or finitely many that are mixed."""
        return vid not in self.data or (vid in self.forms and self.forms[vid].vector is None)

    def _left(self, out: int, s: Contract, node: Node) -> Optional[Form]:
        """What a value that meets a weight leaves of it."""
        found = None if (s.x in self.data) == (s.y in self.data) else self._meeting(s, node)
        if found is None:
            return None
        side = found.other if s.x in self.data else found
        own = side.of_x.keys() - side.of_y.keys()
        if side.x in self.plain or not own or _growth(side.summed, side.of_x) != s.K:
            return None
        foreign = side.foreign(own)
        return Form(side.x, side.y, (s.K,), (s.K,), foreign) if s.K > 0 else Form(out, None, (), (), foreign)

    def _arranged(self, out: int, s: View | Scale | Reduce, node: Node) -> None:
        """What is left of a weight, outer products, and what repeats, with their axes in other places."""
        layout, result = self.wiring.layout(node), node.outputs[0]
        if len(layout.operands) != 1 or len(layout.results) != 1:
            return
        (labels,), (names,), x = layout.operands, layout.results, node.refs[0]
        before, after = self._growing(x), self._growing(result)
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

        self.alike[out] = moved(self.alike.get(s.x, frozenset())) | repeated
        form = self.forms.get(s.x)
        if form is not None:
            by = s.order if isinstance(s, Scale) else ZERO
            self.forms[out] = form._replace(foreign=moved(form.foreign), shift=form.shift + by)
        if factors and not repeated:
            self.products[out] = tuple(factor._replace(places=moved(factor.places)) for factor in factors)

    def _meeting(self, s: Contract | Product | Reduce, node: Node) -> Optional[Side]:
        """Which axes are summed, if any, where two values meet; None where that is not known."""
        layout = self.wiring.layout(node)
        pair: Any = s
        kept = layout.results[0]
        if isinstance(s, Reduce):  # of a product that stands by itself
            whole: Any = s.x
            pair, made = self.seen.made.get(whole), self.program.producers.get(whole)
            if not isinstance(pair, Product) or made is None or node.refs != (whole,):
                return None
            before, layout = layout.operands[0], self.wiring.layout(made)
            names, node = layout.results[0], made
            if any(before[-p] is None or names[-p] is None for p in self._growing(whole)):
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
        found = {p: growth for p, growth in self._growing(vid).items() if p not in self.alike.get(vid, ())}
        if vid not in self.values or any(labels[-p] is None for p in found):
            return None
        return {labels[-p]: Axis(p, growth) for p, growth in found.items()}

    def _growing(self, vid: Any) -> dict[int, Order]:
        """Growth of the axes of a value that grow, by place from the right."""
        sizes = enumerate(reversed(self.values[vid].shape if vid in self.values else ()), start=1)
        return {place: size.growth for place, size in sizes if size.growth > 0}


def _growth(labels: Collection[Hashable], axes: Axes) -> Order:
    return sum((axes[label].growth for label in labels), ZERO)
