"""A weight beside its value: how its axes grow, whether it starts random, its orders, what an update law sees of it.

Orders of a value are read at a *moment*: at init, after training, or at whichever of the two they are larger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.calculus.facts import Fact, WeightOrders
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.optimizers import WeightView
from tpcalc.program.ir import Weight

Moment = Callable[[Fact], Order]


def at_init(fact: Fact) -> Order:
    return fact.init


def trained(fact: Fact) -> Order:
    return fact.trained


def at_largest(fact: Fact) -> Order:
    return max_order(fact.init, fact.trained)


def growths(weight: Union[Weight, Leaf]) -> tuple[Order, ...]:
    """Growth of each axis of a weight or block."""
    return tuple(size.growth for size in weight.shape)


def entries(weight: Union[Weight, Leaf]) -> Order:
    """Growth of the number of entries."""
    return sum(growths(weight), ZERO)


def moved(leaf: Leaf) -> Order:
    """Growth of the number of entries whose gradient is not zero."""
    return entries(leaf) - leaf.few


def is_random(weight: Weight) -> bool:
    """Zero-mean random at init: as its init call says, else matrices are and vectors (gains, biases) are not."""
    for _, init in weight.init:
        if init.kind in ("random", "constant"):
            return init.kind == "random"
    return len(weight.shape) > 1


def weight_orders(
    weight: Weight, A: Optional[Order], C: Optional[Order], random: Optional[bool] = None
) -> WeightOrders:
    """The orders of ``weight``, which has no ``C`` where it is frozen.  ``random`` None: as its init call says."""
    return WeightOrders(A, C if weight.trainable else None, is_random(weight) if random is None else random)


def gradient_order(grad: Optional[int], facts: Mapping[int, Fact], moment: Moment = at_largest) -> Order:
    """Order of a gradient; minus infinity without one."""
    return MINUS_INFINITY if grad is None else moment(facts[grad])


def on_outputs(leaf: Leaf, facts: Mapping[int, Fact], change: Order) -> Order:
    """What an update of order ``change`` does to the outputs, to first order: <gradient, update> over all entries
    that have a gradient, of all periods of a stack, aligned."""
    slope = leaf.grad if leaf.weight.slope is None else leaf.weight.slope
    return gradient_order(slope, facts) + change + moved(leaf) + leaf.copies


def weight_view(
    lowered: Lowered,
    leaf: Leaf,
    facts: Mapping[int, Fact],
    size: Order,
    moment: Moment = trained,
    zero: bool = False,
) -> WeightView:
    """What an update law may know of a weight or block: its own gradient, the axes of the whole parameter.

    ``moment``: when the law sees its gradient and the values that it meets.
    """
    fan_in, met = lowered.meets(leaf)
    inputs = ZERO if met is None else moment(facts[met])
    gradient = gradient_order(leaf.grad, facts, moment)
    return WeightView(gradient, size, growths(leaf.weight), fan_in, inputs, zero, leaf.few, leaf.thin)
