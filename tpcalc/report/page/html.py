"""One page that needs nothing beside it: the document as data, the styles and the scripts, all in one text.

What is data is never markup.  It stands as JSON in elements that browsers do not run, with ``<``, ``>``, ``&`` and the
line ends of JavaScript escaped, and scripts show it as text.  A policy in the page (Content-Security-Policy) lets the
browser run the scripts that are here, by their hashes, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from importlib.resources import files
from string import Template
from typing import Any

from tpcalc.document.page import PageDocument

__all__ = ["page_html"]

#: In the order in which they are read.
STYLES = ("page.css", "why.css", "table.css", "graph.css", "plots.css")
SCRIPTS = (
    "vendor/dagre/dagre.min.js",
    "dom.js",
    "math.js",
    "data.js",
    "tree.js",
    "layout.js",
    "pen.js",
    "paint.js",
    "view.js",
    "lit.js",
    "words.js",
    "search.js",
    "graph.js",
    "outline.js",
    "why.js",
    "table.js",
    "findings.js",
    "plots.js",
    "check.js",
    "transfer.js",
    "main.js",
)
#: Parts of the document that a page reads when they are first shown.
LATE = ("table", "drawing", "why", "verify", "check", "transfers")


def page_html(page: PageDocument) -> str:
    """The page of a document.  The same document gives the same bytes."""
    data = page.data()
    parts = {"page": {key: value for key, value in data.items() if key not in LATE}}
    parts |= {name: data[name] for name in LATE}
    style = _joined(STYLES)
    script = f'(() => {{\n"use strict";\n{_joined(SCRIPTS)}}})();'
    title = f"tpcalc: {page.target}"
    return Template(_asset("page.html")).substitute(
        title=html.escape(title),
        policy=f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; "
        "form-action 'none'",
        style=style,
        script=script,
        data="\n".join(
            f'<script type="application/json" id="data-{name}">{escaped(part)}</script>' for name, part in parts.items()
        ),
    )


def escaped(data: Any) -> str:
    """JSON that may stand in an HTML element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()  # a lone half of a surrogate pair is no text


def _joined(names: Iterable[str]) -> str:
    """Files one behind the other, those of other projects behind their licences."""
    texts: list[str] = []
    for name in names:
        if "/" in name:
            texts.append(f"/*\n{_asset(name.rpartition('/')[0] + '/LICENSE')}*/\n")
        texts.append(_asset(name))
    return "\n".join(texts)


def _asset(name: str) -> str:
    """A file of this package, without the line that has debuggers look for another file beside the page."""
    path = files("tpcalc.report.page").joinpath("assets", *name.split("/"))
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL=")) + "\n"


def _source(text: str) -> str:
    """What a policy calls an inline element with this text: one line end at each side comes from the template."""
    digest = hashlib.sha256(f"\n{text}\n".encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
