"""A rule on real training: optimizer groups, betas, generated code, documents, the command line."""

from __future__ import annotations

import importlib
import json
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.command import tpcalc_command
from tests.support.once import once
from tpcalc.errors import ScalingError
from tpcalc.horizon import assume
from tpcalc.optimizers import ADAMW, LAWS
from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.codegen import codegen
from tpcalc.scaling.everywhere import codegen_formulas

HP: dict[str, Any] = {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-6}
BETAS = (0.9, 0.95)


def mlp(width: int):
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


@once
def plain() -> tpcalc.Scaling:
    return tpcalc.scale(lambda width: (mlp(width), (torch.zeros(2, 5),)), 16, 64)


def under(name: str, batch: Any = None, tokens: Any = None, law: Any = ADAMW, exponent: Any = None) -> tpcalc.Scaling:
    found = assume(name, batch, tokens, exponent)
    return plain().under(found.at(sum(p.numel() for p in mlp(16).parameters()), 10**5), {"adamw": law})


def trained(scaling: tpcalc.Scaling, **options: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = mlp(64)
    scaling.init_(model)
    optimizer = torch.optim.AdamW(scaling.param_groups(model, **HP, **options))
    for step in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        scaling.clip_grad_norm_(model, 1.0)
        if step == 2:
            scaling.set_lr(optimizer, 1e-3)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", ["completed-p", "wang-aitchison", "malladi", "none"])
def test_equal_ends_change_nothing_to_the_bit(name):
    same = under(name, "64:64", "1e9:1e9")
    assert same.assumed["rule"] == name and same.document["weights"] == plain().document["weights"]
    for options in ({}, {"betas": (0.3, 0.95)}):  # 1 - (1 - 0.3) is not 0.3
        assert all(map(torch.equal, trained(plain(), **options), trained(same, **options)))
    others = trained(under("completed-p", "64:256"), betas=BETAS)
    assert not all(map(torch.equal, trained(plain(), betas=BETAS), others))


def test_groups_have_all_factors_on_top_of_multipliers():
    model = mlp(64)
    groups = under("completed-p", "64:1024", "1e9:4e9").param_groups(model, **HP, betas=BETAS)
    before = plain().param_groups(model, **HP, betas=BETAS)
    assert len(groups) == len(before)
    for group, old in zip(groups, before):
        assert group["lr"] == pytest.approx(2 * old["lr"], rel=1e-15)
        assert group["weight_decay"] == pytest.approx(2 * old["weight_decay"], rel=1e-15)
        assert group["eps"] == pytest.approx(old["eps"] / 2, rel=1e-15)
        assert group["betas"] == (pytest.approx(0.6), pytest.approx(0.8))
        assert group["lr_multiplier"] == 2 * old["lr_multiplier"]
    tensor = under("completed-p", "64:1024", "1e9:4e9").param_groups(model, torch.tensor(3e-3), betas=BETAS)
    assert [float(g["lr"]) for g in tensor] == pytest.approx([g["lr"] for g in groups])


def test_independent_decay_on_the_groups():
    from dataclasses import replace

    from tpcalc.optimizers import INDEPENDENT

    scaling = under("completed-p", "64:1024", "1e9:4e9", replace(ADAMW, decay=INDEPENDENT))
    (first, *_), (old, *_) = (s.param_groups(mlp(64), **HP, betas=BETAS) for s in (scaling, plain()))
    assert first["weight_decay"] == pytest.approx(4 * old["weight_decay"], rel=1e-15)


def test_betas_that_are_missing_wrong_or_clipped():
    scaling, model = under("malladi", "64:1024"), mlp(64)
    with pytest.raises(
        ScalingError, match=r"multiplies 1 - beta by 16, and no betas are given; give those of the base"
    ):
        scaling.param_groups(model, **HP)
    with pytest.raises(ScalingError, match="betas are averages; give each from 0 to less than 1"):
        scaling.param_groups(model, **HP, betas=(0.95, 1.0))
    for wrong in (None, 0.9, (None, 0.99), ("0.5", 0.99)):
        with pytest.raises(ScalingError, match="betas are averages; give each from 0 to less than 1"):
            scaling.param_groups(model, **HP, betas=wrong)
    with pytest.warns(UserWarning, match=r"1 - beta = 0.1 times 16 is no average: beta is clipped to 0,") as told:
        groups = scaling.param_groups(model, **HP, betas=(0.9, 0.999))
    assert all(group["betas"] == (0.0, pytest.approx(0.984)) for group in groups)
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match="clipped to 0.99999994"):
        under("completed-p", tokens="1:1e6").param_groups(model, **HP, betas=(0.9, 0.99))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaling.param_groups(model, **HP, betas=(0.95, 0.999))
        under("wang-aitchison", "64:1024").param_groups(model, **HP)  # leaves betas as they are


def test_rmsprop_has_alpha():
    assert Assumed(one_minus_beta=4.0).options({"alpha": 0.99}, ValueError) == {"alpha": pytest.approx(0.96)}


def test_a_law_that_the_source_has_not():
    with pytest.raises(ScalingError, match="no published rule for lion"):
        plain().under(assume("completed-p", "1:2"), {"adamw": LAWS["lion"]})


def test_generated_code_does_the_same(tmp_path, monkeypatch):
    scaling = under("completed-p", "64:1024", "1e9:4e9")
    text = codegen(scaling)
    assert (
        "# assumed, not derived: completed-p (Mlodozeniec" in text and "# assumed, not derived: contradicted:" in text
    )
    assert "param_groups(model, lr=..., weight_decay=..., betas=...)" in text
    (tmp_path / "generated_by_horizon.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    theirs = importlib.import_module("generated_by_horizon").param_groups(mlp(64), **HP, betas=BETAS)
    ours = scaling.param_groups(mlp(64), **HP, betas=BETAS)
    keys = ("lr", "weight_decay", "eps", "betas", "lr_multiplier")
    assert [[g[k] for k in keys] for g in theirs] == [[g[k] for k in keys] for g in ours]
    assert "ASSUMED" not in codegen(plain()) and "betas=..." not in codegen(plain())


def test_an_optimizer_that_a_trainer_made_gets_both_layers():
    from tpcalc.integrations.groups import scale_optimizer_

    scaling, model = under("completed-p", "64:1024", "1e9:4e9"), mlp(64)
    theirs = torch.optim.AdamW(model.parameters(), **HP, betas=BETAS)
    scale_optimizer_(theirs, scaling, model)
    scale_optimizer_(theirs, scaling, model)  # once is enough
    keys = ("lr", "weight_decay", "eps", "betas", "lr_multiplier")
    ours = scaling.param_groups(model, **HP, betas=BETAS)
    assert [[group[key] for key in keys] for group in theirs.param_groups] == [[g[key] for key in keys] for g in ours]


def test_the_file_reads_back_and_is_checked(tmp_path):
    scaling = under("power-lines", "64:1024", "1e9:4e9")
    scaling.save(tmp_path / "m.json")
    again = tpcalc.Scaling.load(tmp_path / "m.json")
    assert again == scaling and again.assumed == scaling.assumed
    assert "assumed, not derived:\n  - power-lines (Bergsma" in str(again)
    for broken in ({"laws": {}}, {"laws": {"adamw": {}}}, {"rule": 3}):
        document = json.loads(json.dumps(scaling.document))
        document["assumed"].update(broken)
        with pytest.raises(ScalingError, match="assum"):
            tpcalc.Scaling(document)
    document = json.loads(json.dumps(scaling.document))
    document["assumed"]["laws"]["adamw"]["lr"]["factor"] = 0.0
    with pytest.raises(ScalingError, match="factor"):
        tpcalc.Scaling(document)


def test_in_python_the_true_numbers_of_parameters_count():
    found = tpcalc.scale(mlp, 16, 64, batch=(8, 8), horizon="power-lines")
    counts = [sum(p.numel() for p in mlp(width).parameters()) for width in (16, 64)]
    assert [found.assumed["parameters"][end] for end in ("base", "target")] == counts
    factor = found.assumed["laws"]["adamw"]["weight_decay"]["factor"]
    assert factor == pytest.approx((counts[1] / counts[0]) ** -0.527, rel=1e-12)
    with pytest.raises(ScalingError, match="add --horizon"):
        tpcalc.scale(mlp, 16, 64, batch=(8, 16))


def test_several_scales_and_formulas():
    from tests.support import stacks

    ends = {"width": 16, "depth": 2}, {"width": 32, "depth": 4}
    found = tpcalc.scale(stacks.pre, *ends, tokens=(1, 4), horizon="completed-p", horizon_exponent="0.3")
    counts = [sum(p.numel() for p in stacks.pre(**end)[0].parameters()) for end in ends]
    assert [found.assumed["parameters"][end] for end in ("base", "target")] == counts
    assert found.assumed["laws"]["adamw"]["lr"]["powers"] == {"kappa_B": "1/2", "kappa_D": "-3/10"}
    assert "multipliers(width=32, depth=4, batch=1, tokens=4)" in codegen_formulas(found)


MLP = "examples/mlp.py:mlp"


def test_the_commands(tmp_path):
    out = str(tmp_path / "m.json")
    ends = ("--base", "16", "--target", "64", "--widths", "16,32,64", "-o", out)
    done = tpcalc_command(
        "export", MLP, *ends, "--batch", "64:1024", "--tokens", "1e9:2e11", "--horizon", "completed-p"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m.json").read_text())["assumed"]["laws"]["adamw"]["one_minus_beta"]["factor"] == 0.08
    told = tpcalc_command("explain", MLP, "hidden.weight", "--widths", "16,32,64", "--horizon", "completed-p").stdout
    derived, assumed = told.split("Assumed, not derived:")
    assert "lr ~ n^-c" in derived and "kappa" not in derived
    assert "on top of what is derived, every parameter alike: lr x sqrt(kappa_B)/sqrt(kappa_D)" in assumed


@pytest.mark.parametrize(
    "given, sentence",
    [
        (("--batch", "1:2"), "error: --batch is given and no rule by which hyperparameters follow it; add --horizon"),
        (("--horizon", "malladi"), "error: --horizon malladi is given and neither a batch size nor a length"),
        (
            ("--horizon", "malladi", "--batch", "1:2", "--optimizer", "lion"),
            "error: malladi: no published rule for lion",
        ),
    ],
)
def test_the_commands_refuse(given, sentence, tmp_path):
    out = tmp_path / "m.json"
    done = tpcalc_command("export", MLP, "--base", "16", "--target", "64", "-o", str(out), *given)
    assert done.returncode == 2 and done.stderr.startswith(sentence) and done.stderr.count("\n") == 1
    assert not out.exists() and not done.stdout
