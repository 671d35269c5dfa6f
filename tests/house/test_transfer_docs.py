"""docs/transfer.md and docs/cluster.md tell the truth: what a newcomer is told to type runs, here with fewer steps.

``make pages`` runs it as it is shown and pastes what it prints, into README.md too (minutes).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
import typer
import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]  # `make pages` runs this file

from tests.house.test_readme import _PYTHON, Shown, shown_in  # noqa: E402
from tests.support.forked import forked  # noqa: E402
from tpcalc.cli import app, main  # noqa: E402
from tpcalc.tune import plan, propose, space  # noqa: E402
from tpcalc.tune.recipe import load_recipe  # noqa: E402

DOCS = ROOT / "docs"
PAGE = (DOCS / "transfer.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLUSTER = (DOCS / "cluster.md").read_text(encoding="utf-8")
#: Given once more, these go before what the page says.
SMALLER = {
    "transfer": "--steps 12 --points 3 --seeds 1 --processes 1",
    "tune": "--steps 12 --trials 3 --processes 1",
}
#: Commands that set up the machine the test already runs on.
NOT_RUN = ("make ", "source ")


def write_files(folder: Path, steps: int = 200) -> None:
    """Those that the page tells to write."""
    mine, big = _PYTHON.findall(PAGE)
    (folder / "mine.py").write_text(mine)
    (folder / "big.py").write_text(big.replace("steps = 200", f"steps = {steps}"))


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """What each command of the page printed, in a directory with its two files."""
    folder = tmp_path_factory.mktemp("newcomer")
    write_files(folder, steps=12)
    printed = {}
    for shown in shown_in(PAGE):
        first, *rest = shlex.split(shown.command)
        if shown.command.startswith(NOT_RUN):
            continue
        if first == "tpcalc":
            arguments = [*rest, *SMALLER[rest[0]].split()]
            result = forked(lambda given=arguments: main(given), folder).wait()
        else:
            code = compile((folder / rest[0]).read_text(), rest[0], "exec")
            result = forked(lambda run=code: exec(run, {"__name__": "__main__"}), folder).wait()
        assert result.returncode == 0, (shown.command, result.stderr)
        printed[shown] = result.stdout
    return folder, printed


def rots(shown: Shown, printed: str) -> list[str]:
    """Lines of words in the page, without numbers, that are not printed."""
    there = [line.split() for line in printed.splitlines()]
    lines = [line for line in shown.output if re.search(r"[a-z]", line) and not re.search(r"\d|:$", line)]
    return [line for line in lines if line.split() not in there]


def test_the_page_shows_what_is_printed(newcomer):
    _, printed = newcomer
    assert [shown.command.split()[:2] for shown in printed] == [
        *(["tpcalc", command] for command in ("transfer", "tune")),
        ["python", "big.py"],
        ["tpcalc", "transfer"],
    ]
    for shown, text in printed.items():
        assert rots(shown, text) == [], f"{shown.command} prints now:\n{text}"


def test_a_line_that_rots_is_noticed():
    assert rots(Shown("", ("number  range", "lr  0.1", "next:")), "number range\n") == []
    assert rots(Shown("", ("number  old",)), "number range\n") == ["number  old"]


def test_the_newcomer_has_his_figure_and_recipe(newcomer):
    folder, _ = newcomer
    for name in re.findall(r"`([a-z]+\.(?:png|json|txt|log))`", PAGE.split("### How to read it")[0]):
        assert (folder / "figure" / name).stat().st_size > 0
    rows = re.findall(r"^\| `([\w.]+)` \|", PAGE.split("The directory:")[1].split("```")[0], re.MULTILINE)
    assert sorted(rows) == sorted(
        path.name for path in (folder / "recipe").iterdir() if path.suffix != ".lock" and path.is_file()
    )
    assert load_recipe(folder / "recipe").scales == {"width": 32}
    kept = json.loads((folder / "kept" / "transfer.json").read_text())
    assert all({"standard", "derived", "tuned", "unscaled"} <= set(size) for size in kept["sizes"])


def test_the_page_has_the_numbers_of_the_code():
    def ends(found: tuple[float, float]) -> str:
        return " to ".join(str(Fraction(end)) for end in found)

    low, high = space.AROUND
    assert f"`lr` from {Fraction(str(low))} to {high:g} times the usual one" in PAGE
    assert f"`.lr` from {ends(space.RATES)} and `.init` from {ends(space.INITS)} (`hidden.init` from" in PAGE
    assert f"(`hidden.init` from {ends(space.OF_HIDDEN)})" in PAGE
    assert f"{plan.SHORT:.0%} of it. Each has {', or '.join(str(Fraction(part)) for part in plan.FRACTIONS)} of" in PAGE
    assert f"that pays for {plan.ENOUGH}." in PAGE and f"within a factor of {propose.NEAR:g} of the best" in PAGE


def commands(text: str) -> list[str]:
    """Those of tpcalc in a page's blocks."""
    blocks = "".join(re.findall(r"^```(?:bash|yaml|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return [found.split("#")[0].strip() for found in re.findall(r"tpcalc ((?:tune|transfer) .*)", blocks)]


@pytest.mark.parametrize("command", commands(PAGE) + commands(CLUSTER) + commands(README))
def test_every_command_of_the_pages_is_one(command):
    name, *arguments = shlex.split(command)
    parser = typer.main.get_command(app).commands[name]
    assert parser.make_context(name, arguments).params["target"]


def test_the_pages_have_commands():
    assert [len(commands(text)) for text in (PAGE, CLUSTER, README)] == [3, 7, 3]


def test_the_readme_shows_what_the_page_shows():
    (shown,) = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert shown in PAGE


@pytest.mark.parametrize("script", re.findall(r"^```bash\n(.*?)^```", CLUSTER, re.MULTILINE | re.DOTALL))
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_job_of_kubernetes():
    (text,) = re.findall(r"^```yaml\n(.*?)^```", CLUSTER, re.MULTILINE | re.DOTALL)
    job = yaml.safe_load(text)
    assert job["kind"] == "Job" and job["spec"]["parallelism"] > 1 and "completions" not in job["spec"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "$" + container["env"][0]["name"] in container["args"][0]


def pasted() -> tuple[str, str]:
    """The page and the README, with what the page's commands print now."""
    page = PAGE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        for shown in shown_in(PAGE):
            if shown.command.startswith(NOT_RUN):
                continue
            first, *rest = shlex.split(shown.command)
            command = [sys.executable, *(["-m", "tpcalc"] if first == "tpcalc" else []), *rest]
            text = subprocess.run(command, cwd=folder, env=environment, text=True, check=True, stdout=subprocess.PIPE)
            before = "".join(f"{line}\n" for line in (f"$ {shown.command}", *shown.output))
            page = page.replace(before, f"$ {shown.command}\n{text.stdout}")
    last = shown_in(page)[-1].output
    start = next(index for index, line in enumerate(last) if line.startswith("at the largest"))
    end = max(index for index, line in enumerate(last) if ", with the best rate of " in line)
    excerpt = "".join(f"{line}\n" for line in last[start : end + 1])
    (before,) = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return page, README.replace(before, excerpt)


if __name__ == "__main__":
    new_page, new_readme = pasted()
    (DOCS / "transfer.md").write_text(new_page, encoding="utf-8")
    (ROOT / "README.md").write_text(new_readme, encoding="utf-8")
