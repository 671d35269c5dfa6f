"""An oracle for the rule of every op: the measured slope of its own result, at init and under change.

Each case is a few lines of PyTorch on operands of known orders.  It is traced, its orders are propagated, and it is
run for
real at four widths with weights of those orders, before and after an update of those orders that is aligned with
everything.  Every
op that it meets, in the forward and in the backward pass, is measured under its own value id.

The registry is enumerated: a rule without a case or a written reason fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.once import once
from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.calculus.facts import WeightOrders
from tpcalc.calculus.laws import LAWS, propagate
from tpcalc.check.slopes import fit
from tpcalc.check.training import rms
from tpcalc.lower.flatten import lower
from tpcalc.program.ir import Node
from tpcalc.rules import REGISTRY, Registry
from tpcalc.rules.structures import (
    Contract,
    Discrete,
    Guard,
    Known,
    Log,
    Normalise,
    Power,
    Product,
    Reduce,
    Repeat,
    Scale,
    Slope,
    Softmax,
    Sum,
    View,
    operands,
)
from tpcalc.trace.record import Files, observe

WIDTHS = (64, 512, 4096)
#: For cases with n x n tensors.
SMALL_WIDTHS = (64, 128, 256, 512)
#: For cases with axes of length sqrt(n).
SQUARES = (64, 256, 1024, 4096)
#: Two seeds, and one more where they leave a doubt; `make slow` has all three everywhere.
SEEDS, MOST_SEEDS = 2, 3
TOLERANCE = 0.15
#: A slope must be this many standard errors off, too.
SIGMAS = 2.5
#: What these hold is not defined until it is written.
UNDEFINED = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
BATCH, FEATURES, SIDE = 6, 5, 6
aten = torch.ops.aten
H = Fraction(1, 2)

#: (A, C) of ``x``; the other operands have (0, 0), (0, 1/2) ... as in Operands.
ANY = ((0, 0), (0, H), (H, 0), (-H, -H))
SMALL = ((0, 0), (0, H), (H, H), (H, 1))
NOUGHT = ((0, 0),)


class Operands(nn.Module):
    """The operands of the cases, and the module that calls one.

    ``x``, ``y``: values [6, n], sign-symmetric, independent of each other at init.  ``p``: a positive vector [n].
    ``W``, ``R``,
    ``E``, ``Z``: weights [n, n], [3, n], [11, n], [n, n].  ``image``: a value [2, n, 6, 6].  ``d``: the data [6, 5].
    """

    def __init__(self, n: int, call: Callable):
        super().__init__()
        self.call, self.n = call, n
        shapes = {"U": (n, FEATURES), "V": (n, FEATURES), "R": (3, n), "E": (11, n), "p": (n,)}
        square = {"W": (n, n), "Z": (n, n), "kernel": (n, n, 3, 3), "line": (n, n, 3)}
        shapes.update({name: shape for name, shape in square.items() if name in call.__code__.co_names})
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape) if name != "p" else torch.ones(shape)))

    def forward(self, d: Tensor):
        self.d = d
        self.x, self.y = d @ self.U.t(), d @ self.V.t()
        pixels = torch.cat([d, d.flip(0), 1 - d]).repeat(4, 1)
        self.image = (pixels @ self.U.t()).view(2, SIDE, SIDE, self.n).permute(0, 3, 1, 2)
        outputs = self.call(self)
        return [out for out in outputs if out.requires_grad] or [self.x]


@dataclass
class Case:
    """``call(o)`` returns tensors.  ``orders``: (A, C) of ``x`` to try.  ``loose``: op -> why only the upper bound
    holds.

    ``backward``: compare gradients too.  ``change``: compare the change too.  ``sparse``: why gradients are only
    bounded.
    """

    name: str
    call: Callable
    orders: tuple = ANY
    loose: dict[str, str] = field(default_factory=dict)
    backward: bool = True
    change: bool = True
    widths: tuple = WIDTHS
    sparse: str = ""


CASES: list[Case] = []


def case(name: str, orders=ANY, **options):
    def register(call):
        CASES.append(Case(name, call, orders, **options))
        return call

    return register


def orders_of(A, C) -> dict[str, WeightOrders]:
    exponents = {
        "U": (A, C),
        "V": (0, H),
        "W": (H, 1),
        "Z": (H, 1),
        "R": (1, 1),
        "E": (0, 0),
        "p": (A, C),
        "kernel": (H, 1),
        "line": (H, 1),
    }
    return {name: WeightOrders(Fraction(a), Fraction(c), random=name != "p") for name, (a, c) in exponents.items()}


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).mean().sqrt()


def initialise(model: Operands, orders: dict[str, WeightOrders]) -> None:
    n = model.n
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            entries = 0.5 + torch.rand(parameter.shape) if name == "p" else torch.randn(parameter.shape)
            parameter.copy_(entries * n ** -float(orders[name].A))


def update(model: Operands, orders: dict[str, WeightOrders]) -> None:
    """Add to every weight an update of its order, aligned with the other weights and with what it meets."""
    n = model.n
    w = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    u, v = unit(w["U"]), unit(w["V"])
    both = unit(u.sum(1) + v.sum(1))
    directions = {
        "U": u + v + 1,
        "V": u + v + 1,
        "R": u[:, :3].t() + v[:, :3].t(),
        "E": unit(w["E"]) + both,
        "p": 0.5 + torch.rand(n),
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in directions:
                direction = directions[name]
            else:
                direction = torch.outer(both, both).view(n, n, *(1,) * (parameter.dim() - 2)).expand(parameter.shape)
            parameter.add_(0.3 * unit(direction) * n ** -float(orders[name].C))


def data() -> Tensor:
    return torch.randn(BATCH, FEATURES, generator=torch.Generator().manual_seed(1))


@once
def traced(index: int):
    call = CASES[index].call
    return tpcalc.trace(lambda n: (Operands(n, call), (data(),)), CASES[index].widths)


@once
def lowered(index: int):
    # slopes are those of root mean squares: of outputs the largest would count (tpcalc.lower.picks)
    return lower(replace(traced(index), outputs=()))


#: The models of the cases keep nothing.
KEPT = Files(())


def measure(index: int, n: int, seed: int, orders, backward: bool) -> dict[tuple[str, int], float]:
    """(quantity, value id) -> rms."""
    program = traced(index)
    draw_from(seed)
    model = Operands(n, CASES[index].call)
    initialise(model, orders)
    sizes: dict[tuple[str, int], float] = {}
    before: dict[int, Tensor] = {}
    paths = {path: program.values[vid].shape for path, vid in program.outputs}

    def seeded(path: str, output: Tensor) -> Tensor:
        growth = sum(float(size.growth) for size in paths[path])
        return torch.randn(output.shape, dtype=output.dtype) * n**-growth if output.dim() else torch.ones_like(output)

    def first(vid: int, tensor: Tensor) -> None:
        if tensor.is_floating_point() or tensor.is_complex():
            sizes["init", vid] = rms(tensor)
            before[vid] = tensor.detach().clone()
        elif tensor.dtype == torch.bool:  # the root of the share of what is true
            sizes["init", vid] = rms(tensor.double())

    def second(vid: int, tensor: Tensor) -> None:
        if vid in before and before[vid].shape == tensor.shape:
            moved = rms(tensor - before[vid])
            rounding = 3e-6 * rms(tensor) if moved else 0.0
            sizes["change", vid] = moved if moved > rounding else 0.0

    draw_from(seed)
    observe(model, (data(),), first, backward=backward, seed=seeded, files=KEPT)
    update(model, orders)
    draw_from(seed)
    observe(model, (data(),), second, files=KEPT)
    return sizes


def draw_from(seed: int) -> None:
    """As torch.manual_seed, which looks at every kind of device, and is slow."""
    torch.default_generator.manual_seed(seed)


def registered(op: str) -> str:
    """The name under which the rule of an op stands."""
    return next((name for name in REGISTRY.names_of(op) if name in REGISTRY.rules), "")


def compared(index: int) -> Iterator[tuple[Node, int, int]]:
    """(node, position, value id) of every result that a case compares with its prediction."""
    case_, program = CASES[index], traced(index)
    for node in program.nodes:
        op = registered(node.op).removeprefix("aten.")
        if op in UNDEFINED or case_.loose.get(op) == "skip" or (node.phase == "backward" and not case_.backward):
            continue
        for position, out in enumerate(node.outputs):
            if out is None or case_.loose.get(f"{op}[{position}]") == "skip":
                continue
            if any(kind in program.values[out].dtype for kind in ("float", "complex", "bool")):
                yield node, position, out


def problems(index: int, A, C, seeds: int) -> list[str]:
    """Where a slope is not what the rule says; of more seeds than ``seeds``, if there is any."""
    case_, orders = CASES[index], orders_of(A, C)
    facts = propagate(lowered(index), orders)
    runs: list = []
    found: list[str] = []
    while len(runs) < seeds or (found and len(runs) < MOST_SEEDS):
        runs.append([measure(index, n, len(runs), orders, case_.backward) for n in case_.widths])
        found = off(index, A, C, facts, runs) if len(runs) >= seeds else []
    return found


def off(index: int, A, C, facts, runs: list[list[dict[tuple[str, int], float]]]) -> list[str]:
    """Where a slope of ``runs``, by seed and width, is not what the facts say."""
    case_, program = CASES[index], traced(index)
    found = []
    for node, position, out in compared(index):
        op = registered(node.op).removeprefix("aten.")
        # of what flips see test_propagate.py; it may be true nowhere
        whole = "bool" not in program.values[out].dtype
        for quantity in ("init", "change") if node.phase == "forward" and case_.change and whole else ("init",):
            predicted = getattr(facts[out], quantity)
            if (quantity, out) not in runs[0][0]:
                continue  # the real backward pass of a norm may need one copy less
            sizes = [[run.get((quantity, out), math.nan) for run in row] for row in runs]
            slope = fit(case_.widths, sizes)
            what = f"{case_.name} at A={A}, C={C}: {quantity} of {node.op}[{position}] ({node.phase})"
            if slope is None:
                zero = all(size == 0.0 for row in sizes for size in row)
                if not zero or (
                    quantity == "init" and predicted is not MINUS_INFINITY and op not in case_.loose and whole
                ):
                    found.append(f"{what}: {'zero' if zero else 'not positive'} at every width, predicted {predicted}")
                continue
            if predicted is MINUS_INFINITY:
                found.append(f"{what}: slope {slope.value:+.2f}, predicted zero")
                continue
            excess = slope.value - float(predicted)
            bounded = (
                op in case_.loose or f"{op}[{position}]" in case_.loose or (case_.sparse and node.phase == "backward")
            )
            if case_.loose.get(op, "").startswith("log"):
                excess = max(0.0, abs(excess) - 0.1)
            if abs(excess) > SIGMAS * slope.error and (excess > TOLERANCE or (excess < -TOLERANCE and not bounded)):
                found.append(f"{what}: slope {slope.value:+.2f} +- {slope.error:.2f}, predicted {predicted}")
    return found


# -- the cases: elementwise ------------------------------------------------------------------------

FLIPS = "entries that flip are few and large: their rms is the root of their share"


@case("arithmetic")
def _(o):
    z = o.x + o.y
    return [
        z,
        o.x - 2 * o.y,
        aten.rsub(o.x, o.y),
        -o.x,
        o.x * o.y,
        o.x * 3.0,
        o.x / o.p,
        o.x / 3.0,
        o.x * o.x,
        torch.addcmul(o.y, o.x, o.y),
        torch.addcdiv(o.y, o.x, o.p),
        o.x * o.n**0.5,
        o.x / o.n,
        torch.lerp(o.x, o.y, 0.3),
    ]


@case("means with learned weights")
def _(o):
    return [torch.lerp(o.x, o.y, o.p), torch.lerp(o.x, o.p, torch.sigmoid(o.y))]


@case("samples at learned places", orders=((0, 1),), backward=False)
def _(o):
    """The image hardly moves; the places do."""
    places = (o.x @ o.R.t()).view(1, 3, 3, 2)
    return [F.grid_sample(o.image[:1], 0.3 + places, align_corners=True)]


@case("powers")
def _(o):
    x, p = o.x, o.p
    return [x**2, x**3, p**-1, p**0.5, p**-1.5, x.square(), p.sqrt(), p.rsqrt(), p.reciprocal(), x.abs()]


@case("homogeneous activations", loose={"rrelu_with_noise": "skip"})
def _(o):
    s = torch.full((1,), 0.25)
    return [
        F.relu(o.x),
        F.leaky_relu(o.x),
        aten._prelu_kernel(o.x, s.expand(o.n)[None, :]),
        F.rrelu(o.x, training=False),
    ]


@case("random leaky relu", orders=((0, 0), (H, H)), change=False)
def _(o):
    return [F.rrelu(o.x, training=True)]


#: Close to zero a gate such as silu's is x/2: linear, too.
@case("activations that are linear far out", orders=((0, 0), (0, H), (H, H), (-H, -H)))
def _(o):
    return [F.gelu(o.x), F.silu(o.x), F.mish(o.x), F.hardswish(o.x), F.elu(o.x), F.celu(o.x), F.selu(o.x)]


@case("fake quantisation", orders=((0, 0), (H, H)))
def _(o):
    step, zero = o.x.detach().abs().amax() / 7, torch.zeros((), dtype=torch.int32)
    steps, zeros = step.expand(o.x.shape[-1]), zero.expand(o.x.shape[-1])
    return [
        torch.fake_quantize_per_tensor_affine(o.x, step, zero, -8, 7),
        torch.fake_quantize_per_channel_affine(o.x, steps, zeros, o.x.dim() - 1, -8, 7),
        torch.fake_quantize_per_tensor_affine(o.x, 0.01, 0, -(2**20), 2**20),
        torch._fake_quantize_learnable_per_tensor_affine(o.x, step.reshape(1), zero.reshape(1).float(), -8, 7, 1.0),
        torch._fake_quantize_learnable_per_channel_affine(o.x, steps, zeros.float(), o.x.dim() - 1, -8, 7, 1.0),
    ]


@case("shrinkage", orders=((0, 0), (-H, -H)))
def _(o):
    return [F.softshrink(o.x), F.hardshrink(o.x), F.threshold(o.x, 0.1, 0.0)]


@case("activations with an offset", orders=((0, 0), (0, H), (H, H), (H, 1)))
def _(o):
    return [F.softplus(o.x), F.logsigmoid(o.x)]


@case("bounded", orders=SMALL)
def _(o):
    x = o.x
    return [x.tanh(), x.sin(), x.atan(), x.erf(), x.asinh(), F.hardtanh(x)]


@case("bounded, not zero at zero", orders=((0, 0), (0, H)))
def _(o):
    return [o.x.sigmoid(), F.hardsigmoid(o.x), o.x.erfc(), o.x.cos(), o.x.sinc()]


@case("settled at one half", orders=((H, 1), (H, H)), backward=False)
def _(o):
    # of cos and sinc the change is of n^-3/2 where x is of n^-1/2 and moves by n^-1: too small beside 1 to be measured
    return [o.x.sigmoid(), F.hardsigmoid(o.x), o.x.erfc()]


@case("flat at zero", orders=((Fraction(1, 4), H), (Fraction(1, 4), Fraction(1, 4))), backward=False)
def _(o):
    return [o.x.cos(), (o.x / 8).sinc(), o.x.cosh()]


@case("defined near zero", orders=((H, 1), (H, H)), backward=False)
def _(o):
    small = 0.1 * o.x.tanh()
    return [
        small.tan(),
        small.erfinv(),
        small.asin(),
        small.atanh(),
        small.acos(),
        torch.lgamma(1.5 + small),
        torch.digamma(2.5 + small),
    ]


@case("derivatives of digamma", orders=((0, 0), (0, H)))
def _(o):
    return [torch.digamma(2.5 + 0.1 * o.x.tanh())]


@case("angles", orders=((0, 0), (H, H)), backward=False, loose={"atan2": "the angle is a bounded function of a ratio"})
def _(o):
    return [torch.atan2(o.y, o.p), torch.polar(o.p, o.y), torch.complex(o.x, o.y)]


@case("gated units", orders=((0, 0), (0, H)))
def _(o):
    return [F.glu(o.x, 0), torch.hypot(o.x, o.y), o.x.tanh().sinh(), o.x.tanh().cosh()]


@case("signs", orders=((0, 0), (H, H)))
def _(o):
    return [torch.copysign(o.x, o.y)]


@case("x log y", orders=((0, 0), (0, H)))
def _(o):
    return [torch.xlogy(o.x, o.p), torch.special.xlog1py(o.x, o.p)]


@case("small matrices", orders=((0, 0), (0, H)), backward=False)
def _(o):
    m = 0.1 * o.x[:4].t().reshape(o.n, 2, 2).tanh() + torch.eye(2)
    symmetric = m @ m.mT
    u, s, v = torch.linalg.svd(m)
    w, q = torch.linalg.eigh(symmetric)
    return [
        torch.linalg.inv(m),
        torch.linalg.solve(m, m),
        torch.linalg.solve_triangular(m.tril(), m, upper=False),
        torch.triangular_solve(m, m.tril(), upper=False)[0],
        torch.linalg.cholesky(symmetric),
        torch.linalg.qr(m)[1],
        s,
        w,
        torch.linalg.slogdet(3 * m)[1],
        torch.linalg.matrix_exp(m),
        torch.diag_embed(o.x[:2].t()),
        torch.block_diag(o.x[:2], o.x[:2]),
    ]


@case("exponentials", orders=((0, 0), (0, H)))
def _(o):
    x = o.x.tanh()
    return [x.exp(), x.exp2(), x.expm1(), 2.0**x, o.p**x]


@case("logarithms", orders=((0, 0), (0, H)))
def _(o):
    return [o.p.log(), o.p.log2(), o.p.log10(), o.p.log1p(), torch.logit(0.1 + 0.8 * o.x.sigmoid())]


@case("sums of logarithms", orders=((0, 0), (0, H)), backward=False)
def _(o):
    return [torch.logaddexp(o.x, o.y), torch.logaddexp2(o.x, o.y)]


@case("clamps", orders=((0, 0), (0, H)))
def _(o):
    return [
        o.x.clamp(-1, 1),
        o.x.clamp(min=0.0),
        o.x.clamp_min(0.1),
        o.x.clamp_max(0.3),
        torch.maximum(o.x, o.y),
        torch.minimum(o.x, o.y),
        torch.fmax(o.x, o.y),
        torch.fmin(o.x, o.y),
        torch.max(o.x, o.y),
        torch.min(o.x, o.y),
    ]


@case("rounding", orders=((0, 0),), backward=False)
def _(o):
    x = 5 * o.x.detach()
    return [
        x.round(),
        x.floor(),
        x.ceil(),
        x.trunc(),
        x.frac(),
        torch.nan_to_num(x),
        x.remainder(2.0),
        x.fmod(2.0),
        torch.floor_divide(x, 2.0),
        torch.div(x, 2.0, rounding_mode="floor"),
        torch.div(x, o.y, rounding_mode="trunc").clamp(-1, 1),
    ]


@case("signs", orders=((0, 0), (H, H)), backward=False)
def _(o):
    x = o.x.detach()
    return [x.sign(), torch.sgn(x), torch.heaviside(x, torch.tensor([0.5]))]


@case("dropout", orders=((0, 0), (H, H)))
def _(o):
    return [F.dropout(o.x, 0.3), aten.native_dropout(o.x, 0.3, True)[0]]


@case("comparisons and indices", orders=NOUGHT, backward=False)
def _(o):
    x, y = o.x.detach(), o.y.detach()
    a, b = x > 0, y > 0
    i = torch.arange(BATCH)
    made = [
        (x > 0) == (y > 0),
        x > 2 * x,
        x != y,
        x < y,
        x >= y,
        x <= y,
        a & b,
        a | b,
        a ^ b,
        ~a,
        torch.logical_and(a, b),
        torch.logical_or(a, b),
        torch.logical_not(a),
        torch.logical_xor(a, b),
        x.isnan(),
        x.isinf(),
        x.isfinite(),
        x.isneginf(),
        x.isposinf(),
        x.signbit(),
        torch.bucketize(x, torch.tensor([0.0, 1.0])),
        torch.searchsorted(torch.tensor([0.0, 1.0]), x),
        torch.isin(i, i[:2]),
        a.all(),
        a.any(),
        x.argmax(1),
        x.argmin(1),
        x.argsort(1),
        x.count_nonzero(),
        F.one_hot(i % 3),
        i >> 1,
        i << 1,
        i // 2,
        i % 4,
    ]
    return [o.x + 0 * item.sum() for item in made]


# -- reductions ------------------------------------------------------------------------------------


@case("sums over a growing axis of odd values", orders=((0, 0), (H, H), (-H, -H)))
def _(o):
    return [o.x.sum(1), o.x.sum(), o.x.nansum(1), o.x.mean(1), o.x.mean()]


@case("sums over a growing axis of positive values", orders=((0, 0), (0, H), (H, 1)))
def _(o):
    a = o.x.abs()
    return [a.sum(1), a.mean(1), a.mean(), a.sum(0), a.mean(0)]


@case("moments and norms", orders=((0, 0), (H, H), (-H, -H)))
def _(o):
    return [
        o.x.var(1),
        o.x.std(1),
        o.x.norm(dim=1),
        o.x.norm(p=1, dim=1),
        torch.linalg.vector_norm(o.x, dim=1),
        aten.norm(o.x, 2, [1]),
        o.x.var(0),
        o.x.std(0),
    ]


@case("moments with the mean", orders=((0, 0), (H, H)), loose={"var_mean[1]": "parity", "std_mean[1]": "parity"})
def _(o):
    return [torch.var_mean(o.x, 1)[0], torch.std_mean(o.x, 1)[0]]


@case(
    "extremes",
    orders=((0, 0), (H, H)),
    backward=False,
    loose=dict.fromkeys(("max.default", "min.default", "detach"), "log n counts as 0"),
)
def _(o):
    x = o.x
    return [
        x.amax(0),
        x.amin(0),
        x.max(0)[0],
        x.min(0)[0],
        x.median(0)[0],
        x.mode(0)[0],
        x.kthvalue(2, 0)[0],
        x.topk(2, 0)[0],
        x.sort(0)[0],
        x.cummax(0)[0],
        x.cummin(0)[0],
        x.msort(),
        x.max(),
        x.min(),
        aten.median.default(x.abs()),
    ]


@case("scans", orders=((0, 0), (H, H)), backward=False)
def _(o):
    return [o.x.cumsum(0), (o.x @ o.y.t()).trace()]


@case("products over an axis", orders=((0, 0),), backward=False)
def _(o):
    return [o.x.tanh().prod(0), o.x.tanh().cumprod(0), o.x.logsumexp(0), o.x.logcumsumexp(0)]


@case("pooling", orders=((0, 0), (H, H)))
def _(o):
    m = o.image
    return [
        F.max_pool2d(m, 2),
        F.avg_pool2d(m, 2),
        F.adaptive_avg_pool2d(m, 2),
        F.adaptive_max_pool2d(m, 2),
        F.max_pool3d(m[:, :, None], (1, 2, 2)),
        F.avg_pool3d(m[:, :, None], (1, 2, 2)),
        F.adaptive_avg_pool3d(m[:, :, None], (1, 2, 2)),
    ]


@case("losses", orders=((0, 0), (0, H)))
def _(o):
    z = o.x
    return [
        F.mse_loss(o.x, o.y),
        F.mse_loss(o.x, o.y, reduction="none"),
        F.mse_loss(o.x, o.y, reduction="sum"),
        F.smooth_l1_loss(o.x, o.y),
        F.huber_loss(o.x, o.y),
        F.binary_cross_entropy_with_logits(z, torch.full_like(z, 0.5)),
    ]


@case("cross-entropy", orders=((0, 0),), backward=True)
def _(o):
    logits = o.x @ o.R.t()
    target = torch.arange(BATCH) % 3
    return [
        F.cross_entropy(logits, target),
        F.nll_loss(F.log_softmax(logits.view(2, 3, 3), 1), torch.zeros(2, 3, dtype=torch.long)),
    ]


# -- normalisers -----------------------------------------------------------------------------------

MEAN = "the mean over the growing axis averages out"


@case("softmax over a finite axis", orders=((0, 0), (0, H)))
def _(o):
    return [o.x.softmax(0), o.x.log_softmax(0), aten._safe_softmax(o.x, 0)]


@case(
    "softmax over a growing axis", orders=((0, 0), (0, H)), backward=False, loose={"_log_softmax": "log n counts as 0"}
)
def _(o):
    return [o.x.tanh().softmax(1)]


@case("norms over a growing axis", orders=((0, 0), (0, H), (H, 1), (-H, -H)), loose={"native_layer_norm[1]": MEAN})
def _(o):
    n = (o.n,)
    return [
        F.layer_norm(30 * o.x, n),
        F.layer_norm(30 * o.x, n, o.p * 0 + 1, o.p * 0),
        F.rms_norm(30 * o.x, n),
        F.rms_norm(30 * o.x, n, o.p * 0 + 1),
    ]


def nearly_constant(x):
    """Functions of what vanishes: one number each, and a part that vanishes."""
    return [x.sigmoid(), x.exp(), F.softplus(x), 3 * x.view(6, -1, 4).softmax(-1).flatten(1), 2 - x]


#: What a norm does with a constant that vanishes beside it: (A, C) of the vanishing part.
VANISHING = ((H, 1), (H, H))
NO_PARITY = "a sum over what is left of a constant may cancel: its parity is not known"


def layer_norm_by_hand(x):
    x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-20)


@case("layer norms of what is nearly constant", orders=VANISHING)
def _(o):
    return [F.layer_norm(x, (o.n,), eps=1e-20) for x in nearly_constant(o.x)]


@case("layer norms by hand of what is nearly constant", orders=VANISHING, sparse=NO_PARITY)
def _(o):
    return [layer_norm_by_hand(x) for x in nearly_constant(o.x)]


@case("group norms of what is nearly constant", orders=VANISHING)
def _(o):
    return [F.group_norm(x, 4, eps=1e-20) for x in nearly_constant(o.x)]


@case("batch norms of what is nearly constant", orders=VANISHING)
def _(o):
    return [F.batch_norm(x, None, None, training=True, eps=1e-20) for x in nearly_constant(o.x)]


@case("variances of what is nearly constant", orders=VANISHING)
def _(o):
    found = []
    for x in nearly_constant(o.x):
        found += [x.var(1), x.std(1), torch.var_mean(x, 1)[0], torch.std_mean(x, 1)[0]]
    return found


@case("norms of what is even and nearly constant", orders=VANISHING)
def _(o):
    return [F.layer_norm(x, (o.n,), eps=1e-20) for x in (o.x.cos(), o.x.cosh())]


@case("an rms norm keeps a constant", orders=((H, 1),), change=False, sparse=NO_PARITY)
def _(o):
    found = []
    for x in nearly_constant(o.x):
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True))
        found += [y, F.layer_norm(y, (o.n,), eps=1e-20)]
    return found


@case("norms over space and batch", orders=((0, 0), (0, H), (H, 1), (-H, -H)))
def _(o):
    m = 30 * o.image
    return [F.group_norm(m, o.n // 4), F.batch_norm(m, None, None, training=True)]


#: Statistics of the batch: empty where running ones are used.
NO_STATISTICS = {
    f"{op}[{i}]": "skip"
    for op in ("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update")
    for i in (1, 2)
}


@case("batch norm by running statistics", orders=((0, 0),), loose=NO_STATISTICS)
def _(o):
    mean, var = torch.zeros(o.n), torch.ones(o.n)
    return [
        F.batch_norm(o.image, mean, var, training=False),
        aten._native_batch_norm_legit_no_training(o.image, None, None, mean, var, 0.1, 1e-5)[0],
        aten._batch_norm_no_update(o.image, o.p * 0 + 1, o.p * 0, mean, var, 0.1, 1e-5)[0],
    ]


#: Running statistics: kept at order 0, whatever goes into them.
RUNNING = {f"{op}[{i}]": "skip" for op in ("_native_batch_norm_legit", "_batch_norm_with_update") for i in (3, 4, 5)}


@case("batch norm by its other names", orders=((0, 0), (0, H), (H, 1)), loose=RUNNING)
def _(o):
    m, mean, var, one = 30 * o.image, torch.zeros(o.n), torch.ones(o.n), o.p * 0 + 1
    return [
        aten._native_batch_norm_legit(m, one, o.p * 0, mean, var, True, 0.1, 1e-5)[0],
        aten._batch_norm_with_update(m, one, o.p * 0, mean, var, 0.1, 1e-5)[0],
        aten._native_batch_norm_legit(m, one, o.p * 0, True, 0.1, 1e-5)[0],
    ]


@case(
    "weight norm",
    orders=((0, 0), (H, 1)),
    widths=SMALL_WIDTHS,
    loose={"_weight_norm_interface[1]": "the norm moves only along the weight"},
)
def _(o):
    return [aten._weight_norm_interface(o.W, torch.ones(o.n, 1), 0)[0] @ o.y.t()]


# -- contractions ----------------------------------------------------------------------------------


@case("a weight and an independent value", orders=((0, 0), (0, H), (H, H)), widths=SMALL_WIDTHS)
def _(o):
    x, W = o.x, o.W
    return [
        x @ W,
        torch.addmm(o.p, x, W),
        W.mv(x[0]),
        torch.addmv(o.p, W, x[0]),
        torch.bmm(x[None], W[None]),
        torch.baddbmm(x[None], x[None], W[None]),
        x @ o.R.t(),
        aten._addmm_activation(o.p.detach(), x.detach(), W.detach()),
    ]


@case("values", orders=((0, 0), (0, H), (H, H)), widths=(*SMALL_WIDTHS, 1024))
def _(o):
    x, y = o.x, o.y
    return [
        x @ y.t(),
        x @ x.t(),
        x.abs() @ y.abs().t(),
        x.t() @ y,
        torch.dot(x[0].abs(), y[0].abs()),
        torch.vdot(x[0].abs(), y[0].abs()),
        torch.addbmm(torch.zeros(BATCH, BATCH), x[None], y.t()[None]),
    ]


@case(
    "outer products",
    orders=((0, 0), (0, H), (H, H)),
    widths=SMALL_WIDTHS,
    sparse="along which of two growing axes signs run is not kept",
)
def _(o):
    return [torch.outer(o.x[0], o.y[0]), torch.addr(torch.zeros(o.n, o.n), o.x[0], o.y[0])]


@case(
    "contractions over growth 1/2 of independent values",
    orders=((0, 0), (H, H)),
    widths=SQUARES,
    change=False,
    backward=False,
)
def _(o):
    x, y = (z.view(BATCH, -1, round(o.n**0.5)) for z in (o.x, o.y))
    return [x @ y.mT]


@case(
    "contractions over growth 1/2 of positive values", orders=((0, 0), (0, H), (H, 1)), widths=SQUARES, backward=False
)
def _(o):
    x, y = (z.abs().view(BATCH, -1, round(o.n**0.5)) for z in (o.x, o.y))
    return [x @ y.mT, x @ x.mT]


@case("contractions over growth 2", orders=((0, 0), (0, H)), backward=False, widths=SMALL_WIDTHS)
def _(o):
    a, b = (torch.outer(z[0], z[1]).flatten() for z in (o.x.abs(), o.y.abs()))
    return [torch.dot(a, b)]


@case("two weights", orders=NOUGHT, widths=SMALL_WIDTHS)
def _(o):
    return [o.x @ (o.W @ o.Z), (o.W @ o.Z).mv(o.x[0])]


@case("a weight twice", orders=NOUGHT, widths=SMALL_WIDTHS, loose={"mm": "only the diagonal adds up"}, backward=False)
def _(o):
    return [o.W @ o.W.t()]


@case("sums over growth 1/2", orders=((0, 0), (0, H), (H, H)), widths=SQUARES)
def _(o):
    x = o.x.view(BATCH, -1, round(o.n**0.5))
    return [x.sum(-1), x.mean(-1), x.abs().sum(-1), x.abs().mean(-1), x.square().sum(-1)]


@case("sums over growth 2", orders=NOUGHT, widths=SMALL_WIDTHS)
def _(o):
    return [torch.outer(o.x[0].abs(), o.y[0].abs()).sum(), o.W.square().sum()]


@case("sums over growth 2 of odd values", orders=NOUGHT, widths=SMALL_WIDTHS, change=False)
def _(o):
    return [(o.W * o.Z).sum()]


@case(
    "norms and softmax over growth 1/2",
    orders=((0, 0), (0, H)),
    widths=SQUARES,
    backward=False,
    loose={"native_layer_norm[1]": MEAN},
)
def _(o):
    side = round(o.n**0.5)
    x = o.x.view(BATCH, -1, side)
    return [
        F.layer_norm(30 * x, (side,)),
        F.normalize(x, dim=-1),
        x.tanh().softmax(-1),
        F.relu(x).tanh().softmax(-1),
    ]


@case("solutions", orders=((0, 0), (0, H)))
def _(o):
    m = 0.1 * o.x[:4].t().reshape(o.n, 2, 2).tanh() + torch.eye(2)
    return [torch.linalg.solve(m, torch.ones(2, 1))]


@case("distances", orders=((0, 0), (H, H)))
def _(o):
    return [aten._cdist_forward(o.x, o.y, 2.0, None), aten._euclidean_dist(o.x, o.y)]


@case("convolutions", orders=((0, 0), (H, H)), widths=(32, 64, 128))
def _(o):
    m = o.image
    return [F.conv2d(m, o.kernel), F.conv1d(m[..., 0], o.line, o.p)]


@case("bilinear", orders=((0, 0),), backward=False, change=False)
def _(o):
    return [F.bilinear(o.d, o.y, torch.randn(3, FEATURES, o.n) * o.n**-0.5)]


@case("cross products", orders=((0, 0), (H, H)), backward=False)
def _(o):
    return [torch.linalg.cross(o.x[:3].t(), o.y[:3].t())]


@case("grouped matrix products", orders=((0, 0),), backward=False, widths=SMALL_WIDTHS)
def _(o):
    W = o.W.bfloat16()[None]
    return [aten._grouped_mm(o.x.bfloat16()[:, :], W, torch.tensor([BATCH], dtype=torch.int32))]


# -- views and indices -----------------------------------------------------------------------------


PUT_BACK = "put back among zeros along a growing axis"


@case(
    "views",
    orders=((0, 0), (0, H), (H, H)),
    sparse=PUT_BACK,
    loose=dict.fromkeys(("tril", "select", "slice", "diagonal", "tpcalc.write"), "a finite part"),
)
def _(o):
    x = o.x
    z = x.view(BATCH, o.n // 4, 4)
    return [
        z,
        z.permute(2, 0, 1),
        z.transpose(0, 1),
        x.t(),
        x[None].expand(3, BATCH, o.n),
        x[None].squeeze(0),
        x[1:4],
        x[2],
        x.narrow(0, 1, 2),
        x.detach() + x,
        x.clone(),
        x.t().contiguous(),
        x.double(),
        x.diagonal(),
        x.flip(0),
        x.roll(1, 0),
        x.unfold(0, 2, 1),
        x.as_strided((3, 4), (4, 1)),
        x.repeat(2, 1),
        torch.tril(x),
        torch.triu(x),
        F.pad(x, (0, 3)),
        torch.rot90(x),
        aten.view_copy(x, [o.n * BATCH]),
        aten.expand_copy(x, [BATCH, o.n]),
        torch.view_as_real(torch.complex(x, o.y)),
        torch.view_as_complex(z[..., :2].contiguous()),
        torch.complex(x, o.y).conj().resolve_conj(),
        torch.real(torch.complex(x, o.y)),
        torch.imag(torch.complex(x, o.y)),
        x.split(2)[0],
        x.split([2, 4])[0],
        x.unbind(0)[1],
        torch.unsafe_split(x, 2)[0],
        x.split(2)[1],
        torch.cat([x, o.y]),
        torch.stack([x, o.y]),
        x.repeat_interleave(2, 0),
        torch.channel_shuffle(o.image, 2),
    ]


@case("padding and resampling", orders=((0, 0), (H, H)), widths=(64, 256, 1024))
def _(o):
    m = o.image
    line, cube = m[:, :, 0], m[:, :, None]
    return [
        F.pad(line, (1, 1), mode="reflect"),
        F.pad(m, (1, 1, 1, 1), mode="reflect"),
        F.pad(line, (1, 1), mode="replicate"),
        F.pad(m, (1, 1, 1, 1), mode="replicate"),
        F.pad(cube, (1, 1, 1, 1, 1, 1), mode="replicate"),
        F.pad(cube, (1, 1, 1, 1, 0, 0), mode="reflect"),
        F.pixel_shuffle(m, 2),
        F.pixel_unshuffle(m, 2),
        F.interpolate(line, 12),
        F.interpolate(m, 12),
        F.interpolate(cube, (2, 12, 12)),
        F.interpolate(m, 12, mode="nearest-exact"),
        F.interpolate(m, 12, mode="bilinear"),
        F.interpolate(m, 12, mode="bicubic"),
        F.interpolate(line, 12, mode="linear"),
        F.interpolate(cube, (2, 12, 12), mode="trilinear"),
        F.interpolate(m, 4, mode="bilinear", antialias=True),
        F.interpolate(m, 4, mode="bicubic", antialias=True),
        F.grid_sample(m, torch.zeros(2, 3, 3, 2) + 0.1, align_corners=True),
        F.unfold(m, 2),
        F.fold(F.unfold(m, 2), SIDE, 2),
    ]


@case(
    "indices",
    orders=((0, 0), (0, H), (H, H)),
    sparse=PUT_BACK,
    loose=dict.fromkeys(("diagonal_scatter", "as_strided_scatter", "put"), "a few entries"),
)
def _(o):
    x, i = o.x, torch.tensor([1, 3, 3])
    rows = i[:, None].expand(3, o.n)
    mask = torch.arange(BATCH)[:, None].expand(BATCH, o.n) > 2
    return [
        F.embedding(i, o.E),
        F.embedding(i, o.E.abs()),
        x.index_select(0, i),
        x.gather(0, rows),
        x[i],
        aten._unsafe_index(x, [i]),
        x.take(torch.tensor([0, 3])),
        x.masked_select(mask),
        torch.where(mask, x, o.y),
        x.masked_fill(mask, 0.0),
        x.masked_scatter(mask, o.y),
        x.index_put((i,), o.y[:3]),
        aten._unsafe_index_put(x, [i], o.y[:3]),
        x.scatter(0, rows, o.y[:3]),
        x.scatter(0, rows, 1.0),
        x.detach().scatter(0, rows, o.y[:3].detach(), reduce="add") + x,
        x.scatter_add(0, rows, o.y[:3]),
        x.index_add(0, i, o.y[:3]),
        x.index_copy(0, i[:2], o.y[:2]),
        x.scatter_reduce(0, rows, o.y[:3], "sum"),
        x.slice_scatter(o.y[:2], 0, 0, 2),
        x.select_scatter(o.y[0], 0, 1),
        x.diagonal_scatter(o.y[:, 0]),
        x.index_fill(0, i, 2.0),
        F.embedding_bag(i[None], o.E),
        torch.broadcast_tensors(x, o.y)[0],
        x.as_strided_scatter(o.y[:3, :4].contiguous(), (3, 4), (4, 1)),
    ]


@case("grids", orders=((0, 0), (0, H), (H, H)), widths=SMALL_WIDTHS, sparse="gradients of many signs are added up")
def _(o):
    return [torch.meshgrid(o.x[0], o.x[1], indexing="ij")[0]]


@case(
    "writes",
    orders=((0, 0), (H, H)),
    backward=False,
    loose=dict.fromkeys(("tpcalc.write", "select", "slice", "alias"), "a part of what was written"),
)
def _(o):
    z, w = o.x * 1.0, o.x * 1.0
    z[:, 0] = o.y[:, 0]
    w[0].fill_(0.0)
    w[1:3].copy_(o.y[1:3])
    u = o.x * 1.0
    view = u[2]
    u.mul_(2.0)
    u[3].zero_()
    return [z, w, view + 1.0, u, torch.zeros(BATCH, o.n).copy_(o.x)]


@case("fourier", orders=((0, 0), (H, H)), backward=False)
def _(o):
    spectrum = torch.fft.rfft(o.x, dim=0)
    return [torch.fft.irfft(spectrum, BATCH, dim=0), torch.view_as_real(torch.fft.fft(torch.complex(o.x, o.y), dim=0))]


@case("rows added up with weights", orders=NOUGHT, sparse="three entries of n are picked")
def _(o):
    rows = torch.tensor([[0, 3, 5], [2, 1, 0], [4, 4, 9], [1, 2, 3], [7, 8, 9], [6, 5, 10]])
    return [F.embedding_bag(rows, o.E, mode="sum", per_sample_weights=o.x[:, :3].sigmoid())]


@case("fourier over a growing axis", orders=((0, 0), (0, H), (H, H)), backward=False)
def _(o):
    found = []
    for norm in ("backward", "ortho", "forward"):
        spectrum = torch.fft.rfft(o.x, norm=norm)
        whole = torch.fft.fft(torch.complex(o.x, o.y), norm=norm)
        found += [torch.view_as_real(spectrum), torch.view_as_real(whole), torch.fft.irfft(spectrum, o.n, norm=norm)]
        found.append(torch.view_as_real(torch.fft.ifft(whole, norm=norm)))
    return found


@case("fourier of what has a mean", orders=((0, 0), (H, H)), backward=False)
def _(o):
    return [torch.view_as_real(torch.fft.fft(o.x.relu())), torch.view_as_real(torch.fft.rfft2(o.x.abs()))]


# -- constants -------------------------------------------------------------------------------------


@case(
    "constants",
    orders=NOUGHT,
    backward=False,
    widths=SMALL_WIDTHS,
    loose={"eye": "mostly zeros", "sum": "of a constant", "detach": "of an eye"},
)
def _(o):
    n = o.n
    made = [
        torch.ones(n),
        torch.ones_like(o.x),
        o.x.new_ones(n),
        torch.eye(n).sum(1),
        torch.full((n,), 2.0),
        torch.full((n,), float(n)),
        torch.full_like(o.x, 0.5),
        o.x.new_full((n,), 3.0),
        torch.arange(n, dtype=torch.float),
        torch.linspace(0, n, 9),
        torch.zeros(n),
        torch.zeros_like(o.x),
        o.x.new_zeros(n),
        torch.logspace(0, 1, n),
    ]
    return [o.x + sum(item.sum() * 0 for item in made)]


@case("noise", orders=NOUGHT, backward=False, change=False, loose={"sum": "the law of constants", "detach": "skip"})
def _(o):
    n = o.n
    made = [
        torch.randn(n),
        torch.rand(n),
        torch.randn_like(o.x),
        torch.rand_like(o.x),
        torch.bernoulli(torch.full((n,), 0.5)),
        torch.normal(torch.zeros(n), 1.0),
        torch.empty(n).uniform_(),
        torch.empty(n).exponential_(),
        torch.empty(n).normal_(),
        torch.empty(n).geometric_(0.5),
        torch.poisson(torch.ones(n)),
        torch.empty(n).log_normal_(),
        torch.empty(n).random_(5),
    ]
    return [o.x + sum(item.sum() * 0 for item in made)]


# -- tests -----------------------------------------------------------------------------------------


PAIRS = [(index, A, C) for index, case_ in enumerate(CASES) for A, C in case_.orders]


#: Rules that no case can reach, and why.
REASONS = {
    "_pack_padded_sequence": "a view of its rows, checked by a traced GRU in tests/trace/record/test_lazy.py",
    "_pack_padded_sequence_backward": "a view of its rows, as the forward op",
    "div.out": "the rule is that of div.Tensor, written into a buffer",
    "aminmax": "made inside quantisation only; the rule is that of amax",
    "grid_sampler_3d": "the rule is that of grid_sampler_2d",
    "grid_sampler_3d_backward": "the rule is that of grid_sampler_2d_backward",
    "binary_cross_entropy": "a log of probabilities near 0 and 1: a heavy tail",
    "binary_cross_entropy_backward": "a ratio by probabilities near 0 and 1: a heavy tail",
    "_ctc_loss": "a finite log-sum of log-probabilities, checked in the zoo",
    "_ctc_loss_backward": "differences of probabilities, checked in the zoo",
    "linear": "recorded as a transpose and a matmul",
    "_convolution": "recorded as aten.convolution",
    "_scaled_grouped_mm": "float8 on GPUs only; the rule is that of _grouped_mm",
    "new_empty": "undefined until written",
    "empty": "undefined until written",
    "empty_like": "undefined until written",
    "new_empty_strided": "undefined until written",
    "argmax": "integers",
    "argmin": "integers",
    "bucketize": "integers",
    "searchsorted": "integers",
    "count_nonzero": "integers",
    "__lshift__": "integers",
    "__rshift__": "integers",
    "empty_strided": "undefined until written",
    "empty_permuted": "undefined until written",
    "_efficientzerotensor": "made by autograd's forward mode only",
    "tril_indices": "integers",
    "triu_indices": "integers",
    "randint": "integers",
    "randint_like": "integers",
    "randperm": "integers",
    "multinomial": "integers",
    "bincount": "integers",
    "unique_consecutive": "integers",
    "_unique2": "its size depends on the data",
    "unique_dim": "its size depends on the data",
    "_unique": "its size depends on the data",
    "nonzero": "its size depends on the data",
    "nonzero_static": "integers",
    "histc": "counts",
    "equal": "a Python bool",
    "allclose": "a Python bool",
    "is_nonzero": "a Python bool",
    "_local_scalar_dense": "a Python number",
    "range": "deprecated; the rule is that of arange",
    "normal_functional": "made by functionalisation only",
    "rrelu_with_noise_functional": "made by functionalisation only",
    "_native_batch_norm_legit_functional": "made by functionalisation only",
    "cauchy": "has no rms",
    "_add_relu": "quantised kernels only",
    "_masked_scale": "CUDA dropout only",
    "_fused_dropout": "CUDA only",
    "cudnn_batch_norm": "CUDA only",
    "miopen_batch_norm": "ROCm only",
    "_fused_rms_norm": "recorded decomposed on the CPU",
    "_fused_rms_norm_backward": "recorded decomposed on the CPU",
    "_logcumsumexp": "inside aten.logcumsumexp",
    "_reshape_alias": "inside aten.reshape",
    "lift": "made by functionalisation only",
    "lift_fresh": "constants: nothing to measure",
    "lift_fresh_copy": "made by functionalisation only",
    "_neg_view": "views of complex numbers",
    "_embedding_bag_forward_only": "without gradients only; the rule is that of _embedding_bag",
    "_embedding_bag_dense_backward": "inside aten._embedding_bag_backward",
    "_index_put_impl": "inside aten.index_put",
    "fill": "recorded as fill_",
    "copy": "recorded as copy_",
    "zero": "recorded as zero_",
    "div.Scalar_mode": "recorded as div.Tensor_mode",
}


def is_composite(name: str) -> bool:
    """Whether PyTorch decomposes the op before the recorder sees it."""
    namespace, _, op = name.partition(".")
    op, _, overload = op.partition(".")
    packet = getattr(getattr(torch.ops, namespace), op, None)
    if packet is None:
        return False
    overloads = [overload] if overload else packet.overloads()
    full = [f"{namespace}::{op}" + ("" if item == "default" else f".{item}") for item in overloads]
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return any(torch._C._dispatch_has_kernel(item) and has(item, "CompositeImplicitAutograd") for item in full)


def met() -> set[str]:
    """Ops of which some case compares a result."""
    return {registered(node.op) for index in range(len(CASES)) for node, _, _ in compared(index)}


def without_an_oracle(rules: Iterable[str]) -> set[str]:
    """Those of ``rules`` that no case compares, that no reason excuses, and that PyTorch does not take apart first."""
    seen = met()
    return {
        name
        for name in rules
        if name not in seen and not REASONS.get(name.removeprefix("aten.")) and not is_composite(name)
    }


def test_every_rule_has_a_case_or_a_reason():
    found = without_an_oracle(REGISTRY.rules)
    assert not found, f"rules without an oracle: {', '.join(sorted(found))}"


def test_a_new_rule_without_a_case_is_noticed():
    """A rule for another op of torch, for an op of another library, for one overload, for an op that is not there."""
    new = ("aten.special_bessel_j0", "mylib.smooth_relu", "aten.mul.left_t", "aten.no_such_op")
    registry = Registry(dict(REGISTRY.rules), dict(REGISTRY.ignored))
    registry.add(new, lambda call: View(call[0]))
    assert without_an_oracle(registry.rules) == set(new)


def test_reasons_are_still_needed():
    names = {name.removeprefix("aten.") for name in REGISTRY.rules}
    assert not {name.removeprefix("aten.") for name in met()} & set(REASONS)
    assert REASONS.keys() <= names, "reasons for what has no rule"


# -- what the cases hold ---------------------------------------------------------------------------


@dataclass
class Held:
    """What the compared atoms of one structure have met."""

    numbers: set[tuple[str, Fraction]] = field(default_factory=set)
    parities: set[str] = field(default_factory=set)
    together: set[str] = field(default_factory=set)
    weights: set[tuple[bool, bool]] = field(default_factory=set)
    changes: set = field(default_factory=set)
    inits: set = field(default_factory=set)


@once
def held() -> dict[type, Held]:
    found: dict[type, Held] = {kind: Held() for kind in LAWS}
    for index, A, C in PAIRS:
        facts = propagate(lowered(index), orders_of(A, C))
        nodes = {node.index: node for node, _, _ in compared(index)}
        for atom in lowered(index).atoms:
            if atom.node not in nodes:
                continue
            s, own = atom.structure, found[type(atom.structure)]
            own.numbers |= {
                (name, getattr(s, name))
                for name in ("K", "rest_x", "rest_y", "growth", "shift", "k", "order")
                if hasattr(s, name)
            }
            xs = [facts[x] for x in operands(s)]
            own.parities |= {"odd" if x.odd else "none" if x.mixed else "even" for x in xs if x.depends}
            if len(xs) == 2:
                own.together.add("dependent" if xs[0].depends & xs[1].depends else "independent")
                own.weights.add((xs[0].weight != 0, xs[1].weight != 0))
            own.inits.add(facts[atom.out].init)
            if nodes[atom.node].phase == "forward" and CASES[index].change:
                own.changes.add(facts[atom.out].change)
    return found


#: Growths and degrees that must be among those compared.
NUMBERS = {
    Contract: {("K", Fraction(k)) for k in (0, H, 1, 2)}
    | {(rest, Fraction(r)) for rest in ("rest_x", "rest_y") for r in (0, H, 1)},
    Reduce: {("K", Fraction(k)) for k in (0, H, 1, 2)},
    Softmax: {("growth", Fraction(k)) for k in (0, H, 1)},
    Normalise: {("shift", -Fraction(k)) for k in (0, H)},
    Power: {("k", Fraction(k)) for k in (-1, -H, H, 1, 2, 3)},
    Scale: {("order", Fraction(k)) for k in (-1, 0, H)},
}
#: Structures of which no operand can be odd (roots and logarithms of what is positive).
NEVER_ODD = {Guard, Log}
#: Constants have no operands and no change.
CONSTANT = {Known}
#: Derivatives stand in the backward pass only, of which changes are not compared here.
BACKWARD_ONLY = {Slope}
#: No op has it: sums over a depth are measured in tests/derive/test_depth_measured.py.
OF_NO_OP = {Repeat}


@pytest.mark.parametrize("kind", [kind for kind in LAWS if kind not in OF_NO_OP], ids=lambda kind: kind.__name__)
def test_every_structure_is_compared_in_every_way(kind):
    """Several growths, odd operands and others, dependent ones and independent ones, at init and under change."""
    own = held()[kind]
    assert NUMBERS.get(kind, set()) <= own.numbers, NUMBERS[kind] - own.numbers
    assert own.inits - {MINUS_INFINITY}
    if kind in CONSTANT:
        return
    assert len(own.changes - {MINUS_INFINITY}) >= 2 or kind in BACKWARD_ONLY
    assert "odd" in own.parities or kind in NEVER_ODD
    assert own.parities & {"none", "even"}
    if kind in (Sum, Product, Contract, Discrete):
        assert own.together == {"dependent", "independent"}
    if kind is Contract:
        assert own.weights == {(x, y) for x in (False, True) for y in (False, True)}


@pytest.mark.parametrize("seeds", [SEEDS, pytest.param(MOST_SEEDS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("index, A, C", PAIRS, ids=[f"{CASES[i].name} A={A} C={C}" for i, A, C in PAIRS])
def test_slopes_are_those_of_the_rule(index, A, C, seeds):
    found = problems(index, A, C, seeds)
    assert not found, "\n".join(found)
