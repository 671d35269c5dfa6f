"""The figures of the site are drawn by benchmarks/figures.py from the data that is there now."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.figures import DOCS, DRAWN, FIGURES, draw, source_hash
from benchmarks.gallery import MISTAKES, SETUPS, slope


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_of_its_data(name):
    sources, _ = DRAWN[name]
    said = (FIGURES / f"{name}.svg").read_text(encoding="utf-8")
    assert f"sha256 {source_hash(sources)}" in said, "run `python -m benchmarks.figures`"


def test_no_figure_is_left_over():
    assert {path.stem for path in FIGURES.glob("*.svg")} == set(DRAWN)
    used = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    assert [name for name in DRAWN if f"figures/{name}.svg" not in used] == []


def test_a_figure_is_drawn(tmp_path):
    drawn = draw("law-2", tmp_path).read_text(encoding="utf-8")
    assert drawn.startswith("<?xml") and drawn.count("<g id=") > 20


def test_slopes_are_those_of_the_values():
    found = json.loads((FIGURES / "gallery.json").read_text())
    for mistake in found.values():
        for kind in ("wrong", "right"):
            assert abs(slope(mistake["sizes"], mistake[kind]["values"]) - mistake[kind]["slope"]) < 0.01
    assert slope((1, 2, 4), [3.0, 6.0, 12.0]) == pytest.approx(1)


def test_the_gallery_is_measured():
    found = json.loads((FIGURES / "gallery.json").read_text())
    files = {path.stem for path in SETUPS.glob("*.py")} - {"models", "right"}
    assert set(found) == set(MISTAKES) == files
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\) \| (.+) \|$", page, re.MULTILINE))
    assert len(rows) == len(found)
    for name, mistake in found.items():
        assert f"#{name.replace('_', '-')} " in page.replace(")", " ") or name in page
        row = (mistake["what"], mistake["predicted"], *(f"{mistake[k]['slope']:+.2f}" for k in ("wrong", "right")))
        assert " | ".join(row) in page, f"the row of {name} is {' | '.join(row)}"


def test_tables_of_slopes_are_of_their_data():
    found = json.loads((FIGURES / "coordinates.json").read_text())
    page = (DOCS / "why.md").read_text(encoding="utf-8")
    for value, name in found["names"].items():
        slopes = [found[kind][value][step]["slope"] for kind in ("standard", "derived") for step in ("1", "8")]
        assert " | ".join((f"| {name}", *(f"{slope:+.2f}" for slope in slopes))) in page


def test_tables_of_transfers_are_of_their_data():
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.*\[data\]\((.+?)\) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for name, file in rows:
        found = json.loads((DOCS / file).read_text())
        drifts = (f"{found['drift'][kind]:+.2f} +-{found['drift_error'][kind]:.2f}" for kind in ("derived", "standard"))
        assert " | ".join(drifts) + f" | [figure]({file.rpartition('/')[0]}" in page
        lost = found["at_largest"]["derived"]["against_standard"]
        assert f"| `{name}` | {lost['difference']:+.3f} +-{lost['error']:.3f} |" in page
