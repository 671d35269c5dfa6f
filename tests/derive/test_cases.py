"""Models that once came out wrong, were refused, or depended on the widths: their rules, at two sets of widths.

Others of their kinds stand beside what was mended: functions of weights in test_functions_of_weights.py, derivatives in
test_derivative.py, fixed numbers and spectral norms in tests/trace/test_fixed.py, branches on random numbers and caches
in tests/trace/record/, packed weights in tests/lower/test_slices.py.
"""

import json

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.cases import acts, inner, kernels, made
from tests.support.command import tpcalc_command

CASES = {**acts.CASES, **inner.CASES, **kernels.CASES, **made.CASES}
FILE = "tests/support/cases/made.py"


@pytest.mark.parametrize("widths", [(64, 128, 256), (48, 96, 144)], ids=["doubled", "others"])
@pytest.mark.parametrize("factory, wanted", CASES.values(), ids=CASES)
def test_a_case_has_its_rules(factory, wanted, widths):
    rules = tpcalc.derive(tpcalc.trace(factory, widths=widths))
    assert {name: (rules[name].b, rules[name].c) for name in wanted} == wanted
    assert not rules.sites and not any(rule.role == "unused" for rule in rules.values())


def test_every_matrix_of_a_case_is_compared():
    for factory, wanted in CASES.values():
        names = {name for name, weight in factory(32)[0].named_parameters() if weight.dim() > 1}
        assert names <= set(wanted)


@pytest.mark.parametrize("clamp", [True, False])
def test_clamped_logits_are_outputs_to_verify(clamp):
    """A clamp far off bounds nothing that trains."""

    def setup(n):
        model, m = acts.Net(n, lambda net, h: net.b(h)), n / 64
        if clamp:
            model.c.register_forward_hook(lambda module, args, out: out.clamp(-30, 30))
        nn.init.normal_(model.a.weight), nn.init.normal_(model.b.weight, std=n**-0.5), nn.init.normal_(model.c.weight)
        rest = [p for p in model.parameters() if p is not model.b.weight]
        groups = [{"params": [model.b.weight], "lr": 1e-3 / m}, {"params": rest, "lr": 1e-3}]
        return model, torch.optim.AdamW(groups, weight_decay=0.0, eps=1e-9 / m), (acts.X,)

    report = tpcalc.verify(setup, (64, 128, 256))
    assert {(finding.kind, finding.weights) for finding in report.errors} == {("explodes", ("c.weight",))}


@pytest.mark.parametrize("steps", [(2.0, "rows"), ("rows", 2.0), ("rows", 1.0), ("rows", 0.5, 2.0)])
def test_rows_with_an_init_of_their_own_are_seen_through_what_scales_all(steps):
    report = tpcalc.verify(made.rows_by_hand(*steps), (64, 128, 256))
    assert report.findings == ()


def test_rows_without_it_fail():
    report = tpcalc.verify(made.rows_by_hand(2.0), (64, 128, 256))
    assert [finding.kind for finding in report.errors] == ["explodes"]


# -- arguments beside arguments by name, through every command --------------------------------------

WIDTHS = ("--widths", "32,64,128")


@pytest.mark.parametrize("function", ["by_name", "by_position_alone", "one_tensor"])
def test_table(function):
    done = tpcalc_command("table", f"{FILE}:{function}", *WIDTHS)
    assert done.returncode == 0 and "c.weight  [10, n]  output  n^-1" in done.stdout


def test_check():
    done = tpcalc_command("check", f"{FILE}:by_name", *WIDTHS, "--seeds", "1", "--steps", "2")
    assert done.returncode in (0, 1) and "slopes compared" in done.stdout, done.stderr
    found = tpcalc.check(made.by_name, widths=(32, 64, 128), seeds=1, steps=2)
    assert len(found.widths) == 3


def test_export():
    done = tpcalc_command("export", f"{FILE}:by_name", "--base", "32", "--target", "128")
    assert done.returncode == 0, done.stderr
    weights = json.loads(done.stdout)["weights"]
    assert json.dumps(weights).count("c.weight") >= 1


def test_verify():
    done = tpcalc_command("verify", f"{FILE}:by_hand", "--widths", "64,128,256")
    assert done.returncode == 0 and "ok" in done.stdout, done.stdout + done.stderr
