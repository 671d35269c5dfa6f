"""The fan: one derivation for every direction in which several scales may grow.

A derivation along one direction holds in the cone between the walls that it met (:mod:`tpcalc.algebra.form`).  What is
left of all directions is cut into regions, each is entered at a point inside it, and so on until nothing is left: then
the cones cover every direction, which is the certificate of what is put together from them
(:mod:`tpcalc.algebra.formula`).  Whether strict inequalities have a solution is decided exactly, by Fourier-Motzkin
elimination (Schrijver, Theory of Linear and Integer Programming, 12.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Generic, Optional, TypeVar

from tpcalc.algebra.form import Compass, Level, Vector, along, smallest
from tpcalc.algebra.scales import Scale
from tpcalc.errors import DeriveError

T = TypeVar("T")

#: Inequalities ``v.x > 0``; each scale grows (``x > 0``) besides.
Walls = tuple[Vector, ...]

#: Shares of an interval at which a point inside it is taken: no simple ratio, so that a direction is generic.
SHARES = (Fraction(41, 97), Fraction(53, 101), Fraction(37, 89), Fraction(61, 103), Fraction(29, 79))

#: More cones than these are a sign that something is compared that should not be.
MOST_CONES = 64


@dataclass(frozen=True)
class Cell(Generic[T]):
    """What was found along one direction, and the cone in which it holds."""

    walls: Walls
    found: T


def generic(count: int) -> tuple[Fraction, ...]:
    """A direction near that along which all scales grow alike, along which no two simple orders are equal."""
    return tuple(1 + Fraction(index * (index + 9), 997 + index) for index in range(count))


def fan(
    scales: Sequence[Scale], run: Callable[[Compass], T], most: int = MOST_CONES, domain: Walls = ()
) -> tuple[Cell[T], ...]:
    """``run`` along directions until the cones in which its results hold cover all of them, or all of a ``domain``.

    Raises DeriveError where they are too many, and what ``run`` raises.
    """
    count = len(scales)
    cells: list[Cell[T]] = []
    regions: list[Walls] = [domain]
    while regions:
        region = regions.pop()
        inside = point(region, count)
        if inside is None:
            continue
        walls = next((cell.walls for cell in cells if _holds(cell.walls, inside)), None)
        if walls is None:
            if len(cells) >= most:
                names = ", ".join(scale.name for scale in scales)
                raise DeriveError(
                    f"the exponents take more than {most} different forms as {names} grow beside one another; "
                    f"derive them for fewer scales at once"
                )
            cells.append(_run(scales, run, region, domain))
            walls = cells[-1].walls
        for index, wall in enumerate(walls):  # what is left of the region beyond each wall
            if wall in domain:
                continue
            beyond = tuple(-x for x in wall)
            regions.append((*region, *walls[:index], beyond))
    return tuple(cells)


def _run(scales: Sequence[Scale], run: Callable[[Compass], T], region: Walls, domain: Walls) -> Cell[T]:
    count = len(scales)
    for shift in range(len(SHARES)):
        direction = generic(count) if not region and not shift else point(region, count, shift)
        assert direction is not None
        compass = Compass(scales, direction)
        try:
            found = run(compass)
        except Level:
            continue
        return Cell(facets(sorted({*compass.walls, *domain}), count), found)
    raise DeriveError("no direction could be found along which all orders differ; derive for fewer scales at once")


def facets(walls: Sequence[Vector], count: int) -> Walls:
    """The walls that bound their cone; the others hold wherever those do."""
    kept = list(walls)
    for wall in walls:
        rest = [other for other in kept if other is not wall]
        if not possible((*rest, tuple(-x for x in wall)), count):
            kept = rest
    return tuple(kept)


def _holds(walls: Walls, x: Sequence[Fraction]) -> bool:
    return all(along(wall, x) > 0 for wall in walls)


@lru_cache(maxsize=4096)
def point(walls: Walls, count: int, shift: int = 0) -> Optional[tuple[Fraction, ...]]:
    """A point with ``v.x > 0`` for all walls and every scale growing, the last being 1; None where there is none."""
    positive = tuple(tuple(int(i == j) for i in range(count)) for j in range(count))
    levels = [_unique((*walls, *positive))]
    if None in levels:
        return None
    for index in range(count - 1):  # eliminate all scales but the last
        known = levels[-1]
        assert known is not None
        levels.append(_eliminated(known, index))
        if levels[-1] is None:
            return None
    x = [Fraction(0)] * count
    x[-1] = Fraction(1)
    for index in reversed(range(count - 1)):
        bounds = levels[index]
        assert bounds is not None
        low, high = Fraction(0), None
        for wall in bounds:
            rest = along(wall[index + 1 :], x[index + 1 :])
            if wall[index] > 0:
                low = max(low, -rest / wall[index])
            elif wall[index] < 0:
                high = rest / -wall[index] if high is None else min(high, rest / -wall[index])
        share = SHARES[(index + shift) % len(SHARES)]
        x[index] = low + 1 + share if high is None else low + (high - low) * share
    return tuple(x)


def _unique(walls: Sequence[Vector]) -> Optional[tuple[Vector, ...]]:
    """Each inequality once; None where one can't hold."""
    found = dict.fromkeys(map(smallest, walls))
    if any(all(x <= 0 for x in wall) for wall in found):  # every scale grows
        return None
    return tuple(wall for wall in found if min(wall) < 0 or sum(x != 0 for x in wall) == 1)


def _eliminated(walls: Sequence[Vector], index: int) -> Optional[tuple[Vector, ...]]:
    above = [wall for wall in walls if wall[index] > 0]
    below = [wall for wall in walls if wall[index] < 0]
    rest = [wall for wall in walls if wall[index] == 0]
    pairs = [tuple(a * -y[index] + b * x[index] for a, b in zip(x, y)) for x in above for y in below]
    return _unique([*rest, *pairs])


def possible(walls: Sequence[Vector], count: int) -> bool:
    """Whether strict inequalities hold somewhere as every scale grows."""
    return point(tuple(walls), count) is not None


__all__ = ["Cell", "Walls", "facets", "fan", "generic", "point", "possible"]
