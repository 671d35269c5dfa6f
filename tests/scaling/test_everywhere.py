"""Formulas that serve every target: the numbers of an export for each, and nothing else from a file than arithmetic."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

import pytest
import torch
from torch import nn

import tpcalc
from tests.scaling.test_several_scales import FIELDS, factory, feed_forward, ones
from tests.support import stacks
from tests.support.command import tpcalc_command as run
from tests.support.scaled import packed
from tpcalc.errors import ScalingError
from tpcalc.scaling.everywhere import codegen_formulas, expression

pytestmark = pytest.mark.usefixtures("recorded_once")


def everywhere(scaling: tpcalc.Scaling, folder: Any) -> Any:
    """The generated module of formulas, imported as a user would."""
    path = folder / "generated_formulas.py"
    path.write_text(codegen_formulas(scaling), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def rows(multipliers: Any) -> dict[str, Any]:
    return {name: weight for name, (weight, _) in multipliers._table.items()}


#: A factory, the names of its scales, their values at the base and at targets.
WAYS = {
    "gpt": (factory(True, False), "width depth", [(32, 2), (128, 8), (32, 3), (512, 2)]),
    "growing heads": (factory(False, True), "width depth", [(32, 2), (128, 1), (64, 30), (16, 2)]),
    "packed": (packed, "heads head_dim", [(2, 8), (4, 32), (16, 4), (2, 128)]),
    "kink": (feed_forward, "width ffn", [(64, 256), (512, 128), (64, 64), (100, 4000)]),
    "two stacks": (stacks.two_depths, "width encoder decoder", [(16, 2, 2), (32, 5, 1)]),
}


@pytest.mark.parametrize("name", WAYS)
def test_formulas_give_the_numbers_of_every_target(name, tmp_path):
    made, names, places = WAYS[name]
    base, *targets = (dict(zip(names.split(), place)) for place in places)
    code = everywhere(tpcalc.scale(made, base, targets[0]), tmp_path)
    assert ones(rows(code.multipliers(**base)))
    for target in targets:
        found, wanted = rows(code.multipliers(**target)), rows(tpcalc.scale(made, base, target))
        assert found.keys() == wanted.keys()
        for weight, own in wanted.items():
            for field in FIELDS:
                exact, number = getattr(own, field), getattr(found[weight], field)
                assert number == exact or number == pytest.approx(exact, rel=1e-12), (weight, field, target)
            assert found[weight].shape == own.shape and found[weight].optimizer == own.optimizer
            assert found[weight].draw[0] == own.draw[0]
            assert found[weight].draw[1:] == pytest.approx(own.draw[1:], rel=1e-12)
            assert [piece[:3] for piece in found[weight].slices] == [piece[:3] for piece in own.slices]
            assert [piece[3] for piece in found[weight].slices] == pytest.approx([piece[3] for piece in own.slices])


def small(**more: Any) -> tpcalc.Scaling:
    return tpcalc.scale(stacks.pre, {"width": 16, "depth": 2}, {"width": 32, "depth": 3}, **more)


def test_they_train_a_model(tmp_path):
    """Muon and AdamW, of which each has its own weights, at a depth that no export named."""
    code = everywhere(small(optimizer="muon+adamw"), tmp_path)
    model, _ = stacks.pre(64, 7)
    scaling = code.multipliers(width=64, depth=7)
    scaling.init_(model)
    hidden = scaling.param_groups(model, lr=0.02, optimizer="muon")
    others = scaling.param_groups(model, lr=0.01, optimizer="adamw")
    found = [id(p) for group in (*hidden, *others) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    optimizer = torch.optim.AdamW(others)
    model(stacks.points()).square().mean().backward()
    scaling.clip_grad_norm_(model, 1.0)
    scaling.set_lr(optimizer, 0.005)
    optimizer.step()


def test_a_place_that_is_none(tmp_path):
    class Narrow(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.only, self.second = nn.Linear(n, n), nn.Linear(n, n)

        def forward(self, x):
            return x + self.second(torch.tanh(self.only(nn.functional.layer_norm(x, x.shape[-1:]))))

    def alternating(width: int, depth: int):
        kinds = [Narrow(width) if i % 2 else stacks.Block(width) for i in range(depth)]
        return stacks.Stack(width, kinds), stacks.points()

    code = everywhere(tpcalc.scale(alternating, {"width": 16, "depth": 2}, {"width": 32, "depth": 4}), tmp_path)
    names = rows(code.multipliers(width=16, depth=8))
    assert {int(name.split(".")[1]) % 2 for name in names if name.endswith("only.weight")} == {1}
    assert len([name for name in names if name.endswith("two.weight")]) == 4
    with pytest.raises(ValueError, match="depth=5 is no whole number of periods.*choose 4 or 6"):
        code.multipliers(width=16, depth=5)
    with pytest.raises(ValueError, match="width=0 is not a positive whole number"):
        code.multipliers(width=0, depth=4)


def test_where_no_formula_is_exact_none_is_written():
    """A size that is rounded is known where it was traced alone: the numbers of a target stay exact."""

    def rounded(width: int, depth: int):
        model, inputs = stacks.pre(width, depth)
        inner = -(-8 * width // 3) // 32 * 32 + 32
        for block in model.blocks:
            block.one, block.two = nn.Linear(width, inner), nn.Linear(inner, width)
        return model, inputs

    scaling = tpcalc.scale(rounded, {"width": 64, "depth": 2}, {"width": 256, "depth": 4})
    assert scaling["blocks.3.two.weight"].init == pytest.approx(1 / 2)  # the code draws at 1/sqrt(fan_in) by itself
    with pytest.raises(ScalingError, match="no formulas give these multipliers everywhere.*rounded size.*each target"):
        codegen_formulas(scaling)


@pytest.mark.parametrize(
    "text, code",
    [
        ("sqrt(f)*Min(1, sqrt(n)/sqrt(f))/n", "sqrt(f) * min(1.0, sqrt(n) / sqrt(f)) / n"),
        ("n**(-3/2)", "n ** (-3.0 / 2.0)"),
        ("-n + 2", "-n + 2.0"),
    ],
)
def test_formulas_become_code(text, code):
    assert expression(text, frozenset("fn")) == code


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "n.real",
        "n if n else 1",
        "E",
        "n[0]",
        "lambda: n",
        "Max()",
        "sqrt(n, *n)",
        "n; n",
        "",
        "'n'",
        "True",
    ],
)
def test_nothing_but_arithmetic_is_read(text):
    with pytest.raises(ScalingError, match="is no formula of f, n; export again"):
        expression(text, frozenset("fn"))


def test_a_scale_that_is_no_argument_is_refused():
    document = json.loads(json.dumps(small().document))
    for scale in document["scales"]:
        scale["name"] = scale["name"].replace("depth", "d): pass #")
    for key in ("base", "target"):
        document[key] = {name.replace("depth", "d): pass #"): value for name, value in document[key].items()}
    with pytest.raises(ScalingError, match="can't be an argument"):
        codegen_formulas(tpcalc.Scaling(document))


def test_the_command(tmp_path):
    path = tmp_path / "multipliers.json"
    small().save(path)
    done = run("codegen", str(path), "--formulas")
    assert done.returncode == 0 and done.stdout == codegen_formulas(tpcalc.Scaling.load(path))
    tpcalc.scale(lambda width: stacks.pre(width, 2), 16, 32).save(path)
    done = run("codegen", str(path), "--formulas")
    assert done.returncode == 2 and "are of the width alone; formulas need scales by name" in done.stderr
