"""Do the multipliers of the forward pass reach every use of their weights?

``forward_`` puts a multiplier where a module holds its weight.  Code that keeps the parameter itself (in a list, in a
closure) or walks over ``parameters()`` reads past it, and would train another model without a word.  So the model is
recorded once more, at the target width with its multipliers on: each weight that has one may enter nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from tpcalc.algebra.order import ONE
from tpcalc.algebra.scales import Place
from tpcalc.algebra.size import Scalar
from tpcalc.errors import ScalingError
from tpcalc.program.ir import Node, references
from tpcalc.program.raw import RawNode
from tpcalc.rules import REGISTRY
from tpcalc.rules.structures import Scale
from tpcalc.scaling.result import Scaling
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory


def check_reached(
    scaling: Scaling, factory: Callable[..., Any], place: Place, loss: Optional[Callable[..., Any]]
) -> None:
    """Of the model at ``place``, for which the multipliers are.

    Raise ScalingError, naming the weight and the place, where the forward pass reads one past its multiplier."""
    multipliers = {name: weight.forward for name, weight in scaling.items() if weight.forward != 1.0}
    if not multipliers:
        return

    def call() -> tuple[Any, Any]:
        model, inputs = call_factory(factory, place)
        scaling.forward_(model)
        return model, inputs

    trace = record(call, place, loss=loss, backward=False)
    held = {weight.value: scaling.table_name(weight.names[0]) for weight in trace.weights}
    for node in trace.nodes:
        for value in references((node.args, node.kwargs)):
            name = held.get(value)
            if name in multipliers and not _multiplies(node, multipliers[name]):
                where = node.where or "the model"
                raise ScalingError(
                    f"{name} is read past its multiplier by {node.op} in {where}, where the code holds the parameter "
                    f"itself; read it from its module each time, or use the gauge init"
                )


def _multiplies(node: RawNode, number: float) -> bool:
    """Whether a node takes its tensor times ``number``: were the number one that grows as n, so would the result."""
    if number not in node.args:
        return False
    grown = tuple(Scalar(number, ONE) if arg == number else arg for arg in node.args)
    call = Node(0, node.op, grown, node.kwargs, node.outputs)
    found = REGISTRY.structure(call, {})
    return isinstance(found[0], Scale) and found[0].order == ONE
