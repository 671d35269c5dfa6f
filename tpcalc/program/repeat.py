"""Where a program repeats itself: loops over a depth, of which a few periods were traced and stand for all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

__all__ = ["Copies", "Loop", "Repeats"]


@dataclass(frozen=True, slots=True)
class Loop:
    """A stretch of the forward pass that is the same ``period`` nodes again and again, as often as ``scale`` says.

    It runs from node ``start`` over ``count`` whole periods and what of one more is the same (``end`` is behind it).
    Where a period is said to begin is arbitrary.
    """

    scale: str
    start: int
    period: int
    end: int

    @property
    def count(self) -> int:
        """Whole periods that were traced."""
        return (self.end - self.start) // self.period

    def covers(self, node: int) -> bool:
        return self.start <= node < self.end

    def place(self, node: int) -> int:
        """Which node of a period it is; the same for those in front of the loop that belong to a cut period."""
        return (node - self.start) % self.period

    def turn(self, node: int) -> int:
        """In which period it is, from 0; less than 0 in front of the loop."""
        return (node - self.start) // self.period


@dataclass(frozen=True, slots=True)
class Repeats:
    """The loops of a program, and its numbers that depend on a depth: node, scale, power.

    ``periods``: scale -> how much deeper the model is by one period (2 where two kinds of layers take turns).
    """

    loops: tuple[Loop, ...] = ()
    constants: tuple[tuple[int, str, Fraction], ...] = ()
    periods: tuple[tuple[str, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loops)


@dataclass(frozen=True)
class Copies:
    """The weights of a deep model of which few blocks were traced: all names of each, and the traced one that it is."""

    weights: tuple[tuple[tuple[str, ...], str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.weights)

    @cached_property
    def blocks(self) -> dict[str, str]:
        """Path of each block of the deep model -> that of the traced block: names up to where they differ."""
        found = {}
        for names, source in self.weights:
            deep, traced = names[0].split("."), source.split(".")
            differ = [place for place, (x, y) in enumerate(zip(deep, traced)) if x != y]
            if differ:
                end = differ[-1] + 1
                found[".".join(deep[:end])] = ".".join(traced[:end])
        return found

    @cached_property
    def source(self) -> dict[str, str]:
        """Each name of the deep model -> the traced one."""
        return {name: source for names, source in self.weights for name in names}
