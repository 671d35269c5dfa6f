"""Softmax and the fused normalisers, with their backward ops.

A normaliser written by hand (pow, mean, rsqrt, mul) is recognised in :mod:`tpcalc.lower.lowered` by homogeneity:
a product of total degree zero in one base value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.rules.axes import MIXED, At, Before, Channelwise, Kept, Last
from tpcalc.rules.call import Call
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import (
    Centre,
    Discrete,
    Known,
    Normalise,
    Operand,
    Power,
    Product,
    Reduce,
    Scale,
    Softmax,
    Structure,
    Structures,
    Sum,
    View,
)

#: Groups of channels are normalised together; the second result is their mean.
MEANT = Kept(but=Before(0), mean=1)
#: Entries count by how large they are among those along an axis.
WEIGHED = Kept(but=At(1), shared=True, picks=At(1))


def _affine(x: Structure, gain: Optional[Operand], bias: Optional[Operand]) -> Structure:
    y = x if gain is None else Product(gain, x)
    return y if bias is None else Sum((y, bias))


@rule("aten._softmax", "aten.softmax", "aten._safe_softmax", axes=WEIGHED)
def softmax(call: Call) -> Structure:
    return Softmax(call[0], call.growth(0, call.arg(1)))


@rule("aten._log_softmax", "aten.log_softmax", axes=WEIGHED)
def log_softmax(call: Call) -> Structure:
    return Softmax(call[0], call.growth(0, call.arg(1)), log=True)


@rule("aten._softmax_backward_data", axes=Kept(but=At(2), shared=True))
def softmax_backward(call: Call) -> Structure:
    """y * (dy - sum(dy * y))."""
    dy, y = call[0], call[1]
    return Product(y, Sum((dy, Reduce(Product(dy, y), call.growth(1, call.arg(2))))))


@rule("aten._log_softmax_backward_data", axes=Kept(but=At(2), shared=True))
def log_softmax_backward(call: Call) -> Structure:
    """dy - softmax * sum(dy)."""
    growth = call.growth(1, call.arg(2))
    return Sum((call[0], Scale(Reduce(call[0], growth), -growth)))


@rule("aten.nll_loss_forward", "aten.nll_loss", axes=replace(MIXED, picks=Last(1)))
@rule("aten.nll_loss2d_forward", axes=MIXED)
def nll_loss(call: Call) -> Structures:
    """Minus the entry of the target class, averaged over the batch."""
    growth = sum((size.growth for size in call.shape(1)), ZERO)
    entry: Structure = View(call[0])
    if call.arg(3, "reduction", 1) != 0 and growth > ZERO:
        entry = Reduce(entry, growth)
        entry = Scale(entry, -growth) if call.arg(3, "reduction", 1) == 1 else entry
    return (entry, Known(growth))[: len(call.node.outputs)]


@rule("aten.nll_loss_backward", "aten.nll_loss2d_backward", axes=MIXED)
def nll_loss_backward(call: Call) -> Structure:
    """(dy, x, target, weight, reduction): at the target of each sample, over their number when averaged; else zero."""
    growth = sum((size.growth for size in call.shape(2)), ZERO)
    each: Structure = Product(call[0], Discrete((call[2],)))
    each = Scale(each, -growth) if call.arg(4, "reduction", 1) == 1 and growth > ZERO else each
    return Sum((Known(MINUS_INFINITY, uniform=True), each), how="put")


@rule("aten.native_layer_norm", axes=Kept(but=Last(listed=1), of=(0, 2, 3), mean=1, shared=True))
@rule("aten.layer_norm", axes=Kept(but=Last(listed=1), of=(0, 2, 3), shared=True))
@rule("aten.native_group_norm", axes=MEANT)
@rule("aten.group_norm", axes=MIXED)
def layer_norm(call: Call) -> Structures:
    """gain * (x - mean) / std + bias; also mean and 1/std."""
    x = call[0]
    first = 1 if "group" in call.node.op else 2
    y = _affine(Normalise(Centre(x), ZERO), call.optional(first), call.optional(first + 1))
    return (y, View(x), Power(Centre(x), -ONE))[: len(call.node.outputs)]


def _norm_backward(
    call: Call, dy: Operand, x: Operand, rstd: Operand, gain: Optional[Operand], batch: Order
) -> Structures:
    """dx, dgain, dbias of a normaliser; ``x`` as it is divided, centred or not.

    dx = rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = gain * dy: every term is at most of the order of the
    first.  dgain sums dy * xhat over the ``batch`` axes, dbias sums dy.
    """
    g = dy if gain is None else Product(gain, dy)
    dx = Product(g, rstd)
    grads: tuple[Structure, ...] = (dx, Reduce(Product(dy, Product(x, rstd)), batch), Reduce(dy, batch))
    return tuple(grad if out is not None else None for grad, out in zip(grads, call.node.outputs))


@rule("aten.native_layer_norm_backward", axes=Kept(but=Last(listed=2), of=(0, 1, 4, 5, 6), shared=True))
def layer_norm_backward(call: Call) -> Structures:
    """(dy, x, normalized_shape, mean, rstd, weight, bias, mask)."""
    axes = len(call.arg(2))
    batch = sum((size.growth for size in call.shape(1)[: len(call.shape(1)) - axes]), ZERO)
    return _norm_backward(call, call[0], Centre(call[1]), call[4], call.optional(5), batch)


@rule("aten.native_group_norm_backward", axes=MIXED)
def group_norm_backward(call: Call) -> Structures:
    """(dy, x, mean, rstd, weight, N, C, HxW, groups, mask)."""
    batch = call.positions(1)
    return _norm_backward(call, call[0], Centre(call[1]), call[3], call.optional(4), batch)


@rule("aten._fused_rms_norm", "aten.rms_norm", axes=Kept(but=Last(listed=1), of=(0, 2), shared=True))
def rms_norm(call: Call) -> Structures:
    x = call[0]
    return (_affine(Normalise(x, ZERO), call.optional(2), None), Power(x, -ONE))[: len(call.node.outputs)]


@rule("aten._fused_rms_norm_backward", axes=Kept(but=Last(listed=2), of=(0, 1, 3, 4), shared=True))
def rms_norm_backward(call: Call) -> Structures:
    """(dy, x, normalized_shape, rstd, weight, mask)."""
    axes = len(call.arg(2))
    batch = sum((size.growth for size in call.shape(1)[: len(call.shape(1)) - axes]), ZERO)
    return _norm_backward(call, call[0], call[1], call[3], call.optional(4), batch)[: len(call.node.outputs)]


@rule(
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten._native_batch_norm_legit_functional",
    "aten._native_batch_norm_legit_no_training",
    "aten._batch_norm_with_update",
    "aten._batch_norm_no_update",
    "aten.cudnn_batch_norm",
    "aten.miopen_batch_norm",
    "aten._batch_norm_impl_index",
    axes=Channelwise(),
)
def batch_norm(call: Call) -> Structures:
    """Train mode divides by the batch's own deviation; eval mode by that of the running statistics, kept at order 0."""
    x, gain, bias = call[0], call.optional(1), call.optional(2)
    training = _batch_norm_trains(call)
    running_var = None if "legit.no_stats" in call.node.op else call.optional(4)
    if training or running_var is None:
        xhat: Structure = Normalise(Centre(x), ZERO)
    else:
        xhat = Product(Sum((x, call[3])), Power(running_var, -ONE / 2))
    outs = (_affine(xhat, gain, bias), View(x), Power(Centre(x), -ONE))
    rest = (Known(ZERO),) * max(0, len(call.node.outputs) - 3)
    return (outs + rest)[: len(call.node.outputs)]


def _batch_norm_trains(call: Call) -> bool:
    if "no_training" in call.node.op or "no_update" in call.node.op:
        return False
    if "_batch_norm_with_update" in call.node.op:
        return True
    return bool(call.arg(3 if "no_stats" in call.node.op else 5))


@rule("aten.native_batch_norm_backward", "aten.batch_norm_backward", axes=Channelwise())
def batch_norm_backward(call: Call) -> Structures:
    """(dy, x, weight, running_mean, running_var, save_mean, save_invstd, train, eps, mask)."""
    batch = call.positions(1)
    x: Operand = Centre(call[1]) if call.arg(7) else call[1]
    rstd: Operand
    if call.arg(7) and call.arg(6) is not None:
        rstd = call[6]
    else:
        rstd = Power(call[4], -ONE / 2) if call.arg(4) is not None else Power(Centre(call[1]), -ONE)
    return _norm_backward(call, call[0], x, rstd, call.optional(2), batch)


@rule("aten._weight_norm_interface", axes=MIXED)
def weight_norm(call: Call) -> Structures:
    """g * v / |v| over all axes but one."""
    v, g, dim = call.shape(0), call[1], call.arg(2, "dim", 0)
    growth = sum((size.growth for axis, size in enumerate(v) if axis != dim), ZERO)
    norm = Scale(Power(call[0], ONE, "even"), growth / 2)
    return (Product(g, Normalise(call[0], -growth / 2)), norm)


@rule("aten._weight_norm_interface_backward", axes=MIXED)
def weight_norm_backward(call: Call) -> Structures:
    """(dw, v, g, norms, dim): dv = g/|v| * (dw - vhat (vhat . dw)), dg = vhat . dw."""
    v, dim = call.shape(1), call.arg(4, "dim", 0)
    growth = sum((size.growth for axis, size in enumerate(v) if axis != dim), ZERO)
    vhat = Normalise(call[1], -growth / 2)
    dg = Reduce(Product(call[0], vhat), growth)
    return (Product(Product(call[0], call[2]), Power(call[3], -ONE)), dg)
