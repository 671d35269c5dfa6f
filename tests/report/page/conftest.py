"""Pages of small models, and a browser to look at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.page.made import found, page
from tests.support.browser import missing, started

SWEEP = Path(__file__).parents[3] / "docs" / "transfer" / "gpt" / "drift.json"


@pytest.fixture(scope="session")
def browser():
    """Skips, with the reason, where there is none."""
    if reason := missing():
        pytest.skip(reason)
    with started() as found:
        yield found


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Files of pages, written once."""
    folder, made = tmp_path_factory.mktemp("pages"), {}

    def written(name: str, **more) -> Path:
        key = f"{name}{len(made) if more else ''}"
        if key not in made:
            made[key] = folder / f"{key}.html"
            made[key].write_text(page(name, **more), encoding="utf-8")
        return made[key]

    full = written("mlp", **found(), transfers={"gpt/drift": json.loads(SWEEP.read_text())})
    return lambda name: full if name == "full" else written(name)
