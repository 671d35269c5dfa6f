"""Writes the pictures of docs/report.md: ``python -m tests.report.page.pictures``.

They are what the commands on that page show in a browser, in few colours so that they are small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.browser import Browser, missing, started
from tests.support.command import tpcalc_command

ROOT = Path(__file__).parents[3]
PICTURES = ROOT / "docs" / "report"
GRAPH = "tpcalc.page.graph"
GPT = ("examples/gpt.py:gpt", "--transfer", "docs/transfer/gpt/drift.json")
MLP = ("examples/mlp.py:mlp", "--verify", "examples/by_hand.py:fan_ratio", "--check")
LLAMA = ("hf:llama", "--scale", "width=128,256,512", "--scale", "ffn=256,512,1024", "--scale", "depth=2,3")


def _table(browser: Browser) -> None:
    browser.named("hidden").click()


def _why(browser: Browser) -> None:
    browser.run("tpcalc.page.explain('blocks.0.attn.q.weight')")
    browser.named("Show in the drawing").click()


def _value(browser: Browser) -> None:
    browser.named("Dark").click()
    browser.run(f"{GRAPH}.reveal(tpcalc.page.valueNamed('h39'))")


def _finding(browser: Browser) -> None:
    browser.named("Show in the drawing").click()
    browser.run(f"{GRAPH}.fit(false)")


#: Name of the picture -> what is reported, the part that is shown, what is done there.
SHOWN: dict[str, tuple[tuple[str, ...], str, Callable[[Browser], None]]] = {
    "table": (LLAMA, "table", _table),
    "program": (GPT, "program", lambda browser: None),
    "why": (GPT, "table", _why),
    "dark": (GPT, "program", _value),
    "finding": (MLP, "findings", _finding),
    "check": (MLP, "check", lambda browser: None),
    "transfer": (GPT, "transfer", lambda browser: None),
}


def taken(folder: Path) -> Iterator[Path]:
    """The pictures, one after the other, in a folder."""
    from PIL import Image

    with started() as browser, tempfile.TemporaryDirectory() as pages:
        for name, (arguments, part, done) in SHOWN.items():
            page = Path(pages) / f"{abs(hash(arguments))}.html"
            if not page.exists():
                result = tpcalc_command("report", *arguments, "-o", str(page))
                assert result.returncode == 0, result.stderr
            browser.open(page, part, prefers_color_scheme="light")
            done(browser)
            browser.driver.execute_script("document.activeElement.blur()")
            path = folder / f"{name}.png"
            browser.picture(path)
            assert browser.troubles() == []
            picture = Image.open(path).convert("RGB")
            picture = picture.resize((1200, round(1200 * picture.height / picture.width)), Image.Resampling.LANCZOS)
            picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
            yield path


if __name__ == "__main__":
    if reason := missing():
        raise SystemExit(reason)
    PICTURES.mkdir(exist_ok=True)
    for made in taken(PICTURES):
        print(made.relative_to(ROOT), f"{made.stat().st_size // 1024} KB")
