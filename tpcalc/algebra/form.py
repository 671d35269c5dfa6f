"""Orders of several scales: linear forms in their logarithms, compared along one direction.

A quantity ``n^-1/2 f^1/4`` has the order ``-1/2 log n + 1/4 log f``, a :class:`Form`.  Sums and multiples of forms are
exact and hold everywhere; which of two is larger may depend on how the scales grow beside one another.  A
:class:`Compass` points in one direction, compares forms along it, and writes down every comparison that would come
out otherwise along another: its *walls*.  A derivation that was run along it holds in the whole cone between them,
as there every comparison has the same outcome.  So one run gives exponents as forms, and the cone in which they
hold: a certificate, not an interpolation (:mod:`tpcalc.algebra.fan` puts the cones together).

Scales that count repeated blocks (*depths*) grow last: any power of a width outweighs any power of a depth.  That is
the limit of infinite width at a depth that is taken to infinity afterwards, so they put up no walls against widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NoReturn, Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Exact, FiniteOrder, Order, fraction
from tpcalc.algebra.scales import Scale

#: A linear form over the scales as plain numbers, in whole multiples of one another: ``sum of vector_i log x_i > 0``.
Vector = tuple[int, ...]


class Compass:
    """The scales, one direction in which they grow, and the walls met along it.

    ``direction``: the logarithm of each scale relative to the others, positive, and generic: no comparison met may be
    even along it.  ``walls``: vectors that are positive along the direction, each a comparison whose outcome another
    direction changes.
    """

    def __init__(self, scales: Sequence[Scale], direction: Sequence[Union[Fraction, int]]) -> None:
        self.scales = tuple(scales)
        self.direction = tuple(map(Fraction, direction))
        self.walls: set[Vector] = set()
        self._widths = tuple(not scale.depth for scale in scales)
        self._known: dict[tuple[Fraction, ...], Order] = {}

    def form(self, coordinates: Iterable[Union[Fraction, int, Order]]) -> Order:
        """The order with these exponents, one for each scale; equal ones are one object, and that of 1 is ``ZERO``."""
        key = tuple(x if type(x) is Fraction else _fraction(x) for x in coordinates)
        if not any(key):
            return ZERO
        known = self._known.get(key)
        return self._known.setdefault(key, Form._made(self, key)) if known is None else known

    def unit(self, index: int) -> Order:
        """The order of scale number ``index`` itself."""
        return self.form(int(i == index) for i in range(len(self.scales)))

    @property
    def depths(self) -> dict[str, Order]:
        """The scales that count repeated blocks, with their orders."""
        return {scale.name: self.unit(index) for index, scale in enumerate(self.scales) if scale.depth}

    def sign(self, coordinates: Sequence[Fraction]) -> int:
        """Whether a form is positive (1), negative (-1) or zero along the direction; a wall where that may differ."""
        for wanted in (True, False):  # widths first, then depths
            part = [x if width is wanted else Fraction(0) for x, width in zip(coordinates, self._widths)]
            if any(part):
                return self._sign(part)
        return 0

    def _sign(self, coordinates: Sequence[Fraction]) -> int:
        if all(x >= 0 for x in coordinates):
            return 1
        if all(x <= 0 for x in coordinates):
            return -1
        found = along(coordinates, self.direction)
        if found == 0:
            raise Level(f"two orders are equal along {', '.join(map(str, self.direction))}")
        sign = 1 if found > 0 else -1
        self.walls.add(vector(sign * x for x in coordinates))
        return sign


def _fraction(x: Union[Fraction, int, Order]) -> Fraction:
    return fraction(x) if isinstance(x, Order) else Fraction(x)


class Level(ArithmeticError):
    """Two different orders are equal along the direction of a compass, which is not generic then."""


def vector(coordinates: Iterable[Fraction]) -> Vector:
    """The smallest whole multiple of a form that is positive where it is."""
    coordinates = tuple(coordinates)
    scale = math.lcm(*(x.denominator for x in coordinates))
    return smallest([int(x * scale) for x in coordinates])


def smallest(whole: Sequence[int]) -> Vector:
    """A vector of whole numbers divided by what they have in common."""
    common = math.gcd(*whole) or 1
    return tuple(x // common for x in whole)


def along(x: Sequence[Union[Fraction, int]], y: Sequence[Union[Fraction, int]]) -> Fraction:
    """A form along a direction: the sum of products, exact."""
    return sum((Fraction(a) * b for a, b in zip(x, y)), Fraction(0))


class Form(FiniteOrder):
    """An order in several scales: ``coordinates`` are its exponents, in the order of ``compass.scales``.

    It is added to and compared with forms of its compass, zero and minus infinity, and multiplied by plain rationals.
    Any other number beside it has no meaning (of which scale would ``1`` be the power?): that raises TypeError.
    """

    __slots__ = ("_signs", "compass", "coordinates")

    compass: Compass
    coordinates: tuple[Fraction, ...]
    _signs: dict[object, int]

    @staticmethod
    def _made(compass: Compass, coordinates: tuple[Fraction, ...]) -> Form:
        new = object.__new__(Form)
        values = {"compass": compass, "coordinates": coordinates, "_signs": {}, "_hash": hash(coordinates)}
        for name, value in values.items():
            object.__setattr__(new, name, value)
        return new

    def _of(self, other: object) -> Optional[tuple[Fraction, ...]]:
        """The coordinates of something beside it; None of what is no order."""
        if isinstance(other, Form):
            if other.compass is not self.compass:
                raise TypeError(f"{self} and {other} are orders along different directions")
            return other.coordinates
        if isinstance(other, (FiniteOrder, Fraction, int)):
            if other != 0:
                raise TypeError(f"{self} is an order in several scales, and {other} is a power of none of them")
            return (Fraction(0),) * len(self.coordinates)
        return None

    def _sign(self, other: object) -> int:
        """That of the difference."""
        known = self._signs.get(other)
        if known is None:
            if other is MINUS_INFINITY:
                known = 1
            else:
                theirs = self._of(other)
                if theirs is None:
                    raise TypeError(f"{other!r} is no order")
                known = self.compass.sign([x - y for x, y in zip(self.coordinates, theirs)])
            self._signs[other] = known
        return known

    def __lt__(self, other: Exact) -> bool:
        return self._sign(other) < 0

    def __le__(self, other: Exact) -> bool:
        return self._sign(other) <= 0

    def __gt__(self, other: Exact) -> bool:
        return self._sign(other) > 0

    def __ge__(self, other: Exact) -> bool:
        return self._sign(other) >= 0

    def __eq__(self, other: object) -> bool:
        return self is other  # those of one compass are one object, those of two are not compared

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Exact) -> Order:
        if other is MINUS_INFINITY:
            return MINUS_INFINITY
        theirs = self._of(other)
        return NotImplemented if theirs is None else self._form(x + y for x, y in zip(self.coordinates, theirs))

    __radd__ = __add__

    def __sub__(self, other: Exact) -> Order:
        theirs = self._of(other)
        return NotImplemented if theirs is None else self._form(x - y for x, y in zip(self.coordinates, theirs))

    def __rsub__(self, other: Exact) -> Order:
        return -self + other

    def __mul__(self, other: Exact) -> Order:
        by = _plain(other)
        return NotImplemented if by is None else self._form(x * by for x in self.coordinates)

    __rmul__ = __mul__

    def __truediv__(self, other: Exact) -> Order:
        by = _plain(other)
        return NotImplemented if by is None else self._form(x / by for x in self.coordinates)

    def __rtruediv__(self, other: Exact) -> Order:
        raise TypeError(f"{other} is not divided by {self}, an order in several scales")

    def __neg__(self) -> Order:
        return self._form(-x for x in self.coordinates)

    def __abs__(self) -> Order:
        return self if self > 0 else -self

    def _form(self, coordinates: Iterable[Fraction]) -> Order:
        return self.compass.form(coordinates)

    def __float__(self) -> float:
        raise TypeError(f"{self} is an order in several scales, and no number")

    def __repr__(self) -> str:
        named = zip(self.compass.scales, self.coordinates)
        parts = [f"{x} {scale.symbol}" if x != 1 else scale.symbol for scale, x in named if x]
        return " + ".join(parts)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self} belongs to a compass and can't be saved alone")


def _plain(value: Any) -> Optional[Fraction]:
    """A plain rational factor; None of anything else."""
    if isinstance(value, Form) or value is MINUS_INFINITY:
        return None
    if isinstance(value, Order):
        return fraction(value)
    return Fraction(value) if isinstance(value, (Fraction, int)) else None


def exact(order: Exact) -> Any:
    """A finite order as users get it: of one scale a plain number, of several a form.

    Raises TypeError for that of zero.
    """
    return order if isinstance(order, Form) else fraction(order)


def quotient(x: Order, y: Order) -> Order:
    """The plain number that ``x`` is times ``y``; raises ArithmeticError where two forms are not in proportion."""
    if not isinstance(y, Form):
        return x / y
    own = coordinates(x, len(y.coordinates))
    found = next(a / b for a, b in zip(own, y.coordinates) if b)
    if any(a != found * b for a, b in zip(own, y.coordinates)):
        raise ArithmeticError(f"{x} is no multiple of {y}")
    return Order(found)


def coordinates(order: Exact, count: int) -> tuple[Fraction, ...]:
    """The exponents of an order of ``count`` scales, 0 of which all but a form has."""
    return order.coordinates if isinstance(order, Form) else (Fraction(0),) * count


def degree(order: Order) -> Order:
    """The exponent where all scales grow alike: of one scale the order itself."""
    return Order(sum(order.coordinates)) if isinstance(order, Form) else order


__all__ = [
    "Compass", "Form", "Level", "Vector", "along", "coordinates", "degree", "exact", "quotient", "smallest", "vector",
]  # fmt: skip
