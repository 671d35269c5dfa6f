"""Settings read from set-ups: thresholds, decay beside a rate, set-ups that exit, forwards that leave torch, names."""

from __future__ import annotations

import json
import sys
from functools import partial

import numpy
import pytest
import torch

import tpcalc
from tests.support.command import tpcalc_command
from tests.support.verify_schedules import BASE, LR, Net, groups_of, model_of, right, x_inputs

WIDTHS = (64, 128, 256)


def small_eps(width: int, decay: float = 0.0, **more):
    model, optimizer = right(width, weight_decay=decay, **more)
    return model, optimizer, x_inputs()


# -- numbers that follow no power ----------------------------------------------------------------------


@pytest.mark.parametrize("factors", [(1, 1, 1 / 8), (1, 1 / 4, 1 / 4), (1, 1, 1 / 2), (4, 1, 1), (1, 1 / 2, 1)])
def test_a_threshold_in_a_rule_is_refused_by_name(factors):
    def setup(width):
        model, optimizer, x = small_eps(width)
        optimizer.param_groups[1]["lr"] = LR * dict(zip(WIDTHS, factors))[width]
        return model, optimizer, x

    with pytest.raises(tpcalc.FitError, match=r"the learning rate of hid.weight \(group 1 of AdamW\) is .* at 64"):
        tpcalc.verify(setup, WIDTHS)


@pytest.mark.parametrize(
    "rate", [lambda n: LR * 64 / n, lambda n: LR / (n / 64) + 1e-5 * 64 / n, lambda n: LR / (n + 32)]
)
def test_powers_are_still_read(rate):
    def setup(width):
        model, optimizer, x = small_eps(width)
        optimizer.param_groups[1]["lr"] = rate(width)
        return model, optimizer, x

    assert tpcalc.verify(setup, WIDTHS).weights["hid.weight"].c == 1


@pytest.mark.parametrize("lr", [-1e-3, float("inf"), float("nan")])
def test_a_rate_that_is_none(lr):
    def setup(width):
        model, optimizer, x = small_eps(width)
        optimizer.param_groups[0]["lr"] = lr
        return model, optimizer, x

    with pytest.raises(
        tpcalc.SetupError, match="the learning rate of group 0 of AdamW is .*; give it a number that is"
    ):
        tpcalc.verify(setup, WIDTHS)


# -- decay ---------------------------------------------------------------------------------------------


def test_decay_is_named_beside_a_rate():
    """A rate that becomes n^-1 takes decoupled decay along: it has to become n^1."""
    (finding,) = [
        f for f in tpcalc.verify(partial(small_eps, decay=0.1, hidden=0.0), WIDTHS).findings if f.quantity == "lr"
    ]
    assert finding.message.endswith("multiply its lr by n^(-1), and its weight_decay by n^1")


def test_no_decay_beside_a_rate_without_decay():
    (finding,) = tpcalc.verify(partial(small_eps, hidden=0.0), WIDTHS).findings
    assert "weight_decay" not in finding.message


def test_one_finding_where_rate_and_decay_are_wrong():
    report = tpcalc.verify(partial(small_eps, decay=0.1, hidden=0.5), WIDTHS)
    kinds = {finding.kind: finding for finding in report.findings}
    assert kinds["decay drift"].weights == ("out.weight",)
    assert "and its weight_decay by n^1" in kinds["explodes"].message


def decay_of_its_own(cls: type, powers: tuple[float, float, float]):
    def setup(width):
        model = model_of(width)
        groups = groups_of(model, width)
        for group, power in zip(groups, powers):
            group["weight_decay"] = 0.01 * (width / BASE) ** power
        return model, cls(groups), x_inputs()

    return setup


class Independent(torch.optim.Adam):
    """Adam whose decay is p *= 1 - wd."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["weight_decay"])


@pytest.fixture
def independent():
    law = tpcalc.optimizer("independent_adam", decay="independent", eps="gradient")(lambda w: 0)
    tpcalc.declare_optimizer(law)(Independent)


def test_decay_that_does_not_go_through_the_rate(independent):
    assert tpcalc.verify(decay_of_its_own(Independent, (0, 0, 0)), WIDTHS).findings == ()


@pytest.mark.parametrize("power", [1, -1])
def test_decay_that_does_not_go_through_the_rate_and_drifts(independent, power):
    (finding,) = tpcalc.verify(decay_of_its_own(Independent, (0, power, 0)), WIDTHS).findings
    assert finding.kind == "decay drift" and finding.weights == ("hid.weight",) and finding.needed == 0


def test_the_same_decay_through_the_rate_drifts():
    (finding,) = tpcalc.verify(decay_of_its_own(torch.optim.AdamW, (0, 0, 0)), WIDTHS).findings
    assert finding.kind == "decay drift" and set(finding.weights) == {"hid.weight", "out.weight"}


# -- set-ups that leave ------------------------------------------------------------------------------


def run(*arguments):
    done = tpcalc_command(*arguments)
    return done.returncode, done.stdout, done.stderr


class Unusual(BaseException):
    """No Exception."""


def leaves(how):
    def setup(width):
        how()

    return setup


@pytest.mark.parametrize("code", [3, 0, None, "usage: train.py"])
def test_a_setup_that_exits_is_one_sentence(code):
    with pytest.raises(tpcalc.TargetError, match=r"setup\(64\) called sys.exit\(.*\) \(test_settings.py:\d+\)"):
        tpcalc.verify(leaves(lambda: sys.exit(code)), WIDTHS)


def test_a_setup_that_raises_what_is_no_exception():
    def unusual():
        raise Unusual("stop")

    with pytest.raises(tpcalc.TargetError, match="raised Unusual: stop"):
        tpcalc.verify(leaves(unusual), WIDTHS)


EXITING = """
import argparse, sys
def code(width): sys.exit(0)
def arguments(width): argparse.ArgumentParser().parse_args(["--no"])
def forward(width):
    import torch
    class M(torch.nn.Linear):
        def forward(self, x): sys.exit(0)
    m = M(4, width)
    return m, torch.optim.SGD(m.parameters(), lr=0.1), torch.ones(2, 4)
"""


@pytest.mark.parametrize(
    "verb, name",
    [("verify", "code"), ("table", "code"), ("verify", "arguments"), ("table", "arguments"), ("verify", "forward")],
)
def test_no_exit_of_the_target_is_that_of_the_command(verb, name, tmp_path):
    (tmp_path / "exiting.py").write_text(EXITING)
    code, out, err = run(verb, f"{tmp_path}/exiting.py:{name}")
    told = ("sys.exit(", "SystemExit", "reads the command line (argparse")
    assert code == 2 and out == "" and any(words in err for words in told)


# -- forwards that leave torch -----------------------------------------------------------------------


def with_forward(forward):
    def setup(width):
        model, optimizer = right(width)
        mine = type("Mine", (Net,), {"forward": lambda self, x: forward(super(type(self), self).forward, self, x)})(
            width
        )
        return mine, torch.optim.AdamW(mine.parameters()), x_inputs()

    return setup


@pytest.mark.parametrize(
    "forward",
    [
        lambda rest, self, x: rest(torch.from_numpy(x.detach().numpy() * 2)),
        lambda rest, self, x: rest(torch.as_tensor(numpy.asarray(x.detach()) * 2)),
        lambda rest, self, x: rest(torch.tensor(numpy.tanh((x * 2).detach().cpu().numpy(force=True)))),
        lambda rest, self, x: rest(x) * float(self.hid(self.inp(x)).detach().numpy().mean()),
    ],
)
def test_numpy_in_forward_is_refused_alike_every_time(forward):
    for _ in range(2):
        with pytest.raises(tpcalc.TraceError, match="numpy"):
            tpcalc.verify(with_forward(forward), WIDTHS)


def test_numpy_may_read_what_does_not_follow_from_inputs():
    def forward(rest, self, x):
        return rest(x * torch.from_numpy(torch.arange(1.0, 13.0).numpy()))

    assert tpcalc.verify(with_forward(forward), WIDTHS).how == "fake tensors"


# -- widths and names --------------------------------------------------------------------------------


def test_a_width_that_never_reaches_the_model():
    def setup(width):
        return (*right(64), x_inputs())

    with pytest.raises(tpcalc.TpcalcError, match="nothing in the model grows with the width"):
        tpcalc.verify(setup, WIDTHS)


def test_partials_have_the_name_of_what_they_call():
    assert tpcalc.verify(partial(small_eps, decay=0.0), WIDTHS).name == "small_eps"


NAMED = """
from functools import partial
from tests.support.verify_schedules import lightning, scheduled, asleep
by_partial, by_lambda, by_closure = partial(lightning), lambda width: lightning(width), scheduled(asleep)
"""


@pytest.mark.parametrize("name", ["by_partial", "by_lambda", "by_closure"])
def test_targets_are_named_as_they_are_called(name, tmp_path):
    (tmp_path / "named.py").write_text(NAMED)
    code, out, _ = run("verify", f"{tmp_path}/named.py:{name}", "--widths", "64,128,256")
    assert code == 0 and out.startswith(f"{name} at widths")


# -- strict ------------------------------------------------------------------------------------------


STRICT = """
from functools import partial
from tests.support.verify_schedules import scheduled, schedulers, lightning
warned = scheduled(lambda o, n: schedulers.CosineAnnealingLR(o, T_max=100, eta_min=1e-6))
clean = lightning
"""


@pytest.mark.parametrize("name, strict, code", [("warned", True, 1), ("warned", False, 0), ("clean", True, 0)])
def test_ok_of_the_document_is_that_of_the_exit_code(name, strict, code, tmp_path):
    (tmp_path / "strict.py").write_text(STRICT)
    options = ["--format", "json", "--widths", "64,128,256", *(["--strict"] if strict else [])]
    found, out, _ = run("verify", f"{tmp_path}/strict.py:{name}", *options)
    document = json.loads(out)
    assert found == code and document["ok"] == (code == 0)
    assert document["summary"].startswith("FAIL") == (code == 1)
