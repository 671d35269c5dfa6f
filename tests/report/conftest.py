"""What tests of pictures share."""

from __future__ import annotations

import pytest

from tpcalc.report.plots import load_pyplot


@pytest.fixture
def figure_of(monkeypatch):
    """``(plot, result, path)`` -> the figure that the plot draws, before it is closed."""
    pyplot = load_pyplot()
    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)

    def draw(plot, result, path):
        plot(result, path)
        return figures[-1]

    yield draw
    monkeypatch.undo()
    pyplot.close("all")
