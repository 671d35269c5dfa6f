"""A search as a picture."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from functools import partial

import pytest

from tests.report.made import made_outcome, tuned
from tpcalc.errors import TpcalcError
from tpcalc.report.tune_plot import limits, tune_plot
from tpcalc.transfer.training import Outcome


@pytest.fixture
def drawn(figure_of):
    """The figure of a search, before it is closed."""
    return partial(figure_of, tune_plot)


def points(axes, marker) -> list:
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines]


def test_a_panel_for_each_number_and_one_for_the_order(drawn, tmp_path):
    result = tuned()
    figure = drawn(result, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["lr", "embedding.lr", "readout.init", "runs in order"]
    numbers = {job: (dict(job.numbers), result.done[job].loss) for job in result.jobs}
    for axes in figure.axes[:3]:
        name = axes.get_title()
        assert axes.get_xscale() == "log"
        low, high = axes.get_xlim()
        assert all(low < own[name] < high for own, _ in numbers.values())
        finite = [(own[name], loss) for job, (own, loss) in numbers.items() if math.isfinite(loss)]
        assert sorted(points(axes, "o") + points(axes, "D") + points(axes, "*")) == sorted(finite)
        assert points(axes, "*") == [(dict(result.best.numbers)[name], result.loss)]
        assert sorted(x for x, _ in points(axes, "x")) == sorted(
            own[name] for own, loss in numbers.values() if not math.isfinite(loss)
        )
    assert len(points(figure.axes[0], "x")) == 4 and len(points(figure.axes[0], "D")) == 3
    history = figure.axes[3]
    least = [line for line in history.lines if len(line.get_xdata()) == 16]
    assert len(least) == 1 and least[0].get_ydata()[-1] == result.after
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["25 steps", "100 steps", "taken"]


def test_what_is_far_above_stands_at_the_edge(drawn):
    result = tuned()
    done = {job: made_outcome(job) for job in result.jobs}
    far = next(job for job in result.jobs if job != result.best and math.isfinite(done[job].loss))
    figure = drawn(replace(result, done={**done, far: Outcome(1e6)}), io.BytesIO())
    assert [x for x, _ in points(figure.axes[0], "^")] == [far.base.lr]
    assert figure.axes[0].get_ylim()[1] < 100


def test_limits():
    assert limits([math.inf]) == (0.0, 1.0)
    low, high = limits([2.0, 3.0, 2.5, math.inf])
    assert low < 2.0 and 3.0 < high < 3.2
    assert limits([2.0, 2.0])[0] < 2.0 < limits([2.0, 2.0])[1]
    assert limits([1e-5, 1.0, 2.0])[0] == pytest.approx(1e-5 / 1.5), "on a logarithmic axis"


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TpcalcError, match="plots need matplotlib"):
        tune_plot(tuned(), io.BytesIO())
