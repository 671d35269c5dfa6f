"""Tables for the optimizer that a function makes, read by running it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import tpcalc
from tests.support.models import example
from tests.support.probed_setups import LocalMuon
from tpcalc.cli import main
from tpcalc.errors import DeriveError, TargetError
from tpcalc.optimizers import recipe

WIDTHS = (64, 128, 256)
HALF = Fraction(1, 2)
mlp = example("mlp.py", "mlp")


@pytest.fixture(scope="module")
def program():
    return tpcalc.trace(mlp, WIDTHS)


def apart(parameters):
    matrices = [p for p in parameters if p.ndim == 2]
    rest = [p for p in parameters if p.ndim != 2]
    muon = LocalMuon(matrices, lr=0.02, weight_decay=0.1, factor=lambda r, c: 0.2 * max(r, c) ** 0.5)
    return [muon, torch.optim.AdamW(rest, lr=1e-3)]


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), "sgd"),
        (torch.optim.AdamW, "adamw"),
        (lambda ps: torch.optim.Adam(ps, weight_decay=0.1), "adam"),
        (lambda ps: torch.optim.Adafactor(ps), "adafactor"),
        (lambda ps: {"all": torch.optim.RMSprop(ps, weight_decay=0.1)}, "rmsprop"),
    ],
)
def test_the_table_is_that_of_the_name(program, make, named):
    found, wanted = tpcalc.derive(program, make), tpcalc.derive(program, named)
    for name, rule in wanted.items():
        assert (found[name].c, found[name].weight_decay, found[name].eps) == (rule.c, rule.weight_decay, rule.eps)
        assert found[name].optimizer == named


def test_muon_for_matrices_and_adamw_for_the_rest(program):
    rules = tpcalc.derive(program, apart)
    assert [rules[f"{name}.weight"].c for name in ("input", "hidden", "output")] == [0, HALF, 1]
    assert rules["hidden.weight"].optimizer == "muon_match_rms_adamw" and rules["hidden.weight"].weight_decay == HALF
    assert rules["hidden.bias"].optimizer == "adamw" and rules["hidden.bias"].c == 0
    assert rules.optimizer == "apart" and any("known by no name" in note for note in rules.notes)


def test_explained_scaled_and_printed(program):
    assert "muon_match_rms_adamw" in str(tpcalc.explain(program, "hidden.weight", apart))
    scaling = tpcalc.scale(mlp, base=64, target=256, optimizer=apart)
    (hidden,) = (weight for weight in scaling.document["weights"] if weight["name"] == "hidden.weight")
    assert hidden["multipliers"]["lr"] == 0.5 and "hidden.weight" in str(tpcalc.derive(program, apart))


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("import torch\ndef make(params):\n    return torch.optim.SGD(params, lr=0.1)\n")
    (tmp_path / "net.py").write_text(
        "import torch\ndef net(width):\n    return torch.nn.Linear(8, width), (torch.ones(2, 8),)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["table", "net.py:net", "--optimizer", "mine.py:make", "--format", "csv"])
    assert not exit_.value.code and ",sgd" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["table", "net.py:net", "--optimizer", "mine.py:other"])
    assert exit_.value.code == 2 and "mine.py has no callable 'other'" in capsys.readouterr().err


def test_what_is_refused(program):
    with pytest.raises(DeriveError, match=r"bad\(parameters\) raised ValueError: no; it is given a list"):
        tpcalc.derive(program, bad)
    with pytest.raises(DeriveError, match=r"nothing\(parameters\) returned no optimizer"):
        tpcalc.derive(program, nothing)
    with pytest.raises(DeriveError, match=r"no optimizer that vectors makes holds a weight of shape \[64, 24\]"):
        tpcalc.derive(program, vectors)
    with pytest.raises(tpcalc.TpcalcError, match="check trains by update laws and not by apart"):
        tpcalc.check(mlp, WIDTHS, apart)
    with pytest.raises(TargetError):
        recipe("nowhere.py:make")


def bad(parameters):
    raise ValueError("no")


def nothing(parameters):
    return None


def vectors(parameters):
    return torch.optim.SGD([p for p in parameters if p.ndim == 1], lr=0.1)
