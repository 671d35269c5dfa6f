"""A verification's report as text and as GitHub annotations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.made import verified
from tpcalc.report.verify import report_github, report_text

TEXT = """\
setup at widths 64, 128, 256, on fake tensors
FAIL, kernel: the outputs move, the features do not (features move by n^-1/2); 1 error, 1 warning

error: explodes: l.{0,1}.w   # l.0, net.py:4
    too large, at 100%

warning: eps drift: b
    too small

what the code does, where n is the width, over that of the base:

weight  role    init std  lr    weight decay  eps
l.*.w   hidden  n^-1/2    1     n             n^-1  explodes
b       input   0         n^-1  1             1

Real instances, because on fake tensors: it reads numbers
Note: a note
Assumption: an assumption"""


def test_text():
    assert report_text(verified()) == TEXT
    assert str(verified()) == repr(verified()) == TEXT


@pytest.mark.parametrize("file, place", [(None, "net.py"), ("src/net.py", "src/net.py"), ("other.py", "net.py")])
def test_annotations_stand_at_the_line(file, place):
    lines = report_github(verified(), file).splitlines()
    assert lines[0] == (f"::error file={place},line=4,title=tpcalc%3A explodes::l.{{0,1}}.w: too large, at 100%25")
    nowhere = "" if file is None else f"file={file},"
    assert lines[1] == f"::warning {nowhere}title=tpcalc%3A eps drift::b: too small"
    assert lines[2].startswith("::notice title=tpcalc verify::FAIL, kernel: ")


def test_summary():
    assert replace(verified(), findings=(), regime="maximal").summary == (
        "ok, maximal: stable, and every weight moves as much as it can; 0 errors, 0 warnings"
    )
    warned = replace(verified(), findings=verified().findings[1:])
    assert warned.summary.startswith("ok with warnings, kernel") and warned.summary.endswith("0 errors, 1 warning")
