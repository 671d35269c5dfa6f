"""From the traces at several widths to one :class:`Program`: zip them node by node, then fit.

The traces must be the same graph: same ops, same order, same value ids, same structure of arguments.
Only shapes, numbers and contents may differ, and those are fitted as functions of the width
(:mod:`tpcalc.algebra.fit`).  A difference is an AlignError that names the first op that differs, its
module and its line; a number that fits nothing is a FitError that names where it stands.

Most of a trace does not depend on the width, so equality is tried first everywhere and equal
arguments are reused as recorded: an int or float constant over the widths stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from tpcalc.algebra.form import Compass
from tpcalc.algebra.scales import Place, Point, place_text, ray
from tpcalc.algebra.size import Size
from tpcalc.algebra.star import Fits, StarFits
from tpcalc.errors import AlignError, FitError
from tpcalc.program.ir import Node, Program, Ref, Value, Weight
from tpcalc.program.raw import RawNode, RawTrace, RawValue
from tpcalc.trace.fixed import few_of, signs_of, size_of

__all__ = ["align"]

_REMEDY = (
    "the model's graph depends on the width here (a branch, a loop over a size, a number that the factory drew at "
    "random anew for each, or a module that vanishes when two sizes agree); choose widths that take the same path, or "
    "make it independent of the width"
)
_LIST = (
    "the scale says how long a list of modules is; modules that follow one another are a depth (name the scale so), "
    "modules that stand beside one another (experts) can be a scale if their weights are stacked in one tensor"
)


def align(traces: Sequence[RawTrace], compass: Optional[Compass] = None) -> Program:
    """One Program of all ``traces``, in ascending order of width; of several scales in the order of their star.

    ``compass``: the scales, where there are several.
    Raises AlignError where the traces are not one graph, FitError where a size or constant is no power of n.
    """
    if compass is None:
        traces = sorted(traces, key=lambda trace: trace.width)
    widths = tuple(trace.width for trace in traces)
    if len(set(widths)) != len(widths) or len(widths) < 3:
        raise AlignError(f"alignment needs traces at three or more different widths, got {list(widths)}; add widths")
    return _Aligner(widths, list(traces), compass).program()


class _Aligner:
    """Holds the traces and the assumptions made while fitting them."""

    def __init__(self, widths: tuple[Place, ...], traces: list[RawTrace], compass: Optional[Compass]) -> None:
        self.widths = widths
        points = [place for place in widths if isinstance(place, Point)]
        self.compass, self.fits = compass, Fits() if compass is None else StarFits(compass, points)
        self.traces = traces
        self.first = traces[0]
        self.assumptions = list(dict.fromkeys(text for trace in traces for text in trace.assumptions))
        self._shapes: dict[tuple, tuple[Size, ...]] = {}
        self._makers: Optional[dict[int, RawNode]] = None

    def program(self) -> Program:
        nodes = self._nodes()
        values = {vid: self._value(vid) for vid in self._same_ids()}
        weights = self._weights()
        self._check_scales()
        if weights and not any(size.growth for value in values.values() for size in value.shape):
            raise AlignError(
                f"nothing in the model grows with the width: all its {len(weights)} weights and every value have the "
                f"same shape at widths {', '.join(map(str, self.widths))}; make its layers of the width that the "
                f"factory is called with, as nn.Linear(8, width)"
            )
        for field in ("inputs", "outputs", "seeds", "grads", "loss"):
            self._same_field(field)
        return Program(
            widths=self.widths,
            nodes=nodes,
            values=values,
            weights=weights,
            inputs=tuple(self.first.inputs),
            outputs=tuple(self.first.outputs),
            seeds=tuple(self.first.seeds),
            grads=dict(self.first.grads),
            loss=self.first.loss,
            assumptions=tuple(self.assumptions),
            compass=self.compass,
        )

    def _check_scales(self) -> None:
        """Raise AlignError for a scale of several along which the model stays the same."""
        by_place = dict(zip(self.widths, self.traces))
        points = [place for place in self.widths if isinstance(place, Point)]
        for name in points[0].names if points else ():
            others = [place for _, place in ray(points, name) if place != points[0]]
            if others and all(_same(self.first, by_place[place]) for place in others):
                raise AlignError(
                    f"{name} changes nothing: the model is the same at {points[0]} and at {others[0]}; drop this "
                    f"scale, or make something of its size"
                )

    # -- structure -------------------------------------------------------------------------------

    def _nodes(self) -> tuple[Node, ...]:
        lists = [trace.nodes for trace in self.traces]
        nodes = []
        for index, raws in enumerate(zip(*lists)):
            first = raws[0]
            for width, raw in zip(self.widths[1:], raws[1:]):
                if (
                    raw.op != first.op
                    or raw.outputs != first.outputs
                    or raw.module != first.module
                    or raw.phase != first.phase
                ):
                    raise self._different_nodes(index, width)
            args = first.args
            if any(raw.args != args for raw in raws):
                args = self._join(tuple(raw.args for raw in raws), index, "")
            kwargs = first.kwargs
            if any(raw.kwargs != kwargs for raw in raws):
                kwargs = self._join(tuple(raw.kwargs for raw in raws), index, "")
            place = first.module, first.source, first.phase, first.derivative, first.random
            nodes.append(Node(index, first.op, args, kwargs, first.outputs, *place))
        lengths = [len(nodes) for nodes in lists]
        for width, length in zip(self.widths[1:], lengths[1:]):
            if length != lengths[0]:
                raise self._different_nodes(len(nodes), width)
        return tuple(nodes)

    def _different_nodes(self, index: int, width: Place) -> AlignError:
        """The AlignError for node ``index``, which differs between the first width and ``width``."""
        trace = self.traces[self.widths.index(width)]
        prefix, remedy = "", _REMEDY
        if [raw.names for raw in trace.weights] != [raw.names for raw in self.first.weights]:
            if self.compass is not None and _list_grows(self.first, trace):
                remedy = _LIST
            # other weights shift every value id: what differs first is the first op or module that does
            prefix = _weights_text(self.first, trace) + "; "
            pairs = zip(self.first.nodes, trace.nodes)
            same = (a.op == b.op and a.module == b.module and a.phase == b.phase for a, b in pairs)
            index = next((i for i, alike in enumerate(same) if not alike), min(len(self.first.nodes), len(trace.nodes)))
        here = self.first.nodes[index] if index < len(self.first.nodes) else None
        there = trace.nodes[index] if index < len(trace.nodes) else None

        def describe(node: Optional[RawNode], fallback: Optional[RawNode]) -> str:
            if node is None:
                return "the end of the trace"
            where = node.where or (fallback.where if fallback is not None and fallback.op == node.op else "")
            return f"{node.op} ({where})" if where else node.op

        return AlignError(
            f"{prefix}operation {index} is {describe(here, there)} at {place_text(self.widths[0])} but "
            f"{describe(there, here)} at {place_text(width)}: {remedy}"
        )

    def _different(self, what: str, index: Optional[int] = None) -> AlignError:
        place = ""
        if index is not None:
            node = self.first.nodes[index]
            where = node.where
            place = f" of operation {index}, {node.op}" + (f" ({where})" if where else "")
        return AlignError(f"{what}{place}: {_REMEDY}")

    def _same_field(self, field: str) -> None:
        expected = getattr(self.first, field)
        for trace in self.traces[1:]:
            if getattr(trace, field) != expected:
                raise self._different(
                    f"the {field} of the model differ between widths {self.widths[0]} and {trace.width}"
                )

    def _same_ids(self) -> Sequence[int]:
        ids = self.first.values.keys()
        for trace in self.traces[1:]:
            if trace.values.keys() != ids:
                odd = min(trace.values.keys() ^ ids)
                holder = self.first if odd in ids else trace
                raw = holder.values[odd]
                raise self._different(
                    f"tensor {raw.name or odd} ({raw.kind}) exists at {place_text(holder.width)} only, of widths "
                    f"{self.widths[0]} and {trace.width}"
                )
        return list(ids)

    # -- arguments -------------------------------------------------------------------------------

    def _join(self, items: tuple, index: int, path: str) -> Any:
        """One argument out of its values at every width."""
        first = items[0]
        if all(item is first for item in items):
            return first
        if isinstance(first, tuple):
            if not all(isinstance(item, tuple) and len(item) == len(first) for item in items):
                raise self._different(f"an argument differs in length between the widths {list(self.widths)}", index)
            return tuple(self._join(parts, index, path) for parts in zip(*items))
        if any(isinstance(item, (Ref, str, bool, type(None))) for item in items):
            if all(type(item) is type(first) and item == first for item in items):
                return first
            raise self._different(
                f"an argument is {' / '.join(_text(item) for item in items)} at widths "
                f"{' / '.join(map(str, self.widths))}",
                index,
            )
        if all(item == first for item in items) or all(item != item for item in items):
            return first
        samples = tuple(zip(self.widths, items))
        node = self.first.nodes[index]
        what = f"an argument of {node.op}" + (f" ({node.where})" if node.where else "")
        if all(isinstance(item, int) for item in items):
            return self.fits.size(samples, what)
        if all(isinstance(item, (int, float)) for item in items):
            return self.fits.scalar(tuple((width, float(item)) for width, item in samples), what)
        raise self._different(f"an argument has values of different kinds {[_text(item) for item in items]}", index)

    # -- values ----------------------------------------------------------------------------------

    def _value(self, vid: int) -> Value:
        raws = [trace.values[vid] for trace in self.traces]
        first = raws[0]
        for width, raw in zip(self.widths[1:], raws[1:]):
            if (
                raw.dtype != first.dtype
                or raw.kind != first.kind
                or raw.name != first.name
                or len(raw.shape) != len(first.shape)
            ):
                raise self._different(
                    f"tensor {self._name(vid)} is {_raw_text(first)} at {place_text(self.widths[0])} but "
                    f"{_raw_text(raw)} at {place_text(width)}"
                )
        shape = self._shape(tuple(raw.shape for raw in raws), vid)
        magnitude, note = size_of(self.widths, raws, lambda: self._name(vid), self.fits)
        if note:
            self.assumptions.append(note)
        signs = "" if magnitude is None else signs_of(self.widths, raws, self.fits)
        few, note = few_of(self.widths, raws, shape, lambda: self._name(vid), self.fits)
        if note:
            self.assumptions.append(note)
        return Value(vid, shape, first.dtype, first.kind, first.name, magnitude, signs, few)

    def _shape(self, shapes: tuple[tuple[int, ...], ...], vid: int) -> tuple[Size, ...]:
        known = self._shapes.get(shapes)
        if known is None:
            sizes = []
            for axis, lengths in enumerate(zip(*shapes)):
                try:
                    sizes.append(self.fits.size(tuple(zip(self.widths, lengths))))
                except FitError:
                    # Only now is the name worth its making.
                    self.fits.size(tuple(zip(self.widths, lengths)), f"axis {axis} of {self._name(vid)}")
            known = self._shapes[shapes] = tuple(sizes)
        return known

    def _name(self, vid: int) -> str:
        """``"buffer rope.inv_freq"`` or ``"the result of aten.mm.default (blocks.0, gpt.py:41)"``."""
        raw = self.first.values[vid]
        if raw.name:
            return f"{raw.kind} {raw.name}"
        if self._makers is None:
            self._makers = {out: node for node in self.first.nodes for out in node.outputs if out is not None}
        node = self._makers.get(vid)
        if node is None:
            return f"{raw.kind} {vid}"
        where = node.where
        return f"the result of {node.op}" + (f" ({where})" if where else "")

    # -- weights ---------------------------------------------------------------------------------

    def _weights(self) -> tuple[Weight, ...]:
        first_names = [raw.names for raw in self.first.weights]
        for trace in self.traces[1:]:
            names = [raw.names for raw in trace.weights]
            if names != first_names:
                raise self._different(_weights_text(self.first, trace))
        weights = []
        for raws in zip(*(trace.weights for trace in self.traces)):
            first = raws[0]
            for width, raw in zip(self.widths[1:], raws[1:]):
                if (raw.value, raw.trainable, raw.grad, raw.slope) != (
                    first.value,
                    first.trainable,
                    first.grad,
                    first.slope,
                ):
                    raise self._different(
                        f"weight {first.names[0]} is used or trained differently at widths {self.widths[0]} and {width}"
                    )
            weights.append(
                Weight(
                    name=first.names[0],
                    value=first.value,
                    shape=self._shape(tuple(raw.shape for raw in raws), first.value),
                    trainable=first.trainable,
                    grad=first.grad,
                    slope=first.slope,
                    aliases=tuple(first.names[1:]),
                    module_type=first.module_type,
                    init=self._init(first.names),
                )
            )
        return tuple(weights)

    def _init(self, names: tuple[str, ...]) -> tuple:
        for name in names:
            laws = [trace.init.get(name) for trace in self.traces]
            if all(law is not None for law in laws):
                return tuple(zip(self.widths, laws))
        return ()


def _text(item: Any) -> str:
    return f"value {item.id}" if isinstance(item, Ref) else repr(item)


def _raw_text(raw: RawValue) -> str:
    return f"{raw.kind} {raw.dtype} of {len(raw.shape)} axes"


def _list_grows(first: RawTrace, other: RawTrace) -> bool:
    """Whether the weights of one trace that the other lacks are more of those in a numbered list that both have."""
    here, there = ({name for raw in trace.weights for name in raw.names} for trace in (first, other))
    both = {_numbered(name) for name in here & there}
    return all(_numbered(name) in both for name in here ^ there)


def _numbered(name: str) -> tuple[str, ...]:
    return tuple("#" if part.isdigit() else part for part in name.split("."))


def _weights_text(first: RawTrace, other: RawTrace) -> str:
    """One sentence about the first weight that two traces do not share."""
    here = {name for raw in first.weights for name in raw.names}
    there = {name for raw in other.weights for name in raw.names}
    for holder, lacking, names in ((first, other, here - there), (other, first, there - here)):
        if names:
            return f"weight {min(names)} exists at {place_text(holder.width)} but not at {place_text(lacking.width)}"
    for a, b in zip(first.weights, other.weights):
        if a.names != b.names:
            return (
                f"weights are tied or ordered differently: {' = '.join(a.names)} at {place_text(first.width)} but "
                f"{' = '.join(b.names)} at {place_text(other.width)}"
            )
    return f"the weights differ between widths {first.width} and {other.width}"


def _same(a: RawTrace, b: RawTrace) -> bool:
    """Whether two traces of one graph agree in all sizes, numbers and initial weights."""
    shapes = all(value.shape == b.values[vid].shape for vid, value in a.values.items() if vid in b.values)
    return (
        shapes and a.init == b.init and all((x.args, x.kwargs) == (y.args, y.kwargs) for x, y in zip(a.nodes, b.nodes))
    )
