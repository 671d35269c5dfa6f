"""Exact exponent algebra (max-plus).

The *order* of a quantity ``x`` is the exponent ``e`` in "rms coordinate of x = Theta(n^e)".  An :class:`Order` is an
exact rational, and the order of zero is :data:`MINUS_INFINITY`.  A sum of terms has the max of their orders, a product
the sum of them: orders form the max-plus semiring ``(Q + {-oo}, max, +)``.

No float is ever an order: ``Order(0.5)`` is refused, write ``Order("1/2")``.

Every fact of every value is made of orders, and a program has thousands of facts and a few dozen distinct orders.  So
equal orders are one object, and each remembers what it gives with the others it has met.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from numbers import Rational
from typing import Any, ClassVar, Final, NoReturn, Union

#: What an order is calculated with.
Exact = Union["Order", Fraction, int]


class Order:
    """An exact exponent: a rational, or minus infinity for the order of zero.  Equal orders are one object.

    Read from an int, a Fraction or text (``"1/2"``, ``"-1"``, ``"-oo"``); equal to, and hashed as, the Fraction or int
    of the same value.  ``Fraction(order)`` gives it back; minus infinity has none.

    Raises TypeError for a float: exponents are exact.
    """

    __slots__ = ("_differences", "_hash", "_products", "_quotients", "_sums", "denominator", "numerator")
    _known: ClassVar[dict[tuple[int, int], Order]] = {}

    numerator: int
    denominator: int
    _hash: int
    _sums: _Results
    _differences: _Results
    _products: _Results
    _quotients: _Results

    def __new__(cls, value: Union[Exact, str] = 0) -> Order:
        if isinstance(value, Order):
            return value
        if value == "-oo":
            return MINUS_INFINITY
        if isinstance(value, float):
            raise TypeError(f"an order is an exact rational, not the float {value!r}; write it as text such as '1/2'")
        exact = Fraction(value)
        key = exact.numerator, exact.denominator
        known = cls._known.get(key)
        return cls._known.setdefault(key, _made(FiniteOrder, *key, hash(exact))) if known is None else known

    # The order of zero is the limit -1/0, for which these comparisons hold as they stand.

    def __lt__(self, other: Exact) -> bool:
        try:
            return self.numerator * other.denominator < other.numerator * self.denominator
        except AttributeError:
            return NotImplemented

    def __le__(self, other: Exact) -> bool:
        try:
            return self.numerator * other.denominator <= other.numerator * self.denominator
        except AttributeError:
            return NotImplemented

    def __gt__(self, other: Exact) -> bool:
        try:
            return self.numerator * other.denominator > other.numerator * self.denominator
        except AttributeError:
            return NotImplemented

    def __ge__(self, other: Exact) -> bool:
        try:
            return self.numerator * other.denominator >= other.numerator * self.denominator
        except AttributeError:
            return NotImplemented

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Order):
            return self is other
        if isinstance(other, (int, Fraction)):
            return self.numerator == other.numerator and self.denominator == other.denominator
        return False

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return self.numerator != 0

    def __add__(self, other: Exact) -> Order:
        return self._sums[other]

    __radd__ = __add__

    def __sub__(self, other: Exact) -> Order:
        return self._differences[other]

    def __rsub__(self, other: Exact) -> Order:
        return Order(other) - self if isinstance(other, (Fraction, int)) else NotImplemented

    def __mul__(self, other: Exact) -> Order:
        return self._products[other]

    __rmul__ = __mul__

    def __truediv__(self, other: Exact) -> Order:
        return self._quotients[other]

    def __rtruediv__(self, other: Exact) -> Order:
        return Order(other) / self if isinstance(other, (Fraction, int)) else NotImplemented

    def __neg__(self) -> Order:
        return self._products[-1]

    def __abs__(self) -> Order:
        return self if self.numerator >= 0 else -self

    def __float__(self) -> float:
        return float(fraction(self))

    def __round__(self) -> int:
        return round(fraction(self))

    def __repr__(self) -> str:
        if self.denominator == 1:
            return str(self.numerator)
        return f"{self.numerator}/{self.denominator}" if self.denominator else "-oo"

    def __reduce__(self) -> tuple[type[Order], tuple[str]]:
        return Order, (str(self),)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"an order can't be changed: {name} of {self}")


class FiniteOrder(Order):
    """All orders but minus infinity: these are rationals."""

    __slots__ = ()


class _MinusInfinity(Order):
    """Neutral for max, absorbing for +."""

    __slots__ = ()


Rational.register(FiniteOrder)


class _Results(dict[Any, Order]):
    """What one order gives with others under one operation; a result is computed once."""

    __slots__ = ("compute", "left")

    def __init__(self, left: Order, compute: Callable[[Order, Order], Exact]) -> None:
        self.left, self.compute = left, compute

    def __missing__(self, right: Exact) -> Order:
        if not isinstance(right, (Order, Fraction, int)):
            return NotImplemented
        right = Order(right)
        self[right] = result = Order(self.compute(self.left, right))
        return result


def _sum(x: Order, y: Order) -> Exact:
    return MINUS_INFINITY if x is MINUS_INFINITY or y is MINUS_INFINITY else fraction(x) + fraction(y)


def _difference(x: Order, y: Order) -> Exact:
    return MINUS_INFINITY if x is MINUS_INFINITY else fraction(x) - fraction(y)


def _product(x: Order, y: Order) -> Exact:
    if x is MINUS_INFINITY or y is MINUS_INFINITY:
        return _power_of_zero(y if x is MINUS_INFINITY else x)
    return fraction(x) * fraction(y)


def _quotient(x: Order, y: Order) -> Exact:
    return _power_of_zero(y) if x is MINUS_INFINITY else fraction(x) / fraction(y)


def _power_of_zero(power: Order) -> Order:
    if power <= 0:
        raise ZeroDivisionError("a zero value has no non-positive power")
    return MINUS_INFINITY


def _made(kind: type[Order], numerator: int, denominator: int, hashed: int) -> Order:
    """A new order, which only the table of all orders asks for."""
    new = object.__new__(kind)
    tables = {"_sums": _sum, "_differences": _difference, "_products": _product, "_quotients": _quotient}
    values = {"numerator": numerator, "denominator": denominator, "_hash": hashed}
    for name, value in {**values, **{name: _Results(new, compute) for name, compute in tables.items()}}.items():
        object.__setattr__(new, name, value)
    return new


MINUS_INFINITY: Final = _made(_MinusInfinity, -1, 0, hash(float("-inf")))

ZERO: Final = Order(0)
HALF: Final = Order("1/2")
ONE: Final = Order(1)

#: Read an order from an int, a Fraction or text such as ``"1/2"``, ``"-1"``, ``"-oo"``.
order = Order


def fraction(value: Exact) -> Fraction:
    """A finite order as a plain number, as users get it; raises TypeError for that of zero."""
    if value is MINUS_INFINITY:
        raise TypeError("the order of zero, minus infinity, is no number")
    return Fraction(value.numerator, value.denominator)


def order_text(value: Exact) -> str:
    """``"1/2"``, ``"0"``, ``"-1"`` or ``"-oo"``: the form used in JSON and tables."""
    return str(value)


def max_order(*values: Order) -> Order:
    """The order of a sum of terms that do not cancel; of no terms: minus infinity."""
    best = MINUS_INFINITY
    for value in values:
        if value > best:
            best = value
    return best


def min_order(first: Order, *others: Order) -> Order:
    """The smallest of some orders."""
    return min(first, *others) if others else first
