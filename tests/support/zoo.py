"""A zoo of models in plain torch: the blocks of well-known architectures and the ways in which models are written.

Each factory takes the width.  ``EXCEPT`` says where a rule differs from that of its class by shape: end of the
parameter's name -> class, or (b, c under Adam, c under SGD, eps).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

FEATURES, CLASSES, VOCABULARY = 8, 4, 40

ZOO: dict[str, Callable] = {}
EXCEPT: dict[str, dict] = {}


def zoo(factory: "Callable | None" = None, **exceptions):
    """Register a factory; keyword ``a__b`` stands for the name end ``a.b``."""

    def register(function: Callable) -> Callable:
        ZOO[function.__name__] = function
        EXCEPT[function.__name__] = {end.replace("__", "."): rule for end, rule in exceptions.items()}
        return function

    return register if factory is None else register(factory)


class Net(nn.Module):
    """``run(self, *inputs)`` over the given parts."""

    def __init__(self, run: Callable, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def points(rows: int = 3) -> Tensor:
    return torch.linspace(-1, 1, rows * FEATURES).reshape(rows, FEATURES)


def sequences() -> Tensor:
    return torch.linspace(-1, 1, 2 * 6 * FEATURES).reshape(2, 6, FEATURES)


def tokens() -> Tensor:
    return torch.arange(2 * 6).reshape(2, 6) % VOCABULARY


def images(size: int = 16) -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)


def entry(n: int) -> nn.Linear:
    return nn.Linear(FEATURES, n)


def readout(n: int) -> nn.Linear:
    return nn.Linear(n, CLASSES)


# --- convolutional networks -------------------------------------------------------------------------------------------


class Basic(nn.Module):
    """ResNet's basic block."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.down = nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out))
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.down(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def _resnet(n: int) -> nn.Module:
    stem = [nn.Conv2d(3, n, 7, 2, 3, bias=False), nn.BatchNorm2d(n), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(
        *stem, Basic(n, n, 1), Basic(n, 2 * n, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), readout(2 * n)
    )


@zoo
def resnet(n):
    return _resnet(n), (images(),)


@zoo
def resnet_in_eval_mode(n):
    """Batch norm with running statistics: a fixed scale, so the convolution before it must keep to size itself."""
    return _resnet(n).eval(), (images(),)


@zoo
def vgg(n):
    layers = [
        nn.Conv2d(3, n, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(n, 2 * n, 3, padding=1),
        nn.BatchNorm2d(2 * n),
        nn.ReLU(),
    ]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * n, 4 * n), nn.ReLU(), nn.Dropout(0.5), readout(4 * n)]
    return nn.Sequential(*layers, *head), (images(),)


class InvertedResidual(nn.Module):
    """MobileNet v2 and v3, EfficientNet: expand, depthwise, squeeze and excite, project."""

    def __init__(self, n: int, activation: Callable, excite: bool):
        super().__init__()
        m = 4 * n
        self.expand, self.norm1 = nn.Conv2d(n, m, 1, bias=False), nn.BatchNorm2d(m)
        self.depthwise, self.norm2 = nn.Conv2d(m, m, 3, padding=1, groups=m, bias=False), nn.BatchNorm2d(m)
        self.squeeze, self.excite = (nn.Conv2d(m, n // 4, 1), nn.Conv2d(n // 4, m, 1)) if excite else (None, None)
        self.project, self.norm3 = nn.Conv2d(m, n, 1, bias=False), nn.BatchNorm2d(n)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.expand(x)))
        y = self.activation(self.norm2(self.depthwise(y)))
        if self.squeeze is not None:
            y = y * torch.sigmoid(self.excite(self.activation(self.squeeze(y.mean(dim=(2, 3), keepdim=True)))))
        return x + self.norm3(self.project(y))


def _inverted(n: int, activation: Callable, excite: bool) -> nn.Module:
    def run(s, x):
        return s.o(F.dropout(s.block(s.stem(x)).mean(dim=(2, 3)), 0.2))

    stem = nn.Sequential(nn.Conv2d(3, n, 3, 2, 1, bias=False), nn.BatchNorm2d(n))
    return Net(run, stem=stem, block=InvertedResidual(n, activation, excite), o=readout(n))


@zoo(depthwise__weight="input")
def mobilenet_v2(n):
    return _inverted(n, F.relu6, False), (images(),)


@zoo(depthwise__weight="input")
def mobilenet_v3(n):
    return _inverted(n, F.hardswish, True), (images(),)


@zoo(depthwise__weight="input")
def efficientnet(n):
    return _inverted(n, F.silu, True), (images(),)


@zoo
def unet(n):
    """Skip connections by concatenation, upsampling by a transposed convolution."""

    def run(s, x):
        a = F.relu(s.norm(s.enter(x)))
        b = F.relu(s.deep(F.relu(s.down(a))))
        return s.leave(F.relu(s.join(torch.cat([a, s.up(b)], dim=1))))

    parts = {
        "enter": nn.Conv2d(3, n, 3, padding=1), "norm": nn.GroupNorm(8, n), "down": nn.Conv2d(n, 2 * n, 3, 2, 1),
        "deep": nn.Conv2d(2 * n, 2 * n, 3, padding=1), "up": nn.ConvTranspose2d(2 * n, n, 2, 2),
        "join": nn.Conv2d(2 * n, n, 3, padding=1), "leave": nn.Conv2d(n, 3, 1),
    }  # fmt: skip
    return Net(run, **parts), (images(),)


@zoo
def unet_with_upsampling(n):
    def run(s, x):
        a = F.silu(s.enter(x))
        b = F.interpolate(F.silu(s.down(a)), scale_factor=2, mode="nearest")
        c = F.interpolate(b, size=(16, 16), mode="bilinear")
        return s.leave(F.silu(s.join(torch.cat([a, b + c], dim=1))))

    parts = {
        "enter": nn.Conv2d(3, n, 3, padding=1),
        "down": nn.Conv2d(n, 2 * n, 3, 2, 1),
        "join": nn.Conv2d(3 * n, n, 3, padding=1),
    }
    return Net(run, leave=nn.Conv2d(n, 3, 1), **parts), (images(),)


@zoo
def convolution_whose_channels_are_chunked(n):
    """A gate over channels."""

    def run(s, x):
        value, gate = s.h(F.relu(s.c(x))).chunk(2, dim=1)
        return s.o((value * torch.sigmoid(gate)).amax(dim=(2, 3)))

    return Net(run, c=nn.Conv2d(3, n, 3), h=nn.Conv2d(n, 2 * n, 3), o=readout(n)), (images(),)


# --- recurrent and torch's own modules --------------------------------------------------------------------------------


def _recurrent(kind: Callable, n: int, **options):
    def run(s, x):
        y, _ = s.rnn(x)
        return s.o(y[:, -1])

    width = n * (2 if options.get("bidirectional") else 1)
    return Net(run, rnn=kind(FEATURES, n, batch_first=True, **options), o=readout(width)), (sequences(),)


@zoo
def rnn(n):
    return _recurrent(nn.RNN, n)


@zoo
def rnn_with_relu(n):
    return _recurrent(nn.RNN, n, nonlinearity="relu", num_layers=2)


@zoo
def lstm(n):
    return _recurrent(nn.LSTM, n, num_layers=2, dropout=0.1)


@zoo
def bidirectional_gru(n):
    return _recurrent(nn.GRU, n, bidirectional=True)


@zoo
def lstm_cell(n):
    def run(s, x):
        h = c = x.new_zeros(x.shape[0], s.o.in_features)
        for t in range(x.shape[1]):
            h, c = s.cell(x[:, t], (h, c))
        return s.o(h)

    return Net(run, cell=nn.LSTMCell(FEATURES, n), o=readout(n)), (sequences(),)


@zoo
def encoder_decoder(n):
    """nn.Transformer, heads of a fixed dimension."""

    def run(s, source, target):
        return s.o(s.t(s.e(source), s.e(target)))

    t = nn.Transformer(n, n // 16, 1, 1, 4 * n, batch_first=True)
    return Net(run, e=nn.Embedding(VOCABULARY, n), t=t, o=nn.Linear(n, VOCABULARY)), (tokens(), tokens())


@zoo
def pre_norm_encoder(n):
    layer = nn.TransformerEncoderLayer(n, n // 16, 4 * n, activation="gelu", norm_first=True, batch_first=True)
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(VOCABULARY, n), layers, nn.LayerNorm(n), nn.Linear(n, VOCABULARY)), (tokens(),)


@zoo(k_proj_weight="input", v_proj_weight="input")
def attention_to_fixed_features(n):
    """Keys and values of a fixed size (kdim, vdim)."""

    def run(s, x, context):
        return s.o(s.a(s.i(x), context, context, need_weights=False)[0])

    a = nn.MultiheadAttention(n, n // 16, kdim=FEATURES, vdim=FEATURES, batch_first=True)
    return Net(run, i=entry(n), a=a, o=readout(n)), (sequences(), sequences())


# --- transformers -----------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, n: int, dim: int = 16):
        super().__init__()
        self.qkv, self.out, self.dim = nn.Linear(n, 3 * n, bias=False), nn.Linear(n, n), dim

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (-1, self.dim)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(n), Attention(n)
        self.norm2, self.mlp = nn.LayerNorm(n), nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@zoo(token="input", position="input")
def vision_transformer(n):
    def run(s, x):
        x = s.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([s.token.expand(x.shape[0], -1, -1), x], dim=1) + s.position
        return s.o(s.norm(s.block(x))[:, 0])

    parts = {"token": Parameter(torch.zeros(1, 1, n)), "position": Parameter(torch.randn(1, 17, n) * 0.02)}
    return Net(run, patch=nn.Conv2d(3, n, 4, 4), block=Block(n), norm=nn.LayerNorm(n), o=readout(n), **parts), (
        images(),
    )


@zoo
def diffusion_transformer(n):
    """DiT: shift, scale and gate of each norm made from the time step, their weights zero at init."""

    def run(s, x, t):
        c = s.time(torch.cat([torch.sin(t[:, None] * s.frequencies), torch.cos(t[:, None] * s.frequencies)], dim=-1))
        x = s.patch(x).flatten(2).transpose(1, 2)
        a, b, gate, d, e, gate2 = s.modulation(F.silu(c)).unsqueeze(1).chunk(6, dim=-1)
        x = x + gate * s.attention(s.norm(x) * (1 + b) + a)
        x = x + gate2 * s.mlp(s.norm(x) * (1 + e) + d)
        shift, scale = s.last(F.silu(c)).unsqueeze(1).chunk(2, dim=-1)
        return s.o(s.norm(x) * (1 + scale) + shift)

    net = Net(
        run, patch=nn.Conv2d(3, n, 4, 4), attention=Attention(n), norm=nn.LayerNorm(n, elementwise_affine=False),
        time=nn.Sequential(nn.Linear(16, n), nn.SiLU(), nn.Linear(n, n)), modulation=nn.Linear(n, 6 * n),
        last=nn.Linear(n, 2 * n), mlp=nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n)),
        o=nn.Linear(n, 48),
    )  # fmt: skip
    net.register_buffer("frequencies", torch.exp(-torch.arange(8) / 8))
    for layer in (net.modulation, net.last, net.o):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net, (images(), torch.tensor([1.0, 5.0]))


@zoo(probe="input")
def pooled_by_a_projected_query(n):
    """A learned vector that goes through a weight of its own before it meets the keys (SigLIP's pooling head)."""

    def run(s, x):
        x = s.i(x)
        q, k, v = (
            t.unflatten(-1, (-1, 16)).transpose(1, 2)
            for t in (s.wq(s.probe.expand(x.shape[0], -1, -1)), s.wk(x), s.wv(x))
        )
        y = (q @ k.transpose(-1, -2) / 4).softmax(dim=-1) @ v
        return s.o(y.transpose(1, 2).flatten(-2))

    parts = {name: nn.Linear(n, n) for name in ("wq", "wk", "wv")}
    return Net(run, i=entry(n), probe=Parameter(torch.randn(1, 1, n)), o=readout(n), **parts), (sequences(),)


@zoo(latents="input")
def perceiver(n):
    """Learned latents, normalised, that read the inputs."""

    def run(s, x):
        x = s.i(x)
        z = s.latents.expand(x.shape[0], -1, -1)
        q, k, v = (t.unflatten(-1, (-1, 16)).transpose(1, 2) for t in (s.wq(s.norm(z)), s.wk(x), s.wv(x)))
        z = z + s.p((q @ k.transpose(-1, -2) / 4).softmax(dim=-1).matmul(v).transpose(1, 2).flatten(-2))
        return s.o(s.last(z).mean(dim=1))

    parts = {name: nn.Linear(n, n) for name in ("wq", "wk", "wv", "p")}
    latents = Parameter(torch.randn(1, 5, n) * 0.02)
    return Net(run, i=entry(n), latents=latents, norm=nn.LayerNorm(n), last=nn.LayerNorm(n), o=readout(n), **parts), (
        sequences(),
    )


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions by complex numbers, as in Llama's first code."""
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@zoo
def complex_rotary(n):
    def run(s, x):
        x = s.e(x)
        q, k, v = (w(x).unflatten(-1, (-1, 16)).transpose(1, 2) for w in (s.wq, s.wk, s.wv))
        angles = torch.outer(torch.arange(x.shape[1]).float(), 1e4 ** (-torch.arange(8) / 8))
        y = F.scaled_dot_product_attention(_rotated(q, angles), _rotated(k, angles), v, is_causal=True)
        return s.o(x + s.p(y.transpose(1, 2).flatten(-2)))

    parts = {name: nn.Linear(n, n, bias=False) for name in ("wq", "wk", "wv", "p")}
    return Net(run, e=nn.Embedding(VOCABULARY, n), o=nn.Linear(n, VOCABULARY), **parts), (tokens(),)


@zoo
def attention_without_softmax(n):
    """Linear attention: a running sum of outer products, normalised by hand."""

    def run(s, x):
        x = s.i(x)
        q, k, v = (w(x).unflatten(-1, (-1, 16)) for w in (s.wq, s.wk, s.wv))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        state = torch.einsum("bthd,bthe->bthde", k, v).cumsum(dim=1)
        total = torch.einsum("bthd,bthd->bth", q, k.cumsum(dim=1))
        y = torch.einsum("bthd,bthde->bthe", q, state) / (total.unsqueeze(-1) + 1e-6)
        return s.o(y.flatten(-2))

    return Net(run, i=entry(n), o=readout(n), **{name: nn.Linear(n, n) for name in ("wq", "wk", "wv")}), (sequences(),)


@zoo
def dense_mixture(n):
    """Every expert sees every token; a softmax weighs them."""

    def run(s, x):
        x = s.i(x)
        share = s.router(x).softmax(dim=-1)
        y = sum(share[:, i : i + 1] * expert(x) for i, expert in enumerate(s.experts))
        return s.o(x + y)

    experts = [nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n)) for _ in range(3)]
    return Net(run, i=entry(n), router=nn.Linear(n, 3), experts=nn.ModuleList(experts), o=readout(n)), (points(),)


@zoo
def sparse_mixture(n):
    """The two best experts of each token, gathered by index, and a balancing loss."""

    def run(s, x, labels):
        x = s.i(x)
        share = s.router(x).softmax(dim=-1)
        best, which = share.topk(2, dim=-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(s.experts):
            weight = (best * (which == i)).sum(dim=-1, keepdim=True)
            y = y + weight * expert(x)
        loss = F.cross_entropy(s.o(x + y), labels)
        return loss + 0.01 * (share.mean(dim=0) * F.one_hot(which, 3).float().mean(dim=(0, 1))).sum()

    experts = [nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n)) for _ in range(3)]
    net = Net(run, i=entry(n), router=nn.Linear(n, 3), experts=nn.ModuleList(experts), o=readout(n))
    return net, (points(), torch.tensor([0, 1, 2]))


# --- other families ---------------------------------------------------------------------------------------------------


def _dlrm(n: int, mode: str):
    """Features in embedding bags, dot products between them, beside a dense tower."""

    def run(s, x, ids, offsets):
        dense = F.relu(s.bottom(x))
        vectors = torch.stack([dense] + [table(ids, offsets) for table in s.tables], dim=1)
        dots = torch.bmm(vectors, vectors.transpose(1, 2)) / n
        rows, columns = torch.tril_indices(4, 4, offset=-1)
        return s.o(F.relu(s.top(torch.cat([dense, dots[:, rows, columns]], dim=1))))

    tables = nn.ModuleList(nn.EmbeddingBag(VOCABULARY, n, mode=mode) for _ in range(3))
    net = Net(run, bottom=entry(n), tables=tables, top=nn.Linear(n + 6, n), o=nn.Linear(n, 1))
    return net, (points(), torch.arange(9), torch.tensor([0, 3, 6]))


@zoo
def dlrm(n):
    return _dlrm(n, "sum")


@zoo
def dlrm_with_means(n):
    return _dlrm(n, "mean")


def _graph(n: int, gather: Callable):
    def run(s, x, edges):
        x = s.i(x)
        for layer, own in ((s.one, s.own_one), (s.two, s.own_two)):
            x = F.relu(own(x) + layer(gather(x, edges)))
        return s.o(x)

    parts = {name: nn.Linear(n, n) for name in ("one", "own_one", "two", "own_two")}
    edges = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
    return Net(run, i=entry(n), o=readout(n), **parts), (points(5), edges)


@zoo
def graph_mean(n):
    """GraphSAGE: the mean of the neighbours."""

    def gather(x, edges):
        source, target = edges
        total = torch.zeros_like(x).index_add_(0, target, x[source])
        count = torch.zeros(x.shape[0]).index_add_(0, target, torch.ones(target.shape[0]))
        return total / count.clamp(min=1).unsqueeze(-1)

    return _graph(n, gather)


@zoo
def graph_scatter_reduce(n):
    def gather(x, edges):
        source, target = edges
        index = target.unsqueeze(-1).expand(-1, x.shape[1])
        return torch.zeros_like(x).scatter_reduce(0, index, x[source], reduce="mean", include_self=False)

    return _graph(n, gather)


@zoo
def graph_adjacency(n):
    def gather(x, edges):
        adjacency = torch.zeros(x.shape[0], x.shape[0]).index_put((edges[0], edges[1]), torch.ones(edges.shape[1]))
        return (adjacency / adjacency.sum(dim=1, keepdim=True).clamp(min=1)) @ x

    return _graph(n, gather)


@zoo(A="input", D="input", wb__weight="output", wc__weight="output", wb__bias="finite", wc__bias="finite")
def state_space(n):
    """A selective state-space block: a scan over time, a state of fixed size for each channel."""

    def run(s, x):
        u = F.silu(s.enter(s.i(x)))
        step, b, c = F.softplus(s.step(u)), s.wb(u), s.wc(u)
        decay = torch.exp(-step.unsqueeze(-1) * torch.exp(s.A))
        drive = (step * u).unsqueeze(-1) * b.unsqueeze(2)
        h, ys = torch.zeros_like(drive[:, 0]), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            ys.append((h * c[:, t].unsqueeze(1)).sum(dim=-1))
        return s.o(torch.stack(ys, dim=1) + s.D * u)

    m, state = 2 * n, 4
    parts = {"enter": nn.Linear(n, m), "step": nn.Linear(m, m), "wb": nn.Linear(m, state), "wc": nn.Linear(m, state)}
    A = Parameter(torch.log(torch.arange(1, state + 1).float()).repeat(m, 1))
    return Net(run, i=entry(n), A=A, D=Parameter(torch.ones(m)), o=readout(m), **parts), (sequences(),)


@zoo
def diagonal_recurrence(n):
    """A gated linear recurrence (RG-LRU): every channel decays at its own learned rate."""

    def run(s, x):
        u = s.i(x)
        rate = torch.exp(-8 * F.softplus(s.decay) * torch.sigmoid(s.gate(u)))
        h, hs = torch.zeros_like(u[:, 0]), []
        for t in range(x.shape[1]):
            h = rate[:, t] * h + torch.sqrt(1 - rate[:, t] ** 2) * u[:, t]
            hs.append(h)
        return s.o(torch.stack(hs, dim=1))

    return Net(run, i=entry(n), gate=nn.Linear(n, n), decay=Parameter(torch.rand(n)), o=readout(n)), (sequences(),)


@zoo
def autoencoder(n):
    """Reconstruction through a bottleneck, its own squared error as the loss."""

    def run(s, x):
        z = s.e2(F.relu(s.e1(x)))
        mean, log_var = z.chunk(2, dim=-1)
        y = s.d2(F.relu(s.d1(mean + torch.exp(0.5 * log_var) * torch.randn_like(mean))))
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=-1).mean()
        return {"loss": F.mse_loss(y, x) + kl, "reconstruction": y}

    return Net(run, e1=entry(n), e2=nn.Linear(n, 8), d1=nn.Linear(4, n), d2=nn.Linear(n, FEATURES)), (points(),)


# --- ways of writing --------------------------------------------------------------------------------------------------


@zoo
def checkpointed(n):
    def run(s, x):
        x = s.i(x)
        x = checkpoint(s.block, x, use_reentrant=False)
        return s.o(x)

    return Net(run, i=entry(n), block=Block(n), o=readout(n)), (sequences(),)


@zoo
def checkpointed_reentrant(n):
    def run(s, x):
        return s.o(checkpoint(s.block, s.i(x), use_reentrant=True))

    return Net(run, i=entry(n), block=Block(n), o=readout(n)), (sequences(),)


@zoo
def autocast(n):
    def run(s, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = s.block(s.i(x))
        return s.o(y.float())

    return Net(run, i=entry(n), block=Block(n), o=readout(n)), (sequences(),)


class Straight(torch.autograd.Function):
    """Rounding with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


@zoo
def custom_autograd_function(n):
    def run(s, x):
        return s.o(Straight.apply(torch.tanh(s.h(torch.tanh(s.i(x)))) * 4) / 4)

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), (points(),)


class Reversed(torch.autograd.Function):
    """Gradients of the other sign and n times as large (as GAN codes do): honoured as written."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.n = x.shape[-1]
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return -ctx.n * grad


@zoo(i__weight=(0, 0, 0, 0), i__bias=(0, 0, 0, 0), h__weight=("1/2", 1, 1, 0), h__bias=(0, 0, 0, 0))
def gradients_made_larger(n):
    def run(s, x):
        return s.o(Reversed.apply(torch.tanh(s.h(torch.tanh(s.i(x))))))

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), (points(),)


@zoo
def vmapped(n):
    def run(s, x):
        def one(row):
            return s.o(torch.tanh(s.h(torch.tanh(s.i(row)))))

        return torch.vmap(one)(x)

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), (points(),)


@zoo
def dropouts(n):
    def run(s, x):
        x = F.dropout(F.relu(s.i(x)), 0.1)
        x = F.alpha_dropout(F.selu(s.h(x)), 0.1, training=True)
        return s.o(F.dropout1d(x, 0.2))

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), (points(),)


@zoo
def shared_modules(n):
    """The same layer under two names and at two depths."""

    def run(s, x):
        return s.o(s.b(F.relu(s.a(F.relu(s.i(x))))))

    layer = nn.Linear(n, n)
    return Net(run, i=entry(n), a=layer, b=layer, o=readout(n)), (points(),)


@zoo(unused__weight=(0, 0, 0, 0), unused__bias=(0, 0, 0, 0), idle=(0, 0, 0, 0))
def unused_parameters(n):
    """Never called, and called for a result that goes nowhere."""

    def run(s, x):
        x = F.relu(s.i(x))
        torch.tanh(x * s.idle).sum()
        return s.o(x)

    return Net(run, i=entry(n), unused=nn.Linear(n, n), idle=Parameter(torch.ones(n)), o=readout(n)), (points(),)


@zoo(
    A=("1/2", 1, 1, 0),
    B="input",
    base__weight=("1/2", 1, 1, 0),
    base__bias=(0, 0, 0, 0),
    i__weight=(0, 0, 0, 0),
    i__bias=(0, 0, 0, 0),
)
def lora_on_a_frozen_base(n):
    """Only the adapters and the readout train; features that never move meet A as independent values: law 1."""

    def run(s, x):
        x = F.relu(s.i(x))
        return s.o(F.relu(s.base(x) + 2.0 * (x @ s.A.T) @ s.B.T))

    net = Net(
        run,
        i=entry(n),
        base=nn.Linear(n, n),
        A=Parameter(torch.randn(4, n)),
        B=Parameter(torch.zeros(n, 4)),
        o=readout(n),
    )
    net.i.requires_grad_(False)
    net.base.requires_grad_(False)
    return net, (points(),)


@zoo
def buffer_that_shrinks(n):
    """A buffer of 1/n in front of the readout."""

    def run(s, x):
        return s.o(torch.tanh(s.h(torch.tanh(s.i(x)))) * s.scale)

    net = Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n))
    net.register_buffer("scale", torch.full((n,), 1 / n))
    return net, (points(),)


EXCEPT["buffer_that_shrinks"].update({"o.weight": (0, 0, -1, -1)})


@zoo
def growing_sequence(n):
    """As many tokens as channels: attention averages over them, and so does the pooling."""

    def run(s, x):
        return s.o(s.block(s.i(x)).mean(dim=1))

    return Net(run, i=entry(n), block=Block(n), o=readout(n)), (torch.randn(2, n, FEATURES),)


@zoo
def token_mixing(n):
    """An MLP-Mixer on n tokens: the mixing weight contracts tokens."""

    def run(s, x):
        x = F.relu(s.i(x))
        return s.o(F.relu(s.mix(x.transpose(1, 2))).transpose(1, 2).mean(dim=1))

    return Net(run, i=entry(n), mix=nn.Linear(n, n), o=readout(n)), (torch.randn(2, n, FEATURES),)


@dataclass
class Outputs:
    logits: Tensor
    value: Tensor
    features: Tensor


@zoo
def several_outputs(n):
    """Two heads and the features themselves, in a dataclass."""

    def run(s, x):
        h = F.relu(s.h(F.relu(s.i(x))))
        return Outputs(s.o(h), s.value(h), h)

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n), value=nn.Linear(n, 1)), (points(),)


@zoo
def features_only(n):
    """The output has a growing axis: gradients of order 1/n on it."""
    return nn.Sequential(entry(n), nn.ReLU(), nn.Linear(n, n), nn.LayerNorm(n)), (points(),)


@zoo
def nested_outputs(n):
    def run(s, x, *, scale):
        h = torch.tanh(s.i(x)) * scale
        return {"heads": [s.o(h), (s.p(h),)], "count": 3}

    return Net(run, i=entry(n), o=readout(n), p=nn.Linear(n, 2)), {"x": points(), "scale": 0.5}


@zoo
def own_loss(n):
    """The loss is the model's own where labels are given."""

    def run(s, x, labels=None):
        logits = s.o(torch.tanh(s.h(torch.tanh(s.e(x).mean(dim=1)))))
        return (
            (logits,)
            if labels is None
            else {"loss": F.cross_entropy(logits, labels, label_smoothing=0.1), "logits": logits}
        )

    net = Net(run, e=nn.Embedding(VOCABULARY, n), h=nn.Linear(n, n), o=readout(n))
    return net, {"x": tokens(), "labels": torch.tensor([0, 3])}


@zoo
def gated_linear_units(n):
    def run(s, x):
        return s.o(F.glu(s.h(F.glu(s.i(x), dim=-1)), dim=-1))

    return Net(run, i=nn.Linear(FEATURES, 2 * n), h=nn.Linear(n, 2 * n), o=readout(n)), (points(),)


@zoo(log_scale="finite", prototypes="input")
def cosine_classifier(n):
    """Normalised features against normalised class vectors, times a learned scale."""

    def run(s, x):
        x = F.normalize(s.h(F.relu(s.i(x))), dim=-1)
        return s.log_scale.exp() * x @ F.normalize(s.prototypes, dim=-1).T

    prototypes = Parameter(torch.randn(CLASSES, n))
    return Net(run, i=entry(n), h=nn.Linear(n, n), prototypes=prototypes, log_scale=Parameter(torch.tensor(2.0))), (
        points(),
    )


@zoo
def instance_and_local_norms(n):
    layers = [
        nn.Conv2d(3, n, 3),
        nn.InstanceNorm2d(n, affine=True),
        nn.ReLU(),
        nn.Conv2d(n, n, 3),
        nn.GroupNorm(4, n),
        nn.SiLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.RMSNorm(n), readout(n)), (images(),)


@zoo
def fourier_mixing(n):
    """FNet: the real part of a transform over tokens."""

    def run(s, x):
        x = s.i(x)
        return s.o(F.gelu(s.h(x + torch.fft.fft(x, dim=1).real)))

    return Net(run, i=entry(n), h=nn.Linear(n, n), o=readout(n)), (sequences(),)


def positions(length: int, n: int) -> Tensor:
    """Sines and cosines."""
    angles = torch.arange(length)[:, None] * torch.exp(-math.log(1e4) * torch.arange(0, n, 2) / n)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


@zoo
def sinusoidal_positions(n):
    """A buffer of positions beside embeddings made larger by sqrt(n), as in the first transformer."""

    def run(s, x):
        return s.o(s.block(s.e(x) * n**0.5 + s.pe))

    net = Net(run, e=nn.Embedding(VOCABULARY, n), block=Block(n), o=nn.Linear(n, VOCABULARY))
    net.register_buffer("pe", positions(6, n))
    return net, (tokens(),)


EXCEPT["sinusoidal_positions"].update({"e.weight": ("1/2", "1/2", 0, "-1/2")})


@zoo
def delta_rule_in_chunks(n):
    """A gated delta net's chunk: a triangular system over the tokens of one chunk."""

    def run(s, x):
        x = s.i(x)
        k = F.normalize(s.wk(x).unflatten(-1, (-1, 16)).transpose(1, 2), dim=-1)
        v = s.wv(x).unflatten(-1, (-1, 16)).transpose(1, 2)
        lower = torch.tril(k @ k.transpose(-1, -2), diagonal=-1)
        eye = torch.eye(x.shape[1])
        y = torch.linalg.solve_triangular(lower + eye, v, upper=False)
        return s.o(y.transpose(1, 2).flatten(-2))

    return Net(run, i=entry(n), wk=nn.Linear(n, n), wv=nn.Linear(n, n), o=readout(n)), (sequences(),)


@zoo
def connectionist_temporal_classification(n):
    def run(s, x):
        y = s.o(F.relu(s.i(x))).log_softmax(dim=-1).transpose(0, 1)
        return F.ctc_loss(y, torch.tensor([[1, 2], [2, 3]]), torch.tensor([6, 6]), torch.tensor([2, 2]))

    return Net(run, i=entry(n), o=readout(n)), (sequences(),)


@zoo
def probabilities_with_their_own_loss(n):
    def run(s, x):
        return F.binary_cross_entropy(torch.sigmoid(s.o(F.relu(s.i(x)))), torch.full((3, CLASSES), 0.25))

    return Net(run, i=entry(n), o=readout(n)), (points(),)


@zoo(original=(0, "1/2", -1, "-3/2"))
def spectrally_normalised(n):
    """W over its largest singular value by a power iteration whose vectors are buffers: of order n^-1/2 whatever W."""
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(entry(n), nn.ReLU(), norm(nn.Linear(n, n)), nn.ReLU(), readout(n)), (points(),)


@zoo(weight_orig=(0, "1/2", -1, "-3/2"))
def spectrally_normalised_by_a_hook(n):
    return nn.Sequential(entry(n), nn.ReLU(), nn.utils.spectral_norm(nn.Linear(n, n)), nn.ReLU(), readout(n)).eval(), (
        points(),
    )


@zoo
def layer_replaced_while_running(n):
    """A cheaper layer takes the place of the first one on short inputs (BigBird); it keeps the weights."""

    class Wrapped(nn.Module):
        def __init__(self, layer: nn.Module):
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.layer(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.i, self.o = entry(n), readout(n)
            self.blocks = nn.ModuleList(Wrapped(nn.Linear(n, n)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.i(x)
            for index, block in enumerate(self.blocks):
                self.blocks[index] = Wrapped(block.layer)
                x = self.blocks[index](x)
            return self.o(x)

    return Model(), (points(),)
