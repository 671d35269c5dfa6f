"""Small models whose rules are known, shared by the tests.  Each factory takes the width, as users' factories do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter

import tpcalc
from tests.support.once import once
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import Solution, solve
from tpcalc.program.ir import Program
from tpcalc.trace.target import load_target

EXAMPLES = Path(__file__).parents[2] / "examples"
WIDTHS = (64, 128, 256)
FEATURES = 8
CLASSES = 4
VOCABULARY = 40

#: Name -> factory: every model that :func:`model` decorates, and the examples.
MODELS: dict[str, Callable] = {}


def model(factory: Callable) -> Callable:
    MODELS[factory.__name__] = factory
    return factory


def example(file: str, name: str) -> Callable:
    return load_target(f"{EXAMPLES / file}:{name}")


for _file, _name in (
    ("mlp.py", "mlp"),
    ("resnet.py", "resnet"),
    ("gpt.py", "gpt"),
    ("gpt.py", "gpt_tied"),
    ("gpt.py", "gpt_mqa"),
    ("gpt.py", "gpt_moe"),
    ("gpt.py", "gpt_growing_heads"),
    ("gpt.py", "gpt_growing_heads_mup"),
):
    MODELS[_name] = example(_file, _name)


@once
def program(factory: Callable) -> Program:
    return tpcalc.trace(factory, WIDTHS)


@once
def solution(factory: Callable) -> Solution:
    return solve(program(factory))


@once
def derived(name: str, optimizer: str = "adam") -> Parametrization:
    """The rules of one of the :data:`MODELS`."""
    return parametrize(solution(MODELS[name]), optimizer)


def points() -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 3 * FEATURES).reshape(3, FEATURES),)


def sequences() -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 2 * 6 * FEATURES).reshape(2, 6, FEATURES),)


def tokens() -> tuple[Tensor]:
    return (torch.arange(2 * 6).reshape(2, 6) % VOCABULARY,)


def images() -> tuple[Tensor]:
    return (torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8),)


class Net(nn.Module):
    """``run(self, *inputs)`` over the given parts."""

    def __init__(self, run: Callable, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *inputs):
        return self.run(self, *inputs)


def ones(*shape: int) -> Parameter:
    return Parameter(torch.ones(shape))


def zeros(*shape: int) -> Parameter:
    return Parameter(torch.zeros(shape))


def normal(*shape: int, std: float = 1.0) -> Parameter:
    return Parameter(torch.randn(shape) * std)


def entry(n: int) -> nn.Linear:
    return nn.Linear(FEATURES, n)


def readout(n: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(n, CLASSES, bias=bias)


# --- multilayer perceptrons -------------------------------------------------------------------------------------------


class BareMLP(nn.Module):
    """The MLP of the papers: no biases, ``depth`` hidden layers, a bounded nonlinearity."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        sizes = [FEATURES] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(m, n, bias=False) for m, n in zip(sizes, sizes[1:], strict=False))
        self.readout = nn.Linear(width, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.readout(x)


@once
def bare_mlp(depth: int) -> Callable:
    return lambda width: (BareMLP(width, depth), points())


@model
def multiplier_after_readout(n):
    return Net(lambda s, x: s.o(F.relu(s.i(x))) / n, i=entry(n), o=readout(n, bias=False)), points()


@model
def multiplier_before_readout(n):
    """As MuReadout divides, behind a norm whose gain could also make up for it."""

    def run(s, x):
        return s.o(F.layer_norm(s.i(x), (n,), s.gain, s.bias) / n)

    return Net(run, i=entry(n), gain=ones(n), bias=zeros(n), o=readout(n, bias=False)), points()


class NTKLinear(nn.Module):
    """Standard normal entries and n^-1/2 in the forward pass."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.w, self.b, self.scale = normal(fan_out, fan_in), zeros(fan_out), fan_in**-0.5

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.T * self.scale + self.b


@model
def ntk(n):
    return nn.Sequential(NTKLinear(FEATURES, n), nn.ReLU(), NTKLinear(n, n), nn.ReLU(), NTKLinear(n, CLASSES)), points()


@model
def bottleneck(n):
    layers = [entry(n), nn.ReLU(), nn.Linear(n, 16), nn.ReLU(), nn.Linear(16, n), nn.ReLU(), readout(n)]
    return nn.Sequential(*layers), points()


@model
def unused_and_frozen(n):
    def run(s, x):
        return s.o(F.relu(s.h(F.relu(s.i(x)))))

    net = Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n), unused=nn.Linear(n, n))
    net.h.requires_grad_(False)
    return net, points()


@model
def gated(n):
    """A gated feed-forward layer whose gate and values come from one packed weight."""

    def run(s, x):
        gate, value = s.up(s.i(x)).chunk(2, dim=-1)
        return s.o(s.down(F.silu(gate) * value))

    return Net(run, i=entry(n), up=nn.Linear(n, 6 * n), down=nn.Linear(3 * n, n), o=readout(n)), points()


@model
def learned_slope(n):
    return nn.Sequential(entry(n), nn.PReLU(n), nn.Linear(n, n), nn.PReLU(), readout(n)), points()


@model
def residual_gains(n):
    """A branch behind an entrywise gain, one behind a single learned number, both small at init."""

    def run(s, x):
        x = s.i(x)
        x = x + s.gain * s.d(F.relu(s.u(x)))
        return s.o(x + s.gate * s.v(F.relu(x)))

    parts = dict(u=nn.Linear(n, n), d=nn.Linear(n, n), v=nn.Linear(n, n))
    return Net(run, i=entry(n), gain=Parameter(torch.full((n,), 1e-4)), gate=zeros(), o=readout(n), **parts), points()


@model
def random_features(n):
    def run(s, x):
        return s.o(torch.cat([torch.sin(x @ s.basis), torch.cos(x @ s.basis)], dim=-1))

    return Net(run, basis=Parameter(torch.randn(FEATURES, n), requires_grad=False), o=readout(2 * n)), points()


@model
def hf_conv1d(n):
    """Weights of layout (in, out), as GPT-2's in Hugging Face."""

    class Conv1D(nn.Module):
        def __init__(self, fan_in: int, fan_out: int):
            super().__init__()
            self.w, self.b = normal(fan_in, fan_out, std=0.02), zeros(fan_out)

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.b, x, self.w)

    layers = [
        Conv1D(FEATURES, n),
        nn.GELU(),
        Conv1D(n, 4 * n),
        nn.GELU(),
        Conv1D(4 * n, n),
        nn.GELU(),
        Conv1D(n, CLASSES),
    ]
    return nn.Sequential(*layers), points()


@model
def bilinear(n):
    def run(s, x):
        x, y = F.relu(s.i(x)), F.relu(s.j(x))
        return s.last(F.relu(s.b(x, y)), y)

    return Net(run, i=entry(n), j=entry(n), b=nn.Bilinear(n, n, n), last=nn.Bilinear(n, n, CLASSES)), points()


@model
def lora(n):
    """A frozen layer with a low-rank update of fixed rank."""

    def run(s, x):
        x = F.relu(s.i(x))
        x = F.relu(s.base(x) + x @ s.A.T @ s.B.T)
        return s.o(x)

    base = nn.Linear(n, n)
    base.requires_grad_(False)
    return Net(run, i=entry(n), base=base, A=normal(4, n, std=n**-0.5), B=zeros(n, 4), o=readout(n)), points()


@model
def weight_normalised(n):
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(entry(n)), nn.ReLU(), norm(nn.Linear(n, n)), nn.ReLU(), norm(readout(n))), points()


@model
def stacked_experts(n):
    """Experts' matrices in one tensor, contracted by einsum and bmm, behind a router."""

    def run(s, x):
        h = F.relu(s.i(x))
        share = s.router(h).softmax(dim=-1)
        y = torch.bmm(F.silu(torch.einsum("bd,edf->ebf", h, s.up)), s.down)
        return s.o(F.relu(torch.einsum("ebd,be->bd", y, share)))

    up, down = normal(4, n, 2 * n, std=n**-0.5), normal(4, 2 * n, n, std=n**-0.5)
    return Net(run, i=entry(n), router=nn.Linear(n, 4), up=up, down=down, o=readout(n)), points()


@model
def picked_experts(n):
    """The matrices of the two best experts of each point are looked up."""

    def run(s, x):
        h = F.relu(s.i(x))
        share, index = s.router(h).softmax(dim=-1).topk(2, dim=-1)
        return s.o((F.relu(torch.einsum("bd,bkdf->bkf", h, s.experts[index])) * share[..., None]).sum(dim=1))

    experts = normal(4, n, n, std=n**-0.5)
    return Net(run, i=entry(n), router=nn.Linear(n, 4), experts=experts, o=readout(n)), points()


@model
def unit_vectors(n):
    """As nGPT: weights and hidden states are unit vectors, steps on the sphere have a learned size."""

    def run(s, x):
        def unit(z):
            return F.normalize(z, dim=-1)

        h = unit(s.i(x))
        y = unit(F.silu(h @ unit(s.up).T * n**0.5) @ unit(s.down).T)
        return unit(h + s.step * (y - h)) @ unit(s.out).T * s.temperature

    parts = dict(up=normal(4 * n, n), down=normal(n, 4 * n), out=normal(CLASSES, n))
    return Net(run, i=entry(n), step=Parameter(torch.full((n,), 0.05)), temperature=ones(CLASSES), **parts), points()


@model
def hypernetwork(n):
    """The readout is made from the input by a small network."""

    def run(s, x):
        return torch.einsum("bh,bhk->bk", F.relu(s.i(x)), s.make(F.relu(s.j(x))).unflatten(-1, (n, CLASSES)))

    return Net(run, i=entry(n), j=nn.Linear(FEATURES, 16), make=nn.Linear(16, n * CLASSES)), points()


@model
def shared_layer(n):
    """One weight used four times in depth."""

    def run(s, x):
        x = s.i(x)
        for _ in range(4):
            x = x + torch.tanh(s.h(x))
        return s.o(x)

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), points()


@model
def square_root_bottleneck(n):
    """A hidden layer of 16 sqrt(n) units."""
    m = 16 * round(n**0.5)
    return nn.Sequential(
        entry(n), nn.ReLU(), nn.Linear(n, m), nn.ReLU(), nn.Linear(m, n), nn.ReLU(), readout(n)
    ), points()


@model
def mean_over_width(n):
    """No readout weight: the outputs are means over the width."""

    def run(s, x):
        return F.relu(s.h(F.relu(s.i(x)))).unflatten(-1, (CLASSES, -1)).mean(dim=-1)

    return Net(run, i=entry(n), h=nn.Linear(n, n)), points()


@model
def tied_autoencoder(n):
    """Both weights are used again, transposed, on the way out."""

    def run(s, x):
        h = F.relu(F.relu(s.w1(x)) @ s.w2.T)
        return F.relu(h @ s.w2) @ s.w1.weight

    return Net(run, w1=entry(n), w2=normal(n // 2, n, std=n**-0.5)), points()


# --- norms ------------------------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    """As written by hand in many codes.  ``gain``: 1 a plain one, 0 stored as 1 + gain (Gemma), None without."""

    def __init__(self, width: int, gain: "int | None" = 1):
        super().__init__()
        self.gain, self.offset = None if gain is None else Parameter(torch.full((width,), float(gain))), gain == 0

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return y if self.gain is None else y * (1 + self.gain) if self.offset else y * self.gain


@model
def rms_norms(n):
    return nn.Sequential(
        entry(n), RMSNorm(n), nn.Linear(n, n), RMSNorm(n, None), nn.Linear(n, n), RMSNorm(n, 0), readout(n)
    ), points()


@model
def group_norms(n):
    layers = [
        nn.Conv2d(3, n, 3),
        nn.GroupNorm(8, n),
        nn.ReLU(),
        nn.Conv2d(n, n, 3),
        nn.InstanceNorm2d(n, affine=True),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), readout(n)), images()


# --- embeddings and tying ---------------------------------------------------------------------------------------------


def language_model(n: int, run: Callable, **parts):
    return Net(run, e=nn.Embedding(VOCABULARY, n), h=nn.Linear(n, n), **parts), tokens()


@model
def gemma(n):
    """The embedding is multiplied by sqrt(n)."""
    return language_model(
        n, lambda s, t: s.o(s.norm(s.h(s.e(t) * n**0.5) + s.e(t) * n**0.5)), norm=RMSNorm(n), o=nn.Linear(n, VOCABULARY)
    )


@model
def gemma_tied(n):
    return language_model(
        n,
        lambda s, t: s.norm(s.e(t) * n**0.5 + s.h(s.inner(s.e(t) * n**0.5))) @ s.e.weight.T,
        norm=RMSNorm(n),
        inner=RMSNorm(n, None),
    )


@model
def t5_tied(n):
    """The hidden states are multiplied by n^-1/2 before the tied logits."""
    return language_model(n, lambda s, t: (s.norm(s.e(t) + s.h(s.e(t))) * n**-0.5) @ s.e.weight.T, norm=RMSNorm(n))


@model
def tied_without_gain(n):
    """Nothing between the last norm and the tied readout can shrink."""
    return language_model(n, lambda s, t: s.norm(s.e(t) + s.h(s.e(t))) @ s.e.weight.T, norm=RMSNorm(n, None))


@model
def tied_with_gain_plus_one(n):
    """The gain is 1 + g: training g moves it, but its init can't shrink."""
    return language_model(n, lambda s, t: s.norm(s.e(t) + s.h(s.e(t))) @ s.e.weight.T, norm=RMSNorm(n, 0))


# --- attention ---


def attention(n: int, scale: Callable, prepare: Callable = lambda s, z, name: z, **parts):
    """Four heads that grow, logits times ``scale(head size)``; ``prepare`` acts on queries and keys."""

    def run(s, t):
        x = s.e(t)
        h = F.layer_norm(x, (n,))
        q, k, v = (layer(h).unflatten(-1, (4, -1)).transpose(1, 2) for layer in (s.q, s.k, s.v))
        q, k = prepare(s, q, "q_gain"), prepare(s, k, "k_gain")
        weights = (q @ k.transpose(-1, -2) * scale(n // 4)).softmax(dim=-1)
        return s.o(F.layer_norm(x + s.p((weights @ v).transpose(1, 2).flatten(2)), (n,)))

    layers = {name: nn.Linear(n, n, bias=False) for name in "qkvp"}
    return Net(run, e=nn.Embedding(VOCABULARY, n), o=nn.Linear(n, VOCABULARY), **layers, **parts), tokens()


@model
def qk_norm_without_gain(n):
    norm = RMSNorm(n, None)
    return attention(n, lambda d: d**-0.5, lambda s, z, name: norm(z))


@model
def qk_norm_without_gain_mup(n):
    norm = RMSNorm(n, None)
    return attention(n, lambda d: 1 / d, lambda s, z, name: norm(z))


@model
def qk_norm_with_gain(n):
    d = n // 4
    return attention(
        n, lambda d: d**-0.5, lambda s, z, name: F.rms_norm(z, (d,), getattr(s, name)), q_gain=ones(d), k_gain=ones(d)
    )


@model
def cosine_attention(n):
    """Unit queries and keys under a learned temperature."""
    return attention(
        n,
        lambda d: 1.0,
        lambda s, z, name: F.normalize(z, dim=-1) * (s.temperature if name == "q_gain" else 1),
        temperature=ones(),
    )


@model
def pooled_by_a_learned_query(n):
    def run(s, x):
        h = F.relu(s.i(x))
        return s.o(torch.einsum("bt,btd->bd", (h @ s.query * n**-0.5).softmax(dim=-1), h))

    return Net(run, i=entry(n), query=normal(n), o=readout(n)), sequences()


@model
def torch_transformer(n):
    """torch's own layers: packed q, k and v, fused attention."""
    layer = nn.TransformerEncoderLayer(n, n // 16, 4 * n, batch_first=True, dropout=0.0)
    return nn.Sequential(entry(n), layer, readout(n)), sequences()


@model
def dot_product_of_two_towers(n):
    def run(s, x):
        h = F.relu(s.i(x))
        return s.a(h) @ s.b(h).T

    return Net(run, i=entry(n), a=nn.Linear(n, n), b=nn.Linear(n, n)), points()


@model
def cosine_of_two_towers(n):
    def run(s, x):
        h = F.relu(s.i(x))
        return F.normalize(s.a(h), dim=-1) @ F.normalize(s.b(h), dim=-1).T * s.temperature.exp()

    return Net(run, i=entry(n), a=nn.Linear(n, n), b=nn.Linear(n, n), temperature=zeros()), points()


# --- recurrence and convolution ---


@model
def lstm(n):
    return Net(lambda s, x: s.o(s.r(x)[0]), r=nn.LSTM(FEATURES, n, 2, batch_first=True), o=readout(n)), sequences()


@model
def gru(n):
    return Net(lambda s, x: s.o(s.r(x)[0]), r=nn.GRU(FEATURES, n, batch_first=True), o=readout(n)), sequences()


@model
def unrolled_rnn(n):
    def run(s, x):
        h = torch.zeros(x.shape[0], n)
        for step in range(x.shape[1]):
            h = torch.tanh(s.i(x[:, step]) + s.h(h))
        return s.o(h)

    return Net(run, i=entry(n), h=nn.Linear(n, n, bias=False), o=readout(n)), sequences()


@model
def mean_pooled(n):
    return Net(lambda s, x: s.o(F.gelu(s.i(x)).mean(dim=1)), i=entry(n), o=readout(n)), sequences()


@model
def depthwise(n):
    layers = [
        nn.Conv2d(3, n, 1),
        nn.ReLU(),
        nn.Conv2d(n, n, 3, padding=1, groups=n),
        nn.ReLU(),
        nn.Conv2d(n, 2 * n, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), readout(2 * n)), images()


@model
def grouped_convolutions(n):
    """A fixed number of growing groups, then a growing number of fixed groups."""
    layers = [
        nn.Conv2d(3, n, 1),
        nn.ReLU(),
        nn.Conv2d(n, n, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(n, n, 3, groups=n // 16),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), readout(n)), images()


@model
def transposed_convolutions(n):
    layers = [
        nn.Conv2d(3, n, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(n, n // 2, 2),
        nn.ReLU(),
        nn.ConvTranspose2d(n // 2, 3, 2),
    ]
    return nn.Sequential(*layers), images()


@model
def squeeze_and_excite(n):
    def run(s, x):
        x = F.relu(s.c(x))
        gate = s.up(F.relu(s.down(x.mean(dim=(2, 3))))).sigmoid()
        return s.o((x * gate[..., None, None]).mean(dim=(2, 3)))

    return Net(run, c=nn.Conv2d(3, n, 3), down=nn.Linear(n, 8), up=nn.Linear(8, n), o=readout(n)), images()


@model
def patches(n):
    """A vision transformer's stem: patches, a class token, positions."""

    def run(s, x):
        x = torch.cat([s.token.expand(2, 1, n), s.patch(x).flatten(2).transpose(1, 2)], dim=1) + s.position
        return s.o(F.layer_norm(x, (n,))[:, 0])

    return Net(
        run, patch=nn.Conv2d(3, n, 4, 4), token=zeros(1, 1, n), position=normal(1, 5, n, std=0.02), o=readout(n)
    ), images()
