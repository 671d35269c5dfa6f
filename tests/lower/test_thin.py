"""Thin weights: what a mask leaves few entries of counts as few, by hand and against training."""

import pytest

import tpcalc
from benchmarks.coordinates import Coordinates, judged, slopes
from tests.support.cases import masks


def test_every_matrix_of_a_case_is_compared():
    for factory, wanted in masks.CASES.values():
        assert {name for name, _ in factory(32)[0].named_parameters()} == set(wanted)


@pytest.mark.parametrize("factory, wanted", masks.CASES.values(), ids=masks.CASES)
def test_a_weight_counts_the_entries_that_are_not_zero(factory, wanted):
    found = tpcalc.derive(tpcalc.trace(factory, widths=(64, 128, 256)))
    assert {name: (found[name].b, found[name].c) for name in wanted} == wanted
    assert not found.sites


def test_blocks_of_the_root_of_the_width():
    factory, wanted = masks.ROOTS
    found = tpcalc.derive(tpcalc.trace(factory, widths=(64, 256, 1024)))
    assert {name: (found[name].b, found[name].c) for name in wanted} == wanted


@pytest.mark.parametrize("case", ["band by where", "band and weight", "blocks of a stack", "three diagonals"])
def test_epsilon_follows_the_gradient_of_the_entries(case):
    factory, wanted = masks.CASES[case]
    found = tpcalc.derive(tpcalc.trace(factory, widths=(64, 128, 256)))
    assert {name: found[name].eps for name in wanted} == {
        name: 0 if rule == masks.OUTPUT else -1 for name, rule in wanted.items()
    }


@pytest.mark.parametrize("case", ["band by product", "band or weight", "softmax along a band"])
def test_training_agrees(case):
    factory, _ = masks.CASES[case]
    found = slopes(Coordinates(factory, [64, 128, 256], steps=2), seeds=1)
    assert all(abs(slope) < 0.25 for (_, name), slope in found.items() if name.startswith("b"))


def test_a_dense_rule_would_not_train_a_band():
    """The negative twin: with the rules of a hidden matrix a band's effect vanishes."""

    def coordinates(width):
        return tpcalc.scale(dense, 64, width)

    factory, dense = masks.CASES["band by product"][0], masks.CASES["causal"][0]
    found = Coordinates(factory, [64, 128, 256], steps=2)
    found.scalings = {width: coordinates(width) for width in (128, 256)}
    assert ("effect", "b.w") in {(off.quantity, off.name) for off in judged(slopes(found, seeds=1))}


def test_rows_with_more_entries_than_most_are_said():
    arrow = masks.net(lambda n, w: w * ((masks.away(n) == 0) | (masks.away(n) == masks.away(n)[:, :1])))
    first = masks.net(lambda n, w: w * ((masks.away(n) == 0) | (masks.away(n)[:, :1] == 0)))
    said = [tpcalc.trace(f, widths=(64, 128, 256)).assumptions for f in (first, arrow)]
    assert any("times as many entries as most" in text for text in said[0])
