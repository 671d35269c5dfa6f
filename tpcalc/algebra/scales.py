"""Several scales that grow at once: their names and symbols, and the points at which a model is built.

One scale alone, the width ``n``, needs none of this: its points are plain whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Union

from tpcalc.errors import TargetError

#: The symbol of each scale that has a usual name; any other scale goes by its own name.
SYMBOLS = {
    "width": "n",
    "depth": "L",
    "heads": "h",
    "head_dim": "d",
    "ffn": "f",
    "experts": "E",
    "top_k": "k",
    "vocab": "V",
    "rank": "r",
    "batch": "B",
    "length": "T",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """What grows: ``name`` as the factory calls it (``head_dim``), ``symbol`` as formulas do (``d``).

    ``depth``: it counts repeated blocks, and is no axis of any tensor.
    """

    name: str
    depth: bool = False

    @property
    def symbol(self) -> str:
        return SYMBOLS.get(self.name, self.name)


class Point(tuple[int, ...]):
    """The value of each scale at one place where a model is built, in the order of ``names``.

    Shown as ``width=128, depth=2``; equal to the tuple of its values.
    """

    names: tuple[str, ...]

    def __new__(cls, names: Sequence[str], values: Iterable[int]) -> Point:
        point = super().__new__(cls, values)
        point.names = tuple(names)
        return point

    @property
    def by_name(self) -> dict[str, int]:
        return dict(zip(self.names, self))

    def with_(self, **values: int) -> Point:
        """The same place but for some scales."""
        return Point(self.names, ({**self.by_name, **values}[name] for name in self.names))

    def __str__(self) -> str:
        return scales_text(self.by_name)

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Point], tuple[tuple[str, ...], tuple[int, ...]]]:
        return Point, (self.names, tuple(self))


#: Where a model is built: a width, or the values of several scales.
Place = Union[int, Point]


def star(scales: Mapping[str, Sequence[int]], also: Iterable[Mapping[str, int]] = ()) -> tuple[Point, ...]:
    """The places at which sizes of several scales are told apart: the base, each scale alone at its other values, those
    asked for besides, and one where all of them have moved.

    ``scales``: name -> ascending values, of which the first is the base.  At the last place each scale has its second
    value, so that ``h + d`` is told from ``h d``.
    """
    names = tuple(scales)
    base = Point(names, (values[0] for values in scales.values()))
    alone = [base.with_(**{name: value}) for name, values in scales.items() for value in values[1:]]
    moved = Point(names, (values[min(1, len(values) - 1)] for values in scales.values()))
    besides = [_place(names, values) for values in also]
    return tuple(dict.fromkeys((base, *alone, *(place for place in besides if place != moved), moved)))


def _place(names: Sequence[str], values: Mapping[str, int]) -> Point:
    lacking = [name for name in names if name not in values]
    if lacking:
        raise TargetError(
            f"{scales_text(values)} gives no {lacking[0]}, along which the model is traced too; give {lacking[0]} there"
        )
    return Point(names, (values[name] for name in names))


def ray(points: Sequence[Point], name: str) -> tuple[tuple[int, Point], ...]:
    """The places of a star at which no scale but ``name`` has left the base, by its values."""
    base = points[0]
    index = base.names.index(name)
    found = [p for p in points if all(x == y for i, (x, y) in enumerate(zip(p, base)) if i != index)]
    return tuple(sorted((p[index], p) for p in found))


def scales_text(scales: Mapping[str, int]) -> str:
    """``width=128, depth=2``, of the width alone ``width=128``."""
    return ", ".join(f"{name}={value}" for name, value in scales.items())


def place_of(scales: Mapping[str, int]) -> Place:
    """The place of scales given by name; of the width alone the width."""
    return scales["width"] if scales.keys() == {"width"} else Point(tuple(scales), scales.values())


def scales_of(place: Place | Mapping[str, int]) -> dict[str, int]:
    """What :func:`place_of` takes: a place as scales by name, and these as they are."""
    if isinstance(place, int):
        return {"width": place}
    return place.by_name if isinstance(place, Point) else dict(place)


def place_text(place: Place) -> str:
    """``width 128``, or ``width=128, depth=2``."""
    return str(place) if isinstance(place, Point) else f"width {place}"


def magnitude(place: Place) -> int:
    """How large a place is: the width, or the product of all scales."""
    return prod(place) if isinstance(place, Point) else place


__all__ = [
    "SYMBOLS", "Place", "Point", "Scale", "magnitude", "place_of", "place_text", "ray", "scales_of", "scales_text",
    "star",
]  # fmt: skip
