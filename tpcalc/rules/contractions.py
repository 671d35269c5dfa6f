"""Contractions: matmuls, convolutions, outer sums.

``K`` is the growth of the contracted axes, ``rest`` that of the axes only one operand has; axes of both
(batch axes, groups) belong to neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.algebra.size import Size
from tpcalc.rules.axes import MIXED, Axes, Contracted, Convolved, wired
from tpcalc.rules.call import Call, number_order
from tpcalc.rules.layout import Layout
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import Contract, Power, Product, Reduce, Scale, Structure, Structures, Sum, View


def _matmul(call: Call, i: int, j: int) -> Contract:
    """x[..., m, k] y[..., k, p] (a vector stands for a matrix of one row or column)."""
    x, y = call.shape(i), call.shape(j)
    K = x[-1].growth
    batch_x, batch_y = (sum((size.growth for size in shape[:-2]), ZERO) for shape in (x, y))
    rest_x = (x[-2].growth if len(x) > 1 else ZERO) + max(batch_x - batch_y, ZERO)
    rest_y = (y[-1].growth if len(y) > 1 else ZERO) + max(batch_y - batch_x, ZERO)
    return Contract(call[i], call[j], K, rest_x, rest_y)


@rule("aten.inner", axes=Contracted(linear=True))
@rule("aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot", "aten.matmul", axes=Contracted())
def matmul(call: Call) -> Structure:
    return _matmul(call, 0, 1)


@rule("aten.addmm", "aten.addmv", "aten.baddbmm", "aten._addmm_activation", axes=Contracted(1, 2, bias=0))
def addmm(call: Call) -> Structure:
    """beta*b + alpha*(x y)."""
    beta, alpha = number_order(call.arg(3, "beta", 1)), number_order(call.arg(4, "alpha", 1))
    product: Structure = _matmul(call, 1, 2)
    if alpha != 0:
        product = Scale(product, alpha)
    if beta is MINUS_INFINITY:
        return product
    return Sum((call[0] if beta == 0 else Scale(call[0], beta), product))


@rule("aten.addbmm", axes=MIXED)
def addbmm(call: Call) -> Structure:
    """Sums over the batch axis too."""
    product = Reduce(_matmul(call, 1, 2), call.growth(1, 0))
    return Sum((call[0], product))


@rule("aten.addr", "aten.outer", "aten.ger", axes=MIXED)
def outer(call: Call) -> Structure:
    if call.node.op.startswith("aten.addr"):
        return Sum((call[0], Product(call[1], call[2])))
    return Product(call[0], call[1])


@rule("aten.linear", axes=Contracted(bias=2, linear=True))
def linear(call: Call) -> Structure:
    """x[..., k] w[j, k] + b[j]."""
    w = call.shape(1)
    rest_x = sum((size.growth for size in call.shape(0)[:-1]), ZERO)
    y = Contract(call[0], call[1], K=w[-1].growth, rest_x=rest_x, rest_y=w[0].growth if len(w) > 1 else ZERO)
    bias = call.optional(2, "bias")
    return y if bias is None else Sum((y, bias))


@rule("aten._grouped_mm", "aten._scaled_grouped_mm", axes=Contracted())
def grouped_mm(call: Call) -> Structure:
    """x[s, k] w[e, k, j]: each row meets the matrix of its own group, of which there are as many as of no other axis.

    Of x[k, s] y[s, j] (the gradient of w) a group collects what the rows of a table do: the rows less the groups, where
    those are fewer."""
    x, y = call.shape(0), call.shape(1)
    if len(x) == len(y) == 3:
        return _matmul(call, 0, 1)
    K = x[-1].growth
    if len(x) == len(y):
        K = max(K - call.out_shape()[0].growth, ZERO)
    return Contract(call[0], call[1], K, x[-2].growth, y[-1].growth)


@dataclass(frozen=True)
class Trilinear(Axes):
    """Three operands, each with axes put in where it has none, and a sum over some."""

    def layout(self, call: Call) -> Layout:
        by_arg, rank = {}, len(call.shape(0)) + len(call.arg(3))
        for operand in range(3):
            by_arg[operand] = tuple(dim for dim in range(rank) if dim not in call.arg(3 + operand))
        summed = frozenset(call.arg(6))
        return wired(call, by_arg, [tuple(dim for dim in range(rank) if dim not in summed)], summed=summed)


@rule("aten._trilinear", axes=Trilinear())
def trilinear(call: Call) -> Structure:
    """The bilinear layer: x1[b, i] w[o, i, j] x2[b, j], summed over i and j; also the products of its backward."""
    sumdim = call.arg(6)
    expanded = []
    for index, expand in ((0, call.arg(3)), (1, call.arg(4)), (2, call.arg(5))):
        sizes: list[Optional[Size]] = list(call.shape(index))
        for dim in expand:
            sizes.insert(dim, None)
        expanded.append(sizes)
    summed = [max(size.growth for sizes in expanded if (size := sizes[dim]) is not None) for dim in sumdim]
    weight = [size.growth for dim, size in enumerate(expanded[1]) if size is not None and dim not in sumdim]
    # the second operand is the layer's weight in the forward pass; the two others enter as an outer product of values,
    # of which one factor changes at a time (tpcalc.lower.outer)
    rest = sum(weight, ZERO) + (min(summed) if len(summed) > 1 else ZERO)
    return Contract(Product(call[0], call[2]), call[1], sum(summed, ZERO), ZERO, rest)


def _conv_growths(call: Call, i: int, transposed: bool, groups: Any) -> tuple[Order, Order]:
    """(K, rest) of a convolution weight [out, in/g, *kernel], or [in, out/g, *kernel] when transposed."""
    weight = call.shape(i)
    kernel = sum((size.growth for size in weight[2:]), ZERO)
    g = number_order(groups)
    if transposed:
        return weight[0].growth - g + kernel, weight[1].growth
    return weight[1].growth + kernel, weight[0].growth - g


@rule("aten.convolution", "aten._convolution", axes=Convolved())
def convolution(call: Call) -> Structure:
    """Contraction over the input channels of a group and the kernel."""
    K, rest = _conv_growths(call, 1, call.arg(6), call.arg(8))
    y = Contract(call[0], call[1], K, call.positions(0), rest)
    bias = call.optional(2)
    return y if bias is None else Sum((y, bias))


@rule("aten.convolution_backward", axes=Convolved(x=1, weight=2, bias=None, transposed=7, groups=9, dy=0))
def convolution_backward(call: Call) -> Structures:
    """dx contracts over output channels, dw over batch and space, db sums over batch and space."""
    dy, x = call[0], call[1]
    K, rest = _conv_growths(call, 2, call.arg(7), call.arg(9))
    batch = call.positions(0)
    dx = Contract(dy, call[2], rest, batch, K)
    dw = Contract(dy, x, batch, rest, K)
    db = Reduce(dy, batch)
    return tuple(g if out is not None else None for g, out in zip((dx, dw, db), call.node.outputs))


@rule("aten._cdist_forward", "aten._euclidean_dist", axes=MIXED)
def cdist(call: Call) -> Structure:
    """Distance of rows: the root of a sum of squares over the last axis, at most the larger norm."""
    squares = Power(Sum((View(call[0]), View(call[1]))), Order(2), "even")
    return Power(Reduce(squares, call.growth(0, -1)), HALF)


@rule("aten._cdist_backward", axes=MIXED)
def cdist_backward(call: Call) -> Structure:
    """(dy, x, y, p, distance): sum over the rows of y of dy (x - y) / distance."""
    direction = Product(Sum((View(call[1]), View(call[2]))), Power(call[4], -ONE))
    return Reduce(Product(View(call[0]), direction), call.growth(2, -2))
