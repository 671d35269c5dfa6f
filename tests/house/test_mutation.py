"""The mutations of ``tests/house/mutate.py``: they reach every law, and a change which no test notices is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.forked import forked
from tpcalc import optimizers
from tpcalc.calculus import allowed, causes, demands, effects, freedom, laws, limits
from tpcalc.calculus.reading import Reading

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")


@pytest.fixture(scope="module")
def mutants() -> list:
    from tests.house.mutate import SUBJECTS, chosen

    return chosen(SUBJECTS, "")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    def mutated() -> None:
        from tests.house.mutate import main

        sys.argv[1:] = arguments
        main()

    return forked(mutated, ROOT).wait()


#: At least as many mutants of each law; of the laws of contraction many more.
AT_LEAST = 2
MORE = {"laws.contract": 60, "laws.total": 30, "laws.product": 20, "demands.weight_use": 40, "demands.share": 40}
#: What the laws share.
SHARED = (
    "facts.product_parity facts.product_deviation facts.roles facts.shares facts.Fact.shifted facts.deviation "
    "facts.relative_deviation facts.deviating facts.leaf_fact facts.weight_fact alignment.Alignment.initial_on_change "
    "facts.function_of laws.K_update laws._power laws._at_most_zero laws._relative laws._settled "
    "demands.Walk.asked_of demands.Walk.settle demands.Walk.ask demands.capped freedom.freedom freedom.absorbers "
    "allowed.Allowance.limit allowed.Allowance.past allowed.Allowance.relative causes.of_two_values "
    "causes.Search.step causes.Search.of_weight causes.Search.suspect limits.limits "
    "weights.gradient_order weights.is_random weights.weight_orders weights.weight_view "
    "training.analyse training.update_order"
).split()
READINGS = {
    module.__name__.rpartition(".")[2]: module for module in (allowed, causes, demands, effects, freedom, limits)
}


def test_every_law_is_changed(mutants):
    count = Counter(mutant.of for mutant in mutants)
    for law in laws.LAWS.values():
        assert count[f"laws.{law.__name__}"] >= AT_LEAST, law.__name__
    read = {name for name in count if name.partition(".")[0] in READINGS}
    for module in READINGS.values():
        for reading in (thing for thing in vars(module).values() if isinstance(thing, Reading)):
            changed = {law.__name__ for law in reading.values()} & {name.partition(".")[2] for name in read}
            assert changed, f"no law of the reading {reading.name} is changed"
    assert all(count[name] >= least for name, least in {**dict.fromkeys(SHARED, AT_LEAST), **MORE}.items())
    for name in ("Alignment.weight_change", "Alignment.values", "FULL", "NONE", "OMEGA"):
        assert any(of.startswith(f"alignment.{name}") for of in count)
    for name in optimizers.LAWS:
        assert any(f"LAWS[{name!r}]" in of or f".{name.upper()}." in of for of in count), name
    assert len(set(map(str, mutants))) == len(mutants)


@pytest.mark.parametrize(
    "of, words",
    [
        ("laws.contract", "K / 2  ->  K"),  # the central limit
        ("alignment.Alignment.initial_on_change", "max(K / 2, K - R / 2)  ->  K / 2"),  # the operator norm
        (
            "laws.K_update",
            "max_order(on_change(alignment, K, rest, other) + other.init, moved)  ->  on_change",
        ),
        ("laws.product", "max_order(x.change + y.trained, x.init + y.change)  ->  x.init + y.change"),
        ("laws.normalise", "_relative(x) + s.shift  ->  _relative(x)"),
        ("laws.contract", "if not (x_weight and y_weight)  ->  if True"),
        ("demands.capped", "min(demand.init, ZERO)  ->  demand.init"),
    ],
)
def test_terms_and_factors_of_the_laws_are_dropped(mutants, of, words):
    assert any(mutant.of == of and mutant.words.startswith(words) for mutant in mutants)


@pytest.mark.slow
def test_a_change_that_no_test_notices_survives(tmp_path):
    """A test of positive powers says nothing of what an inverse makes of zero."""
    tests = tmp_path / "test_half.py"
    tests.write_text(
        "from fractions import Fraction\n"
        "from tpcalc.calculus.laws import _power\n"
        "def test_positive_powers():\n"
        "    assert _power(Fraction(2), Fraction(3)) == 6\n"
    )
    found = run("--only", "laws._power", "--tests", str(tests))
    assert found.returncode == 1 and "SURVIVED laws._power: ZERO  ->  HALF" in found.stdout, found.stdout
    assert "SURVIVED laws._power: order * k  ->  order" not in found.stdout
    said = found.stdout.splitlines()[-1]
    tried, noticed = int(said.split()[0]), int(said.partition(": ")[2].split()[0])
    survived = found.stdout.count("SURVIVED")
    assert noticed >= 2 and survived >= 2 and tried == noticed + survived


@pytest.mark.slow
def test_the_tables_notice_every_change_of_a_law():
    found = run("--only", "laws._power", "--tests", "calculus/test_laws.py")
    assert found.returncode == 0 and " 0 survived" in found.stdout, found.stdout


@pytest.mark.slow
def test_tests_that_fail_anyway_are_no_judges(tmp_path):
    tests = tmp_path / "test_broken.py"
    tests.write_text("def test_nothing():\n    assert False\n")
    found = run("--only", "laws._power", "--tests", str(tests))
    assert found.returncode == 1 and "fail without any mutant" in found.stderr
