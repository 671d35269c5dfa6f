"""Are the blocks of a deep model those of the shallow one that was traced?  Its forward pass is recorded to see.

Names and classes do not tell: a block may divide by another number than the others, or ask for its own index.  So each
op of the deep model is held to the one that it repeats, and its numbers to those one period earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.scales import Point
from tpcalc.errors import AlignError
from tpcalc.program.ir import references
from tpcalc.program.raw import RawNode
from tpcalc.program.repeat import Loop
from tpcalc.trace.built import Built
from tpcalc.trace.depth.insertion import inserted, resized, tokens
from tpcalc.trace.depth.names import Periods
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory

__all__ = ["check_alike"]

#: Numbers of two blocks that differ by more are not those of one (rates of dropout follow the index of a block).
NEAR = 1.5


def check_alike(
    factory: Callable[..., Any],
    periods: Periods,
    many: Point,
    loss: Optional[Callable[..., Any]] = None,
) -> None:
    """Raise AlignError unless the model at ``many`` is that of ``periods`` with whole periods more, or less.

    Its sizes are those that were traced.
    """
    few, steps = periods.traced, periods.steps
    depths = {scale: many.by_name[scale] for scale in steps}
    place = few.with_(**depths)
    if place == few:
        return
    own, _ = _seen(factory, few, periods, loss)
    loops = []
    for scale, step in steps.items():
        shallow, _ = _seen(factory, few.with_(**{scale: few.by_name[scale] - step}), periods, loss)
        loops += [Loop(scale, *stretch) for stretch in inserted(shallow, own) or ()]
    stretches = [
        (loop, (depths[loop.scale] - few.by_name[loop.scale]) // steps[loop.scale])
        for loop in sorted(loops, key=lambda loop: -loop.end)
    ]
    expected = resized(own, [((loop.start, loop.period, loop.end), more) for loop, more in stretches])
    found, nodes = _seen(factory, place, periods, loss)
    for node, token, wanted in zip(nodes, found, expected):
        if token != wanted:
            raise _other(node, many, few)
    if len(found) != len(expected):
        raise _other(nodes[min(len(nodes), len(expected)) - 1], many, few)
    for node, before in _pairs(nodes, stretches):
        if not all(_near(x, y) for x, y in zip(_numbers(node), _numbers(before))):
            raise _other(node, many, few)


def _seen(
    factory: Callable[..., Any], place: Point, periods: Periods, loss: Optional[Callable[..., Any]]
) -> tuple[list[Any], list[RawNode]]:
    """What each op of the forward pass is, with the weights that it takes by their place in a period; and the ops."""
    trace = record(partial(call_factory, factory, place), place, loss=loss, backward=False, sources=False)
    classes, sources = periods.alike(), periods.sources(Built.at(factory, place))
    names = {weight.value: classes[sources[weight.names[0]]] for weight in trace.weights}
    nodes = [node for node in trace.nodes if node.phase == "forward"]
    met = ([names[ref] for ref in references((node.args, node.kwargs)) if ref in names] for node in nodes)
    return list(zip(tokens(trace), map(tuple, met))), nodes


def _pairs(nodes: Sequence[RawNode], stretches: Sequence[tuple[Loop, int]]) -> Iterator[tuple[RawNode, RawNode]]:
    """Each node of a loop with the one a period earlier; ``stretches``: the last loop first, with its periods more."""
    for loop, more in stretches:
        moved = sum(earlier * other.period for other, earlier in stretches if other.end <= loop.start)
        for index in range(loop.start + moved + loop.period, min(loop.end + moved + more * loop.period, len(nodes))):
            yield nodes[index], nodes[index - loop.period]


def _numbers(node: RawNode) -> Iterator[float]:
    waiting: list[Any] = [node.args, tuple(value for _, value in node.kwargs)]
    while waiting:
        arg = waiting.pop(0)
        if isinstance(arg, tuple):
            waiting.extend(arg)
        elif isinstance(arg, float):
            yield arg


def _near(x: float, y: float) -> bool:
    return x == y or (x * y > 0 and 1 / NEAR <= x / y <= NEAR) or (x != x and y != y)


def _other(node: RawNode, many: Point, few: Point) -> AlignError:
    return AlignError(
        f"the model at {many} is not that at {few} with more of the same blocks: {node.op} "
        f"({node.where or 'the model'}) is another op there, or has another number, than in the block before; blocks "
        f"must be alike, or take turns from the first on"
    )
