"""The page on paper, on a phone, magnified, and in the colours of the system."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # .ci/run runs them
#: How many colours the drawing has.
COLOURS = """(() => {
    const { canvas } = tpcalc.page.graph;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return new Set(new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
})()"""
PARTS = ("table", "program", "findings", "check", "transfer")


@pytest.fixture
def sized(browser):
    """The browser, to be given another size: (width, height)."""

    def sized(width: int, height: int):
        given = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", given)
        return browser

    yield sized
    sized(1440, 900)


@pytest.mark.parametrize("size", [(390, 844), (320, 568), (720, 450)], ids=["phone", "small phone", "at 200%"])
def test_everything_has_its_place_in_a_small_window(sized, pages, size):
    browser = sized(*size)
    browser.open(pages("full"))
    for part in PARTS:
        browser.all(f"#tab-{part}")[0].click()
        browser.settle()
        assert browser.run("document.documentElement.scrollWidth") <= size[0], part
    browser.all("#tab-program")[0].click()
    browser.run("tpcalc.page.explain('hidden.weight')")
    browser.settle()
    assert browser.run("tpcalc.page.graph.canvas.clientHeight") >= 200 and browser.find(".why").is_displayed()
    assert browser.troubles() == []


def test_the_colours_of_the_system_leave_a_drawing(browser, pages):
    browser.open(pages("full"), "program", forced_colors="active")
    browser.settle()
    assert browser.run(COLOURS) > 20
    assert browser.run("getComputedStyle(document.querySelector('.swatch')).forcedColorAdjust") == "none"


@pytest.mark.parametrize("part", PARTS)
def test_on_paper_nothing_is_cut(sized, pages, part):
    browser = sized(794, 1123)  # A4 at 96 dots an inch
    browser.open(pages("full"), part)
    if part == "table":
        browser.all("tbody .weight")[2].click()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.settle()
    cut = browser.run(
        """[...document.querySelectorAll("body, main, .panel:not([hidden]), .scroller, .why-body")].filter(
            (each) => each.scrollWidth > each.clientWidth + 1 ||
                (each.scrollHeight > each.clientHeight + 1 && getComputedStyle(each).overflowY !== "visible")
        ).map((each) => each.className)"""
    )
    assert cut == [] and not browser.all(".toolbar, .tabs")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
