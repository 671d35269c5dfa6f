"""One text: data that can't become markup, a policy that lets nothing in, files that are all there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.page.made import HOSTILE, document, page
from tpcalc.report.page.html import SCRIPTS, STYLES, escaped, page_html

ASSETS = Path(__file__).parents[3] / "tpcalc" / "report" / "page" / "assets"


class Read(HTMLParser):
    """Elements with what is in them, as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, before = self.found[-1]
            self.found[-1] = tag, attributes, before + data


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "a\u0000b"])
def test_what_is_escaped_is_no_markup_and_is_read_as_it_was(text):
    made = escaped({"name": text})
    assert not set("<>&\u2028\u2029") & set(made)
    made.encode("utf-8")
    assert json.loads(made)["name"] == (text if text != "\ud800" else "?")


def test_the_document_is_in_the_page():
    elements = Read(page("hostile")).found
    data = {
        found["id"].removeprefix("data-"): json.loads(text)
        for tag, found, text in elements
        if "id" in found and found.get("type") == "application/json"
    }
    whole = document("hostile").data()
    assert {**data.pop("page"), **data} == json.loads(json.dumps(whole))
    names = {weight["name"].partition("</b>.")[2] for weight in whole["drawing"]["weights"]}
    assert set(HOSTILE) <= names


def test_hostile_targets_are_text():
    text = page_html(document("mlp").model_copy(update={"target": "</title><script>alert(1)</script>$data"}))
    assert "<script>alert" not in text and "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;$data" in text
    assert len(re.findall("<script", text)) == 8


def test_nothing_is_loaded_and_only_what_is_here_runs():
    text = page("mlp")
    policy = next(found["content"] for _, found, _ in Read(text).found if found.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for element, rule in (("style", "style-src"), ("script", "script-src")):
        (inner,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'", "what the browser computes"
    assert not re.search(
        r"\b(src|href)=(?!\"#panels\")", re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    )
    assert "sourceMappingURL" not in text and "unsafe" not in policy


def test_the_same_document_gives_the_same_page():
    assert page("mlp") == page("mlp")


def test_every_file_is_used_and_has_its_licence():
    files = {path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*") if path.is_file()}
    vendored = {name for name in files if name.startswith("vendor/")}
    assert files - vendored == {*STYLES, *(name for name in SCRIPTS if "/" not in name), "page.html"}
    notes = (ASSETS / "vendor" / "README.md").read_text()
    for name in (name for name in SCRIPTS if "/" in name):
        folder = Path(name).parent
        assert (ASSETS / folder / "LICENSE").read_text().strip() and f"`{folder.name}/`" in notes
        version = re.search(rf"`{folder.name}/` \|.*?\| (\d+\.\d+\.\d+) \| MIT", notes)
        assert version and version[1] in (ASSETS / name).read_text(), "the version that is written down"
    copyright = next(line for line in (ASSETS / "vendor/dagre/LICENSE").read_text().splitlines() if "Copyright" in line)
    assert copyright in page("mlp"), "the licence goes with the page"


def test_scripts_make_no_markup_of_text():
    """Names reach the page as text alone."""
    for name in SCRIPTS:
        if "/" not in name:
            text = (ASSETS / name).read_text()
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
            ), name
            assert len(text.splitlines()) <= 450, name


def test_wheels_have_the_files(tmp_path):
    """What pyproject.toml declares covers every file."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    root = ASSETS.parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    declared = {
        path for pattern in patterns["tpcalc.report.page"] for path in ASSETS.parent.glob(pattern) if path.is_file()
    }
    assert declared == {path for path in ASSETS.rglob("*") if path.is_file()}
