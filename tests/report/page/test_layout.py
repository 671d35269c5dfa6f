"""Where the boxes of the drawing stand, in a browser."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # .ci/run runs them
OPEN = "tpcalc.boxes().filter((box) => box.holds && box.open && box.drawn)"
#: Whether every child is inside of its box, and none on another one.
INSIDE = (
    OPEN
    + """.every((box) => box.children.every((a, i) =>
        a.x >= 0 && a.y >= 0 && a.x + a.w <= box.w + 1 && a.y + a.h <= box.h + 1 &&
        box.children.every((b, j) =>
            i <= j || a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y)))"""
)
#: By how much the ends of lines miss their boxes.
ENDS = (
    OPEN
    + """.flatMap((box) => box.wires.near.map((edge, i) => [edge, box.drawn.lines[i]]).filter(([, line]) => line))
        .map(([{ from, to }, line]) => Math.max(
            ...[[from, line[0]], [to, line[line.length - 1]]].map(([own, [x, y]]) =>
                Math.max(own.x - x, x - own.x - own.w, own.y - y, y - own.y - own.h))))"""
)


def test_nothing_overlaps_and_edges_meet_their_boxes(browser, pages):
    browser.open(pages("gpt"), "program")
    for scene in ("Forward", "Backward"):
        browser.named(scene).click()
        browser.named("Open all").click()
        assert browser.run(INSIDE), scene
        ends = browser.run(ENDS)
        assert len(ends) > 50 and max(ends) < 1.5, "every line ends on the borders of its two boxes"
    assert browser.troubles() == []


def test_weights_stand_at_the_ops_that_read_them(browser, pages):
    """Also in a module that calls many ops one after the other, where the last weights are read far down."""
    browser.open(pages("hostile"), "program")
    browser.settle()
    apart = browser.run(
        """tpcalc.boxes().filter((box) => box.kind === "leaf" && box.parent.open && box.drawn !== null)
            .map((box) => [box, tpcalc.page.graph.flow.edges(box.parent).find(({ from }) => from === box)])
            .filter(([, edge]) => edge).map(([box, { to }]) => to.y - box.y - box.h)"""
    )
    assert len(apart) > 8 and all(0 < each < 150 for each in apart)
    assert browser.troubles() == []
