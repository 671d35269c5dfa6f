"""Multipliers in the forward pass: any gauge trains as the gauge init does, whatever the module; what can't is refused.

Runs are in float64; two gauges differ by the rounding of the multipliers (1e-16), so a few steps agree to ALIKE.
"""

from __future__ import annotations

import copy
import json
import sys
from fractions import Fraction
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import tpcalc
from tests.optimizers import test_orbits as orbits
from tests.scaling.test_codegen import run as executed
from tests.support.once import once
from tests.support.quick import quick
from tpcalc.derive.gauge import GAUGES
from tpcalc.optimizers import LAWS
from tpcalc.scaling import Scaling, ScalingError
from tpcalc.scaling.codegen import codegen

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from gpt import GPT, Config  # noqa: E402

BASE, TARGET = 32, 96  # a ratio of 3, so that multipliers are rounded
VOCABULARY = 24
ALIKE = 1e-10
OTHERS = tuple(gauge for gauge in GAUGES if gauge != "init")


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick():
        yield


# -- models ---------------------------------------------------------------------------------------------------------


def tokens(batch: int = 4, time: int = 8, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))


def gpt(width: int):
    """Tied embeddings and heads that grow: the norm's gain and the queries absorb."""
    return GPT(Config(width, heads=4, kv_heads=4, layers=1, vocabulary=VOCABULARY, context=8, tied=True)), (tokens(),)


class Zoo(nn.Module):
    """Weights held and read in every way that a module may hold and read them."""

    def __init__(self, width: int):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.stacked = nn.ParameterList(nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(2))
        self.named = nn.ParameterDict({"up": nn.Parameter(torch.randn(width, 2 * width) / width**0.5)})
        self.named["down"] = nn.Parameter(torch.randn(2 * width, width) / (2 * width) ** 0.5)
        self.twice = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.again = self.twice
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Parameter(torch.randn(VOCABULARY, width) / width**0.5)
        self.bias = nn.Parameter(torch.randn(VOCABULARY))

    def forward(self, t: Tensor) -> Tensor:
        x = self.embed(t)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        for matrix in self.stacked:
            x = torch.tanh(x @ matrix)
        x = x + F.gelu(x @ self.named["up"]) @ self.named["down"]
        x = torch.tanh(x @ self.twice) + torch.tanh(x @ self.again.T)
        return F.linear(self.norm(x), self.weight, self.bias)


def zoo(width: int):
    return Zoo(width), (tokens(),)


def encoder(width: int):
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
    parts = nn.Embedding(VOCABULARY, width), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(*parts, nn.LayerNorm(width), nn.Linear(width, VOCABULARY)), (tokens(),)


@once
def scaled(factory, gauge: str, optimizer: str = "adamw", target: int = TARGET) -> Scaling:
    return tpcalc.scale(factory, BASE, target, optimizer, gauge=gauge)


def fresh(factory, width: int = TARGET) -> nn.Module:
    torch.manual_seed(0)
    return factory(width)[0].double()


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (0.9 * m + 0.1 * p.grad).sign())
                m.mul_(0.99).add_(p.grad, alpha=0.01)


#: Name -> (optimizer, learning rate, weight decay, epsilon that is felt, threshold that bites).
OPTIMIZERS = {
    "sgd": (lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True), 0.3, 0.01, 0.0, 0.2),
    "adam": (lambda groups: torch.optim.Adam(groups, betas=(0.8, 0.9)), 0.01, 0.01, 1e-3, 0.2),
    "adamw": (lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.9)), 0.01, 0.5, 1e-3, 0.2),
    "lion": (lambda groups: Lion(groups), 0.003, 0.5, 0.0, 0.2),
}


def trained(model: nn.Module, how, optimizer: str, steps: int = 4, changed=None, clip=None) -> list[float]:
    """Losses and (clipped) gradient norms of a few steps; ``changed(groups)`` may spoil the groups."""
    make, lr, weight_decay, eps, threshold = OPTIMIZERS[optimizer]
    groups = how["param_groups"](model, lr=lr, weight_decay=weight_decay, eps=eps)
    if changed is not None:
        changed(groups)
    opt = make(groups)
    seen = []
    for step in range(steps):
        t = tokens(seed=step + 1)
        model.zero_grad()
        loss = F.cross_entropy(model(t[:, :-1]).flatten(0, 1), t[:, 1:].flatten())
        loss.backward()
        norm = (clip or how["clip_grad_norm_"])(model, threshold)
        assert norm > threshold, "the threshold should bite"
        opt.step()
        seen += [loss.item(), norm.item()]
    return seen


def calls(scaling: Scaling) -> dict:
    return {name: getattr(scaling, name) for name in ("init_", "forward_", "param_groups", "clip_grad_norm_")}


def started(factory, how: dict) -> nn.Module:
    model = fresh(factory)
    how["init_"](model)
    how["forward_"](model)
    return model


@once
def reference(factory, optimizer: str) -> list[float]:
    how = calls(scaled(factory, "init", optimizer))
    return trained(started(factory, how), how, optimizer)


CASES = [(gpt, gauge, optimizer) for gauge in OTHERS for optimizer in OPTIMIZERS]
CASES += [
    (factory, gauge, optimizer) for factory in (zoo, encoder) for gauge in OTHERS for optimizer in ("sgd", "adamw")
]


# -- any gauge is the gauge init ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory, gauge, optimizer", CASES)
def test_every_gauge_trains_alike(factory, gauge, optimizer):
    """Step by step the same loss and the same norm, with momentum, an epsilon and a clipping that bite, and decay."""
    how = calls(scaled(factory, gauge, optimizer))
    model = started(factory, how)
    assert any(parametrize.is_parametrized(module) for module in model.modules())
    assert trained(model, how, optimizer) == pytest.approx(reference(factory, optimizer), rel=ALIKE)


#: Laws of every other kind, each with an optimizer (tests/test_orbits.py), a learning rate, a decay and an epsilon.
LAWS_OF_EACH_KIND = {
    "rmsprop": (torch.optim.RMSprop, 0.003, 0.01, 1e-3),
    "adadelta": (torch.optim.Adadelta, 1.0, 0.01, 1e-6),
    "lamb": (orbits.lamb, 0.02, 0.1, 1e-3),
    "lars": (orbits.lars, 0.02, 0.01, 1e-2),
    "muon": (orbits.muon(lambda rows, columns: max(1, rows / columns) ** 0.5), 0.02, 0.5, 1e-2),
    "shampoo": (orbits.shampoo, 0.02, 0.01, 1e-4),
}


@pytest.mark.parametrize("law", LAWS_OF_EACH_KIND)
def test_laws_of_every_kind_train_alike(law):
    rule, *numbers = LAWS_OF_EACH_KIND[law]

    def make(groups):
        groups = [{**group, "params": [p]} for group in groups for p in group["params"]]
        return rule(groups) if isinstance(rule, type) else orbits.ByHand(groups, rule)

    losses = []
    with mock.patch.dict(OPTIMIZERS, {law: (make, *numbers, 0.2)}):
        for gauge in GAUGES:
            how = calls(tpcalc.scale(gpt, BASE, TARGET, LAWS[law], gauge=gauge))
            losses.append(trained(started(gpt, how), how, law, steps=3))
    assert all(each == pytest.approx(losses[0], rel=ALIKE) for each in losses)


@pytest.mark.parametrize("gauge", OTHERS)
def test_the_generated_file_does_the_same(gauge):
    text = codegen(scaled(gpt, gauge))
    assert "forward_(model)  # once" in text and "forward=" in text
    how = executed(text)
    assert trained(started(gpt, how), how, "adamw") == pytest.approx(reference(gpt, "adamw"), rel=ALIKE)
    assert "forward_(model)" not in codegen(scaled(gpt, "init"))


def spoil_eps(groups):
    for group in groups:
        group["eps"] = OPTIMIZERS["adamw"][3]


def spoil_decay(groups):
    for group in groups:
        group["weight_decay"] = OPTIMIZERS["adamw"][2]


@pytest.mark.parametrize("gauge", OTHERS)
def test_what_is_left_out_shows(gauge):
    """The twins: without the multipliers, with plain epsilon, plain decay, or another norm, it is another run."""
    scaling = scaled(gpt, gauge)
    how, wanted = calls(scaled(gpt, gauge)), pytest.approx(reference(gpt, "adamw"), rel=1e-6)
    without = fresh(gpt)
    scaling.init_(without)
    assert trained(without, how, "adamw") != wanted
    assert trained(started(gpt, how), how, "adamw", changed=spoil_eps) != wanted
    assert trained(started(gpt, how), how, "adamw", changed=spoil_decay) != wanted

    def plain(model, threshold):
        return torch.nn.utils.clip_grad_norm_(model.parameters(), threshold)

    alike = trained(started(gpt, how), how, "adamw", clip=plain) == wanted
    assert alike == (gauge == "mup"), "torch's own norm is the right one in the gauge mup, and in no other"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("gauge", GAUGES)
def test_at_base_width_nothing_changes(gauge, optimizer):
    """All multipliers are 1, nothing is registered, training is bit-identical."""
    scaling = scaled(gpt, gauge, optimizer, BASE)
    for weight in scaling.values():
        numbers = (weight.init, weight.lr, weight.weight_decay, weight.eps or 1.0, weight.clip, weight.forward)
        assert numbers == (1.0,) * 6
    plain, model = fresh(gpt, BASE), fresh(gpt, BASE)
    scaling.init_(model)
    scaling.forward_(model)
    scaling.forward_(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    make, lr, weight_decay, eps, threshold = OPTIMIZERS[optimizer]
    numbers = {"lr": lr, "weight_decay": weight_decay} | ({"eps": eps} if eps else {})
    bare = {
        "param_groups": lambda model, **options: [{"params": list(model.parameters()), **numbers}],
        "clip_grad_norm_": lambda model, norm: torch.nn.utils.clip_grad_norm_(model.parameters(), norm),
    }
    assert trained(model, calls(scaling), optimizer) == trained(plain, bare, optimizer)
    for (name, p), (other, q) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert name == other and torch.equal(p, q)


def test_in_the_gauge_init_nothing_is_registered():
    model = started(gpt, calls(scaled(gpt, "init")))
    assert not any(parametrize.is_parametrized(module) for module in model.modules())


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb", "muon+adamw"])
def test_numbers_are_the_exponents_evaluated(optimizer, gauge):
    for entry in scaled(gpt, gauge, optimizer).document["weights"]:

        def ratio(key, entry=entry):
            return 3 ** float(Fraction(entry[key]))

        numbers, std = entry["multipliers"], entry["init_std"]
        assert numbers["forward"] == pytest.approx(1 / ratio("a"), rel=1e-15)
        assert numbers["lr"] == pytest.approx(1 / ratio("c"), rel=1e-15)
        assert numbers["weight_decay"] == pytest.approx(ratio("weight_decay"), rel=1e-15)
        assert std["target"] == pytest.approx(std["base"] / ratio("b"), rel=1e-12)
        if entry["eps"] is not None:
            assert numbers["eps"] == pytest.approx(ratio("eps"), rel=1e-15)


@pytest.mark.parametrize("gauge", GAUGES)
def test_multipliers_compose(gauge):
    """32 -> 64 -> 96 is 32 -> 96."""
    up, on, through = (tpcalc.scale(gpt, *widths, gauge=gauge) for widths in ((32, 64), (64, 96), (32, 96)))
    for name in through:
        for key in ("init", "lr", "weight_decay", "eps", "clip", "forward"):
            first, second, whole = (getattr(each[name], key) for each in (up, on, through))
            assert first * second == pytest.approx(whole, rel=1e-14), (name, key)


# -- what a model goes through --------------------------------------------------------------------------------------


def originals(model: nn.Module) -> dict[str, Tensor]:
    """The parameters under their names before the multipliers."""
    return {
        name.removesuffix(".original").replace("parametrizations.", ""): p.detach()
        for name, p in model.named_parameters(remove_duplicate=False)
    }


def same(one: nn.Module, two: nn.Module) -> bool:
    first, second = originals(one), originals(two)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("from_scratch", [False, True])
def test_the_order_of_init_and_forward_does_not_matter(from_scratch):
    scaling = scaled(gpt, "symmetric")
    models = [fresh(gpt), fresh(gpt)]
    for model, order in zip(models, ((0, 1), (1, 0)), strict=True):
        generator = torch.Generator().manual_seed(3)
        steps = (lambda m: scaling.init_(m, from_scratch, generator=generator)), scaling.forward_  # noqa: B023
        for index in order:
            steps[index](model)
    assert same(*models)
    token = scaling["token.weight"]
    std = originals(models[0])["token.weight"].std().item()
    assert std == pytest.approx(token.draw[2], rel=0.05) and std < 0.6, "n^-1/2 of the code's own"


def test_tied_weights_stay_tied():
    model = started(gpt, calls(scaled(gpt, "symmetric")))
    token, head = (module.parametrizations.weight.original for module in (model.token, model.head))
    assert token is head and torch.equal(model.token.weight, model.head.weight)
    assert len(list(model.parameters())) == len(list(fresh(gpt).parameters()))
    model = started(zoo, calls(scaled(zoo, "ntk")))
    assert model.parametrizations.twice.original is model.parametrizations.again.original


def test_the_optimizer_may_come_first():
    """The parameters stay the same objects."""
    scaling = scaled(gpt, "ntk")
    model = fresh(gpt)
    before = {id(p) for p in model.parameters()}
    scaling.forward_(model)
    assert {id(p) for p in model.parameters()} == before


def test_deepcopy_and_state_dict():
    how = calls(scaled(gpt, "symmetric"))
    model = started(gpt, how)
    twin, reloaded = copy.deepcopy(model), fresh(gpt)
    how["forward_"](reloaded)
    reloaded.load_state_dict(model.state_dict())
    assert twin.head.parametrizations.weight.original is twin.token.parametrizations.weight.original
    for each in (twin, reloaded):
        assert same(each, model)
        assert trained(each, how, "adamw") == pytest.approx(reference(gpt, "adamw"), rel=ALIKE)
    untouched = started(gpt, how)
    assert (
        same(untouched, fresh(gpt)) is False and trained(model, how, "adamw")[0] == trained(untouched, how, "adamw")[0]
    )


def test_folding_the_multipliers_in_gives_a_plain_model():
    """For whoever wants a checkpoint with the names and the numbers of the model as it is."""
    how, plain = calls(scaled(encoder, "ntk")), calls(scaled(encoder, "init"))
    model = started(encoder, how)
    for module in list(model.modules()):
        for name in list(getattr(module, "parametrizations", {})):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    wanted = started(encoder, plain)
    assert model.state_dict().keys() == wanted.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, wanted.state_dict()[name], rtol=1e-14, atol=0)


def test_torch_compile():
    how = calls(scaled(gpt, "symmetric"))
    compiled = torch.compile(started(gpt, how), backend="eager")
    assert trained(compiled, how, "adamw") == pytest.approx(reference(gpt, "adamw"), rel=ALIKE)
    late = fresh(gpt)
    how["init_"](late)
    compiled = torch.compile(late, backend="eager")
    compiled(tokens())  # compiled before it has its multipliers
    how["forward_"](compiled)
    assert trained(compiled, how, "adamw") == pytest.approx(reference(gpt, "adamw"), rel=ALIKE)


def test_meta_device():
    """Multipliers first, then memory, then numbers; to_empty unties, here as elsewhere."""
    scaling = scaled(gpt, "mup")
    with torch.device("meta"):
        model = gpt(TARGET)[0]
    scaling.forward_(model)
    model.to_empty(device="cpu")
    model.head.weight = model.token.weight
    scaling.init_(model, from_scratch=True)
    assert originals(model)["norm.weight"].unique().tolist() == [
        1.0
    ] and model.norm.weight.unique().tolist() == pytest.approx([1 / 3])


def test_saved_and_loaded(tmp_path):
    scaling = scaled(gpt, "mup")
    scaling.save(tmp_path / "multipliers.json")
    loaded = Scaling.load(tmp_path / "multipliers.json")
    assert loaded.document == scaling.document and dict(loaded) == dict(scaling) and loaded.gauge == "mup"
    assert loaded["norm.weight"].forward == 1 / 3 and "multiplier" in str(loaded)


def test_a_file_from_before_there_were_gauges(tmp_path):
    """It has no gauge, no clipping and no forward multiplier: all are 1."""
    document = copy.deepcopy(scaled(gpt, "init").document)
    for key in ("gauge", "clipping", "parametrization", "alignment"):
        del document[key]
    for entry in document["weights"]:
        del entry["multipliers"]["forward"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    loaded = Scaling.load(tmp_path / "old.json")
    assert loaded.gauge == "init" and {weight.forward for weight in loaded.values()} == {1.0}
    how = calls(loaded)
    assert trained(started(gpt, how), how, "adamw") == reference(gpt, "adamw")


def test_a_gauge_without_its_multipliers_is_refused():
    document = copy.deepcopy(scaled(gpt, "mup").document)
    entry = next(entry for entry in document["weights"] if entry["name"] == "norm.bias")
    del entry["multipliers"]["forward"]
    with pytest.raises(ScalingError, match="lacks the forward multiplier of 'norm.bias'"):
        Scaling(document)


# -- modules of their own kind --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gauge", OTHERS)
def test_the_fast_path_of_evaluation_sees_the_multipliers(gauge):
    """nn.TransformerEncoderLayer hands its weights to one fused kernel when nothing needs a gradient."""
    outputs = []
    for each in ("init", gauge):
        model = fresh(encoder).float()
        scaled(encoder, each).init_(model)
        scaled(encoder, each).forward_(model)
        model.eval()
        fused = torch._transformer_encoder_layer_fwd
        with torch.no_grad(), mock.patch("torch._transformer_encoder_layer_fwd", side_effect=fused) as kernel:
            outputs.append(model(tokens()))
        assert kernel.call_count == 2
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


def test_the_row_of_padding_stays_zero():
    how = calls(scaled(zoo, "symmetric"))
    model = started(zoo, how)
    trained(model, how, "adamw")
    assert model.embed.weight[0].abs().max() == 0 and model.embed.weight[1].abs().max() > 0


class Wrapped(nn.Module):
    """A readout inside something, for modules that take their weights apart."""

    def __init__(self, width: int, wrap):
        super().__init__()
        self.embed, self.readout = nn.Embedding(VOCABULARY, width), wrap(nn.Linear(width, VOCABULARY))

    def forward(self, t: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.embed(t)))


def wrapped(wrap):
    return lambda width: (Wrapped(width, wrap), (tokens(),))


OLD_NORMS = {name: wrapped(getattr(nn.utils, name)) for name in ("weight_norm", "spectral_norm")}
NEW_NORMS = {name: wrapped(getattr(nn.utils.parametrizations, name)) for name in ("weight_norm", "spectral_norm")}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore::tpcalc.scaling.SiteWarning")
@pytest.mark.parametrize("name", OLD_NORMS)
def test_norms_that_are_hooks_are_right(name):
    """They read their parameters from the module, multiplied ones as well."""
    factory = OLD_NORMS[name]
    runs = []
    for gauge in ("init", "symmetric"):
        how = calls(tpcalc.scale(factory, BASE, TARGET, gauge=gauge))
        runs.append(trained(started(factory, how), how, "adamw"))
    assert runs[1] == pytest.approx(runs[0], rel=ALIKE)


@pytest.mark.filterwarnings("ignore::tpcalc.scaling.SiteWarning")
@pytest.mark.parametrize("name", NEW_NORMS)
def test_norms_that_are_parametrizations_are_refused(name):
    kind = "_" + name.title().replace("_", "")
    message = rf"readout\.parametrizations\.weight\.original\d? has another parametrization \({kind}\)"
    with pytest.raises(ScalingError, match=message):
        tpcalc.scale(NEW_NORMS[name], BASE, TARGET, gauge="symmetric")
    scaling = tpcalc.scale(NEW_NORMS[name], BASE, TARGET)
    how = calls(scaling)
    trained(nn.DataParallel(started(NEW_NORMS[name], how)), how, "adamw")  # and are found behind a wrapper


def test_a_recurrent_layer_is_refused_by_name():
    class Recurrent(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer, self.readout = nn.LSTM(8, width, batch_first=True), nn.Linear(width, 4)

        def forward(self, x):
            return self.readout(self.layer(x)[0])

    def factory(width):
        return Recurrent(width), (torch.randn(2, 3, 8),)

    with pytest.raises(ScalingError) as raised:
        tpcalc.scale(factory, BASE, TARGET, gauge="ntk")
    message = str(raised.value)
    assert message.startswith("layer.weight_hh_l0 is held by LSTM, which hands its weights to a fused kernel")
    assert message.endswith("use multipliers of the gauge init") and "\n" not in message
    model = Recurrent(TARGET)  # where none of its weights has a multiplier, it is no obstacle
    tpcalc.scale(factory, BASE, TARGET, gauge="mup").forward_(model)
    assert parametrize.is_parametrized(model.readout) and not parametrize.is_parametrized(model.layer)


def test_a_second_call_is_refused():
    scaling = scaled(gpt, "mup")
    model = started(gpt, calls(scaling))
    for again in (scaling.forward_, executed(codegen(scaling))["forward_"]):
        with pytest.raises(ValueError, match="blocks.0.attn.q.weight has its multiplier already; call forward_ once"):
            again(model)
    assert model.norm.weight.unique().tolist() == pytest.approx([1 / 3])


def refused(model: nn.Module, scaling: Scaling, match: str) -> None:
    """Refused before anything is touched."""
    with pytest.raises(ScalingError, match=match):
        scaling.forward_(model)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_modules_that_would_read_past_it_are_refused():
    scaling = tpcalc.scale(wrapped(lambda module: module), BASE, TARGET, gauge="symmetric")
    model = fresh(wrapped(lambda module: module))
    model.embed.max_norm = 1.0
    refused(model, scaling, "embed.weight is held by Embedding with max_norm, which cuts the rows of the product")
    refused(torch.jit.script(fresh(wrapped(lambda module: module))), scaling, "call forward_ before torch.jit.script")


@pytest.mark.parametrize("name", ["keys", "values"])
def test_names_that_torch_cannot_parametrize_are_refused(name):
    """torch keeps parametrizations in an nn.ModuleDict, under the names of their weights."""

    class Named(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, width)
            setattr(self, name, nn.Parameter(torch.randn(VOCABULARY, width)))

        def forward(self, t):
            return torch.tanh(self.embed(t)) @ getattr(self, name).T

    with pytest.raises(ScalingError, match=rf"{name} is called as an attribute of nn\.ModuleDict \({name}\)"):
        tpcalc.scale(lambda width: (Named(width), (tokens(),)), BASE, TARGET, gauge="mup")
