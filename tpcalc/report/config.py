"""How each size of a Hugging Face config follows the width."""

from __future__ import annotations

from typing import Optional

from tpcalc.errors import TargetError
from tpcalc.report.grid import fitted, itemized, wrapped


def config_text(factory: object, width: Optional[int] = None) -> str:
    """Every field that holds whole numbers, in the config and at width ``n``; what was changed to fit.

    Raises TargetError for a factory that has no config.
    """
    growth = getattr(factory, "growth", None)
    if growth is None:
        raise TargetError("--explain-config is for hf: targets, and this one has no config; drop it")
    rows = [
        (field, own, text if "n" in text else "fixed" if text == own else f"fixed at {text}")
        for field, own, text in growth()
    ]
    title = f"{getattr(factory, '__name__', '')}: sizes at width n; all other fields are those of the config"
    said = ("said of it", getattr(factory, "assumptions", []))
    table = fitted(("field", "config", "width n"), rows, width)
    return "\n".join([*wrapped(title, width), "", *table, *itemized(said, width=width)]) + "\n"
