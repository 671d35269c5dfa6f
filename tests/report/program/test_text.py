"""The listing of a program, byte by byte."""

from __future__ import annotations

from tests.report.made import small_program
from tpcalc.report.program.text import program_text

LISTING = """\
# widths 128, 256, 512; 1 weights, 3 nodes
odd "name"\\w : V[n] = weight[96, n]
# forward
h2 : S = mm(odd "name"\\w : V[n], x : V[n])   # head, gpt.py:41
h3 : S = mul(h2 : S, 2*n^(-1/2), x=-inf)   # gpt.py:42
# backward
g4 : V[n], _ = expand(h3 : S, [n, 4, True, None])
# return logits h3
# assumption: x"""


def test_listing():
    assert program_text(small_program()) == LISTING
    assert str(small_program()) == repr(small_program()) == LISTING
