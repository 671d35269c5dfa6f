"""Scaling as data: exact numbers, the JSON file and what is refused, the command line, schedules."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

import tpcalc
from tpcalc.algebra.roots import power_product, tidy
from tpcalc.document import schema
from tpcalc.optimizers import LAWS
from tpcalc.scaling import ScalingError
from tpcalc.scaling.schedules import RatioWarning, cosine_annealing, one_cycle, per_group, ratios_kept

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
import gpt as examples  # noqa: E402

BASE, TARGET = 32, 128


@pytest.fixture(scope="module")
def scaling() -> tpcalc.Scaling:
    return tpcalc.scale(examples.gpt_tied, BASE, TARGET)


# -- exact numbers ----------------------------------------------------------------------------------


def test_powers_are_exact_where_they_are_rational():
    four, half = Fraction(4), Fraction(1, 2)
    assert power_product([(four, half)]) == 2.0 and power_product([(four, -half)]) == 0.5
    assert power_product([(Fraction(3), half), (Fraction(3), -half)]) == 1.0
    assert power_product([(Fraction(2), half), (Fraction(8), half)]) == 4.0
    assert power_product([(Fraction(1), Fraction(7, 12))]) == 1.0 and power_product([]) == 1.0
    assert power_product([(Fraction(3), half)]) == math.sqrt(3)


@given(st.fractions(min_value="1/1000", max_value=1000), st.fractions(min_value=-3, max_value=3, max_denominator=6))
def test_powers_are_close_to_floats_and_invert(ratio, exponent):
    value = power_product([(ratio, exponent)])
    assert value == pytest.approx(float(ratio) ** float(exponent), rel=1e-13)
    assert power_product([(ratio, exponent), (ratio, -exponent)]) == 1.0


@given(st.integers(1, 200), st.integers(1, 200))
def test_tidy_takes_off_the_last_digits_only(a, b):
    exact = math.sqrt(Fraction(a, b))
    assert tidy(exact * (1 + 2e-16)) == (Fraction(a, b), Fraction(1, 2))
    assert power_product([tidy(1.2345678901234567)]) == 1.2345678901234567


def test_multipliers_compose():
    """32 -> 64 -> 128 is 32 -> 128; and back again is 1."""
    up, on, through, back = (
        tpcalc.scale(examples.gpt_growing_heads, *widths) for widths in ((32, 64), (64, 128), (32, 128), (128, 32))
    )
    for name in through:
        for key in ("init", "lr", "weight_decay", "eps", "clip"):
            first, second, all_, inverse = (getattr(s[name], key) for s in (up, on, through, back))
            assert first * second == pytest.approx(all_, rel=1e-14), (name, key)
            assert all_ * inverse == pytest.approx(1, rel=1e-14), (name, key)


@pytest.mark.parametrize("optimizer", [*LAWS, "shampoo+adamw", "lion+sgd"])
def test_numbers_are_the_exponents_evaluated(optimizer):
    """Where all sizes are multiples of the width, every number is a power of the ratio, whatever the optimizer."""
    scaling = tpcalc.scale(examples.gpt_growing_heads, 32, 128, optimizer)
    for entry in scaling.document["weights"]:
        numbers = entry["multipliers"]
        for key, exponent in (("lr", "c"), ("weight_decay", "weight_decay"), ("eps", "eps")):
            if entry[exponent] is None:
                assert numbers[key] is None
                continue
            power = Fraction(entry[exponent]) * (-1 if key == "lr" else 1)
            assert numbers[key] == pytest.approx(4 ** float(power), rel=1e-15), (entry["name"], key)
    same = tpcalc.scale(examples.gpt_growing_heads, 32, 32, optimizer)
    for weight in same.values():
        assert {weight.init, weight.lr, weight.weight_decay, weight.clip, weight.eps or 1.0} == {1.0}


def test_a_width_that_is_no_multiple():
    scaling = tpcalc.scale(examples.gpt, 64, 96, widths=(128, 192))
    assert scaling["blocks.0.attn.q.weight"].lr == 2 / 3
    assert scaling["head.weight"].init == math.sqrt(2 / 3)


def test_widths_are_checked():
    for base, target in ((0, 64), (64, -1), (64.0, 128), (True, 64)):
        with pytest.raises(ScalingError, match="no positive whole number|not a positive whole number"):
            tpcalc.scale(examples.gpt, base, target)
    with pytest.raises(tpcalc.TpcalcError, match="too few"):
        tpcalc.scale(examples.gpt, 64, 64, widths=(64,))


def test_it_is_a_mapping(scaling):
    assert len(scaling) == len(list(scaling)) == len(dict(scaling))
    assert "head.weight" in scaling and "nothing" not in scaling
    assert scaling["head.weight"] is scaling["token.weight"]
    assert (scaling.base, scaling.target, scaling.optimizer, scaling.sites) == (BASE, TARGET, "adamw", ())
    text = str(scaling)
    assert "width 32 -> 128" in text and "blocks.*.attn.q.weight" in text and "token.weight = head.weight" in text
    assert repr(scaling) == "<Scaling adamw, width 32 -> 128, 29 parameters>"
    assert scaling == tpcalc.Scaling(scaling.document)


def test_tracing_draws_nothing_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    tpcalc.scale(examples.gpt, 32, 64)
    assert torch.equal(torch.get_rng_state(), state)


# -- the file ---------------------------------------------------------------------------------------


def test_save_and_load(scaling, tmp_path):
    path = tmp_path / "multipliers.json"
    scaling.save(path)
    jsonschema.validate(json.loads(path.read_text()), schema("table"))
    loaded = tpcalc.Scaling.load(path)
    assert loaded.document == scaling.document and dict(loaded) == dict(scaling)
    assert os.listdir(tmp_path) == ["multipliers.json"], "no temporary file is left"


def test_the_document_has_what_the_contract_says(scaling):
    document = scaling.document
    assert document["schema"] == "tpcalc/1" and document["optimizer"] == "adamw"
    assert document["scale"] == {"symbol": "n", "base": BASE, "target": TARGET}
    entry = next(e for e in document["weights"] if e["name"] == "blocks.1.mlp.fc.weight")
    assert entry["shape"] == ["4*n", "n"] and entry["shape_at"] == {"base": [128, 32], "target": [512, 128]}
    assert (entry["a"], entry["b"], entry["c"], entry["weight_decay"], entry["eps"]) == ("0", "1/2", "1", "1", "-1")
    assert entry["init_std"]["base"] == pytest.approx(1 / math.sqrt(3 * BASE))
    assert entry["init_std"]["code_at_target"] == pytest.approx(1 / math.sqrt(3 * TARGET))
    assert entry["init_std"]["target"] == entry["init_std"]["code_at_target"]
    numbers = {"init": 1.0, "lr": 0.25, "weight_decay": 4.0, "eps": 0.25, "clip": 1.0, "forward": 1.0}
    assert entry["multipliers"] == numbers and entry["optimizer"] == "adamw"


def test_a_failed_save_leaves_the_old_file(scaling, tmp_path, monkeypatch):
    path = tmp_path / "multipliers.json"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(tpcalc.TpcalcError, match="No space left"):
        scaling.save(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["multipliers.json"]


def broken(document: dict, *keys_and_value) -> dict:
    document = copy.deepcopy(document)
    *keys, last, value = keys_and_value
    place = document
    for key in keys:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return document


BROKEN = [
    (("schema", "tpcalc/2"), "has version tpcalc/2, this tpcalc reads tpcalc/1; upgrade"),
    (("schema", "mup/1"), "is not a multipliers file of tpcalc"),
    (("schema", KeyError), "is not a multipliers file of tpcalc"),
    (("schema", 1), "is not a multipliers file of tpcalc"),
    (("weights", KeyError), "breaks the schema tpcalc/1 at top level"),
    (("weights", 3, "multipliers", "lr", "4"), r"breaks the schema tpcalc/1 at weights\[3\].multipliers.lr"),
    (("weights", 3, "multipliers", "lr", None), "multiplier of 'blocks.0.ln1.weight' that is missing or no positive"),
    (("weights", 3, "multipliers", "lr", 0), "missing or no positive number"),
    (("weights", 3, "multipliers", "init", -1.0), "missing or no positive number"),
    (("weights", 3, "multipliers", "clip", 1e300), "missing or no positive number"),
    (("weights", 3, "multipliers", "eps", KeyError), "breaks the schema"),
    (("weights", 3, "b", "0.5"), "breaks the schema"),
    (("weights", 3, "name", "token.weight"), "names a parameter twice"),
    (("weights", 3, "name", "a..b"), "which no model can have"),
    (("weights", 3, "tied_to", "nothing"), "ties 'blocks.0.ln1.weight' to a parameter that is not there"),
    (("weights", 3, "aliases", ["x"]), "gives 'blocks.0.ln1.weight' other ties"),
    (("weights", 3, "init_law", "exec"), "breaks the schema"),
    (("weights", 3, "init_law", None), "lacks the sizes or the init law"),
    (("weights", 3, "shape_at", "target", None), "lacks the sizes"),
    (("weights", 3, "shape_at", "target", [4.0]), "no whole number"),
    (("weights", 3, "shape_at", "target", [-4]), "breaks the schema"),
    (("weights", 3, "init_std", "target", None), "lacks the wanted init"),
    (("weights", 3, "optimizer", "a\n"), "names no optimizer"),
    (("optimizer", 'adam"""'), "names no optimizer"),
    (("scale", "base", None), "is a scaling table and holds no multipliers"),
    (("scale", "base", 32.0), "no whole number"),
    (("sites", [{"op": "x"}]), "breaks the schema"),
    (("assumptions", [1]), "breaks the schema"),
]


@pytest.mark.parametrize("change, message", BROKEN)
def test_a_file_that_is_not_in_order_is_refused(scaling, tmp_path, change, message):
    path = tmp_path / "multipliers.json"
    path.write_text(json.dumps(broken(scaling.document, *change)))
    with pytest.raises(ScalingError, match=message) as caught:
        tpcalc.Scaling.load(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 500 + len(str(path))


def test_an_alias_with_other_numbers_is_refused(scaling, tmp_path):
    index = next(i for i, e in enumerate(scaling.document["weights"]) if e["name"] == "head.weight")
    with pytest.raises(ScalingError, match="other numbers than 'token.weight', to which it is tied"):
        tpcalc.Scaling(broken(scaling.document, "weights", index, "multipliers", "lr", 2.0))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is corrupt"),
        (b"{", "is corrupt"),
        (b"\xff\xfe\x00", "is corrupt"),
        (b"null", "is not a multipliers file"),
        (b"[]", "is not a multipliers file"),
        (b'{"schema": "tpcalc/1", "x": NaN}', "is corrupt .*NaN"),
        (b"[" * 100_000, "is corrupt"),
        (pickle.dumps({"schema": "tpcalc/1"}), "is corrupt"),
        (b"__import__('os').abort()", "is corrupt"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content, message):
    path = tmp_path / "multipliers.json"
    path.write_bytes(content)
    with pytest.raises(ScalingError, match=message):
        tpcalc.Scaling.load(path)


def test_a_missing_file_and_a_table(tmp_path):
    with pytest.raises(ScalingError, match="cannot read .*: No such file or directory; check the path"):
        tpcalc.Scaling.load(tmp_path / "none.json")
    with pytest.raises(ScalingError, match="cannot read"):
        tpcalc.Scaling.load(tmp_path)
    from tpcalc.document import json_text
    from tpcalc.document.table import table_json

    table = table_json(tpcalc.derive(tpcalc.trace(examples.gpt, (32, 64, 128))))
    (tmp_path / "table.json").write_text(json_text(table))
    with pytest.raises(ScalingError, match="names no optimizer|is a scaling table and holds no multipliers"):
        tpcalc.Scaling.load(tmp_path / "table.json")


# -- the command line -------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "tpcalc", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_export_prints_the_same_bytes_each_time(scaling):
    command = ("export", "examples/gpt.py:gpt_tied", "--base", str(BASE), "--target", str(TARGET))
    results = [run(*command) for _ in range(2)]
    assert [r.returncode for r in results] == [0, 0], results[0].stderr
    assert results[0].stdout == results[1].stdout
    assert json.loads(results[0].stdout) == scaling.document


def test_export_reports_errors_in_one_sentence(tmp_path):
    result = run("export", "examples/gpt.py:gpt", "--base", "0", "--target", "64")
    assert result.returncode == 2 and result.stderr == "error: base width 0 is not a positive whole number\n"
    result = run("export", "examples/gpt.py:gpt", "--base", "32")
    assert result.returncode == 2 and result.stderr.startswith("error: Missing option '--target'")


def test_export_tells_of_sites(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "import torch.nn.functional as F\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.e, self.q, self.h = nn.Embedding(8, n), nn.Linear(n, n), nn.Linear(n, 8)\n"
        "    def forward(self, t):\n"
        "        x = F.layer_norm(self.q(self.e(t)), (self.q.in_features,))\n"
        "        return self.h((x @ x.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(-1) @ x)\n"
        "def net(n):\n"
        "    return Net(n), (torch.arange(8).reshape(2, 4),)\n"
    )
    file = tmp_path / "m.json"
    result = run("export", f"{tmp_path}/net.py:net", "--base", "32", "--target", "64", "-o", str(file))
    assert result.returncode == 0 and result.stderr.startswith("warning: ") and "multiply it by" in result.stderr
    result = run("codegen", str(file))
    assert result.stderr.startswith("warning: ") and "# The model itself needs: " in result.stdout


# -- schedules --------------------------------------------------------------------------------------


def optimizer_of(scaling) -> torch.optim.Optimizer:
    return torch.optim.AdamW(scaling.param_groups(examples.gpt_tied(TARGET)[0], lr=1e-3, weight_decay=0.1))


def ratios(optimizer) -> list[float]:
    return [group["lr"] / group["lr_multiplier"] for group in optimizer.param_groups]


def run_schedule(optimizer, scheduler, steps=20) -> list[list[float]]:
    history = []
    for _ in range(steps):
        history.append(ratios(optimizer))
        optimizer.step()
        scheduler.step()
    return history


def test_one_cycle_keeps_the_ratios(scaling):
    optimizer = optimizer_of(scaling)
    scheduler = one_cycle(optimizer, 1e-2, total_steps=25)
    assert ratios_kept(optimizer, scheduler)
    reference = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plain = lr_scheduler.OneCycleLR(reference, 1e-2, total_steps=25)
    for values in run_schedule(optimizer, scheduler):
        assert values == pytest.approx([reference.param_groups[0]["lr"]] * len(values))
        reference.step()
        plain.step()


def test_cosine_annealing_is_the_torch_one_in_each_group(scaling):
    optimizer = optimizer_of(scaling)
    scheduler = cosine_annealing(optimizer, T_max=15, eta_min=1e-4)
    assert ratios_kept(optimizer, scheduler)
    reference = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plain = lr_scheduler.CosineAnnealingLR(reference, 15, eta_min=1e-4)
    for values in run_schedule(optimizer, scheduler, 16):
        assert values == pytest.approx([reference.param_groups[0]["lr"]] * len(values), rel=1e-9)
        reference.step()
        plain.step()


ERASING = [
    (lambda o: lr_scheduler.OneCycleLR(o, max_lr=1e-2, total_steps=10), "max_lr .* use .*one_cycle"),
    (lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=1e-4), "eta_min .* use .*cosine_annealing"),
    (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, eta_min=1e-4), "eta_min .* use .*cosine_annealing"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=1e-5), "min_lr .* give min_lr="),
    (lambda o: lr_scheduler.CyclicLR(o, 1e-4, 1e-3, cycle_momentum=False), "max_lr .* give max_lr="),
    (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10, eta_min=1e-4)], [3]
        ),
        "eta_min",
    ),
]


@pytest.mark.parametrize("make, message", ERASING)
def test_schedules_that_erase_the_ratios_are_warned_of(scaling, make, message):
    optimizer = optimizer_of(scaling)
    scheduler = make(optimizer)
    with pytest.warns(RatioWarning, match=message):
        assert not ratios_kept(optimizer, scheduler)


KEEPING = [
    lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    lambda o: lr_scheduler.StepLR(o, 3),
    lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    lambda o: lr_scheduler.ReduceLROnPlateau(o),
    lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=per_group(o, 1e-5)),
    lambda o: lr_scheduler.OneCycleLR(o, per_group(o, 1e-2), total_steps=10),
    lambda o: lr_scheduler.CyclicLR(o, per_group(o, 1e-4), per_group(o, 1e-3), cycle_momentum=False),
    lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10)], [3]),
]


@pytest.mark.parametrize("make", KEEPING)
def test_schedules_that_keep_the_ratios_are_not(scaling, make, recwarn):
    optimizer = optimizer_of(scaling)
    assert ratios_kept(optimizer, make(optimizer))
    assert not [w for w in recwarn if issubclass(w.category, RatioWarning)]


def test_ratios_lost_already_are_found(scaling):
    optimizer = optimizer_of(scaling)
    assert ratios_kept(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    with pytest.warns(RatioWarning, match="the optimizer has the groups lr = 0.001"):
        assert not ratios_kept(optimizer)
