"""Fake quantisation: rounded forward, straight through backward."""

from __future__ import annotations

from tpcalc.algebra.order import ONE
from tpcalc.rules.call import Call
from tpcalc.rules.elementwise import LOPSIDED
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import Discrete, Power, Structures


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
