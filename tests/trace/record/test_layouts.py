"""Geometries told without a run are those of the kernels."""

import pytest
import torch

from tpcalc.trace.record import op_of
from tpcalc.trace.record.mode import Recording

aten = torch.ops.aten


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm_is_laid_out_as_by_its_kernels(dtype, axes):
    recording = Recording()
    for x in (torch.ones(3, 4, 8), torch.ones(3, 8, 4).transpose(1, 2), torch.ones(3, 5, 8)[:, 1:]):
        x, shape = x.to(dtype), x.shape[-axes:]
        for weight in (None, torch.ones(shape, dtype=dtype)):
            forward = (x, list(shape), weight, None, 1e-5)
            _, mean, rstd = real = aten.native_layer_norm.default(*forward)
            inferred = recording.inference.on_meta(op_of(aten.native_layer_norm.default), forward, {})
            assert inferred == tuple(map(recording.geometry_of, real))
            for wanted in ([True, weight is not None, False], [weight is None, weight is not None, False]):
                backward = (x, x, list(shape), mean, rstd, weight, None, wanted)
                real = aten.native_layer_norm_backward.default(*backward)
                inferred = recording.inference.on_meta(op_of(aten.native_layer_norm_backward.default), backward, {})
                laid = [recording.geometry_of(t) if want else None for t, want in zip(real, wanted, strict=True)]
                assert list(inferred) == laid
