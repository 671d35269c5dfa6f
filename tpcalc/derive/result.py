"""The result of a derivation: for each weight a :class:`Rule`, for the model a :class:`Parametrization`.

Exponent conventions (those of the papers; a weight is ``W = n^-a w`` with ``w ~ N(0, n^-2b)``, trained with
``lr = eta n^-c``): ``a``, ``b`` and ``c`` are each x in "quantity ~ n^-x"; ``weight_decay`` and ``eps`` are each
x in "quantity ~ n^x".  ``A = a + b`` is the effective init order (std of W ~ n^-A) and ``C`` the effective update
order (entries of dW ~ n^-C).  All are exact rationals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Optional, TypeVar

from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.size import Size
from tpcalc.derive.clipping import Clipping
from tpcalc.show import Shown


@dataclass(frozen=True)
class Bound:
    """One binding constraint, the certificate of an exponent.

    ``value`` names the value that reaches its budget, ``law`` the rule of the calculus, ``path`` the
    modules or ops from the weight to that value, ``where`` module and source line.
    """

    value: str
    law: str
    where: str = ""
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.law} at {self.value}"
        return f"{text} ({self.where})" if self.where else text


@dataclass(frozen=True)
class SliceRule:
    """The exponents of one contiguous block of a weight whose blocks need different ones.

    The block is ``start <= index < start + length`` along axis ``dim``; sizes are text of exact sizes.
    """

    dim: int
    start: Size
    length: Size
    A: Fraction
    C: Fraction
    role: str = ""
    b: Optional[Fraction] = None
    c: Optional[Fraction] = None

    @property
    def formulas(self) -> dict[str, Fraction]:
        """What the block needs as x in "quantity ~ n^x": ``lr``, or where that is not known ``effective_update``."""
        init = {"init_std": -(self.A if self.b is None else self.b)}
        return {**init, **({"effective_update": -self.C} if self.c is None else {"lr": -self.c})}


@dataclass(frozen=True)
class Rule:
    """How one weight scales with width.

    ``role``: by fan-in and fan-out at the use: ``input`` (finite to growing; also biases and gains of growing size),
    ``hidden``, ``output`` (the readout or anything growing to finite), ``scalar`` (no growing axis), ``frozen``
    or ``unused``.
    ``A``, ``C``: effective init and update orders; ``gradient``: order of the gradient of the parameter as it is
    trained (n^g; behind a multiplier ``n^-a`` that is as much smaller than that of the effective weight).
    ``optimizer``: name of the update law that trains it.  ``reason`` is one line for the table; ``init_bound`` and
    ``update_bound`` certify A and C.
    """

    name: str
    shape: tuple[Size, ...]
    role: str
    a: Fraction
    b: Fraction
    c: Fraction
    weight_decay: Fraction
    eps: Optional[Fraction]
    A: Fraction
    C: Fraction
    gradient: Order
    reason: str = ""
    init_bound: Optional[Bound] = None
    update_bound: Optional[Bound] = None
    aliases: tuple[str, ...] = ()
    slices: tuple[SliceRule, ...] = ()
    trainable: bool = True
    optimizer: str = ""

    @property
    def formulas(self) -> dict[str, Any]:
        """Each column of the table, and what stands behind it, as x in "quantity ~ n^x"; None where there is none."""
        return {
            "multiplier": -self.a,
            "init_std": -self.b,
            "lr": -self.c,
            "weight_decay": self.weight_decay,
            "eps": self.eps,
            "effective_init": -self.A,
            "effective_update": -self.C,
            "of_gradient": None if self.gradient is MINUS_INFINITY else self.gradient,
        }

    @property
    def shape_text(self) -> str:
        return "[" + ", ".join(str(size) for size in self.shape) + "]"


@dataclass(frozen=True)
class Site:
    """A place that needs a forward multiplier because no weight can absorb the excess."""

    op: str
    module: str
    source: str
    found: Order
    needed: Order
    message: str


def site_notes(messages: Iterable[str]) -> tuple[str, ...]:
    """Those of sites, as notes on a training without these multipliers."""
    return tuple(f"a site needs a multiplier in the code: {message}" for message in messages)


class Terms(NamedTuple):
    """Of the last weights of some experts (:mod:`tpcalc.derive.experts`): what updates before them do ``through`` their
    init, and what comes of all of the experts' ``initial`` weights."""

    weights: tuple[str, ...]
    through: Order
    initial: Order


R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class Rules(Shown, Mapping[str, R]):
    """Rules by the name of the parameter."""

    rules: dict[str, R]

    def __getitem__(self, name: str) -> R:
        return self.rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)


@dataclass(frozen=True, repr=False)
class Parametrization(Rules[Rule]):
    """A mapping from weight name to :class:`Rule`; every parameter stands under its own full name
    (aliases of a tied weight share one Rule).  ``print(rules)`` is the scaling table."""

    optimizer: str
    widths: tuple[int, ...]
    sites: tuple[Site, ...] = ()
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    symbol: str = "n"
    conventions: tuple[str, ...] = field(default=())
    """Sentences that state, e.g., the weight-decay convention; printed under the table."""
    gauge: str = "init"
    """The representative of the abc orbit (:mod:`tpcalc.derive.gauge`)."""
    parametrization: str = "derived"
    """``derived``, or the name of a given one (:mod:`tpcalc.derive.parametrizations`)."""
    alignment: str = "full"
    clipping: Clipping = Clipping(MINUS_INFINITY, ())
    experts: str = "mup"
    """Which init the last weights of experts have (:mod:`tpcalc.derive.experts`)."""
    terms: tuple[Terms, ...] = ()
