"""A rule between two ends: exact factors, ways that compose, other decays, refusals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tpcalc.document.assumed import assumed_json
from tpcalc.errors import ScalingError
from tpcalc.horizon import RULES, assume, assume_run, chosen, lowering
from tpcalc.optimizers import ADAM, ADAMW, AFTER_NORMALISING, DECOUPLED, INDEPENDENT, LAWS, recipe


def test_text_and_numbers_are_read_exactly():
    found = assume("completed-p", "64:1024", "1e9:2e11", "0.32")
    assert found == assume("completed-p", (64, 1024), (1e9, 2e11), 0.32)
    assert found.batch == (64, 1024) and found.tokens == (10**9, 2 * 10**11) and found.exponent == Fraction(8, 25)
    assert found.ratios == (16, 200, 1) and found.steps == 12.5
    assert assume("completed-p", batch="1:4").tokens == (1, 1)
    assert assume(None) is None


@pytest.mark.parametrize("name", RULES)
def test_equal_ends_are_exactly_one(name):
    found = assume(name, "64:64", "1e9:1e9").at(10**6, 10**6)
    for law in map(LAWS.get, RULES[name].laws or ("adamw", "muon")):
        assert set(map(found.factor, found.quantities(law).values())) == {1.0}


@pytest.mark.parametrize("name", ["completed-p", "power-lines", "wang-aitchison"])
def test_ways_compose(name):
    """Base to middle, times middle to target, is base to target."""
    places = ((64, "1e9", 10**6), (96, "7e9", 3 * 10**7), (1024, "2e11", 5 * 10**9))
    ways = [
        assume(name, (here[0], there[0]), (here[1], there[1])).at(here[2], there[2])
        for here, there in (places[:2], places[1:], places[::2])
    ]
    for powers in ways[0].quantities(ADAMW).values():
        first, second, whole = (way.factor(powers) for way in ways)
        assert first * second == pytest.approx(whole, rel=1e-14)
    assert [a * b for a, b in zip(ways[0].ratios, ways[1].ratios)] == [*ways[2].ratios]


def test_independent_decay_takes_what_lr_and_decay_take_together():
    """wd*W is subtracted, or lr/initial_lr*wd*W: its factor is that of lr*wd under torch's decay."""
    independent = replace(ADAMW, decay=INDEPENDENT)
    for name in ("completed-p", "wang-aitchison", "power-lines"):
        found = assume(name, "64:1024", "1e9:2e11").at(10**6, 10**8)
        torchs = found.quantities(ADAMW)
        own = found.quantities(independent)
        together = found.factor(torchs["lr"]) * found.factor(torchs["weight_decay"])
        assert found.factor(own["weight_decay"]) == pytest.approx(together, rel=1e-15)
        assert {**own, "weight_decay": None} == {**torchs, "weight_decay": None}
    found = assume("completed-p", "64:1024", "1e9:2e11")
    assert found.factor(found.quantities(independent)["weight_decay"]) == 0.08


def test_decay_of_which_the_source_says_nothing():
    adam = chosen("completed-p")
    assert not adam.weight_decay(ADAM).by_name and "as a term of the loss" in " ".join(adam.notes(ADAM))
    assert adam.weight_decay(replace(ADAM, decay=DECOUPLED)) == adam.weight_decay(ADAMW)
    malladi = chosen("malladi")
    for law in (ADAM, ADAMW, replace(ADAMW, decay=INDEPENDENT)):
        assert not malladi.weight_decay(law).by_name and "has no weight decay" in " ".join(malladi.notes(law))
    assert [*malladi.notes(LAWS["sgd"])] == ["sgd: the linear rule of SGD: Goyal et al. 2017 (1706.02677)"]


@pytest.mark.parametrize(
    "given, sentence",
    [
        ((None, "64:128"), "--batch is given and no rule by which hyperparameters follow it; add --horizon"),
        ((None, None, "1:2"), "--tokens is given and no rule"),
        ((None, None, None, "1/2"), "--horizon-exponent is given and no rule"),
        (("completed-p",), "neither a batch size nor a length; add --batch 64:1024, --tokens 1e9:2e11, or both"),
        (("completed", "1:2"), "horizon 'completed' is no rule that is known; choose one of completed-p, power-lines"),
        (("malladi", "1:2", "1:2"), "malladi has no law for a change of tokens: it keeps the number of examples"),
        (("malladi", "1:2", None, "1/2"), "horizon malladi has no exponent to choose"),
        (("completed-p", "1:2", None, "2"), "--horizon-exponent 2 is no exponent of the length; give one from 0 to 1"),
        (("completed-p", "1:2", None, "0.3333"), "with at most three digits"),
        (("completed-p", "1:2", None, "half"), "--horizon-exponent half is no number"),
        (("completed-p", "64"), "--batch 64 is no pair; give two positive numbers"),
        (("completed-p", 64), "--batch 64 is no pair"),
        (("completed-p", "64:"), "--batch 64: is no pair; give two positive numbers"),
        (("completed-p", ":"), "--batch : is no pair"),
        (("completed-p", "64:0"), "--batch 64:0 holds 0; give two positive numbers"),
        (("completed-p", "64:-8"), "holds -8"),
        (("completed-p", (64, True)), "is no number"),
        (("completed-p", None, "1e9:inf"), "--tokens inf is no number"),
        (("completed-p", None, "1e9:1e99"), "is no number|holds 1e"),
        (("completed-p", None, "1:2:3"), "is no pair"),
        (("none", "1e-30:1e30", "1e30:1e-30"), "a factor of 1e-120 is none; give ends nearer to one another"),
    ],
)
def test_refusals(given, sentence):
    with pytest.raises(ScalingError, match=sentence):
        assume(*given)


@pytest.mark.parametrize(
    "name, optimizer, sentence",
    [
        ("completed-p", "lion", "completed-p: no published rule for lion .it is about adamw, adam and rmsprop"),
        ("malladi", "muon+adamw", "malladi: no published rule for muon "),
        ("completed-p", "sgd", "its source says nothing of sgd .*choose malladi"),
        ("power-lines", "adam", "its source says nothing of adam .*choose completed-p or malladi"),
        ("wang-aitchison", "nadamw", "no published rule for nadamw"),
    ],
)
def test_optimizers_without_a_rule(name, optimizer, sentence):
    with pytest.raises(ScalingError, match=sentence):
        assume(name, "1:2", how=recipe(optimizer))


def test_an_own_optimizer_is_not_taken_for_one_that_has_its_order():
    import torch

    live = recipe(lambda groups: torch.optim.AdamW(groups))
    with pytest.raises(ScalingError, match="shows its orders and not how it averages noise; give it by name"):
        chosen("completed-p").check(live)
    chosen("none").check(live)


def test_a_decay_that_is_none_of_ours():
    with pytest.raises(ScalingError, match="no published rule for adamw with a weight decay of its own"):
        chosen("completed-p").check_law(replace(ADAMW, decay=AFTER_NORMALISING))


def test_what_is_not_known_or_no_number():
    with pytest.raises(ScalingError, match="power-lines needs the numbers of parameters at both ends"):
        found = assume("power-lines", "1:2")
        found.factor(found.quantities(ADAMW)["weight_decay"])


def test_numbers_of_numpy_are_numbers():
    import numpy

    plain = assume("completed-p", (64.5, 129), None, 0.3)
    assert assume("completed-p", (numpy.float64(64.5), numpy.int64(129)), None, numpy.float64(0.3)) == plain


@pytest.mark.parametrize("name", RULES)
def test_a_factor_that_no_document_holds_is_refused_in_a_sentence(name):
    """Of the tokens alone the ends are as far apart as they may be; what is refused is never the document's schema."""
    for ends in ({"batch": "1e-30:1e30"}, {"tokens": "1e-30:1e30"}, {"batch": "1e-40:1e30", "tokens": "1e30:1e-9"}):
        try:
            found = assume(name, **ends).at(1, 10**30)
            assumed_json(found, [ADAMW])
        except ScalingError as error:
            assert "malladi" in str(error) or "give ends nearer to one another" in str(error)


def test_from_the_run_in_which_numbers_were_found():
    whole = assume("completed-p", "8:16", "1e3:4e3")
    assert whole.found_in(200, 200) is whole
    short = whole.found_in(24, 200)
    assert short.tokens == (120, 4000) and short.batch == whole.batch and short.steps == pytest.approx(50 / 3)
    assert [*short.remarks][:-1] == [*whole.remarks] and "a run of 24 steps, where the base's has 200" in short.said[0]
    malladi = assume("malladi", "8:16").found_in(24, 200)
    assert malladi.ratios[:2] == (2, 1) and "there is no law here" in malladi.said[0]


def test_a_run_of_so_many_steps():
    def ratios(*given):
        return assume_run(*given).ratios[:2]

    assert ratios("completed-p", None, None, None, 200, 800) == (1, 4)
    assert ratios("completed-p", None, None, None, 200, None) == (1, 1)
    assert ratios("completed-p", "8:16", None, None, 200, 800) == (2, 8)
    assert ratios("completed-p", "8:16", None, None, 200, None) == (2, 1)  # what is left out stays
    assert ratios("completed-p", "8:16", "1:3", None, 200, 800) == (2, 3)
    assert ratios("malladi", "8:16", None, None, 200, 100) == (2, 1)
    assert assume_run(None, None, None, None, 200, 800) is None
    for given in (("malladi", None, None), ("malladi", None, "1:2"), (None, "8:16", None), ("other", None, None)):
        with pytest.raises(ScalingError):
            assume_run(*given, None, 200, 800)


def test_rules_that_lower_the_rate_of_a_longer_run():
    assert lowering(["adamw"]) == lowering({"adam", "rmsprop"}) == ("completed-p",)
    assert lowering(["sgd"]) == lowering(["muon", "adamw"]) == ()
