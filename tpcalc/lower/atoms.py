"""The list of atoms as it is written: nested structures flattened, repeated entries marked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Optional

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.algebra.size import Size
from tpcalc.lower.factors import Emit, regrouped
from tpcalc.lower.few import Few
from tpcalc.lower.outer import Multilinear
from tpcalc.lower.picks import Picks
from tpcalc.lower.recognise import Recogniser
from tpcalc.program.ir import Program, Value
from tpcalc.rules.structures import (
    Atom,
    Contract,
    Exp,
    Gather,
    Power,
    Product,
    Reduce,
    Scale,
    Structure,
    Sum,
    View,
    operands,
    with_nested,
    with_operands,
)


class Writer:
    """Writes atoms, and makes values for what no op of the program gives.  Mutable while a program is lowered."""

    def __init__(self, program: Program, picks: Picks) -> None:
        self.program = program
        self.atoms: list[Atom] = []
        self.fresh = max(program.values, default=0) + 1
        self.values = dict(program.values)  # and those that are made here
        self.growths = {vid: value.growth for vid, value in program.values.items()}
        self.known: set[int] = set()  # values that follow from known ones alone
        self.recogniser = Recogniser(program, self.values)
        self.few = Few(self.growths, self.recogniser, picks.gates.summed, partial(_read_backward, program))
        self.picks = picks
        self.multilinear = Multilinear(self.growths, self.values, self.recogniser, picks)

    def new(self) -> int:
        self.fresh += 1
        return self.fresh - 1

    def part(self, value: Value, axis: int, length: Size) -> int:
        """A new value: the block of ``value`` with ``length`` along ``axis``."""
        shape = list(value.shape)
        shape[-axis] = length
        vid = self.new()
        self.values[vid] = replace(value, id=vid, shape=tuple(shape), name="")
        self.growths[vid] = self.values[vid].growth
        return vid

    def copy(self, vid: int) -> int:
        """A new value like ``vid``."""
        new = self.new()
        self.values[new] = replace(self.values[vid], id=new, name="")
        self.growths[new] = self.growths[vid]
        return new

    def emit(self, structure: Structure, node: int, out: Optional[int] = None) -> int:
        """Write a structure, which gives ``out`` (None: a new value)."""
        write = partial(self.emit, node=node)
        flat = with_nested(self.picks.apart(structure, node), write)
        if isinstance(flat, Sum):
            less = self.few.beside(flat, node)
            if any(less):
                xs = (x if by == 0 else write(Scale(x, -by)) for x, by in zip(flat.xs, less))
                flat = replace(flat, xs=tuple(xs))
            flat = self.recogniser.centred(flat)
        elif isinstance(flat, Exp):
            flat = self.recogniser.weighed(flat)
        elif isinstance(flat, Contract) and out is not None:
            flat = self.power_iteration(flat, write)
        if out is not None:
            flat = self.repeat(flat, self.growths[out], write)
        if isinstance(flat, Product):
            flat = regrouped(flat, self.recogniser, self.known, write)
        whole, (flat, form) = flat, self.multilinear.joined(self.picks.counted(flat, node), node, write)
        flat = self.few.counted(self.multilinear.counted(flat), node)
        homogeneity = self.recogniser.homogeneous(flat)
        if out is None:
            out = self.new()
            self.growths[out] = self.growth_of(whole)
        self.recogniser.note(out, flat, homogeneity)
        self.multilinear.note(out, flat, whole, node, form)
        self.few.note(out, whole, node)  # of a sum that is counted as few the axes are gone all the same
        if self.known.issuperset(operands(flat)):
            self.known.add(out)
        self.atoms.append(Atom(out, flat, node))
        return out

    def growth_of(self, s: Structure) -> Order:
        """Growth of the axes of an intermediate, whose shape no op has told."""
        growths = [self.growths[x] for x in operands(s)]
        if isinstance(s, Contract):
            x, y = growths
            return max(x - s.K + s.rest_y, y - s.K + s.rest_x, ZERO)
        if isinstance(s, Reduce):
            return max(growths[0] - s.K, ZERO)
        return max(growths, default=ZERO)

    def repeat(self, s: Structure, growth: Order, write: Emit) -> Structure:
        """Make it seen where entries are repeated along growing axes, which a result of ``growth`` has and an operand
        not."""
        if isinstance(s, (View, Gather)):
            return replace(s, repeated=True) if isinstance(s.x, int) and self.growths[s.x] < growth else s
        if not isinstance(s, (Sum, Product)):
            return s
        # a number has no sign that could be repeated
        xs = tuple(write(View(x, repeated=True)) if ZERO < self.growths[x] < growth else x for x in operands(s))
        return with_operands(s, xs)

    def power_iteration(self, s: Contract, write: Emit) -> Structure:
        found = self.recogniser.spectral(s)
        return s if found is None else Scale(write(Power(found[0], ONE, "even")), found[1])


def _read_backward(program: Program, node: int) -> tuple[int, ...]:
    """What a node of the backward pass reads; of others nothing."""
    made = program.nodes[node]
    return made.refs if made.phase == "backward" else ()
