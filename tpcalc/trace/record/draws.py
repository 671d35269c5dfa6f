"""Random numbers that code reads while it is traced: a branch on one would put a single draw into the program.

A number drawn in the forward pass may be computed with.  What it decides must not be traced: a layer that is dropped
at random would count as unused.  Comparisons that come out the same for every draw (a rate of 0) decide nothing.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Optional

from tpcalc.errors import TraceError
from tpcalc.trace.record.ops import Op
from tpcalc.trace.record.where import SourceLines

__all__ = ["ANY", "UNIT", "Drawn", "Range", "decides", "drawing", "range_of", "states"]


class Range(NamedTuple):
    """Between which numbers a draw lies."""

    low: float
    high: float

    def settles(self, other: Any) -> bool:
        """Whether a comparison with ``other`` comes out the same for every draw."""
        return isinstance(other, (int, float)) and not self.low < other < self.high


UNIT = Range(0.0, 1.0)
"""Of a uniform draw, which is never 1."""
ANY = Range(-math.inf, math.inf)


_COMPARE = ("aten.lt.", "aten.le.", "aten.gt.", "aten.ge.", "aten.eq.", "aten.ne.")
_UNIT = ("aten.rand.", "aten.rand_like.")


def range_of(op: Op, args: tuple, drawn: Optional[Range]) -> Optional[Range]:
    """The range of what an op makes of random numbers, or draws itself; None where it is the same for every draw."""
    if op.random:
        unit = op.name.startswith(_UNIT) or (op.name.startswith("aten.uniform_") and len(args) == 1)
        return UNIT if unit else ANY
    if drawn is None or op.views or op.name.startswith(("aten.clone.", "aten._to_copy.")):
        return drawn
    if op.name.startswith(_COMPARE) and len(args) > 1 and drawn.settles(args[1]):
        return None
    return ANY


def decides(where: str) -> TraceError:
    """The error for code that decides something by a random number."""
    return TraceError(
        f"{where} decides by a random number what runs, and a trace would see one draw (a layer dropped at random "
        "would count as unused); put that module into evaluation mode in the factory (module.eval()), or set its "
        "rate to 0"
    )


class Drawn(float):
    """A number drawn at random: it computes as any other, but refuses to decide."""

    range: Range

    def __new__(cls, value: float, within: Range) -> "Drawn":
        drawn = super().__new__(cls, value)
        drawn.range = within
        return drawn

    def _compared(self, compare: Callable[[Any, Any], Any], other: Any) -> Any:
        if isinstance(other, (int, float)) and (isinstance(other, Drawn) or not self.range.settles(other)):
            raise decides(SourceLines().current(sys._getframe(2)) or "the model")
        return compare(self, other)

    def __lt__(self, other: Any) -> Any:
        return self._compared(float.__lt__, other)

    def __le__(self, other: Any) -> Any:
        return self._compared(float.__le__, other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(float.__gt__, other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(float.__ge__, other)

    def __eq__(self, other: Any) -> Any:
        return self._compared(float.__eq__, other)

    def __ne__(self, other: Any) -> Any:
        return self._compared(float.__ne__, other)

    __hash__ = float.__hash__

    def __bool__(self) -> bool:
        raise decides(SourceLines().current(sys._getframe(1)) or "the model")


_NUMPY = ("rand", "random", "random_sample", "ranf", "sample", "uniform")


@contextmanager
def drawing() -> Iterator[None]:
    """While it is held, what Python's and numpy's generators draw is marked as drawn."""
    numpy = sys.modules.get("numpy")
    places = [(random, "random"), (random, "uniform")]
    places += [(numpy.random, name) for name in _NUMPY] if numpy is not None else []
    with ExitStack() as stack:
        for owner, name in places:
            original = getattr(owner, name)
            stack.callback(setattr, owner, name, original)
            setattr(owner, name, _marked(original, name == "uniform"))
        yield


def _marked(draw: Callable[..., Any], bounded: bool) -> Callable[..., Any]:
    def marked(*args: Any, **kwargs: Any) -> Any:
        value = draw(*args, **kwargs)
        if not isinstance(value, float):
            return value
        ends = [float(end) for end in args[:2]] if bounded and len(args) > 1 else [0.0, 1.0]
        return Drawn(value, ANY if bounded and kwargs else Range(min(ends), max(ends)))

    return marked


def states() -> tuple[Any, ...]:
    """How far Python's and numpy's generators have come."""
    numpy: Optional[Any] = sys.modules.get("numpy")
    if numpy is None:
        return (random.getstate(),)
    kind, key, position, *_ = numpy.random.get_state()
    return random.getstate(), kind, key.tobytes(), position
