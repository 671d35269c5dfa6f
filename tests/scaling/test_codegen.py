"""Generated code: stand-alone, formatted, deterministic, safe whatever the names are, the package's own numbers."""

from __future__ import annotations

import ast
import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import tpcalc
from tests.support.command import tpcalc_command
from tpcalc.scaling import Scaling
from tpcalc.scaling.codegen import codegen, folded
from tpcalc.scaling.exported import weights

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
import gpt as examples  # noqa: E402

BASE, TARGET = 32, 128


@pytest.fixture(scope="module", params=["gpt", "gpt_tied", "gpt_growing_heads", "gpt_moe"])
def scaling(request) -> Scaling:
    return tpcalc.scale(getattr(examples, request.param), BASE, TARGET)


def factory_of(scaling: Scaling):
    if any("experts" in name for name in scaling):
        return examples.gpt_moe
    if "head.weight" in scaling and scaling["head.weight"].aliases:
        return examples.gpt_tied
    return examples.gpt_growing_heads if scaling["blocks.0.attn.q.weight"].clip != 1 else examples.gpt


def run(text: str) -> dict:
    """The generated module's names, executed on their own."""
    module = type(sys)("generated_by_test")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(text, "scaling.py", "exec"), module.__dict__)
    return module.__dict__


def test_hyperparameters_that_were_tuned_are_held():
    scaling = tpcalc.scale(examples.gpt, BASE, TARGET)
    text = codegen(scaling, {"lr": 0.003, "weight_decay": 0.1, "eps": 1e-8})
    names = run(text)
    assert names["BASE"] == {"lr": 0.003, "weight_decay": 0.1, "eps": 1e-8}
    assert "torch.optim.AdamW(param_groups(model, **BASE))" in text and "by `tpcalc tune`" in text
    assert repr(names["WEIGHTS"]) == repr(run(codegen(scaling))["WEIGHTS"]), "the table is the same"
    assert "BASE" not in codegen(scaling)


def test_round_trip_to_the_last_bit(scaling, tmp_path):
    """Export, load, codegen, run: the same numbers, the same training."""
    scaling.save(tmp_path / "multipliers.json")
    loaded = Scaling.load(tmp_path / "multipliers.json")
    assert loaded.document == scaling.document
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "multipliers.json").read_bytes()
    assert codegen(loaded) == codegen(scaling)
    code = run(codegen(loaded))
    table = {name: entry for entry in code["WEIGHTS"] for name in entry.names()}
    for name, weight in scaling.items():
        if name in weight.aliases:
            continue
        row = table.pop(name)
        for key in ("shape", "init", "lr", "weight_decay", "eps", "clip", "draw", "optimizer", "aliases"):
            assert getattr(row, key) == getattr(weight, key), (name, key)
    assert not table

    factory = factory_of(scaling)
    torch.manual_seed(0)
    models = [factory(TARGET)[0]]
    models.append(copy.deepcopy(models[0]))
    tokens = torch.randint(96, (2, 9), generator=torch.Generator().manual_seed(0))
    for model, init_, param_groups, clip in zip(
        models,
        (scaling.init_, code["init_"]),
        (scaling.param_groups, code["param_groups"]),
        (scaling.clip_grad_norm_, code["clip_grad_norm_"]),
        strict=True,
    ):
        init_(model)
        optimizer = torch.optim.AdamW(param_groups(model, 3e-3, 0.1, 1e-8))
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
            clip(model, 0.5)
            optimizer.step()
    for (name, p), (_, q) in zip(*(model.named_parameters() for model in models), strict=True):
        assert torch.equal(p, q), name


def test_it_stands_alone(small_document, tmp_path):
    """Runs in an interpreter that can't import tpcalc, or what it needs."""
    scaling = Scaling(small_document)
    (tmp_path / "scaling.py").write_text(codegen(scaling))
    program = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tpcalc", "jsonschema", "rich", "typer"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import scaling
assert scaling.WEIGHTS and scaling.init_ and scaling.param_groups and scaling.clip_grad_norm_
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(ast.parse(codegen(scaling)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.parametrize("line_length", ["88", "120"])
def test_it_is_formatted_and_clean(scaling, tmp_path, line_length):
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    path = tmp_path / "scaling.py"
    path.write_text(codegen(scaling))
    for command in (["format", "--check", "--line-length", line_length], ["check", "--select", "E4,E7,E9,F,I,B,UP"]):
        result = subprocess.run([ruff, *command, "--isolated", str(path)], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def test_everything_is_annotated(scaling):
    for node in ast.walk(ast.parse(codegen(scaling))):
        if isinstance(node, ast.FunctionDef):
            arguments = [a for a in (*node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
            assert node.returns is not None and all(a.annotation is not None for a in arguments), node.name


def test_the_header_says_what_it_was_made_from(scaling):
    head = ast.get_docstring(ast.parse(codegen(scaling)))
    assert "from width 32 to width 128, for adamw" in head and "schema tpcalc/1" in head
    assert codegen(scaling) == codegen(Scaling(copy.deepcopy(scaling.document))), "the same bytes each time"


def test_repeated_blocks_are_one_line(scaling):
    rows = folded(weights(scaling.document))
    assert len(rows) < 20
    by_name = {row.name: row for row in rows}
    assert by_name["blocks.*.ln1.weight"].blocks == (range(2),)
    if factory_of(scaling) is examples.gpt_moe:
        assert by_name["blocks.*.mlp.experts.*.fc.weight"].blocks == (range(2), range(4))
    names = [name for row in rows for name in row.names()]
    assert sorted(names) == sorted(weight.name for weight in weights(scaling.document))


def test_it_refuses_another_model_by_name(scaling):
    code = run(codegen(scaling))
    model = factory_of(scaling)(TARGET)[0]
    model.blocks[1].ln2.bias = None
    model.extra = nn.Linear(2, 2, bias=False)
    for call in (code["init_"], lambda m: code["param_groups"](m, 1e-3), lambda m: code["clip_grad_norm_"](m, 1.0)):
        with pytest.raises(ValueError, match="lacks 'blocks.1.ln2.bias' and it also has 'extra.weight'"):
            call(model)


# -- any names at all -------------------------------------------------------------------------------

NASTY = [
    'a"; import os; os.abort(); "', "a'''b", 'a"""b', "back\\slash", "new\nline", "carriage\rreturn", "tab\t", "# no",
    "{braces}", "{0..1}", "*", "blocks.*.w", "1", "0.0.0", "００", "٣", "\u202eright-to-left", "\u2028", "\x00",
    "\ud800", "naïve", "🦊", "range(3)", "%s", "f{1+1}", "\\N{BULLET}", "\\", "'", '"', "end\\", "# fmt: on", "\x0c",
    " ", "a" * 300,
]  # fmt: skip

part = st.one_of(st.sampled_from(NASTY), st.text(max_size=8), st.integers(0, 12).map(str), st.sampled_from(["w", "b"]))
names = st.lists(part, min_size=1, max_size=4).map(".".join).filter(lambda name: all(name.split(".")))


def renamed(document: dict, new_names: list[str], sentences: list[str]) -> dict:
    """The document of a small model with its parameters called otherwise."""
    document = copy.deepcopy(document)
    entries = document["weights"]
    document["weights"] = []
    for position, name in enumerate(new_names):
        entry = copy.deepcopy(entries[position % len(entries)])
        entry.update(name=name, aliases=[], tied_to=None, reason=name)
        document["weights"].append(entry)
    document["assumptions"] = sentences
    document["sites"] = [
        {"op": s, "module": s, "source": s, "found": "1/2", "needed": "0", "message": s} for s in sentences
    ]
    return document


@pytest.fixture(scope="module")
def small_document() -> dict:
    def factory(width):
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4)), (torch.randn(2, 8),)

    return tpcalc.scale(factory, BASE, TARGET).document


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names, min_size=1, max_size=8, unique=True), st.lists(part, max_size=3))
def test_any_names_are_safe(small_document, new_names, sentences):
    """Whatever the names, the file parses, holds exactly these names, and its code is the same code."""
    scaling = Scaling(renamed(small_document, new_names, sentences))
    text = codegen(scaling)
    text.encode("ascii")
    tree, plain = ast.parse(text), ast.parse(codegen(Scaling(small_document)))
    assert [type(node) for node in tree.body] == [type(node) for node in plain.body]
    for node, other in zip(tree.body, plain.body, strict=True):
        if isinstance(node, ast.AnnAssign):  # the table, of nothing but literals, ranges and Weight(...)
            assert {call.func.id for call in ast.walk(node) if isinstance(call, ast.Call)} <= {"Weight", "range"}
            used = {name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)}
            assert used <= {"Weight", "range"}
        else:
            assert ast.dump(node) == ast.dump(other)
    rows = run(text)["WEIGHTS"]
    assert sorted(name for row in rows for name in row.names()) == sorted(new_names)


def test_names_that_torch_allows_work_end_to_end():
    class Odd(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.table = nn.ParameterDict(
                {
                    'quote"quote': nn.Parameter(torch.randn(8, width)),
                    "new\nline": nn.Parameter(torch.randn(width, 4)),
                }
            )
            self.table["*"] = nn.Parameter(torch.zeros(width))

        def forward(self, x):
            table = self.table
            return (x @ table['quote"quote'] + table["*"]).relu() @ table["new\nline"]

    scaling = tpcalc.scale(lambda width: (Odd(width), (torch.randn(2, 8),)), BASE, TARGET)
    scaling = Scaling(json.loads(json.dumps(scaling.document)))
    model = Odd(TARGET)
    before = model.table["new\nline"].detach().clone()
    run(codegen(scaling))["init_"](model)
    assert torch.equal(model.table["new\nline"], before / 4)


def test_command_line(tmp_path):
    file, code = tmp_path / "multipliers.json", tmp_path / "scaling.py"
    result = tpcalc_command("export", "examples/gpt.py:gpt", "--base", "32", "--target", "64", "-o", str(file))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    document = json.loads(file.read_text())
    assert document["scale"] == {"symbol": "n", "base": 32, "target": 64}
    result = tpcalc_command("codegen", str(file), "-o", str(code))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert code.read_text() == codegen(Scaling(document))
    file.write_text("{")
    result = tpcalc_command("codegen", str(file))
    assert result.returncode == 2 and result.stderr.startswith(f"error: {file} is corrupt")
    assert result.stderr.count("\n") == 1 and result.stdout == ""
