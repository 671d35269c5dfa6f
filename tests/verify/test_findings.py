"""The report as text, JSON and annotations, and the exit codes of the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import verify_setups as setups
from tests.support.verify_reports import report_of
from tpcalc.cli import main
from tpcalc.report.verify import report_github
from tpcalc.verify import verify


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
    arguments = [sys.executable, "-m", "tpcalc", "verify", SETUPS + ":standard_adamw", "--widths", "64,128,256"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.strip() == str(report_of(setups.standard_adamw)), done.stderr


class OwnAdam(torch.optim.AdamW):
    """An optimizer of the user's own: the line that counts is the one that makes it."""

    def __init__(self, params, **options):
        super().__init__(params, **options)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, OwnAdam])
def test_a_finding_names_the_group_and_the_line_that_made_its_optimizer(kind):
    def setup(width):
        model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 4))
        groups = [{"params": [*model[0].parameters(), *model[3].parameters()]}, {"params": model[2].parameters()}]
        return model, kind(groups, lr=1e-3)

    findings = verify(setup, (64, 128, 256)).findings
    line = setup.__code__.co_firstlineno + 3
    told = {finding.subject: finding.trained_by for finding in findings if finding.quantity == "lr"}
    assert told["2.weight"] == f"group 1 of {kind.__name__}, test_findings.py:{line}", findings
    assert all(finding.trained_by == "" for finding in findings if finding.quantity == "init std")
