"""A program as JSON: what ``tpcalc trace --format json`` prints.

Arguments of a node keep their kind: ``{"value": id}`` is a tensor, ``{"size": "4*n"}`` an exact size,
``{"scalar": "0.5*n^(1/2)"}`` a constant that depends on the width, ``{"float": "-inf"}`` a number JSON cannot hold.
"""

from __future__ import annotations

import math
from typing import Any

from tpcalc.algebra.scales import Point
from tpcalc.algebra.size import Scalar, Size
from tpcalc.program.ir import InitLaw, Node, Program, Ref, Value, Weight

SCHEMA = "tpcalc-program/1"


def program_json(program: Program) -> dict[str, Any]:
    """The whole program: values, weights and nodes refer to each other by id."""
    return {
        "schema": SCHEMA,
        "symbol": program.symbol,
        "widths": [_place(place) for place in program.widths],
        "weights": [_weight(weight) for weight in program.weights],
        "values": [_value(program, value) for value in program.values.values()],
        "nodes": [_node(node) for node in program.nodes],
        "inputs": list(program.inputs),
        "outputs": [{"path": path, "value": vid} for path, vid in program.outputs],
        "seeds": [{"output": output, "seed": seed} for output, seed in program.seeds],
        "gradients": [{"value": value, "gradient": gradient} for value, gradient in program.grads.items()],
        "loss": program.loss,
        "assumptions": list(program.assumptions),
    }


def _place(place: Any) -> Any:
    """A width, or the values of several scales by name."""
    return place.by_name if isinstance(place, Point) else place


def _value(program: Program, value: Value) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": program.value_name(value.id),
        "kind": value.kind,
        "type": value.type_text,
        "shape": [str(size) for size in value.shape],
        "growths": [str(growth) for growth in value.growths],
        "dtype": value.dtype,
        "magnitude": None if value.magnitude is None else str(value.magnitude),
    }


def _weight(weight: Weight) -> dict[str, Any]:
    return {
        "name": weight.name,
        "aliases": list(weight.aliases),
        "value": weight.value,
        "gradient": weight.grad,
        "shape": [str(size) for size in weight.shape],
        "trainable": weight.trainable,
        "module_type": weight.module_type,
        "init": [{"width": _place(width), **_init(law)} for width, law in weight.init],
    }


def _init(law: InitLaw) -> dict[str, Any]:
    return {"kind": law.kind, "std": _argument(law.std), "mean": _argument(law.mean), "call": law.call}


def _node(node: Node) -> dict[str, Any]:
    return {
        "index": node.index,
        "op": node.op,
        "phase": node.phase,
        "module": node.module,
        "source": node.source,
        "args": [_argument(arg) for arg in node.args],
        "kwargs": {key: _argument(value) for key, value in node.kwargs},
        "outputs": list(node.outputs),
    }


def _argument(arg: Any) -> Any:
    if isinstance(arg, Ref):
        return {"value": arg.id}
    if isinstance(arg, Size):
        return {"size": str(arg)}
    if isinstance(arg, Scalar):
        return {"scalar": str(arg)}
    if isinstance(arg, tuple):
        return [_argument(item) for item in arg]
    if isinstance(arg, float) and not math.isfinite(arg):
        return {"float": str(arg)}
    return arg if arg is None or isinstance(arg, (bool, int, float, str)) else str(arg)
