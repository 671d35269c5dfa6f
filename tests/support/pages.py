"""Pages of docs/ as they are read: files to write, commands to type, Python to run, in the order of the page.

- `` `name.py`: `` before a fenced block is a file: it is written first.
- A ``console`` block has commands and what each prints (``tests/house/test_readme.py``).
- A ``python`` block runs after those before it, with their names.  A ``text`` block right behind it is what it prints.
- A ``bash`` block is commands whose output is not shown.

A page is walked in a fork, in a folder of its own where ``examples`` are those of the repository.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tpcalc
from tests.house.test_readme import NOT_RUN, Shown, matches, shown_in
from tests.support.forked import forked
from tests.support.typed import PROGRAMS, typed

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(`{3,})([\w{}+-]*)[^\n`]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w./-]+)`:\n\n$")
_SLOPE = re.compile(r"[+-]\d\.\d\d|(?<=\+- )\d\.\d\d")
#: Languages of blocks that a page's walk runs or writes.
RUN = ("console", "python", "bash")
#: Exit codes that are no surprise: a verdict is 1, a refusal 2.
EXPECTED = (("FAIL", 1), ("error: ", 2))


#: Pages of docs/reference that are made with the site (docs/_ext/reference): not in the repository, not linked there.
MADE = ("api", "command-line", "json", "rules", "refusals")


def is_made(page: Path) -> bool:
    return page.parent.name == "reference" and page.stem in MADE


def pages() -> list[Path]:
    """The pages of the repository."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if not is_made(path)]


@dataclass(frozen=True)
class Step:
    """One thing to run: ``kind`` is ``console``, ``python`` or ``bash``; ``shown`` what the page says it prints."""

    kind: str
    text: str
    shown: tuple[str, ...] | None

    @property
    def is_kept(self) -> bool:
        """What is shown is no full output to be pasted anew."""
        return self.shown is None or "..." in self.shown


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(language, content, text before) of each fenced block."""
    return [(m.group(2), m.group(3), text[: m.start()]) for m in _FENCE.finditer(text)]


def files(text: str) -> dict[str, str]:
    """Name -> content of the files of a page."""
    return {m.group(1): content for _, content, before in blocks(text) if (m := _NAMED.search(before))}


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    last = ""
    for language, content, before in blocks(text):
        if language == "text" and found and found[-1].kind == "python" and before.endswith(f"{last}```\n\n"):
            found[-1] = Step("python", found[-1].text, tuple(content.splitlines()))
        elif language == "console":
            shown = shown_in(f"```console\n{content}```\n")
            found += [Step("console", s.command, s.output) for s in shown if not s.command.startswith(NOT_RUN)]
        elif language in ("python", "bash") and not _NAMED.search(before):
            found.append(Step(language, content, None))
        last = content
    return found


def walk(text: str, folder: Path, name: str = "page") -> Iterator[tuple[Step, str, int]]:
    """Each step of a page with what it printed and its exit code."""
    todo = steps(text)
    if not todo:
        return
    (folder / "examples").symlink_to(ROOT / "examples")
    for file, content in files(text).items():
        (folder / file).write_text(content, encoding="utf-8")

    def run() -> None:
        warnings.resetwarnings()  # those of pytest are kept for it
        sys.path[:0] = [str(ROOT / "examples")]
        names = {"__name__": "__main__"}
        done = [_done(step, names, name) for step in todo]
        Path("done.json").write_text(json.dumps(done), encoding="utf-8")

    result = forked(run, folder, {"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}"}).wait()
    assert result.returncode == 0, result.stdout + result.stderr
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    yield from ((step, *each) for step, each in zip(todo, done, strict=True))


def _done(step: Step, names: dict, name: str) -> tuple[str, int]:
    if step.kind == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(step.text, name, "exec"), names)
        return printed.getvalue(), 0
    if step.kind == "bash":
        for line in step.text.replace("\\\n", " ").splitlines():
            if (command := line.split(" #")[0].strip()) and not command.startswith(NOT_RUN):
                printed, code = _command(command)
                assert code == 0, (command, printed)
        return "", 0
    return _command(step.text)


def _command(command: str) -> tuple[str, int]:
    """``tpcalc`` and ``python`` in this process, which has torch; what they are piped into, and all else, by bash."""
    first, _, rest = command.partition(" | ")
    program, *arguments = shlex.split(first)
    if program not in PROGRAMS or any(">" in part for part in arguments):
        return _shell(f'tpcalc() {{ {shlex.quote(sys.executable)} -m tpcalc "$@"; }}\n{command}', None)
    out, err = io.StringIO(), io.StringIO()
    code = typed(program, arguments, out, err)
    if not rest:
        return out.getvalue() + err.getvalue(), code
    printed, _ = _shell(rest, out.getvalue())
    return err.getvalue() + printed, code


def _shell(script: str, given: str | None) -> tuple[str, int]:
    done = subprocess.run(
        ["bash", "-c", script], input=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    return done.stdout, done.returncode


def near(shown: tuple[str, ...], printed: str, tolerance: float = 0.06) -> bool:
    """Equal line by line, but for measured slopes (``+0.04``), which another machine rounds elsewhere."""
    lines = printed.splitlines()
    if not matches(tuple(_SLOPE.sub("#", line) for line in shown), "\n".join(_SLOPE.sub("#", line) for line in lines)):
        return False
    found, now = (_SLOPE.findall("\n".join(text)) for text in (shown, lines))
    return "..." in shown or all(abs(float(a) - float(b)) <= tolerance for a, b in zip(found, now, strict=True))


def warm() -> None:
    """Import here, once, what pages are going to need: each is walked in a fork of this process."""
    from tests.support.models import example
    from tpcalc.verify import verify

    factory = example("mlp.py", "mlp")
    tpcalc.derive(tpcalc.trace(factory, (64, 128, 256)), "adamw")
    tpcalc.check(factory, (64, 128, 256), seeds=1, steps=1)
    verify(example("by_hand.py", "right"), (64, 128, 256))


def differences(text: str, folder: Path, name: str = "page") -> list[str]:
    """A sentence for each step that prints something else than the page shows, or ends as it should not."""
    found = []
    for step, printed, code in walk(text, folder, name):
        head = step.text.splitlines()[0]
        if step.kind == "console" and " | " not in step.text:
            wanted = next((code for word, code in EXPECTED if re.search(rf"^{word}", printed, re.MULTILINE)), 0)
            if code != wanted:
                found.append(f"{head}: exit code {code}, not {wanted}; it printed\n{printed}")
        same = near if step.text.startswith("tpcalc check") else matches
        if step.shown is not None and not same(step.shown, printed):
            found.append(f"{head}: prints now\n{printed}")
    return found


def pasted(text: str, name: str = "page") -> str:
    """The page with what its steps print now; what has ``...`` stays."""
    with tempfile.TemporaryDirectory() as folder:
        for step, printed, _ in walk(text, Path(folder), name):
            if step.is_kept:
                continue
            lines = tuple(line.rstrip() for line in printed.splitlines())
            if step.kind == "console":
                old, new = (_shown(Shown(step.text, output)) for output in (step.shown, lines))
            else:
                old, new = (f"{step.text}```\n\n```text\n" + "".join(f"{x}\n" for x in o) for o in (step.shown, lines))
            text = text.replace(old, new, 1)
    return text


def _shown(shown: Shown) -> str:
    return "".join(f"{line}\n" for line in (f"$ {shown.command}", *shown.output))
