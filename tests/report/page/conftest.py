"""Pages of small models, and a browser to look at them."""

from __future__ import annotations

import pytest

from tests.support.browser import missing, started


@pytest.fixture(scope="session")
def browser():
    """Skips, with the reason, where there is none."""
    if reason := missing():
        pytest.skip(reason)
    with started() as found:
        yield found
