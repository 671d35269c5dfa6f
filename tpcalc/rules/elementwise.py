"""Sums, products, powers and nonlinearities, each beside its derivative."""

from __future__ import annotations

from fractions import Fraction

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, max_order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.program.ir import Ref
from tpcalc.rules.registry import Call, number_order, rule
from tpcalc.rules.structures import (
    Bounded,
    Discrete,
    Exp,
    Guard,
    Known,
    LinearLike,
    Log,
    Power,
    Product,
    Scale,
    Slope,
    Sum,
    View,
)

#: A positive constant this small added under a root only keeps it away from zero (1e-3: TensorFlow's batch norm).
GUARD = 1e-3
#: A width at which the signs of fitted numbers are read.
REFERENCE = 1 << 20


def _is_guard(arg) -> bool:
    return isinstance(arg, (int, float)) and not isinstance(arg, bool) and 0 < arg <= GUARD


@rule("aten.add", "aten.sub", "aten.rsub", "aten._add_relu")
def add(call: Call):
    """x +- alpha*y: the order is the max."""
    if _is_guard(call.arg(1)) and "sub" not in call.node.op:
        return Guard(call[0])
    y = call[1]
    alpha = call.arg(2, "alpha", 1)
    if isinstance(alpha, (Size, Scalar)):
        y = Scale(y, number_order(alpha))
    return Sum((call[0], y))


def _scaled(x, arg, sign: int = 1):
    """``x`` times a number ``k*n^p`` (sign 1) or divided by it (sign -1)."""
    p = number_order(arg)
    return View(x) if p == 0 else Scale(x, p if sign == 1 else -p)


@rule("aten.mul", "aten.multiply")
def mul(call: Call):
    if not call.is_tensor(1):
        return _scaled(call[0], call.arg(1))
    if not call.is_tensor(0):
        return _scaled(call[1], call.arg(0))
    if call.arg(0) == call.arg(1):
        return Power(call[0], Fraction(2), "even")
    return Product(call[0], call[1])


@rule("aten.div.Tensor", "aten.div.Scalar", "aten.div.out", "aten.true_divide", "aten.divide")
def div(call: Call):
    if not call.is_tensor(1):
        return _scaled(call[0], call.arg(1), -1)
    return Product(call[0], Power(call[1], -ONE, "odd"))


@rule(
    "aten.div.Tensor_mode",
    "aten.div.Scalar_mode",
    "aten.floor_divide",
    "aten.__rshift__",
    "aten.__lshift__",
)
def integer_div(call: Call):
    return Discrete(call.tensors())


@rule("aten.remainder", "aten.fmod")
def remainder(call: Call):
    """x modulo a number: bounded by it, with slope 1 between the jumps."""
    if not call.is_tensor(0):
        return Discrete(call.tensors())
    top = ZERO if call.is_tensor(1) else number_order(call.arg(1))
    inside = Bounded(_scaled(call[0], call.arg(1), -1) if top != ZERO else call[0], zero="fmod" in call.node.op)
    return inside if top == ZERO else Scale(inside, top)


@rule("aten.neg", "aten.positive")
def neg(call: Call):
    return View(call[0])


@rule("aten.addcmul")
def addcmul(call: Call):
    value = call.arg(3, "value", 1)
    return Sum((call[0], _scaled(Product(call[1], call[2]), value)))


@rule("aten.addcdiv")
def addcdiv(call: Call):
    value = call.arg(3, "value", 1)
    return Sum((call[0], _scaled(Product(call[1], Power(call[2], -ONE, "odd")), value)))


@rule("aten.pow.Tensor_Scalar")
def pow_scalar(call: Call):
    """x^k, homogeneous of degree k."""
    exponent = Fraction(call.arg(1)).limit_denominator(64)
    if exponent == 0:
        return Known(ZERO, uniform=True)
    parity = "none"
    if exponent.denominator == 1:
        parity = "even" if exponent.numerator % 2 == 0 else "odd"
    return View(call[0]) if exponent == 1 else Power(call[0], exponent, parity)


@rule("aten.pow.Scalar", "aten.exp2", "aten.exp", "aten.expm1")
def exponential(call: Call):
    """c^x, e^x."""
    return Exp(call[-1] if call.node.op.startswith("aten.pow") else call[0])


@rule("aten.pow.Tensor_Tensor")
def pow_tensor(call: Call):
    """x^y = exp(y log x)."""
    return Exp(Product(call[1], Log(call[0])))


@rule("aten.log", "aten.log2", "aten.log10", "aten.log1p", "aten.logit")
def log(call: Call):
    return Log(call[0])


@rule("aten.square")
def square(call: Call):
    return Power(call[0], Fraction(2), "even")


@rule("aten.sqrt")
def sqrt(call: Call):
    return Power(call[0], HALF)


@rule("aten.rsqrt")
def rsqrt(call: Call):
    return Power(call[0], -HALF)


@rule("aten.reciprocal")
def reciprocal(call: Call):
    return Power(call[0], -ONE, "odd")


@rule("aten.abs")
def absolute(call: Call):
    return Power(call[0], ONE, "even")


@rule("aten.prelu", "aten._prelu_kernel")
def prelu(call: Call):
    """max(x, 0) + slope * min(x, 0), with a learned slope."""
    return Sum((Power(call[0], ONE), Product(call[1], Power(call[0], ONE))))


@rule("aten.relu", "aten.leaky_relu", "aten.rrelu_with_noise", "aten.rrelu_with_noise_functional")
def relu(call: Call):
    """Positive homogeneous of degree 1."""
    outs = (Power(call[0], ONE),)
    return outs + (Discrete(),) * (len(call.node.outputs) - 1)


@rule(
    "aten.gelu",
    "aten.silu",
    "aten.mish",
    "aten.hardswish",
    "aten.elu",
    "aten.celu",
    "aten.selu",
    "aten.softshrink",
    "aten.hardshrink",
    "aten.log_sigmoid_forward",
    "aten.log_sigmoid",
    "aten.threshold",
)
def linear_like(call: Call):
    """x times a gate in [0, 1], up to bounded terms: asymptotically linear."""
    offset = "log_sigmoid" in call.node.op
    # the second result of log_sigmoid_forward is e^-|x|
    return (LinearLike(call[0], offset=offset),) + (Exp(call[0]),) * (len(call.node.outputs) - 1)


@rule("aten.softplus")
def softplus(call: Call):
    return LinearLike(call[0], offset=True)


@rule("aten.tanh", "aten.sin", "aten.atan", "aten.erf", "aten.asinh")
def bounded_odd(call: Call):
    return Bounded(call[0], zero=True, parity="odd")


@rule("aten.sigmoid", "aten.hardsigmoid", "aten.erfc")
def bounded(call: Call):
    return Bounded(call[0], zero=False)


@rule("aten.cos", "aten.sinc")
def bounded_even(call: Call):
    return Bounded(call[0], zero=False, parity="even")


@rule("aten.tan", "aten.erfinv", "aten.asin", "aten.atanh", "aten.sinh")
def local_odd(call: Call):
    """Made for inputs of order 0 at most."""
    return Bounded(call[0], zero=True, parity="odd")


@rule("aten.cosh")
def local_even(call: Call):
    return Bounded(call[0], zero=False, parity="even")


@rule("aten.acos", "aten.lgamma", "aten.digamma")
def local_nonzero(call: Call):
    return Bounded(call[0], zero=False)


@rule("aten.polygamma")
def polygamma(call: Call):
    """polygamma(k, x): the derivatives of lgamma."""
    return Bounded(call[1], zero=False)


@rule("aten.logit_backward")
def logit_derivative(call: Call):
    """dy / (x (1 - x)), from the input x between 0 and 1."""
    return Product(call[0], Slope(call[1]))


@rule("aten.atan2")
def atan2(call: Call):
    """An angle: a ratio, of order 0."""
    return Bounded(Product(call[0], Power(call[1], -ONE, "odd")), zero=False)


def _between(x, low, high):
    """``x`` cut off at two numbers: bounded by them, and linear for small ``x`` where 0 lies inside.

    Ends that grow cut nothing off a value of order 0.
    """
    top = max_order(number_order(low), number_order(high))
    if top is MINUS_INFINITY:
        return Known(MINUS_INFINITY, uniform=True)
    if top > ZERO:
        return Power(x, ONE)
    ends = [end.at(REFERENCE) if isinstance(end, (Size, Scalar)) else end for end in (low, high)]
    inside = Bounded(
        x if top == 0 else Scale(x, -top),
        zero=ends[0] <= 0 <= ends[1],
        parity="odd" if ends[0] == -ends[1] else "none",
    )
    return inside if top == 0 else Scale(inside, top)


@rule("aten.hardtanh")
def hardtanh(call: Call):
    return _between(call[0], call.arg(1, "min_val", -1), call.arg(2, "max_val", 1))


@rule("aten.clamp", "aten.clip")
def clamp(call: Call):
    """With a small lower end only: a guard against zero.  With ends on both sides: bounded.  Else homogeneous-like."""
    low, high = call.arg(1, "min"), call.arg(2, "max")
    low, high = (None if end is None or _is_extreme(end) else end for end in (low, high))
    if _is_guard(low) and (high is None or (isinstance(high, (int, float)) and high >= 1 / GUARD)):
        return Guard(call[0])
    if low is not None and high is not None and not isinstance(low, Ref) and not isinstance(high, Ref):
        return _between(call[0], low, high)
    ends = tuple(call.operand(end) for end in (low, high) if end is not None)
    return Sum((Power(call[0], ONE), *ends)) if ends else Power(call[0], ONE)


def _is_extreme(arg) -> bool:
    return isinstance(arg, (int, float)) and abs(arg) > 1e9


@rule("aten.clamp_min", "aten.clamp_max")
def clamp_one(call: Call):
    if "clamp_min" in call.node.op and _is_guard(call.arg(1)):
        return Guard(call[0])
    if _is_extreme(call.arg(1)):
        return View(call[0])
    return Sum((Power(call[0], ONE), call[1]))


@rule("aten.maximum", "aten.minimum", "aten.fmax", "aten.fmin", "aten.max.other", "aten.min.other")
def extremum(call: Call):
    return Sum((Power(call[0], ONE), Power(call[1], ONE)))


@rule("aten.logaddexp", "aten.logaddexp2")
def logaddexp(call: Call):
    return Sum((LinearLike(call[0], offset=True), LinearLike(call[1], offset=True)))


@rule("aten.nan_to_num", "aten.round", "aten.floor", "aten.ceil", "aten.trunc", "aten.frac")
def rounding(call: Call):
    return Power(call[0], ONE)


@rule("aten.polar")
def polar(call: Call):
    """abs * exp(i angle)."""
    return Product(call[0], Bounded(call[1], zero=False))


@rule("aten.complex")
def complex_parts(call: Call):
    return Sum((call[0], call[1]))


@rule(
    "aten.eq",
    "aten.ne",
    "aten.lt",
    "aten.le",
    "aten.gt",
    "aten.ge",
    "aten.logical_and",
    "aten.logical_or",
    "aten.logical_not",
    "aten.logical_xor",
    "aten.bitwise_and",
    "aten.bitwise_or",
    "aten.bitwise_not",
    "aten.bitwise_xor",
    "aten.__and__",
    "aten.__or__",
    "aten.__xor__",
    "aten.isnan",
    "aten.isinf",
    "aten.isfinite",
    "aten.isneginf",
    "aten.isposinf",
    "aten.sign",
    "aten.sgn",
    "aten.signbit",
    "aten.heaviside",
    "aten.bucketize",
    "aten.searchsorted",
    "aten.one_hot",
    "aten.isin",
    "aten.all",
    "aten.any",
    "aten.argmax",
    "aten.argmin",
    "aten.argsort",
    "aten.equal",
    "aten.is_nonzero",
    "aten._local_scalar_dense",
    "aten.bincount",
    "aten.histc",
    "aten.allclose",
    "aten.count_nonzero",
)
def discrete(call: Call):
    """Comparisons and indices."""
    return Discrete(call.tensors())


@rule("aten.unique_consecutive", "aten._unique2", "aten.unique_dim", "aten._unique")
def unique(call: Call):
    return tuple(Discrete(call.tensors()) for _ in call.node.outputs)


@rule("aten.glu")
def gated(call: Call):
    """The first half of x times the sigmoid of the second."""
    return Product(call[0], Bounded(call[0], zero=False))


@rule("aten.hypot")
def hypot(call: Call):
    return Sum((Power(call[0], ONE, "even"), Power(call[1], ONE, "even")))


@rule("aten.xlogy", "aten.special_xlog1py")
def xlogy(call: Call):
    return Product(call[0], Log(call[1]))


@rule("aten.copysign")
def copysign(call: Call):
    return Product(Power(call[0], ONE, "even"), Discrete((call[1],)))


# Derivatives: dy times f'(x).


@rule("aten.glu_backward")
def gated_derivative(call: Call):
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
)
def masked_derivative(call: Call):
    """dy times a slope that depends only on where x lies."""
    return Product(call[0], Discrete((call[1],)))


@rule("aten.gelu_backward", "aten.silu_backward", "aten.mish_backward", "aten.softplus_backward")
def smooth_derivative(call: Call):
    return Product(call[0], Slope(call[1]))


@rule("aten.log_sigmoid_backward")
def log_sigmoid_derivative(call: Call):
    return Product(call[0], Slope(call[1]))


@rule("aten.elu_backward")
def elu_derivative(call: Call):
    return Product(call[0], Slope(call[5]))


@rule("aten.tanh_backward", "aten.sigmoid_backward")
def bounded_derivative(call: Call):
    """dy * (1 - y^2), dy * y * (1 - y), from the output y."""
    return Product(call[0], Slope(call[1]))


@rule("aten._prelu_kernel_backward")
def prelu_derivative(call: Call):
    return (Product(call[0], Discrete((call[1],))), Product(call[0], call[1]))


@rule("aten.native_dropout_backward", "aten._masked_scale")
def dropout_derivative(call: Call):
    return Product(call[0], Discrete(()))


@rule("aten.native_dropout", "aten._fused_dropout")
def dropout(call: Call):
    return (Product(call[0], Known(ZERO)), Discrete(()))


@rule("aten.alpha_dropout", "aten.dropout", "aten.feature_dropout")
def plain_dropout(call: Call):
    return Product(call[0], Known(ZERO))


__all__ = ["GUARD"]
