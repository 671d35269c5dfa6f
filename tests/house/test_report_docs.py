"""Pictures of docs/report.md are there and are what is seen; its commands are walked by ``test_pages.py``."""

from __future__ import annotations

import re

import pytest

from tests.house.test_readme import ROOT
from tests.report.page.pictures import PICTURES, SHOWN, taken
from tests.support.browser import missing

PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def test_every_picture_is_shown_and_small():
    shown = re.findall(r"^!\[.+\]\(report/(\w+)\.png\)$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(SHOWN) == sorted(path.stem for path in PICTURES.iterdir())
    assert all(path.stat().st_size < 160_000 for path in PICTURES.iterdir())


@pytest.mark.slow
def test_pictures_are_what_is_seen(tmp_path):
    """As before, but for what fonts and small changes of a number make of it."""
    if reason := missing():
        pytest.skip(reason)
    image = pytest.importorskip("PIL.Image")
    for path in taken(tmp_path):
        now, before = (image.open(each).convert("L").resize((60, 38)) for each in (path, PICTURES / path.name))
        off = sum(abs(a - b) for a, b in zip(now.getdata(), before.getdata())) / (60 * 38)
        assert off < 6, f"{path.name} looks different; run python -m tests.report.page.pictures"
