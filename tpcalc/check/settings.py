"""What a check is run with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.form import coordinates
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.scales import Place, Point
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import Recipe

WIDTHS = (64, 128, 256, 512)
TOLERANCE = 0.15
PARAMETRIZATIONS = ("derived", "standard")
#: That of a set-up, which says by itself how it is trained.
OWN = "own"


@dataclass(frozen=True)
class Ray:
    """Places of several scales at which one of them alone, ``name``, has left the base, in the order of its values."""

    name: str
    points: tuple[Point, ...]

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(point.by_name[self.name] for point in self.points)

    def exponent(self, order: Order) -> Order:
        """The power of this scale alone in an order of all of them."""
        if order is MINUS_INFINITY:
            return order
        names = self.points[0].names
        return Order(coordinates(order, len(names))[names.index(self.name)])


@dataclass(frozen=True)
class Settings:
    """The arguments of :func:`tpcalc.check`, in order: widths ascending, one seed a run.

    ``lr``, ``weight_decay`` and ``eps`` are those at the smallest width; ``lr`` or ``eps`` None: each optimizer's own.
    ``ray``: of several scales, where models are trained; ``widths`` are then the values of the scale that moves.
    """

    widths: tuple[int, ...]
    optimizers: Recipe
    steps: int
    seeds: tuple[int, ...]
    parametrization: str
    tolerance: float
    lr: Optional[float]
    weight_decay: float
    eps: Optional[float]
    ray: Optional[Ray] = None

    def __post_init__(self) -> None:
        if self.parametrization not in (*PARAMETRIZATIONS, OWN):
            raise TpcalcError(
                f"parametrization {self.parametrization!r} is unknown; choose one of {', '.join(PARAMETRIZATIONS)}"
            )
        if self.steps < 1 or not self.seeds:
            raise TpcalcError("a check needs at least one step and one seed")
        for name, value, may_be_zero in (
            ("lr", self.lr, False),
            ("tolerance", self.tolerance, False),
            ("weight decay", self.weight_decay, True),
            ("eps", self.eps, True),
        ):
            if value is not None and not (math.isfinite(value) and (value > 0 or (may_be_zero and value == 0))):
                least = "0 or more" if may_be_zero else "more than 0"
                raise TpcalcError(f"{name} {value:g} tells nothing about training; give a finite number, {least}")

    @property
    def scale(self) -> str:
        """What moves."""
        return "width" if self.ray is None else self.ray.name

    @property
    def places(self) -> tuple[Place, ...]:
        """Where models are trained."""
        return self.widths if self.ray is None else self.ray.points

    def exponent(self, order: Order) -> Order:
        """What the slope over ``widths`` of something of this order is."""
        return order if self.ray is None else self.ray.exponent(order)

    @property
    def derived(self) -> bool:
        """Whether the derived rules are applied."""
        return self.parametrization == "derived"
