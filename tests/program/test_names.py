"""Folding of names, on random ones (its texts are in tests/report/test_report.py)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpcalc.program.names import first_meant, fold, fold_names, mask_indices

parts = st.one_of(st.sampled_from(["h", "q", "weight", "007", "x1"]), st.integers(0, 12).map(str))
names = st.lists(parts, min_size=1, max_size=4).map(".".join)
items = st.dictionaries(names, st.integers(0, 1), max_size=20)


def unfolded(name: str) -> list[str]:
    """The names that one with ranges written out stands for."""
    found = re.search(r"\{([\d,.]+)\}", name)
    if found is None:
        return [name]
    indices: list[int] = []
    for run in found[1].split(","):
        low, _, high = run.partition("..")
        indices.extend(range(int(low), int(high or low) + 1))
    return [text for i in indices for text in unfolded(name[: found.start()] + str(i) + name[found.end() :])]


@given(items)
def test_every_name_folds_once_and_only_with_its_like(table):
    rows = fold(table.items())
    assert sorted(name for row in rows for name in row.names) == sorted(table)
    assert all(len({table[name] for name in row.names}) == 1 for row in rows)
    order = list(table)
    firsts = [order.index(row.names[0]) for row in rows]
    assert firsts == sorted(firsts) and all(list(row.names) == sorted(row.names, key=order.index) for row in rows)


@given(items)
def test_written_out_ranges_read_back(table):
    for row in fold(table.items(), star=False):
        assert sorted(unfolded(row.name)) == sorted(row.names)
    assert sorted(name for row in fold_names(table) for name in unfolded(row)) == sorted(table)


@given(st.integers(0, 99), st.integers(0, 99))
def test_masked_sentences_of_two_blocks_are_equal(i, j):
    one, other = (mask_indices(f"blocks.{k}.q.weight meets h{k} in layers.{k}; blocks.{k}.attn twice") for k in (i, j))
    assert one == other == "blocks.*.q.weight meets h* in layers.*; blocks.*.attn twice"
    assert mask_indices(f"n^{i}, {i} rows") == f"n^{i}, {i} rows", "what is no index of a block stays"


NAMES = ("wte.weight", "h.0.q.weight", "h.1.q.weight", "h.12.q.weight", "h.1.k.weight", "h.1.3.w")


@pytest.mark.parametrize(
    "printed, found",
    [
        ("h.*.q.weight", "h.0.q.weight"),
        ("h.{1,5..12}.q.weight", "h.1.q.weight"),
        ("h.{5..12}.q.weight", "h.12.q.weight"),
        ("h.*.{k,v}.weight", "h.1.k.weight"),
        ("h.*.*.w", "h.1.3.w"),
        ("wte.weight = head.weight", "wte.weight"),
        ("h.{2..11}.q.weight", None),
        ("h.*.v.weight", None),
        ("h...k.weight", "h.1.k.weight"),
        ("h.{.q.weight", None),
        ("*", None),
    ],
)
def test_printed_names_are_understood(printed, found):
    assert first_meant(printed, NAMES) == found
