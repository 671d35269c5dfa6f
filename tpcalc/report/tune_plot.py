"""The loss against each number that was searched, and in the order of the runs (matplotlib, the extra ``plot``)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Union

from tpcalc.algebra.scales import scales_text
from tpcalc.report.plots import load_pyplot, save
from tpcalc.report.transfer_plot import TALLEST, set_losses, with_margins
from tpcalc.tune.result import Tuned

__all__ = ["limits", "tune_plot"]

#: Panels beside each other.
COLUMNS = 4
_SHORT, _LONG, _BEST = "#4477aa", "#ee7733", "#cc3311"


def tune_plot(result: Tuned, path: Union[str, Path, BinaryIO]) -> None:
    """A panel for each free number, and one for the runs in their order, with the least loss so far as a line.

    A dot is a short run, a diamond one of the longer ones; the star, and the dotted line, is what was taken.  A cross
    at the top edge diverged, a triangle there has a loss above the axis.

    Raises TpcalcError where matplotlib is missing.
    """
    pyplot = load_pyplot()
    free, jobs = result.search.space.free, result.jobs
    losses = [result.done[job].loss for job in jobs]
    columns = min(COLUMNS, len(free) + 1)
    rows = math.ceil((len(free) + 1) / columns)
    figure, axes = pyplot.subplots(
        *(rows, columns),
        figsize=(max(2.3 * columns, 4.6), 2.1 * rows + 0.7),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    low, high = limits(losses)
    set_losses(axes[0][0], low, high)
    panels = [panel for row in axes for panel in row]
    for panel, name in zip(panels, free):
        values = [dict(job.numbers)[name] for job in jobs]
        _draw(panel, result, values, losses, high)
        panel.axvline(dict(result.best.numbers)[name], color="0.5", lw=0.8, ls=":", zorder=0)
        _axis(panel, *result.search.space.ranges[name])
        panel.set_title(name, fontsize=8)
    history = panels[len(free)]
    _draw(history, result, range(1, len(jobs) + 1), losses, high)
    _least_so_far(history, result, losses)
    history.set_title("runs in order", fontsize=8)
    for panel in panels[len(free) + 1 :]:
        panel.set_visible(False)
    for panel in panels:
        panel.tick_params(labelsize=7)
    for row in axes:
        row[0].set_ylabel("loss", fontsize=8)
    handles = [pyplot.Line2D([], [], ls="", **look) for look in _looks(result)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7, frameon=False)
    base, target = map(scales_text, result.ends)
    figure.suptitle(f"{result.name}, {result.optimizer}, tuned at {base} for {target}", fontsize=9)
    save(figure, path)
    pyplot.close(figure)


def limits(losses: Sequence[float]) -> tuple[float, float]:
    """Of the loss axis: from the least up to the largest loss, or a few times the median's distance where that is much
    less, since what nearly diverges would press all others flat."""
    fine = [loss for loss in losses if math.isfinite(loss)]
    if not fine:
        return 0.0, 1.0
    low = min(fine)
    high = min(max(fine), low + TALLEST * (statistics.median(fine) - low) or math.inf)
    return with_margins(low, high)


def _axis(panel: Any, low: float, high: float) -> None:
    """Logarithmic, and a little longer than the range, whose ends and middle it names."""
    panel.set_xscale("log")
    beyond = (high / low) ** 0.04
    panel.set_xlim(low / beyond, high * beyond)
    ticks = [low, math.sqrt(low * high), high]
    panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    panel.minorticks_off()


def _looks(result: Tuned) -> list[dict[str, Any]]:
    """Of short runs, of longer ones where there are any, and of what was taken."""
    short, long = result.search.runs.short, result.best.steps
    looks = [{"marker": "o", "ms": 3.5, "color": _SHORT, "label": f"{short} steps"}]
    if long != short:
        looks.append({"marker": "D", "ms": 4, "color": _LONG, "label": f"{long} steps"})
    return [*looks, {"marker": "*", "ms": 10, "color": _BEST, "label": "taken"}]


def _draw(panel: Any, result: Tuned, values: Sequence[float], losses: Sequence[float], high: float) -> None:
    short, *longer, best = _looks(result)
    for job, value, loss in zip(result.jobs, values, losses, strict=True):
        look = best if job == result.best else short if job.steps == result.search.runs.short else longer[0]
        if loss <= high:
            panel.plot([value], [loss], ls="", alpha=0.7, mew=0, zorder=3 if look is best else 2, **look)
        else:
            mark = "^" if math.isfinite(loss) else "x"
            panel.plot([value], [0.97], mark, ms=4, color=look["color"], transform=panel.get_xaxis_transform())


def _least_so_far(panel: Any, result: Tuned, losses: Sequence[float]) -> None:
    """Of short runs, which come first and are alike."""
    short = [loss for job, loss in zip(result.jobs, losses) if job.steps == result.search.runs.short]
    least = [loss if math.isfinite(loss) else math.nan for loss in accumulate(short, min)]
    panel.step(range(1, len(least) + 1), least, where="post", color=_SHORT, lw=1.0, zorder=1)
