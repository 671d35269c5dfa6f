"""``tpcalc report``: one page, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.report.test_terminal import in_terminal
from tests.support.command import tpcalc_command
from tpcalc import cli
from tpcalc.document.page import PageDocument

ROOT = Path(__file__).parents[1]
MLP = "examples/mlp.py:mlp"
SETUP = "examples/by_hand.py:fan_ratio"
WIDTHS = ("--widths", "64,128,256")


def data(text: str) -> dict:
    """The document in a page."""
    parts = dict(re.findall(r'<script type="application/json" id="data-(\w+)">(.*?)</script>', text, re.DOTALL))
    whole = {name: json.loads(own) for name, own in parts.items()}
    return PageDocument.model_validate({**whole.pop("page"), **whole}).data()


def test_everything_on_one_page(tmp_path):
    sweep = tmp_path / "figure"
    sweep.mkdir()
    shutil.copy(ROOT / "docs" / "transfer" / "gpt" / "drift.json", sweep / "transfer.json")
    page = tmp_path / "report.html"
    more = ("--explain", "hidden.weight", "--verify", SETUP, "--check", "--transfer", str(sweep), "--transfer")
    result = tpcalc_command("report", MLP, *WIDTHS, *more, "docs/transfer/resnet/drift.json", "-o", str(page))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    found = data(page.read_text(encoding="utf-8"))
    assert (
        found["target"] == MLP and found["opened"] == ["hidden.weight"] and found["scales"] == {"width": [64, 128, 256]}
    )
    assert found["setup"] == SETUP and [finding["kind"] for finding in found["verify"]["findings"]] == ["explodes"]
    assert found["check"]["compared"] > 20 and found["check"]["widths"] == [64, 128, 256, 512]
    assert [own["name"] for own in found["transfers"]] == [str(sweep), "docs/transfer/resnet/drift.json"]
    assert list(tmp_path.glob("*.html")) == [page] and not list(tmp_path.glob(".*"))


def test_the_page_is_printed_without_a_file():
    result = tpcalc_command("report", MLP, *WIDTHS, "--optimizer", "sgd", "--gauge", "mup")
    found = data(result.stdout)
    assert result.stdout.startswith("<!doctype html>") and result.stdout.endswith("</html>\n")
    assert (found["optimizer"], found["table"]["gauge"], found["verify"], found["check"]) == ("sgd", "mup", None, None)


def test_what_fails_leaves_the_page_that_was_there(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("before")
    result = tpcalc_command("report", MLP, *WIDTHS, "--explain", "no.weight", "-o", str(page))
    assert result.returncode == 2 and result.stderr.startswith("error: the model has no parameter 'no.weight'")
    assert page.read_text() == "before" and [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_several_scales_and_what_is_measured_along_each():
    scales = ("--scale", "width=16,32,64", "--scale", "depth=2,4,8")
    found = data(tpcalc_command("report", "tests/support/stacks.py:pre", *scales, "--check").stdout)
    assert found["table"]["schema"] == "tpcalc/2" and found["scales"]["width"] == [16, 32, 64]
    assert found["check"]["schema"] == "tpcalc.check/2"
    assert [(ray["scale"], ray["check"]["widths"]) for ray in found["check"]["rays"]] == [
        ("width", [16, 32, 64]), ("depth", [2, 4, 8]),
    ]  # fmt: skip


@pytest.mark.parametrize("option, kept", [
    ((), "model.py"), (("--verify", "{}/setup.py:fan_ratio"), "setup.py"),
    (("--transfer", "{}/sweep"), "sweep/transfer.json"),
])  # fmt: skip
def test_what_is_read_is_not_written_over(tmp_path, option, kept):
    shutil.copy(ROOT / "examples" / "mlp.py", tmp_path / "model.py")
    shutil.copy(ROOT / "examples" / "by_hand.py", tmp_path / "setup.py")
    (tmp_path / "sweep").mkdir()
    shutil.copy(ROOT / "docs" / "transfer" / "gpt" / "drift.json", tmp_path / "sweep" / "transfer.json")
    before = (tmp_path / kept).read_bytes()
    given = (f"{tmp_path}/model.py:mlp", *(each.format(tmp_path) for each in option))
    result = tpcalc_command("report", *given, "-o", str(tmp_path / kept))
    assert result.returncode == 2 and result.stdout == "" and (tmp_path / kept).read_bytes() == before
    assert f"{kept}: it is read, for {tmp_path}" in result.stderr and result.stderr.count("\n") == 1


def test_a_page_is_not_printed_on_a_terminal():
    text = in_terminal(lambda: cli.main(["report", MLP]), NO_COLOR="1")
    assert text == "error: a page is nothing to read on a terminal; write it to a file: -o report.html\n"


@pytest.mark.parametrize("broken, sentence", [
    ({"schema": "tpcalc.transfer/9"}, "is no sweep of tpcalc; write it again with tpcalc transfer -o"),
    ({"sizes": 3}, "breaks the schema tpcalc.transfer/1 at sizes"),
])  # fmt: skip
def test_a_sweep_that_is_none(tmp_path, broken, sentence):
    whole = json.loads((ROOT / "docs" / "transfer" / "gpt" / "drift.json").read_text())
    (tmp_path / "transfer.json").write_text(json.dumps({**whole, **broken}))
    result = tpcalc_command("report", MLP, "--transfer", str(tmp_path))
    assert result.returncode == 2 and sentence in result.stderr and result.stderr.count("\n") == 1
