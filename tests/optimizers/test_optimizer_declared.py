"""A user's own update law: declared in a few lines, then at work in every use of the calculus."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import example
from tpcalc.cli import main
from tpcalc.errors import DeriveError, SetupError
from tpcalc.optimizers import LAWS, Recipe, UpdateLaw, recipe
from tpcalc.verify.optimizers import DECLARED

HALF = Fraction(1, 2)
WIDTHS = (64, 128, 256)
mlp = example("mlp.py", "mlp")

PAGE = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()
#: The example of the page: a law and the class that follows it; then a net and a setup.
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
MINE = next(block for block in BLOCKS if "@tpcalc.optimizer" in block)
SETUP = """

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.input, self.hidden = torch.nn.Linear(8, width, bias=False), torch.nn.Linear(width, width, bias=False)
        self.output = torch.nn.Linear(width, 4, bias=False)
        self.frozen = torch.nn.Parameter(torch.ones(width), requires_grad=False)
        torch.nn.init.normal_(self.input.weight, std=0.3)
        torch.nn.init.normal_(self.output.weight, std=1 / width)

    def forward(self, x):
        return self.output(torch.relu(self.hidden(torch.relu(self.input(x) * self.frozen))))


def net(width):
    return Net(width), (torch.ones(2, 8),)


def setup(width, hidden=-0.5):
    model, inputs = net(width)
    m = width / 64
    rates = {model.input.weight: m**0.5, model.hidden.weight: m**hidden, model.output.weight: 1 / m}
    groups = [{"params": [p], "lr": 0.01 * rate, "weight_decay": 0.1 / rate} for p, rate in rates.items()]
    return model, SignedRoot(groups), inputs


def wrong(width):
    return setup(width, hidden=-1)
"""


@pytest.fixture
def mine() -> Iterator[dict]:
    """The user's file, run here; the registries are left as they were."""
    laws, declared = dict(LAWS), dict(DECLARED)
    scope: dict = {"__name__": "mine"}
    exec(compile(MINE + SETUP, "mine.py", "exec"), scope)
    yield scope
    for table, before in ((LAWS, laws), (DECLARED, declared)):
        table.clear()
        table.update(before)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Iterator[Callable]:
    """``command(...)`` runs tpcalc in an empty folder and gives exit code, output and errors."""
    laws, declared = dict(LAWS), dict(DECLARED)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        return (exit_.value.code or 0, *capsys.readouterr())

    yield run
    for table, before in ((LAWS, laws), (DECLARED, declared)):
        table.clear()
        table.update(before)


# -- every use ---------------------------------------------------------------------------------------------------


def test_derived(mine):
    rules = tpcalc.derive(tpcalc.trace(mine["net"], WIDTHS), "Signed-Root")
    assert {name: rule.c for name, rule in rules.items()} == {
        "input.weight": -HALF,
        "hidden.weight": HALF,
        "output.weight": 1,
        "frozen": 0,
    }
    assert rules["hidden.weight"].weight_decay == HALF and rules["hidden.weight"].eps is None
    assert isinstance(mine["signed_root"], UpdateLaw) and "signed_root is an example" in rules.notes
    assert rules.conventions == (LAWS["adamw"].decay.convention,)
    beside = tpcalc.derive(tpcalc.trace(mine["net"], WIDTHS), "muon+signed_root")
    assert [beside[f"{name}.weight"].optimizer for name in ("input", "hidden")] == ["signed_root", "muon"]


def test_scaled(mine):
    scaling = tpcalc.scale(mine["net"], base=64, target=256, optimizer="signed_root")
    model, _ = mine["net"](256)
    groups = scaling.param_groups(model, lr=0.01, weight_decay=0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(model.input.weight)] == 0.02 and rates[id(model.hidden.weight)] == 0.005
    assert isinstance(mine["SignedRoot"](groups), torch.optim.Optimizer)


def test_verified(mine):
    report = tpcalc.verify(mine["setup"], WIDTHS)
    assert report.findings == () and report.notes == ("signed_root is an example",)
    (finding,) = tpcalc.verify(mine["wrong"], WIDTHS).findings
    assert finding.weights == ("hidden.weight",) and (finding.found, finding.needed) == (-1, -HALF)


def test_checked(mine):
    result = tpcalc.check(mlp, (64, 128, 256, 512), "signed_root", steps=3, seeds=1, build=mine["SignedRoot"])
    assert result.ok and all(abs(e.slope.value) <= 0.15 for e in result.of("effect")), str(result)
    wrong = UpdateLaw("taken_for_adam", lambda w: 0, LAWS["adamw"].decay, None, "a mistake")
    result = tpcalc.check(mlp, (64, 128, 256, 512), wrong, steps=3, seeds=1, build=mine["SignedRoot"])
    (hidden,) = result.of("effect", "hidden.weight")
    assert hidden.verdict == "below" and abs(hidden.slope.value + 0.5) <= 0.15
    with pytest.raises(tpcalc.TpcalcError, match="cannot train with signed_root: .* build=lambda groups"):
        tpcalc.check(mlp, WIDTHS, "signed_root")


def test_on_the_command_line(command):
    Path("mine.py").write_text(MINE)
    Path("net.py").write_text("import torch\n" + SETUP)
    how = ("net.py:net", "--optimizer", "signed_root")
    code, _, errors = command("table", *how)
    assert code == 2 and "optimizer 'signed_root' has no update law here" in errors
    code, output, errors = command("--plugin", "mine.py", "table", *how, "--format", "csv")
    assert code == 0, errors
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(output))}
    assert [rows[f"{name}.weight"]["c"] for name in ("input", "hidden", "output")] == ["-1/2", "1/2", "1"]
    numbers = ("--base", "64", "--target", "256", "-o", "multipliers.json")
    code, _, errors = command("--plugin", "mine.py", "export", *how, *numbers)
    assert code == 0, errors
    document = json.loads(Path("multipliers.json").read_text())
    (hidden,) = (weight for weight in document["weights"] if weight["name"] == "hidden.weight")
    assert document["optimizer"] == hidden["optimizer"] == "signed_root" and hidden["multipliers"]["lr"] == 0.5


def test_one_file_may_be_plugin_and_target(command):
    Path("mine.py").write_text(MINE + SETUP)
    for arguments in (("table", "mine.py:net", "--optimizer", "signed_root"), ("verify", "mine.py:setup", "--strict")):
        code, output, errors = command("--plugin", "mine.py", *arguments, "--widths", "64,128,256")
        assert code == 0, errors or output
    assert "signed_root is an example" in output


def test_a_plugin_that_takes_a_name_is_one_sentence(command):
    Path("mine.py").write_text(MINE.replace('"signed_root", decay', '"lion", decay'))
    code, _, errors = command("--plugin", "mine.py", "table", "hf:gpt2")
    assert code == 2 and "there is an update law called 'lion' already" in errors and errors.count("\n") == 1


def test_multipliers_need_no_law_to_be_used(mine, command):
    """A file made with one's own law is read where nobody knows that law."""
    tpcalc.scale(mine["net"], base=64, target=256, optimizer="signed_root").save("multipliers.json")
    del LAWS["signed_root"]
    loaded = tpcalc.Scaling.load("multipliers.json")
    assert loaded.param_groups(mine["net"](256)[0], lr=0.01) and "signed_root" in tpcalc.codegen(loaded)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_a_name_that_is_taken(mine):
    with pytest.raises(DeriveError, match="there is an update law called 'adamw' already"):
        tpcalc.optimizer("AdamW")(lambda w: 0)
    with pytest.raises(DeriveError, match="called 'signed_root' already"):
        tpcalc.optimizer("signed-root")(lambda w: 0)
    with pytest.raises(DeriveError, match="cannot be called '2fast'"):
        tpcalc.optimizer("2fast")(lambda w: 0)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            {"decay": "l2"},
            "decay='l2' means nothing here; choose one of 'decoupled', 'independent', 'linear', 'coupled'",
        ),
        ({"eps": "square"}, "eps='square' means nothing here; choose one of 'gradient', 'norm'"),
    ],
)
def test_words_that_mean_nothing(words, message):
    with pytest.raises(DeriveError, match=message):
        tpcalc.optimizer("mine", **words)(lambda w: 0)
    assert "mine" not in LAWS


@pytest.mark.parametrize(
    "name, message",
    [
        ("adamx", "did you mean (adam|adamw|adamax)"),
        ("muno", r"did you mean muon.* choose one of .*adam, .* a recipe such as muon\+adamw, or declare your own"),
        ("adamw+muon", r"muon trains matrices only, and so can't be the second; write muon\+adamw"),
        ("sgd+muon_spectral", r"can\'t be the second; write muon_spectral\+sgd"),
        ("muon+adamw+sgd", r"'muon\+adamw\+sgd' is no recipe; write two names"),
        ("muon+", "is no recipe; write two names"),
        ("+adamw", "is no recipe; write two names"),
        ("muon+adamx", "optimizer 'adamx' has no update law"),
        (3, "optimizer 3 is no name and no UpdateLaw"),
    ],
)
def test_names_that_are_no_optimizer(name, message):
    with pytest.raises(DeriveError, match=message):
        recipe(name)


@pytest.mark.parametrize(
    "rough, words",
    [
        (lambda w: -0.5, "gives -0.5 for an order"),
        (lambda w: float(w.gradient) / 2, "gives .*0.. for an order"),
        (lambda w: w.gradient * 0.5, r"gives no exact order \(unsupported operand .* 'float'\)"),
        (lambda w: max(w.gradient, 0.5), r"gives no exact order \(.* 'float' and .*\)"),
    ],
)
def test_a_law_must_be_exact(rough, words):
    law = UpdateLaw("rough", rough, LAWS["adamw"].decay, None, "a mistake")
    with pytest.raises(DeriveError, match=f"the update law 'rough' {words}; return an exact one"):
        tpcalc.derive(tpcalc.trace(mlp, WIDTHS), law)


def test_a_class_without_a_law_is_told_how_to_declare_one(mine):
    class Mine(mine["SignedRoot"]):
        def step(self):
            raise NotImplementedError

    def setup(width):
        model = nn.Linear(8, width)
        return model, Mine(model.parameters()), torch.ones(2, 8)

    with pytest.raises(SetupError, match=r'has no update law here; .* tpcalc\.declare_optimizer\("[.]{3}"\)\(Mine\)'):
        tpcalc.verify(setup, WIDTHS)
    with pytest.raises(SetupError, match="'signed_rot' is no update law: .* did you mean signed_root"):
        tpcalc.declare_optimizer("signed_rot")


def test_recipes_in_python(mine):
    """Any two laws, also one's own that nobody named."""
    how = Recipe(mine["signed_root"], LAWS["shampoo"])
    rules = tpcalc.derive(tpcalc.trace(mine["net"], WIDTHS), how)
    assert how.name == "shampoo+signed_root" and rules["hidden.weight"].c == 0 and rules["input.weight"].c == -HALF
