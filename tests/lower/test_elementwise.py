"""Packed weights are cut behind every op that acts entry by entry, whatever it is.

The registry is walked: an op of the forward pass that keeps its axes is called here, or has a written reason.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.models import WIDTHS, Net, entry, points, readout
from tests.support.sampled import sampled
from tpcalc.rules import REGISTRY
from tpcalc.rules.axes import Kept
from tpcalc.rules.registry import Registry, Rule
from tpcalc.rules.structures import View

H = Fraction(1, 2)
FIXED = 32
aten = torch.ops.aten

Op = Callable[[Tensor, nn.Module], Tensor]

#: What the split gives without an op between: the rows that feed a matrix, and those that feed a readout.
SLICES = [("0", "n", H, 1), ("n", str(FIXED), 1, 1)]


def both(function: Callable[[Tensor, Tensor], Tensor]) -> list[Op]:
    """A binary op: the packed value first, then second; beside a weight, a constant, itself and a column."""
    return [
        lambda y, s: function(y, s.g),
        lambda y, s: function(s.g, y),
        lambda y, s: function(y, torch.ones(y.shape)),
        lambda y, s: function(torch.ones(y.shape), y),
        lambda y, s: function(y, y.roll(1, 0)),
        lambda y, s: function(torch.ones(y.shape[0], 1), y),
    ]


def numbers(function: Callable[..., Tensor], *more: float) -> list[Op]:
    return [lambda y, s: function(y, 0.5, *more)]


def one(name: str, *arguments: float) -> list[Op]:
    """The op itself, with these arguments after the packed value."""
    op = getattr(aten, name)

    def call(y: Tensor, s: nn.Module) -> Tensor:
        found = op(y, *arguments)
        return found[0] if isinstance(found, tuple) else found

    return [call]


UNARY = """abs acos asin asinh atan atanh ceil celu cos cosh digamma elu erf erfc erfinv exp exp2 expm1 floor frac gelu
hardshrink hardsigmoid hardswish hardtanh leaky_relu lgamma log log10 log1p log2 log_sigmoid logit mish nan_to_num neg
positive reciprocal relu round rsqrt selu sigmoid silu sin sinc sinh softplus softshrink sqrt square tan tanh trunc
alias detach clone contiguous lift_fresh lift_fresh_copy lift conj _neg_view resolve_conj resolve_neg real
log_sigmoid_forward""".split()

CALLS: dict[str, list[Op]] = {
    **{name: one(name) for name in UNARY},
    "add": [*both(torch.add), lambda y, s: y + 1, lambda y, s: torch.add(y, s.g, alpha=2)],
    "sub": [*both(torch.sub), lambda y, s: 1 - y],
    "rsub": [*both(torch.rsub), lambda y, s: torch.rsub(y, 1)],
    "mul": [*both(torch.mul), lambda y, s: y * y, lambda y, s: 2 * y],
    "fake_quantize_per_tensor_affine_cachemask": one("fake_quantize_per_tensor_affine", 0.1, 0, -8, 7),
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": [
        lambda y, s: torch.fake_quantize_per_tensor_affine(y, torch.tensor(0.1), torch.tensor(0).int(), -8, 7)
    ],
    "fake_quantize_per_channel_affine_cachemask": [
        lambda y, s: torch.fake_quantize_per_channel_affine(
            y, torch.full(y.shape[:1], 0.1), torch.zeros(y.shape[:1]).int(), 0, -8, 7
        )
    ],
    "_fake_quantize_learnable_per_tensor_affine": [
        lambda y, s: torch._fake_quantize_learnable_per_tensor_affine(
            y, torch.full((1,), 0.1), torch.zeros(1), -8, 7, 1.0
        )
    ],
    "_fake_quantize_learnable_per_channel_affine": [
        lambda y, s: torch._fake_quantize_learnable_per_channel_affine(
            y, torch.full(y.shape[:1], 0.1), torch.zeros(y.shape[:1]), 0, -8, 7, 1.0
        )
    ],
    "multiply": both(torch.multiply),
    "div.Tensor": [*both(torch.div), lambda y, s: y / 3],
    "div.Scalar": one("div", 3),
    "true_divide": both(torch.true_divide),
    "divide": both(torch.divide),
    "fmod": [lambda y, s: torch.fmod(y, 2.0), lambda y, s: torch.fmod(y, torch.ones(y.shape))],
    "remainder": [lambda y, s: torch.remainder(y, 2.0), lambda y, s: torch.remainder(y, torch.ones(y.shape))],
    "addcmul": [
        lambda y, s: torch.addcmul(y, s.g, y),
        lambda y, s: torch.addcmul(s.g, y, torch.ones(y.shape), value=2),
    ],
    "addcdiv": [lambda y, s: torch.addcdiv(y, y, s.g), lambda y, s: torch.addcdiv(s.g, y, 1 + y * y)],
    "pow.Tensor_Scalar": [lambda y, s: y**2, lambda y, s: y**3],
    "pow.Scalar": [lambda y, s: 2**y],
    "pow.Tensor_Tensor": [lambda y, s: y.exp() ** s.g],
    "atan2": both(torch.atan2),
    "clamp": [
        lambda y, s: y.clamp(-1, 1),
        lambda y, s: y.clamp(min=-1),
        lambda y, s: y.clamp(max=s.g),
        lambda y, s: y.clamp(torch.zeros(y.shape), torch.ones(y.shape)),
    ],
    "clip": [lambda y, s: torch.clip(y, -1, 1)],
    "clamp_min": numbers(torch.clamp_min),
    "clamp_max": numbers(torch.clamp_max),
    "maximum": both(torch.maximum),
    "minimum": both(torch.minimum),
    "max.other": both(torch.max),
    "min.other": both(torch.min),
    "fmax": both(torch.fmax),
    "fmin": both(torch.fmin),
    "logaddexp": both(torch.logaddexp),
    "logaddexp2": both(torch.logaddexp2),
    "hypot": both(torch.hypot),
    "xlogy": [lambda y, s: torch.xlogy(y, 1 + s.g * s.g), lambda y, s: torch.xlogy(torch.ones(y.shape), 1 + y * y)],
    "special_xlog1py": [lambda y, s: torch.special.xlog1py(y, s.g * s.g)],
    "copysign": [lambda y, s: torch.copysign(y, s.g)],
    "lerp": [lambda y, s: torch.lerp(y, s.g, 0.3), lambda y, s: torch.lerp(s.g, y, torch.sigmoid(s.g))],
    "prelu": [lambda y, s: F.prelu(y, s.slope)],
    "_prelu_kernel": [lambda y, s: F.prelu(y, s.slope)],
    "threshold": numbers(F.threshold, 0.0),
    "polygamma": [lambda y, s: torch.polygamma(1, y)],
    "rrelu_with_noise": [lambda y, s: F.rrelu(y, training=True)],
    "rrelu_with_noise_functional": [lambda y, s: F.rrelu(y, training=True)],
    "dropout": [lambda y, s: F.dropout(y, 0.1)],
    "native_dropout": one("native_dropout", 0.1, True),
    "alpha_dropout": [lambda y, s: F.alpha_dropout(y, 0.1, training=True)],
    "feature_dropout": [lambda y, s: F.dropout2d(y[:, None], 0.1, training=True).squeeze(1)],
    "masked_fill": [
        lambda y, s: y.masked_fill(torch.ones(y.shape, dtype=torch.bool), 0.0),
        lambda y, s: y.masked_fill(y > 0, 1.0),
    ],
    "where.self": [
        lambda y, s: torch.where(y > 0, y, s.g),
        lambda y, s: torch.where(torch.ones(y.shape[-1], dtype=torch.bool), s.g, y),
    ],
    "where.ScalarSelf": [lambda y, s: torch.where(y > 0, 1.0, y)],
    "where.ScalarOther": [lambda y, s: torch.where(y > 0, y, 1.0)],
    "copy": [lambda y, s: torch.zeros(y.shape).copy_(y)],
    "copy_": [lambda y, s: torch.zeros(y.shape).copy_(y)],
    "_to_copy": [lambda y, s: y.double().float()],
    "to": [lambda y, s: y.to(torch.float64).to(torch.float32)],
    "type_as": [lambda y, s: y.type_as(s.g)],
    "expand": [lambda y, s: y[:, None].expand(-1, 3, -1).sum(1)],
    "expand_copy": [lambda y, s: torch.expand_copy(y, y.shape)],
    "expand_as": [lambda y, s: y[:, None].expand_as(torch.ones(y.shape[0], 3, y.shape[1])).sum(1)],
    "repeat": [lambda y, s: y.repeat(2, 1)],
    "tile": [lambda y, s: y.tile(2, 1)],
    "mse_loss": [lambda y, s: F.mse_loss(y, torch.ones(y.shape), reduction="none")],
    "smooth_l1_loss": [lambda y, s: F.smooth_l1_loss(y, torch.ones(y.shape), reduction="none")],
    "huber_loss": [lambda y, s: F.huber_loss(y, torch.ones(y.shape), reduction="none")],
    "binary_cross_entropy_with_logits": [
        lambda y, s: F.binary_cross_entropy_with_logits(y, torch.ones(y.shape), reduction="none")
    ],
    "binary_cross_entropy": [lambda y, s: F.binary_cross_entropy(y.sigmoid(), torch.ones(y.shape), reduction="none")],
}

#: Their gradient is zero, one for all rows; or comes with a sum over all rows, that of a step that is learnt.
STEPS = (
    "ceil",
    "floor",
    "round",
    "trunc",
    *(f"_fake_quantize_learnable_per_{x}_affine" for x in ("tensor", "channel")),
)

COMPARED = "a comparison: no gradient passes, and its result tells nothing of the rows that made it"
BACKWARD = "of the backward pass"
MADE = "made from nothing"
COMPLEX = "complex numbers are two real ones, and a view as such mixes the last axis"
WRITES = "overwrites its operand, so that no weight remains"

#: Ops that keep their axes and are not called above.
REASONS: dict[str, str] = {
    **dict.fromkeys(
        """eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not
        bitwise_xor __and__ __or__ __xor__ isnan isinf isfinite isneginf isposinf sign sgn signbit heaviside
        floor_divide div.Tensor_mode div.Scalar_mode __rshift__ __lshift__""".split(),
        COMPARED,
    ),
    **dict.fromkeys(
        """arange bernoulli cauchy empty empty_like empty_permuted empty_strided exponential eye full full_like
        geometric linspace log_normal logspace multinomial new_empty new_empty_strided new_full new_ones new_zeros
        normal normal_functional ones ones_like poisson rand rand_like randint randint_like randn randn_like random
        randperm range scalar_tensor tril_indices triu_indices uniform zeros zeros_like _efficientzerotensor""".split(),
        MADE,
    ),
    **dict.fromkeys("fill fill_ zero zero_".split(), WRITES),
    **dict.fromkeys("complex polar imag _conj".split(), COMPLEX),
    "_masked_scale": BACKWARD,
    "_fused_dropout": "dropout of old CUDA kernels",
    "_add_relu": "of quantised models",
    "where.Scalar": "of two numbers",
    "div.out": "writes into a tensor that is given, as copy_ does",
    "set_data": "replaces a parameter",
}


def packed(op: Op):
    """``Linear(n, n + 32)``, the op, a split; n of the rows feed a matrix, 32 a readout."""

    def factory(n: int):
        def run(s, x):
            y = op(s.h(s.i(x)), s)
            a, b = y.split([n, FIXED], dim=-1)
            return s.o(s.p(a)), s.q(b)

        parts = {"i": entry(n), "h": nn.Linear(n, n + FIXED), "p": nn.Linear(n, n), "q": nn.Linear(FIXED, 4)}
        parts["g"] = nn.Parameter(torch.ones(n + FIXED))  # many ops don't use it
        parts["slope"] = nn.Parameter(torch.ones(1))
        return Net(run, o=readout(n), **parts), points()

    return factory


def slices_of(op: Op, gradients: bool = True) -> list:
    rules = tpcalc.derive(tpcalc.trace(packed(op), WIDTHS))
    assert (rules["p.weight"].b, rules["p.weight"].c) == (H, 1)
    if gradients:
        assert not [note for note in rules.notes if "the gradients of the blocks of h" in note]
    return [(str(s.start), str(s.length), s.A, s.C) for s in rules["h.weight"].slices]


def test_without_an_op():
    assert slices_of(lambda y, s: y) == SLICES


#: Ops of other kinds that keep the last axis ...
KEPT: dict[str, Op] = {
    "a norm over another axis": lambda y, s: F.layer_norm(y.T, y.shape[:1]).T,
    "a batch norm": lambda y, s: F.batch_norm(y, None, None, s.g, training=True),
    "a softmax over another axis": lambda y, s: y.softmax(0),
    "a padded batch": lambda y, s: F.pad(y, (0, 0, 1, 2)),
    "rows by an index": lambda y, s: y[torch.tensor([0, 2, 1])],
    "rows by a list of indices": lambda y, s: y.index_select(0, torch.tensor([0, 2])),
    "rows gathered": lambda y, s: y.gather(0, torch.zeros(y.shape, dtype=torch.int64)),
    "a batch turned around": lambda y, s: y.flip(0).roll(1, 0),
    "a sum over rows": lambda y, s: y.sum(0, keepdim=True),
    "the largest of the rows": lambda y, s: y.amax(0, keepdim=True),
    "running sums": lambda y, s: y.cumsum(0),
    "rows put elsewhere": lambda y, s: torch.zeros(y.shape).index_put((torch.tensor([2, 0, 1]),), y),
    "another batch beside": lambda y, s: torch.cat([y, torch.ones(2, y.shape[1])]),
    "an axis moved": lambda y, s: y[:, None].permute(2, 1, 0).transpose(0, 2).squeeze(1),
    "pooled": lambda y, s: F.avg_pool1d(y.T, 3, 1, 1).T,
    "turned around, twice": lambda y, s: y.flip(-1).flip(-1),
    "padded, and cut off again": lambda y, s: F.pad(y, (4, 2))[:, 4:-2],
    "a norm over it": lambda y, s: F.layer_norm(y, y.shape[1:]),
}
#: ... and ops that mix it, or move its entries nobody knows where.
MIXING: dict[str, Op] = {
    "a triangle": lambda y, s: y.tril(),
    "sorted": lambda y, s: y.sort(-1).values,
    "running sums": lambda y, s: y.cumsum(-1),
    "columns by an index": lambda y, s: y[:, torch.arange(y.shape[1])],
}


@pytest.mark.parametrize("name", KEPT)
def test_blocks_pass_where_the_axis_is_kept(name):
    assert slices_of(KEPT[name]) == SLICES


@pytest.mark.parametrize("name", MIXING)
def test_blocks_are_one_where_the_axis_is_not_kept(name):
    rules = tpcalc.derive(tpcalc.trace(packed(MIXING[name]), WIDTHS))
    assert rules["h.weight"].slices == ()
    assert any("h.weight has a packed axis whose blocks could not be told apart" in note for note in rules.notes)


@pytest.mark.parametrize("name", sampled(CALLS, every=4))
def test_blocks_of_a_packed_weight_pass(name):
    for op in CALLS[name]:
        assert slices_of(op, name not in STEPS) == SLICES


def uncovered(rules: dict[str, Rule]) -> set[str]:
    """Ops that keep their axes, of the forward pass, without a call or a reason."""
    kept = {
        name.removeprefix("aten.")
        for name, rule in rules.items()
        if name.startswith("aten.") and (rule.axes is None or (isinstance(rule.axes, Kept) and rule.axes.but is None))
    }
    return {name for name in kept if "_backward" not in name} - CALLS.keys() - REASONS.keys()


def test_every_elementwise_op_is_called_or_has_a_reason():
    assert not uncovered(REGISTRY.rules)
    registry = Registry(dict(REGISTRY.rules), {})
    registry.add(("aten.new_op",), Rule(lambda call: View(call[0])))
    assert uncovered(registry.rules) == {"new_op"}


def test_tables_name_ops_that_exist():
    names = {name.removeprefix("aten.") for name in REGISTRY.rules}
    assert not (CALLS.keys() | REASONS.keys()) - names and not CALLS.keys() & REASONS.keys()
