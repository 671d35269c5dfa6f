"""A program with the orders of its values, as columns of whole numbers: small enough for a page with 30,000 nodes.

Text and orders stand once, in ``texts`` and ``orders``; columns hold their places there, -1 for none.  Values and nodes
are referred to by their places in ``values`` and ``nodes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Optional

from pydantic import Field

from tpcalc.algebra.form import Form
from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import MINUS_INFINITY, Order
from tpcalc.algebra.text import power_text
from tpcalc.derive.explained import ValueReason
from tpcalc.document.model import Count, Row, Several
from tpcalc.program.ir import Node, Program, Ref

SCHEMA: Final = "tpcalc.drawing/1"

#: Stands in the text of a call for its next tensor.
TENSOR = "\ufffc"


class OrderRow(Row):
    """a size that values have"""

    size: str
    """as a power, n^1/2"""
    at: Optional[float]
    """its exponent, of several scales where all but depths grow alike (of depths alone where these do); null: zero"""


class ValueColumns(Row):
    name: list[Count]
    kind: list[Count]
    """op, weight, input, ..."""
    type: list[Count]
    """S, V, M or T by the number of growing axes, with their sizes"""
    shape: list[Count]
    init: list[int]
    """order at init"""
    trained: list[int]
    """order after training"""
    change: list[int]
    """order of the change"""
    budget: list[int]
    """order that the change may have; -1 where nothing asks for one"""
    rule: list[int]
    """the law that gives the trained order, in words"""
    decides: list[int]
    """the value whose order decides; -1 at leaves"""


class NodeColumns(Row):
    op: list[Count]
    call: list[Count]
    """the call as text, an object replacement character for each tensor"""
    module: list[Count]
    source: list[Count]
    backward: list[Literal[0, 1]]
    inputs: list[list[Count]]
    """the values of the call, in the order of its text"""
    outputs: list[list[Count]]


class DrawnWeight(Row):
    name: str
    aliases: Several[str]
    value: Count
    gradient: int
    """the value that is its gradient, -1 without one"""


class DrawnOutput(Row):
    path: str
    value: Count


class DrawingDocument(Row):
    """A tensor program and the orders of its values."""

    version: Literal["tpcalc.drawing/1"] = Field(alias="schema")
    texts: list[str]
    orders: list[OrderRow]
    values: ValueColumns
    nodes: NodeColumns
    weights: list[DrawnWeight]
    inputs: list[Count]
    outputs: list[DrawnOutput]
    loss: int
    """the value that is the loss, -1 without one"""


class _Places(dict[Any, int]):
    """Where each thing stands that was asked for, in the order of asking."""

    def __missing__(self, thing: Any) -> int:
        place = self[thing] = len(self)
        return place


def drawing(program: Program, reasons: Mapping[int, ValueReason]) -> DrawingDocument:
    """The document of a program and what :func:`~tpcalc.derive.explained.explain_all` says of its values."""
    return _Drawing(program, reasons).document()


def places_of(program: Program) -> dict[int, int]:
    """Id of a value -> its place in the drawing."""
    return {vid: place for place, vid in enumerate(program.values)}


class _Drawing:
    def __init__(self, program: Program, reasons: Mapping[int, ValueReason]) -> None:
        self.program, self.reasons = program, reasons
        self.texts, self.orders = _Places(), _Places()
        self.at = places_of(program)

    def document(self) -> DrawingDocument:
        program = self.program
        values = ValueColumns(**_columns(ValueColumns, map(self.value, program.values)))
        nodes = NodeColumns(**_columns(NodeColumns, map(self.node, program.nodes)))
        return DrawingDocument(
            schema=SCHEMA,
            values=values,
            nodes=nodes,
            weights=[
                DrawnWeight(name=w.name, aliases=list(w.aliases), value=self.at[w.value], gradient=self.place(w.grad))
                for w in program.weights
            ],
            inputs=[self.at[vid] for vid in program.inputs],
            outputs=[DrawnOutput(path=path, value=self.at[vid]) for path, vid in program.outputs],
            loss=self.place(program.loss),
            texts=list(self.texts),
            orders=[OrderRow(size=size, at=at) for size, at in self.orders],
        )

    def place(self, vid: Optional[int]) -> int:
        return -1 if vid is None else self.at[vid]

    def value(self, vid: int) -> dict[str, int]:
        value, why = self.program.values[vid], self.reasons.get(vid)
        known = ("init", "trained", "change", "budget")
        shape = "[" + ", ".join(map(str, value.shape)) + "]"
        return {
            "name": self.texts[self.program.value_name(vid)],
            "kind": self.texts[value.kind],
            "type": self.texts[value.type_text],
            "shape": self.texts[shape],
            **{key: -1 if why is None else self.order(getattr(why, key)) for key in known},
            "rule": -1 if why is None else self.texts[why.rule],
            "decides": -1 if why is None or why.decides is None else self.at[why.decides],
        }

    def node(self, node: Node) -> dict[str, Any]:
        args = [_argument(arg) for arg in node.args] + [f"{key}={_argument(arg)}" for key, arg in node.kwargs]
        return {
            "op": self.texts[node.short_op],
            "call": self.texts[f"{node.short_op}({', '.join(args)})"],
            "module": self.texts[node.module],
            "source": self.texts[node.source],
            "backward": int(node.phase != "forward"),
            "inputs": [self.at[ref] for ref in node.refs],
            "outputs": [self.at[out] for out in node.outputs if out is not None],
        }

    def order(self, order: Optional[Order]) -> int:
        if order is None:
            return -1
        return self.orders[power_text(order, self.program.symbol), _number(order)]


def _columns(model: type[Row], rows: Iterator[dict[str, Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {key: [] for key in model.model_fields}
    for row in rows:
        for key, value in row.items():
            columns[key].append(value)
    return columns


def _argument(arg: Any) -> str:
    if isinstance(arg, Ref):
        return TENSOR
    if isinstance(arg, tuple):
        return "[" + ", ".join(map(_argument, arg)) + "]"
    return f"{arg:g}" if isinstance(arg, float) else str(arg).replace(TENSOR, " ")


def _number(order: Order) -> Optional[float]:
    if order is MINUS_INFINITY:
        return None
    if isinstance(order, Form):
        return float(Formula(order.compass.scales, ((order.coordinates,),)).alike)
    return float(order)


__all__ = ["SCHEMA", "TENSOR", "DrawingDocument", "drawing", "places_of"]
