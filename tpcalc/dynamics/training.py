"""What a *given* parametrization does: from init and learning-rate exponents to the orders of all values.

Exponents are taken as they are (a paper's table, someone's optimizer groups, what was derived), and training is
followed.  The update of a weight may depend on its gradient (SGD), the gradient on the updates of other weights: after
one step ``W_out`` is ``W_out + dW_out``, and what flows back through ``dW_out`` can be larger than what flowed back at
init.  So training is followed step by step:

* step 0: nothing has moved; gradients are those at init;
* step t: the updates are those of the largest gradients seen so far, the values and gradients follow from them.

Orders only rise along the steps, and they stand still once the limit has a settled size.  For an MLP under SGD that is
step 2, and what comes out is TP4's ``r = min(a_out + b_out, 2 a_out + c) + c - 1 + min_l (2 a_l + [l = 1])`` (Yang & Hu
2021, Section 3): the ``min`` over the readout's two terms is the larger of its init and its update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Optional, TypeVar, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Exact, Order, max_order, order
from tpcalc.calculus.alignment import FULL, Alignment
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import at_largest, gradient_order, weight_orders, weight_view
from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.optimizers import UpdateLaw, WeightView
from tpcalc.program.ir import Weight

Own = TypeVar("Own")

#: Steps followed at most.  Zero-initialised layers in a row wake up one a step.
STEPS = 8


@dataclass(frozen=True)
class Given:
    """The exponents of one weight ``W = n^-a w``, ``w ~ N(0, n^-2b)``, ``lr ~ n^-c``; eps ``~ n^eps``.

    ``a`` is a multiplier that the traced program does *not* hold: 0 for what the program multiplies itself.  ``b``
    None: the weight starts at zero.  ``c`` None: it does not train.  ``eps`` None: epsilon is negligible or scaled
    along with the gradient.  ``random``: zero-mean entries at init; None: as the program's own init says.
    """

    a: Order
    b: Optional[Order]
    c: Optional[Order]
    eps: Optional[Order] = None
    random: Optional[bool] = None

    @staticmethod
    def of(a: Union[Exact, str], b: Union[Exact, str, None], c: Union[Exact, str, None]) -> Given:
        """``Given.of("1/2", 0, 0)``: exponents as text, whole numbers or fractions."""
        return Given(order(a), None if b is None else order(b), None if c is None else order(c))

    @property
    def A(self) -> Optional[Order]:
        """Effective init order."""
        return None if self.b is None else self.a + self.b


@dataclass(frozen=True)
class Step:
    """One training step: effective update orders ``C`` so far (leaf name -> C, None: not moved) and all facts.

    A leaf is a weight, or one block of a packed weight (:class:`tpcalc.lower.lowered.Leaf`).
    """

    C: Mapping[str, Optional[Order]]
    facts: Mapping[int, Fact]


@dataclass(frozen=True)
class Analysis:
    """A program under a given parametrization.  ``trail`` holds every step followed, ``settled`` whether the last two
    agree.

    ``facts``, ``C`` and ``gradients`` are those of the last step; where orders grow without end they are a lower bound.
    """

    lowered: Lowered
    given: Mapping[str, Given]
    alignment: Alignment
    trail: tuple[Step, ...]
    settled: bool

    @property
    def facts(self) -> Mapping[int, Fact]:
        return self.trail[-1].facts

    @cached_property
    def C(self) -> dict[str, Optional[Order]]:
        """Weight name -> effective update order (of blocks: the largest update); None for a weight that never moves."""
        C = self.trail[-1].C
        return {name: _smallest(*(C[leaf.name] for leaf in leaves)) for name, leaves in self.lowered.leaves_of.items()}

    @cached_property
    def A(self) -> dict[str, Optional[Order]]:
        return {name: given.A for name, given in self.given.items()}

    @cached_property
    def gradients(self) -> dict[str, Order]:
        """Weight name -> order of the gradient of the effective weight, the largest seen."""
        return {w.name: gradient_order(w.grad, self.facts) for w in self.lowered.program.weights}

    def fact(self, vid: int) -> Fact:
        return self.facts[vid]


def view_of(lowered: Lowered, leaf: Leaf, given: Given, facts: Mapping[int, Fact]) -> WeightView:
    """What an update law sees of the parameter ``w`` behind the effective weight ``W = n^-a w`` of a leaf.

    Its size is the present one, of all its blocks together: what an update has made larger, a relative law updates
    more.
    """
    largest = max_order(*(facts[block.value].trained for block in lowered.leaves_of[leaf.weight.name]))
    zero = largest is MINUS_INFINITY
    size = ZERO if zero else -largest
    return weight_view(lowered, leaf, facts, size, at_largest, zero).at(given.a)


def update_order(given: Given, law: UpdateLaw, view: WeightView) -> Optional[Order]:
    """Effective order ``C`` of one update: entries of dW ~ n^-C.

    ``view``: the parameter as the law sees it, behind its multiplier.  None for a weight that does not move.
    """
    if given.c is None or view.gradient is MINUS_INFINITY:
        return None
    return law.C(given.c, view, given.a, given.eps)


def analyse(
    lowered: Lowered,
    given: Mapping[str, Given],
    law: Union[UpdateLaw, Mapping[str, UpdateLaw]],
    alignment: Alignment = FULL,
    steps: int = STEPS,
) -> Analysis:
    """Follow ``steps`` training steps of ``lowered`` under ``given`` (a weight's name or any of its aliases -> Given;
    the name of a block of a packed weight for what is its own).

    ``law``: one update law, or one for each weight name.  A weight that the program freezes does not train, whatever
    ``given`` says.  Raises DeriveError for a weight without exponents.
    """
    exponents: dict[str, Given] = {}
    laws: dict[str, UpdateLaw] = {}
    for weight in lowered.program.weights:
        exponents[weight.name] = _of(weight, given, "exponents")
        laws[weight.name] = law if isinstance(law, UpdateLaw) else _of(weight, law, "update law")
    own = {leaf.name: given.get(leaf.name, exponents[leaf.weight.name]) for leaf in lowered.leaves}
    C: dict[str, Optional[Order]] = {leaf.name: None for leaf in lowered.leaves}
    trail = [Step(C, propagate(lowered, _orders(lowered, own, C), alignment))]
    settled = False
    while not settled and len(trail) <= steps:
        seen = trail[-1].facts
        C = {leaf.name: _smallest(C[leaf.name], _update(lowered, leaf, own, laws, seen)) for leaf in lowered.leaves}
        settled = C == trail[-1].C
        if not settled:
            trail.append(Step(C, propagate(lowered, _orders(lowered, own, C), alignment)))
    return Analysis(lowered, exponents, alignment, tuple(trail), settled)


def _of(weight: Weight, table: Mapping[str, Own], what: str) -> Own:
    for name in weight.names:
        if name in table:
            return table[name]
    raise DeriveError(f"weight {weight.name} has no {what}: give them under its name")


def _update(
    lowered: Lowered, leaf: Leaf, given: Mapping[str, Given], laws: Mapping[str, UpdateLaw], facts: Mapping[int, Fact]
) -> Optional[Order]:
    if not leaf.weight.trainable:
        return None
    own = given[leaf.name]
    return update_order(own, laws[leaf.weight.name], view_of(lowered, leaf, own, facts))


def _smallest(*values: Optional[Order]) -> Optional[Order]:
    """The largest update: C counts downwards, None is no update."""
    present = [value for value in values if value is not None]
    return min(present) if present else None


def _orders(lowered: Lowered, given: Mapping[str, Given], C: Mapping[str, Optional[Order]]) -> dict[str, WeightOrders]:
    return {
        leaf.name: weight_orders(leaf.weight, given[leaf.name].A, C[leaf.name], given[leaf.name].random)
        for leaf in lowered.leaves
    }
