"""Geometries inferred on meta and on fake tensors are those of real results."""

import pytest
import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record import op_of
from tpcalc.trace.record.inference import LARGEST_EXAMPLE, mapped, tensors_in
from tpcalc.trace.record.mode import Recording

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (aten.empty.memory_format, ([3, 4],), {"device": torch.device("cpu"), "pin_memory": False}),
        (aten.empty.memory_format, ([2, 4, 3, 3],), {"memory_format": torch.channels_last}),
        (aten.arange.start_step, (1, 9, 2), {"dtype": torch.float64}),
        (aten.full.default, ([3], 1.0), {"dtype": torch.bfloat16}),
        (aten.scalar_tensor.default, (2.0,), {}),
        (aten.randn.default, ([3, 4],), {}),
    ],
)
def test_constructors_are_laid_out_as_for_real(func, args, kwargs):
    recording = Recording()
    inferred = recording.inference.on_meta(recording, op_of(func), args, kwargs)
    assert (
        inferred
        == recording.geometry_of(func(*args, **kwargs))
        == recording.inference.on_fake(recording, func, args, kwargs)
    )


# -- errors ----------------------------------------------------------------------------------------


def test_views_with_an_offset_are_seen_as_they_lie():
    recording = Recording()
    view = torch.ones(2, 3, 5).narrow(1, 1, 1)
    turned = aten.transpose.int(view, 0, 2)
    inference, func, args = recording.inference, aten.transpose.int, (view, 0, 2)
    for inferred in (inference.on_fake(recording, func, args, {}), inference.on_meta(recording, op_of(func), args, {})):
        assert inferred is recording.geometry_of(turned)
    assert recording.geometry_of(turned).offset == 5


def test_results_that_depend_on_large_operands_are_refused():
    recording = Recording(sources=False)
    large = torch.empty(LARGEST_EXAMPLE + 1)
    with pytest.raises(TraceError, match="depends on the numbers of a large tensor"):
        recording.inference.by_example(recording, op_of(aten.nonzero.default), (large,), {}, False)
    geometry, kept = recording.inference.by_example(recording, op_of(aten.nonzero.default), (torch.ones(3),), {}, True)
    assert geometry.size == (3, 1) and kept.tolist() == [[0], [1], [2]]


def test_nested_arguments():
    x, y = torch.ones(1), torch.ones(2)
    assert tensors_in([x, None, y]) == [x, y] and tensors_in(3) == [] and tensors_in(x) == [x]
    assert mapped(lambda item: item + 1, [1, (2, [3])]) == [2, (3, [4])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm_is_laid_out_as_by_its_kernels(dtype, axes):
    recording = Recording()
    for x in (torch.ones(3, 4, 8), torch.ones(3, 8, 4).transpose(1, 2), torch.ones(3, 5, 8)[:, 1:]):
        x, shape = x.to(dtype), x.shape[-axes:]
        for weight in (None, torch.ones(shape, dtype=dtype)):
            forward = (x, list(shape), weight, None, 1e-5)
            _, mean, rstd = real = aten.native_layer_norm.default(*forward)
            inferred = recording.inference.on_meta(recording, op_of(aten.native_layer_norm.default), forward, {})
            assert inferred == tuple(map(recording.geometry_of, real))
            for wanted in ([True, weight is not None, False], [weight is None, weight is not None, False]):
                backward = (x, x, list(shape), mean, rstd, weight, None, wanted)
                real = aten.native_layer_norm_backward.default(*backward)
                inferred = recording.inference.on_meta(
                    recording, op_of(aten.native_layer_norm_backward.default), backward, {}
                )
                laid = [recording.geometry_of(t) if want else None for t, want in zip(real, wanted, strict=True)]
                assert list(inferred) == laid
