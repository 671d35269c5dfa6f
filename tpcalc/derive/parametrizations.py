"""Parametrizations of the literature: the init is that of the name, learning rates the largest that stay stable.

As in Everett et al. 2024 (arXiv 2407.05872), Table 1 and Section 3, on any program; ``A = a + b`` by the role of a
weight that contracts growth ``K`` (0 for input and scalar weights):

========  ==============  =================================================  ================
name      A               written as                                         source
========  ==============  =================================================  ================
``sp``    ``K/2``         ``a = 0`` (what frameworks do)                     TP4 Table 1
``ntp``   ``K/2``         ``b = 0`` (gauge ntk)                              TP4 Table 1
``mfp``   as derived      ``b = 0`` (gauge ntk)                              TP4 Table 1
``mup``   as derived      ``b = 1/2`` (gauge symmetric)                      TP4 Table 1
========  ==============  =================================================  ================

As derived: under full alignment, which is 0 for input, 1/2 for hidden and 1 for output weights of an MLP.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Union

from tpcalc.algebra.order import ZERO, Order
from tpcalc.calculus.alignment import Alignment
from tpcalc.derive.gauge import WRITTEN_IN
from tpcalc.derive.largest import largest_updates
from tpcalc.derive.solve import Need, Solution, alignment_called, as_trained, solve
from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import Program

_BY_FAN_IN = ("sp", "ntp")


def named_solution(program: Program, name: str, alignment: Union[str, Alignment] = "full") -> Solution:
    """Effective orders of every weight under the parametrization ``name`` and an assumption on alignment.

    Raises DeriveError for an unknown name, and where the init is unstable for this program.
    """
    assumed = alignment_called(alignment)
    if name not in WRITTEN_IN:
        raise DeriveError(f"parametrization {name!r} is unknown; choose one of derived, {', '.join(WRITTEN_IN)}")
    derived = solve(program)
    lowered = derived.lowered
    A = {leaf.name: _init(name, leaf, derived) for leaf in lowered.leaves}
    orders = {leaf: replace(own, A=A[leaf]) for leaf, own in derived.orders.items()}
    C, facts = largest_updates(lowered, orders, assumed)
    orders = {leaf: replace(own, C=C[leaf]) for leaf, own in orders.items()}
    needs = {leaf: _need(need, A[leaf], C[leaf]) for leaf, need in derived.needs.items()}
    applied = as_trained(lowered, orders, facts, assumed)
    return Solution(lowered, assumed, orders, needs, facts, derived.budgets, (), applied)


def _init(name: str, leaf: Leaf, derived: Solution) -> Order:
    need = derived.needs.get(leaf.name)
    if need is None:
        return ZERO
    return need.contracted / 2 if name in _BY_FAN_IN else need.A


def _need(need: Need, A: Order, C: Optional[Order]) -> Need:
    """The need as given: nothing is absorbed for anything else."""
    demand = need.demand._replace(change=-need.contracted, excess=ZERO, excess_at=None)
    return Need(A, ZERO if C is None else C, demand)
