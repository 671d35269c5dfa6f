"""Sizes and constants as exact functions of the width ``n``, or of several scales.

A :class:`Size` is an axis length fitted over the traced widths: ``128``, ``4*n``, ``n/16 + 32``, or a rounded one
(``~8/3*n``: a feed-forward dimension rounded up to a multiple of 256) whose growth is exact while its value at each
width is kept as sampled.  A :class:`Scalar` is a float constant ``k * n^p + d``; its exponent ``p`` is exact, ``k`` and
``d`` are plain numbers.  Of several scales (:mod:`tpcalc.algebra.form`) the powers are forms: ``2*h*d + n``.

A model has thousands of axes and a few dozen distinct sizes: equal ones are one object.  ``expr`` is the formula as a
sympy expression, made when asked for: importing sympy takes longer than deriving the rules of a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Optional, Union

from tpcalc.algebra.form import Compass, Form
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Exact, Order
from tpcalc.algebra.scales import Place, Point
from tpcalc.algebra.text import power_text, term_text
from tpcalc.errors import FitError

if TYPE_CHECKING:
    import sympy

#: ``((p, k), ...)``: a sum of ``k * n^p``.
Terms = tuple[tuple[Order, Fraction], ...]
Samples = tuple[tuple[Any, int], ...]


class Size:
    """An axis length ``sum of k * n^p``.  Equal sizes are one object.

    ``terms`` is ``((p, k), ...)`` with descending powers and nonzero coefficients, ``growth`` the exponent of the
    leading one: 1 for ``d_model``, 0 for a vocabulary.  When ``rounded`` the single term holds the growth and an
    approximate coefficient (the text shows it after ``~``), and ``samples`` ``((width, length), ...)`` hold the true
    lengths.

    ``+ - * /`` of sizes and ints are exact; they raise FitError where there is no exact size: of rounded ones, and of
    quotients that are no sum of powers.
    """

    __slots__ = ("_hash", "growth", "rounded", "samples", "terms")
    _known: ClassVar[dict[object, Size]] = {}

    terms: Terms
    rounded: bool
    samples: Samples
    growth: Order
    _hash: int

    def __new__(
        cls, terms: Iterable[tuple[Exact, Union[Fraction, int]]], rounded: bool = False, samples: Samples = ()
    ) -> Size:
        exact = tuple((Order(power), Fraction(coefficient)) for power, coefficient in terms)
        key = exact, rounded, samples
        known = cls._known.get(key)
        if known is None:
            new = object.__new__(cls)
            _set(new, terms=exact, rounded=rounded, samples=samples, _hash=hash(key))
            _set(new, growth=exact[0][0] if exact else ZERO)
            known = cls._known.setdefault(key, new)
        return known

    @staticmethod
    def constant(value: int) -> Size:
        return Size(((ZERO, value),) if value else ())

    @staticmethod
    def linear(coefficient: Union[int, Fraction] = 1, offset: Union[int, Fraction] = 0) -> Size:
        """``coefficient * n + offset``."""
        return Size(((ONE, coefficient), (ZERO, offset)) if offset else ((ONE, coefficient),))

    @property
    def is_constant(self) -> bool:
        return all(power == 0 for power, _ in self.terms)

    @property
    def is_mixed(self) -> bool:
        """True for sizes such as ``n/16 + 32`` whose parts grow differently."""
        return len(self.terms) > 1

    @property
    def expr(self) -> sympy.Expr:
        """The formula in the positive symbol n (or those of several scales); of a rounded size, the approximate one."""
        return _expr(self)

    def along(self, compass: Compass) -> Size:
        """The same size with its powers as forms of another compass, and the leading one first along it."""
        terms = sorted(((turned(p, compass), k) for p, k in self.terms), reverse=True)
        return Size(terms, self.rounded, self.samples)

    def at(self, width: Place) -> int:
        """The length at ``width`` (of several scales: at a point); for a rounded size only at a sampled one.

        Raises FitError where the value is not a whole number or was never sampled.
        """
        if self.rounded:
            for sampled, length in self.samples:
                if sampled == width:
                    return length
            raise FitError(
                f"the rounded size {self} is known only at widths {[w for w, _ in self.samples]}, not at {width}; "
                f"trace at that width too"
            )
        powers = [(rational_power(width, power), coefficient) for power, coefficient in self.terms]
        total = sum((power * coefficient for power, coefficient in powers if power is not None), Fraction(0))
        if total.denominator != 1 or any(power is None for power, _ in powers):
            raise FitError(f"size {self} is not a whole number at width {width}; choose another width")
        return int(total)

    def __add__(self, other: Union[Size, int]) -> Size:
        return _added(self, _size(other))

    __radd__ = __add__

    def __sub__(self, other: Union[Size, int]) -> Size:
        return _added(self, _size(other) * -1)

    def __rsub__(self, other: int) -> Size:
        return _size(other) - self

    def __mul__(self, other: Union[Size, int]) -> Size:
        return _multiplied(self, _size(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Union[Size, int]) -> Size:
        return _divided(self, _size(other))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = term_text(self.terms[0][1], self.terms[0][0])
        for power, coefficient in self.terms[1:]:
            text += (" + " if coefficient > 0 else " - ") + term_text(abs(coefficient), power)
        return f"~{text}" if self.rounded else text

    def __repr__(self) -> str:
        return f"Size({self})"

    def __reduce__(self) -> tuple[type[Size], tuple[Terms, bool, Samples]]:
        return Size, (self.terms, self.rounded, self.samples)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a size can't be changed: {name} of {self}")


class Scalar:
    """A constant ``k * n^p + d`` met as a Python number or a zero-dimensional tensor.  Equal ones are one object.

    Only the exponent ``p`` must be exact; ``k`` and ``d`` stay floats.  ``Scalar.of(x)`` is a constant that does not
    depend on the width (``k = 0``).  ``order``: exponent of the leading term; minus infinity for the constant zero.
    """

    __slots__ = ("d", "k", "order", "p")
    _known: ClassVar[dict[object, Scalar]] = {}

    k: float
    p: Order
    d: float
    order: Order

    def __new__(cls, k: float, p: Exact, d: float = 0.0) -> Scalar:
        # 0.0 and -0.0 are equal but not the same, nan is the same but not equal
        key = float(k).hex(), Order(p), float(d).hex()
        known = cls._known.get(key)
        if known is None:
            constant = k == 0 or (d != 0 and p < 0)
            new = object.__new__(cls)
            _set(new, k=float(k), p=Order(p), d=float(d))
            _set(new, order=(ZERO if d else MINUS_INFINITY) if constant else new.p)
            known = cls._known.setdefault(key, new)
        return known

    @staticmethod
    def of(value: float) -> Scalar:
        return Scalar(0.0, ZERO, value)

    @property
    def expr(self) -> sympy.Expr:
        """The formula in the positive symbol n; whole numbers are exact, others floats."""
        return _expr(self)

    def along(self, compass: Compass) -> Scalar:
        """The same constant with its power as a form of another compass."""
        return Scalar(self.k, turned(self.p, compass), self.d)

    def at(self, width: Place) -> float:
        return self.k * power_at(width, self.p) + self.d

    def __str__(self) -> str:
        if self.k == 0:
            return f"{self.d:g}"
        power = power_text(self.p, style="brackets")
        text = power if self.k == 1 else f"{self.k:g}*{power}"
        return text if not self.d else f"{text} {'+' if self.d > 0 else '-'} {abs(self.d):g}"

    def __repr__(self) -> str:
        return f"Scalar({self})"

    def __hash__(self) -> int:
        return hash((self.k, self.p, self.d))

    def __reduce__(self) -> tuple[type[Scalar], tuple[float, Order, float]]:
        return Scalar, (self.k, self.p, self.d)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a constant can't be changed: {name} of {self}")


def _set(thing: Union[Size, Scalar], **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(thing, name, value)


def turned(power: Order, compass: Compass) -> Order:
    """A power as a form of another compass."""
    return compass.form(power.coordinates) if isinstance(power, Form) else power


@lru_cache(maxsize=None)
def rational_power(width: Place, power: Exact) -> Optional[Fraction]:
    """``width^power`` exactly, or None where it is irrational; at a point, of each scale to its own exponent."""
    if isinstance(width, Point):
        parts = [rational_power(x, p) for x, p in _at_point(width, power)]
        return None if None in parts else prod((x for x in parts if x is not None), start=Fraction(1))
    root = width if power.denominator == 1 else round(width ** (1 / power.denominator))
    return Fraction(root) ** power.numerator if root**power.denominator == width else None


def power_at(width: Place, power: Exact) -> float:
    """``width^power`` as a float."""
    if isinstance(width, Point):
        return prod((float(x) ** float(p) for x, p in _at_point(width, power)), start=1.0)
    found: float = float(width) ** float(power)
    return found


def _at_point(point: Point, power: Exact) -> Iterable[tuple[int, Fraction]]:
    return zip(point, power.coordinates) if isinstance(power, Form) else ()


@lru_cache(maxsize=None)
def _expr(thing: Union[Size, Scalar]) -> sympy.Expr:
    import sympy

    terms = thing.terms if isinstance(thing, Size) else ((thing.p, thing.k), (ZERO, thing.d))
    return sympy.Add(*(_number(k) * power_expr(p) for p, k in terms))


def power_expr(power: Exact) -> sympy.Expr:
    """The power of n, or of several scales, as a sympy expression in positive symbols."""
    if isinstance(power, Form):
        return monomial((scale.symbol, x) for scale, x in zip(power.compass.scales, power.coordinates))
    return monomial([("n", power)])


def monomial(powers: Iterable[tuple[str, Exact]]) -> sympy.Expr:
    """A product of powers of positive symbols."""
    import sympy

    parts = (sympy.Symbol(name, positive=True) ** sympy.Rational(x.numerator, x.denominator) for name, x in powers)
    return sympy.Mul(*parts)


def _number(value: Union[Fraction, float]) -> sympy.Expr:
    import sympy

    if isinstance(value, Fraction):
        return sympy.Rational(value.numerator, value.denominator)
    return sympy.Integer(value) if value.is_integer() else sympy.Float(value)


# -- arithmetic of sizes -----------------------------------------------------------------------------

NOTHING: Final = Size(())
UNIT: Final = Size.constant(1)


def _size(value: Union[Size, int]) -> Size:
    return value if isinstance(value, Size) else Size.constant(value)


def _collected(terms: Iterable[tuple[Order, Fraction]]) -> Size:
    total: dict[Order, Fraction] = {}
    for power, coefficient in terms:
        total[power] = total.get(power, Fraction(0)) + coefficient
    return Size(sorted(((p, k) for p, k in total.items() if k), reverse=True))


def _refuse_rounded(x: Size, y: Size, what: str) -> None:
    if x.rounded or y.rounded:
        raise FitError(f"the {what} of {x} and {y} has no exact size: a rounded size is known at sampled widths only")


@lru_cache(maxsize=None)
def _added(x: Size, y: Size) -> Size:
    _refuse_rounded(x, y, "sum")
    return _collected((*x.terms, *y.terms))


@lru_cache(maxsize=None)
def _multiplied(x: Size, y: Size) -> Size:
    _refuse_rounded(x, y, "product")
    return _collected((p + q, k * m) for p, k in x.terms for q, m in y.terms)


@lru_cache(maxsize=None)
def _divided(x: Size, y: Size) -> Size:
    _refuse_rounded(x, y, "quotient")
    if len(y.terms) != 1 or any(power < y.growth for power, _ in x.terms):
        raise FitError(f"the quotient of {x} and {y} is no sum of powers of n")
    ((power, coefficient),) = y.terms
    return Size((p - power, k / coefficient) for p, k in x.terms)


def size_sum(sizes: Iterable[Size]) -> Optional[Size]:
    """The exact sum; None when one of them is rounded."""
    sizes = tuple(sizes)
    return None if any(size.rounded for size in sizes) else sum(sizes, NOTHING)


def size_product(sizes: Iterable[Size]) -> Optional[Size]:
    """The exact product; None when one of them is rounded."""
    sizes = tuple(sizes)
    return None if any(size.rounded for size in sizes) else prod(sizes, start=UNIT)


def size_difference(x: Size, y: Size) -> Optional[Size]:
    """The exact difference; None when one of them is rounded."""
    return None if x.rounded or y.rounded else x - y


def size_quotient(size: Size, by: Size) -> Optional[Size]:
    """The exact quotient of a size by one with a single term; None where it is none."""
    try:
        return size / by
    except FitError:
        return None
