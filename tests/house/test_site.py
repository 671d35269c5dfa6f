"""The built site: no warning, every internal link and anchor leads somewhere, and axe-core finds nothing.

``make docs-check`` has what this needs (Sphinx, axe-core; a Chromium has to be there); ``make slow`` skips what is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browser import axe, missing, started
from tests.support.pages import ROOT

pytestmark = pytest.mark.slow
#: The success criteria of WCAG 2.2, levels A and AA.
STANDARD = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
SPHINX = ("sphinx", "furo", "myst_parser", "sphinx_copybutton")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built anew as ``make docs`` does."""
    if missing := [name for name in SPHINX if find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: make docs-check")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", str(folder / "trees")]
    done = subprocess.run(
        [*command, "-b", "html", str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """Links and anchors of a page, and images without a description."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.bare: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag in ("a", "link") and given.get("href"):
            self.links.append(given["href"])
        if tag in ("img", "script") and given.get("src"):
            self.links.append(given["src"])
        if tag == "img" and not given.get("alt"):
            self.bare.append(given.get("src") or "?")


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def lost(pages: dict[Path, Page]) -> list[str]:
    """Links of pages that lead nowhere within the site."""
    found = []
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not target.exists():
                found.append(f"{path.name}: {link}")
            elif address.fragment and target in pages and unquote(address.fragment) not in pages[target].anchors:
                found.append(f"{path.name}: {link} has no such anchor")
    return found


def test_links_and_anchors(pages):
    assert len(pages) > 40
    assert lost(pages) == []


def test_a_lost_link_is_noticed(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("")
    page = Page('<a id="b" href="#b"></a><a href="c.html"></a><a href="#d"></a><a href="https://example.org"></a>')
    assert lost({path: page}) == ["a.html: c.html", "a.html: #d has no such anchor"]


def test_images_are_described(pages):
    assert {path.name: page.bare for path, page in pages.items() if page.bare} == {}


def test_what_is_made_from_the_code_is_there(site):
    for page, words in {
        "api": ("tpcalc.", "param_groups", "SetupError"),
        "command-line": ("--max-drift", "--horizon", "tpcalc verify"),
        "json": ("tpcalc.transfer/1", "weight_decay"),
        "rules": ("aten.addmm", "Contract", "aten.sym_size"),
        "refusals": ("UnsupportedOpError", "has no rule", "which is no power of n"),
        "index": tuple(f'{name}.html"><span' for name in ("api", "command-line", "json", "rules", "refusals")),
    }.items():
        text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        assert [word for word in words if word not in text] == [], page


def test_tutorials_are_notebooks(site):
    notebooks = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
    assert len(notebooks) == 5
    for path in notebooks:
        made = json.loads(path.read_text(encoding="utf-8"))
        assert made["nbformat"] == 4 and {cell["cell_type"] for cell in made["cells"]} == {"code", "markdown"}
        assert any(path.name in link for link in Page((site / "tutorials" / f"{path.stem}.html").read_text()).links)


@pytest.fixture(scope="module")
def browser():
    if reason := missing() or ("" if axe() else "axe-core is not installed: make docs-check"):
        pytest.skip(reason)
    with started() as window:
        yield window


def found(browser, path: Path) -> list[str]:
    """What axe-core finds on a page, in both themes, which differ in nothing but colours."""
    said = []
    for theme, rules in (("light", STANDARD), ("dark", ("color-contrast",))):
        browser.open(path, prefers_color_scheme=theme)
        said += [f"{path.name} ({theme}): {each}" for each in browser.violations(*rules)]
    return said


def test_axe_finds_nothing(browser, pages):
    said = [each for path in pages for each in found(browser, path)]
    assert said == [], "\n".join(said[:40])


def test_axe_notices(browser, tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<html><head><title>a</title></head><body><img src="b.png"></body></html>')
    said = " ".join(found(browser, page))
    assert "image-alt" in said and "html-has-lang" in said
