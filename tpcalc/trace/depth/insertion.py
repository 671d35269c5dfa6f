"""Which part of a trace a deeper model has once more: found by comparing two depths, op by op, without any name.

A model that is deeper by a period runs the same ops with the ops of that period put in somewhere.  Where its loop
stands follows: what is put in equals what stands before it.  Several loops that one depth makes longer (an encoder and
a decoder) have a piece put in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from tpcalc.errors import AlignError
from tpcalc.program.raw import RawNode, RawTrace, Ref

__all__ = ["Stretch", "grown", "inserted", "resized", "tokens"]

#: Of a loop: its first node, the length of a period, and what is behind its last node.
Stretch = tuple[int, int, int]


def tokens(trace: RawTrace, phase: str = "forward") -> list[Any]:
    """What each op of a pass is, whatever it acts on: name, numbers but for floats, shapes of results."""
    return [_token(node, trace) for node in trace.nodes if node.phase == phase]


def _token(node: RawNode, trace: RawTrace) -> Any:
    made = [None if out is None else (trace.values[out].shape, trace.values[out].dtype) for out in node.outputs]
    return node.op, _masked(node.args), tuple((key, _masked(value)) for key, value in node.kwargs), tuple(made)


def _masked(arg: Any) -> Any:
    """An argument without what differs between periods: which values, which floats."""
    if isinstance(arg, tuple):
        return tuple(_masked(item) for item in arg)
    if isinstance(arg, Ref):
        return "value"
    # 1 and True and 1.0 are equal, and not the same argument
    return "number" if isinstance(arg, float) else (type(arg).__name__, arg)


def inserted(shallow: Sequence[Any], deep: Sequence[Any]) -> Optional[tuple[Stretch, ...]]:
    """The loops of ``deep``, each of which has one period less in ``shallow``; None where that is not how they differ.

    Nothing is put in where both are the same.
    """
    pieces = _pieces(list(shallow), list(deep), 0)
    if pieces is None:
        return None
    return tuple(_stretch(deep, start, length) for start, length in pieces)


def grown(deep: Sequence[Any], loops: Sequence[Stretch], times: int) -> list[Any]:
    """The tokens with so many periods more in each loop."""
    return resized(deep, [(loop, times) for loop in loops])


def resized(items: Sequence[Any], loops: Iterable[tuple[Stretch, int]]) -> list[Any]:
    """What stands in loops, with so many periods more or less in each.

    The first periods and the last stay what they are; what stands between is put in again, or left out.  Raises
    AlignError where a loop has less than one period then.
    """
    found = list(items)
    for (first, period, end), more in sorted(loops, key=lambda loop: -loop[0][2]):
        last = end - period
        if more >= 0:
            found[last:last] = found[last - period : last] * more
        elif last + more * period >= first:
            del found[last + more * period : last]
        else:
            raise AlignError("the model has less than one period of its blocks there; go deeper")
    return found


def _pieces(shallow: list[Any], deep: list[Any], offset: int) -> Optional[list[tuple[int, int]]]:
    """Start and length of what ``deep`` has besides, each piece a copy of what stands before it.

    ``offset`` is added to all starts.
    """
    more = len(deep) - len(shallow)
    if more < 0:
        return None
    same = _common(shallow, deep)
    if more == 0:
        return [] if same == len(deep) else None
    for length in _lengths(shallow, deep, same, more):
        # the piece may have begun earlier: what follows the loop may begin as a period does
        if deep[same - length : same] != deep[same : same + length]:
            continue
        before = same - length
        rest = _pieces(shallow[before:], deep[before + length :], offset + before + length)
        if rest is not None:
            return [(offset + same, length), *rest]
    return None


def _lengths(shallow: list[Any], deep: list[Any], same: int, more: int) -> Sequence[int]:
    """Possible lengths of the first piece, likely ones first: all that is more, then those that lead on furthest."""
    if same == len(shallow):
        return range(min(more, same), 0, -1)
    onward = [length for length in range(1, min(more, same) + 1) if deep[same + length] == shallow[same]]
    return sorted(onward, key=lambda length: (length != more, -_common(shallow[same:], deep[same + length :]), length))


def _common(xs: Sequence[Any], ys: Sequence[Any]) -> int:
    """How many tokens the two begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(xs, ys)) if x != y), min(len(xs), len(ys)))


def _stretch(deep: Sequence[Any], start: int, period: int) -> Stretch:
    """The whole run of tokens that are the same one period later, around a piece."""
    first = start - period
    while first > 0 and deep[first - 1] == deep[first - 1 + period]:
        first -= 1
    end = start + period
    while end < len(deep) and deep[end] == deep[end - period]:
        end += 1
    return first, period, end
