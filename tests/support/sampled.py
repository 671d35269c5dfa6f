"""Long walks: some of their steps in every run of the suite, all of them in ``make slow``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], every: int) -> list[Any]:
    """Parameters of a test; all but each ``every``-th are slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow if place % every else ())
        for place, case in enumerate(cases)
    ]
