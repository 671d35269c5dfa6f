"""Reductions over axes: sums, means, moments, norms, extrema, pooling, scans."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

from tpcalc.algebra.order import HALF, ONE, ZERO, Order
from tpcalc.errors import UnsupportedOpError
from tpcalc.rules.axes import MIXED, PICKED, At, Kept, Last, Reduced
from tpcalc.rules.call import Call
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import (
    Centre,
    Discrete,
    LinearLike,
    Log,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Structure,
    Structures,
    Sum,
    View,
)

TWO = Order(2)


def _mean(x: Operand, growth: Order) -> Structure:
    return Scale(Reduce(x, growth), -growth) if growth else Reduce(x, growth)


@rule("aten.sum", "aten.nansum", axes=Reduced())
def total(call: Call) -> Structure:
    return Reduce(call[0], call.reduced(0, call.arg(1, "dim")))


@rule("aten.sum_to_size", axes=MIXED)
def sum_to_size(call: Call) -> Structure:
    return Reduce(
        call[0], sum((s.growth for s in call.shape(0)), ZERO) - sum((s.growth for s in call.out_shape()), ZERO)
    )


@rule("aten.mean", axes=Reduced(mean=0))
def mean(call: Call) -> Structure:
    dims = call.arg(1, "dim") if "dim" in call.node.op.rpartition(".")[2] else None
    return _mean(call[0], call.reduced(0, dims))


@rule("aten.var", "aten.std", axes=Reduced())
def var(call: Call) -> Structure:
    dims = call.arg(1, "dim")
    if isinstance(dims, bool):
        dims = None
    variance = _mean(Power(Centre(call[0]), TWO, "even"), call.reduced(0, dims))
    return Power(variance, HALF) if call.node.op.startswith("aten.std") else variance


@rule("aten.var_mean", "aten.std_mean", axes=Reduced(mean=1))
def var_mean(call: Call) -> Structures:
    dims = call.arg(1, "dim")
    growth = call.reduced(0, None if isinstance(dims, bool) else dims)
    variance = _mean(Power(Centre(call[0]), TWO, "even"), growth)
    first = Power(variance, HALF) if call.node.op.startswith("aten.std") else variance
    return (first, _mean(call[0], growth))


def _norm(call: Call) -> float:
    exponent = call.arg(1, "ord", 2)
    return 2 if exponent is None else exponent


class Norm(Reduced):
    """Of an infinite norm one entry is picked."""

    def picked(self, call: Call) -> Collection[int]:
        return self.over.of(call, len(call.shape(0))) if math.isinf(_norm(call)) else ()


@rule("aten.linalg_vector_norm", "aten.norm", axes=Norm(At(2)))
def vector_norm(call: Call) -> Structure:
    """(sum |x|^p)^(1/p); an infinite p gives an extremum."""
    exponent, dims = _norm(call), call.arg(2, "dim")
    if math.isinf(exponent):
        return Power(call[0], ONE, "even")
    p = Order(Fraction(exponent).limit_denominator(64))
    return Power(Reduce(Power(call[0], p, "even"), call.reduced(0, dims)), 1 / p)


@rule("aten.amax", "aten.amin", axes=Reduced(picks=At(1)))
@rule("aten.max.default", "aten.min.default", axes=PICKED)
@rule("aten.median.default", axes=MIXED)
def extremum(call: Call) -> Structure:
    """The extreme entry: of the order of the entries (up to logarithms)."""
    return Power(call[0], ONE)


@rule("aten.max.dim", "aten.min.dim", axes=Reduced(At(1, default=-1), picks=At(1, default=-1)))
@rule("aten.median.dim", "aten.mode", axes=Reduced(At(1, default=-1)))
@rule("aten.sort", "aten.cummax", "aten.cummin", axes=Kept(but=At(1, default=-1), picks=At(1, default=-1)))
@rule("aten.kthvalue", axes=replace(MIXED, picks=At(2, default=-1)))
@rule("aten.msort", axes=replace(MIXED, picks=At(1, default=0)))
def extremum_index(call: Call) -> Structures:
    return (Power(call[0], ONE), Discrete((call[0],)))[: len(call.node.outputs)]


@rule("aten.topk", axes=replace(MIXED, picks=At(2, default=-1)))
def topk(call: Call) -> Structures:
    """The largest entries, or the smallest, and where they stand."""
    return Power(call[0], ONE, largest=call.arg(3, "largest", True) is not False), Discrete((call[0],))


@rule("aten.max_pool1d", axes=Kept(but=Last(1)))
@rule("aten.max_pool2d_with_indices", "aten.max_pool2d", "aten.adaptive_max_pool2d", axes=Kept(but=Last(2)))
@rule("aten.max_pool3d_with_indices", axes=Kept(but=Last(3)))
def max_pool(call: Call) -> Structures:
    return (Power(call[0], ONE), Discrete((call[0],)))[: len(call.node.outputs)]


@rule("aten.avg_pool1d", "aten.adaptive_avg_pool1d", axes=Kept(but=Last(1)))
@rule("aten.avg_pool2d", "aten._adaptive_avg_pool2d", axes=Kept(but=Last(2)))
@rule("aten.avg_pool3d", "aten._adaptive_avg_pool3d", axes=Kept(but=Last(3)))
def average_pool(call: Call) -> Structure:
    """An average over space, whose extent does not grow."""
    return Reduce(call[0], ZERO)


@rule("aten.cumsum", axes=Kept(but=At(1)))
def cumsum(call: Call) -> Structure:
    return Reduce(call[0], call.reduced(0, call.arg(1)))


@rule("aten.cumprod", axes=Kept(but=At(1)))
@rule("aten.prod", axes=Reduced())
def product_of_many(call: Call) -> Structure:
    """A product of finitely many factors of order 0; over a growing axis it has no size law."""
    dims = call.arg(1, "dim")
    if call.reduced(0, dims) > 0:
        raise UnsupportedOpError(
            f"op {call.node.op} multiplies over an axis that grows with width (module {call.node.module or '(top)'}, "
            f"line {call.node.source or 'unknown'}), which has no size law; sum logarithms over it instead"
        )
    return LinearLike(call[0], offset=True)


@rule("aten.logsumexp", axes=Reduced(picks=At(1)))
def logsumexp(call: Call) -> Structure:
    """Between the largest entry and that plus log of the number of entries."""
    return LinearLike(call[0], offset=True, total=call.reduced(0, call.arg(1, "dim")))


@rule("aten._logcumsumexp", "aten.logcumsumexp", axes=Kept(but=At(1)))
def logcumsumexp(call: Call) -> Structure:
    return LinearLike(call[0], offset=True)


@rule("aten.trace", axes=MIXED)
def trace(call: Call) -> Structure:
    return Reduce(call[0], call.growth(0, 0))


@rule("aten.cross", "aten.linalg_cross", axes=MIXED)
def cross(call: Call) -> Structure:
    return Product(call[0], call[1])


@rule("aten.mse_loss")
def mse_loss(call: Call) -> Structure:
    squares = Power(Sum((call[0], call[1])), TWO, "even")
    reduction = call.arg(2, "reduction", 1)
    growth = call.reduced(0, None)
    return squares if reduction == 0 else _mean(squares, growth) if reduction == 1 else Reduce(squares, growth)


@rule("aten.mse_loss_backward")
def mse_loss_backward(call: Call) -> Structure:
    """2 (x - y) dy, over the number of entries when averaged."""
    residual = Product(call[0], Sum((call[1], call[2])))
    return Scale(residual, -call.reduced(1, None)) if call.arg(3) == 1 else residual


@rule("aten.smooth_l1_loss", "aten.huber_loss", "aten.binary_cross_entropy_with_logits")
def smooth_loss(call: Call) -> Structure:
    entries = LinearLike(Sum((call[0], call[1])), offset="binary" in call.node.op)
    reduction = call.arg(4 if "binary" in call.node.op else 2, "reduction", 1)
    growth = call.reduced(0, None)
    return entries if reduction == 0 else _mean(entries, growth) if reduction == 1 else Reduce(entries, growth)


@rule("aten.smooth_l1_loss_backward", "aten.huber_loss_backward")
def smooth_loss_backward(call: Call) -> Structure:
    slope = Product(call[0], Discrete((call[1], call[2])))
    reduction = call.arg(5 if "binary" in call.node.op else 3, "reduction", 1)
    return Scale(slope, -call.reduced(1, None)) if reduction == 1 else slope


@rule("aten.binary_cross_entropy")
def binary_cross_entropy(call: Call) -> Structure:
    """Of probabilities: logarithms, averaged over every entry unless asked otherwise."""
    entries = Product(View(call[1]), Log(call[0]))
    reduction = call.arg(3, "reduction", 1)
    growth = call.reduced(0, None)
    return entries if reduction == 0 else _mean(entries, growth) if reduction == 1 else Reduce(entries, growth)


@rule("aten.binary_cross_entropy_backward")
def binary_cross_entropy_backward(call: Call) -> Structure:
    """dy (p - t) / (p (1 - p))."""
    slope = Product(call[0], Discrete((call[1], call[2])))
    return Scale(slope, -call.reduced(1, None)) if call.arg(4, "reduction", 1) == 1 else slope


@rule("aten._ctc_loss", axes=MIXED)
def ctc_loss(call: Call) -> Structures:
    """A log-sum over alignments of finitely many log-probabilities."""
    return (LinearLike(call[0], offset=True), Discrete((call[0],)))


@rule("aten._ctc_loss_backward", axes=MIXED)
def ctc_loss_backward(call: Call) -> Structure:
    """dy times differences of probabilities."""
    return Product(call[0], Discrete((call[1],)))


@rule("aten.aminmax", axes=Reduced(picks=At(1)))
def aminmax(call: Call) -> Structures:
    return (Power(call[0], ONE), Power(call[0], ONE))
