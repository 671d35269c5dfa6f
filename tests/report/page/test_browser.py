"""The page in a browser: what one sees, clicks and types, and what a screen reader is told."""

from __future__ import annotations

import json

import pytest

from tests.report.page.conftest import SWEEP
from tests.report.page.made import HOSTILE, found, page
from tests.support.browser import Browser, axe

GRAPH = "tpcalc.page.graph"
pytestmark = pytest.mark.slow  # .ci/run runs them


def rows(browser: Browser) -> list[str]:
    return browser.texts("table.scaling tbody th .weight")


def spot(browser: Browser, box: str) -> tuple[float, float]:
    """Where a box of the drawing is in the window: near its upper left corner, where its head is."""
    script = f"""(() => {{
        const g = {GRAPH}, box = {box}, own = g.spot(box), canvas = g.canvas.getBoundingClientRect();
        return [canvas.x + g.view.x + (own.x + 20) * g.view.k, canvas.y + g.view.y + (own.y + 12) * g.view.k];
    }})()"""
    return tuple(browser.run(script))


def boxed(path: str) -> str:
    return f"tpcalc.boxes().find((box) => box.path === {json.dumps(path)} && box.kind !== 'op' && box.holds)"


# -- the table --


def test_the_table_filters_sorts_and_tells_roles(browser, pages):
    browser.open(pages("gpt"))
    everything = rows(browser)
    assert "blocks.*.attn.q.weight" in everything and len(everything) == 17
    filter = browser.find("#filter")
    filter.send_keys("attn.q")
    browser.until("document.querySelectorAll('table.scaling tbody tr').length === 1")
    assert rows(browser) == ["blocks.*.attn.q.weight"]
    filter.send_keys(" no such weight")
    browser.until("document.querySelectorAll('table.scaling tbody tr').length === 0")
    assert browser.find(".tables [role=status]").text == "0 weights in 0 rows"
    filter.clear()
    filter.send_keys("n")
    browser.named("output").click()
    browser.until("document.querySelectorAll('table.scaling tbody tr').length === 1")
    assert rows(browser) == ["head.weight"] and browser.named("output").get_attribute("aria-pressed") == "true"
    browser.named("all roles").click()
    head = next(each for each in browser.all("th .sort") if each.text.startswith("init std"))
    cell = head.find_element("xpath", "..")
    head.click()
    assert cell.get_attribute("aria-sort") == "ascending" and rows(browser)[0] == "head.weight"
    head.click()
    assert cell.get_attribute("aria-sort") == "descending" and rows(browser)[-1] == "head.weight"
    head.click()
    assert cell.get_attribute("aria-sort") == "none" and rows(browser) == everything
    assert browser.troubles() == []


def test_formulas_are_set(browser, pages):
    browser.open(pages("gpt"))
    row = "[...document.querySelectorAll('tbody tr')].find((r) => r.textContent.includes('blocks.*.attn.q.weight'))"
    math = browser.run(f"{row}.querySelector('td:nth-child(4) math').outerHTML")
    assert "<msup><mi>n</mi>" in math and '<mn>1</mn><mo lspace="0" rspace="0">/</mo><mn>2</mn>' in math
    tall, wide = browser.run(
        f"(({{height, width}}) => [height, width])({row}.querySelector('math').getBoundingClientRect())"
    )
    assert tall > 10 and wide > 20, "the browser sets it"


# -- why --


def test_a_row_says_why(browser, pages):
    browser.open(pages("gpt"))
    assert not browser.all(".why")
    next(each for each in browser.all("tbody .weight") if each.text == "blocks.*.mlp.fc.weight").click()
    told = browser.find(".why-body").text
    assert "blocks.0.mlp.fc.weight" in told and "One of 2 alike: blocks.*.mlp.fc.weight" in told
    for words in ("law 2: initial weight", "law 3: weight update", "smaller by 1/8", "gpt.py", "adamw ("):
        assert words in told
    browser.named("Show in the drawing").click()
    browser.settle()
    assert browser.find("#program").is_displayed() and browser.run("location.hash") == "#program"
    lit = browser.run(f"[...{GRAPH}.lit.onPath].map((value) => tpcalc.page.model.name(value))")
    assert lit[0] == "blocks.0.mlp.fc.weight" and len(lit) > 2
    assert browser.run(f"[...{GRAPH}.lit.onPath].every((v) => {GRAPH}.isShown(v))"), "what hides the way is open"
    browser.press("\ue00c")  # Escape
    browser.until("document.querySelector('.why').hidden")
    assert browser.run(f"{GRAPH}.lit.on") is False
    assert browser.troubles() == []


def test_a_click_on_a_value_says_why_it_is_as_large(browser, pages):
    browser.open(pages("mlp"), "program")
    browser.settle()
    browser.click_at(
        *spot(browser, "tpcalc.boxes().find((box) => box.label === 'addmm' && box.path === 'hidden' && !box.backward)")
    )
    told = browser.find(".why-body").text
    name = browser.run("tpcalc.page.model.name(tpcalc.page.why.thing.value)")
    assert told.startswith("Value") and f"{name} : V[n]" in told and "hidden, mlp.py" in told
    assert "after training" in told and "law " in told
    steps = browser.texts(".why .way .ref")
    assert steps[0] == name and len(steps) > 1
    browser.all(".why .way button.ref")[1].click()
    assert browser.run("tpcalc.page.model.name(tpcalc.page.why.thing.value)") == steps[1]
    browser.settle()
    assert steps[1] in browser.find("#live").get_attribute("textContent")
    assert browser.troubles() == []


# -- the drawing --


def test_boxes_open_and_fold_by_a_click(browser, pages):
    browser.open(pages("gpt"), "program")
    browser.settle()
    block = boxed("blocks.0")
    assert browser.run(f"{block}.open") is False
    before = browser.run(f"{GRAPH}.painter.drawn")
    browser.click_at(*spot(browser, block))
    browser.settle()
    assert browser.run(f"{block}.open") is True and browser.run(f"{GRAPH}.painter.drawn") > before
    assert "opened" in browser.find("#live").get_attribute("textContent")
    browser.click_at(*spot(browser, block))
    browser.settle()
    assert browser.run(f"{block}.open") is False and browser.run(f"{GRAPH}.painter.drawn") == before
    browser.named("Open all").click()
    browser.settle()
    assert browser.run("tpcalc.boxes().filter((box) => box.holds && !box.open && !box.backward).length") == 0
    browser.named("Fold").click()
    assert browser.run(f"{block}.open") is False
    assert browser.troubles() == []


def test_the_search_finds_and_goes_there(browser, pages):
    browser.open(pages("gpt"), "program")
    field = browser.find("#search")
    field.send_keys("attn.v.w")
    browser.until("document.querySelectorAll('#found [role=option]').length === 2")
    assert browser.texts("#found .what") == ["blocks.0.attn.v.weight", "blocks.1.attn.v.weight"]
    assert field.get_attribute("aria-expanded") == "true"
    browser.press("\ue015")  # down
    active = field.get_attribute("aria-activedescendant")
    assert browser.run("document.getElementById(arguments[0]).textContent", active).startswith("blocks.1.attn.v")
    browser.press("\ue007")  # Enter
    browser.settle()
    assert "blocks.1.attn.v.weight" in browser.find(".why-body").text
    name = f"tpcalc.page.model.name({GRAPH}.chosen.value)"
    assert browser.run(name) == "blocks.1.attn.v.weight"
    assert browser.run("document.querySelector('.outline [aria-selected=true]').textContent").startswith("weight")
    field.clear()
    field.send_keys("nowhere")
    browser.until("document.querySelector('#found').textContent.includes('Nothing has this')")
    browser.press("\ue00c")
    assert field.get_attribute("aria-expanded") == "false"
    for letters in ("attn.v.w", "head.w"):
        field.clear()
        field.send_keys(letters, "\ue007")  # at once: faster than it is looked up
        browser.settle()
        assert letters in browser.find(".why .name").text
    assert browser.troubles() == []


def test_the_other_pass_and_the_colours(browser, pages):
    browser.open(pages("mlp"), "program")
    for name in ("Backward", "Both", "Forward"):
        browser.named(name).click()
        browser.settle()
        assert browser.named(name).get_attribute("aria-pressed") == "true"
        assert browser.run(f"{GRAPH}.painter.drawn") > 3
    browser.run(f"{GRAPH}.reveal(tpcalc.page.model.weights[0].gradient)")
    browser.settle()
    lit = f"{GRAPH}.painter.scene.lit.on"
    assert browser.named("Backward").get_attribute("aria-pressed") == "true" and browser.run(lit) is True
    browser.run(f"({GRAPH}.light([{{ kind: 'path', values: [tpcalc.page.model.weights[0].gradient] }}]), 0)")
    browser.named("Forward").click()
    browser.settle()
    assert browser.run(lit) is False, "a way in the other pass dims nothing"
    choice = browser.find("#graph-orders")
    next(each for each in choice.find_elements("css selector", "option") if each.text == "at init").click()
    assert browser.run(f"{GRAPH}.painter.which") == "init"
    assert browser.troubles() == []


def test_keys_alone_are_enough(browser, pages):
    """From the top of the page to the reason of a value, without a mouse."""
    browser.open(pages("gpt"))
    tab, enter, right, down, escape = "\ue004", "\ue007", "\ue014", "\ue015", "\ue00c"
    browser.press(tab)
    assert browser.run("document.activeElement.outerHTML").startswith('<a class="skip"')
    browser.named("Program").click()
    browser.run("document.querySelector('.skip').focus()")
    browser.press(enter)
    assert browser.run("document.activeElement.id") == "panels" and browser.find("#program").is_displayed()
    browser.named("Table").click()
    weight = "document.querySelector('tbody .weight')"
    for leave in (escape, enter):  # from the panel itself, or by its button
        browser.run(f"{weight}.focus()")
        browser.press(enter)
        assert browser.run("document.activeElement.className") == "why"
        browser.press(*(() if leave == escape else (tab,)), leave)
        assert not browser.all(".why") and browser.run(f"document.activeElement === {weight}")
    browser.until("(document.querySelector('#tab-table').focus(), true)")
    browser.press(right)
    assert browser.run("document.activeElement.id") == "tab-program" and browser.find("#program").is_displayed()
    focused = []
    for _ in range(16):
        browser.press(tab)
        focused.append(browser.run("document.activeElement.tagName + '.' + document.activeElement.className"))
        if focused[-1] == "CANVAS.canvas":
            break
    assert focused[-1] == "CANVAS.canvas" and any(each.startswith("LI") for each in focused), "the outline comes before"
    visited = []
    for _ in range(3):
        browser.press(down)
        visited.append(browser.run(f"{GRAPH}.cursor.label"))
    assert len(set(visited)) == 3
    browser.run(f"{GRAPH}.moveTo({boxed('blocks.0')})")
    browser.press(enter)
    assert browser.run(f"{boxed('blocks.0')}.open") is True
    browser.press(right)
    inside = browser.run(f"{GRAPH}.cursor.parent.path")
    assert inside == "blocks.0"
    browser.settle()
    assert browser.find("#live").get_attribute("textContent")
    browser.press(escape)
    browser.press("/")
    assert browser.run("document.activeElement.id") == "search"
    assert browser.troubles() == []


def test_the_outline_is_a_tree_for_screen_readers(browser, pages):
    browser.open(pages("gpt"), "program")
    tree = browser.find("[role=tree]")
    top = tree.find_element("css selector", "[role=treeitem][tabindex='0']")
    assert top.get_attribute("aria-expanded") == "true" and top.get_attribute("aria-level") == "1"
    browser.run("document.querySelector('[role=treeitem][tabindex=\"0\"]').focus()")
    said = []
    for _ in range(6):
        browser.press("\ue015")
        said.append(browser.run("document.activeElement.firstChild.textContent"))
    assert any(text.startswith("token ") for text in said) and any("h33 : V[n]" in text for text in said)
    browser.press("\ue014")  # right: opens
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.press("\ue014")
    assert browser.run("document.activeElement.getAttribute('aria-level')") == "3"
    assert (
        browser.find("canvas").get_attribute("aria-label").startswith("Drawing of the tensor program, 328 operations")
    )
    assert browser.troubles() == []


# -- findings, check, transfer --


def test_findings_stand_at_their_place(browser, pages):
    browser.open(pages("full"), "findings")
    assert "hidden.weight" in browser.find(".findings").text
    assert browser.texts(".findings .severity") == ["error", "warning"]
    assert "no such place" in browser.all(".findings li")[1].text
    browser.named("Show in the drawing").click()
    browser.settle()
    assert browser.run(f"tpcalc.page.model.name({GRAPH}.chosen.value)") == "hidden.weight"
    assert browser.run(f"{GRAPH}.findings.get({GRAPH}.chosen)") == {"many": 1, "severity": "error"}
    assert "too large, at 100%" in browser.find(".why-body").text
    assert browser.run(f"[...{GRAPH}.findings.keys()].some((box) => box.path === 'hidden' && box.holds)"), (
        "also when folded"
    )
    assert browser.troubles() == []


def test_a_set_up_of_another_model_is_told(browser, pages, tmp_path):
    browser.open(pages("full"), "findings")
    assert browser.find(".strangers").text == (
        "The set-up is of another model than the drawing, which does not have 3 weights of it (l.0.w and others): "
        "findings stand where names agree."
    )
    given = found()
    given["verify"]["weights"] = [{**given["verify"]["weights"][0], "name": "hidden.weight"}]
    (tmp_path / "same.html").write_text(page("mlp", **given))
    browser.open(tmp_path / "same.html", "findings")
    assert not browser.all(".strangers") and browser.all(".findings")


def test_plots_of_check_and_transfer(browser, pages):
    browser.open(pages("full"), "check")
    assert "2 of 3 slopes not as predicted" in browser.find(".panel-check .verdict").text
    assert [each.text for each in browser.all(".panel-check tbody .error")] == ["above", "below"]
    browser.named("Transfer").click()
    labels = [each.get_attribute("aria-label") for each in browser.all(".panel-transfer svg[role=img]")]
    assert len(labels) == 2 and all(label.startswith("Loss against the learning rate") for label in labels)
    assert len(browser.all(".panel-transfer .curve")) == 6 and len(browser.all(".panel-transfer circle")) == 6
    sweep = json.loads(SWEEP.read_text())
    cells = browser.texts(".panel-transfer tbody tr:first-child td")
    assert cells[0] == "standard" and float(cells[1]) == pytest.approx(
        sweep["sizes"][0]["standard"]["optimum"], rel=5e-3
    )
    assert browser.troubles() == []


# -- the page itself --


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes(browser, pages, scheme):
    """As the system has it, and the other one by the switch."""

    def background() -> float:
        red, green, blue = browser.run("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)")[
            :3
        ]
        return (red + green + blue) / 3

    def canvas() -> float:
        browser.settle()
        return browser.run(
            f"""(() => {{
                const copy = new OffscreenCanvas(1, 1).getContext("2d", {{ willReadFrequently: true }});
                copy.drawImage({GRAPH}.canvas, -3, -3);
                return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3).reduce((a, b) => a + b) / 3;
            }})()"""
        )

    browser.open(pages("mlp"), "program", prefers_color_scheme=scheme)
    own, drawn = background(), canvas()
    assert (own > 128) == (drawn > 128) == (scheme == "light")
    browser.named("Dark" if scheme == "light" else "Light").click()
    assert (background() > 128) == (canvas() > 128) == (scheme == "dark")
    browser.named("Auto").click()
    assert background() == own and canvas() == drawn
    assert browser.troubles() == []


def test_motion_is_reduced_where_it_is_asked_for(browser, pages):
    zoomed = f"(() => {{ const g = {GRAPH}, k = g.view.k; g.zoom(1.4); return g.view.k / k; }})()"
    browser.open(pages("mlp"), "program", prefers_reduced_motion="reduce")
    assert browser.run(zoomed) == pytest.approx(1.4), "at once"
    browser.open(pages("mlp"), "program", prefers_reduced_motion="no-preference")
    assert browser.run(zoomed) == pytest.approx(1.0), "little by little"
    browser.settle()
    assert browser.run(f"{GRAPH}.view.k") > 0


def test_names_are_text_whatever_they_are(browser, pages):
    browser.open(pages("hostile"))
    shown = " ".join(rows(browser))
    for name in HOSTILE:
        assert name in shown
    last = browser.all("tbody .weight")[0]
    last.click()
    browser.named("Program").click()
    browser.named("Open all").click()
    browser.settle()
    for letters in ("<b>", "重量", "onerror", "wwww"):
        field = browser.find("#search")
        field.clear()
        field.send_keys(letters)
        shown = "[...document.querySelectorAll('#found .what')]"
        browser.until(f"{shown}.length && {shown}.every((each) => each.textContent.includes({json.dumps(letters)}))")
        browser.press("\ue007")
        browser.settle()
        assert letters in browser.find(".why .name").text
    browser.run(f"{GRAPH}.point({{ offsetX: 300, offsetY: 300 }})")
    assert browser.run("window.hacked") is None and not browser.all("body b, body img, body main script")
    assert browser.run("document.scripts.length") == 8, "data and one script"
    assert browser.troubles() == []


def test_nothing_is_asked_of_a_network(browser, pages):
    browser.open(pages("full"))
    for name in ("Program", "Findings", "Check", "Transfer", "Table"):
        browser.all(f"#tab-{name.lower()}")[0].click()
    assert browser.troubles() == []
    assert [url.partition("#")[0] for url in browser.requests] == [pages("full").as_uri()], "the page, and nothing else"


def test_the_browser_would_notice(browser, tmp_path):
    """An error on the console and a request are seen: the checks above can fail."""
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('broken'); fetch('http://127.0.0.1:9/x').catch(() => 0)</script>")
    browser.open(bad)
    browser.settle()
    assert any("broken" in each for each in browser.troubles())
    assert any("127.0.0.1:9" in each for each in browser.requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser, pages, scheme):
    if not axe():
        pytest.skip("axe-core is not installed: pip install --no-deps axe-playwright-python")
    rules = ("color-contrast",) if scheme == "dark" else ()  # the rest is the same in both
    browser.open(pages("full"), prefers_color_scheme=scheme)
    browser.all("tbody .weight")[0].click()
    for part in ("table", "program", "findings", "check", "transfer"):
        browser.all(f"#tab-{part}")[0].click()
        browser.settle()
        assert browser.violations(*rules) == [], part
    browser.all("#tab-program")[0].click()
    browser.find("#search").send_keys("weight")
    browser.until("document.querySelectorAll('#found [role=option]').length > 0")
    assert browser.violations(*rules) == [], "while it searches"


def test_axe_would_notice(browser, tmp_path):
    if not axe():
        pytest.skip("axe-core is not installed: pip install --no-deps axe-playwright-python")
    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='data:,'><button></button></body></html>")
    browser.open(bad)
    assert len(browser.violations()) >= 3
