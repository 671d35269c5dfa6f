"""``derive`` as users call it: words that mean nothing, and what the documents and the command line make of it."""

from __future__ import annotations

import json

import jsonschema
import pytest

import tpcalc
from tests.support.command import tpcalc_command
from tests.support.models import example, program
from tpcalc.document import schema
from tpcalc.document.table import table_json

MLP = example("mlp.py", "mlp")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"parametrization": "muP"}, "parametrization 'muP' is unknown; choose one of derived, sp, ntp, mfp, mup"),
        (
            {"parametrization": "sp", "alignment": "half"},
            "alignment 'half' is unknown; choose one of full, none, omega",
        ),
        ({"alignment": "half"}, "alignment 'half' is unknown"),
        ({"gauge": "tp5"}, "gauge 'tp5' is unknown; choose one of init, mup, symmetric, ntk, completep"),
        ({"optimizer": "adamm"}, "optimizer 'adamm' has no update law here; did you mean adam"),
        ({"optimizer": "adamw+muon"}, r"can\'t be the second; write muon\+adamw"),
        ({"optimizer": "muon+"}, "is no recipe; write two names"),
        ({"optimizer": 3}, "optimizer 3 is no name and no UpdateLaw"),
    ],
    ids=str,
)
def test_wrong_words(options, message):
    with pytest.raises(tpcalc.DeriveError, match=message):
        tpcalc.derive(program(MLP), **{"optimizer": "adam", **options})


def test_json_holds_what_was_asked():
    for options in ({"parametrization": "sp", "alignment": "none"}, {"gauge": "mup", "optimizer": "muon+adamw"}):
        found = tpcalc.derive(program(MLP), **{"optimizer": "adam", **options})
        document = table_json(found)
        jsonschema.validate(document, schema("table"))
        assert document["gauge"] == found.gauge and document["optimizer"] == found.optimizer
        assert document["parametrization"] == options.get("parametrization", "derived")
        assert document["alignment"] == options.get("alignment", "full")
    by_name = {entry["name"]: entry for entry in document["weights"]}
    assert (by_name["hidden.weight"]["optimizer"], by_name["output.weight"]["optimizer"]) == ("muon", "adamw")
    assert document["clipping"] == {"norm": "0", "dominated_by": ["hidden.weight", "output.bias"]}


def test_command_line():
    run = tpcalc_command(
        "table", "examples/mlp.py:mlp", "--parametrization", "ntp", "--optimizer", "sgd", "--format", "json"
    )
    document = json.loads(run.stdout)
    assert (document["parametrization"], document["gauge"]) == ("ntp", "ntk")
    rows = {e["name"]: (e["a"], e["b"], e["c"]) for e in document["weights"]}
    assert rows["hidden.weight"] == ("1/2", "0", "0")
    run = tpcalc_command("table", "examples/mlp.py:mlp", "--optimizer", "adamm")
    assert run.returncode == 2 and run.stdout == "" and "did you mean adam" in run.stderr
    run = tpcalc_command("table", "examples/mlp.py:mlp", "--gauge", "tp5")
    assert run.returncode == 2 and "tp5" in run.stderr and "see tpcalc table --help" in run.stderr
    run = tpcalc_command("explain", "examples/mlp.py:mlp", "hidden.weight", "--optimizer", "muon+adamw")
    assert "c = C + u = 0" in run.stdout and "muon (Jordan et al. 2024" in run.stdout
    run = tpcalc_command("explain", "examples/mlp.py:mlp", "output.weight", "--gauge", "mup")
    assert "a = 1, b = A - a = 0, gradient g - a = -1" in run.stdout
