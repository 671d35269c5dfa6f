"""Multipliers as data: the mapping, the JSON file and what is refused, the command line; multipliers of 1."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch

import tpcalc
from tests.support.command import tpcalc_command
from tpcalc.document import schema
from tpcalc.scaling import ScalingError
from tpcalc.scaling.result import Unscaled

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
import gpt as examples  # noqa: E402

BASE, TARGET = 32, 128


@pytest.fixture(scope="module")
def scaling() -> tpcalc.Scaling:
    return tpcalc.scale(examples.gpt_tied, BASE, TARGET)


# -- exact numbers ----------------------------------------------------------------------------------


def test_it_is_a_mapping(scaling):
    assert len(scaling) == len(list(scaling)) == len(dict(scaling))
    assert "head.weight" in scaling and "nothing" not in scaling
    assert scaling["head.weight"] is scaling["token.weight"]
    assert (scaling.base, scaling.target, scaling.optimizer, scaling.sites) == (BASE, TARGET, "adamw", ())
    text = str(scaling)
    assert "width 32 -> 128" in text and "blocks.*.attn.q.weight" in text and "token.weight = head.weight" in text
    assert repr(scaling) == "<Scaling adamw, width 32 -> 128, 29 parameters>"
    assert scaling == tpcalc.Scaling(scaling.document)


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
    (("schema", "tpcalc/3"), "has version tpcalc/3, this tpcalc reads tpcalc/1 and tpcalc/2; upgrade"),
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


def test_export_prints_the_same_bytes_each_time(scaling):
    command = ("export", "examples/gpt.py:gpt_tied", "--base", str(BASE), "--target", str(TARGET))
    process = [sys.executable, "-W", "ignore", "-m", "tpcalc", *command]
    results = [
        subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=300),
        tpcalc_command(*command),
    ]
    assert [r.returncode for r in results] == [0, 0], results[0].stderr
    assert results[0].stdout == results[1].stdout
    assert json.loads(results[0].stdout) == scaling.document


def test_export_reports_errors_in_one_sentence(tmp_path):
    result = tpcalc_command("export", "examples/gpt.py:gpt", "--base", "0", "--target", "64")
    assert (
        result.returncode == 2
        and result.stderr == "error: base width 0 is not a positive whole number; give one, as 64\n"
    )
    result = tpcalc_command("export", "examples/gpt.py:gpt", "--base", "32")
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
    result = tpcalc_command("export", f"{tmp_path}/net.py:net", "--base", "32", "--target", "64", "-o", str(file))
    assert result.returncode == 0 and result.stderr.startswith("warning: ") and "multiply it by" in result.stderr
    result = tpcalc_command("codegen", str(file))
    assert result.stderr.startswith("warning: ") and "# The model itself needs: " in result.stdout


# -- multipliers of one -----------------------------------------------------------------------------


def test_unscaled_multiplies_nothing():
    rules = tpcalc.derive(tpcalc.trace(examples.gpt_tied, (32, 64, 128)), "lion+adamw")
    model = examples.gpt_tied(TARGET)[0]
    before, plain = copy.deepcopy(model.state_dict()), Unscaled.of(rules, TARGET)
    plain.init_(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    groups = [group for law in ("lion", "adamw") for group in plain.param_groups(model, 0.1, 0.2, 0.3, optimizer=law)]
    assert [(group["lr"], group["weight_decay"], group.get("eps")) for group in groups] == [
        (0.1, 0.2, None),
        (0.1, 0.2, 0.3),
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    with pytest.raises(ScalingError, match="build the model at the target width"):
        plain.init_(examples.gpt_tied(BASE)[0])
