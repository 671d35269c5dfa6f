"""Links that leave the folder of the pages: they work on the code host, and on the site, too.

A page links to ``../CONTRIBUTING.md`` as a file of the repository.  Here that is a page of its own, whose text is that
file; links to any other file (an example, a schema) become downloads, which is what MyST makes of them by itself.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Files of the repository that are pages of the site -> the page.
PAGES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "README.md": "index"}
_LINK = re.compile(r"(\]\()((?:\.\./)*)([\w./-]+)(#[\w-]+)?(\))")


def rewritten(text: str, docname: str) -> str:
    """The text of a page with links to those files as links to their pages."""
    up = "../" * docname.count("/")

    def link(match: re.Match) -> str:
        start, dots, path, anchor, end = match.groups(default="")
        if dots == "../" + up and path in PAGES:
            return f"{start}{up}{PAGES[path]}.md{anchor}{end}"
        return match.group(0)

    return _LINK.sub(link, text)


def carried(path: Path) -> str:
    """The text of a file at the root of the repository, as a page in ``docs``."""

    def link(match: re.Match) -> str:
        start, _, target, anchor, end = match.groups(default="")
        if target in PAGES:
            return f"{start}{PAGES[target]}.md{anchor}{end}"
        inside = target.removeprefix("docs/")
        return f"{start}{inside if inside != target else '../' + target}{anchor}{end}"

    return _LINK.sub(link, path.read_text(encoding="utf-8"))


def read(app, docname: str, source: list[str]) -> None:
    file = {page: name for name, page in PAGES.items() if name != "README.md"}.get(docname)
    if file is None:
        source[0] = rewritten(source[0], docname)
    else:
        app.env.note_dependency(str(ROOT / file))
        source[0] = carried(ROOT / file)


def setup(app) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
