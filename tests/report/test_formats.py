"""Which report prints what, in which format, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.report.made import checked, small_gpt, small_program, transferred, tuned, verified
from tpcalc.report import FORMATS, PICTURES, register, render
from tpcalc.show import Shown, draw, show

ROOT = Path(__file__).parents[2]
RESULTS = {
    "table": small_gpt,
    "program": small_program,
    "verify": verified,
    "check": checked,
    "transfer": transferred,
    "tune": tuned,
}


def test_every_format_has_a_renderer():
    for kind, formats in FORMATS.items():
        assert next(iter(formats)) == "text", kind
        assert all(callable(resolve_name(where)) for where in formats.values())


@pytest.mark.parametrize("kind, format", [(kind, format) for kind in RESULTS for format in FORMATS[kind]])
def test_every_format_renders_the_same_text_each_time(kind, format):
    text = render(kind, format, RESULTS[kind]())
    assert text == render(kind, format, RESULTS[kind]()) and text.strip()
    if format == "json":
        assert json.loads(text)["schema"].startswith("tpcalc")


@pytest.mark.parametrize("kind", RESULTS)
def test_print_shows_the_text(kind):
    assert str(RESULTS[kind]()) == render(kind, "text", RESULTS[kind]())


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_finds_its_picture(kind, tmp_path):
    if kind in PICTURES:
        draw(RESULTS[kind](), tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    else:
        with pytest.raises(TypeError, match="there is no picture of a"):
            draw(RESULTS[kind](), tmp_path / "a.png")


def test_a_subclass_is_shown_like_its_base():
    program = small_program()
    own = type("Own", (type(program),), {})(**{name: getattr(program, name) for name in program.__dataclass_fields__})
    assert str(own) == str(program)


def test_what_has_no_report_is_refused():
    class Alone(Shown):
        pass

    for call in (lambda: str(Alone()), lambda: show(Alone()), lambda: register(Alone)):
        with pytest.raises(TypeError, match="there is no report on a Alone"):
            call()


PRINTS = """
import sys
from fractions import Fraction
from tpcalc.derive.result import Parametrization
assert "tpcalc.report" not in sys.modules
print(Parametrization({}, "adamw", (1, 2, 3)))
loaded = {"torch", "pydantic", "tpcalc.report.verify", "tpcalc.document.table", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""


def test_a_result_finds_its_report_whatever_was_imported_first():
    """And only that one: a table needs neither torch nor the documents."""
    result = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Scaling rules for adamw, n = width (traced at 1, 2, 3)\n")
