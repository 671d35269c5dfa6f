"""Draws the figures of the site from their data: docs/figures/*.svg.

    python -m benchmarks.figures

Each figure has, as its description, a hash of the data that it was drawn from; a test compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = DOCS / "figures"
BLUE, RED, GREY = "#1f5fa8", "#b3261e", "#555555"
SHADES = ("#9ecae1", "#6baed6", "#3182bd", "#08519c")
STYLE = {
    "svg.hashsalt": "tpcalc",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "figure.facecolor": "white",
}

#: Figure -> the files it is drawn from, relative to docs, and what draws it.
DRAWN: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {}


def figure(name: str, *sources: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    def register(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        DRAWN[name] = (sources, draw)
        return draw

    return register


def logarithmic(axes: Axes, sizes: list[int], label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(label)


def predicted(axes: Axes, sizes: list[int], start: float, exponent: str, **style: Any) -> None:
    """A line of the predicted slope through the first point."""
    power = float(Fraction(exponent))
    axes.plot(sizes, [start * (size / sizes[0]) ** power for size in sizes], ":", color=GREY, zorder=1, **style)


@figure("transfer", "transfer/gpt_tied/target.json")
def transfer(data: dict) -> Figure:
    drawn, panels = pyplot.subplots(1, 2, figsize=(8.4, 3.3), sharey=True, layout="constrained")
    first, last = data["sizes"][0], data["sizes"][-1]
    for axes, kind in zip(panels, ("standard", "derived")):
        for size, colour in ((first, SHADES[1]), (last, SHADES[3])):
            curve = size[kind]
            losses = [sum(each) / len(each) for each in zip(*curve["losses"])]
            axes.plot(curve["rates"], losses, "o-", color=colour, label=f"width {size['scales']['width']}")
            axes.axvline(curve["optimum"], color=colour, linestyle=":")
        axes.set_xscale("log")
        axes.set_title(f"{kind}: the best rate moves by 2^{data['drift'][kind]:.2f}")
        axes.set_xlabel("learning rate as at width 32")
    panels[0].set_ylabel("loss")
    panels[0].set_ylim(2.2, 3.0)
    panels[0].legend()
    return drawn


@figure("coordinates", "figures/coordinates.json")
def coordinates(data: dict) -> Figure:
    shown = ("blocks.1.mlp.fc", "head")
    drawn, rows = pyplot.subplots(2, 2, figsize=(8.4, 5.6), sharey="row", sharex=True, layout="constrained")
    for panels, name in zip(rows, shown):
        for axes, kind in zip(panels, ("standard", "derived")):
            for step, colour in zip(data["steps"], SHADES):
                curve = data[kind][name][str(step)]
                said = "after 1 step" if step == 1 else f"after {step} steps"
                axes.plot(data["widths"], curve["values"], "o-", color=colour, label=f"{said}: {curve['slope']:+.2f}")
            logarithmic(axes, data["widths"], "width" if name == shown[-1] else "")
            axes.set_title(f"{kind}: {data['names'][name]}")
            axes.legend(title="slope", fontsize=8, title_fontsize=8, loc="upper left")
        panels[0].set_ylabel("change (rms entry)")
        panels[0].set_ylim(top=8 * panels[0].get_ylim()[1])  # room for the legends
    return drawn


def law(name: str) -> Callable[[dict], Figure]:
    def draw(data: dict) -> Figure:
        sizes = data["depths"] if name == "depth" else data["sizes"]
        drawn, axes = pyplot.subplots(figsize=(5.6, 3.1), layout="constrained")
        for case, colour in zip(data[name], (BLUE, RED, SHADES[1])):
            label = f"{case['what']}: {case['slope']:+.2f} (predicted {case['predicted']})"
            axes.plot(sizes, case["values"], "o", color=colour, label=label)
            predicted(axes, sizes, case["values"][0], case["predicted"])
        logarithmic(axes, sizes, "depth" if name == "depth" else "n")
        axes.set_ylabel("what is added (rms)" if name == "depth" else "sum (rms)")
        axes.legend(fontsize=8)
        return drawn

    return draw


for each in ("1", "2", "3", "4", "depth"):
    figure(f"law-{each}", "figures/laws.json")(law(each))


@figure("gallery", "figures/gallery.json")
def gallery(data: dict) -> Figure:
    columns = 4
    rows = -(-len(data) // columns)
    drawn, panels = pyplot.subplots(rows, columns, figsize=(10.5, 2.5 * rows), layout="constrained")
    for axes, (name, found) in zip(panels.flat, data.items()):
        sizes = found["sizes"]
        for kind, colour, said in (("wrong", RED, "as it is"), ("right", BLUE, "mended")):
            values = [value / found[kind]["values"][0] for value in found[kind]["values"]]
            axes.plot(sizes, values, "o-", color=colour, label=f"{said}: {found[kind]['slope']:+.2f}")
        predicted(axes, sizes, 1.0, found["predicted"])
        logarithmic(axes, sizes, "depth" if name == "depth" else "width")
        axes.set_title(name)
        axes.legend(fontsize=8)
    for axes in panels.flat[len(data) :]:
        axes.set_axis_off()
    return drawn


def source_hash(sources: tuple[str, ...]) -> str:
    return hashlib.sha256(b"".join((DOCS / source).read_bytes() for source in sources)).hexdigest()


def draw(name: str, folder: Path = FIGURES) -> Path:
    sources, drawing = DRAWN[name]
    with matplotlib.rc_context(STYLE):
        drawn = drawing(*(json.loads((DOCS / source).read_text()) for source in sources))
        path = folder / f"{name}.svg"
        said = f"drawn by benchmarks/figures.py from {', '.join(sources)}, sha256 {source_hash(sources)}"
        drawn.savefig(path, metadata={"Date": None, "Creator": None, "Description": said})
        pyplot.close(drawn)
    return path


if __name__ == "__main__":
    for figure_name in DRAWN:
        draw(figure_name)
