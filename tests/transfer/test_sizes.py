"""The multipliers of one model from a base to each size, under each parametrization."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from tests.support.small import deep, small
from tpcalc.algebra.scales import Point, place_of
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import recipe
from tpcalc.scaling import scale
from tpcalc.transfer.jobs import Job
from tpcalc.transfer.run import Base, trainer
from tpcalc.transfer.sizes import Sizes

WIDE = tuple({"width": width} for width in (8, 16, 24))
DEEP = ({"width": 8, "depth": 2}, {"width": 16, "depth": 2}, {"width": 16, "depth": 4})
CONSTANTS = {"hidden": {"lr": 2.0, "init": 0.5}, "head.weight": {"lr": 3.0}}


@functools.cache
def wide(optimizer="adamw") -> Sizes:
    return Sizes(small, WIDE[0], WIDE[1:], recipe(optimizer))


@functools.cache
def several() -> Sizes:
    return Sizes(deep, DEEP[0], DEEP[1:], recipe("adamw"))


def numbers(scaling):
    return {
        name: (w.init, w.lr, w.weight_decay, w.eps, w.clip, w.forward, w.slices, w.shape, w.aliases)
        for name, w in scaling.items()
    }


def test_places():
    assert place_of({"width": 8}) == 8
    assert place_of({"width": 8, "depth": 2}) == Point(("width", "depth"), (8, 2))
    assert place_of({"depth": 2}) == Point(("depth",), (2,))


@pytest.mark.parametrize(
    "sizes", [wide, functools.partial(wide, "sgd"), functools.partial(wide, "muon+adamw"), several]
)
def test_at_the_base_all_is_one(sizes):
    for weight in sizes().scaling(sizes().base).values():
        assert {weight.init, weight.lr, weight.weight_decay, weight.clip, weight.forward} == {1.0}
        assert weight.eps in (None, 1.0) and weight.slices == ()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon+adamw"])
def test_they_are_those_of_scale(optimizer):
    for place in WIDE[1:]:
        expected = scale(small, 8, place["width"], optimizer)
        assert numbers(wide(optimizer).scaling(place)) == numbers(expected)
        assert wide(optimizer).scaling(place).document == expected.document
    assert numbers(wide(optimizer).scaling(WIDE[1])) != numbers(wide(optimizer).scaling(WIDE[2]))


def test_they_are_those_of_scale_of_several():
    for place in DEEP[2:]:
        assert numbers(several().scaling(place)) == numbers(scale(deep, DEEP[0], place))
        assert several().scaling(dict(reversed(place.items()))) is several().scaling(place), "in any order"


@pytest.mark.parametrize("sizes, place", [(wide, WIDE[2]), (several, DEEP[2])])
def test_parametrizations(sizes, place):
    at = functools.partial(sizes().multipliers, scales=place)
    derived, standard = at("derived", constants={}), at("standard", constants={})
    tuned, unscaled = at("tuned", constants=CONSTANTS), at("unscaled", constants=CONSTANTS)
    assert derived is sizes().scaling(place)
    for name, times in (("blocks.0.out.weight", 2.0), ("table.weight", 3.0), ("norm.weight", 1.0)):
        assert standard[name].lr == 1.0 and unscaled[name].lr == times and tuned[name].lr == derived[name].lr * times
    assert derived["blocks.0.out.weight"].lr != 1.0
    assert unscaled["blocks.0.out.weight"].init == 0.5


def test_modules_and_their_members():
    members = wide().members()
    assert list(members) == ["embedding", "hidden", "projection", "readout", "norm", "bias", "router"]
    assert members["embedding"] == members["readout"] == {"table.weight"}, "a tied one under its first name"
    assert members["norm"] == {"norm.weight", "norm.bias", "blocks.0.norm.weight", "blocks.0.norm.bias"}
    assert {name for own in several().members().values() for name in own} == {
        name for name, weight in several().scaling(DEEP[0]).items() if weight.name == name
    }


def test_constants_that_are_checked():
    for sizes in (wide(), several()):
        sizes.check(CONSTANTS)
        sizes.check({"blocks.*.qkv.weight": {"init": 1.0}, "norm": {}})
    for constants, words in (
        (
            {"positions": {"lr": 1.0}},
            "the model has no weights of the module positions; there are the modules embedding",
        ),
        ({"hiden": {"lr": 1.0}}, "did you mean hidden"),
        ({"hidden": {"rl": 1.0}}, "hidden.rl is nothing that is tuned"),
        ({"hidden": {"lr": -1.0}}, "is no constant"),
    ):
        with pytest.raises(TpcalcError, match=words):
            wide().check(constants)


def test_a_job_is_the_run_that_it_names():
    how = trainer(small)
    run = wide().runner(how)
    dotted = {"hidden.lr": 2.0, "hidden.init": 0.5, "head.weight.lr": 3.0}
    job = Job.of("tuned", WIDE[1], {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-6, **dotted}, 3, 7)
    own = wide().multipliers("tuned", WIDE[1], CONSTANTS)
    by_hand = how.run(16, own, Base(0.02, 0.1, 1e-6), 7, 3)
    assert run(job).curve == by_hand.curve
    others = [
        Job.of("unscaled", WIDE[1], dict(job.numbers), 3, 7),
        Job.of("tuned", WIDE[2], dict(job.numbers), 3, 7),
        Job.of("tuned", WIDE[1], {**dict(job.numbers), "hidden.lr": 4.0}, 3, 7),
        Job.of("tuned", WIDE[1], {**dict(job.numbers), "weight_decay": 9.0}, 3, 7),
        Job.of("tuned", WIDE[1], dict(job.numbers), 3, 8),
    ]
    assert len({run(each).loss for each in (job, *others)}) == 6


def test_at_the_base_parametrizations_are_one_run():
    for sizes, factory in ((wide(), small), (several(), deep)):
        run = sizes.runner(trainer(factory))
        losses = {run(Job.of(name, sizes.base, {"lr": 0.01}, 2, 0)).loss for name in ("standard", "derived")}
        twins = {run(Job.of(n, sizes.base, {"lr": 0.01, "hidden.lr": 3.0}, 2, 0)).loss for n in ("tuned", "unscaled")}
        assert len(losses) == len(twins) == 1 and losses != twins


def test_a_list_of_batches():
    def batches(width):
        model, tokens = small(width)
        return model, [(tokens,), (tokens.flip(0),)]

    sizes = Sizes(batches, WIDE[0], WIDE[1:], recipe("adamw"))
    assert numbers(sizes.scaling(WIDE[1])) == numbers(wide().scaling(WIDE[1]))
    assert sizes.runner(trainer(batches))(Job.of("derived", WIDE[1], {"lr": 0.01}, 2, 0)).loss > 0


def test_a_place_of_the_base_alone():
    assert numbers(Sizes(small, WIDE[0], WIDE[:1], recipe("adamw")).scaling(WIDE[0])) == numbers(
        wide().scaling(WIDE[0])
    )


def constant(width):
    return nn.Sequential(nn.Linear(4, 4)), torch.ones(2, 4)


@pytest.mark.parametrize(
    "factory, places, options, words",
    [
        (small, ({"width": 8}, {"width": 16, "depth": 2}), {}, "one size gives width, depth and another width; give"),
        (small, ({"width": 8}, {"width": -16}), {}, "width=-16 is no size; give a positive whole number"),
        (small, ({"width": 8}, {"width": 16.0}), {}, "width=16.0 is no size"),
        (small, ({"width": True}, {"width": 16}), {}, "width=True is no size"),
        (small, ({"width": 8}, {"width": 16}), {"depth_alpha": 0.5}, "depth"),
        (constant, ({"width": 8}, {"width": 16}), {}, "nothing in the model grows with the width"),
        (small, ({"width": 8, "depth": 2}, {"width": 16, "depth": 2}), {}, "depth"),
    ],
)
def test_what_has_no_multipliers(factory, places, options, words):
    with pytest.raises(TpcalcError, match=words) as caught:
        Sizes(factory, places[0], places[1:], recipe("adamw"), **options)
    assert "\n" not in str(caught.value)
