"""Sums, products, powers and nonlinearities, each beside its derivative."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.algebra.size import Scalar, Size
from tpcalc.program.ir import Ref
from tpcalc.rules.axes import MIXED
from tpcalc.rules.call import Call, number_order
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import (
    Bounded,
    Discrete,
    Exp,
    Guard,
    Known,
    LinearLike,
    Log,
    Operand,
    Power,
    Product,
    Scale,
    Structure,
    Structures,
    Sum,
    View,
)

#: A positive constant this small added under a root only keeps it away from zero (1e-3: TensorFlow's batch norm).
GUARD = 1e-3
#: Ends of a clamp that differ by no more than this share count as symmetric (-8 and 7, the integers of four bits).
LOPSIDED = 1 / 4
#: A width at which the signs of fitted numbers are read.
REFERENCE = 1 << 20


def _is_guard(arg: Any, call: Optional[Call] = None) -> bool:
    """Of a number; with its call also of a constant tensor, as far as its largest entry tells."""
    if isinstance(arg, Ref) and call is not None:
        size = call.values[arg.id].magnitude
        return size is not None and size.order is ZERO and 0 < size.at(REFERENCE) <= GUARD
    return isinstance(arg, (int, float)) and not isinstance(arg, bool) and 0 < arg <= GUARD


def _guarded(call: Call) -> Optional[Operand]:
    """The one of two arguments that the other one, a small constant, keeps away from zero."""
    for x, y in ((0, 1), (1, 0)):
        if _is_guard(call.arg(y), call) and call.is_tensor(x):
            return call[x]
    return None


@rule("aten.add", "aten.sub", "aten.rsub", "aten._add_relu")
def add(call: Call) -> Structure:
    """x +- alpha*y: the order is the max.  ``rsub`` is y - alpha*x."""
    guarded = None if "sub" in call.node.op else _guarded(call)
    if guarded is not None:
        return Guard(guarded)
    x, y = (call[1], call[0]) if "rsub" in call.node.op else (call[0], call[1])
    alpha = call.arg(2, "alpha", 1)
    if isinstance(alpha, (Size, Scalar)):
        y = Scale(y, number_order(alpha))
    return Sum((x, y), how="difference" if "sub" in call.node.op and alpha == 1 else "sum")


def _scaled(x: Operand, arg: Any, sign: int = 1) -> Structure:
    """``x`` times a number ``k*n^p`` (sign 1) or divided by it (sign -1)."""
    p = number_order(arg)
    return View(x) if p == 0 else Scale(x, p if sign == 1 else -number_order(arg))


@rule("aten.mul", "aten.multiply")
def mul(call: Call) -> Structure:
    if not call.is_tensor(1):
        return _scaled(call[0], call.arg(1))
    if not call.is_tensor(0):
        return _scaled(call[1], call.arg(0))
    if call.arg(0) == call.arg(1):
        return Power(call[0], Order(2), "even")
    return Product(call[0], call[1])


@rule("aten.div.Tensor", "aten.div.Scalar", "aten.div.out", "aten.true_divide", "aten.divide")
def div(call: Call) -> Structure:
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
def integer_div(call: Call) -> Structure:
    return Discrete(call.tensors())


@rule("aten.remainder", "aten.fmod")
def remainder(call: Call) -> Structure:
    """x modulo a number: bounded by it, with slope 1 between the jumps.

    A number that grows leaves a value of order 0 as it is; but ``remainder`` has the sign of the number, and adds it to
    all values of the other sign.
    """
    if not call.is_tensor(0):
        return Discrete(call.tensors())
    top = ZERO if call.is_tensor(1) else number_order(call.arg(1))
    if top > ZERO:
        kept = Power(call[0], ONE, "odd")
        return kept if "fmod" in call.node.op else Sum((kept, Known(top)))
    inside = Bounded(_scaled(call[0], call.arg(1), -1) if top != ZERO else call[0], zero="fmod" in call.node.op)
    return inside if top == ZERO else Scale(inside, top)


@rule("aten.neg", "aten.positive")
def neg(call: Call) -> Structure:
    return View(call[0])


@rule("aten.addcmul")
def addcmul(call: Call) -> Structure:
    value = call.arg(3, "value", 1)
    return Sum((call[0], _scaled(Product(call[1], call[2]), value)))


@rule("aten.addcdiv")
def addcdiv(call: Call) -> Structure:
    value = call.arg(3, "value", 1)
    return Sum((call[0], _scaled(Product(call[1], Power(call[2], -ONE, "odd")), value)))


@rule("aten.pow.Tensor_Scalar")
def pow_scalar(call: Call) -> Structure:
    """x^k, homogeneous of degree k."""
    exponent = Order(Fraction(call.arg(1)).limit_denominator(64))
    if exponent == 0:
        return Known(ZERO, uniform=True)
    parity = "none"
    if exponent.denominator == 1:
        parity = "even" if exponent.numerator % 2 == 0 else "odd"
    return View(call[0]) if exponent == 1 else Power(call[0], Order(exponent), parity)


@rule("aten.pow.Scalar", "aten.exp2", "aten.exp", "aten.expm1")
def exponential(call: Call) -> Structure:
    """c^x, e^x."""
    return Exp(call[-1] if call.node.op.startswith("aten.pow") else call[0])


@rule("aten.pow.Tensor_Tensor")
def pow_tensor(call: Call) -> Structure:
    """x^y = exp(y log x)."""
    return Exp(Product(call[1], Log(call[0])))


@rule("aten.log", "aten.log2", "aten.log10", "aten.log1p", "aten.logit")
def log(call: Call) -> Structure:
    return Log(call[0])


@rule("aten.square")
def square(call: Call) -> Structure:
    return Power(call[0], Order(2), "even")


@rule("aten.sqrt")
def sqrt(call: Call) -> Structure:
    return Power(call[0], HALF)


@rule("aten.rsqrt")
def rsqrt(call: Call) -> Structure:
    return Power(call[0], -HALF)


@rule("aten.reciprocal")
def reciprocal(call: Call) -> Structure:
    return Power(call[0], -ONE, "odd")


@rule("aten.abs")
def absolute(call: Call) -> Structure:
    return Power(call[0], ONE, "even")


@rule("aten.prelu", "aten._prelu_kernel")
def prelu(call: Call) -> Structure:
    """max(x, 0) + slope * min(x, 0), with a learned slope."""
    return Sum((Power(call[0], ONE), Product(call[1], Power(call[0], ONE))))


@rule("aten.relu", "aten.leaky_relu", "aten.rrelu_with_noise", "aten.rrelu_with_noise_functional")
def relu(call: Call) -> Structures:
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
def linear_like(call: Call) -> Structures:
    """x times a gate in [0, 1], up to bounded terms: asymptotically linear."""
    offset = "log_sigmoid" in call.node.op
    # the second result of log_sigmoid_forward is e^-|x|
    return (LinearLike(call[0], offset=offset),) + (Exp(call[0]),) * (len(call.node.outputs) - 1)


@rule("aten.softplus")
def softplus(call: Call) -> Structure:
    return LinearLike(call[0], offset=True)


@rule("aten.tanh", "aten.sin", "aten.atan", "aten.erf", "aten.asinh")
def bounded_odd(call: Call) -> Structure:
    return Bounded(call[0], zero=True, parity="odd")


@rule("aten.sigmoid", "aten.hardsigmoid", "aten.erfc")
def bounded(call: Call) -> Structure:
    return Bounded(call[0], zero=False)


@rule("aten.cos", "aten.sinc")
def bounded_even(call: Call) -> Structure:
    return Bounded(call[0], zero=False, parity="even")


@rule("aten.tan", "aten.erfinv", "aten.asin", "aten.atanh", "aten.sinh")
def local_odd(call: Call) -> Structure:
    """Made for inputs of order 0 at most."""
    return Bounded(call[0], zero=True, parity="odd")


@rule("aten.cosh")
def local_even(call: Call) -> Structure:
    return Bounded(call[0], zero=False, parity="even")


@rule("aten.acos", "aten.lgamma", "aten.digamma")
def local_nonzero(call: Call) -> Structure:
    return Bounded(call[0], zero=False)


@rule("aten.polygamma")
def polygamma(call: Call) -> Structure:
    """polygamma(k, x): the derivatives of lgamma."""
    return Bounded(call[1], zero=False)


@rule("aten.atan2")
def atan2(call: Call) -> Structure:
    """An angle: a ratio, of order 0."""
    return Bounded(Product(call[0], Power(call[1], -ONE, "odd")), zero=False)


def _at_reference(end: Any) -> Any:
    return end.at(REFERENCE) if isinstance(end, (Size, Scalar)) else end


def _between(x: Operand, low: Any, high: Any) -> Structure:
    """``x`` cut off at numbers (None: not on that side): bounded by two, linear for small ``x`` where 0 lies inside.

    Of a value of order 0 an end that grows away from 0 cuts nothing off; one on the other side pushes it along.  A
    single end, like relu's, leaves the other side as large as it is.
    """
    pushing = [end for end, sign in ((low, 1), (high, -1)) if end is not None and sign * _at_reference(end) > 0]
    low, high = (None if end is None or number_order(end) > ZERO else end for end in (low, high))
    if low is None or high is None or any(number_order(end) > ZERO for end in pushing):
        kept = Power(x, ONE)
        return Sum((kept, *(Known(number_order(end), uniform=True) for end in pushing))) if pushing else kept
    top = max_order(number_order(low), number_order(high))
    if top is MINUS_INFINITY:
        return Known(MINUS_INFINITY, uniform=True)
    ends = [_at_reference(end) for end in (low, high)]
    inside = Bounded(
        x if top == 0 else Scale(x, -top),
        zero=ends[0] <= 0 <= ends[1],
        parity="odd" if abs(ends[0] + ends[1]) <= LOPSIDED * max(abs(end) for end in ends) else "none",
    )
    return inside if top == 0 else Scale(inside, top)


@rule("aten.hardtanh")
def hardtanh(call: Call) -> Structure:
    return _between(call[0], call.arg(1, "min_val", -1), call.arg(2, "max_val", 1))


@rule("aten.clamp", "aten.clip")
def clamp(call: Call) -> Structure:
    """With a small lower end only: a guard against zero.  Else cut off at one end or two."""
    low, high = call.arg(1, "min"), call.arg(2, "max")
    low, high = (None if end is None or _is_extreme(end) else end for end in (low, high))
    if _is_guard(low, call) and (high is None or (isinstance(high, (int, float)) and high >= 1 / GUARD)):
        return Guard(call[0])
    if not isinstance(low, Ref) and not isinstance(high, Ref):
        return _between(call[0], low, high)
    ends = tuple(call.operand(end) for end in (low, high) if end is not None)
    return Sum((Power(call[0], ONE), *ends)) if ends else Power(call[0], ONE)


def _is_extreme(arg: Any) -> bool:
    return isinstance(arg, (int, float)) and abs(arg) > 1e9


@rule("aten.clamp_min", "aten.clamp_max")
def clamp_one(call: Call) -> Structure:
    if "clamp_min" in call.node.op and _is_guard(call.arg(1), call):
        return Guard(call[0])
    if _is_extreme(call.arg(1)):
        return View(call[0])
    if call.is_tensor(1):
        return Sum((Power(call[0], ONE), call[1]))
    return _between(call[0], *((call.arg(1), None) if "clamp_min" in call.node.op else (None, call.arg(1))))


@rule("aten.maximum", "aten.minimum", "aten.fmax", "aten.fmin", "aten.max.other", "aten.min.other")
def extremum(call: Call) -> Structure:
    guarded = _guarded(call) if "max" in call.node.op else None
    if guarded is not None:
        return Guard(guarded)
    return Sum((Power(call[0], ONE), Power(call[1], ONE)))


@rule("aten.logaddexp", "aten.logaddexp2")
def logaddexp(call: Call) -> Structure:
    return Sum((LinearLike(call[0], offset=True), LinearLike(call[1], offset=True)))


@rule("aten.nan_to_num", "aten.round", "aten.trunc", "aten.frac")
def rounding(call: Call) -> Structure:
    return Power(call[0], ONE, "odd")


@rule("aten.floor", "aten.ceil")
def rounding_one_way(call: Call) -> Structure:
    return Power(call[0], ONE)


@rule("aten.sign", "aten.sgn")
def sign(call: Call) -> Structure:
    return Discrete((call[0],), "odd")


@rule("aten.polar")
def polar(call: Call) -> Structure:
    """abs * exp(i angle)."""
    return Product(call[0], Bounded(call[1], zero=False))


@rule("aten.complex")
def complex_parts(call: Call) -> Structure:
    return Sum((call[0], call[1]))


@rule("aten.glu", axes=MIXED)
def gated(call: Call) -> Structure:
    """The first half of x times the sigmoid of the second."""
    return Product(call[0], Bounded(call[0], zero=False))


@rule("aten.hypot")
def hypot(call: Call) -> Structure:
    return Sum((Power(call[0], ONE, "even"), Power(call[1], ONE, "even")))


@rule("aten.xlogy", "aten.special_xlog1py")
def xlogy(call: Call) -> Structure:
    return Product(call[0], Log(call[1]))


@rule("aten.copysign")
def copysign(call: Call) -> Structure:
    return Product(Power(call[0], ONE, "even"), Discrete((call[1],)))


@rule("aten.native_dropout", "aten._fused_dropout")
def dropout(call: Call) -> Structures:
    return (Product(call[0], Known(ZERO)), Discrete(()))


@rule("aten.alpha_dropout", "aten.dropout", "aten.feature_dropout")
def plain_dropout(call: Call) -> Structure:
    return Product(call[0], Known(ZERO))
