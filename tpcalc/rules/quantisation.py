"""Fake quantisation: rounded forward, straight through backward."""

from __future__ import annotations

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO
from tpcalc.rules.axes import Kept
from tpcalc.rules.call import Call
from tpcalc.rules.elementwise import LOPSIDED
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import (
    Bounded,
    Discrete,
    Known,
    Power,
    Product,
    Reduce,
    Slope,
    Structure,
    Structures,
    View,
)


@rule(
    "aten.fake_quantize_per_tensor_affine_cachemask", "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams"
)
@rule("aten.fake_quantize_per_channel_affine_cachemask")
def fake_quantized(call: Call) -> Structures:
    """Rounded to a grid, whose ends are numbers of steps from zero on; and where it was not cut off.

    A grid without one of the two signs is a relu; a zero that is a tensor is taken to lie between the ends.
    """
    low, high = call.arg(len(call.node.args) - 2), call.arg(len(call.node.args) - 1)
    zero = 0 if call.is_tensor(2) else call.arg(2)
    low, high = low - zero, high - zero
    parity = "odd" if abs(low + high) <= LOPSIDED * max(abs(low), abs(high)) or call.is_tensor(2) else "none"
    return (Power(call[0], ONE, parity), Discrete((call[0],)))


LEARNT = "aten._fake_quantize_learnable_per"


@rule(f"{LEARNT}_tensor_affine", f"{LEARNT}_channel_affine", axes=Kept(of=(0,)))
def learnt(call: Call) -> Structure:
    """(x, step, zero, ..., low, high): step * clamp(round(x / step)), straight through.  Zero moves the ends alone."""
    return Product(call[1], _steps(call, 0, 1))


@rule(f"{LEARNT}_tensor_affine_backward", f"{LEARNT}_channel_affine_backward", axes=Kept(of=(0, 1)))
def learnt_backward(call: Call) -> Structures:
    """(dy, x, step, ...): dy where nothing was cut off; for the step, the sum of dy times what rounding leaves."""
    over = sum((size.growth for size in call.shape(1)), ZERO) - sum((size.growth for size in call.shape(2)), ZERO)
    rounded = Slope(Product(call[1], Power(call[2], -ONE)))
    return View(call[0]), Reduce(Product(call[0], rounded), over), Known(MINUS_INFINITY)


def _steps(call: Call, x: int, step: int) -> Bounded:
    ends = [end for end in call.node.args if isinstance(end, int)][-2:]
    parity = "odd" if abs(sum(ends)) <= LOPSIDED * max(map(abs, ends)) else "none"
    return Bounded(Product(call[x], Power(call[step], -ONE)), zero=True, parity=parity)
