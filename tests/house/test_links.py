"""Links of the pages lead somewhere: to files and headings that are there; addresses elsewhere are well formed.

Here the pages are read as the code host shows them; ``tests/house/test_site.py`` follows the links of the built site.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.pages import ROOT, is_made, pages
from tpcalc.optimizers import LAWS

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + pages()
_FENCED = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """Without code, in which brackets are no links."""
    return _CODE.sub(lambda code: "`" * len(code.group(0)), _FENCED.sub("", text))


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """Of headings, as the code host and MyST make them: lower case, no punctuation, hyphens for spaces."""
    found: Counter[str] = Counter()
    made = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCED.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return made


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        address = urlsplit(link)
        if address.scheme:
            if address.scheme not in ("https", "mailto") or not (address.netloc and "." in address.netloc):
                found.append(f"{link}: no address that could be opened")
            continue
        target = (page.parent / address.path).resolve() if address.path else page
        if is_made(target):
            found.append(f"{link}: is made with the site, and not there in the repository")
        elif not target.exists():
            found.append(f"{link}: there is no such file")
        elif address.fragment and target.suffix == ".md":
            if address.fragment not in anchors(target.read_text(encoding="utf-8")):
                found.append(f"{link}: there is no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert broken(page) == []


def test_broken_links_are_noticed(tmp_path):
    page = tmp_path / "a.md"
    (tmp_path / "b.md").write_text("# One, two `three`\n\n## One\n\n## One\n")
    page.write_text(
        "# A\n\n[x](b.md) [x](b.md#one-two-three) [x](b.md#one-1) [x](#a) ![x](https://example.org/y) `[x](no.md)`\n\n"
        "```text\n[x](no.md)\n```\n\n[x](c.md) [`x`](b.md#two) [x](http:/example) [x](#b)\n"
    )
    assert [line.split(":")[-1].strip() for line in broken(page)] == [
        "there is no such file",
        "there is no such heading",
        "no address that could be opened",
        "there is no such heading",
    ]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_sources_of_optimizers_are_in_the_bibliography(law):
    """By the surname of the first author and the year."""
    page = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8")
    found = re.findall(r"([A-Z]\w+)(?:(?:, [A-Z]\w+)* & [A-Z]\w+| et al\.)? (\d{4})", law.source)
    assert found, law.source
    for surname, year in found:
        assert re.search(rf"\b{surname}\b[^\n]*\b{year}\b", page), f"{surname} {year}"


def test_every_page_is_in_the_site():
    """Each page of docs stands in a table of contents: Sphinx warns of one that does not, and this says so sooner."""
    docs = ROOT / "docs"
    listed = set()
    for page in docs.rglob("*.md"):
        for tree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{entry}.md").resolve() for entry in entries}
    assert set(pages()) - listed == {docs / "index.md"}
