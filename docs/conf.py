"""The site: every page of this folder, and a reference that is made from the code.  ``make docs`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import tpcalc  # noqa: E402

project = "tpcalc"
author = "tpcalc authors"
copyright = author
version = release = tpcalc.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx_copybutton",
    "reference",
    "repository",
    "notebook",
    "accessible",
    "consoles",
]
exclude_patterns = ["_*", "**/recipe"]

# Anchors as the code host makes them, so that a link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "attrs_block"]

add_module_names = False
toc_object_entries = False
smartquotes = False  # --widths is no dash

# Consoles: the prompt and what is printed are not copied.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"tpcalc {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "default"
pygments_dark_style = "monokai"
