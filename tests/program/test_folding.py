"""Folding of names: what is printed for which."""

from __future__ import annotations

import pytest

from tpcalc.program.names import fold, fold_names, mask_indices

FOLDING = [
    ("one name", [("a.weight", 1)], ["a.weight"]),
    ("one block is no repetition", [("blocks.0.w", 1)], ["blocks.0.w"]),
    ("all agree", [(f"blocks.{i}.w", 1) for i in range(12)], ["blocks.*.w"]),
    ("two weights of a block", [(f"b.{i}.{w}", w) for i in range(3) for w in "qk"], ["b.*.q", "b.*.k"]),
    ("last differs", [(f"b.{i}.w", i == 3) for i in range(4)], ["b.{0..2}.w", "b.3.w"]),
    ("first differs", [(f"b.{i}.w", i == 0) for i in range(3)], ["b.0.w", "b.{1,2}.w"]),
    ("alternating", [(f"b.{i}.w", i % 2) for i in range(6)], ["b.{0,2,4}.w", "b.{1,3,5}.w"]),
    ("mixed runs", [(f"b.{i}.w", i in (3, 4)) for i in range(9)], ["b.{0..2,5..8}.w", "b.{3,4}.w"]),
    ("experts", [(f"b.{i}.e.{j}.w", 0) for i in range(2) for j in range(4)], ["b.*.e.*.w"]),
    (
        "one odd expert",
        [(f"b.{i}.e.{j}.w", (i, j) == (1, 2)) for i in range(2) for j in range(3)],
        ["b.0.e.*.w", "b.1.e.{0,1}.w", "b.1.e.2.w"],
    ),
    ("order of the model", [("z.w", 0), ("b.0.w", 0), ("a.w", 0), ("b.1.w", 0)], ["z.w", "b.*.w", "a.w"]),
    ("names on top", [("0.weight", 1), ("2.weight", 2), ("4.weight", 1)], ["{0,4}.weight", "2.weight"]),
    ("digits in a word", [("layer1.w", 1), ("layer2.w", 1)], ["layer1.w", "layer2.w"]),
    ("no canonical number", [("b.01.w", 1), ("b.1.w", 1)], ["b.01.w", "b.1.w"]),
    ("a number at the end", [("scale.0", 1), ("scale.1", 1)], ["scale.*"]),
    ("different depth", [("b.0.w", 1), ("b.0.1.w", 1)], ["b.0.w", "b.0.1.w"]),
    ("numeric order", [("b.10.w", 1), ("b.9.w", 1), ("b.2.w", 2)], ["b.{9,10}.w", "b.2.w"]),
]


@pytest.mark.parametrize("items, expected", [case[1:] for case in FOLDING], ids=[case[0] for case in FOLDING])
def test_fold(items, expected):
    rows = fold(items)
    assert [row.name for row in rows] == expected
    stands_for = [name for row in rows for name in row.names]
    assert sorted(stands_for) == sorted(name for name, _ in items), "every name once"
    keys = dict(items)
    assert all(len({keys[name] for name in row.names}) == 1 for row in rows), "only equal rows fold"


def test_fold_names_writes_ranges_out():
    assert fold_names(f"l.{i}.w" for i in range(1, 12)) == ["l.{1..11}.w"]


def test_mask_indices():
    assert mask_indices("h12 (blocks.3.attn.q, gpt.py:41) <= 1/2") == "h* (blocks.*.attn.q, gpt.py:41) <= 1/2"
    assert mask_indices("l.0.e.11.w and 4.weight, n^0.5, n/16 + 32") == "l.*.e.*.w and *.weight, n^0.5, n/16 + 32"
