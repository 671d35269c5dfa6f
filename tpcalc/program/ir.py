"""The tensor program: a small immutable IR of one model at every width at once.

A :class:`Program` holds the ATen calls of the model's forward pass and of autograd's backward pass,
in execution order, with every size and constant replaced by its exact function of the width.
``print(program)`` lists it as a tensor program, one line a node, every value typed by its growing
axes (``S`` scalar, ``V`` vector, ``M`` matrix, ``T`` tensor)::

    h3 : V[n] = mm(x2 : V[n], blocks.0.q.weight : M[n, n])   # blocks.0.q, gpt.py:41

:func:`Program.check` runs after every construction and raises ProgramError on a broken invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Iterator, Optional

import networkx as nx

from tpcalc.algebra.size import Scalar, Size
from tpcalc.errors import ProgramError
from tpcalc.show import Shown


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor argument of a node: the id of a :class:`Value`."""

    id: int


@dataclass(frozen=True, slots=True)
class InitLaw:
    """How the code itself initialises a weight, read at one width.

    ``kind``: ``random`` (zero-mean entries of standard deviation ``std``), ``constant`` (all entries equal
    ``mean``, ``std`` 0) or ``unknown``.  ``call`` says where it was read: ``"normal_(std=0.02)"``.
    """

    kind: str
    std: float = 0.0
    mean: float = 0.0
    call: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor.  ``kind`` as in :class:`tpcalc.program.raw.RawValue`; ``magnitude`` is the largest
    absolute entry as a function of the width where the content was computed for real, else None."""

    id: int
    shape: tuple[Size, ...]
    dtype: str
    kind: str = "op"
    name: str = ""
    magnitude: Optional[Scalar] = None

    @property
    def growths(self) -> tuple:
        """Growth of each axis."""
        return tuple(size.growth for size in self.shape)

    @property
    def growth(self) -> Fraction:
        """Total growth of its axes."""
        return sum(self.growths, Fraction(0))

    @property
    def type_text(self) -> str:
        """``V[n]``: S, V, M or T by the number of growing axes, with the growing sizes."""
        growing = [str(size) for size in self.shape if size.growth > 0]
        return "SVMT"[min(len(growing), 3)] + (f"[{', '.join(growing)}]" if growing else "")


@dataclass(frozen=True, slots=True)
class Node:
    """One ATen call.  Arguments are Ref, Size, Scalar, int, float, bool, str, None or nested tuples."""

    index: int
    op: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    outputs: tuple[Optional[int], ...]
    module: str = ""
    source: str = ""
    phase: str = "forward"

    @property
    def refs(self) -> Iterator[int]:
        """Ids of every tensor argument, in order."""
        yield from references(self.args)
        for _, value in self.kwargs:
            yield from references(value)

    @property
    def short_op(self) -> str:
        """``add`` for ``aten.add.Tensor``; the namespace of other libraries stays."""
        return self.op.removeprefix("aten.").rsplit(".", 1)[0]

    @property
    def where(self) -> str:
        """``"attn.q, gpt.py:41"``: module and source line, whichever are known."""
        return ", ".join(part for part in (self.module, self.source) if part)


def references(arg: Any) -> Iterator[int]:
    """Ids of every tensor in an argument of a node."""
    if isinstance(arg, Ref):
        yield arg.id
    elif isinstance(arg, tuple):
        for item in arg:
            yield from references(item)


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter.  Tied parameters are one Weight with several ``aliases`` and several uses.

    ``grad`` is the value id of its gradient, None where autograd gave none.
    ``init`` holds the code's own init law at each traced width, empty where it was not read.
    """

    name: str
    value: int
    shape: tuple[Size, ...]
    trainable: bool = True
    grad: Optional[int] = None
    aliases: tuple[str, ...] = ()
    module_type: str = ""
    init: tuple[tuple[int, InitLaw], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True, repr=False)
class Program(Shown):
    """An immutable tensor program.  Built by :func:`tpcalc.trace`; checked on construction."""

    widths: tuple[int, ...]
    nodes: tuple[Node, ...]
    values: dict[int, Value]
    weights: tuple[Weight, ...]
    inputs: tuple[int, ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    seeds: tuple[tuple[int, int], ...] = ()
    grads: dict[int, int] = field(default_factory=dict)
    loss: Optional[int] = None
    assumptions: tuple[str, ...] = ()
    symbol: str = "n"

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ProgramError unless every value is defined once and before it is used."""
        defined = {vid for vid, value in self.values.items() if value.kind != "op"}
        for node in self.nodes:
            for ref in node.refs:
                if ref not in self.values:
                    raise ProgramError(f"node {node.index} ({node.op}, {node.where}) uses the unknown value {ref}")
                if ref not in defined:
                    raise ProgramError(
                        f"node {node.index} ({node.op}, {node.where}) uses value {ref} before it is made"
                    )
            for out in node.outputs:
                if out is None:
                    continue
                if out in defined:
                    raise ProgramError(f"node {node.index} ({node.op}, {node.where}) redefines value {out}")
                if out not in self.values:
                    raise ProgramError(f"node {node.index} ({node.op}, {node.where}) makes the unknown value {out}")
                defined.add(out)
        names = [name for weight in self.weights for name in weight.names]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ProgramError(f"weight name {twice[0]} appears twice")
        for weight in self.weights:
            for vid in (weight.value, weight.grad):
                if vid is not None and vid not in defined:
                    raise ProgramError(f"weight {weight.name} refers to the undefined value {vid}")
        for _, vid in self.outputs:
            if vid not in defined:
                raise ProgramError(f"output value {vid} is never made")

    @cached_property
    def weight_of_value(self) -> dict[int, Weight]:
        return {weight.value: weight for weight in self.weights}

    @cached_property
    def producers(self) -> dict[int, Node]:
        """Value id -> the node that makes it."""
        return {out: node for node in self.nodes for out in node.outputs if out is not None}

    @cached_property
    def consumers(self) -> dict[int, tuple[Node, ...]]:
        """Value id -> the nodes that read it, in order."""
        table: dict[int, list[Node]] = {}
        for node in self.nodes:
            for ref in dict.fromkeys(node.refs):
                table.setdefault(ref, []).append(node)
        return {vid: tuple(nodes) for vid, nodes in table.items()}

    def uses(self, weight: Weight) -> tuple[Node, ...]:
        """The forward nodes that read ``weight`` directly."""
        return tuple(node for node in self.consumers.get(weight.value, ()) if node.phase == "forward")

    def graph(self) -> "nx.DiGraph":
        """Data flow as a networkx graph over node indices, leaves as ``("value", id)``."""
        graph = nx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.index, node=node)
            for ref in node.refs:
                producer = self.producers.get(ref)
                graph.add_edge(producer.index if producer else ("value", ref), node.index, value=ref)
        return graph

    def value_name(self, vid: int) -> str:
        """``h12`` for a computed value, ``g12`` for one of the backward pass, else its own name."""
        value = self.values[vid]
        if value.name:
            return value.name
        producer = self.producers.get(vid)
        letter = "g" if producer is not None and producer.phase == "backward" else "h" if producer is not None else "x"
        return f"{letter}{vid}"
