"""The command line: what it prints, what it refuses, and how."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import pkgutil
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
import torch

import tpcalc
from tests.support.forked import forked
from tpcalc import cli
from tpcalc.cli.given import parse_overrides
from tpcalc.document import DOCUMENTS, schema

ROOT = Path(__file__).parents[1]
GPT = f"{ROOT / 'examples' / 'gpt.py'}:gpt"
MLP = f"{ROOT / 'examples' / 'mlp.py'}:mlp"
STACK = f"{ROOT / 'tests' / 'support' / 'stacks.py'}:pre"
WIDTHS = ("--widths", "64,128,256")


@pytest.fixture
def run(capsys):
    """Run the command line in this process: ``(exit code, stdout, stderr)``."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return call


def spawn(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "tpcalc", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=300
    )


@pytest.fixture
def model_file(tmp_path):
    """Write a file with a model factory ``make``; its text comes from the test."""

    def write(body: str) -> str:
        path = tmp_path / "own_model.py"
        path.write_text(
            "import sys, warnings, logging, torch\nfrom torch import nn\n"
            "def make(width):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        )
        return f"{path}:make"

    return write


def test_help_lists_the_commands(run):
    for arguments in ((), ("--help",)):
        code, out, err = run(*arguments)
        assert code == 0 and err == ""
        assert all(f"  {command} " in out for command in ("table", "trace", "explain"))


def test_every_command_of_a_module_is_listed(run):
    modules = [importlib.import_module(f"tpcalc.cli.{found.name}") for found in pkgutil.iter_modules(cli.__path__)]
    known = [each for module in modules if hasattr(module, "commands") for each in module.commands.registered_commands]
    listed = run("--help")[1].partition("Commands:\n")[2]
    assert {line[2:].split()[0] for line in listed.splitlines()} == {
        each.name or each.callback.__name__ for each in known
    }


@pytest.mark.parametrize("command", ["table", "trace", "explain"])
def test_help_of_a_command(run, command):
    code, out, err = run(command, "--help")
    assert code == 0 and err == ""
    assert all(option in out for option in ("--widths", "--set", "--scale", "--loss", "--output", "--debug"))


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.modules['torch'] = None\nfrom tpcalc.cli import main; main(['table', '--help'])"
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and "--widths" in result.stdout, result.stderr


def test_bad_arguments_do_not_wait_for_torch():
    bad = [
        ("table", MLP, "--widths", "1,x"),
        ("explain", MLP, "hidden.weight", "--widths", "1,x"),
        ("check", MLP, "--widths", "1,x"),
        ("verify", MLP, "--widths", "1,x"),
        ("export", MLP, "--base", "64", "--target", "x"),
        ("export", MLP, "--base", "64", "--target", "128", "--widths", "1,x"),
        ("transfer", MLP, "--scale", "width=x"),
        ("transfer", MLP, "--scale", "width=8,16", "--lr", "x"),
        ("tune", MLP, "--base", "64", "--target", "x"),
        ("codegen", "missing.json"),
    ]
    code = (
        "import sys; sys.modules['torch'] = None\nfrom tpcalc.cli import main\n"
        f"for arguments in {bad!r}:\n    try:\n        main(arguments)\n    except SystemExit as stopped:\n"
        "        assert stopped.code == 2\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    said = result.stderr.splitlines()
    assert result.returncode == 0 and len(said) == len(bad), result.stderr
    assert all(line.startswith("error: ") and "torch" not in line for line in said), result.stderr


def test_an_error_that_can_not_be_said_is_told_by_the_exit_code():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tpcalc", "codegen", "missing.json"]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        code = subprocess.run(command, stderr=full, cwd=ROOT, env=buffered)
    assert code.returncode == 2


def test_output_to_a_dash_is_standard_output(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("schema", "table", "-o", "-") == run("schema", "table")
    assert not list(tmp_path.iterdir())


def test_version(run):
    assert run("--version") == (0, f"tpcalc {tpcalc.__version__}\n", "")


def test_a_shell_completes_commands_and_choices(run, monkeypatch):
    for words, position, found in (
        ("tpcalc ta", 1, "table\n"),
        ("tpcalc table x.py:f --gauge s", 4, "symmetric\n"),
        ("tpcalc check --format j", 3, "json\n"),
    ):
        monkeypatch.setenv("_TPCALC_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(position))
        assert run() == (0, found, "")
    monkeypatch.delenv("_TPCALC_COMPLETE")
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))  # whatever runs the tests
    code, out, err = run("--show-completion")
    assert (code, err) == (0, "") and "complete -o default -F _tpcalc_completion tpcalc" in out


def test_doctor(run, monkeypatch):
    code, out, err = run("doctor")
    assert (code, err) == (0, "") and out.endswith("\nok\n")
    assert out.startswith(f"tpcalc {tpcalc.__version__}, Python 3.") and f"{torch.__version__}" in out
    there = metadata.version

    def version(name: str) -> str:
        return "1.2.3" if name == "torch" else there(name)

    monkeypatch.setattr(metadata, "version", version)
    code, out, err = run("doctor")
    assert (code, err) == (1, "") and "too old" in out and '  - pip install --upgrade "torch>=2.4"\n' in out
    assert out.endswith("\nFAIL: tpcalc needs more than there is\n")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schema(run, name, tmp_path):
    code, out, err = run("schema", name)
    assert (code, err) == (0, "") and json.loads(out) == schema(name)
    assert run("schema", name, "-o", str(tmp_path / "schema.json"))[0] == 0
    assert (tmp_path / "schema.json").read_text() == out


def test_debug_shows_the_traceback(run):
    code, out, err = run("table", "missing.py:gpt", "--debug")
    assert (code, out) == (2, "")
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: no file missing.py")


def test_a_bug_of_ours_is_one_sentence_too(run, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(cli.rules, "traced", broken)
    code, out, err = run("trace", MLP)
    assert (code, out) == (2, "")
    assert err == "error: internal error: ZeroDivisionError: two lines (rerun with --debug to see where)\n"


def test_table_lists_every_weight(run):
    code, out, err = run("table", GPT, *WIDTHS)
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines() if ".weight" in line or ".bias" in line]
    assert {"token.weight", "blocks.*.attn.q.weight", "blocks.*.mlp.fc.bias", "head.weight"} <= set(names)
    assert "traced at 64, 128, 256" in out


def test_table_formats_agree(run):
    document = json.loads(run("table", GPT, *WIDTHS, "--format", "json")[1])
    jsonschema.validate(document, schema("table"))
    rows = list(csv.DictReader(io.StringIO(run("table", GPT, *WIDTHS, "--format", "csv")[1])))
    assert [row["name"] for row in rows] == [weight["name"] for weight in document["weights"]]
    for row, weight in zip(rows, document["weights"], strict=True):
        assert all(row[key] == (weight[key] or "") for key in ("role", "a", "b", "c", "weight_decay", "eps", "reason"))
    assert "| `head.weight` | `[96, n]` | output |" in run("table", GPT, *WIDTHS, "--format", "markdown")[1]
    assert r"\texttt{head.weight} & \texttt{[96, n]} & output &" in run("table", GPT, *WIDTHS, "--format", "latex")[1]


def test_table_is_maximal_update(run):
    """The exponents of muP for Adam, from the shell."""
    document = json.loads(run("table", GPT, *WIDTHS, "--format", "json")[1])
    found = {weight["name"]: (weight["b"], weight["c"]) for weight in document["weights"]}
    assert found["token.weight"] == ("0", "0")
    assert found["blocks.1.attn.q.weight"] == ("1/2", "1")
    assert found["blocks.1.mlp.proj.weight"] == ("1/2", "1")
    assert found["head.weight"] == ("1", "1")
    assert found["norm.weight"] == ("0", "0")


def test_optimizer_is_passed_on(run):
    document = json.loads(run("table", MLP, *WIDTHS, "--format", "json", "--optimizer", "sgd")[1])
    found = {weight["name"]: (weight["b"], weight["c"], weight["eps"]) for weight in document["weights"]}
    assert document["optimizer"] == "sgd"
    assert found["input.weight"] == ("0", "-1", None)
    assert found["hidden.weight"] == ("1/2", "0", None)
    assert found["output.weight"] == ("1", "1", None)


def test_trace_formats(run):
    code, out, err = run("trace", MLP, *WIDTHS)
    assert (code, err) == (0, "")
    assert "hidden.weight : M[n, n] = weight[n, n]" in out and "mlp.py:" in out
    assert run("trace", MLP, *WIDTHS, "--format", "dot")[1].startswith("digraph program {\n")
    document = json.loads(run("trace", MLP, *WIDTHS, "--format", "json")[1])
    assert [weight["name"] for weight in document["weights"]][:2] == ["input.weight", "input.bias"]
    assert len(document["nodes"]) == sum("=" in line and not line.startswith("#") for line in out.splitlines()) - 6


def test_explain_names_weight_and_place(run):
    code, out, err = run("explain", MLP, "output.weight", *WIDTHS)
    assert (code, err) == (0, "")
    assert out.startswith("output.weight") and "mlp.py:" in out and out.endswith("\n")


def test_explain_takes_a_name_as_the_table_prints_it(run):
    printed = run("explain", GPT, "blocks.*.attn.q.weight", *WIDTHS)
    assert printed == run("explain", GPT, "blocks.0.attn.q.weight", *WIDTHS) and printed[0] == 0


def test_a_plugin_may_stand_behind_the_command(run, tmp_path):
    (tmp_path / "first.py").write_text("raise ValueError('loaded')\n")
    for arguments in (("--plugin", "first.py", "table", MLP), ("table", MLP, "--plugin=first.py")):
        arguments = tuple(each.replace("first.py", f"{tmp_path}/first.py") for each in arguments)
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and "importing first.py raised ValueError: loaded (first.py:1)" in err


@pytest.mark.parametrize("arguments", [("--help",), ("table", MLP, *WIDTHS)])
def test_a_full_disk_and_a_closed_output_are_told(arguments):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")

    def on_full_disk() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        cli.main(arguments)

    def on_none() -> None:
        kept, sys.stdout = sys.stdout, None
        try:
            cli.main(arguments)
        finally:
            sys.stdout = kept

    full = forked(on_full_disk, ROOT).wait()
    assert full.returncode == 2 and full.stderr.startswith("error: cannot write") and full.stderr.count("\n") == 1
    assert "No space left on device; write elsewhere, as with -o FILE" in full.stderr
    if arguments[0] != "--help":
        closed = forked(on_none, ROOT).wait()
        assert closed.returncode == 2 and "standard output is closed; write to a file: -o FILE" in closed.stderr


def test_explain_takes_several_scales(run):
    scales = ("--scale", "width=16,32,64", "--scale", "depth=2,3")
    code, out, err = run("explain", STACK, "blocks.1.two.bias", *scales, "--depth-alpha", "1/2")
    assert (code, err) == (0, "")
    assert "\nA: std of W ~ L^-1/2\n" in out and "\n  lr ~ L^-1\n" in out


def test_check_takes_several_scales(run):
    options = ("--scale", "width=32", "--scale", "depth=2,4,8", "--seeds", "1", "--steps", "2")
    code, out, err = run("check", STACK, *options, "--parametrization", "standard", "--format", "json")
    document = json.loads(out)
    (ray,) = document["rays"]
    assert (code, err, document["ok"], ray["scale"], ray["base"]) == (1, "", False, "depth", {"width": 32, "depth": 2})
    code, out, err = run("check", STACK, *options)
    assert (code, err) == (0, "") and out.startswith(
        "Check of the derived parametrization with adamw: depth 2, 4, 8 at"
    )


def test_loss_is_used(run, model_file, tmp_path):
    target = model_file("return nn.Linear(8, width), (torch.ones(2, 8),)")
    (tmp_path / "own_loss.py").write_text("def total(output):\n    return output.sum()\n")
    without = run("trace", target, *WIDTHS)
    code, out, err = run("trace", target, *WIDTHS, "--loss", f"{tmp_path / 'own_loss.py'}:total")
    assert (code, err) == (0, "")
    assert " = sum(" in out and out != without[1]


def test_hugging_face_target_with_overrides(run):
    small = ("--set", "n_layer=2", "--set", "vocab_size=96", "--format", "json")
    code, out, err = run("table", "hf:gpt2", *small)
    assert (code, err) == (0, "")
    weights = {weight["name"]: weight for weight in json.loads(out)["weights"]}
    assert "transformer.h.1.attn.c_attn.weight" in weights and "transformer.h.2.attn.c_attn.weight" not in weights
    assert weights["transformer.wte.weight"]["shape"] == ["96", "n"]
    assert weights["lm_head.weight"]["tied_to"] == "transformer.wte.weight"


def test_scale_of_a_hugging_face_target(run):
    """Growing heads under 1/sqrt(d) change the rule of the queries; more heads do not."""
    found = {}
    for scale in ("heads=2,4,8", "head_dim=8,16,32"):
        code, out, err = run("table", "hf:llama", "--scale", scale, "--set", "num_hidden_layers=1", "--format", "json")
        assert (code, err) == (0, "")
        weights = {weight["name"]: weight for weight in json.loads(out)["weights"]}
        found[scale] = weights["model.layers.0.self_attn.q_proj.weight"]["b"]
    assert found == {"heads=2,4,8": {"h": "1/2"}, "head_dim=8,16,32": {"d": "1"}}


@pytest.mark.parametrize("text, value", [("2", "2"), ("", ""), ("a=b", "a=b"), ("[1, 2]", "[1, 2]")])
def test_values_of_set(text, value):
    assert parse_overrides([f"field={text}"]) == {"field": value}


def test_output_file_holds_what_would_be_printed(run, tmp_path):
    path = tmp_path / "table.md"
    arguments = ("table", MLP, *WIDTHS, "--format", "markdown")
    printed = run(*arguments)[1]
    assert run(*arguments, "-o", str(path)) == (0, "", "")
    assert path.read_text() == printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.md"]


def test_output_replaces_a_file_and_keeps_its_mode(run, tmp_path):
    path, link = tmp_path / "table.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    assert run("table", MLP, *WIDTHS, "-o", str(link))[0] == 0
    assert link.is_symlink() and "hidden.weight" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_output_survives_a_failure(run, tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")
    assert run("table", GPT + "x", "-o", str(path))[0] == 2
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_output_to_a_device(run):
    assert run("table", MLP, *WIDTHS, "-o", "/dev/null") == (0, "", "")
    assert Path("/dev/null").is_char_device()


def test_prints_and_warnings_of_a_model_do_not_reach_the_output(run, model_file):
    noisy = model_file(
        "print('NOISE')\nwarnings.warn('WARNING')\nlogging.warning('LOGGED')\n"
        "return nn.Linear(width, 4), (torch.ones(2, width),)"
    )
    code, out, err = run("table", noisy, *WIDTHS)
    assert code == 0 and "NOISE" not in out and "weight" in out
    assert "WARNING" not in out + err and "LOGGED" not in out + err


def test_a_failing_model_names_the_line(run, model_file):
    code, out, err = run("table", model_file("size = width\nraise ValueError('odd\\nsize')"), *WIDTHS)
    assert (code, out) == (2, "")
    assert "ValueError" in err and "own_model.py:5" in err and err.count("\n") == 1


#: Several commands in one process, and the exit code of each.
COMMANDS = f"""
from tpcalc.cli import main
for command in ("table", GPT), ("trace", GPT), ("explain", GPT, "head.weight"):
    try:
        main((*command, *{WIDTHS}))
    except SystemExit as stopped:
        print(command[0], stopped.code)
""".replace("GPT", repr(GPT))


@pytest.mark.slow  # of an export in tests/scaling/test_result.py
def test_same_bytes_whatever_the_terminal():
    def printed(**environment: str) -> subprocess.CompletedProcess:
        command, known = [sys.executable, "-c", COMMANDS], os.environ | environment
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=known, timeout=300)

    first = printed(PYTHONHASHSEED="1", COLUMNS="40", TERM="dumb")
    second = printed(PYTHONHASHSEED="2", COLUMNS="200", TERM="xterm-256color", FORCE_COLOR="1")
    ends = [line for line in first.stdout.splitlines() if line in ("table 0", "trace 0", "explain 0")]
    assert ends == ["table 0", "trace 0", "explain 0"], first.stdout + first.stderr
    assert first.stdout == second.stdout
    assert first.stderr == second.stderr == "" and "\x1b" not in first.stdout


def test_a_reader_that_leaves_early_is_no_error():
    command = f"set -o pipefail; {sys.executable} -m tpcalc trace {GPT} --widths 64,128,256 --format json | head -n 1"
    result = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (0, "{\n", "")


def test_a_terminal_without_unicode_is_no_error(model_file):
    target = model_file("m = nn.Module(); m.größe = nn.Linear(width, 4); m.forward = lambda x: m.größe(x)\n"
                        "return m, (torch.ones(2, width),)")  # fmt: skip
    result = spawn("table", target, *WIDTHS, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert r"gr\xf6\xdfe.weight" in result.stdout


# -- sizes of Hugging Face configs ---------------------------------------------------------------------


def test_how_a_config_follows_the_width_is_printed(run):
    pytest.importorskip("transformers")
    code, out, err = run("table", "hf:starcoder2", "--explain-config", "--set", "intermediate_size=8/3*n")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line and line[0] not in " -"}
    assert rows["hidden_size"] == ["3072", "n"] and rows["intermediate_size"] == ["12288", "8/3*n"]
    assert rows["vocab_size"] == ["49152", "fixed"]
    assert "traced at 192, 384, 768, the first widths from 128 on that fit hf:starcoder2" in out
    code, out, err = run("table", GPT, "--explain-config")
    assert (code, out) == (2, "") and err == (
        "error: --explain-config is for hf: targets, and this one has no config; drop it\n"
    )


def test_a_saved_config_is_its_own_base(run, tmp_path):
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 1}
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps({"model_type": "gpt_neox", "vocab_size": 50, **sizes}))
    code, out, err = run("export", f"hf:{saved}", "--target", "256")
    assert code == 0, err
    assert json.loads(out)["scale"]["base"] == 64
    code, out, err = run("export", GPT, "--target", "256")
    assert (code, out) == (2, "")
    assert err == "error: --base is missing: give the width at which the hyperparameters were tuned\n"
