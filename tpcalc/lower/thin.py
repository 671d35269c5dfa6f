"""Thin weights: functions of weights, most entries of which are zero (bands, diagonals, blocks of a fixed size).

A sum over ``n`` entries of which ``k`` are not zero has ``k`` terms.  Orders of such weights are those of the entries
that are not zero, those of fixed numbers root mean squares: where both meet, the latter are scaled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.lower.atoms import Writer
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Node, Value
from tpcalc.rules.structures import (
    Contract,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Sum,
    View,
    leaves,
    operands,
    with_nested,
    with_operands,
)

#: For each axis, by how much less than it the entries along it grow that are not zero.
Along = tuple[Order, ...]


class Thin:
    """Which values are thin so far.  Mutable while a program is lowered.

    ``made``: of values that no op of the program gives.  ``parts``: sums of thin weights and others, or of matrices and
    what changes them by the inputs (a step of gradient descent) -> their summands, which are contracted each by itself.
    """

    def __init__(self, writer: Writer, wiring: Wiring) -> None:
        self.writer, self.wiring = writer, wiring
        self.made: dict[Any, Along] = {}
        self.parts: dict[Any, tuple[int, ...]] = {}
        self.weights = {weight.value for weight in wiring.program.weights}  # and functions of them
        self.fixed: set[int] = set()  # what neither weights nor inputs enter
        self.data = set(wiring.program.inputs)  # and what follows from them

    def emit(self, structure: Structure, node: Node, index: int, out: int) -> None:
        """Write the result at ``index`` of a node, thin weights seen as such."""
        found, many = self._seen(structure, node, index)
        if isinstance(found, Softmax) and any(self.along(out)):
            found = replace(found, growth=found.growth - min(max(self.along(out)), found.growth))
        self.writer.emit(found, node.index, out)
        few = self.writer.few
        if self.along(out):
            few.many.pop(out, None)  # told by axes
        elif isinstance(found, Sum) and found.how == "choice":
            few.chosen(out, operands(self.writer.atoms[-1].structure), self._mask(structure, node))
        elif any(many):
            few.many[out] = max(many)
            if sum(more > 0 for more in many) > 1:
                few.alike.add(out)
        self._note(found, node, out)

    def along(self, x: Operand) -> Along:
        """Of a thin weight; empty for others."""
        if x in self.made:
            return self.made[x]
        value = self._value(x)
        return value.few if value is not None and value.magnitude is None else ()

    def _seen(self, s: Structure, node: Node, index: int) -> tuple[Structure, Along]:
        """A structure, with sums over thin weights as those of few terms; and along which axes its result is thin, in
        any order, where that follows from it alone."""
        whole = s
        s = with_nested(s, lambda x: self._part(x, whole, node, index))
        if isinstance(s, Product):
            return self._masked(s)
        if isinstance(s, (Contract, Reduce)) and s.K > 0:
            xs = operands(s)
            mixed = next((x for x in xs if x in self.parts), None)
            if mixed is None:
                return self._counted(s, node, index)
            terms = (tuple(part if x == mixed else x for x in xs) for part in self.parts[mixed])
            return Sum(tuple(self._counted(with_operands(s, term), node, index)[0] for term in terms)), ()
        return s, ()

    def _part(self, x: Structure, s: Structure, node: Node, index: int) -> Operand:
        """An operand that is a structure itself; a masked summand is a value of its own."""
        found, along = self._seen(x, node, index)
        if not isinstance(s, Sum) or not isinstance(found, Product) or not any(along):
            return found
        new = self.writer.emit(found, node.index, None)
        self.made[new] = along
        return new

    def _masked(self, s: Product) -> tuple[Structure, Along]:
        """A product with a fixed mask, whose entries count as large as those are that are not zero."""
        for x, y in ((s.x, s.y), (s.y, s.x)):
            mask, met = self._value(x), self._value(y)
            if mask is not None and mask.few and mask.magnitude is not None and (met is None or met.magnitude is None):
                return Product(Scale(x, max(mask.few) / 2), y), mask.few
        return s, ()

    def _counted(self, s: Structure, node: Node, index: int) -> tuple[Structure, Along]:
        """A sum over what is thin as one of few terms, and by how much its results are few."""
        assert isinstance(s, (Contract, Reduce))
        by, kept = ZERO, [ZERO, ZERO]
        for place, operand in enumerate(operands(s)):
            x = self._bare(operand)
            along = self.along(x)
            if along:
                gone = self._gone(along, x, s, node, index)
                by, kept[place] = max(by, gone), max(along) - gone
        if isinstance(s, Contract) and any(kept):
            s = replace(s, rest_x=s.rest_x - kept[0], rest_y=s.rest_y - kept[1], sizes=None)
        return (replace(s, K=s.K - by, sizes=None) if by > 0 else s), (max(kept),)

    def _gone(self, along: Along, x: Any, s: Contract | Reduce, node: Node, index: int) -> Order:
        """By how much less than ``K`` the terms of a sum over axes of ``x`` grow."""
        growing = {few for few, size in zip(along, self.writer.values[x].shape) if size.growth > 0}
        if len(growing) == 1:
            return min(*growing, s.K)
        refs, layout = node.refs, self.wiring.layout(node)
        labels = layout.operands[refs.index(x)] if x in refs else ()
        found = (few for few, label in zip(along, labels) if label not in layout.results[index])
        return min(max(found, default=ZERO), s.K)

    def _note(self, s: Structure, node: Node, out: int) -> None:
        """Remember functions of weights, sums of thin ones and others or of matrices and values, and views of sums."""
        data, fixed, used = self.data, self.fixed, leaves(s)
        if not data.isdisjoint(node.refs):
            data.add(out)
        fixed.update(x for x in used if getattr(self._value(x), "magnitude", None) is not None)
        alone = out not in data and all(x in self.weights or x in fixed for x in used)
        if alone:
            (fixed if used <= fixed else self.weights).add(out)
        if isinstance(s, Sum):
            summands: tuple[Any, ...] = s.xs
            thin = not self.along(out) and any(map(self.along, summands))
            moved = not alone and s.how in ("sum", "difference") and any(map(self._is_matrix, summands))
            if (thin or moved) and all(isinstance(x, int) for x in summands):
                self.parts[out] = summands
        elif isinstance(s, View) and s.x in self.parts:
            self.parts[out] = tuple(self._like(part, replace(s, x=part), node, out) for part in self.parts[s.x])

    def _like(self, part: int, view: View, node: Node, out: int) -> int:
        """A summand, seen as the sum is."""
        new, along = self.writer.copy(out), self.along(part)
        if len(along) == len(self.writer.values[out].shape):
            self.made[new] = (max(along),) * len(along) if min(along) > 0 else along
        return self.writer.emit(view, node.index, new)

    def _is_matrix(self, x: Any) -> bool:
        """Whether it is made of weights alone, of which two axes grow."""
        return x in self.weights and sum(size.growth > 0 for size in self.writer.values[x].shape) > 1

    def _mask(self, s: Structure, node: Node) -> Optional[int]:
        """What a node chooses by: a mask that is no operand of its structure."""
        values = self.writer.values
        masks = (ref for ref in node.refs if ref not in leaves(s) and "bool" in values[ref].dtype)
        return next(masks, None)

    def _value(self, x: Any) -> Optional[Value]:
        return self.writer.values.get(x)

    def _bare(self, x: Operand) -> Operand:
        """The value whose entries are zero where those of ``x`` are."""
        while isinstance(x, (Scale, Product)) or (isinstance(x, Power) and x.k > 0):
            x = x.y if isinstance(x, Product) and any(self.along(x.y)) else x.x
        return x
