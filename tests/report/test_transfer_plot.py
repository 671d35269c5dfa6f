"""Curves of a sweep as a picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import pytest

from tests.report.made import RATES, curve, transferred
from tpcalc.errors import TpcalcError
from tpcalc.report.transfer_plot import limits, transfer_plot
from tpcalc.transfer.result import Curve

INF = float("inf")


@pytest.fixture
def drawn(figure_of):
    """The figure of a sweep, before it is closed."""
    return partial(figure_of, transfer_plot)


def test_a_panel_for_each_parametrization_and_a_curve_for_each_size(drawn, tmp_path):
    result = transferred()
    figure = drawn(result, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["standard", "derived"]
    for axes in figure.axes:
        assert axes.get_xscale() == "log" and axes.get_ylim() == limits(result.curves)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["width=64", "width=256", "standard, best at width=256"]
    standard, derived = figure.axes
    for own, axes in ((result.curves[2], standard), (result.curves[3], derived)):
        lines = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in axes.lines}
        kept = RATES[:5] if axes is standard else RATES
        assert lines[kept] == own.means[: len(kept)], "without those that diverged"
        assert lines[(own.optimum.rate,)] == (own.loss,)
    crosses = [line for line in standard.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [tuple(line.get_xdata()) for line in crosses] == [RATES[5:]]


@pytest.mark.parametrize("count", [2, 3, 5, 7, 9, 12])
def test_learning_rates_stand_apart(drawn, tmp_path, count):
    """Whatever they are: within an octave or over decades."""
    for low, factor in ((1e-3, 1.1), (2e-3, 2.0), (1e-5, 10.0)):
        rates = tuple(low * factor**i for i in range(count))
        made = transferred()
        curves = tuple(replace(own, rates=rates, losses=((2.0,) * count,)) for own in made.curves)
        figure = drawn(replace(made, curves=curves), tmp_path / "ticks.png")
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.get_xticklabels(which="both") if text.get_text()]
            assert 2 <= len(boxes) <= 4 and all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_an_optimum_at_an_end_is_hollow(drawn, tmp_path):
    figure = drawn(replace(transferred(), curves=(curve("derived", 64, 1.0, 2.0),)), tmp_path / "a.svg")
    (dot,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dot.get_markerfacecolor() == "white" and tuple(dot.get_xdata()) == RATES[-1:]


def test_limits_leave_out_what_nearly_diverges():
    steady = Curve("derived", {"width": 64}, RATES, ((4.0, 3.0, 2.5, 2.4, 2.5, 3.0, 50.0),))
    low, high = limits([steady])
    assert 2.3 < low < 2.4 and 3.0 < high < 3.2
    wall = Curve("standard", {"width": 64}, RATES, ((3.0, 2.5, 2.2, 2.3, 1e6, INF, INF),))
    assert low > limits([steady, wall])[0] > 2.0 and limits([steady, wall])[1] < 6


def test_limits_hold_every_optimum():
    """One that is far above the others, too."""
    poor = Curve("standard", {"width": 256}, RATES, ((9.0,) * 6 + (8.0,),))
    good = [
        Curve("derived", {"width": width}, RATES, ((2.4, 2.2, 2.1, 2.0, 2.1, 2.2, 2.4),)) for width in (64, 128, 256)
    ]
    low, high = limits([poor, *good])
    assert low < 2.0 and high > 8.0


def test_limits_of_losses_over_decades_are_for_a_logarithmic_axis(drawn, tmp_path):
    losses = ((1.0, 0.1, 1e-2, 1e-3, 1e-2, 0.1, 1.0),)
    curves = (Curve("derived", {"width": 64}, RATES, losses), Curve("derived", {"width": 128}, RATES, ((0.5,) * 7,)))
    low, high = limits(curves)
    assert 0 < low < 1e-3 and high > 0.5
    assert drawn(replace(transferred(), curves=curves), tmp_path / "a.png").axes[0].get_yscale() == "log"


@pytest.mark.parametrize("losses", [(INF,) * 7, (2.0,) * 7, (0.0,) * 7, (-3.0, -4.0, -5.0, -4.0, INF, INF, INF)])
def test_whatever_the_losses_are_there_is_a_picture(drawn, tmp_path, losses):
    own = Curve("derived", {"width": 64}, RATES, (losses,))
    low, high = limits([own])
    assert low < high
    figure = drawn(replace(transferred(), curves=(own,)), tmp_path / "a.png")
    assert figure.axes[0].get_ylim() == (low, high)


def test_without_matplotlib_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TpcalcError, match=r"pip install 'tpcalc\[plot\]'"):
        transfer_plot(transferred(), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
