"""A deep model traced with few of its blocks, where only the width is asked for.

No exponent in the width depends on how many blocks there are, so a model whose depth can be chosen need not be traced
with all of them: as few as repeat themselves (:mod:`tpcalc.trace.depth.traced`) stand for the rest.  The model is
*built* at its full depth, for its names and to see that its blocks are those that were traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from tpcalc.algebra.scales import Point
from tpcalc.errors import TpcalcError
from tpcalc.program.ir import Program
from tpcalc.program.names import starred
from tpcalc.program.repeat import Copies
from tpcalc.trace.built import Built
from tpcalc.trace.depth.alike import check_alike
from tpcalc.trace.depth.names import Periods
from tpcalc.trace.depth.traced import MOST, period_of
from tpcalc.trace.target import name_of

__all__ = ["WORTH", "folded"]

#: Up to this depth it takes no longer to trace all blocks than to find out which stand for the others.
WORTH = MOST


def folded(
    factory: Callable[..., Any],
    widths: Sequence[int],
    depth: int,
    trace: Callable[..., Program],
    *,
    loss: Optional[Callable[..., Any]] = None,
    told: bool = False,
) -> Optional[Program]:
    """The program of ``factory(width=..., depth=depth)`` with few blocks, whose rules are told of all by ``copies``.

    ``trace``: :func:`tpcalc.trace.trace`.  None where there is nothing to fold: the model is shallow, or its blocks
    do not repeat themselves.  Its forward pass is recorded at its full depth to see that they do, unless blocks are
    ``told`` apart by what their modules hold, as those of a library are.
    """
    try:
        few, one = period_of(factory, Point(("width",), (min(widths),)), "depth", loss)
    except TpcalcError:  # the model at few blocks is none; that at all may be one
        return None
    # where most tensors are too large to be made for real
    place = Point(("width", "depth"), (max(widths), depth))
    for step in range(one, MOST // 2 + 1, one):  # layers may take turns in what no op shows
        at = max(few, 2 * step) + step  # a first period, a last, and one that stands for those between
        at += (depth - at) % step
        if at >= depth:
            return None
        try:
            periods = Periods(factory, place.with_(depth=at), {"depth": step})
            found = _copies(periods, Built.at(factory, place))
        except TpcalcError:
            return None
        if found is not None:
            break
    else:
        return None
    try:
        if not told:
            check_alike(factory, periods, place, loss)
    except TpcalcError:
        return None

    def at_few(width: int) -> Any:
        return factory(width=width, depth=at)

    at_few.__name__ = name_of(factory)
    at_few.assumptions = getattr(factory, "assumptions", [])  # type: ignore[attr-defined]
    program = trace(at_few, widths, loss=loss)
    said = f"{at} blocks were traced and stand for all {depth}"
    return replace(program, copies=found, assumptions=(*program.assumptions, said))


def _copies(periods: Periods, whole: Built) -> Optional[Copies]:
    """All weights of the whole model; None where a block is another one than that whose copy it should be."""
    sources = periods.sources(whole)
    found = Copies(tuple((names, sources[names[0]]) for names in whole.tied.values()))
    return found if _alike(found.blocks, whole.kinds(), periods.built.kinds()) else None


def _alike(blocks: Mapping[str, str], whole: Mapping[str, Any], shallow: Mapping[str, Any]) -> bool:
    """Whether every module of the whole model is what it is in the block whose copy it is.

    What differs among the blocks that were traced, as an index does, may differ among their copies; numbers may follow
    the depth, all alike.
    """
    varying: dict[tuple[str, str], set[Any]] = {}
    for path, (_, held) in shallow.items():
        for key, value in held.items():
            varying.setdefault((starred(path), key), set()).add(value)
    copied: dict[tuple[str, str], Any] = {}
    for source, (kind, held) in _sources(blocks, whole):
        own, known = shallow.get(source, (None, {}))
        if kind is not own or held.keys() != known.keys():
            return False
        for key, value in held.items():
            if isinstance(value, (bool, str)):
                same = value == known[key]
            else:
                same = len(varying[starred(source), key]) > 1 or copied.setdefault((source, key), value) == value
            if not same:
                return False
    return True


def _sources(blocks: Mapping[str, str], whole: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, kind in whole.items():
        parts = path.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        prefix = next((prefix for prefix in prefixes if prefix in blocks), None)
        yield (path if prefix is None else blocks[prefix] + path[len(prefix) :]), kind
