"""Ops without a rule, rules from the user's own file, and precise refusals."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.forked import forked
from tests.support.typed import typed
from tpcalc import cli
from tpcalc.algebra.size import Size
from tpcalc.errors import UnsupportedOpError
from tpcalc.program.ir import Node, Ref, Value
from tpcalc.rules import REGISTRY, Registry, axes, rule
from tpcalc.rules.structures import LinearLike, Power, View

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text()
WIDTHS = ("--widths", "64,128,256")


#: The examples of the page.
EXAMPLE, DECLARED = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)


@pytest.fixture
def registered():
    """Leave the rules as they were."""
    rules, ignored = dict(REGISTRY.rules), dict(REGISTRY.ignored)
    yield
    for table, before in ((REGISTRY.rules, rules), (REGISTRY.ignored, ignored)):
        table.clear()
        table.update(before)


def spawn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """In a fork, as its ops are to be unknown here: torch does not stand it well that one is registered a second time
    (models that had the first one end by lost tensors, or by signal 11)."""
    return forked(lambda: sys.exit(typed("tpcalc", arguments, sys.stdout, sys.stderr)), cwd).wait()


def test_the_documented_example_runs(tmp_path):
    (tmp_path / "model.py").write_text(EXAMPLE)
    command = next(line for line in PAGE.splitlines() if line.startswith("tpcalc table model.py"))
    found = spawn(*command.split()[1:], *WIDTHS, "--format", "csv", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    rows = {line.split(",")[0]: line for line in found.stdout.splitlines()}
    for name in ("gate.weight", "up.weight", "down.weight"):
        assert "hidden" in rows[name] and "1/2" in rows[name]
    assert "output" in rows["out.weight"]


def test_without_its_rule_the_message_names_op_module_line_and_decorator(tmp_path):
    """The very message that the page shows, up to names and lines."""
    source = EXAMPLE
    start, end = source.index("@tpcalc.rule"), source.index("class MLP")
    (tmp_path / "model.py").write_text(source[:start] + source[end:])
    found = spawn("table", "model.py:mlp", *WIDTHS, cwd=tmp_path)
    line = (tmp_path / "model.py").read_text().splitlines().index(
        "        return self.out(x + self.down(swiglu(self.gate(x), self.up(x))))"
    ) + 1
    assert found.returncode == 2
    assert found.stderr.strip().endswith(
        f"op shop.swiglu.default has no rule (module (top), line model.py:{line}); "
        f'add one with @tpcalc.rule("shop.swiglu") in your own file'
    )


def test_the_backward_of_an_op_needs_its_rule_too(tmp_path):
    source = EXAMPLE
    start, end = source.index('@tpcalc.rule("shop.swiglu_backward")'), source.index("class MLP")
    (tmp_path / "model.py").write_text(source[:start] + source[end:])
    found = spawn("table", "model.py:mlp", *WIDTHS, cwd=tmp_path)
    assert found.returncode == 2 and '@tpcalc.rule("shop.swiglu_backward")' in found.stderr


#: A user's file: an elementwise op, a view and a matmul, each with one line.  ``plain``: the same model in torch alone.
FUSED = '''
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tpcalc.rules.structures import Contract, LinearLike, Product, Slope, View


def op(name, forward, backward, fake):
    """An op and its backward op."""
    made = torch.library.custom_op(f"own::{name}", forward, mutates_args=())
    made.register_fake(fake)
    back = torch.library.custom_op(f"own::{name}_backward", backward, mutates_args=())
    back.register_fake(lambda grad, *xs: tuple(map(torch.empty_like, xs)) if len(xs) > 1 else torch.empty_like(*xs))
    save = lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
    made.register_autograd(lambda ctx, grad: back(grad.contiguous(), *ctx.saved_tensors), setup_context=save)
    return made


def act(x: Tensor) -> Tensor:
    return F.mish(x)

def act_backward(grad: Tensor, x: Tensor) -> Tensor:
    s = F.softplus(x).tanh()
    return grad * (s + x * x.sigmoid() * (1 - s * s))

def heads(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1, 16).clone()

def heads_backward(grad: Tensor, x: Tensor) -> Tensor:
    return grad.reshape(x.shape).clone()

def mix(x: Tensor, w: Tensor) -> Tensor:
    return x @ w

def mix_backward(grad: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return grad @ w.T, x.T @ grad

OWN = {
    "act": op("act", act, act_backward, torch.empty_like),
    "heads": op("heads", heads, heads_backward, lambda x: x.new_empty(len(x), x.shape[1] // 16, 16)),
    "mix": op("mix", mix, mix_backward, lambda x, w: x.new_empty(len(x), w.shape[1])),
}
PLAIN = {"act": act, "heads": heads, "mix": mix}


@tpcalc.rule("own.act")
def act_rule(call):
    return LinearLike(call[0])

@tpcalc.rule("own.act_backward")
def act_backward_rule(call):
    return Product(call[0], Slope(call[1]))

@tpcalc.rule("own.heads", "own.heads_backward")
def heads_rule(call):
    return View(call[0])

@tpcalc.rule("own.mix")
def mix_rule(call):
    return Contract(call[0], call[1], K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(1, -1))

@tpcalc.rule("own.mix_backward")
def mix_backward_rule(call):
    grad, x, w = call[0], call[1], call[2]
    dx = Contract(grad, w, K=call.growth(0, -1), rest_x=call.growth(0, -2), rest_y=call.growth(2, -2))
    return dx, Contract(x, grad, K=call.growth(1, -2), rest_x=call.growth(1, -1), rest_y=call.growth(0, -1))


class Model(nn.Module):
    def __init__(self, n: int, ops):
        super().__init__()
        self.ops = ops
        self.enter, self.out, self.side = nn.Linear(8, n), nn.Linear(n, 4), nn.Linear(32, 4)
        self.packed = nn.Parameter(torch.randn(n, n + 32) * n**-0.5)
        self.wide = nn.Parameter(torch.randn(n, 8 * n // 3 // 16 * 16 + 16) * n**-0.5)
        self.back = nn.Parameter(torch.randn(8 * n // 3 // 16 * 16 + 16, n) * n**-0.5)

    def forward(self, x: Tensor):
        act, heads, mix = (self.ops[name] for name in ("act", "heads", "mix"))
        y = heads(act(mix(self.enter(x), self.packed)))
        h = mix(act(mix(y[:, :-2].flatten(1), self.wide)), self.back)
        return self.out(h) + self.side(y[:, -2:].flatten(1))


def own(n: int):
    return Model(n, OWN), (torch.randn(3, 8),)


def plain(n: int):
    return Model(n, PLAIN), (torch.randn(3, 8),)


def setup(n: int):
    model, inputs = own(n)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3), inputs
'''


WIDE = ("--widths", "96,192,384")
BETWEEN = (*WIDE, "--base", "96", "--target", "384", "-o")
COMMANDS = {
    "table own": ("table", "model.py:own", *WIDE),
    "table plain": ("table", "model.py:plain", *WIDE),
    "export own": ("export", "model.py:own", *BETWEEN, "own.json"),
    "export plain": ("export", "model.py:plain", *BETWEEN, "plain.json"),
    "explain": ("explain", "model.py:own", "packed", *WIDE),
    "verify": ("verify", "model.py:setup", *WIDE),
    "check": ("check", "model.py:own", "--widths", "32,64,128"),
}


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """What each command says of the file, and the exported documents."""
    folder = tmp_path_factory.mktemp("fused")
    (folder / "model.py").write_text(FUSED)

    def each() -> None:
        """In one process, in which the file runs once."""
        said = {}
        for name, arguments in COMMANDS.items():
            output = io.StringIO()
            said[name] = typed("tpcalc", arguments, output, output), output.getvalue()
        Path("said.json").write_text(json.dumps(said))

    found = forked(each, folder).wait()
    assert found.returncode == 0, found.stderr
    said = json.loads((folder / "said.json").read_text())
    for name, (code, output) in said.items():
        assert code == (1 if name == "verify" else 0), (name, output)
    documents = {name: (folder / f"{name}.json").read_text() for name in ("own", "plain")}
    return {**{name: output for name, (_, output) in said.items()}, **documents}


def test_one_line_an_op_gives_all_that_torch_ops_have(fused):
    """Table with slices, and exported multipliers, to the last digit."""
    table = fused["table own"]
    assert table == fused["table plain"]
    assert "packed[:, 0 : n]: init std n^-1/2, lr n^-1 (hidden)" in table
    assert "packed[:, n : n + 32]: init std n^-1, lr n^-1 (output)" in table and "gradients of" not in table
    assert fused["own"] == fused["plain"]
    lr = {weight["name"]: weight["multipliers"]["lr"] for weight in json.loads(fused["own"])["weights"]}
    assert lr["wide"] == 96 / 384 and lr["back"] == pytest.approx(272 / 1040)  # of the true sizes


def test_ops_of_a_file_are_explained_verified_and_checked(fused):
    assert "a part of own.mix inside h12" in fused["explain"]
    assert "one update makes h12 (own.mix), which enters a nonlinearity, grow like n^1 after step 1" in fused["verify"]
    assert "\nok (tolerance" in fused["check"]


def test_rules_in_a_file_of_their_own(tmp_path):
    source = EXAMPLE
    start, end = source.index("@tpcalc.rule"), source.index("class MLP")
    head = "import tpcalc\nfrom tpcalc.rules.structures import LinearLike, Product, Slope\n\n"
    (tmp_path / "model.py").write_text(source[:start] + source[end:])
    (tmp_path / "my_rules.py").write_text(head + source[start:end])
    found = spawn("--plugin", "my_rules.py", "table", "model.py:mlp", *WIDTHS, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "gate.weight" in found.stdout


def test_a_plugin_that_is_missing_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--plugin", "nowhere.py", "table", "hf:gpt2"])
    captured = capsys.readouterr()
    assert exit_.value.code == 2 and "no file nowhere.py" in captured.err and "Traceback" not in captured.err


def test_a_second_rule_is_refused_but_the_same_file_may_be_imported_twice(registered):
    registry = Registry({}, {})
    code = "def relu(call):\n    return None\n"
    functions = []
    for _ in range(2):
        scope: dict = {}
        exec(compile(code, "user.py", "exec"), scope)
        functions.append(scope["relu"])
    rule("my.relu", registry=registry)(functions[0])
    rule("my.relu", registry=registry)(functions[1])
    with pytest.raises(ValueError, match="my.relu already has a rule"):
        rule("my.relu", registry=registry)(lambda call: None)
    with pytest.raises(ValueError, match="aten.relu already has a rule"):
        tpcalc.rule("aten.relu")(lambda call: View(call[0]))


def squared(n):
    return nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 4)), (torch.randn(3, 8),)


def test_a_more_specific_name_wins(registered):
    """One overload of a shipped rule replaced: relu taken for a square."""
    seen = []

    @tpcalc.rule("aten.relu.default")
    def mine(call):
        seen.append(call.node.module)
        return Power(call[0], 2)

    tpcalc.derive(tpcalc.trace(squared, (64, 128, 256)))
    assert seen and set(seen) == {"1"}


def test_an_ignored_op_needs_a_reason(registered):
    with pytest.raises(ValueError, match="reason"):
        tpcalc.ignore("my.log", reason="")
    tpcalc.ignore("my.log", reason="writes to a log")
    with pytest.raises(ValueError, match="already"):
        tpcalc.rule("my.log")(lambda call: LinearLike(call[0]))


def test_a_product_over_a_growing_axis_is_refused():
    class Model(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.enter, self.out = nn.Linear(8, n), nn.Linear(n, 4)

        def forward(self, x):
            return self.out(torch.sigmoid(self.enter(x)).cumprod(dim=-1))

    with pytest.raises(
        UnsupportedOpError,
        match=r"op aten.cumprod.default multiplies over an axis that grows .*test_plugins.py:\d+.*; sum logarithms",
    ):
        tpcalc.derive(tpcalc.trace(lambda n: (Model(n), (torch.randn(3, 8),)), (64, 128, 256)))


def test_every_structure_is_documented():
    from tpcalc.rules import structures

    names = {
        name
        for name, kind in vars(structures).items()
        if isinstance(kind, type) and issubclass(kind, structures.Structure)
    }
    assert not [name for name in names - {"Structure"} if f"`{name}(" not in PAGE and f", `{name}(" not in PAGE]


def test_the_documented_axes_run(registered):
    exec(compile(DECLARED, "page.py", "exec"), {})
    values = {i: Value(i, (Size.linear(1), Size.linear(4)), "float32") for i in range(2)}
    layout = REGISTRY.layout(Node(0, "shop.reverse.default", (Ref(0), -1), (), (1,)), values)
    assert layout.results == ((2, None),)


def test_every_declaration_of_axes_is_documented():
    names = {name for name, kind in vars(axes).items() if isinstance(kind, type) and issubclass(kind, axes.Axes)}
    assert not [name for name in names - {"Axes"} if f"`{name}(" not in PAGE]
