"""The probe agrees with the declared laws on their reference implementations, names withheld."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from tests.support.probed_setups import Base
from tests.support.sampled import kept
from tpcalc.algebra.order import Order
from tpcalc.check.optimizers import BUILT
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import LAWS
from tpcalc.probe import Kind, Measured, Subject, Unprobable, law_of_measured, probe
from tpcalc.probe.bench import Clock
from tpcalc.probe.law import differs

N, ONE = Order(1), Order(0)
KINDS = {
    "hidden": Kind((N, N), (128, 128)),
    "input": Kind((N, ONE), (128, 24)),
    "output": Kind((ONE, N), (10, 128)),
    "vector": Kind((N,), (128,)),
}
#: Of matrices only.
MATRICES = {name for name in LAWS if name.startswith("muon")}
#: They look at the layers of a model.
WATCHING = {"kfac", "foof"}


def written(direction, **more) -> torch.optim.Optimizer:
    """``W -= lr * direction(p, g, state, group)``."""

    class Written(Base):
        def one(self, p, g, state, group):
            p.sub_(direction(p, g, state, group), alpha=group["lr"])

    return Written([torch.nn.Parameter(torch.zeros(4, 4))], **more)


def live(name: str) -> torch.optim.Optimizer:
    """The reference implementation of a law, with decay and, where it has one, an epsilon."""
    group = {"params": [torch.nn.Parameter(torch.zeros(4, 4))], "lr": 1e-3, "weight_decay": 0.01}
    if LAWS[name].eps is not None:
        group["eps"] = 1e-8
    if name == "rprop":
        del group["weight_decay"]
    try:
        return BUILT[name].make([group], torch.nn.Linear(2, 2))
    except TpcalcError as error:
        pytest.skip(str(error))


def read(optimizer: torch.optim.Optimizer, kind: Kind) -> Measured:
    return probe(Subject(optimizer, 0, optimizer.param_groups[0]["params"][0]), kind)


NAMES = [name for name in BUILT if name not in WATCHING]
#: Every law on a hidden matrix, and on one of the other kinds in turn.
DECLARED = kept(
    [(name, kind) for name in NAMES for kind in KINDS],
    lambda case: case[1] in ("hidden", ("input", "output", "vector")[NAMES.index(case[0]) % 3]),
)


@pytest.mark.parametrize("name, kind", DECLARED)
def test_every_declared_law(name, kind):
    if name in MATRICES and kind == "vector":
        with pytest.raises(Unprobable, match="its step fails on a small tensor .*takes matrices only"):
            read(live(name), KINDS[kind])
        return
    growths = KINDS[kind].growths
    try:
        seen = read(live(name), KINDS[kind])
    except Unprobable as error:  # in the basis of the step before: the null space of few samples is anybody's
        assert LAWS[name].least is not None and "goes with no simple power" in str(error)
        return
    assert differs(LAWS[name], seen, growths, decay=True) == ""
    unnamed = law_of_measured(seen, growths, None, "Unnamed", True)
    assert differs(unnamed.law, seen, growths, decay=True) == "" and unnamed.law.name in LAWS


@pytest.mark.parametrize(
    "name, wrong",
    [("adamw", "adam"), ("adam", "adamw"), ("lamb", "adamw"), ("lars", "sgd"), ("muon_match_rms_adamw", "muon")],
)
def test_another_law_is_told(name, wrong):
    seen, growths = read(live(name), KINDS["hidden"]), KINDS["hidden"].growths
    found = law_of_measured(seen, growths, LAWS[wrong], "Misnamed", True)
    assert found.differs == ("decay" if {name, wrong} == {"adam", "adamw"} else "update")
    assert differs(found.law, seen, growths, decay=True) == ""


def test_what_is_smaller_on_gradients_that_it_has_seen_is_the_same_law():
    growths = KINDS["hidden"].growths
    seen = read(live("adamw"), KINDS["hidden"])
    for ray, off in ((ONE, ""), (Order("-1/2"), ""), (-N, ""), (Order("-3/2"), "update"), (Order("1/2"), "update")):
        other = replace(seen, update=seen.update._replace(ray=ray))
        assert law_of_measured(other, growths, LAWS["soap"], "SOAP", True).differs == off


@pytest.mark.parametrize("name", sorted(WATCHING))
def test_what_looks_at_a_model_is_refused(name):
    with pytest.raises(Unprobable, match="its step fails on a small tensor"):
        read(live(name), KINDS["hidden"])


SHAPES = [(), (1,), (2,), (3,), (4,), (10,), (1, 1), (2, 1), (1, 3), (2, 2), (2, 2, 1)]


#: LAMB, which has all to lose by a short vector, on all; the others on every third.
@pytest.mark.parametrize(
    "name, lengths",
    kept(
        [(name, lengths) for name in ("adamw", "sgd", "lamb") for lengths in SHAPES],
        lambda case: case[0] == "lamb" or SHAPES.index(case[1]) % 3 == 0,
    ),
)
def test_shapes_that_do_not_grow(name, lengths):
    kind = Kind((ONE,) * len(lengths), lengths)
    assert differs(LAWS[name], read(live(name), kind), kind.growths, decay=True) == ""


def test_radam_starts_as_sgd():
    seen = read(live("radamw"), KINDS["vector"])
    assert seen.update.gradient == 0 and seen.first is not None and seen.first.gradient == 1


def test_a_decay_that_a_law_does_not_read_is_none():
    """In float32 the weight grows a little by rounding, whatever the decay: no share is taken away."""
    weight = torch.nn.Parameter(torch.randn(16, 16))
    optimizer = torch.optim.Rprop([{"params": [weight], "weight_decay": 0.1}], lr=1e-3)
    assert read(optimizer, KINDS["hidden"]).decay is None


PULLS = {
    "the weight": (lambda p, g, group: p, (1, -1, 0, 0)),
    "the weight by its norm": (lambda p, g, group: p * p.norm(), (1, -2, -1, 0)),
    "the weight by the gradient's root": (lambda p, g, group: p * g.abs().mean().sqrt(), ("1/2", -1, 0, 0)),
    "the weight by the rate": (lambda p, g, group: p * group["lr"] * 2**24, (1, -1, 0, -1)),
}


@pytest.mark.parametrize("kind", ("hidden", "vector"))
@pytest.mark.parametrize("normal", ("entries", "norm", "signs"))
@pytest.mark.parametrize("pull", PULLS)
def test_where_a_decay_stands_that_is_normalised_with_the_gradient(pull, normal, kind):
    """Also where few entries turn at a time, and where the place is another than that of coupled decay."""
    pulls, place = PULLS[pull]

    def direction(p, g, state, group):
        moved = g + group["weight_decay"] * pulls(p, g, group)
        if normal == "signs":
            return moved.sign()
        if normal == "norm":
            return moved / moved.norm() * moved.numel() ** 0.5
        v = state.setdefault("v", torch.zeros_like(g))
        v.mul_(0.9).addcmul_(moved, moved, value=0.1)
        return moved / v.sqrt()

    exact = [Order(power) for power in place]
    if kind == "vector":
        exact[2] = exact[2] / 2
    seen = read(written(direction, weight_decay=0.1), KINDS[kind])
    assert seen.decay is not None and not seen.decay.linear and list(seen.decay.keeps) == exact


def test_coupled_decay_is_read_in_few_runs():
    assert read(live("adam"), KINDS["hidden"]).runs < 70


EPS = {
    "beside": (lambda p, g: g / (g.abs() + 1e-8), 1e-8, (1, 0, 0)),
    "under the root": (lambda p, g: g / (g * g + 1e-14).sqrt(), 1e-7 / 3**0.5, (1, 0, 0)),
    "beside a norm": (lambda p, g: g / (g.norm() + 1e-6), 1e-6 / 16, (1, 0, 1)),
    "a clamp": (lambda p, g: g / g.norm().clamp(min=1e-6), 1e-6 / 32, (1, 0, 1)),
    "beside what the weight scales": (lambda p, g: g / (g.abs() + 1e-7 * p.norm() / 256), 1e-7 / 256, (1, -1, -1)),
}


@pytest.mark.parametrize("kind", EPS)
def test_an_epsilon_in_the_code(kind):
    direction, at, place = EPS[kind]
    seen = read(written(lambda p, g, state, group: direction(p, g)), KINDS["hidden"])
    assert seen.hidden is not None and seen.hidden.fades and seen.hidden.place[:3] == place
    assert seen.hidden.at == pytest.approx(at, rel=0.25)


def test_an_epsilon_in_the_code_that_is_met_below_all_gradients_at_other_widths():
    seen = read(written(lambda p, g, state, group: g / (g.norm() + 2e-9)), KINDS["hidden"])
    assert seen.hidden is not None and seen.hidden.place[:3] == (1, 0, 1)


class AlongSphere(Base):
    """What goes along the weight is left out (AdamP); decay is decoupled."""

    def one(self, p, g, s, group):
        u = g.sign()
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(u - (u * p).sum() / (p * p).sum() * p, alpha=group["lr"])


def test_decay_of_what_steps_along_a_sphere_is_read_where_it_is_off():
    decay = read(AlongSphere([torch.nn.Parameter(torch.zeros(4, 4))]), KINDS["hidden"]).decay
    assert decay is not None and decay.linear and decay.keeps == (0, 0, 0, -1)


class Single(Base):
    """Adam's, computed in float32 whatever the weight is, at a rate that is a tensor and stays one."""

    def __init__(self, params, **more):
        super().__init__(params, eps=1e-8, **more)
        for group in self.param_groups:
            group["lr"] = torch.tensor(group["lr"])

    def one(self, p, g, s, group):
        if not isinstance(group["lr"], torch.Tensor):
            raise RuntimeError("lr was changed to a number")
        v = s.setdefault("v", torch.zeros_like(g))
        v.lerp_(g * g, 0.1)
        w = p.float() * (1 - group["lr"] * group["weight_decay"])
        p.copy_(w - group["lr"] * (g / (v.sqrt() + group["eps"])).float())


@pytest.mark.parametrize("kind", ["hidden", "vector"])
def test_what_computes_in_single_precision(kind):
    optimizer = Single([torch.nn.Parameter(torch.zeros(4, 4))], weight_decay=0.1)
    seen = read(optimizer, KINDS[kind])
    assert law_of_measured(seen, KINDS[kind].growths, LAWS["adamw"], "Single", True).differs == ""
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) and not seen.beyond


def test_an_epsilon_in_the_code_that_makes_the_update_another():
    seen = read(written(lambda p, g, state, group: g.sign() * (1 + 1e-8 / g.abs().mean())), KINDS["hidden"])
    assert seen.hidden is not None and not seen.hidden.fades and seen.hidden.at == pytest.approx(1e-8, rel=0.5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MATRICES])
def test_a_reference_has_none(name):
    try:
        assert read(live(name), KINDS["vector"]).hidden is None
    except Unprobable as error:
        assert LAWS[name].least is not None and "goes with no simple power" in str(error)


def test_averages_that_start_at_a_fixed_size_and_forget_it():
    def direction(p, g, state, group):
        v = state.setdefault("v", torch.ones_like(g))
        v.mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])
        return g / v.sqrt()

    with pytest.raises(Unprobable, match=r"its update goes as gradient\^1, and after 256 steps as gradient\^0"):
        read(written(direction, alpha=0.9), KINDS["vector"])
    assert read(written(direction, alpha=1.0), KINDS["vector"]).update.gradient == 1


@pytest.mark.parametrize("spent", (0.0, 5.0, 15.0))
def test_steps_that_take_too_long_are_refused_and_nothing_is_taken_for_absent(spent, monkeypatch):
    """Whatever has been read until then, where each run takes a second; each optimizer is one of its own, which no
    reading before this one knows."""
    monkeypatch.setattr("tpcalc.probe.bench.PATIENCE", spent)
    monkeypatch.setattr("tpcalc.probe.bench.time", SimpleNamespace(process_time=count().__next__))
    optimizer = written(lambda p, g, state, group: g.sign() * p.norm() * group["by"], by=2.0 + spent)
    with pytest.raises(Unprobable, match="its steps take too long for its law to be read off them"):
        read(optimizer, KINDS["hidden"])


def test_a_run_that_would_take_too_long_is_not_begun():
    """By the fastest steps so far: the first may have imported much."""
    clock = Clock()
    assert clock.after(10**6) == 0
    clock.took(3.0, 2)
    clock.took(0.5, 50)
    assert clock.after(0) == 3.5 and clock.after(1000) == pytest.approx(13.5)
