"""How each size of a Hugging Face config follows the width, or several scales."""

from __future__ import annotations

import re
from typing import Optional

from tpcalc.errors import TargetError
from tpcalc.report.grid import fitted, itemized, wrapped


def config_text(factory: object, width: Optional[int] = None) -> str:
    """Every field that holds whole numbers, in the config and at width ``n`` or along scales; what was changed to fit.

    Raises TargetError for a factory that has no config.
    """
    growth = getattr(factory, "growth", None)
    if growth is None:
        raise TargetError("--explain-config is for hf: targets, and this one has no config; drop it")
    scales = {name for name in getattr(factory, "scales", {}) if name != "width"}
    names, n = {"n", "width", *scales}, str(getattr(factory, "n", "width"))
    rows = [
        (
            field,
            own,
            text if names & set(re.findall(r"[a-zA-Z_]\w*", text)) else "fixed" if text == own else f"fixed at {text}",
        )
        for field, own, text in growth()
    ]
    along = f"along {', '.join(getattr(factory, 'scales', {}))}, where n is {n}" if scales else "at width n"
    title = f"{getattr(factory, '__name__', '')}: sizes {along}; all other fields are those of the config"
    said = ("said of it", getattr(factory, "assumptions", []))
    table = fitted(("field", "config", "along scales" if scales else "width n"), rows, width)
    return "\n".join([*wrapped(title, width), "", *table, *itemized(said, width=width)]) + "\n"
