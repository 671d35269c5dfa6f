"""Constants of modules on top of the derived powers, and no powers at all."""

from __future__ import annotations

import functools
import sys
import types

import pytest
import torch

from tests.support.small import deep, small
from tpcalc.derive import derive
from tpcalc.errors import TpcalcError
from tpcalc.scaling import Scaling, scale
from tpcalc.scaling.codegen import codegen
from tpcalc.scaling.result import Unscaled
from tpcalc.trace import trace
from tpcalc.trace.target import call_factory
from tpcalc.transfer.modules import modules_of
from tpcalc.transfer.tuned import KINDS, check_constants, tuned, unscaled

WIDTHS = (8, 16, 32)
MODULES = {
    "table.weight": frozenset({"embedding", "readout"}),
    "blocks.*.qkv.weight": frozenset({"hidden"}),
    "blocks.*.out.weight": frozenset({"hidden", "projection"}),
}


@functools.cache
def derived(optimizer: str = "adamw") -> Scaling:
    return scale(small, 8, 32, optimizer)


@functools.cache
def deeper() -> Scaling:
    return scale(deep, {"width": 8, "depth": 2}, {"width": 32, "depth": 4})


def fresh(width: int = 32):
    torch.manual_seed(0)
    return call_factory(small, width)[0]


def numbers(scaling, name):
    weight = scaling[name]
    return {kind: getattr(weight, kind) for kind in (*KINDS, "eps", "clip", "forward")}


# -- constants -------------------------------------------------------------------------------------


def test_each_kind_is_multiplied_and_nothing_else():
    found = tuned(derived(), {"hidden": {"lr": 2.0, "init": 3.0, "weight_decay": 5.0}}, MODULES)
    for name in derived():
        before, after = numbers(derived(), name), numbers(found, name)
        times = {"lr": 2.0, "init": 3.0, "weight_decay": 5.0} if ".qkv." in name or ".out." in name else {}
        assert after == {key: value if value is None else value * times.get(key, 1.0) for key, value in before.items()}


def test_several_selectors_multiply():
    constants = {"hidden": {"lr": 2.0}, "projection": {"lr": 5.0, "init": 0.5}, "blocks.*.out.*": {"lr": 7.0}}
    found = tuned(derived(), constants, MODULES)
    assert found["blocks.0.out.weight"].lr == pytest.approx(derived()["blocks.0.out.weight"].lr * 70)
    assert found["blocks.0.out.weight"].init == derived()["blocks.0.out.weight"].init * 0.5
    assert found["blocks.0.qkv.weight"].lr == derived()["blocks.0.qkv.weight"].lr * 2


@pytest.mark.parametrize("selector", ["table.weight", "head.weight", "head.*", "embedding", "readout", "*e*"])
def test_a_tied_weight_by_either_name_and_once(selector):
    found = tuned(derived(), {selector: {"lr": 4.0, "init": 0.5}}, MODULES)
    for name in ("table.weight", "head.weight"):
        assert found[name].lr == derived()[name].lr * 4.0 and found[name].init == derived()[name].init * 0.5
    assert [entry["multipliers"]["lr"] for entry in found.document["weights"] if entry["name"] == "head.weight"] == [
        4.0
    ]


def test_every_block_of_a_packed_weight():
    name = "blocks.0.pair.weight"
    before = derived()[name].slices
    assert len({init for *_, init in before}) == 2, "blocks of two laws"
    found = tuned(derived(), {"*.pair.weight": {"init": 3.0}}, MODULES)
    assert [piece[:3] for piece in found[name].slices] == [piece[:3] for piece in before]
    assert [init for *_, init in found[name].slices] == [3 * init for *_, init in before]
    drawn = [(entry["init_std"], entry["multipliers"]["init"]) for entry in found.document["weights"]]
    assert all(std["target"] == std["code_at_target"] * init for std, init in drawn)


@pytest.mark.parametrize("scaling", [derived, deeper])
def test_the_document_stays_one(scaling, tmp_path, monkeypatch):
    constants = {"hidden": {"init": 2.0, "lr": 0.3}, "*norm*": {"init": 0.5, "weight_decay": 3.0}}
    before = scaling().document
    kept = repr(before)
    found = tuned(scaling(), constants, MODULES)
    assert repr(before) == kept, "what is given is not changed"
    found.save(tmp_path / "multipliers.json")
    assert dict(Scaling.load(tmp_path / "multipliers.json")) == dict(found) != dict(scaling())
    assert (found.document["schema"], found.base, found.target) == (before["schema"], scaling().base, scaling().target)
    written = types.ModuleType("written")
    monkeypatch.setitem(sys.modules, "written", written)
    exec(compile(codegen(found), "written", "exec"), vars(written))
    place = found.target if isinstance(found.target, int) else None
    model = fresh(place) if place else deep(**found.target)[0]
    match = lambda multipliers: [(n, w.lr, w.init, w.weight_decay) for n, _, w in multipliers.match(model)]  # noqa: E731
    assert match(written._MULTIPLIERS) == match(found) != match(scaling())


def test_patterns_of_other_places_are_given_up():
    assert deeper().document["patterns"], "there are formulas at all"
    found = tuned(deeper(), {"hidden": {"lr": 2.0}}, MODULES).document
    assert found["patterns"] is None and "changed for one target" in found["no_patterns"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon+adamw"])
def test_a_tuned_run_is_one_made_by_hand(optimizer):
    """Init times the constants and a group a weight with its own numbers, bit for bit."""
    constants = {"hidden": {"lr": 2.0, "init": 0.5}, "*norm.weight": {"lr": 0.25, "weight_decay": 4.0}}
    found = tuned(derived(optimizer), constants, MODULES)
    model, hand = fresh(), fresh()
    found.init_(model)
    groups = [
        group
        for law in sorted({weight.optimizer for weight in found.values()})
        for group in found.param_groups(model, 1e-2, 0.1, 1e-6, optimizer=law)
    ]
    rates = {id(parameter): group for group in groups for parameter in group["params"]}
    for (name, mine), (_, own) in zip(hand.named_parameters(), model.named_parameters(), strict=True):
        weight, group = derived(optimizer)[name], rates[id(own)]
        hidden, norm = ".qkv." in name or ".out." in name, name.endswith("norm.weight")
        with torch.no_grad():
            for dim, start, length, init in weight.slices or ((0, 0, len(mine), weight.init),):
                mine.narrow(dim, start, length).mul_(init * (0.5 if hidden else 1.0))
        assert torch.equal(mine, own)
        assert group["lr"] == pytest.approx(1e-2 * weight.lr * (2.0 if hidden else 0.25 if norm else 1.0), rel=1e-15)
        assert group["weight_decay"] == pytest.approx(0.1 * weight.weight_decay * (4.0 if norm else 1.0), rel=1e-15)
        assert weight.eps is None or group["eps"] == 1e-6 * weight.eps


# -- no powers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon+adamw"])
def test_unscaled_is_the_code_as_it_is(optimizer):
    """As the parametrization that a check compares with, which is made without multipliers."""
    found, other = unscaled(derived(optimizer)), Unscaled.of(derive(trace(small, WIDTHS), optimizer), 32)
    model, plain, untouched = fresh(), fresh(), fresh()
    found.init_(model)
    other.init_(plain)
    for a, b, c in zip(model.parameters(), plain.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    for law in sorted({weight.optimizer for weight in found.values()}):
        for a, b in zip(*(x.param_groups(model, 1e-2, 0.1, 1e-6, optimizer=law) for x in (found, other)), strict=True):
            assert all(p is q for p, q in zip(a.pop("params"), b.pop("params"), strict=True)) and a == b
    names = ("init", "lr", "weight_decay", "eps", "clip", "forward")
    assert {getattr(weight, name) for weight in found.values() for name in names} <= {1.0, None}
    assert not any(weight.slices for weight in found.values())


def test_unscaled_is_exact_where_a_multiplier_has_no_reciprocal():
    """49 times 1/49 is not 1 in floating point."""
    found = unscaled(scale(small, 8, 8 * 49, "sgd"))
    assert {weight.init for weight in found.values()} == {1.0}
    assert all(e["init_std"]["target"] == e["init_std"]["code_at_target"] for e in found.document["weights"])


def test_unscaled_along_a_depth_and_with_constants():
    found = unscaled(deeper())
    assert {(weight.init, weight.lr) for weight in found.values()} == {(1.0, 1.0)}
    twin = tuned(found, {"hidden": {"lr": 3.0, "init": 0.25}}, MODULES)
    assert (twin["blocks.3.out.weight"].lr, twin["blocks.3.out.weight"].init) == (3.0, 0.25)
    assert (twin["table.weight"].lr, twin["table.weight"].init) == (1.0, 1.0)


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "constants, words",
    [
        ({"hidden": {"eps": 2.0}}, "hidden.eps is nothing that is tuned; choose one of lr, init, weight_decay"),
        ({"hidden": {"lr": 0.0}}, "hidden.lr = 0.0 is no constant; give a positive number"),
        ({"hidden": {"lr": -1}}, "hidden.lr = -1 is no constant"),
        ({"hidden": {"init": float("nan")}}, "hidden.init = nan is no constant"),
        ({"hidden": {"init": float("inf")}}, "hidden.init = inf is no constant"),
        ({"hidden": {"init": True}}, "hidden.init = True is no constant"),
        ({"hidden": {"init": "2"}}, "hidden.init = 2 is no constant"),
        ({"hidden.lr": 2.0}, "the constants of hidden.lr are 2.0; give each by its kind, as {'lr': 2.0}"),
    ],
)
def test_what_is_no_constant(constants, words):
    with pytest.raises(TpcalcError) as caught:
        check_constants(constants)
    assert words in str(caught.value)
    with pytest.raises(TpcalcError):
        tuned(derived(), constants, MODULES)


def test_the_modules_are_those_of_the_program():
    found = modules_of(trace(small, WIDTHS))
    assert {name: found[name] for name in MODULES} == MODULES
