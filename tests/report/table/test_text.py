"""The table as text, byte by byte."""

from __future__ import annotations

import pytest

from tests.report.made import N, make, make_rule, small_gpt
from tpcalc.report.table.text import table_text

TEXT = """\
Scaling rules for adamw, n = width (traced at 128, 256, 512)

weight                       shape        role    init std  lr    weight decay  eps   why
----------------------------------------------------------------------------------------------------------------------
wte.weight = head.weight     [96, n]      input   1         1     1             n^-1  lookup
blocks.*.attn.q.weight       [n, n]       hidden  n^-1/2    n^-1  n             1     gives h* (blocks.*.q, gpt.py:41)
blocks.{0,1}.attn.kv.weight  [n + 32, n]  hidden  n^-1      n^-1  n             1     packed
blocks.2.attn.kv.weight      [n + 32, n]  hidden  n^-1      n^-1  n             1     packed
old.bias                     [n]          frozen  1         -     -             -     frozen

sites that need a multiplier:
  - blocks.{0,1}.attn (bmm, gpt.py:44): found n^1/2, needed 1; divide blocks.*.attn by d

slices with rules of their own:
  - blocks.2.attn.kv.weight[0 : n]: init std n^-1/2, lr n^-1 (hidden)
  - blocks.2.attn.kv.weight[n : n + 32]: init std n^-1, update n^-1 (output)

assumptions:
  - tokens are uniform & independent

notes:
  - a_b|c*d is 50% <odd>

conventions:
  - Weight decay is decoupled.
"""


def test_text():
    assert table_text(small_gpt()) == TEXT


def test_text_is_what_print_shows_and_never_cut():
    rules = make(make_rule("deep." * 60 + "weight", (N, N), "hidden", "1/2", 1, reason="because " * 60))
    assert str(rules) == table_text(rules)
    assert "deep." * 60 + "weight" in str(rules)
    assert "…" not in str(rules) and "..." not in str(rules)
    assert not any(line != line.rstrip() for line in str(rules).splitlines())


@pytest.mark.parametrize("columns", ["20", "80", "500"])
@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_text_does_not_depend_on_the_terminal(monkeypatch, columns, term):
    expected = table_text(small_gpt())
    for name, value in {"COLUMNS": columns, "TERM": term, "FORCE_COLOR": "1", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    assert table_text(small_gpt()) == expected


def test_a_terminal_wraps_only_the_reason():
    rules = make(make_rule("layer.weight", (N, N), "hidden", "1/2", 1, reason="because " * 30 + "[n, n]"))
    lines = table_text(rules, width=110).splitlines()
    assert max(map(len, lines)) <= 110
    assert any("layer.weight" in line and "[n, n]" in line for line in lines)
    assert "".join(lines).count("because") == 30


def test_brackets_are_no_markup():
    printed = table_text(make(make_rule("w", (N,), "vector", 0, 0, reason="[bold]x[/bold] :smile: [red]")))
    assert "[bold]x[/bold] :smile: [red]" in printed and "[n]" in printed
