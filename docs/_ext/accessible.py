"""What the theme leaves out for those who use no mouse or no eyes: ``tests/house/test_site.py`` runs axe-core.

- Code and tables that are wider than the page scroll, so a keyboard has to reach them.
- Captions of the navigation are headings, which need a level.
"""

from __future__ import annotations


def amend(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    if body := context.get("body"):
        body = body.replace("<pre>", '<pre tabindex="0">')
        context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    if tree := context.get("furo_navigation_tree"):
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app) -> dict[str, bool]:
    app.connect("html-page-context", amend, priority=900)  # behind the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
