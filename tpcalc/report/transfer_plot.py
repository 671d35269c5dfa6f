"""Loss against the learning rate, a curve a size, a panel a parametrization (matplotlib, the extra ``plot``)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from tpcalc.algebra.scales import scales_text
from tpcalc.report.plots import load_pyplot, save
from tpcalc.transfer.result import STANDARD, Curve, Transfer

__all__ = ["TALLEST", "limits", "set_losses", "transfer_plot", "with_margins"]

#: Losses are drawn up to this many times the usual height of the curves near their optima.
TALLEST = 6.0
#: Of a panel, on the axis of learning rates.
MOST_TICKS = 4
#: Where the highest of them is more than this many times the lowest, the axis is logarithmic.
WIDE = 20.0


def transfer_plot(result: Transfer, path: Union[str, Path]) -> None:
    """Panels share their axes.  Lines are means over seeds, shaded from the least to the largest of them; a dot is the
    optimum with its standard error, hollow at an end of the grid; a cross at the top is a rate at which a run diverged.

    The dotted line is the optimum at the smallest size: it goes through all dots where the rate carries over.  The
    dashed one is the best that standard parametrization reaches at the largest size.

    Raises TpcalcError where matplotlib is missing.
    """
    pyplot = load_pyplot()
    names, places = result.parametrizations, result.places
    figure, axes = pyplot.subplots(
        *(1, len(names)),
        figsize=(max(3.2 * len(names), 4.0), 3.6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    colours = _colours(pyplot, len(places))
    handles = [
        pyplot.Line2D([], [], color=colour, lw=1.4, label=scales_text(place)) for colour, place in zip(colours, places)
    ]
    bar = result.find(STANDARD, places[-1])
    for panel, name in zip(axes[0], names, strict=True):
        for index, place in enumerate(places):
            curve = result.find(name, place)
            if curve is not None:
                _draw(panel, curve, colours[index], 0.98 - 0.03 * index)
        first = result.find(name, places[0])
        if first is not None and first.optimum is not None:
            panel.axvline(first.optimum.rate, color="0.5", lw=0.8, ls=":", zorder=0)
        if bar is not None and math.isfinite(bar.loss):
            line = panel.axhline(bar.loss, color="0.5", lw=0.8, ls="--", zorder=0)
            line.set_label(f"{STANDARD}, best at {scales_text(places[-1])}")
            handles[len(places) :] = [line]
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("learning rate, as at the base", fontsize=8)
        panel.tick_params(labelsize=7)
    axes[0][0].set_xscale("log")
    rates = sorted({rate for curve in result.curves for rate in curve.rates})
    ticks = rates[:: max(1, math.ceil(len(rates) / MOST_TICKS))]
    axes[0][0].set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])  # shared by all panels
    axes[0][0].minorticks_off()
    set_losses(axes[0][0], *limits(result.curves))
    axes[0][0].set_ylabel("loss", fontsize=8)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * len(names)), fontsize=8, frameon=False
    )
    figure.suptitle(f"{result.name}, {result.optimizer}, {result.steps} steps", fontsize=9)
    save(figure, path)
    pyplot.close(figure)


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Of the loss axis: every optimum is inside, with the two rates on either side of it unless they are far above.

    What diverges, or nearly does, would else press all curves flat.
    """
    near: list[float] = []
    for curve in curves:
        window = curve.means[max(curve.best - 2, 0) : curve.best + 3]
        near += [mean for mean in window if math.isfinite(mean)]
    if not near:
        return 0.0, 1.0
    low, worst = min(near), max(curve.loss for curve in curves if math.isfinite(curve.loss))
    usual = max(statistics.median(near), worst) - low
    high = min(max(near), low + TALLEST * usual) if usual > 0 else max(near)
    return with_margins(low, high)


def with_margins(low: float, high: float) -> tuple[float, float]:
    """The ends of a loss axis on which ``low`` and ``high`` are not at its very edge."""
    if low > 0 and high > WIDE * low:
        return low / 1.5, high * 1.5
    margin = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    return low - margin, high + margin


def set_losses(axes: Any, low: float, high: float) -> None:
    """Give axes the ends of their losses; they are logarithmic where these are far apart."""
    if low > 0 and high > WIDE * low:
        axes.set_yscale("log")
    axes.set_ylim(low, high)


def _colours(pyplot: Any, count: int) -> list[Any]:
    """From light to dark with the size: told apart in grey print too."""
    shades = pyplot.get_cmap("viridis")
    return [shades(0.85 - 0.8 * index / max(count - 1, 1)) for index in range(count)]


def _draw(panel: Any, curve: Curve, colour: Any, top: float) -> None:
    """``top``: part of the height at which crosses stand."""
    at_each = zip(curve.rates, zip(*curve.losses, strict=True), strict=True)
    fine = [(rate, own) for rate, own in at_each if all(map(math.isfinite, own))]
    rates = [rate for rate, _ in fine]
    wild = [rate for rate in curve.rates if rate not in rates]
    panel.plot(rates, [sum(own) / len(own) for _, own in fine], color=colour, lw=1.2, marker=".", ms=3)
    lower, upper = [min(own) for _, own in fine], [max(own) for _, own in fine]
    panel.fill_between(rates, lower, upper, color=colour, alpha=0.25, lw=0)
    panel.plot(wild, [top] * len(wild), "x", color=colour, ms=4, transform=panel.get_xaxis_transform())
    optimum = curve.optimum
    if optimum is not None:
        off = 2 ** (optimum.error or 0.0)
        panel.plot([optimum.rate / off, optimum.rate * off], [curve.loss] * 2, color=colour, lw=2.5, alpha=0.6)
        fill = "white" if optimum.edge else colour
        panel.plot([optimum.rate], [curve.loss], "o", color=colour, ms=6, mfc=fill, zorder=3)
