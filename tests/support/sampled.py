"""Long walks: some of their steps in every run of the suite, all of them in ``make slow``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def kept(cases: Iterable[Any], keep: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test; those that ``keep`` refuses are slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if keep(case) else pytest.mark.slow)
        for case in cases
    ]


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Parameters of a test; all but each ``every``-th are slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow if place % every else ())
        for place, case in enumerate(cases)
    ]
