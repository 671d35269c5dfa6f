"""What is asked of a value: a demand, and the budgets that all demands together give."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from tpcalc.algebra.order import ZERO, Order
from tpcalc.rules.structures import Atom


class Demand(NamedTuple):
    """What one consumer allows a value: an initial part of order ``init`` at most, a change of order ``change``.

    ``tight``: the consumer is not invariant to the scale of the value, so less than the budget is a loss.
    ``origin`` is the atom where the budget of 0 stands (None: an output), ``use`` the atom at which a weight meets this
    demand, ``partner`` the value it meets there; ``excess`` tells how much of a value-value product's excess is passed
    on, and ``excess_at`` the atom of that product; ``squared``: it is one of the value with itself.  ``meets_weight``:
    only constants stand between the value and a weight, which makes up for them itself.  ``statistic``: asked of a
    weight through a mean of its entries (a norm), which bounds its orders and is no use of it.  ``carried``: of a
    weight, what its init may change by along with coarse numbers (:class:`~tpcalc.calculus.facts.Fact`); None: as any
    change.  ``depth``: what a sum over the depth has asked for.
    """

    init: Order
    change: Order
    tight: bool
    law: str
    origin: Optional[Atom] = None
    use: Optional[Atom] = None
    partner: Optional[int] = None
    excess: Order = ZERO
    excess_at: Optional[Atom] = None
    squared: bool = False
    meets_weight: bool = False
    statistic: bool = False
    carried: Optional[Order] = None
    depth: Order = ZERO

    def shifted(self, by: Order, **changes: Any) -> "Demand":
        if by is ZERO and not changes:
            return self
        carried = None if self.carried is None else self.carried - by
        return self._replace(init=self.init - by, change=self.change - by, carried=carried, **changes)


class Conflict(NamedTuple):
    """A consumer that would need a value smaller than another consumer can bear."""

    value: int
    demand: Demand
    needed: Order
    allowed: Order


class Budgets(NamedTuple):
    """``of``: value -> the demand that binds it.  ``weights``: leaf value -> all demands, one for each use."""

    of: dict[int, Demand]
    weights: dict[int, list[Demand]]
    conflicts: list[Conflict]


__all__ = ["Budgets", "Conflict", "Demand"]
