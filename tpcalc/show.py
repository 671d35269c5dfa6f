"""What ``print`` shows of a result.

No result knows its report, which stands above it: :func:`show` looks it up by type.  The top of the package, which
knows both, has a report imported when a result of its type is first printed.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any


@singledispatch
def show(result: object, **options: Any) -> str:
    """The report on ``result``, as text.  Raises TypeError for a type without one."""
    raise TypeError(f"there is no report on a {type(result).__name__}")


class Shown:
    """Base of every result: ``print(result)`` is its report."""

    def __str__(self) -> str:
        return show(self)

    def __repr__(self) -> str:
        return show(self)
