"""Verify: right parametrizations pass clean, wrong ones are told by kind, weight and exponents, and real runs agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support import verify_runs as runs
from tests.support import verify_setups as setups
from tests.support.models import example
from tests.support.verify_setups import BASE, LR, MLP, adam_groups, llama_setup, mup_init, x_inputs
from tpcalc.cli import main
from tpcalc.optimizers import LAWS, WeightView, muon_law
from tpcalc.report.verify import report_github
from tpcalc.verify import Report

WIDTHS = (64, 128, 256)
H = Fraction(1, 2)
MUP = {setup.__name__ for setup in setups.MUP_ADAM} | {"mup_mlp_sgd", "gpt_neox", "coupled_decay", "mup_shared_readout"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices run faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@lru_cache(maxsize=None)
def report_of(setup: Callable) -> Report:
    if setup.__name__ in MUP:
        pytest.importorskip("mup")
    return tpcalc.verify(setup, WIDTHS)


def told(report: Report) -> list[tuple]:
    """(kind, quantity, found, needed) of every finding."""
    return [(f.kind, f.quantity, f.found, f.needed) for f in report.findings]


def weights(report: Report, kind: str) -> set[str]:
    return {name for f in report.findings if f.kind == kind for name in f.weights}


# -- 1. what is right passes clean --------------------------------------------------------------------


@pytest.mark.parametrize("setup", setups.PASSES, ids=lambda s: s.__name__)
def test_right_parametrizations_are_clean(setup):
    report = report_of(setup)
    assert report.findings == () and report.ok and report.regime == "maximal", report
    assert report.how == "fake tensors" and report.exit_code(strict=True) == 0


@pytest.mark.parametrize("setup", setups.MUP_ADAM, ids=lambda s: s.__name__)
def test_mup_by_its_own_instructions_has_no_fault_but_epsilon(setup):
    """mup never scales Adam's epsilon, though every gradient shrinks as 1/n: one warning, for all weights together."""
    report = report_of(setup)
    assert report.ok and report.regime == "maximal"
    assert told(report) == [("eps drift", "eps", 0, -1)]


def test_mup_with_epsilon_scaled_is_clean():
    pytest.importorskip("mup")

    def setup(width):
        model, optimizer, inputs = setups.mup_gpt(width)
        for group in optimizer.param_groups:
            group["eps"] = 1e-8 * BASE / width
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_umups_own_embedding_rule_is_stable_but_not_maximal():
    report = report_of(setups.unit_scaled_embedding)
    assert told(report) == [("not maximal", "lr", -H, 0)] and report.ok
    assert weights(report, "not maximal") == {"input.weight"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_learning_rates_as_tensors(dtype):
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=dtype)
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_xavier_is_read_as_what_it_tends_to():
    """sqrt(2 / (n + V)) is no power, but n^-1/2 in the limit: right inside, too large at the readout, too small at
    the input.
    """

    def setup(width):
        model = MLP(width)
        for p in model.parameters():
            (nn.init.xavier_normal_ if p.dim() == 2 else nn.init.zeros_)(p)
        return model, torch.optim.AdamW(adam_groups(model, width)), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("explodes", "init std", -H, -1), ("not maximal", "init std", -H, 0)]
    assert weights(report, "explodes") == {"readout.weight"} and weights(report, "not maximal") == {"input.weight"}


# -- 2 to 13. what is wrong is told ---------------------------------------------------------------------


def hidden_of_llama(*names: str, layers: int = 2) -> set[str]:
    table = {"q": "attention.wq", "k": "attention.wk", "v": "attention.wv", "o": "attention.wo"}
    table |= {name: f"feed_forward.{name}" for name in ("w1", "w2", "w3")}
    return {f"layers.{i}.{table[name]}.weight" for i in range(layers) for name in names or table}


def test_standard_parametrization_with_adamw():
    report = report_of(setups.standard_adamw)
    assert report.regime == "unstable" and not report.ok
    assert told(report) == [("explodes", "lr", 0, -1), ("explodes", "init std", -H, -1), ("explodes", "lr", 0, -1)]
    hidden, init, readout = report.findings
    assert hidden.weights == ("hidden1.weight", "hidden2.weight") and hidden.effect == 1
    assert init.weights == readout.weights == ("readout.weight",)
    assert "enters a nonlinearity" in hidden.message and hidden.where.startswith("hidden1, verify_setups.py:")


def test_standard_parametrization_with_sgd_is_in_the_kernel_regime():
    report = report_of(setups.standard_sgd)
    assert report.regime == "kernel" and report.r == H and not report.ok
    hidden = next(f for f in report.findings if "hidden1.weight" in f.weights)
    assert (hidden.kind, hidden.found, hidden.needed, hidden.effect) == ("frozen", -1, 0, -H)
    assert "readout.weight" in report.notes[0] and "kernel" in str(report)


def test_ntk_parametrization_is_in_the_kernel_regime():
    class Ntk(MLP):
        def forward(self, x):
            n = self.hidden1.in_features
            h = F.gelu(self.input(x))
            h = F.gelu(self.hidden1(h) * n**-0.5)
            return self.readout(F.gelu(self.hidden2(h) * n**-0.5)) * n**-0.5

    def setup(width):
        model = Ntk(width, bias=False)
        for p in model.parameters():
            nn.init.normal_(p)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert report.regime == "kernel" and weights(report, "frozen") == {
        "input.weight",
        "hidden1.weight",
        "hidden2.weight",
    }


def test_nanotron():
    report = report_of(setups.nanotron)
    assert told(report) == [("explodes", "lr", 0, -1)] and report.findings[0].effect == 1
    assert set(report.findings[0].weights) == hidden_of_llama()


def test_gpt_neox_loses_learning_rates_but_scales_decay():
    report = report_of(setups.gpt_neox)
    assert told(report) == [("explodes", "lr", 0, -1), ("eps drift", "eps", 0, -1)]
    assert report.findings[0].weights == ("hidden1.weight", "hidden2.weight")
    assert "weight decay is scaled by n^1 all the same" in report.findings[0].message
    assert report.weights["hidden1.weight"].weight_decay == 1


def test_multiplier_before_a_norm_is_absorbed():
    report = report_of(setups.multiplier_before_norm)
    assert told(report) == [("absorbed multiplier", "multiplier", 0, -1)]
    (finding,) = report.findings
    assert finding.weights == ("output.weight",) and finding.effect == 1 and "behind the norm" in finding.message
    line = Path(setups.__file__).read_text().splitlines()[int(finding.where.rpartition(":")[2]) - 1]
    assert "self.before_norm" in line


@pytest.mark.parametrize(
    "norm", [lambda n: nn.LayerNorm(n), lambda n: nn.RMSNorm(n), setups.RMSNorm], ids=["layer", "rms", "by hand"]
)
def test_absorbed_by_any_norm(norm):
    class Model(MLP):
        def __init__(self, width):
            super().__init__(width)
            self.norm = norm(width)

        def forward(self, x):
            h = F.gelu(self.hidden1(F.gelu(self.input(x))))
            return self.readout(self.norm(h / h.shape[-1]))

    def setup(width):
        model = Model(width)
        model.hidden2 = None
        mup_init(model, readout_std=0.1)
        return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_inputs()

    assert told(tpcalc.verify(setup, WIDTHS)) == [("absorbed multiplier", "multiplier", 0, -1)]


def test_a_filter_that_matches_nothing():
    report = report_of(setups.suffix_filter)
    assert told(report) == [("unmatched", "lr", 0, -1)]
    assert set(report.findings[0].weights) == hidden_of_llama()
    assert "group 0 of AdamW" in report.findings[0].message and "holds no parameter" in report.findings[0].message


def test_a_filter_that_misses_twins():
    report = report_of(setups.half_filter)
    assert told(report) == [("unmatched", "lr", 0, -1)]
    assert (
        set(report.findings[0].weights) == hidden_of_llama("w1", "w2", "w3")
        and "its twin" in report.findings[0].message
    )


def test_a_parameter_in_no_group():
    def setup(width):
        model = MLP(width)
        mup_init(model)
        groups = adam_groups(model, width)
        groups[1]["params"] = [p for p in groups[1]["params"] if p is not model.input.weight]
        return model, torch.optim.AdamW(groups), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("unmatched", "lr", None, None)] and weights(report, "unmatched") == {"input.weight"}


def test_moe_router():
    report = report_of(setups.router)
    assert told(report) == [("explodes", "init std", 0, -1), ("explodes", "lr", 0, -1)]
    init, lr = report.findings
    assert init.effect == H and "at init" in init.message and lr.effect == 1
    assert set(init.weights) == set(lr.weights) == {f"layers.{i}.feed_forward.router.weight" for i in range(2)}


def test_moe_router_treated_as_hidden():
    report = report_of(setups.router_as_hidden)
    assert told(report) == [("explodes", "init std", -H, -1)] and report.findings[0].effect == H


@pytest.mark.parametrize(
    "setup, sites",
    [(setups.inverse_sqrt_attention, "layers.{0,1}.attention"), (setups.latent_attention, "layers.0.attention")],
)
def test_attention_scale(setup, sites):
    report = report_of(setup)
    assert told(report) == [("attention scale", "multiplier", -H, -1)]
    assert report.findings[0].subject == sites and report.findings[0].effect == H
    assert "enters a softmax" in report.findings[0].message


@pytest.mark.parametrize("which", ["wq", "wk"])
def test_attention_scale_may_sit_in_the_weights(which):
    """1/sqrt(d) in the code, the missing n^-1/2 in the query (or the key) weight: init, lr and epsilon."""

    def setup(width):
        model = setups.Llama(width, heads=4, after_norm=BASE / width)
        mup_init(model, readout_std=0.1)
        (hidden, rest), m = adam_groups(model, width, decay=0.0, readout=False), width / BASE
        moved = [getattr(block["attention"], which).weight for block in model.layers]
        for weight in moved:
            nn.init.normal_(weight, std=1 / width)
        hidden["params"] = [p for p in hidden["params"] if all(p is not q for q in moved)]
        own = {"params": moved, "lr": LR * m**-1.5, "weight_decay": 0.0, "eps": 1e-8 * m**-0.5}
        return model, torch.optim.AdamW([hidden, rest, own]), setups.x_tokens()

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_depthwise_convolution_is_frozen():
    report = report_of(setups.depthwise)
    assert told(report) == [("frozen", "lr", -1, 0)] and not report.ok and report.findings[0].effect == -1
    assert weights(report, "frozen") == {"layers.0.conv.weight", "layers.1.conv.weight"}


def test_muon():
    assert told(report_of(setups.muon_rms_constant)) == [("explodes", "lr", 0, -H)]
    assert report_of(setups.muon_rms_constant).findings[0].effect == H
    slow = report_of(setups.muon_rms_adams)
    assert told(slow) == [("not maximal", "lr", -1, -H)] and slow.findings[0].effect == -H and slow.ok
    assert set(slow.findings[0].weights) == hidden_of_llama()
    assert report_of(setups.muon_rms_right).findings == ()


def test_slow_embedding_and_biases_are_stable_but_not_maximal():
    report = report_of(setups.slow_embedding)
    assert told(report) == [("not maximal", "lr", -H, 0)] and weights(report, "not maximal") == {
        "tok_embeddings.weight"
    }
    assert (
        report.ok
        and report.regime == "feature learning"
        and report.exit_code() == 0
        and report.exit_code(strict=True) == 1
    )
    report = report_of(setups.biases_with_hidden_lr)
    assert told(report) == [("not maximal", "lr", -1, 0)] and weights(report, "not maximal") == {
        "hidden1.bias",
        "hidden2.bias",
    }
    assert report.ok


def test_coupled_decay_scaled_as_if_decoupled():
    report = report_of(setups.coupled_decay)
    assert report.ok and {f.kind for f in report.findings} == {"decay drift"}
    hidden = next(f for f in report.findings if "hidden1.weight" in f.weights)
    assert (hidden.found, hidden.needed) == (1, -H)


def test_decoupled_decay_left_unscaled():
    report = report_of(setups.decay_left)
    assert told(report) == [("decay drift", "weight_decay", 0, 1)] and report.findings[0].effect == -1 and report.ok
    assert weights(report, "decay drift") == {"hidden1.weight", "hidden2.weight", "readout.weight"}


def test_epsilon_left_unscaled():
    report = report_of(setups.eps_left)
    assert told(report) == [("eps drift", "eps", 0, -1)] and report.ok
    assert "readout.weight" not in weights(report, "eps drift")  # its gradient does not shrink


WILD = {
    setups.minicpm_literal: [("vanishes", "lr", -1, 0), ("vanishes", "lr", -1, 0)],
    setups.megatron: [("decay drift", "weight_decay", 0, 1), ("eps drift", "eps", 0, -1)],
    setups.one_kv_head: [("explodes", "init std", -H, -1), ("explodes", "init std", -H, -1)],
    setups.mup_shared_readout: [("explodes", "init std", H, 0), ("eps drift", "eps", 0, -1)],
    setups.embedding_times_sqrt_width: [("explodes", "init std", 0, -H), ("explodes", "lr", 0, -H)],
    setups.router_sgd: [("explodes", "init std", -H, -1), ("explodes", "lr", 0, -1)],
}


@pytest.mark.parametrize("setup", WILD, ids=lambda s: s.__name__)
def test_more_of_the_wild(setup):
    assert told(report_of(setup)) == WILD[setup]


@pytest.mark.parametrize("name, optimizer", [("gpt_tied", "adamw"), ("gpt_growing_heads", "adam"), ("gpt_moe", "sgd")])
def test_what_tpcalc_exports_passes(name, optimizer):
    """Multipliers of tpcalc.scale, applied: a tied readout, heads that grow under 1/sqrt(d), experts."""
    factory = example("gpt.py", name)
    scalings = {width: tpcalc.scale(factory, base=64, target=width, optimizer=optimizer) for width in (128, 256, 512)}
    classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

    def setup(width):
        model, inputs = factory(width)
        scalings[width].init_(model)
        return model, classes[optimizer](scalings[width].param_groups(model, lr=LR, weight_decay=0.1)), inputs

    report = tpcalc.verify(setup, (128, 256, 512))
    assert report.findings == () and report.regime == "maximal"


def test_an_exported_packed_weight_passes_on_fake_tensors():
    """Each block has the init it needs; the one learning rate is a note and no fault."""
    factory = setups.packed_model
    scalings = {width: tpcalc.scale(factory, base=64, target=width) for width in (128, 256, 512)}
    assert any(weight.slices for weight in scalings[512].values())

    def setup(width):
        model, inputs = factory(width)
        scalings[width].init_(model)
        return model, torch.optim.AdamW(scalings[width].param_groups(model, lr=LR, weight_decay=0.1)), inputs

    report = tpcalc.verify(setup, (128, 256, 512))
    assert report.findings == () and report.how == "fake tensors"
    row = report.weights["qkv.weight"]
    assert row.b == H and dict(row.blocks) == {"qkv.weight[0:n]": 1, "qkv.weight[n:2*n]": H, "qkv.weight[2*n:3*n]": H}
    assert [block["b"] for block in report.to_json()["weights"][2]["blocks"]] == ["1", "1/2", "1/2"]
    (note,) = report.notes
    assert note.startswith("qkv.weight has one learning rate for all its blocks, and qkv.weight[0:n] bears no larger")


@pytest.mark.parametrize("fake", [True, False])
def test_blocks_of_a_packed_weight_are_judged_one_by_one(fake):
    def setup(powers):
        inner = setups.packed_by_hand(*powers)

        def packed(width):
            built = inner(width)
            return built if fake or built[0].qkv.weight.sum().item() is not None else None

        return packed

    right = tpcalc.verify(setup((-1, -0.5, -0.5)), WIDTHS)
    assert right.findings == () and (right.how == "fake tensors") is fake
    wrong = tpcalc.verify(setup((-1, -0.25, -0.5)), WIDTHS)
    (finding,) = wrong.errors
    assert (finding.kind, finding.subject, finding.weights) == ("explodes", "qkv.weight[n:2*n]", ("qkv.weight",))
    assert (finding.quantity, finding.found, finding.needed) == ("init std", -H / 2, -H)


def test_zero_rows_of_a_packed_weight_are_a_block_of_their_own():
    def setup(width):
        model, optimizer, inputs = setups.packed_by_hand(-1, -0.5, -0.5)(width)
        nn.init.zeros_(model.qkv.weight[:width])
        return model, optimizer, inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and dict(report.weights["qkv.weight"].blocks)["qkv.weight[0:n]"] is None


# -- 2 to 13. real runs agree ------------------------------------------------------------------------------

L0 = "layers.0."
MEASURED = {
    "standard AdamW, hidden": (setups.standard_adamw, runs.own_effect("hidden2"), 1),
    "standard SGD, features": (setups.standard_sgd, runs.features_change("hidden2", 3), -0.5),
    "nanotron": (setups.nanotron, runs.own_effect(L0 + "feed_forward.w1"), 1),
    "gpt-neox": (setups.gpt_neox, runs.own_effect("hidden2"), 1),
    "multiplier before a norm, init": (setups.multiplier_before_norm, runs.at_init("output"), 0.5),
    "multiplier before a norm, update": (setups.multiplier_before_norm, runs.own_effect("output"), 1),
    "suffix filter": (setups.suffix_filter, runs.own_effect(L0 + "feed_forward.w1"), 1),
    "router, init": (setups.router, runs.at_init(L0 + "feed_forward.router"), 0.5),
    "router, update": (setups.router, runs.own_effect(L0 + "feed_forward.router"), 1),
    "1/sqrt(d)": (setups.inverse_sqrt_attention, runs.logits_change(5), 0.5),
    "1/d": (setups.llama_growing_heads, runs.logits_change(5), 0),
    "depthwise": (setups.depthwise, runs.own_effect(L0 + "conv"), -1),
    "Muon, constant lr": (setups.muon_rms_constant, runs.own_effect(L0 + "feed_forward.w1"), 0.5),
    "Muon, Adam's lr": (setups.muon_rms_adams, runs.own_effect(L0 + "feed_forward.w1"), -0.5),
    "Muon, right": (setups.muon_rms_right, runs.own_effect(L0 + "feed_forward.w1"), 0),
    "slow embedding": (setups.slow_embedding, runs.own_effect("tok_embeddings"), -0.5),
    "gradient": (setups.eps_left, runs.gradient("hidden2.weight"), -1),
}


@pytest.mark.parametrize("case", MEASURED)
def test_measured_slopes(case):
    setup, measure, predicted = MEASURED[case]
    if setup.__name__ in MUP:
        pytest.importorskip("mup")
    assert runs.measured(setup, measure) == pytest.approx(predicted, abs=0.2)


# -- too small -----------------------------------------------------------------------------------------------


def test_vanishing_outputs():
    def setup(width):
        model = MLP(width, multiplier=(BASE / width) ** 2)
        mup_init(model, readout_std=0.1)
        return model, torch.optim.AdamW(adam_groups(model, width, readout=False)), x_inputs()

    report = tpcalc.verify(setup, WIDTHS)
    assert told(report) == [("vanishes", "lr", 0, 1)] and weights(report, "vanishes") == {"readout.weight"}


def test_vanishing_logits_of_attention():
    report = tpcalc.verify(lambda width: llama_setup(width, heads=4, scale=lambda d: d**-2.0), WIDTHS)
    assert told(report) == [("vanishes", "lr", -1, 0)] and weights(report, "vanishes") == {
        f"layers.{i}.attention.wq.weight" for i in range(2)
    }


def test_zero_init_is_no_fault():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        nn.init.zeros_(model.readout.weight)
        nn.init.zeros_(model.hidden2.weight)
        return model, optimizer, inputs

    assert tpcalc.verify(setup, WIDTHS).findings == ()


def test_frozen_parameters():
    def setup(width, lr):
        model = MLP(width)
        mup_init(model)
        model.input.weight.requires_grad_(False)  # on purpose: no finding
        groups = adam_groups(model, width)
        groups[0]["lr"] *= lr
        return model, torch.optim.AdamW(groups), x_inputs()

    assert tpcalc.verify(lambda width: setup(width, 1), WIDTHS).findings == ()
    report = tpcalc.verify(lambda width: setup(width, 0), WIDTHS)
    assert [(f.kind, f.weights) for f in report.findings] == [
        ("frozen", ("hidden1.weight", "hidden2.weight", "readout.weight"))
    ]


# -- optimizers --------------------------------------------------------------------------------------------------


def mlp_under(cls: type, **defaults) -> Callable:
    def setup(width):
        model = MLP(width, multiplier=BASE / width)
        mup_init(model, readout_std=0.1)
        m = width / BASE
        hidden = [model.hidden1.weight, model.hidden2.weight]
        rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
        eps = {"eps": 1e-8 / m} if "eps" in defaults else {}
        return model, cls([{"params": hidden, "lr": LR / m, **eps}, {"params": rest, "lr": LR, **eps}]), x_inputs()

    return setup


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "Adamax", "NAdam", "RAdam", "Rprop"])
def test_adam_like_optimizers(name):
    cls = getattr(torch.optim, name)
    defaults = {} if name == "Rprop" else {"eps": True}
    report = tpcalc.verify(
        mlp_under(lambda groups: cls(groups, **({"weight_decay": 0.0} if name == "AdamW" else {})), **defaults), WIDTHS
    )
    assert report.findings == (), report


def test_sgd_and_adafactor_read_the_same_rates_otherwise():
    assert tpcalc.verify(mlp_under(torch.optim.SGD), WIDTHS).regime == "kernel"
    report = tpcalc.verify(mlp_under(lambda groups: torch.optim.Adafactor(groups, weight_decay=0.0)), WIDTHS)
    assert told(report) == [("not maximal", "lr", -1, -H)]  # relative: 1/sqrt(n) comes from the size of W


class Unknown(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": LR})

    def step(self, closure=None):
        raise NotImplementedError


class Declared(Unknown):
    pass


class Lion(Unknown):
    pass


class Renamed(torch.optim.AdamW):
    """Steps as its parent."""


def test_an_unknown_optimizer_is_refused_by_name_with_the_remedy():
    with pytest.raises(
        tpcalc.SetupError,
        match=r"test_verify\.Unknown has no update law here; declare .*tpcalc\.declare_optimizer\(\"adamw\"\)\(Unknown\)",
    ):
        tpcalc.verify(mlp_under(Unknown), WIDTHS)


def test_an_optimizer_is_declared():
    assert tpcalc.declare_optimizer("lion")(Declared) is Declared
    assert tpcalc.verify(mlp_under(Declared), WIDTHS).findings == ()
    assert tpcalc.verify(mlp_under(Lion), WIDTHS).findings == ()
    assert tpcalc.verify(mlp_under(lambda groups: Renamed(groups, weight_decay=0.0), eps=True), WIDTHS).findings == ()
    with pytest.raises(tpcalc.SetupError, match="is no update law"):
        tpcalc.declare_optimizer("lyon")


def test_muon_law():
    """torch's two shape factors on a square, a tall and a wide matrix: order of a unit update as aligned entries."""
    one, zero = Fraction(1), Fraction(0)
    for rows, columns, original, matched in ((one, one, -1, -H), (one, zero, 0, 0), (zero, one, -H, 0)):
        matrix = WeightView(zero, zero, (rows, columns))
        assert muon_law(None).update(matrix) == muon_law("original").update(matrix) == original
        assert muon_law("match_rms_adamw").update(matrix) == matched
    with pytest.raises(tpcalc.DeriveError, match="'max' is unknown; choose one of original, match_rms_adamw"):
        muon_law("max")


def test_laws_have_sources():
    assert all(law.source for law in LAWS.values())
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "sign", "adafactor", "nadam"} <= set(LAWS)


# -- what a setup returns -----------------------------------------------------------------------------------------


def test_parts_are_told_apart_by_type():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        schedulers = [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100),
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        ]
        return model, {"x": inputs}, schedulers, [optimizer]

    assert tpcalc.verify(setup, WIDTHS).findings == ()


@pytest.mark.parametrize(
    "result, message",
    [
        (lambda m, o, i: m, "returned a tests.support.verify_setups.MLP; return"),
        (lambda m, o, i: (m, i), "returned no optimizer"),
        (lambda m, o, i: (nn.Bilinear(3, 3, 3), o), "returned no example inputs"),
        (lambda m, o, i: (o, m, i), "first, where the model belongs"),
        (lambda m, o, i: (m, o, i, 3), "which is no optimizer, scheduler or input"),
    ],
)
def test_wrong_parts_are_one_sentence(result, message):
    with pytest.raises(tpcalc.SetupError, match=message):
        tpcalc.verify(lambda width: result(*setups.tp5_table3_adam(width)), WIDTHS)


def test_inputs_that_a_model_leaves_no_doubt_about():
    report = tpcalc.verify(lambda width: setups.tp5_table3_adam(width)[:2], WIDTHS)
    assert report.findings == () and "came without example inputs" in report.assumptions[0]


def test_powers_of_a_rounded_size():
    """lr / fan_in where fan_in is 8/3 n rounded up to a multiple of 32: no power of n, but one of the weight's own
    axis.
    """

    def setup(width):
        inner = -(-8 * width // 3 // 32) * 32
        model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, 4))
        groups = [{"params": [p], "lr": LR, "weight_decay": 0.0, "eps": 1e-8 / width} for p in model.parameters()]
        nn.init.normal_(model[0].weight)
        nn.init.normal_(model[2].weight, std=width**-0.5)
        nn.init.normal_(model[4].weight, std=1 / inner)
        groups[2]["lr"] *= 64 / width
        groups[4]["lr"] *= 192 / inner
        return model, torch.optim.AdamW(groups), x_inputs()

    report = tpcalc.verify(setup, (64, 128, 256))
    assert report.findings == () and report.weights["4.weight"].c == report.weights["4.weight"].b == 1


def test_tensors_of_another_model():
    def setup(width):
        _, optimizer, inputs = setups.tp5_table3_adam(width)
        return setups.tp5_table3_adam(width)[0], optimizer, inputs

    with pytest.raises(tpcalc.SetupError, match="are no parameters of the model"):
        tpcalc.verify(setup, WIDTHS)


def test_rules_that_change_with_the_width_are_named():
    """A threshold on the size of a matrix puts it into another group at one of the widths."""

    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        if width == 64:
            optimizer.param_groups[0]["lr"] *= 3
        return model, optimizer, inputs

    with pytest.raises(tpcalc.FitError, match=r"the learning rate of hidden1\.weight \(group 0 of AdamW\)"):
        tpcalc.verify(setup, WIDTHS)


# -- real instances --------------------------------------------------------------------------------------------------


def numpy_setup(width: int, std: float | None = None):
    """Writes real data: impossible under fake tensors."""
    model, optimizer, inputs = setups.tp5_table3_adam(width)
    draw = np.random.default_rng(0).normal(size=(width, width)) * (width**-0.5 if std is None else std)
    model.hidden1.weight.data.numpy()[:] = draw
    return model, optimizer, inputs


def test_falls_back_to_real_instances_and_says_so():
    report = tpcalc.verify(numpy_setup, WIDTHS)
    assert report.how == "real small instances" and report.findings == ()
    assert "on real small instances" in str(report) and "read-only" in report.why


def test_wrong_init_on_real_instances():
    report = tpcalc.verify(lambda width: numpy_setup(width, 1.0), WIDTHS)
    assert told(report) == [("explodes", "init std", 0, -H)] and weights(report, "explodes") == {"hidden1.weight"}
    assert any("hidden1.weight" in note for note in report.notes)


def test_a_parameter_in_two_optimizers_is_noted():
    def setup(width):
        model, optimizer, inputs = setups.tp5_table3_adam(width)
        return model, [torch.optim.SGD([model.readout.bias], lr=LR), optimizer], inputs

    report = tpcalc.verify(setup, WIDTHS)
    assert report.findings == () and report.notes == (
        "held by two optimizers, of which the last was read: readout.bias",
    )


def test_an_error_of_the_setup_names_its_line():
    def setup(width):
        raise ValueError("no such dataset")

    with pytest.raises(
        tpcalc.TargetError, match=r"setup\(64\) raised ValueError: no such dataset \(test_verify.py:\d+\)"
    ):
        tpcalc.verify(setup, WIDTHS)


# -- the report --------------------------------------------------------------------------------------------------------


def test_text():
    text = str(report_of(setups.nanotron))
    assert text == repr(report_of(setups.nanotron))
    assert "FAIL, unstable: some values grow without bound with the width; 1 error, 0 warnings" in text
    assert (
        "error: explodes: layers.{0,1}.attention.{wq,wk,wv,wo}.weight, layers.{0,1}.feed_forward.{w1,w3,w2}.weight"
        in text
    )
    assert "layers.*.feed_forward.w1.weight  hidden  n^-1/2    1     0             n^-1  explodes" in text
    assert max(map(len, text.splitlines())) <= 160


def test_json_lists_every_weight():
    data = json.loads(json.dumps(report_of(setups.llama_tied).to_json()))
    assert data["ok"] is True and data["findings"] == [] and data["schema"] == "tpcalc.verify/1"
    names = {weight["name"] for weight in data["weights"]}
    assert {
        "tok_embeddings.weight",
        "output.weight",
        "layers.0.attention.wq.weight",
        "layers.1.attention.wq.weight",
    } <= names
    own = next(weight for weight in data["weights"] if weight["name"] == "layers.0.attention.wq.weight")
    assert (own["b"], own["c"], own["weight_decay"], own["eps"], own["A"], own["C"]) == (
        "1/2",
        "1",
        "1",
        "-1",
        "1/2",
        "1",
    )
    data = report_of(setups.depthwise).to_json()
    (finding,) = data["findings"]
    assert set(finding) >= {"kind", "severity", "subject", "quantity", "found", "needed", "where", "message"}
    assert (finding["found"], finding["needed"]) == ("-1", "0")


def test_github_annotations():
    text = report_github(report_of(setups.multiplier_before_norm), "tests/support/verify_setups.py")
    first, last = text.splitlines()
    assert (
        first.startswith("::error file=tests/support/verify_setups.py,line=")
        and ",title=tpcalc%3A absorbed multiplier::" in first
    )
    assert last.startswith("::notice ") and "FAIL" in last


SETUPS = str(Path(setups.__file__))


@pytest.fixture
def command(capsys) -> Callable:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["verify", *arguments, "--widths", "64,128,256"])
        return (stopped.value.code, *capsys.readouterr())

    return run


def test_exit_codes(command):
    code, out, _ = command(SETUPS + ":tp5_table3_adam", "--strict")
    assert code == 0 and out.splitlines()[1].startswith("ok, maximal")
    assert command(SETUPS + ":decay_left")[0] == 0
    code, out, _ = command(SETUPS + ":decay_left", "--strict", "--format", "json")
    assert code == 1 and json.loads(out)["findings"][0]["kind"] == "decay drift"
    code, out, _ = command(SETUPS + ":standard_adamw", "--format", "github")
    assert code == 1 and out.count("::error ") == 3
    code, out, error = command(SETUPS + ":no_such_setup")
    assert code == 2 and out == "" and error.startswith("error: ") and len(error.splitlines()) == 1


def test_as_a_program():
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    arguments = [sys.executable, "-m", "tpcalc", "verify", SETUPS + ":nanotron", "--widths", "64,128,256"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.strip() == str(report_of(setups.nanotron)), done.stderr


def test_the_same_report_twice():
    assert str(tpcalc.verify(setups.router, WIDTHS)) == str(report_of(setups.router))
