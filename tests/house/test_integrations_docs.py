"""docs/integrations.md tells the truth: each section runs as it is shown, where its library is installed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.house.test_readme import _PYTHON
from tests.support.forked import forked

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
FIRST, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
#: Section -> the library without which it can't run; those that it goes on from are run before it.
NEEDS = {
    "transformers": ("accelerate",),
    "Lightning": ("lightning",),
    "accelerate": ("accelerate",),
    "DeepSpeed": ("deepspeed",),
    "Verify what a trainer makes": ("accelerate",),
}
BEFORE = {"Verify what a trainer makes": "transformers"}
BLOCKS = {section.partition("\n")[0]: _PYTHON.findall(section) for section in SECTIONS}


def test_every_section_with_code_is_run():
    assert {title for title, blocks in BLOCKS.items() if blocks} == set(NEEDS)


SLOW = [pytest.param(title, marks=pytest.mark.slow) if title == "DeepSpeed" else title for title in NEEDS]
ALONE = {"MASTER_ADDR": "127.0.0.1", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}


def run(blocks, namespace) -> None:
    for block in blocks:
        exec(compile(block, "docs/integrations.md", "exec"), namespace)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A directory with what the page begins with, and the names that it defines."""
    folder, namespace = tmp_path_factory.mktemp("page"), {"__name__": "page"}
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        run(_PYTHON.findall(FIRST), namespace)
    return folder, namespace


@pytest.mark.parametrize("title", SLOW)
@pytest.mark.filterwarnings("ignore")
def test_a_section_runs_as_it_is_shown(title, begun, monkeypatch):
    for library in NEEDS[title]:
        pytest.importorskip(library, reason=f"{library} is not installed")
    added = [line for block in BLOCKS[title] for line in block.splitlines() if re.search(r"# (added|in place)", line)]
    assert len(added) <= 2
    folder, namespace = begun
    blocks = BLOCKS.get(BEFORE.get(title, ""), [])[:1] + BLOCKS[title]
    if title == "DeepSpeed":  # a process group is for the rest of a process
        port = {"MASTER_PORT": str(20000 + os.getpid() % 20000)}
        result = forked(lambda: run(blocks, dict(namespace)), folder, ALONE | port).wait()
        assert result.returncode == 0, result.stderr[-4000:]
        return
    monkeypatch.chdir(folder)
    run(blocks, dict(namespace))
