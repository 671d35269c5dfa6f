"""Results whose size depends on numbers: counted where these are known, nominal and said where not."""

import pytest
import torch
from torch import nn

from tpcalc.errors import TraceError
from tpcalc.trace.record import observe, record
from tpcalc.trace.record.handlers import handler


class Sized(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.make = make

    def forward(self, x):
        return self.linear(x).sum() + self.make(self.linear(x)).to(x.dtype).sum()


def traced(make):
    trace = record(lambda: (Sized(make), (torch.ones(4, 8),)), 8)
    return trace, [trace.values[vid].shape for node in trace.nodes for vid in node.outputs if vid is not None]


@pytest.mark.parametrize(
    "make, shape, said",
    [
        (lambda h: torch.nonzero(h > 0), (17, 2), "nonzero entries depends on trained numbers; taken as half"),
        (lambda h: torch.nonzero(h[:, 0] > 0), (4, 1), "nonzero entries depends on trained numbers; taken as all"),
        (lambda h: h.masked_select(h > 0), (17,), "the number of selected entries"),
        (lambda h: h[h[:, 0] > 0], (4, 8), "the number of entries a mask selects"),
        (lambda h: torch.unique(h.detach()), (17,), "the number of distinct entries"),
        (lambda h: torch.unique(h.detach(), dim=0), (3, 8), "the number of distinct entries"),
        (lambda h: torch.bincount(h.argmax(1)), (4,), "the number of bins"),
        (lambda h: torch.repeat_interleave(h.argmax(1)), (4,), "taken as one each"),
        (lambda h: torch.isnan(h), (4, 8), "tests for NaN and infinity find none"),
    ],
)
def test_sizes_that_are_not_known_are_nominal(make, shape, said):
    trace, shapes = traced(make)
    assert shape in shapes and any(said in text for text in trace.assumptions)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda h: torch.nonzero(torch.arange(5) > 1), (3, 1)),
        (lambda h: h[torch.tensor([True, False, True, True])], (3, 8)),
        (lambda h: torch.unique(torch.tensor([3, 3, 1])), (2,)),
        (lambda h: torch.bincount(torch.tensor([0, 2])), (3,)),
    ],
)
def test_known_numbers_are_counted(make, shape):
    trace, shapes = traced(make)
    assert shape in shapes and not trace.assumptions


def test_numbers_of_weights_cannot_be_read():
    with pytest.raises(TraceError, match="reads a number"):
        traced(lambda h: h * h.max().item())


def test_most_ops_have_no_handler():
    assert handler("aten.mm.default") is None
    assert handler("aten._assert_async.msg") is handler("profiler._record_function_exit._RecordFunction") is not None


# -- fixed sparse tensors --------------------------------------------------------------------------


class Graph(nn.Module):
    def __init__(self, f, csr=False):
        super().__init__()
        self.linear, self.f = nn.Linear(8, 8), f
        index = torch.stack([torch.arange(4), (torch.arange(4) + 1) % 4])
        adjacency = torch.sparse_coo_tensor(index, torch.ones(4), (4, 4)).coalesce()
        self.register_buffer("adjacency", adjacency.to_sparse_csr() if csr else adjacency)
        self.index, self.values = index, nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.f(self, self.linear(x))


def products(trace):
    return [node.op for node in trace.nodes if node.op.startswith(("aten.mm", "aten.addmm"))]


@pytest.mark.parametrize("csr", [False, True])
@pytest.mark.parametrize(
    "f",
    [
        lambda m, h: torch.sparse.mm(m.adjacency, h),
        lambda m, h: m.adjacency @ h,
        lambda m, h: torch.sparse.mm(m.adjacency.t(), h),
        lambda m, h: torch.sparse.addmm(h, m.adjacency, h),
        lambda m, h: torch.sparse.mm(torch.eye(4).to_sparse(), h),
        lambda m, h: m.adjacency.to_dense() @ h,
    ],
)
def test_a_fixed_sparse_matrix_is_traced_as_a_dense_one(f, csr):
    trace = record(lambda: (Graph(f, csr), (torch.ones(4, 8),)), 8)
    assert len(products(trace)) >= 4 and trace.weights[-1].grad is not None


def test_a_sparse_product_has_the_same_ids_on_real_tensors():
    model, seen = Graph(lambda m, h: torch.sparse.mm(m.adjacency, h)), {}
    trace = record(lambda: (Graph(model.f), (torch.ones(4, 8),)), 8)
    observe(model, (torch.ones(4, 8),), lambda vid, tensor: seen.update({vid: tuple(tensor.shape)}), backward=True)
    assert seen == {vid: value.shape for vid, value in trace.values.items()}


def test_a_learned_sparse_matrix_is_refused():
    def learned(m, h):
        return torch.sparse.mm(torch.sparse_coo_tensor(m.index, m.values, (4, 4)), h)

    with pytest.raises(TraceError, match="makes a sparse tensor; of these only fixed ones can be traced"):
        record(lambda: (Graph(learned), (torch.ones(4, 8),)), 8)
