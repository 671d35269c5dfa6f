"""Where a program repeats itself: loops over a depth, of which a few periods were traced and stand for all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Loop", "Repeats"]


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
