"""Hand-written parametrizations, right and wrong, as people write them: plain groups, filters, mup, schedulers.

Each is a ``setup(width) -> (model, optimizer[, scheduler], inputs)``.  The wrong ones follow the rules of published
code, in our own words.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.models import CLASSES, FEATURES, VOCABULARY, example

BASE = 32
LR = 0.02


def x_inputs() -> Tensor:
    return torch.linspace(-1, 1, 4 * FEATURES).reshape(4, FEATURES).sin()


def x_tokens() -> Tensor:
    return torch.arange(16).reshape(2, 8) * 7 % VOCABULARY


# -- packed weights whose blocks have inits of their own ------------------------------------------------


class PackedAttention(nn.Module):
    """q, k and v in one weight, two heads that grow, 1/sqrt(d)."""

    def __init__(self, width: int):
        super().__init__()
        self.input = nn.Linear(FEATURES, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.input(x)
        parts = self.qkv(h).unflatten(-1, (3, 2, h.shape[-1] // 2)).permute(1, 2, 0, 3).unbind(0)
        q, k, v = parts
        mixed = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.readout(h + self.proj(mixed.transpose(0, 1).flatten(1)))


def packed_model(width: int) -> tuple[nn.Module, Tensor]:
    return PackedAttention(width), x_inputs()


def packed_by_hand(q: float, k: float, v: float):
    """``setup``: rows of q, k and v at ``n^q``, ``n^k``, ``n^v``; all else as it should be."""

    def packed(width: int):
        model, inputs = packed_model(width)
        with torch.no_grad():
            for rows, power in zip(model.qkv.weight.chunk(3), (q, k, v), strict=True):
                rows.normal_(0, width**power)
        nn.init.zeros_(model.readout.weight)
        n = width / BASE
        rates = {"input": LR, "qkv": LR / n**1.5, "proj": LR / n, "readout": LR / n}
        groups = [{"params": list(getattr(model, part).parameters()), "lr": lr} for part, lr in rates.items()]
        return model, torch.optim.AdamW(groups, weight_decay=0, eps=1e-8 / n), inputs

    return packed


# -- models -------------------------------------------------------------------------------------------


class MLP(nn.Module):
    """Input, two hidden layers and a readout; ``multiplier`` in front of the readout."""

    def __init__(self, width: int, readout: type = nn.Linear, multiplier: float = 1.0, bias: bool = True):
        super().__init__()
        self.multiplier = multiplier
        self.input = nn.Linear(FEATURES, width, bias=bias)
        self.hidden1 = nn.Linear(width, width, bias=bias)
        self.hidden2 = nn.Linear(width, width, bias=bias)
        self.readout = readout(width, CLASSES, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.input(x))
        h = F.gelu(self.hidden1(h))
        h = F.gelu(self.hidden2(h))
        return self.readout(h * self.multiplier)


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, scale, bias: bool):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.scale = scale(self.size)
        self.wq = nn.Linear(width, width, bias=bias)
        self.wk = nn.Linear(width, kv_heads * self.size, bias=bias)
        self.wv = nn.Linear(width, kv_heads * self.size, bias=bias)
        self.wo = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (w(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.wo((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.w1, self.w3 = nn.Linear(width, 2 * width, bias=bias), nn.Linear(width, 2 * width, bias=bias)
        self.w2 = nn.Linear(2 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MoE(nn.Module):
    def __init__(self, width: int, bias: bool, experts: int = 4):
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(width, bias) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        return (torch.stack([expert(x) for expert in self.experts], -1) * shares.unsqueeze(-2)).sum(-1)


class DepthwiseConv(nn.Module):
    """A short causal convolution, channel by channel: weight [C, 1, k], as in Mamba."""

    def __init__(self, width: int, k: int = 4):
        super().__init__()
        self.k = k
        self.weight = nn.Parameter(torch.randn(width, 1, k) / math.sqrt(k))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(
            F.conv1d(F.pad(x.transpose(1, 2), (self.k - 1, 0)), self.weight, groups=x.shape[-1]).transpose(1, 2)
        )


class Llama(nn.Module):
    """A small Llama: RMSNorm, SwiGLU, optional biases, grouped queries, experts, depthwise convolutions, tied
    embeddings.
    """

    def __init__(
        self,
        width: int,
        heads: int = 0,
        kv_heads: int = 0,
        scale=lambda d: d**-0.5,
        bias: bool = False,
        tied: bool = False,
        experts: bool = False,
        conv: bool = False,
        before_norm: float = 1.0,
        after_norm: float = 1.0,
        layers: int = 2,
    ):
        super().__init__()
        heads = heads or width // 16
        self.before_norm, self.after_norm = before_norm, after_norm
        self.tok_embeddings = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList()
        for _ in range(layers):
            block = nn.ModuleDict(
                {
                    "norm1": RMSNorm(width),
                    "attention": Attention(width, heads, kv_heads or heads, scale, bias),
                    "norm2": RMSNorm(width),
                    "feed_forward": MoE(width, bias) if experts else FeedForward(width, bias),
                }
            )
            if conv:
                block["conv"] = DepthwiseConv(width)
            self.layers.append(block)
        self.norm = RMSNorm(width)
        self.output = nn.Linear(width, VOCABULARY, bias=False)
        if tied:
            self.output.weight = self.tok_embeddings.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_embeddings(tokens)
        for block in self.layers:
            h = block["norm1"](x)
            x = x + block["attention"](block["conv"](h) if "conv" in block else h)
            x = x + block["feed_forward"](block["norm2"](x))
        return self.output(self.norm(x * self.before_norm) * self.after_norm)


# -- inits and groups, by hand --------------------------------------------------------------------------


def mup_init(model: nn.Module, readout_std: float | None = None) -> None:
    """Normal inits of TP5's tables: O(1) embeddings and biases 0, 1/sqrt(fan_in) for what grows on both sides.

    ``readout_std``: of what grows in fan-in only; by default 1/fan_in.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, nn.Linear):
            fan_out, fan_in = module.weight.shape
            if fan_out in (CLASSES, VOCABULARY):
                nn.init.normal_(module.weight, std=1 / fan_in if readout_std is None else readout_std)
            else:
                nn.init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def is_matrix(p: Tensor) -> bool:
    """Both axes grow in the models here."""
    return p.dim() == 2 and not {FEATURES, CLASSES, VOCABULARY} & set(p.shape)


def adam_groups(
    model: nn.Module,
    width: int,
    lr: float = LR,
    decay: float = 0.1,
    eps: float = 1e-8,
    scale_eps: bool = True,
    readout: bool = True,
):
    """TP5 Table 3 for Adam: lr 1/n for hidden weights and, without a multiplier, for the readout.  Decoupled decay,
    eps ~ 1/n.
    """
    m = width / BASE
    eps = eps / m if scale_eps else eps
    scaled, rest = [], []
    for p in model.parameters():
        growing_in = p.dim() == 2 and p.shape[1] != FEATURES
        (scaled if is_matrix(p) or (growing_in and readout and p.shape[0] in (CLASSES,)) else rest).append(p)
    return [
        {"params": scaled, "lr": lr / m, "weight_decay": decay * m, "eps": eps},
        {"params": rest, "lr": lr, "weight_decay": decay, "eps": eps},
    ]


# -- 1. right --------------------------------------------------------------------------------------------


def tp5_table3_adam(width: int):
    model = MLP(width)
    mup_init(model)
    return model, torch.optim.AdamW(adam_groups(model, width)), x_inputs()


def tp5_table3_sgd(width: int):
    """lr: input and biases n, hidden 1, readout 1/n."""
    model = MLP(width)
    mup_init(model)
    m = width / BASE
    vectors = [model.input.weight, *(p for p in model.parameters() if p.dim() == 1 and p.numel() > 48)]
    groups = [
        {"params": vectors, "lr": LR * m},
        {"params": [model.hidden1.weight, model.hidden2.weight, model.readout.bias], "lr": LR},
        {"params": [model.readout.weight], "lr": LR / m},
    ]
    return model, torch.optim.SGD(groups, lr=LR, momentum=0.9), x_inputs()


def tp5_table8_adam(width: int):
    """Readout multiplier 1/n, readout init and lr constant."""
    model = MLP(width, multiplier=BASE / width)
    mup_init(model, readout_std=0.1)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_inputs()


def tp5_table8_sgd(width: int):
    model = MLP(width, multiplier=BASE / width)
    mup_init(model, readout_std=0.1)
    hidden = [model.hidden1.weight, model.hidden2.weight, model.readout.bias]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    return model, torch.optim.SGD([{"params": hidden}, {"params": rest, "lr": LR * width / BASE}], lr=LR), x_inputs()


def tp5_table9_sgd(width: int):
    """Table 9 (the abc form of TP4): multiplier sqrt(n) and 1/sqrt(n) around weights of std 1/sqrt(n), one constant
    lr.
    """

    class Abc(MLP):
        def forward(self, x: Tensor) -> Tensor:
            h = F.gelu(self.input(x) * width**0.5)
            h = F.gelu(self.hidden1(h))
            h = F.gelu(self.hidden2(h))
            return self.readout(h) * width**-0.5

    model = Abc(width, bias=False)
    for p in model.parameters():
        nn.init.normal_(p, std=width**-0.5)
    return model, torch.optim.SGD(model.parameters(), lr=LR), x_inputs()


def tp5_table9_adam(width: int):
    """The same forward pass under Adam: lr 1/sqrt(n) outside, 1/n inside."""
    model, _, inputs = tp5_table9_sgd(width)
    groups = [
        {"params": [model.input.weight, model.readout.weight], "lr": LR * width**-0.5, "eps": 1e-8 * width**-0.5},
        {"params": [model.hidden1.weight, model.hidden2.weight], "lr": LR / width, "eps": 1e-8 / width},
    ]
    return model, torch.optim.AdamW(groups, weight_decay=0.0), inputs


def mup_mlp(width: int):
    import mup

    model = MLP(width, mup.MuReadout)
    mup.set_base_shapes(model, MLP(BASE, mup.MuReadout), delta=MLP(2 * BASE, mup.MuReadout))
    return model, mup.MuAdamW(model.parameters(), lr=LR, weight_decay=0.1), x_inputs()


def mup_mlp_sgd(width: int):
    import mup

    model, _, inputs = mup_mlp(width)
    return model, mup.MuSGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=0.1), inputs


def _mup_gpt(name: str, width: int):
    import mup

    def build(width: int) -> nn.Module:
        model, _ = example("gpt.py", name)(width)
        if model.head.weight is model.token.weight:
            head = mup.MuSharedReadout(model.token.weight, bias=False)
        else:
            head = mup.MuReadout(model.head.in_features, model.head.out_features, bias=False)
        model.head = head
        return model

    model = build(width)
    mup.set_base_shapes(model, build(BASE), delta=build(2 * BASE))
    return model, mup.MuAdamW(model.parameters(), lr=LR, weight_decay=0.1), x_tokens()


def mup_gpt(width: int):
    return _mup_gpt("gpt", width)


def mup_gpt_growing_heads(width: int):
    return _mup_gpt("gpt_growing_heads_mup", width)


def llama_setup(width: int, **options):
    """A Llama under TP5's rules for Adam: readout by a 1/n multiplier behind the norm."""
    model = Llama(width, after_norm=BASE / width, **options)
    mup_init(model, readout_std=0.1)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_tokens()


def llama(width: int):
    return llama_setup(width)


def llama_tied(width: int):
    return llama_setup(width, tied=True)


def llama_gqa(width: int):
    return llama_setup(width, heads=width // 8, kv_heads=width // 16)


def llama_bias(width: int):
    return llama_setup(width, bias=True)


def llama_growing_heads(width: int):
    return llama_setup(width, heads=4, scale=lambda d: 1 / d)


def completep(width: int):
    """CompleteP at fixed depth: residual branches times 1/L, hidden lr and eps 1/n, decay n, global eps 1/n."""

    class Model(Llama):
        def forward(self, tokens: Tensor) -> Tensor:
            x = self.tok_embeddings(tokens)
            for block in self.layers:
                x = x + block["attention"](block["norm1"](x)) / len(self.layers)
                x = x + block["feed_forward"](block["norm2"](x)) / len(self.layers)
            return self.output(self.norm(x)) * (BASE / width)

    model = Model(width)
    mup_init(model, readout_std=0.02)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_tokens()


def unit_scaled(width: int, embedding: float = 0.0):
    """u-muP: unit inits, 1/sqrt(fan_in) in the forward pass (1/fan_in for the readout), Adam lr 1/sqrt(fan_in) for
    hidden weights.

    ``embedding``: exponent of the input layer's lr; u-muP itself takes -1/2.
    """

    class UnitLinear(nn.Linear):
        def __init__(self, *args, power: float = -0.5, **kwargs):
            super().__init__(*args, bias=False)
            self.power = power
            nn.init.normal_(self.weight)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight) * self.in_features**self.power

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.hidden1, self.hidden2 = (
                UnitLinear(FEATURES, width),
                UnitLinear(width, width),
                UnitLinear(width, width),
            )
            self.readout = UnitLinear(width, CLASSES, power=-1.0)

        def forward(self, x: Tensor) -> Tensor:
            h = F.silu(self.input(x))
            h = F.silu(self.hidden1(h))
            return self.readout(F.silu(self.hidden2(h)))

    model = Model()
    hidden = [model.hidden1.weight, model.hidden2.weight]
    groups = [
        {"params": hidden, "lr": width**-0.5, "eps": 1e-8 * width**-0.5 / width**0.0},
        {"params": [model.input.weight], "lr": width**embedding, "eps": 1e-8 / width},
        {"params": [model.readout.weight], "lr": 1.0, "eps": 1e-8 / width},
    ]
    groups[0]["eps"] = 1e-8 * width**-1.5
    return model, torch.optim.AdamW(groups, weight_decay=0.0), x_inputs()


def unit_scaled_embedding(width: int):
    return unit_scaled(width, -0.5)


def muon_adamw(width: int, adjust: str = "original", power: float = 0.0):
    """Muon for hidden matrices, AdamW by TP5 for the rest; ``power`` of the width in Muon's lr."""
    model = Llama(width, after_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    m = width / BASE
    hidden = [p for n, p in model.named_parameters() if "layers" in n and p.dim() == 2]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    muon = torch.optim.Muon(hidden, lr=LR * m**power, weight_decay=0.1 * m**-power, adjust_lr_fn=adjust)
    return model, [muon, torch.optim.AdamW(rest, lr=LR, weight_decay=0.1, eps=1e-8 / m)], x_tokens()


def warmup(width: int):
    model, optimizer, inputs = tp5_table8_adam(width)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return model, optimizer, scheduler, inputs


PASSES = (
    tp5_table3_adam,
    tp5_table3_sgd,
    tp5_table8_adam,
    tp5_table8_sgd,
    tp5_table9_sgd,
    tp5_table9_adam,
    mup_mlp_sgd,
    llama,
    llama_tied,
    llama_gqa,
    llama_bias,
    llama_growing_heads,
    completep,
    unit_scaled,
    muon_adamw,
    warmup,
)
#: mup never scales Adam's epsilon.
MUP_ADAM = (mup_mlp, mup_gpt, mup_gpt_growing_heads)


# -- 2 to 13. wrong ----------------------------------------------------------------------------------------


def standard_adamw(width: int):
    """2. torch's own inits, one lr."""
    model = MLP(width)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, eps=1e-8 * 32 / width), x_inputs()


def standard_sgd(width: int):
    """2. The same under SGD with the largest stable lr, 1/n."""
    model = MLP(width)
    return model, torch.optim.SGD(model.parameters(), lr=1.0 / width), x_inputs()


def nanotron(width: int):
    """3. lr = fan_out / fan_in for every matrix, the rule for SGD, with AdamW."""
    model = Llama(width)
    mup_init(model)
    groups = []
    for name, p in model.named_parameters():
        lr = LR
        if p.dim() == 2 and "embeddings" not in name:
            lr *= p.shape[0] / p.shape[1]
        groups.append({"params": [p], "lr": lr, "weight_decay": 0.0, "eps": 1e-8 / width})
    return model, torch.optim.AdamW(groups), x_tokens()


def gpt_neox(width: int):
    """4. mup's groups; then a scheduler writes the lr anew, divided where the group has a key that nobody sets."""
    import mup

    model, optimizer, inputs = mup_mlp(width)

    class Annealing:
        def __init__(self, optimizer, lr: float):
            self.optimizer, self.lr = optimizer, lr

        def step(self, step_num: int | None = None) -> None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr / group["width_mult"] if "width_mult" in group else self.lr

    assert mup
    return model, optimizer, Annealing(optimizer, LR), inputs


def multiplier_before_norm(width: int):
    """5. h / m, then RMSNorm, then the readout."""
    model = Llama(width, before_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_tokens()


def suffix_filter(width: int):
    """6. GPT-2's names looked for in a Llama."""
    model = Llama(width, after_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    m = width / BASE
    suffixes = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
    hidden = [p for n, p in model.named_parameters() if n.endswith(suffixes)]
    rest = [p for n, p in model.named_parameters() if not n.endswith(suffixes)]
    groups = [{"params": hidden, "lr": LR / m}, {"params": rest, "lr": LR}]
    return model, torch.optim.AdamW(groups, weight_decay=0.0, eps=1e-8 / m), x_tokens()


def half_filter(width: int):
    """6. A filter that matches the attention only."""
    model = Llama(width, after_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    m = width / BASE
    hidden = [p for n, p in model.named_parameters() if ".attention." in n]
    rest = [p for n, p in model.named_parameters() if ".attention." not in n]
    return (
        model,
        torch.optim.AdamW([{"params": hidden, "lr": LR / m}, {"params": rest}], lr=LR, weight_decay=0.0, eps=1e-8 / m),
        x_tokens(),
    )


def router(width: int, std: float = 0.02, lr_power: float = 0.0):
    """7. Constant init and lr for the router, which no rule names."""
    model = Llama(width, after_norm=BASE / width, experts=True)
    mup_init(model, readout_std=0.1)
    routers = [m.router.weight for m in model.modules() if isinstance(m, MoE)]
    for weight in routers:
        nn.init.normal_(weight, std=std)
    groups = adam_groups(model, width, readout=False)
    groups[1]["params"] = [p for p in groups[1]["params"] if all(p is not r for r in routers)]
    groups.append({"params": routers, "lr": LR * width**lr_power, "weight_decay": 0.0, "eps": groups[0]["eps"]})
    return model, torch.optim.AdamW(groups), x_tokens()


def router_as_hidden(width: int):
    """7. 1/sqrt(fan_in) and 1/n, as for a hidden matrix."""
    return router(width, std=width**-0.5, lr_power=-1.0)


def inverse_sqrt_attention(width: int):
    """8. Four heads that grow, logits times 1/sqrt(d)."""
    return llama_setup(width, heads=4)


def latent_attention(width: int):
    """8. MLA: keys and values from a latent; its own softmax scale whatever the config says."""

    class Latent(nn.Module):
        def __init__(self, config: dict):
            super().__init__()
            self.heads, self.size = config["heads"], width // config["heads"]
            self.q, self.kv_down = nn.Linear(width, width, bias=False), nn.Linear(width, width // 2, bias=False)
            self.k_up, self.v_up = nn.Linear(width // 2, width, bias=False), nn.Linear(width // 2, width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.softmax_scale = 1 / math.sqrt(self.size)  # config["softmax_scale"] is ignored

        def forward(self, x: Tensor) -> Tensor:
            latent = self.kv_down(x)
            q, k, v = (
                y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for y in (self.q(x), self.k_up(latent), self.v_up(latent))
            )
            return self.out(
                F.scaled_dot_product_attention(q, k, v, scale=self.softmax_scale).transpose(1, 2).flatten(2)
            )

    model = Llama(width, after_norm=BASE / width, layers=1)
    model.layers[0]["attention"] = Latent({"heads": 4, "softmax_scale": 4 / width})
    mup_init(model, readout_std=0.1)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_tokens()


def depthwise(width: int):
    """9. dim() == 3, so "matrix-like": lr / m."""
    model = Llama(width, after_norm=BASE / width, conv=True)
    mup_init(model, readout_std=0.1)
    m = width / BASE
    matrix = [p for n, p in model.named_parameters() if p.dim() >= 2 and "embeddings" not in n and "output" not in n]
    rest = [p for p in model.parameters() if all(p is not q for q in matrix)]
    groups = [
        {"params": matrix, "lr": LR / m, "weight_decay": 0.1 * m},
        {"params": rest, "lr": LR, "weight_decay": 0.1},
    ]
    return model, torch.optim.AdamW(groups, eps=1e-8 / m), x_tokens()


def muon_rms_constant(width: int):
    """10."""
    return muon_adamw(width, "match_rms_adamw", 0.0)


def muon_rms_adams(width: int):
    """10. Adam's 1/n."""
    return muon_adamw(width, "match_rms_adamw", -1.0)


def muon_rms_right(width: int):
    return muon_adamw(width, "match_rms_adamw", -0.5)


def slow_embedding(width: int):
    """11. Embedding lr / sqrt(n)."""
    model = Llama(width, after_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    groups = adam_groups(model, width, decay=0.0, readout=False)
    embedding = model.tok_embeddings.weight
    groups[1]["params"] = [p for p in groups[1]["params"] if p is not embedding]
    groups.append({"params": [embedding], "lr": LR * width**-0.5, "weight_decay": 0.0, "eps": groups[0]["eps"]})
    return model, torch.optim.AdamW(groups), x_tokens()


def biases_with_hidden_lr(width: int):
    """11. Whole modules into the hidden group."""
    model = MLP(width)
    mup_init(model)
    m = width / BASE
    hidden = [*model.hidden1.parameters(), *model.hidden2.parameters(), model.readout.weight]
    rest = [*model.input.parameters(), model.readout.bias]
    return (
        model,
        torch.optim.AdamW([{"params": hidden, "lr": LR / m}, {"params": rest}], lr=LR, weight_decay=0.0, eps=1e-8 / m),
        x_inputs(),
    )


def coupled_decay(width: int):
    """12. Adam (L2 in the gradient) with the decay of AdamW."""
    import mup

    model, _, inputs = mup_mlp(width)
    return model, mup.MuAdam(model.parameters(), lr=LR, weight_decay=0.1, eps=1e-8 * BASE / width), inputs


def decay_left(width: int):
    """12. Decoupled decay not scaled with the lr."""
    model = MLP(width)
    mup_init(model)
    groups = [{**group, "weight_decay": 0.1} for group in adam_groups(model, width)]
    return model, torch.optim.AdamW(groups), x_inputs()


def eps_left(width: int):
    """13."""
    model = MLP(width)
    mup_init(model)
    return model, torch.optim.AdamW(adam_groups(model, width, eps=1e-6, scale_eps=False)), x_inputs()


# -- more of the wild ----------------------------------------------------------------------------------------


def minicpm_literal(width: int):
    """ "Every two-dimensional tensor" read literally: embedding and readout too get 1/sqrt(n) and lr 1/n."""
    model = Llama(width, after_norm=BASE / width)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    for p in matrices:
        nn.init.normal_(p, std=width**-0.5)
    rest = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "lr": LR / width}, {"params": rest}]
    return model, torch.optim.AdamW(groups, lr=LR, weight_decay=0.0, eps=1e-8 / width), x_tokens()


def megatron(width: int):
    """Hidden decay not scaled with the lr; epsilon scaled for hidden weights only."""
    model = Llama(width, after_norm=BASE / width)
    mup_init(model, readout_std=0.1)
    hidden, rest = adam_groups(model, width, readout=False)
    return model, torch.optim.AdamW([{**hidden, "weight_decay": 0.1}, {**rest, "eps": 1e-8}]), x_tokens()


def one_kv_head(width: int):
    """Multi-query attention whose K and V, from growing to fixed, are initialised as hidden weights."""
    return llama_setup(width, kv_heads=1)


def mup_shared_readout(width: int):
    """mup rescales the weight of every readout by sqrt(width), the embedding it is shared with too."""
    return _mup_gpt("gpt_tied", width)


def embedding_times_sqrt_width(width: int):
    """The embedding times sqrt(n) in the forward pass, its init and lr those of one without."""

    class Model(Llama):
        def forward(self, tokens: Tensor) -> Tensor:
            x = self.tok_embeddings(tokens) * width**0.5
            for block in self.layers:
                x = x + block["attention"](block["norm1"](x))
                x = x + block["feed_forward"](block["norm2"](x))
            return self.output(self.norm(x) * (BASE / width))

    model = Model(width)
    mup_init(model, readout_std=0.1)
    return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_tokens()


def router_sgd(width: int):
    """A router in the hidden group, under SGD."""
    model = Llama(width, after_norm=BASE / width, experts=True)
    mup_init(model, readout_std=0.1)
    hidden = [p for n, p in model.named_parameters() if is_matrix(p) or "router" in n]
    rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
    for module in model.modules():
        if isinstance(module, MoE):
            nn.init.normal_(module.router.weight, std=width**-0.5)
    return model, torch.optim.SGD([{"params": hidden}, {"params": rest, "lr": LR * width}], lr=LR), x_tokens()
