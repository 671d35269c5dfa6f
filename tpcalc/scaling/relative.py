"""Multipliers between two places from the same formulas at each.

Copied into files generated from formulas (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tpcalc.scaling.weight import Weight

# A weight whose numbers have a meaning as ratios of two places alone, and the size of its
# init as such a number; its draw is that of the base.
Relative = tuple[Weight, float]


def between(base: Sequence[Relative], target: Sequence[Relative]) -> list[Weight]:
    """What each number is at the target, over what it is at the base."""
    return [
        replace(
            there,
            draw=(
                there.draw[0],
                there.draw[1] * wanted / before,
                there.draw[2] * wanted / before,
            ),
            init=there.init / here.init,
            lr=there.lr / here.lr,
            weight_decay=there.weight_decay / here.weight_decay,
            eps=None if there.eps is None or here.eps is None else there.eps / here.eps,
            clip=there.clip / here.clip,
            forward=there.forward / here.forward,
            slices=tuple(
                (dim, start, length, x / y)
                for (dim, start, length, x), (*_, y) in zip(there.slices, here.slices, strict=True)
            ),
        )
        for (here, before), (there, wanted) in zip(base, target, strict=True)
    ]


def whole(size: float) -> int:
    """A length that its formula gives; raises ValueError where it is none."""
    found = round(size)
    if found < 0 or abs(found - size) > 1e-6 * max(1.0, abs(size)):
        raise ValueError(f"a length comes out as {size:g}; choose another place")
    return found


def check_place(place: Mapping[str, int], periods: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError unless ``place`` gives positive whole numbers, each depth whole
    periods: from a depth that was traced on, in steps."""
    for name, value in place.items():
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ValueError(f"{name}={value!r} is not a positive whole number")
        traced, step = periods.get(name, (value, 1))
        rest = (value - traced) % step
        if rest:
            raise ValueError(
                f"{name}={value} is no whole number of periods: the model repeats "
                f"itself every {step} blocks; choose {value - rest} or "
                f"{value - rest + step}"
            )
