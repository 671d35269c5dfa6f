"""Comparisons, and what only counts or finds: no gradient passes."""

from __future__ import annotations

from dataclasses import replace

from tpcalc.rules.axes import MIXED, At
from tpcalc.rules.call import Call
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import Discrete, Structure, Structures

COMPARED = "isnan isinf isfinite isneginf isposinf signbit heaviside"
EITHER = "ne logical_or logical_xor bitwise_or bitwise_xor __or__ __xor__"
BOTH = "logical_and bitwise_and __and__"
COUNTED = """bucketize searchsorted isin all any equal is_nonzero _local_scalar_dense
bincount histc allclose count_nonzero"""


@rule("aten.ge", "aten.gt", "aten.le", "aten.lt")
def order(call: Call) -> Structure:
    """Which of two is larger; whether what may be zero exceeds a number from there on."""
    number = call.arg(1)
    exceeds = "aten.gt" in call.node.op and isinstance(number, (int, float)) and number >= 0
    return Discrete(call.tensors(), above="aten.g" in call.node.op if call.is_tensor(1) or exceeds else None)


@rule("aten.logical_not", "aten.bitwise_not")
def negation(call: Call) -> Structure:
    return Discrete(call.tensors(), above=False)


@rule(*(f"aten.{name}" for name in COMPARED.split()))
@rule(*(f"aten.{name}" for name in COUNTED.split()), axes=MIXED)
@rule("aten.argmax", "aten.argmin", axes=replace(MIXED, picks=At(1)))
@rule("aten.argsort", axes=replace(MIXED, picks=At(1, default=-1)))
def discrete(call: Call) -> Structure:
    """Comparisons and indices."""
    return Discrete(call.tensors())


@rule(*(f"aten.{name}" for name in EITHER.split()))
def either(call: Call) -> Structure:
    return Discrete(call.tensors(), how="or" if len(call.tensors()) == 2 else "")


@rule(*(f"aten.{name}" for name in BOTH.split()))
def both(call: Call) -> Structure:
    return Discrete(call.tensors(), how="and")


@rule("aten.eq")
def equal(call: Call) -> Structure:
    """An index beside all positions (a ``one_hot``) is equal to one of them."""
    for x, y in ((0, 1), (1, 0)):
        where = call.shape(y)
        if call.is_tensor(x) and len(where) == 1 and where[0].growth > 0:
            places, index = call.values[call.arg(y).id], call.values[call.arg(x).id]
            top = places.magnitude
            if "int" in places.dtype and "int" in index.dtype and top is not None and top.order == places.growth:
                return Discrete((call[x],), one=True)
    return Discrete(call.tensors(), how="same")


@rule("aten.one_hot", axes=MIXED)
def one_hot(call: Call) -> Structure:
    return Discrete(call.tensors(), one=True)


@rule("aten.unique_consecutive", "aten._unique2", "aten.unique_dim", "aten._unique", axes=MIXED)
def unique(call: Call) -> Structures:
    return tuple(Discrete(call.tensors()) for _ in call.node.outputs)
