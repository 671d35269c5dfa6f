"""What is searched: read from text, checked, and by default what a model has."""

from __future__ import annotations

import pytest

from tests.support.models import example
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import recipe
from tpcalc.transfer.sizes import Sizes
from tpcalc.tune.space import Space, default_space, parse_space

DEFAULT = Space({"lr": (1e-3, 1e-1), "readout.init": (0.1, 10.0)})


def test_text_is_read():
    space = parse_space("lr=1e-4:1e-1, blocks.*.q.weight.init=0.5:2 ,weight_decay=0.1,eps=0", DEFAULT)
    assert dict(space.ranges) == {
        "lr": (1e-4, 0.1),
        "blocks.*.q.weight.init": (0.5, 2.0),
        "weight_decay": (0.1, 0.1),
        "eps": (0.0, 0.0),
    }
    assert space.free == ("lr", "blocks.*.q.weight.init") and space.selectors == ("blocks.*.q.weight",)


@pytest.mark.parametrize("text", ["default,lr=1:2,hidden.lr=1:3", "lr=1:2,default,hidden.lr=1:3"])
def test_the_default_gives_way_wherever_it_stands(text):
    expected = {"lr": (1.0, 2.0), "readout.init": (0.1, 10.0), "hidden.lr": (1.0, 3.0)}
    assert parse_space(text, DEFAULT).ranges == expected
    assert parse_space("default", DEFAULT) == DEFAULT


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("lr", "'lr' is no part of a space"),
        ("lr=a:b", "'lr=a:b' is no part of a space"),
        ("lr=1:2:3", "'lr=1:2:3' is no part of a space"),
        ("", "'' is no part of a space"),
        ("=1:2", "'=1:2' is no part"),
        ("lr=1:2,lr=1:3", "the space gives lr twice"),
        ("default,readout.init=1:2,readout.init=1:3", "the space gives readout.init twice"),
        ("lr=2:1", "lr=2:1 is no range; give two positive numbers, the smaller first"),
        ("lr=0:1", "lr=0:1 is no range"),
        ("lr=nan:1", "lr=nan:1 is no range"),
        ("lr=1:inf", "lr=1:inf is no range"),
        ("lr=1:2,weight_decay=-1", "weight_decay=-1:-1 is no range"),
        ("lr=1:2,readout.init=0", "readout.init=0:0 is no range"),
        ("lr=1:2,momentum=0.1:1", "momentum is nothing that is tuned; choose one of lr, weight_decay, eps"),
        ("lr=1:2,readout.eps=0.1:1", "readout.eps is nothing that is tuned; choose one of lr, init, weight_decay"),
        ("readout.lr=1:2", "the space has no lr; give its range"),
        ("lr=1,weight_decay=0.1", "the space has one number for everything, and nothing to search"),
    ],
)
def test_what_is_no_space_is_refused(text, sentence):
    with pytest.raises(TpcalcError) as caught:
        parse_space(text, DEFAULT)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


def test_numbers_are_rounded_within_their_ranges():
    """An end of more digits than are kept is no less an end: a sampler refuses what lies outside."""
    space = Space({"lr": (0.1234563, 0.2469137), "weight_decay": (0.0, 0.0)})

    def within(rate):
        return space.within({"lr": rate, "weight_decay": 3.0})

    assert within(0.12345631) == within(0.0) == {"lr": 0.1234563, "weight_decay": 0.0}
    assert within(0.2469136)["lr"] == within(1.0)["lr"] == 0.2469137
    assert within(0.20000049)["lr"] == 0.2


def test_the_model_as_it_is():
    space = Space({"lr": (1e-3, 1.0), "readout.init": (0.1, 10.0), "hidden.lr": (2.0, 4.0), "eps": (1e-8, 1e-6)})
    assert space.own(0.01) == {"lr": 0.01, "readout.init": 1.0, "hidden.lr": 2.0, "eps": 1e-8}


def sized(name: str, optimizer: str) -> Space:
    how = recipe(optimizer)
    return default_space(Sizes(example("gpt.py", name), {"width": 64}, [{"width": 128}], how), how)


def test_the_default_space_of_a_transformer():
    space = sized("gpt", "adamw")
    assert set(space.ranges) == {
        "lr", "embedding.lr", "embedding.init", "positions.lr", "positions.init", "hidden.init", "projection.lr",
        "projection.init", "readout.lr", "readout.init", "norm.lr",
    }  # fmt: skip
    assert space.free == tuple(space.ranges), "all of them are searched"
    assert "readout.lr" not in sized("gpt_tied", "adamw").ranges, "the embedding stands for a tied readout"


def test_the_usual_rate_is_that_of_the_optimizer():
    assert sized("gpt", "sgd").ranges["lr"][0] > 10 * sized("gpt", "adamw").ranges["lr"][0]
