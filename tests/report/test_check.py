"""A check's result as text."""

from __future__ import annotations

from dataclasses import replace

from tests.report.made import checked, entry
from tpcalc.report.check import LISTED, result_text

TEXT = """\
Check of the derived parametrization with adamw: widths 64, 128, 256, 2 seeds, 5 steps

module  slopes  init       change  gradient  effect     verdict
----------------------------------------------------------------
fc      2       +0.50 (0)  -       -         +0.10 (0)  1 failed
(top)   1       -          -       -         -0.60 (0)  1 failed

each cell: measured slope (wanted order) of the value furthest off

failures:
  - below: effect of w: slope -0.60 +- 0.02, wanted 0, at least -1/4
  - above: init of h3 (fc, net.py:4): slope +0.50 +- 0.02, wanted 0, predicted 1/2

notes:
  - one note

FAILED: 2 of 3 slopes (tolerance 0.15; 3 slopes compared, 1 skipped)
"""


def test_text():
    assert result_text(checked()) == TEXT
    assert str(checked()) == repr(checked()) == TEXT


def test_noise_and_the_number_of_failures_are_told():
    many = tuple(entry(f"h{i}", "above", slope=0.5) for i in range(LISTED + 3))
    text = result_text(replace(checked(), entries=(*many, entry("x", "ok", reason="noise"))))
    assert text.count("  - above: ") == LISTED and "  - and 3 more (--format json lists all)\n" in text
    assert "\n1 of the slopes that pass are off by more than the tolerance" in text
    ok = replace(checked(), entries=(entry("x", "ok"),), notes=(), tolerance=0.1)
    assert "failures" not in result_text(ok) and result_text(ok).splitlines()[-1].startswith("ok (tolerance 0.1; 1 ")
