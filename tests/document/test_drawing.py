"""A program as columns: it says what the program says."""

from __future__ import annotations

import json

import tpcalc
from tests.report.made import small_program
from tests.support.models import MODELS, program
from tests.support.stacks import pre
from tpcalc.derive.explained import explain_all
from tpcalc.document.drawing import TENSOR, DrawingDocument, drawing


def test_every_value_node_and_edge_is_there():
    traced = program(MODELS["gpt"])
    found = drawing(traced, explain_all(traced).values)
    texts, values, nodes = found.texts, found.values, found.nodes
    ids = list(traced.values)
    assert [texts[place] for place in values.name] == [traced.value_name(vid) for vid in ids]
    assert [texts[place] for place in values.type] == [traced.values[vid].type_text for vid in ids]
    assert (
        len({len(column) for column in vars(values).values()})
        == len({len(column) for column in vars(nodes).values()})
        == 1
    )
    for place, node in enumerate(traced.nodes):
        assert [ids[value] for value in nodes.inputs[place]] == list(node.refs)
        assert [ids[value] for value in nodes.outputs[place]] == [out for out in node.outputs if out is not None]
        assert texts[nodes.call[place]].count(TENSOR) == len(nodes.inputs[place])
        assert (texts[nodes.op[place]], texts[nodes.module[place]]) == (node.short_op, node.module)
        assert nodes.backward[place] == (node.phase == "backward")
    assert [(w.name, ids[w.value], ids[w.gradient]) for w in found.weights] == [
        (w.name, w.value, w.grad) for w in traced.weights
    ]


def test_orders_and_laws():
    traced = program(MODELS["mlp"])
    reasons = explain_all(traced).values
    found = drawing(traced, reasons)
    for place, vid in enumerate(traced.values):
        order = found.orders[found.values.trained[place]]
        assert order.at == float(reasons[vid].trained) and order.size == f"n^{reasons[vid].trained}".replace(
            "n^0", "1"
        ).removesuffix("^1")
        assert found.texts[found.values.rule[place]] == reasons[vid].rule
        assert (found.values.budget[place] < 0) == (reasons[vid].budget is None)
    assert found.loss == -1 and [found.texts[found.values.name[place]] for place in found.inputs] == ["x"]


def test_of_several_scales():
    traced = tpcalc.trace(pre, scales={"width": (16, 32, 64), "depth": (2, 3)})
    found = drawing(traced, explain_all(traced).values)
    sizes = {order.size: order.at for order in found.orders}
    assert sizes["n^-1/2 L^-1"] == -0.5, "widths come first"
    assert sizes["L^-1"] == -1.0


def test_without_reasons_and_with_odd_names():
    found = drawing(small_program(), {})
    assert found.values.trained == [-1] * 5 and found.orders == []
    assert found.texts[found.values.name[0]] == 'odd "name"\\w'
    calls = [found.texts[place] for place in found.nodes.call]
    assert (
        calls[0] == f"mm({TENSOR}, {TENSOR})"
        and calls[1].endswith("x=-inf)")
        and calls[2].endswith("[n, 4, True, None])")
    )


def test_it_is_read_again():
    traced = program(MODELS["mlp"])
    data = drawing(traced, explain_all(traced).values).data()
    assert DrawingDocument.model_validate(json.loads(json.dumps(data))).data() == data
