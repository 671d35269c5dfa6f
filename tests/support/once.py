"""Functions that are run once for each of their arguments.

Not :func:`functools.lru_cache`: a trace empties those in files of the user's own, and tests are such files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    results: dict[Any, Any] = {}

    @wraps(function)
    def kept(*args: Any, **options: Any) -> Any:
        key = (args, tuple(sorted(options.items())))
        if key not in results:
            results[key] = function(*args, **options)
        return results[key]

    kept.cache_clear = results.clear  # type: ignore[attr-defined]
    return kept
