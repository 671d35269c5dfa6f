"""The mutations of ``benchmarks/mutate.py``: they reach every law, and a change which no test notices is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tpcalc import optimizers, propagate

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")


@pytest.fixture(scope="module")
def mutants() -> list:
    from benchmarks.mutate import SUBJECTS, chosen

    return chosen(SUBJECTS, "")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.mutate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


#: At least as many mutants of each law; of the laws of contraction many more.
AT_LEAST = 2
MORE = {"propagate.contract": 60, "propagate.total": 30, "propagate.product": 20, "budgets._Walk.weight_use": 40}
#: What the laws share.
SHARED = (
    "propagate._function_of propagate._product_parity propagate.K_update propagate._power propagate._at_most_zero "
    "propagate._relative propagate._settled propagate.leaf_fact propagate.weight_fact propagate.roles "
    "propagate.Fact.shifted propagate.deviation propagate._relative_deviation propagate._deviating "
    "propagate._product_deviation "
    "propagate.Alignment.initial_on_change budgets._Walk.pass_on budgets._Walk.share budgets._Walk.before_constants "
    "budgets._Walk.beside_pinned budgets._Walk.capped budgets._Walk.settle budgets.freedom budgets._follows "
    "budgets._absorber given.analyse given.gradient_order given.update_order"
).split()


def test_every_law_is_changed(mutants):
    count = Counter(mutant.of for mutant in mutants)
    for law in propagate.LAWS.values():
        assert count[f"propagate.{law.__name__}"] >= AT_LEAST, law.__name__
    assert all(count[name] >= least for name, least in {**dict.fromkeys(SHARED, AT_LEAST), **MORE}.items())
    for name in ("Alignment.weight_change", "Alignment.values", "FULL", "NONE", "OMEGA"):
        assert any(of.startswith(f"propagate.{name}") for of in count)
    for name in optimizers.LAWS:
        assert any(f"LAWS[{name!r}]" in of or f".{name.upper()}." in of for of in count), name
    assert len(set(map(str, mutants))) == len(mutants)


@pytest.mark.parametrize(
    "of, words",
    [
        ("propagate.contract", "K / 2  ->  K"),  # the central limit
        ("propagate.Alignment.initial_on_change", "max(K / 2, K - R / 2)  ->  K / 2"),  # the operator norm
        (
            "propagate.K_update",
            "max_order(on_change + other.init, alignment.weight_change(K) + other.change)  ->  on_change",
        ),
        ("propagate.product", "max_order(x.change + y.trained, x.init + y.change)  ->  x.init + y.change"),
        ("propagate.normalise", "_relative(x) + s.shift  ->  _relative(x)"),
        ("propagate.contract", "if not (x_weight and y_weight)  ->  if True"),
        ("budgets._Walk.capped", "min(demand.init, ZERO)  ->  demand.init"),
    ],
)
def test_terms_and_factors_of_the_laws_are_dropped(mutants, of, words):
    assert any(mutant.of == of and mutant.words.startswith(words) for mutant in mutants)


def test_a_change_that_no_test_notices_survives(tmp_path):
    """A test of positive powers says nothing of what an inverse makes of zero."""
    tests = tmp_path / "test_half.py"
    tests.write_text(
        "from fractions import Fraction\n"
        "from tpcalc.propagate import _power\n"
        "def test_positive_powers():\n"
        "    assert _power(Fraction(2), Fraction(3)) == 6\n"
    )
    found = run("--only", "propagate._power", "--tests", str(tests))
    assert found.returncode == 1 and "SURVIVED propagate._power: ZERO  ->  HALF" in found.stdout, found.stdout
    assert "SURVIVED propagate._power: order * k  ->  order" not in found.stdout
    said = found.stdout.splitlines()[-1]
    tried, noticed = int(said.split()[0]), int(said.partition(": ")[2].split()[0])
    survived = found.stdout.count("SURVIVED")
    assert noticed >= 2 and survived >= 2 and tried == noticed + survived


def test_the_tables_notice_every_change_of_a_law():
    found = run("--only", "propagate._power", "--tests", "test_laws.py")
    assert found.returncode == 0 and " 0 survived" in found.stdout, found.stdout


def test_tests_that_fail_anyway_are_no_judges(tmp_path):
    tests = tmp_path / "test_broken.py"
    tests.write_text("def test_nothing():\n    assert False\n")
    found = run("--only", "propagate._power", "--tests", str(tests))
    assert found.returncode == 1 and "fail without any mutant" in found.stderr
