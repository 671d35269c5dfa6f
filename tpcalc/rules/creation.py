"""Tensors made from nothing: constants, ranges, random numbers.  And ops that carry no order."""

from __future__ import annotations

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, max_order
from tpcalc.program.ir import Ref
from tpcalc.rules.call import Call, number_order
from tpcalc.rules.registry import ignore, rule
from tpcalc.rules.structures import Known, Structure


@rule(
    "aten.zeros",
    "aten.zeros_like",
    "aten.new_zeros",
    "aten.empty",
    "aten.empty_like",
    "aten.new_empty",
    "aten.empty_strided",
    "aten.new_empty_strided",
    "aten.empty_permuted",
    "aten._efficientzerotensor",
)
def zeros(call: Call) -> Structure:
    """Zero (an empty tensor counts for what is written into it)."""
    return Known(MINUS_INFINITY, uniform=True)


@rule("aten.ones", "aten.ones_like", "aten.new_ones")
def ones(call: Call) -> Structure:
    return Known(ZERO, uniform=True)


@rule("aten.eye")
def identity(call: Call) -> Structure:
    """Of the order of its rms entry: multiplying by it keeps the order of what it meets."""
    return Known(-max(size.growth for size in call.out_shape()) / 2, centred=True)


@rule("aten.tril_indices", "aten.triu_indices")
def indices(call: Call) -> Structure:
    return Known(ZERO)


@rule("aten.full", "aten.full_like", "aten.new_full")
def full(call: Call) -> Structure:
    """Filled with one number; a masking number (-inf, -1e30) counts as order 0."""
    value = call.arg(1, "fill_value")
    if isinstance(value, float) and abs(value) > 1e9:
        return Known(ZERO, uniform=True)
    return Known(number_order(value), uniform=True)


@rule("aten.scalar_tensor")
def scalar_tensor(call: Call) -> Structure:
    value = call.arg(0)
    if isinstance(value, float) and abs(value) > 1e9:
        return Known(ZERO, uniform=True)
    return Known(number_order(value), uniform=True)


@rule("aten.arange", "aten.linspace", "aten.logspace", "aten.range")
def arange(call: Call) -> Structure:
    """Of the order of its far end."""
    return Known(max_order(*(number_order(arg) for arg in call.node.args[:2])))


@rule("aten.randn", "aten.randn_like")
def noise(call: Call) -> Structure:
    """Noise of mean zero."""
    return Known(ZERO, centred=True)


@rule("aten.normal", "aten.normal_functional")
def normal(call: Call) -> Structure:
    """normal(mean, std, ...), or of the shape of a first tensor; of order 0 where a tensor gives mean or std."""
    first = 0 if "functional" not in call.node.op else 1
    mean, std = call.arg(first, "mean", 0.0), call.arg(first + 1, "std", 1.0)
    if isinstance(mean, Ref) or isinstance(std, Ref):
        return Known(ZERO)
    return Known(max_order(number_order(std), number_order(mean)), centred=mean == 0)


@rule(
    "aten.rand",
    "aten.rand_like",
    "aten.randint",
    "aten.randint_like",
    "aten.randperm",
    "aten.bernoulli",
    "aten.uniform",
    "aten.exponential",
    "aten.multinomial",
    "aten.poisson",
    "aten.random",
    "aten.cauchy",
    "aten.log_normal",
    "aten.geometric",
)
def random(call: Call) -> Structure:
    """Noise of order 0: masks, dropout, sampling (parameters' own initialisation is read elsewhere)."""
    return Known(ZERO)


ignore(
    "aten._assert_async",
    "aten._assert_scalar",
    "aten.sym_constrain_range",
    "aten.sym_size",
    "aten.sym_stride",
    "aten.sym_numel",
    "aten.sym_constrain_range_for_size",
    "aten._assert_tensor_metadata",
    "prim.device",
    "aten.record_stream",
    "aten.is_same_size",
    "aten._has_compatible_shallow_copy_type",
    reason="checks and sizes: no tensor of numbers comes out",
)
