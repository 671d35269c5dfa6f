"""The tensor program: a small immutable IR of one model at every width at once.

A :class:`Program` holds the ATen calls of the model's forward pass and of autograd's backward pass,
in execution order, with every size and constant replaced by its exact function of the width.
``print(program)`` lists it as a tensor program, one line a node, every value typed by its growing
axes (``S`` scalar, ``V`` vector, ``M`` matrix, ``T`` tensor)::

    h3 : V[n] = mm(x2 : V[n], blocks.0.q.weight : M[n, n])   # blocks.0.q, gpt.py:41

:func:`tpcalc.program.checker.check` runs after every construction and raises ProgramError on a broken invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Optional

import networkx as nx

from tpcalc.algebra.form import Compass
from tpcalc.algebra.scales import Scale
from tpcalc.program.checker import check
from tpcalc.program.nodes import InitLaw, Node, Ref, Value, Weight, references
from tpcalc.program.repeat import Copies, Repeats
from tpcalc.show import Shown

__all__ = ["InitLaw", "Node", "Program", "Ref", "Value", "Weight", "references"]


@dataclass(frozen=True, repr=False)
class Program(Shown):
    """An immutable tensor program.  Built by :func:`tpcalc.trace`; checked on construction."""

    widths: tuple[Any, ...]
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
    compass: Optional[Compass] = None
    """Of several scales: along which direction their orders are compared."""
    repeats: Repeats = Repeats()
    copies: Copies = Copies()
    """Of a deep model of which few blocks were traced: all its weights."""

    def __post_init__(self) -> None:
        check(self.nodes, self.values, self.weights, self.outputs)

    def along(self, compass: Compass) -> Program:
        """The same program with its orders compared along another direction."""
        values = {vid: value.along(compass) for vid, value in self.values.items()}
        weights = tuple(replace(w, shape=tuple(size.along(compass) for size in w.shape)) for w in self.weights)
        nodes = tuple(node.along(compass) for node in self.nodes)
        return replace(self, values=values, weights=weights, nodes=nodes, compass=compass)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What grows."""
        return (Scale("width"),) if self.compass is None else self.compass.scales

    @property
    def ends(self) -> tuple[int, ...]:
        """Where the backward pass starts: the loss, or without one the outputs."""
        return self._outputs if self.loss is None else (self.loss,)

    @property
    def results(self) -> tuple[int, ...]:
        """What the model computes: its outputs, or the loss where it gives nothing else."""
        return self._outputs if self.outputs or self.loss is None else (self.loss,)

    @property
    def _outputs(self) -> tuple[int, ...]:
        return tuple(vid for _, vid in self.outputs)

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

    @cached_property
    def from_inputs(self) -> frozenset[int]:
        """Values of the forward pass that depend on the inputs, also by an index."""
        found = set(self.inputs)
        for node in self.nodes:
            if node.phase == "forward" and not found.isdisjoint(node.refs):
                found.update(out for out in node.outputs if out is not None)
        return frozenset(found)

    def uses(self, weight: Weight) -> tuple[Node, ...]:
        """The forward nodes that read ``weight`` directly."""
        return tuple(node for node in self.consumers.get(weight.value, ()) if node.phase == "forward")

    def graph(self) -> "nx.DiGraph[Any]":
        """Data flow as a networkx graph over node indices, leaves as ``("value", id)``."""
        graph: nx.DiGraph[Any] = nx.DiGraph()
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
