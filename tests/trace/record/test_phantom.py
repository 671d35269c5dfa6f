"""Tensors without memory: what they answer, and what they refuse."""

import copy
import pickle

import pytest
import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record import build, unwritten_numbers
from tpcalc.trace.record.phantom import Phantom


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def made(call):
    return build(call, Nothing())


def test_known_numbers_can_be_read_and_unknown_ones_not():
    known, unknown = made(lambda: (torch.arange(3), torch.randn(3000, 3000)))
    assert known.tolist() == [0, 1, 2] and f"{made(lambda: torch.tensor(2.5)):.2f}" == "2.50"
    assert known.numpy().sum() == 3 and unknown.shape == (3000, 3000)
    with pytest.raises(TraceError, match=r"numpy\(\) in test_phantom.py:\d+ reads the numbers of a tensor of shape"):
        unknown.numpy()


def test_numbers_can_be_kept_from_being_written():
    known = made(lambda: torch.arange(3))
    with unwritten_numbers(), pytest.raises(ValueError, match="read-only"):
        known.numpy()[0] = 5
    known.numpy()[0] = 5
    assert known.tolist() == [5, 1, 2]


@pytest.mark.parametrize(
    "convert, dtype",
    [
        (lambda x: x.to("cuda"), torch.float32),
        (lambda x: x.to("cuda", torch.float64), torch.float64),
        (lambda x: x.to(torch.device("cuda"), torch.float64, True), torch.float64),
        (lambda x: x.to("cuda", True), torch.float32),
        (lambda x: x.to(device="cuda", dtype=torch.int32), torch.int32),
        (lambda x: x.cuda(), torch.float32),
    ],
)
def test_there_is_one_device(convert, dtype):
    x = made(lambda: convert(torch.ones(3)))
    assert (type(x), x.dtype, x.device.type) == (Phantom, dtype, "cpu")


def test_copies_are_tensors_of_their_own():
    def copied():
        weight = torch.nn.Parameter(torch.ones(3))
        twin = copy.deepcopy([weight, weight])
        return weight, twin

    weight, (first, second) = made(copied)
    assert first is second is not weight and first.memory is not weight.memory
    assert isinstance(first, torch.nn.Parameter) and first.requires_grad


def test_outside_of_its_trace_a_phantom_is_of_no_use():
    x = made(lambda: torch.ones(3))
    with pytest.raises(TraceError, match="outside of the trace"):
        x + 1
    with pytest.raises(TraceError, match="can't be pickled"):
        pickle.dumps(x)
    assert repr(x) == "Phantom((3,), torch.float32)"
