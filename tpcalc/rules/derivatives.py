"""Derivatives of the nonlinearities: dy times f'(x)."""

from __future__ import annotations

from tpcalc.rules.axes import MIXED
from tpcalc.rules.call import Call
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import Discrete, Product, Slope, Structure, Structures, Sum


@rule("aten.glu_backward", axes=MIXED)
def gated_derivative(call: Call) -> Structure:
    """dy times the gate, and dy times the gated value times the slope of the gate."""
    gate = Slope(call[1])
    return Product(call[0], Sum((gate, Product(call[1], gate))))


@rule(
    "aten.threshold_backward",
    "aten.leaky_relu_backward",
    "aten.hardtanh_backward",
    "aten.hardswish_backward",
    "aten.hardsigmoid_backward",
    "aten.rrelu_with_noise_backward",
    "aten.softshrink_backward",
    "aten.hardshrink_backward",
    "aten.fake_quantize_per_tensor_affine_cachemask_backward",
    "aten.fake_quantize_per_channel_affine_cachemask_backward",
)
def masked_derivative(call: Call) -> Structure:
    """dy times a slope that depends only on where x lies."""
    return Product(call[0], Discrete((call[1],)))


@rule(
    "aten.gelu_backward",
    "aten.silu_backward",
    "aten.mish_backward",
    "aten.softplus_backward",
    "aten.log_sigmoid_backward",
)
def smooth_derivative(call: Call) -> Structure:
    return Product(call[0], Slope(call[1]))


@rule("aten.elu_backward")
def elu_derivative(call: Call) -> Structure:
    return Product(call[0], Slope(call[5]))


@rule("aten.tanh_backward", "aten.sigmoid_backward")
def bounded_derivative(call: Call) -> Structure:
    """dy * (1 - y^2), dy * y * (1 - y), from the output y."""
    return Product(call[0], Slope(call[1]))


@rule("aten._prelu_kernel_backward")
def prelu_derivative(call: Call) -> Structures:
    return (Product(call[0], Discrete((call[1],))), Product(call[0], call[1]))


@rule("aten.native_dropout_backward", "aten._masked_scale")
def dropout_derivative(call: Call) -> Structure:
    return Product(call[0], Discrete(()))


@rule("aten.logit_backward")
def logit_derivative(call: Call) -> Structure:
    """dy / (x (1 - x)), from the input x between 0 and 1."""
    return Product(call[0], Slope(call[1]))
