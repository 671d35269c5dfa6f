"""Why a value has the order it has: the rule, its operands, their parents.

Reasons are read off the atoms and facts on demand, so that the interpreter stays fast and every derived order keeps one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, Order, order_text
from tpcalc.calculus.laws import Alignment, Fact, roles
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Centre,
    Contract,
    Discrete,
    Exp,
    Gather,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Scale,
    Slope,
    Softmax,
    Sum,
    View,
    operands,
)


@dataclass(frozen=True)
class Reason:
    """The order of ``value`` follows by ``rule`` from the orders of ``parents``; the first parent decides."""

    value: int
    trained: Order
    rule: str
    parents: tuple[int, ...]
    atom: Optional[Atom]


def rule_text(atom: Atom, facts: Mapping[int, Fact], alignment: Alignment) -> str:
    """The law that gives the trained order of ``atom``'s result, with its numbers."""
    s = atom.structure
    if isinstance(s, Contract):
        return _contract_text(s, facts, alignment)
    if isinstance(s, Known):
        return f"a constant of order {order_text(s.order)}"
    if isinstance(s, (View, Guard)):
        return "a view: the order passes through"
    if isinstance(s, Centre):
        return "less its mean: what is left of a constant, and the change"
    if isinstance(s, Gather):
        return "entries picked by index: the order passes through"
    if isinstance(s, Scale):
        return f"times a constant of order {order_text(s.order)}"
    if isinstance(s, Sum):
        return "a sum: the largest order"
    if isinstance(s, Product):
        return "a product: orders add"
    if isinstance(s, Reduce):
        if s.K == 0:
            return "a sum over axes that do not grow"
        return f"a sum over growth {s.K}: + {alignment.values(s.K)} when aligned"
    if isinstance(s, Power):
        return f"homogeneous of degree {s.k}: {s.k} times the order"
    if isinstance(s, LinearLike):
        return "asymptotically linear: the order passes through"
    if isinstance(s, (Bounded, Exp, Log)):
        return f"{type(s).__name__.lower()}: at most order 0"
    if isinstance(s, Slope):
        return "a slope: at most order 0"
    if isinstance(s, Softmax):
        if s.log:
            return "log-softmax: the larger of the order and 0"
        return "softmax" if s.growth == 0 else f"softmax over growth {s.growth}: entries n^-{s.growth}"
    if isinstance(s, Normalise):
        return f"a norm: order {s.shift} whatever enters"
    assert isinstance(s, Discrete)
    return "a comparison or index: order 0"


def _contract_text(s: Contract, facts: Mapping[int, Fact], alignment: Alignment) -> str:
    x, y = facts[s.x], facts[s.y]
    x_weight, y_weight = roles(s, x, y)
    if s.K == 0:
        return "a contraction over axes that do not grow: orders add"
    if not (x_weight or y_weight):
        return f"law 4: value x value over growth {s.K}, aligned after training: + {alignment.values(s.K)}"
    weight, value, rest = (x, y, s.rest_x) if x_weight else (y, x, s.rest_y)
    on_change = alignment.initial_on_change(s.K, rest)
    by_init = on_change + weight.init + value.change
    by_update = alignment.weight_change(s.K) + weight.change + value.trained
    if by_update is not MINUS_INFINITY and by_update >= by_init:
        return f"law 3: weight update (n^{order_text(weight.change)}) x value over growth {s.K}: + {alignment.weight_change(s.K)}"
    if by_init is not MINUS_INFINITY and on_change > s.K / 2:
        return f"law 2: initial weight (n^{order_text(weight.init)}) x changed value over growth {s.K}, R = {rest}: + {on_change}"
    return f"law 1: initial weight (n^{order_text(weight.init)}) x independent value over growth {s.K}: + {s.K / 2}"


def reason_of(lowered: Lowered, facts: Mapping[int, Fact], alignment: Alignment, vid: int) -> Reason:
    """The reason of one value's trained order."""
    atom = lowered.maker.get(vid)
    fact = facts[vid]
    if atom is None:
        value = lowered.program.values[vid]
        return Reason(vid, fact.trained, f"{value.kind} {value.name}".strip(), (), None)
    xs = tuple(operands(atom.structure))
    if isinstance(atom.structure, (Sum, Discrete)):
        xs = tuple(sorted(xs, key=lambda x: -1 if facts[x].trained == fact.trained else 0))
    elif isinstance(atom.structure, (Contract, Product)):
        # the value rather than the weight carries the story further back
        xs = tuple(sorted(xs, key=lambda x: facts[x].weight != 0 and not facts[x].data))
    return Reason(vid, fact.trained, rule_text(atom, facts, alignment), xs, atom)


def chain(
    lowered: Lowered, facts: Mapping[int, Fact], alignment: Alignment, vid: int, limit: int = 12
) -> Iterator[Reason]:
    """From a value back along the operand that decides its order, leaving out pass-through views."""
    seen = 0
    while seen < limit:
        reason = reason_of(lowered, facts, alignment, vid)
        if reason.atom is None or not isinstance(reason.atom.structure, (View, Centre, Guard)):
            yield reason
            seen += 1
        if not reason.parents:
            return
        vid = reason.parents[0]
