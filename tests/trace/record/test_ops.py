"""Facts about ATen ops, read from their schemas."""

import pytest
import torch
from torch import nn

import tpcalc
from tpcalc.errors import TraceError
from tpcalc.trace.record import op_of

aten = torch.ops.aten


@pytest.mark.parametrize(
    "func, facts",
    [
        (aten.add.Tensor, {}),
        (aten.add_.Tensor, {"writes": [0], "returned": [0], "returns_self": True}),
        (aten.add.out, {"writes": ["out"], "returned": ["out"]}),
        (aten.transpose.int, {"views": True, "aliases": [0]}),
        (aten.transpose_.default, {"writes": [0], "returned": [0], "reshapes": True}),
        (aten.split.Tensor, {"cuts": True}),
        (aten.normal_.default, {"writes": [0], "returned": [0], "returns_self": True, "random": True}),
        (aten.empty.memory_format, {"empty": True, "constructs": True}),
        (aten.arange.default, {"constructs": True}),
        (aten.native_batch_norm.default, {"hides_writes": True}),
    ],
    ids=str,
)
def test_facts(func, facts):
    op = op_of(func)
    assert op is op_of(func) and op.name == str(func)
    for name in ("views", "cuts", "reshapes", "returns_self", "random", "empty", "constructs", "hides_writes"):
        assert getattr(op, name) == facts.get(name, False), name
    assert op.writes == facts.get("writes", [])
    assert [slot for slot in op.returned if slot is not None] == facts.get("returned", [])
    assert [slot for slot in op.aliases if slot is not None] == facts.get("aliases", [])


def test_batch_norm_writes_its_statistics_only_in_training():
    op = op_of(aten.native_batch_norm.default)
    assert op.hidden_writes(("x", "w", "b", "mean", "var", True)) == ("mean", "var")
    assert op.hidden_writes(("x", "w", "b", "mean", "var", False)) == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.float16])
@pytest.mark.parametrize("layer", [lambda n: nn.Linear(8, n), lambda n: nn.Linear(8, n, bias=False)])
def test_numbers_of_two_types_are_refused_as_torch_does(dtype, layer):
    def factory(n):
        return layer(n), (torch.ones(3, 2, 8).to(dtype),)

    with pytest.raises(TraceError, match=f"{str(dtype).removeprefix('torch.')}.*torch refuses; convert one"):
        tpcalc.trace(factory, (32, 64, 128))
    factory(32)[0].to(torch.float64)(factory(32)[1][0].double())  # of one type torch takes them
