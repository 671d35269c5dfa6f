"""verify judges an optimizer by what its steps do, whatever it is called."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import probed_setups as setups
from tests.support.probed_setups import BASE, LARS, Base, Net, X, adam, parts
from tpcalc.verify.optimizers import DECLARED

WIDTHS = (64, 128, 256)
HALF = Fraction(1, 2)
HIDDEN = {"h1.weight", "h2.weight"}


@pytest.fixture(autouse=True)
def registry():
    before = dict(DECLARED)
    yield
    DECLARED.clear()
    DECLARED.update(before)


def found(setup, **options):
    """Weight -> {kind: (found, needed)} of a setup, and its report."""
    report = tpcalc.verify(setup, WIDTHS, **options)
    table: dict = {}
    for finding in report.findings:
        for name in finding.weights:
            table.setdefault(name, {})[finding.kind] = (finding.found, finding.needed)
    return table, report


# -- names that are not what they say ----------------------------------------------------------------------


def test_lamb_without_decay_is_adam():
    table, report = found(setups.lamb_without_decay)
    assert {name: own["explodes"] for name, own in table.items()} == {
        "h1.weight": (-HALF, -1),
        "h2.weight": (-HALF, -1),
        "out.weight": (0, -1),
    }
    (note,) = report.notes
    assert "probed_setups.Lamb is not the lamb that it is taken by its name for" in note
    assert "[n, n]" in note and "[1, n]" in note and "~ n^0: the law of adamw" in note


def test_lamb_with_decay_is_lamb():
    def lamb(n):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        nn.init.constant_(model.n1.bias, 0.1), nn.init.constant_(model.n2.bias, 0.1)
        groups = [{"params": h, "lr": 1e-2 * m**-0.5, "weight_decay": 0.1 * m**0.5}]
        groups += [{"params": r, "lr": 1e-2, "weight_decay": 0.1}, {"params": o, "lr": 1e-2, "weight_decay": 0.1 * m}]
        return model, setups.Lamb(groups), (X,)

    table, report = found(lamb)
    assert table == {} and not any("is not" in note for note in report.notes)


def test_lars_takes_vectors_as_sgd_does():
    table, report = found(setups.lars_vectors)
    vectors = {f"{name}.bias" for name in ("inp", "n1", "h1", "n2", "h2")} | {"n1.weight", "n2.weight"}
    assert set(table) == vectors | {"inp.weight"} - {"inp.weight"}
    assert all((0, 1) in own.values() for own in table.values())
    assert any("LARS is not the lars" in note and "weights [n], " in note for note in report.notes)


@pytest.mark.parametrize(
    "setup, drifts",
    [
        (setups.lion_fixed_right, {}),
        (setups.lion_fixed_wrong, {name: (1, 0) for name in (*HIDDEN, "out.weight")}),
        (lambda n: setups.lion(n, 1), {}),
    ],
)
def test_lion_by_how_decay_enters(setup, drifts):
    table, _ = found(setup)
    assert {name: own["decay drift"] for name, own in table.items()} == drifts


def test_lion_with_decay_in_the_gradient():
    table, report = found(setups.lion_coupled)
    assert table["h1.weight"] == {"decay drift": (1, -HALF)} and "out.weight" not in table
    assert any("Lion is not quite the lion" in note and "enters the gradient" in note for note in report.notes)


def test_decay_over_the_first_rate_is_constant():
    table, report = found(setups.independent_decay)
    assert table == {} and report.regime == "maximal"
    tpcalc.declare_optimizer("adamw")(setups.DecoupledAdamW)
    table, report = found(setups.independent_decay)
    assert table == {} and any("not quite the adamw that it is declared as" in note for note in report.notes)


# -- Muons --------------------------------------------------------------------------------------------------


def test_muon_with_a_fallback():
    assert found(setups.muon_fallback)[0] == {} == found(setups.muon_ratio)[0]


def test_muon_on_filters():
    table, report = found(setups.muon_filters)
    assert table == {"stem.weight": {"not maximal": (0, HALF)}}
    table, report = found(setups.muon_conv1d)
    assert table == {"mid.weight": {"explodes": (0, -1)}} and not report.ok
    assert found(setups.muon_experts)[0] == {}


@pytest.mark.parametrize(
    "factor, right",
    [
        (lambda r, c: 0.2 * max(r, c) ** 0.5, -0.5),
        (lambda r, c: (r / c) ** 0.5, 0.0),
        (lambda r, c: 1.0, 0.0),
        (lambda r, c: (r * c) ** 0.5, -1.0),
        (lambda r, c: r**-0.5, 0.5),
    ],
)
def test_a_local_muon_of_any_factor(factor, right):
    assert found(lambda n: setups.local_muon(n, right, factor))[0] == {}
    table, _ = found(lambda n: setups.local_muon(n, right + 0.5, factor))
    assert set(table) == HIDDEN and all("explodes" in own for own in table.values())


# -- what nobody named ----------------------------------------------------------------------------------------


class Rooted(Base):
    """Square roots of gradients."""

    def one(self, p, g, s, group):
        p.sub_(g.sign() * g.abs().sqrt(), alpha=group["lr"])


def test_a_class_without_a_name_is_measured():
    def rooted(n, off=0.0):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        groups = [{"params": h, "lr": m ** (off - 0.5)}, {"params": r, "lr": m**0.5}, {"params": o, "lr": 1 / m}]
        return model, Rooted(groups), (X,)

    table, report = found(rooted)
    assert table == {} and "known by no name" in report.notes[0] and "~ gradient^1/2" in report.notes[0]
    assert set(found(lambda n: rooted(n, 0.5))[0]) == HIDDEN


def test_a_wrong_declaration_gives_way():
    class Mine(Rooted):
        pass

    tpcalc.declare_optimizer("sgd")(Mine)
    model = nn.Linear(8, 8)
    _, report = found(lambda n: (model_of(n), Mine(held.pop().parameters(), lr=1e-2), torch.ones(2, 8)))
    assert any("Mine is not the sgd that it is declared as" in note for note in report.notes), model


held: list = []


def model_of(n):
    held.append(nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 4)))
    return held[-1]


def test_what_starts_at_zero_under_a_strictly_relative_law_never_moves():
    class Strict(Base):
        def one(self, p, g, s, group):
            p.sub_(g * (p.norm() / (g.norm() + 1e-30)), alpha=group["lr"])

    def zero(n):
        model, m = Net(n), n / BASE
        nn.init.zeros_(model.out.weight)
        h, r, o = parts(model)
        rest = torch.optim.AdamW([{"params": h, "lr": 1e-2 / m}, {"params": r, "lr": 1e-2}], eps=1e-30)
        return model, [Strict(o, lr=0.1), rest], (X,)

    table, report = found(zero)
    assert "frozen" in table["out.weight"] and "it starts at zero" in str(report)


# -- other options that change with the width -----------------------------------------------------------------


class Scaled(Base):
    """AdamW whose groups have a factor of their own beside the rate."""

    def one(self, p, g, s, group):
        p.sub_(adam(g, s), alpha=group["lr"] * group["factor"])


def test_a_factor_beside_the_rate_counts():
    def scaled(n, power):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        groups = [{"params": h + o, "lr": 1e-3, "factor": m**power}, {"params": r, "lr": 1e-3, "factor": 2.0}]
        return model, Scaled(groups), (X,)

    assert found(lambda n: scaled(n, -1))[0] == {}
    table, _ = found(lambda n: scaled(n, -0.5))
    assert {name: own["explodes"] for name, own in table.items()} == {
        name: (-HALF, -1) for name in (*HIDDEN, "out.weight")
    }


def test_another_law_at_another_width_is_refused():
    def changing(n):
        model = Net(n)
        return model, LARSorNot(model.parameters(), signed=n > 100), (X,)

    class LARSorNot(LARS):
        def one(self, p, g, s, group):
            p.sub_(g.sign() if group["signed"] else g, alpha=group["lr"])

    with pytest.raises(tpcalc.FitError, match="is trained by another law at width 128 than at width 64"):
        tpcalc.verify(changing, WIDTHS)


# -- what can't be probed ---------------------------------------------------------------------------------------


def fused(adam_w_mode):
    class FusedAdam(Base):
        def step(self, closure=None):
            pass

    FusedAdam.__module__, FusedAdam.__qualname__ = "apex.optimizers.fused_adam", "FusedAdam"

    def setup(n):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        groups = [{"params": h + o, "lr": 1e-3 / m, "weight_decay": 0.1 * m}, {"params": r, "lr": 1e-3}]
        optimizer = FusedAdam(groups)
        optimizer.adam_w_mode = int(adam_w_mode)
        return model, optimizer, (X,)

    return setup


def test_one_that_needs_a_device_is_taken_at_its_word_with_a_note():
    table, report = found(fused(True))
    assert table == {}
    assert report.notes == (
        "apex.optimizers.fused_adam.FusedAdam could not be probed (its step changes nothing): adamw is what it is "
        "taken for",
    )
    assert found(fused(False))[0]["h1.weight"] == {"decay drift": (1, -HALF)}


def test_one_without_a_name_that_does_not_step_is_refused():
    class Idle(Base):
        def step(self, closure=None):
            pass

    with pytest.raises(
        tpcalc.SetupError, match=r"no update law here; declare .*\(its steps can't be probed: its step ch"
    ):
        tpcalc.verify(lambda n: (model_of(n), Idle(held.pop().parameters()), torch.ones(2, 8)), WIDTHS)


# -- packages ---------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    def __init__(self, n, norm=False):
        super().__init__()
        self.inp, self.h1 = nn.Linear(12, n, bias=False), nn.Linear(n, n, bias=False)
        self.n1 = nn.LayerNorm(n) if norm else nn.Identity()
        self.out = nn.Linear(n, 7, bias=False)
        for layer, std in ((self.inp, 0.3), (self.h1, n**-0.5), (self.out, 6 / n)):
            nn.init.normal_(layer.weight, std=std)
        if norm:
            nn.init.normal_(self.n1.bias, std=0.3)

    def forward(self, x):
        return self.out(torch.relu(self.n1(torch.relu(self.h1(torch.relu(self.inp(x)))))))


def grouped(model, n, powers, decay=None, vector=None):
    r, weights = n / 64, (model.inp.weight, model.h1.weight, model.out.weight)
    groups = [{"params": [w], "lr": 1e-3 * r**p} for w, p in zip(weights, powers)]
    for group, power in zip(groups, decay or (None,) * 3):
        group["weight_decay"] = 0.0 if power is None else 0.1 * r**power
    if vector is not None:
        groups.append({"params": list(model.n1.parameters()), "lr": 1e-3 * r**vector, "weight_decay": 0.0})
    return groups


def test_pytorch_optimizers_own():
    po = pytest.importorskip("pytorch_optimizer")

    def setup(cls, *powers, norm=False, decay=None, vector=None, **options):
        def made(n):
            model = Plain(n, norm)
            return model, cls(grouped(model, n, powers, decay, vector), **options), torch.ones(4, 12)

        return made

    assert found(setup(po.LARS, 0, -0.5, 0, norm=True, vector=1))[0] == {}
    assert set(found(setup(po.LARS, 0, -0.5, 0, norm=True, vector=0))[0]) == {"n1.weight", "n1.bias"}
    assert not any("decay drift" in own for own in found(setup(po.Lamb, 0, -0.5, 0, decay=(0, 0.5, 0)))[0].values())
    assert found(setup(po.Lion, 0, -1, -1, decay=(0, 0, 0), fixed_decay=True))[0] == {}
    table, _ = found(setup(po.Lion, 0, -1, -1, decay=(0, 1, 1), fixed_decay=True))
    assert table == {name: {"decay drift": (1, 0)} for name in ("h1.weight", "out.weight")}


def test_timms_own():
    lamb, lars = pytest.importorskip("timm.optim.lamb").Lamb, pytest.importorskip("timm.optim.lars").Lars

    def setup(cls, *powers):
        def made(n):
            model = Plain(n)
            return model, cls(grouped(model, n, powers)), torch.ones(4, 12)

        return made

    assert found(setup(lars, 1, 0, -1))[0] == {}
    assert {kind for own in found(setup(lamb, 0, -1, -1))[0].values() for kind in own} == {"eps drift"}
    table, _ = found(setup(lamb, 0, -0.5, 0))
    assert {name for name, own in table.items() if "explodes" in own} == {"h1.weight", "out.weight"}
    assert "frozen" in found(setup(lars, 0, -0.5, 0))[0]["inp.weight"]
