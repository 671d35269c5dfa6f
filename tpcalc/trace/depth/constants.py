"""Numbers in the code that depend on the depth: 1/L, 1/sqrt(2 L), each with its power."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tpcalc.algebra.fit import fit_scalar
from tpcalc.algebra.order import fraction
from tpcalc.errors import AlignError
from tpcalc.program.raw import RawNode, RawTrace
from tpcalc.trace.depth.insertion import Stretch

__all__ = ["powers"]


def powers(
    base: RawTrace, others: Sequence[RawTrace], loops: Sequence[Stretch], scale: str, depths: Sequence[int]
) -> list[tuple[int, str, Fraction]]:
    """Node of ``base``, ``scale`` and power of every number that differs between the depths at the same op.

    ``others``: the model with one period less and one more in each of ``loops``; ``depths`` are those of ``base`` and
    of them.  Raises AlignError for a number that is no power of the depth.
    """
    lines = [_forward(base), *(_forward(trace) for trace in others)]
    found = []
    for index, node in enumerate(lines[0]):
        twins = [line[_moved(index, loops, by)] for line, by in zip(lines[1:], (-1, 1))]
        numbers = [_floats(each) for each in (node, *twins)]
        for values in zip(*numbers):
            if len(set(values)) == 1:
                continue
            what = f"a number of {node.op} ({node.where})"
            samples = tuple(sorted(zip(depths, values)))
            try:
                power = fraction(fit_scalar(samples, what).order)
            except Exception as error:
                shown = ", ".join(f"{value:.6g} at {scale} {depth}" for depth, value in samples)
                raise AlignError(
                    f"{what} is no power of {scale}: {shown}; write it as k * {scale}**p, or as a weight"
                ) from error
            if power:
                found.append((index, scale, power))
    return found


def _forward(trace: RawTrace) -> list[RawNode]:
    return [node for node in trace.nodes if node.phase == "forward"]


def _moved(index: int, loops: Sequence[Stretch], by: int) -> int:
    """The place of a node where each loop has one period less (-1) or more (1).

    The last period stands for those that come; the one before it for those that go.
    """
    moved = index
    for start, period, end in loops:
        if index >= (end if by > 0 else start + period):
            moved += by * period
    return moved


def _floats(node: RawNode) -> list[Any]:
    found: list[Any] = []

    def walk(arg: Any) -> None:
        if isinstance(arg, tuple):
            for item in arg:
                walk(item)
        elif isinstance(arg, float):
            found.append(arg)

    walk(node.args)
    walk(tuple(value for _, value in node.kwargs))
    return found
