"""Findings of blocks, twins and sites that fail alike are one; the rest stay apart."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tpcalc.verify.findings import ATTENTION, EXPLODES, MULTIPLIER, NOT_MAXIMAL, RATE
from tpcalc.verify.grouping import Item, grouped

ONE, ZERO = Fraction(1), Fraction(0)


def item(name: str, **changes) -> Item:
    return replace(
        Item(EXPLODES, RATE, ZERO, -ONE, ONE, "here", f"{name} grows", "do less", (name,), ("hidden",)), **changes
    )


def site(name: str, **changes) -> Item:
    fixed = Item(ATTENTION, MULTIPLIER, ZERO, -ONE, ONE, "here", "logits grow", "do less", site=name)
    return replace(fixed, **changes)


def test_one_cause_is_one_finding_told_by_the_first():
    names = [f"layers.{i}.attention.{w}.weight" for i in range(3) for w in ("wq", "wk")]
    (finding,) = grouped(map(item, names), total=9)
    assert finding.subject == "layers.{0..2}.attention.{wq,wk}.weight" and finding.weights == tuple(names)
    assert finding.message == f"lr ~ n^0, needs n^(-1): {names[0]} grows; do less" and finding.severity == "error"


@pytest.mark.parametrize(
    "change",
    [{"kind": NOT_MAXIMAL}, {"quantity": "init std"}, {"found": ONE}, {"needed": ONE}, {"also": ("output",)}]
    + [{"severity": "warning"}],
)
def test_what_differs_stays_apart(change):
    first, second = grouped([item("a.weight"), item("b.weight", **change)], total=9)
    assert (first.subject, second.subject) == ("a.weight", "b.weight")


@pytest.mark.parametrize("change", [{"where": "there"}, {"text": "other"}, {"fix": "other"}, {"effect": ZERO}])
def test_what_only_the_first_says_keeps_nothing_apart(change):
    assert len(grouped([item("a.weight"), item("b.weight", **change)], total=9)) == 1


def test_all_weights_and_a_single_one():
    names = ["a.weight", "b.bias"]
    assert grouped(map(item, names), total=2)[0].subject == "all 2 weights"
    assert grouped(map(item, names), total=3)[0].subject == "a.weight, b.bias"
    assert grouped([item("weight")], total=1)[0].subject == "weight"


def test_a_long_list_is_cut():
    (finding,) = grouped([item(f"module_{letter}.{letter}") for letter in "abcdefg"], total=9)
    assert finding.subject.endswith("module_e.e and 2 more") and len(finding.weights) == 7


def test_blocks_of_packed_weights_are_named():
    items = [item("qkv.weight", block="qkv.weight[0:n]"), item("out.weight")]
    (finding,) = grouped(items, total=2)
    assert finding.subject == "qkv.weight[0:n], out.weight" and finding.weights == ("qkv.weight", "out.weight")


def test_sites_fold_over_blocks_only():
    (finding,) = grouped([site("layers.0.attention"), site("layers.1.attention")], total=9)
    assert finding.subject == "layers.{0,1}.attention" and finding.weights == ()
    assert len(grouped([site("layers.0.attention"), site("layers.0.router")], total=9)) == 2
    assert site("x", weights=("w",)).weight == "" and item("w").weight == "w"


def test_no_numbers_where_there_is_no_power():
    (finding,) = grouped([item("a.weight", found=None)], total=9)
    assert finding.message == "a.weight grows; do less" and finding.found is None
