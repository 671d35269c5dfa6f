"""Plots, through matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Union

from tpcalc.algebra.order import MINUS_INFINITY
from tpcalc.errors import TpcalcError
from tpcalc.files import write_atomic

_TITLES = {
    "init": "value at init",
    "change": "change of value",
    "gradient": "gradient of weight",
    "effect": "effect of own update",
}
#: Verdict -> colour and weight of the line.  Told apart in grey print too.
_LINES = {
    "ok": ("#4477aa", 0.7, "as predicted"),
    "above": ("#cc3311", 1.0, "above"),
    "below": ("#ee7733", 1.0, "below"),
}


def load_pyplot() -> Any:
    """matplotlib.pyplot, which draws into files.  Raises TpcalcError where it is missing."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as pyplot
    except ImportError as error:
        raise TpcalcError("plots need matplotlib; install it with: pip install 'tpcalc[plot]'") from error
    return pyplot


def require_matplotlib(path: Union[str, Path, None] = None) -> None:
    """Raise TpcalcError where matplotlib is missing or can't write ``path``: before an hour of training, not after."""
    pyplot = load_pyplot()
    suffix = "" if path is None else Path(path).suffix.removeprefix(".").lower()
    formats = sorted(pyplot.figure().canvas.get_supported_filetypes())
    pyplot.close()
    if suffix and suffix not in formats:
        raise TpcalcError(f"{path} is no picture that can be written; end its name in one of .{', .'.join(formats)}")


def save(figure: Any, path: Union[str, Path, BinaryIO]) -> None:
    """Write a figure, whole or not at all; as PNG where the name has no suffix.  Raises TpcalcError where it can't."""
    if not isinstance(path, (str, Path)):
        figure.savefig(path, dpi=200)
        return
    path = Path(path) if Path(path).suffix else Path(f"{path}.png")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=200, format=path.suffix.removeprefix(".").lower())
    write_atomic(path, drawn.getvalue())


def check_plot(results: Sequence[Any], path: Union[str, Path]) -> None:
    """Small multiples of one or more :class:`tpcalc.check.Result`: one column each, one row a quantity, one line a
    value.

    Each line is the rms over what the derived rules predict, relative to the smallest width: a flat line scales as
    predicted, a rising one grows faster.  The wedge is the tolerance.
    """
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(
        len(_TITLES),
        len(results),
        figsize=(3.4 * len(results), 1.9 * len(_TITLES)),
        sharex="col",
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, result in enumerate(results):
        for row, quantity in enumerate(_TITLES):
            _panel(axes[row][column], result, quantity)
            if column == 0:
                axes[row][column].set_ylabel(_TITLES[quantity], fontsize=8)
        axes[0][column].set_title(f"{result.parametrization}, {result.optimizer}", fontsize=9)
        axes[-1][column].set_xlabel("width", fontsize=8)
    handles = [pyplot.Line2D([], [], color=colour, lw=1.4, label=label) for colour, _, label in _LINES.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    save(figure, path)
    pyplot.close(figure)


def _panel(axes: Any, result: Any, quantity: str) -> None:
    widths = result.widths
    ratios = [width / widths[0] for width in widths]
    drawn = [
        e
        for e in result.entries
        if e.quantity == quantity and e.slope is not None and e.wanted is not MINUS_INFINITY and e.verdict in _LINES
    ]
    for verdict in _LINES:
        colour, line, _ = _LINES[verdict]
        for e in (e for e in drawn if e.verdict == verdict):
            relative = [
                size / e.sizes[0] / ratio ** float(e.wanted) for size, ratio in zip(e.sizes, ratios, strict=True)
            ]
            axes.plot(widths, relative, color=colour, lw=line, alpha=0.6)
    wedge = [ratio**result.tolerance for ratio in ratios]
    axes.fill_between(widths, [1 / y for y in wedge], wedge, color="0.85", lw=0, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.tick_params(labelsize=7)
    axes.minorticks_off()
    failed = sum(e.failed for e in drawn)
    axes.text(0.03, 0.05, f"{failed} of {len(drawn)} fail", transform=axes.transAxes, fontsize=7)
