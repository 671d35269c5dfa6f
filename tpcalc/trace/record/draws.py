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
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, Optional

import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record.ops import Op
from tpcalc.trace.record.where import SourceLines, is_users

__all__ = ["ANY", "UNIT", "Drawn", "Generators", "Range", "decides", "range_of", "typical"]


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


#: Up to so many numbers, a draw is made one that is as even as can be.
FEW = 16


def typical(op: Op, args: tuple, drawn: Any) -> Any:
    """A draw of a few numbers, as even as draws of many are: one for each sample of a batch that drops a branch.

    Two samples are both dropped once in a hundred at a rate of 1/10, and all weights of the branch would seem unused.
    """
    if not isinstance(drawn, torch.Tensor) or not drawn.is_floating_point() or not 0 < drawn.numel() <= FEW:
        return drawn
    if range_of(op, args, None) is UNIT:
        places = drawn.flatten().argsort().argsort().to(drawn.dtype)
        return drawn.copy_(((places + 0.5) / drawn.numel()).view_as(drawn))
    if op.name.startswith("aten.bernoulli") and not drawn.any():
        drawn.view(-1)[0] = 1.0
    return drawn


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


_MODEL_RUNS_IN = "tpcalc.trace.record.run"
_UNNAMED = "__main__"
"""In place of the file of what was typed in."""
_NUMPY = ("rand", "random", "random_sample", "ranf", "sample", "uniform")


class Generators:
    """Random generators of Python and numpy: the common ones, and those that a model or its files hold."""

    def __init__(self, model: Any) -> None:
        self.drew = False
        """Whether one has drawn."""
        numpy: Any = getattr(sys.modules.get("numpy"), "random", None)
        self._numpy = numpy
        self._states: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [(random.getstate, random.setstate)]
        if numpy is not None:
            self._states.append((numpy.get_state, numpy.set_state))
        for generator in _held(model, (random.Random, *((numpy.Generator, numpy.RandomState) if numpy else ()))):
            if isinstance(generator, random.Random):
                self._states.append((generator.getstate, generator.setstate))
            elif isinstance(generator, numpy.RandomState):
                self._states.append((generator.get_state, generator.set_state))
            else:
                bits = generator.bit_generator
                self._states.append((partial(getattr, bits, "state"), partial(setattr, bits, "state")))

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """While it is held, draws are marked as such; then the generators are put back, so that each width has the
        same."""
        before = [get() for get, _ in self._states]
        with ExitStack() as stack:
            for name in ("random", "uniform"):
                _replace(stack, random, name, _marked(getattr(random, name), name == "uniform"))
            for name in _NUMPY if self._numpy is not None else ():
                _replace(stack, self._numpy, name, _marked(getattr(self._numpy, name), name == "uniform"))
            for kind in (random.Random, random.SystemRandom):  # what all their methods draw by
                _replace(stack, kind, "random", self._noted(_marked(kind.random, False)))
                _replace(stack, kind, "getrandbits", self._noted(kind.getrandbits))
            _replace(stack, random, "_urandom", self._noted(vars(random)["_urandom"]))  # secrets, seeds of none
            try:
                yield
            finally:
                for (get, put), state in zip(self._states, before, strict=True):
                    if not _alike(get(), state):
                        self.drew = True
                        put(state)

    def _noted(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            self.drew |= not _importing()
            return draw(*args)

        return noted


def _alike(a: Any, b: Any) -> bool:
    """Whether two states of a generator are the same: numbers, arrays of them, and what holds those."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, tuple) and not {int}.issuperset(map(type, a)):
        return len(a) == len(b) and all(map(_alike, a, b))
    return bool(a.tobytes() == b.tobytes() if hasattr(a, "tobytes") else a == b)


def _held(model: Any, kinds: tuple[type, ...]) -> list[Any]:
    """Objects of these kinds among the attributes of the modules of a model, their classes and their files."""
    places = [vars(module) for module in model.modules()]
    for kind in {base for module in model.modules() for base in type(module).__mro__}:
        names = getattr(vars(kind).get("forward"), "__globals__", {})
        if is_users(names.get("__file__") or _UNNAMED):
            places += [names, vars(kind)]
            owners = [value for value in list(names.values()) if issubclass(type(value), type)]
            places += [vars(owner) for owner in owners if owner.__module__ == kind.__module__]
    found = {id(value): value for place in places for value in list(place.values()) if issubclass(type(value), kinds)}
    return [value for value in found.values() if not isinstance(value, random.SystemRandom)]


def _replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def _marked(draw: Callable[..., Any], bounded: bool) -> Callable[..., Any]:
    def marked(*args: Any, **kwargs: Any) -> Any:
        value = draw(*args, **kwargs)
        if not isinstance(value, float) or _by_themselves():
            return value
        ends = [float(end) for end in args[:2]] if bounded and len(args) > 1 else [0.0, 1.0]
        return Drawn(value, ANY if bounded and kwargs else Range(min(ends), max(ends)))

    return marked


def _importing() -> bool:
    """Whether a module draws as it is imported (sympy, which torch imports at need, does): no model decides by that."""
    frame: Optional[FrameType] = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") != _MODEL_RUNS_IN:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _by_themselves() -> bool:
    """Whether Python's own module draws, for another distribution."""
    callers = sys._getframe(2), sys._getframe(3)  # the second if the first is that which notes
    return any(frame.f_globals is vars(random) for frame in callers)
