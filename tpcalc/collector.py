"""Python's garbage collector, left off while much is made and little freed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """A trace and what is derived of it make many objects and free few: collections would only walk them again and
    again.  A decorator, too.
    """
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


__all__ = ["without_gc"]
