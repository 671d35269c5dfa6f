"""Public names that are imported on first use (PEP 562), so that a package costs nothing until it is asked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def late(package: str, defined_in: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``; ``defined_in``: public name -> the module that defines it."""

    def get(name: str) -> Any:
        if name not in defined_in:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(defined_in[name])
        return module if module.__name__ == f"{package}.{name}" else getattr(module, name)

    return get
