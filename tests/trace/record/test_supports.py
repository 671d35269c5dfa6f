"""Which entries of functions of weights are zero, as the trace tells it."""

import pytest
import torch
from torch import nn

from tests.support.cases import masks
from tpcalc.trace.record.recorder import record


class Only(nn.Module):
    def __init__(self, f, shape=(8, 8)):
        super().__init__()
        self.w, self.f = nn.Parameter(torch.randn(shape)), f

    def forward(self, x):
        return x @ self.f(self.w)


def filled(f, x=None):
    """Of the operand of the product."""
    trace = record(lambda: (Only(f), (torch.ones(2, 8) if x is None else x,)), 8)
    node = next(node for node in trace.nodes if node.op.startswith("aten.mm"))
    return trace.values[node.args[1].id].filled


def in_place(w):
    m = torch.zeros(8, 8)
    m.diagonal().copy_(w[0])
    m[0] += w[0]
    return m


def rewritten(w):
    m = torch.zeros(8, 8)
    m.diagonal().copy_(w[0])
    m.copy_(w)
    return m


@pytest.mark.parametrize(
    "f, wanted",
    [
        (lambda w: w, None),
        (lambda w: w.t().reshape(8, 8), None),
        (lambda w: w * torch.eye(8), ((1, 1), (1, 1))),
        (lambda w: w * w.new_ones(8, 8).tril(), ((4, 8), (4, 8))),
        (lambda w: (w * torch.eye(8)).t().detach() * w, ((1, 1), (1, 1))),
        (lambda w: torch.block_diag(*w.reshape(4, 4, 4)[:2]), ((4, 4), (4, 4))),
        (lambda w: torch.linalg.qr(w * torch.eye(8))[1], ((1, 1), (1, 1))),
        (lambda w: w - w, None),
        (in_place, ((2, 2), (1, 8))),
        (rewritten, None),
        (lambda w: torch.linalg.cholesky(w), ((4, 8), (4, 8))),
    ],
)
def test_zeros_are_counted_along_each_axis(f, wanted):
    assert filled(f) == wanted


def test_what_depends_on_the_inputs_is_not_supposed():
    x = torch.eye(8)
    trace = record(lambda: (Only(lambda w: w), (x,)), 8)
    node = next(node for node in trace.nodes if node.op.startswith("aten.mm"))
    assert trace.values[node.outputs[0]].filled is None


def test_a_trace_computes_no_weight_that_nothing_masks(monkeypatch):
    drawn, real = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: drawn.append(a) or real(*a, **k))
    model = nn.Linear(8, 8)
    record(lambda: (model, (torch.ones(2, 8),)), 8)
    assert (8, 8) not in [args[:1] and args[0] for args in drawn]


def test_masks_are_told_of_in_the_backward_pass_too():
    trace = record(lambda: masks.CASES["band by product"][0](32), 32)
    back = [node for node in trace.nodes if node.phase == "backward" and node.op == "aten.t.default"]
    assert any(trace.values[node.outputs[0]].filled == ((5, 5), (5, 5)) for node in back)
