"""Numbers in the code that depend on the depth: 1/L, 1/sqrt(2 L), each with its power."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from tpcalc.algebra.fit import fit_scalar
from tpcalc.algebra.order import fraction
from tpcalc.errors import AlignError, FitError
from tpcalc.program.raw import RawNode, RawTrace
from tpcalc.trace.depth.insertion import Stretch, inserted, tokens

__all__ = ["powers"]


def powers(
    base: RawTrace, others: Sequence[RawTrace], loops: Sequence[Stretch], scale: str, depths: Sequence[int]
) -> list[tuple[int, str, Fraction]]:
    """Node of ``base``, ``scale`` and power of every number that differs between the depths at the same op.

    ``others``: the model with one period less and one more in each of ``loops``; ``depths`` are those of ``base`` and
    of them.  Raises AlignError for a number that is no power of the depth.
    """
    found = list(_powers(base, others, loops, scale, depths, "forward"))
    if not found:
        return []
    # the way back has the same numbers once more, and loops of its own
    back = inserted(*(tokens(trace, "backward") for trace in (others[0], base)))
    more = inserted(*(tokens(trace, "backward") for trace in (base, others[1])))
    if back is None or more is None:
        raise AlignError(
            f"numbers in the code depend on {scale}, and the backward pass does not repeat itself along with the "
            f"blocks; leave them out: the rules have them"
        )
    return found + list(_powers(base, others, back, scale, depths, "backward"))


def _powers(
    base: RawTrace,
    others: Sequence[RawTrace],
    loops: Sequence[Stretch],
    scale: str,
    depths: Sequence[int],
    phase: str,
) -> Iterator[tuple[int, str, Fraction]]:
    start = next((i for i, node in enumerate(base.nodes) if node.phase == phase), 0)
    lines = [[node for node in trace.nodes if node.phase == phase] for trace in (base, *others)]
    for index, node in enumerate(lines[0]):
        twins = [line[_moved(index, loops, by)] for line, by in zip(lines[1:], (-1, 1))]
        for values in zip(*(_floats(each) for each in (node, *twins))):
            if len(set(values)) == 1:
                continue
            what = f"a number of {node.op} ({node.where})"
            samples = tuple(sorted(zip(depths, values)))
            try:
                power = fraction(fit_scalar(samples, what).order)
            except FitError as error:
                shown = ", ".join(f"{value:.6g} at {scale} {depth}" for depth, value in samples)
                raise AlignError(
                    f"{what} is no power of {scale}: {shown}; write it as k * {scale}**p, or as a weight"
                ) from error
            if power:
                yield start + index, scale, power


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
