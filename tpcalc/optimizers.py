"""Update laws: the order of one unit-learning-rate update of an entry, and what follows for lr, eps and decay.

With ``C`` the effective update order (entries of dW ~ n^-C), ``g`` the order of the gradient and ``u`` that of a unit-lr
update (all at a = 0), the learning rate is ``~ n^-c`` with ``c = C + u``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

from tpcalc.errors import DeriveError
from tpcalc.order import MINUS_INFINITY, ZERO, Order


@dataclass(frozen=True)
class UpdateLaw:
    """How an optimizer turns gradients into updates.

    ``update(g, A)``: order ``u`` of one unit-lr update.  ``eps(g)``: exponent of epsilon, None without one.
    ``decay(g, b, c)``: exponent of the weight-decay coefficient.  ``shift``: how ``c`` moves per unit of ``a`` along
    the abc orbit (2 for SGD, 1 for Adam).  ``source``: where the law is published.
    """

    name: str
    update: Callable[[Order, Fraction], Order]
    eps: Callable[[Fraction], Optional[Fraction]]
    decay: Callable[[Fraction, Fraction, Fraction], Fraction]
    decay_convention: str
    shift: int
    source: str


DECOUPLED = "weight decay is decoupled (torch subtracts lr*wd*W): wd ~ n^c keeps lr*wd constant"
LINEAR = "weight decay enters the gradient (wd*W); the update is linear in it, so wd ~ n^c keeps lr*wd constant"
COUPLED = "weight decay enters the gradient before Adam normalises it (wd*W): wd ~ n^(g+b) keeps it in proportion to the gradient"

SGD = UpdateLaw(
    "sgd", lambda g, A: g, lambda g: None, lambda g, b, c: c, LINEAR, 2,
    "Yang & Hu 2021 (TP4), Section 3; Yang et al. 2022 (TP5), Table 3",
)
ADAM = UpdateLaw(
    "adam", lambda g, A: ZERO, lambda g: g, lambda g, b, c: g + b, COUPLED, 1,
    "Yang & Littwin 2023 (TP4b), Table 1; Yang et al. 2022 (TP5), Table 3 and Appendix B.3",
)
ADAMW = UpdateLaw(
    "adamw", lambda g, A: ZERO, lambda g: g, lambda g, b, c: c, DECOUPLED, 1,
    "Yang & Littwin 2023 (TP4b), Table 1; Yang et al. 2022 (TP5), Appendix B.3",
)
LAWS = {law.name: law for law in (SGD, ADAM, ADAMW)}


def update_law(name: str) -> UpdateLaw:
    """The law of the optimizer ``name``; raises DeriveError for an unknown one."""
    law = LAWS.get(name.lower())
    if law is None:
        raise DeriveError(f"optimizer {name!r} has no update law here; choose one of {', '.join(sorted(LAWS))}")
    return law


def finite(order: Order) -> Fraction:
    """An order as a number; a zero gradient counts as order 0."""
    return ZERO if order is MINUS_INFINITY else order
