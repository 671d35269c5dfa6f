"""Numbers are exponents and true sizes evaluated; models on which rules by shape or by attribute go wrong."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import example
from tests.support.quick import quick
from tpcalc.optimizers import LAWS
from tpcalc.scaling import ScalingError

BASE, TARGET = 64, 256
RATIO = TARGET / BASE
VOCABULARY = 24


class Net(nn.Module):
    """An embedding, one part in the middle with a residual, a norm, a readout."""

    def __init__(self, width, middle, readout=None):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.middle = middle
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, VOCABULARY, bias=False) if readout is None else readout

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.readout(self.norm(x + self.middle(x)))


def scaled(build, target=TARGET, base=BASE, optimizer="adamw", **options):
    """The scaling of ``build(width)``, a model of tokens, and a real model at the target with it applied."""

    def factory(width):
        return build(width), (torch.arange(12).reshape(2, 6) % VOCABULARY,)

    scaling = tpcalc.scale(factory, base, target, optimizer, **options)
    torch.manual_seed(0)
    model = build(target)
    scaling.init_(model)
    return scaling, dict(model.named_parameters())


def std_ratio(build, values, name, base=BASE):
    """Measured: std at the target with the multipliers applied, over the std of the code at the base width."""
    torch.manual_seed(1)
    return values[name].std().item() / dict(build(base).named_parameters())[name].std().item()


def numbers(weight):
    return weight.init, weight.lr, weight.weight_decay, weight.eps


def test_constant_std_in_the_constructor():
    """A fixed std for all: hidden must become n^-1/2 and the readout n^-1, which the code does not give by itself."""

    class MLP(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.out = nn.Linear(width, VOCABULARY)
            for module in self.modules():
                if isinstance(module, (nn.Linear, nn.Embedding)):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)

        def forward(self, tokens):
            return self.out(self.down(self.up(self.embed(tokens)).relu()).relu())

    scaling, values = scaled(MLP)
    assert numbers(scaling["embed.weight"]) == (1, 1, 1, 1 / RATIO)
    assert numbers(scaling["up.weight"]) == (1 / 2, 1 / RATIO, RATIO, 1 / RATIO)
    assert numbers(scaling["down.weight"]) == (1 / 2, 1 / RATIO, RATIO, 1 / RATIO)
    assert numbers(scaling["out.weight"]) == (1 / RATIO, 1 / RATIO, RATIO, 1)
    assert numbers(scaling["out.bias"])[:3] == (1, 1, 1)
    assert std_ratio(MLP, values, "up.weight") == pytest.approx(RATIO**-0.5, rel=0.05)
    assert std_ratio(MLP, values, "out.weight") == pytest.approx(1 / RATIO, rel=0.05)


def test_hugging_face_conv1d():
    """Weights [in, out]; fan_in grows fourfold, fan_out only twofold: the lr follows fan_in."""
    Conv1D = pytest.importorskip("transformers.pytorch_utils").Conv1D

    class Middle(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.wide = 16 * math.isqrt(width)  # grows as sqrt(n): twofold
            self.up, self.down = Conv1D(self.wide, width), Conv1D(width, self.wide)

        def forward(self, x):
            return self.down(F.gelu(self.up(x)))

    def build(width):
        return Net(width, Middle(width))

    scaling, values = scaled(build)
    assert scaling["middle.up.weight"].shape == (256, 256)
    up, down = scaling["middle.up.weight"], scaling["middle.down.weight"]
    assert up.lr == 1 / 4 and down.lr == 1 / 2
    # std 0.02 in the code: fan_in x4 with fan_out x2 is between hidden and readout, fan_in / sqrt(fan_out)
    assert up.init == pytest.approx(4**-1 * 2**0.5) and down.init == pytest.approx(2**-0.5)
    assert std_ratio(build, values, "middle.down.weight") == pytest.approx(2**-0.5, rel=0.05)


def test_conv_transpose_2d():
    """Weights [in, out, h, w]: torch's own init takes the wrong axis for fan_in."""

    class Decoder(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.lift = nn.Linear(8, width * 16)
            self.one = nn.ConvTranspose2d(width, 2 * width, 4, stride=2)
            self.two = nn.ConvTranspose2d(2 * width, 3, 4, stride=2)
            self.width = width
            nn.init.normal_(self.one.weight, std=0.02)
            nn.init.normal_(self.two.weight, std=0.02)

        def forward(self, z):
            x = self.lift(z).unflatten(1, (self.width, 4, 4))
            return self.two(self.one(x.relu()).relu())

    scaling = tpcalc.scale(lambda width: (Decoder(width), (torch.randn(2, 8),)), BASE, TARGET)
    assert numbers(scaling["one.weight"]) == (1 / 2, 1 / RATIO, RATIO, 1 / RATIO)
    assert numbers(scaling["two.weight"]) == (1 / RATIO, 1 / RATIO, RATIO, 1)
    assert scaling["lift.weight"].lr == 1


class Experts(nn.Module):
    """Stacked expert weights (E, d, 2d) and (E, 2d, d) behind a router."""

    def __init__(self, width, experts=4):
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, width, 2 * width) * 0.02)
        self.down = nn.Parameter(torch.randn(experts, 2 * width, width) * 0.02)

    def forward(self, x):
        flat = x.flatten(0, -2)
        shares = self.router(flat).softmax(-1)
        hidden = torch.bmm(flat.expand(self.up.shape[0], -1, -1), self.up).relu()
        return torch.einsum("eti,te->ti", torch.bmm(hidden, self.down), shares).view_as(x)


def test_stacked_experts():
    def build(width):
        return Net(width, Experts(width))

    scaling, values = scaled(build)
    for name in ("middle.up", "middle.down"):
        assert numbers(scaling[name])[:3] == (1 / 2, 1 / RATIO, RATIO), name
        assert std_ratio(build, values, name) == pytest.approx(1 / 2, rel=0.05)
    assert scaling["middle.router.weight"].init == pytest.approx(RATIO**-0.5)  # the code gives n^-1/2 of n^-1
    assert scaling["middle.router.weight"].eps == 1


class RawReadout(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width, VOCABULARY) * 0.02)

    def forward(self, x):
        return x @ self.matrix


class ConvReadout(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv1d(width, VOCABULARY, 1, bias=False)
        nn.init.normal_(self.conv.weight, std=0.02)

    def forward(self, x):
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("readout, name", [(RawReadout, "readout.matrix"), (ConvReadout, "readout.conv.weight")])
def test_readouts_that_are_no_linear(readout, name):
    def build(width):
        return Net(width, nn.Linear(width, width), readout(width))

    scaling, values = scaled(build)
    assert numbers(scaling[name]) == (1 / RATIO, 1 / RATIO, RATIO, 1)
    assert std_ratio(build, values, name) == pytest.approx(1 / RATIO, rel=0.1)
    assert scaling[name].clip == 1 / RATIO


class GQA(nn.Module):
    """The query heads grow in number, the key and value heads do not."""

    def __init__(self, width, head=16, kv_heads=2):
        super().__init__()
        self.head, self.kv_heads = head, kv_heads
        self.q, self.proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, kv_heads * head, bias=False)
        self.v = nn.Linear(width, kv_heads * head, bias=False)
        for module in (self.q, self.k, self.v, self.proj):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, self.head)).transpose(1, 2) for f in (self.q, self.k, self.v))
        groups = q.shape[1] // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).flatten(2))


def test_fixed_key_value_heads():
    scaling, _ = scaled(lambda width: Net(width, GQA(width)))
    assert scaling["middle.q.weight"].init == scaling["middle.proj.weight"].init == 1 / 2
    assert scaling["middle.k.weight"].init == scaling["middle.v.weight"].init == 1 / RATIO
    assert {scaling[f"middle.{name}.weight"].lr for name in ("q", "k", "v", "proj")} == {1 / RATIO}
    assert scaling["middle.k.weight"].eps == 1 and scaling["middle.q.weight"].eps == 1 / RATIO


class LoRA(nn.Module):
    """A frozen matrix and a low-rank update; B starts at zero."""

    def __init__(self, width, rank=4):
        super().__init__()
        self.frozen = nn.Linear(width, width, bias=False)
        self.frozen.weight.requires_grad_(False)
        self.A, self.B = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.normal_(self.A.weight, std=0.02)
        nn.init.zeros_(self.B.weight)

    def forward(self, x):
        return self.frozen(x) + self.B(self.A(x))


def test_lora():
    def build(width):
        return Net(width, LoRA(width))

    scaling, values = scaled(build)
    assert numbers(scaling["middle.A.weight"]) == (1 / RATIO, 1 / RATIO, RATIO, 1)
    assert numbers(scaling["middle.B.weight"]) == (1, 1, 1, 1 / RATIO)
    assert scaling["middle.frozen.weight"].init == 1
    model = build(TARGET)
    groups = scaling.param_groups(model, lr=1e-3)
    assert all(p is not model.middle.frozen.weight for group in groups for p in group["params"])
    assert values["middle.B.weight"].abs().max() == 0


def test_tied_head():
    class Tied(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, width)
            self.hidden = nn.Linear(width, width)
            self.norm = nn.RMSNorm(width)
            self.head = nn.Linear(width, VOCABULARY, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.norm(self.hidden(self.embed(tokens)).relu()))

    scaling, values = scaled(Tied)
    assert scaling["head.weight"] is scaling["embed.weight"]
    assert numbers(scaling["embed.weight"]) == (1, 1, 1, 1 / RATIO)
    assert numbers(scaling["norm.weight"]) == (1 / RATIO, 1 / RATIO, RATIO, 1)
    assert torch.equal(values["norm.weight"], torch.full((TARGET,), 1 / RATIO))


def rounded(width, multiple=256):
    return -(-(8 * width // 3) // multiple) * multiple


class SwiGLU(nn.Module):
    """As in Llama: the inner size is 8/3 n rounded up to a multiple of 256."""

    def __init__(self, width):
        super().__init__()
        inner = rounded(width)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        for module in (self.gate, self.up, self.down):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


def test_feed_forward_rounded_to_a_multiple():
    """The inner size grows 2.75-fold where the width grows 4-fold: multipliers take the true size."""
    base, target = 256, 1024
    assert rounded(base) == 768 and rounded(target) == 2816

    def build(width):
        return Net(width, SwiGLU(width))

    scaling, values = scaled(build, target, base)
    down = scaling["middle.down.weight"]
    assert down.shape == (1024, 2816)
    assert down.lr == 768 / 2816
    assert down.init == pytest.approx(math.sqrt(768 / 2816), rel=1e-15)
    assert down.weight_decay == 2816 / 768
    assert scaling["middle.up.weight"].lr == 1 / 4 and scaling["middle.up.weight"].init == 1 / 2
    # the std of W x, not only of W, is as at base: what true sizes are for
    torch.manual_seed(0)
    small = build(base).middle.down.weight
    x_small, x_large = torch.randn(2000, 768), torch.randn(2000, 2816)
    ratio = (x_large @ values["middle.down.weight"].T).std() / (x_small @ small.T).std()
    assert ratio.item() == pytest.approx(1, rel=0.02)


def test_xavier_init_on_a_readout():
    """sqrt(2 / (n + V)) is no power of n; read at the two widths it is exact."""

    def build(width):
        model = Net(width, nn.Linear(width, width))
        nn.init.xavier_uniform_(model.readout.weight)
        return model

    scaling, values = scaled(build)
    code = {width: math.sqrt(2 / (width + VOCABULARY)) for width in (BASE, TARGET)}
    assert scaling["readout.weight"].init == pytest.approx(code[BASE] / RATIO / code[TARGET], rel=1e-12)
    assert values["readout.weight"].std().item() == pytest.approx(code[BASE] / RATIO, rel=0.05)


def test_hugging_face_gpt2():
    """_init_weights with its 1/sqrt(2L) on residual projections, a tied head, Conv1D everywhere; trained for a step."""
    transformers = pytest.importorskip("transformers")

    def build(width):
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=16, n_embd=width, n_layer=2, n_head=width // 16, attn_pdrop=0.0
        )
        return transformers.GPT2LMHeadModel(config)

    def factory(width):
        return build(width), {"input_ids": torch.arange(12).reshape(2, 6) % VOCABULARY}

    scaling = tpcalc.scale(factory, BASE, TARGET)
    torch.manual_seed(0)
    model = build(TARGET)
    scaling.init_(model)
    projection = model.transformer.h[1].mlp.c_proj.weight
    assert projection.std().item() == pytest.approx(0.02 / 2 / math.sqrt(RATIO), rel=0.02)
    assert model.transformer.h[0].attn.c_attn.weight.std().item() == pytest.approx(0.02 / math.sqrt(RATIO), rel=0.02)
    assert model.transformer.wte.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(model.transformer.ln_f.weight, torch.full((TARGET,), 1 / RATIO))
    groups = scaling.param_groups(model, lr=1e-3, weight_decay=0.1)
    assert len(groups) == 3
    optimizer = torch.optim.AdamW(groups)
    tokens = torch.randint(VOCABULARY, (2, 8))
    first = model(input_ids=tokens, labels=tokens).loss
    first.backward()
    scaling.clip_grad_norm_(model, 1.0)
    optimizer.step()
    assert model(input_ids=tokens, labels=tokens).loss < first


# -- Muon -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer, lr", [("muon", 1.0), ("muon_match_rms_adamw", 1 / 2)])
def test_muon_for_hidden_matrices_adamw_for_the_rest(optimizer, lr):
    def build(width):
        return Net(
            width,
            nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
            ),
        )

    scaling, _ = scaled(build, optimizer=optimizer)
    model = build(TARGET)
    muon = scaling.param_groups(model, lr=0.02, weight_decay=0.1, optimizer=optimizer)
    adamw = scaling.param_groups(model, lr=3e-3, weight_decay=0.1, optimizer="adamw")
    hidden = [p for group in muon for p in group["params"]]
    assert [tuple(p.shape) for p in hidden] == [(256, 256), (1024, 256), (256, 1024)]
    assert len(hidden) + sum(len(group["params"]) for group in adamw) == len(list(model.parameters()))
    assert [group["lr"] for group in muon] == [0.02 * lr]
    assert muon[0]["weight_decay"] == 0.1 / lr
    with pytest.raises(ScalingError, match="choose one of"):
        scaling.param_groups(model, lr=1e-3)
    if hasattr(torch.optim, "Muon"):
        rule = "original" if optimizer == "muon" else "match_rms_adamw"
        optimizers = torch.optim.Muon(muon, adjust_lr_fn=rule), torch.optim.AdamW(adamw)
        tokens = torch.arange(12).reshape(2, 6) % VOCABULARY
        before = model.middle[0].weight.detach().clone()
        model(tokens).square().mean().backward()
        for each in optimizers:
            each.step()
        # the update of a square matrix has a spectral norm of about lr whatever its size (less the decay)
        update = model.middle[0].weight.detach() - before * (1 - 0.02 * 0.1)
        expected = 0.02 if optimizer == "muon" else 0.02 * lr * 0.2 * math.sqrt(TARGET)
        assert torch.linalg.matrix_norm(update, 2).item() == pytest.approx(expected, rel=0.3)


def test_muon_on_matrices_of_uneven_growth():
    """torch's factor sqrt(max(1, rows/columns)) is right where the rows are more; lr carries the rest."""

    class Middle(nn.Module):
        def __init__(self, width):
            super().__init__()
            inner = rounded(width)
            self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

        def forward(self, x):
            return self.down(F.gelu(self.up(x)))

    scaling, _ = scaled(lambda width: Net(width, Middle(width)), 1024, 256, optimizer="muon")
    # wanted spectral norm of an update ~ sqrt(fan_out / fan_in); torch gives sqrt(max(1, fan_out / fan_in))
    assert scaling["middle.up.weight"].lr == pytest.approx(1, rel=1e-15)
    assert scaling["middle.down.weight"].lr == pytest.approx(math.sqrt((1024 / 2816) / (256 / 768)), rel=1e-14)


# -- sites ------------------------------------------------------------------------------------------


def test_a_site_is_warned_of_and_carried():
    """Keys and queries straight from a parameter-free norm: nothing upstream can absorb the 1/sqrt(d)."""

    class QKNorm(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))

        def forward(self, x):
            q, k = (F.layer_norm(f(x), x.shape[-1:]) for f in (self.q, self.k))
            return (q @ k.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(-1) @ self.v(x)

    with pytest.warns(tpcalc.scaling.SiteWarning, match="multiply it by"):
        scaling, _ = scaled(lambda width: Net(width, QKNorm(width)))
    assert len(scaling.sites) == 1 and "the model itself needs" in str(scaling)
    assert "multiply it by n^(-1/2) in the forward pass" in scaling.sites[0]


# -- numbers and exponents -------------------------------------------------------------------------


def test_multipliers_compose():
    """32 -> 64 -> 128 is 32 -> 128; and back again is 1."""
    up, on, through, back = (
        tpcalc.scale(example("gpt.py", "gpt_growing_heads"), *widths)
        for widths in ((32, 64), (64, 128), (32, 128), (128, 32))
    )
    for name in through:
        for key in ("init", "lr", "weight_decay", "eps", "clip"):
            first, second, all_, inverse = (getattr(s[name], key) for s in (up, on, through, back))
            assert first * second == pytest.approx(all_, rel=1e-14), (name, key)
            assert all_ * inverse == pytest.approx(1, rel=1e-14), (name, key)


@pytest.fixture(scope="module")
def growing():
    """Traced and solved once for every optimizer."""
    with quick():
        yield example("gpt.py", "gpt_growing_heads")


@pytest.mark.parametrize("optimizer", [*LAWS, "shampoo+adamw", "lion+sgd"])
def test_numbers_are_the_exponents_evaluated(growing, optimizer):
    """Where all sizes are multiples of the width, every number is a power of the ratio, whatever the optimizer."""
    scaling = tpcalc.scale(growing, 32, 128, optimizer)
    for entry in scaling.document["weights"]:
        numbers = entry["multipliers"]
        for key, exponent in (("lr", "c"), ("weight_decay", "weight_decay"), ("eps", "eps")):
            if entry[exponent] is None:
                assert numbers[key] is None
                continue
            power = Fraction(entry[exponent]) * (-1 if key == "lr" else 1)
            assert numbers[key] == pytest.approx(4 ** float(power), rel=1e-15), (entry["name"], key)
    same = tpcalc.scale(growing, 32, 32, optimizer)
    for weight in same.values():
        assert {weight.init, weight.lr, weight.weight_decay, weight.clip, weight.eps or 1.0} == {1.0}


def test_a_width_that_is_no_multiple():
    scaling = tpcalc.scale(example("gpt.py", "gpt"), 64, 96, widths=(128, 192))
    assert scaling["blocks.0.attn.q.weight"].lr == 2 / 3
    assert scaling["head.weight"].init == math.sqrt(2 / 3)


def test_widths_are_checked():
    for base, target in ((0, 64), (64, -1), (64.0, 128), (True, 64)):
        with pytest.raises(ScalingError, match="no positive whole number|not a positive whole number"):
            tpcalc.scale(example("gpt.py", "gpt"), base, target)
    with pytest.raises(tpcalc.TpcalcError, match="too few"):
        tpcalc.scale(example("gpt.py", "gpt"), 64, 64, widths=(64,))


def test_tracing_draws_nothing_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    tpcalc.scale(example("gpt.py", "gpt"), 32, 64)
    assert torch.equal(torch.get_rng_state(), state)
