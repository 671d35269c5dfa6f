"""What a table shows: columns, cells, and which blocks fold."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.report.made import VOCABULARY, N, make, make_rule
from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.algebra.size import Size
from tpcalc.derive.result import SliceRule
from tpcalc.report.table.rows import Power, slice_text, table_of
from tpcalc.report.table.text import table_text


def test_columns_that_say_nothing_are_left_out():
    sgd = make(make_rule("w", (N,), "vector", 0, 0, eps=None))
    assert "eps" not in table_of(sgd).columns and "multiplier" not in table_of(sgd).columns
    gauged = make(make_rule("w", (N,), "vector", 0, 0, a="1/2"), make_rule("v", (N,), "vector", 0, 0))
    assert "multiplier" in table_of(gauged).columns
    assert "n^-1/2" in table_text(gauged)


@pytest.mark.parametrize(
    "exponent, text",
    [("0", "1"), ("1", "n"), ("-1", "n^-1"), ("1/2", "n^1/2"), ("-3/2", "n^-3/2"), ("2", "n^2"), (None, "0")],
)
def test_powers(exponent, text):
    assert str(Power("n", MINUS_INFINITY if exponent is None else Fraction(exponent))) == text


DIFFERENCES = {
    "b": Fraction(1),
    "c": Fraction(1, 2),
    "a": Fraction(1),
    "eps": Fraction(1),
    "weight_decay": Fraction(0),
    "role": "output",
    "shape": (N, VOCABULARY),
    "trainable": False,
    "reason": "another reason",
    "slices": (SliceRule(0, N, N, ZERO, ZERO),),
}


@pytest.mark.parametrize("field", DIFFERENCES)
def test_blocks_fold_only_where_everything_shown_agrees(field):
    rules = [make_rule(f"b.{i}.w", (N, N), "hidden", "1/2", 1, reason=f"gives h{i} (b.{i}.w)") for i in range(3)]
    assert [row[0].text for row in table_of(make(*rules)).rows] == ["b.*.w"]
    rules[1] = replace(rules[1], **{field: DIFFERENCES[field]})
    assert [row[0].text for row in table_of(make(*rules)).rows] == ["b.{0,2}.w", "b.1.w"]


def test_shared_layers_show_their_aliases_folded():
    rule = make_rule("l.0.w", (N, N), "hidden", "1/2", 1, aliases=tuple(f"l.{i}.w" for i in range(1, 5)))
    assert [row[0].text for row in table_of(make(rule)).rows] == ["l.0.w = l.{1..4}.w"]


def test_slice_of_a_column():
    piece = SliceRule(1, Size.linear(2), Size.linear(Fraction(1, 16), 8), ZERO, ZERO, b=ZERO, c=ZERO)
    assert slice_text("w", piece, "n") == "w[:, 2*n : 33*n/16 + 8]: init std 1, lr 1"
    assert slice_text("w", piece, "n", trainable=False) == "w[:, 2*n : 33*n/16 + 8]: init std 1"
