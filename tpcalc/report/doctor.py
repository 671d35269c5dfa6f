"""What is installed, as text: what is missing or too old, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tpcalc.installed import OPTIONAL, Part
from tpcalc.report.grid import fitted, itemized, within

__all__ = ["doctor_text"]


def doctor_text(found: tuple[str, Sequence[Part]], width: Optional[int] = None) -> str:
    """``found``: the machine in words, and the parts.  Ends with what to type, or with ``ok``."""
    machine, parts = found
    rows = [(part.name, part.version or "-", f">={part.least}" if part.least else "", _state(part)) for part in parts]
    wrong = [part for part in parts if not part.is_fine]
    mend = [_mended(part) for part in wrong]
    verdict = "ok" if all(part.extra for part in wrong) else "FAIL: tpcalc needs more than there is"
    lines = [machine, "", *fitted(("part", "version", "needed", ""), rows, width, prose=True)]
    lines += [*itemized(("to install what is missing, too old or broken", mend), width=width), "", verdict]
    return "\n".join(within(lines, width)) + "\n"


def _mended(part: Part) -> str:
    least = f">={part.least}" if part.least else ""
    extra = f"   (extra {part.extra}: {OPTIONAL[part.extra]})" if part.extra else ""
    return f'pip install --upgrade "{part.name}{least}"{extra}'


def _state(part: Part) -> str:
    use = f"for {OPTIONAL[part.extra]}" if part.extra else ""
    state = "missing" if not part.version else "too old" if part.is_old else part.trouble or "ok"
    return f"{state}; {use}" if use and state != "ok" else f"{state}, {use}" if use else state
