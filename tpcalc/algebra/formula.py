"""Exponents of several scales as one formula: ``n^-1/2 Min(1, sqrt(f/n))``.

Each cone of a fan (:mod:`tpcalc.algebra.fan`) gives an exponent as one linear form.  Where the forms of all cones are
put together, they are a continuous function, linear on each cone: the maximum over cones ``i`` of the minimum of those
forms that are at least as large there (Tarela and Martinez 1999, "Region configurations for realizability of lattice
piecewise-linear models").  Every step is decided exactly on every cone; what is not continuous is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Optional

from tpcalc.algebra.fan import Walls, possible
from tpcalc.algebra.form import Vector, along, vector
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.size import monomial
from tpcalc.algebra.text import Style, product_text
from tpcalc.errors import DeriveError

if TYPE_CHECKING:
    import sympy

#: Exponents, one for each scale.
Exponents = tuple[Fraction, ...]
#: The largest over these of the smallest in each.
Ways = tuple[tuple[Exponents, ...], ...]


@dataclass(frozen=True)
class Formula:
    """A power of several scales: ``prod_i x_i^e_i``, or the largest over ``ways`` of the smallest such in each."""

    scales: tuple[Scale, ...]
    ways: Ways

    @property
    def monomial(self) -> Optional[dict[str, Fraction]]:
        """Symbol -> exponent, of all scales; None where it is no single product of powers."""
        if len(self.ways) > 1 or len(self.ways[0]) > 1:
            return None
        return {scale.symbol: x for scale, x in zip(self.scales, self.ways[0][0])}

    def along(self, direction: Sequence[Fraction]) -> Fraction:
        """The exponent of a number ``s`` as each scale grows like ``s^direction``."""
        return max(min(along(form, direction) for form in way) for way in self.ways)

    @property
    def alike(self) -> Fraction:
        """The exponent where all scales but depths grow alike; of what depends on depths alone, where these do."""
        forms = [form for way in self.ways for form in way]
        depths = not any(x for form in forms for scale, x in zip(self.scales, form) if not scale.depth)
        return self.along([Fraction(scale.depth is depths) for scale in self.scales])

    def at(self, values: Mapping[str, float]) -> float:
        """The power where scales have these ``values``, by name."""
        logs = [values[scale.name] for scale in self.scales]

        def number(form: Exponents) -> float:
            found = 1.0
            for x, e in zip(logs, form):
                found *= float(x) ** float(e)
            return found

        return max(min(map(number, way)) for way in self.ways)

    @property
    def expr(self) -> sympy.Expr:
        """As a sympy expression in positive symbols, with ``Max`` and ``Min`` where it has kinks."""
        import sympy

        common, ways = self.factored()

        def power(form: Exponents) -> sympy.Expr:
            return monomial((s.symbol, x) for s, x in zip(self.scales, form))

        return power(common) * sympy.Max(*(sympy.Min(*map(power, way)) for way in ways))

    def text(self, style: Style = "plain") -> str:
        """``n^-1/2 Min(1, sqrt(f/n))``."""
        common, ways = self.factored()
        of_ways = [_call("Min", [_ratio(self.scales, form, style) for form in way], style) for way in ways]
        rest = _call("Max", of_ways, style)
        if rest == "1":
            return product_text(self.scales, common, style)
        return rest if not any(common) else f"{product_text(self.scales, common, style)} {rest}"

    def __str__(self) -> str:
        return self.text()

    def factored(self) -> tuple[Exponents, Ways]:
        """What all the products have in common, taken from the first and shortest, and what is left of each: the
        formula is the first times the largest of the ways, each the smallest of its products.
        """
        forms = [form for way in self.ways for form in way]
        common = min(forms, key=_simplest)
        rest = tuple(
            tuple(sorted((tuple(x - y for x, y in zip(form, common)) for form in way), key=_simplest))
            for way in self.ways
        )
        return common, tuple(sorted(rest, key=lambda way: list(map(_simplest, way))))


def formula(scales: Sequence[Scale], found: Iterable[tuple[Walls, Exponents]], what: str) -> Formula:
    """One formula of the exponents found in each cone of a fan.

    Raises DeriveError where they jump between cones; ``what`` names them.
    """
    cells = list(found)
    forms = list(dict.fromkeys(form for _, form in cells))
    scales = tuple(scales)

    def ever(walls: Walls, larger: Sequence[tuple[Exponents, Exponents]]) -> bool:
        """Whether somewhere in a cone the first of each pair is larger than the second."""
        needed: list[Vector] = []
        for x, y in larger:
            wall = _difference(scales, x, y)
            if wall is None:
                return False
            if any(wall):
                needed.append(wall)
        return possible((*walls, *needed), len(scales))

    largest: Ways = tuple((form,) for form in forms)
    for ways in (largest, (tuple(forms),)):
        most = len(ways) > 1
        if not any(
            ever(walls, [(other, form) if most else (form, other)])
            for walls, form in cells
            for other in forms
            if other != form
        ):
            return Formula(scales, ways)
    ways = tuple(
        dict.fromkeys(
            tuple(other for other in forms if other == form or not ever(walls, [(form, other)]))
            for walls, form in cells
        )
    )
    for walls, form in cells:
        if any(ever(walls, [(other, form) for other in way if other != form]) for way in ways if form not in way):
            raise DeriveError(
                f"{what} jumps where scales grow alike, so that no formula gives it; derive along one scale at a time"
            )
    return Formula(scales, _shortened(ways))


def _shortened(ways: Ways) -> Ways:
    """Without ways that another one, with fewer to choose the smallest from, makes superfluous."""
    return tuple(way for way in ways if not any(set(other) < set(way) for other in ways))


def _difference(scales: Sequence[Scale], x: Exponents, y: Exponents) -> Optional[Vector]:
    """The inequality under which x is larger than y; no wall where it always is, None where it never is.

    Widths come first, depths where those are even (:class:`tpcalc.algebra.form.Compass`).
    """
    difference = [a - b for a, b in zip(x, y)]
    for depth in (False, True):
        part = [d if scale.depth is depth else Fraction(0) for d, scale in zip(difference, scales)]
        if any(part):
            return None if all(d <= 0 for d in part) else vector(part)
    return None


def _simplest(form: Exponents) -> tuple[int, list[Fraction]]:
    """Sorts products of few scales first, and of the first of them."""
    return sum(x != 0 for x in form), [-x for x in form]


def _call(name: str, parts: Sequence[str], style: Style) -> str:
    if len(parts) == 1:
        return parts[0]
    return (rf"\{name.lower()}" if style == "latex" else name) + f"({', '.join(parts)})"


def _ratio(scales: Sequence[Scale], form: Exponents, style: Style) -> str:
    """A product of powers: as ``f/n`` or ``sqrt(f/n)`` where all exponents are of one size."""
    sizes = {abs(x) for x in form if x}
    if style != "plain" or len(sizes) != 1 or not sizes <= {Fraction(1), Fraction(1, 2)}:
        return product_text(scales, form, style)
    over = " ".join(scale.symbol for scale, x in zip(scales, form) if x > 0) or "1"
    under = " ".join(scale.symbol for scale, x in zip(scales, form) if x < 0)
    under = f"({under})" if " " in under else under
    text = f"{over}/{under}" if under else over
    return f"sqrt({text})" if sizes == {Fraction(1, 2)} else text


__all__ = ["Exponents", "Formula", "formula"]
