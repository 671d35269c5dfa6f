"""A program as a graph, byte by byte."""

from __future__ import annotations

from tests.report.made import small_program
from tpcalc.report.program import dot


def test_dot():
    assert (
        dot.program_dot(small_program())
        == r"""digraph program {
  rankdir=TB;
  node [shape=box];
  n0 [label="mm\nhead, gpt.py:41", style="solid"];
  v0 [label="odd \"name\"\\w : V[n]", shape="ellipse", style="bold"];
  v1 [label="x : V[n]", shape="ellipse", style="solid"];
  n1 [label="mul\ngpt.py:42", style="solid"];
  n2 [label="expand", style="dashed"];
  n0 -> n1 [label="h2 : S"];
  v0 -> n0 [label="odd \"name\"\\w : V[n]"];
  v1 -> n0 [label="x : V[n]"];
  n1 -> n2 [label="h3 : S"];
  out0 [label="return logits", shape="plaintext"];
  n1 -> out0 [label="h3 : S"];
}
"""
    )
