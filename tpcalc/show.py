"""What ``print`` shows of a result, and its picture.

No result knows its report, which stands above it: :func:`show` and :func:`draw` look it up by type.  The top of the
package, which knows both, has a report imported when a result of its type is first printed or drawn.
"""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Any, BinaryIO, Union


@singledispatch
def show(result: object, **options: Any) -> str:
    """The report on ``result``, as text.  Raises TypeError for a type without one."""
    raise TypeError(f"there is no report on a {type(result).__name__}")


@singledispatch
def draw(result: object, path: Union[str, Path, BinaryIO]) -> None:
    """A picture of ``result`` into a file.  Raises TypeError for a type without one, TpcalcError without matplotlib."""
    raise TypeError(f"there is no picture of a {type(result).__name__}")


class Shown:
    """Base of every result: ``print(result)`` is its report."""

    def __str__(self) -> str:
        return show(self)

    def __repr__(self) -> str:
        return show(self)
