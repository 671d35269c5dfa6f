"""Change every law of the calculus, one term at a time, and see whether a test notices.

    python -m tests.house.mutate                      # everything; exit code 1 if any mutant survives
    python -m tests.house.mutate --only contract      # laws whose name contains this: calculus., lower.blocks, ...
    python -m tests.house.mutate --again LOG          # only those that survived a run whose output is in this file
    python -m tests.house.mutate --list               # the mutants, nothing is run
    python -m tests.house.mutate --tests calculus/test_laws.py  # only these tests

Mutants (:mod:`tests.house.mutants`): a factor 1/2 becomes 1, a term of a sum or of a max is dropped, a bound is lifted,
a comparison is turned, a branch is always or never taken, the order at init stands for the trained one, a parity or a
dependence is forgotten.

One process imports everything, runs all tests unchanged and notes of each how long it takes, which lines of the laws it
runs, and what it traces (:mod:`tests.house.reach`).  Every mutant is installed in a fork of it, which runs those tests
that reach its line one by one until one fails: those first that have noticed a mutant of the same law, then the quick
ones.  Tables of single laws come first; slower tests are only collected if a mutant survives these.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import pkgutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pytest  # noqa: E402
from _pytest.tmpdir import tmppath_result_key  # noqa: E402

import tpcalc.calculus  # noqa: E402
import tpcalc.dynamics.training  # noqa: E402
import tpcalc.lower  # noqa: E402
import tpcalc.optimizers  # noqa: E402
from tests.house.mutants import Mutant, Subject  # noqa: E402
from tests.house.reach import Line, Lines, Traces  # noqa: E402

#: Functions of the optimizers that hold no law.
NO_LAW = {
    **dict.fromkeys(
        ("update_law", "recipe", "Recipe.name", "Recipe.laws", "Recipe.by_name", "muon_law"), "looks up a law"
    ),
    **dict.fromkeys(("register", "optimizer", "plain_name"), "registers a law"),
    "UpdateLaw.conventions": "words for a reader",
}


#: Modules of the calculus that hold no law.
NO_READING = {"reading": "tables, and the passes over programs", "words": "words for a reader"}
#: Functions of the lowered program that hold no law.
LOOK_UP = {
    **dict.fromkeys(("Lowered.node", "Lowered.where", "Lowered.name", "Lowered.maker"), "looks up a node"),
    **dict.fromkeys(("Lowered.forward_uses", "Lowered.leaves_of"), "a table of what is there"),
}


def package(module: ModuleType, skip: Mapping[str, str], but: Collection[str] = ()) -> tuple[Subject, ...]:
    """A module, or a package and all its modules ``but`` some."""
    names = [info.name for info in pkgutil.iter_modules(getattr(module, "__path__", [])) if info.name not in but]
    return tuple(
        Subject(m, skip) for m in (module, *(importlib.import_module(f"{module.__name__}.{name}") for name in names))
    )


#: Where the laws are.  Every function and table of exponents in these modules is changed, but for those named here.
SUBJECTS = (
    *package(tpcalc.calculus, {}, but=NO_READING),
    *package(tpcalc.lower, LOOK_UP),
    Subject(tpcalc.dynamics.training, {"_of": "looks up a weight's entry", "Given.of": "reads text"}),
    *package(tpcalc.optimizers, NO_LAW),
)

#: The tests that may notice: tables that run in milliseconds, and what is only run for mutants that survive them.
QUICK = (
    "calculus/test_laws.py",
    "calculus/test_allowed.py",
    "calculus/test_budgets.py",
    "calculus/test_causes.py",
    "calculus/test_effects.py",
    "calculus/test_facts.py",
    "calculus/test_limits.py",
    "calculus/test_readings.py",
    "calculus/test_repeat.py",
    "calculus/test_weights.py",
    "dynamics/test_training.py",
    "optimizers/test_live_recipe.py",
    "optimizers/test_update_laws.py",
)
#: Tables of what lowers programs, an op at a time; and whole programs.
LOWERING = tuple(
    f"lower/test_{name}.py"
    for name in (
        "copies_rows", "domain", "experts", "factors_rows", "few_rows", "gates_rows", "lowered", "multiplied_rows",
        "picks_ops", "picks_rows", "recognise_rows", "segments", "sizes", "spectra_rows", "thin_rows", "wiring",
    )
)  # fmt: skip
LOWERED = (
    "lower/test_copies.py",
    "lower/test_depth.py",
    "lower/test_elementwise.py",
    "lower/test_factors.py",
    "lower/test_few.py",
    "lower/test_gates.py",
    "lower/test_multiplied.py",
    "lower/test_outer.py",
    "lower/test_picks.py",
    "lower/test_recognise.py",
    "lower/test_slices.py",
    "lower/test_spectra.py",
    "lower/test_thin.py",
)
SLOW = (
    "calculus/test_propagate.py",
    "calculus/test_parity.py",
    "papers/test_papers.py",
    "derive/test_parametrize.py",
    "derive/test_solve.py",
    "derive/test_sites.py",
    "derive/test_rates.py",
    "derive/test_certificate.py",
    "derive/test_functions_of_weights.py",
    "papers/test_mup_oracle.py",
    "house/test_layers.py",
    "rules/test_rule_oracles.py",
)

#: Tests that judge the cases of others: no law, and all cases again for each of them.
NO_JUDGES = ("tests/rules/test_rule_oracles.py::test_every_structure_is_compared_in_every_way",)

#: Mutants that change no order, each with the reason.  ``--equivalent`` tries them; one that is gone is an error.
EQUIVALENT: dict[str, str] = {
    "law.UpdateLaw.held_back: off > 0  ->  off >= 0": "an epsilon in its place holds nothing back: 0 from either side",
    "law._kronecker.update: e_inputs * (w.fan_in + 2 * inputs)  ->  w.fan_in + 2 * inputs": "it is 1 in every law",
    **dict.fromkeys(
        (
            "law.UpdateLaw.shift: ZERO  ->  HALF   in WeightView(ZERO, ZERO)",
            "law.UpdateLaw.shift: ZERO  ->  HALF   in WeightView(ZERO, ZERO) #2",
            "law.UpdateLaw.relative: ZERO  ->  HALF   in WeightView(ZERO, ZERO)",
            "law.UpdateLaw.follows_others: ZERO  ->  HALF   in WeightView(ZERO, ZERO)",
            "law.UpdateLaw.follows_others: ZERO  ->  HALF   in WeightView(ZERO, ZERO) #2",
            "law.UpdateLaw.follows_others: ONE  ->  HALF",
            "law.UpdateLaw.follows_gradient: ZERO  ->  HALF   in WeightView(ZERO, ZERO)",
            "law.UpdateLaw.follows_gradient: ZERO  ->  HALF   in WeightView(ZERO, ZERO) #2",
            "law.UpdateLaw.follows_gradient: ONE  ->  HALF",
        ),
        "a law is linear in the orders that it sees: it moves as much from any point, and by any step if by one",
    ),
    **dict.fromkeys(
        (
            "demand.Demand.shifted: if by is ZERO and (not changes)  ->  if False",
            "facts.Fact.shifted: if by is ZERO  ->  if False",
            "facts.deviating: fact if left is fact.deviation and apart == fact.apart else fact._replace("
            "deviation=left, apart=apart)  ->  fact._replace(deviation=left, apart=apart)",
            "law.WeightView.at: replace(self, gradient=self.gradient - a, size=self.size - a) if a else self  ->  "
            "replace(self, gradient=self.gradient - a, size=self.size - a)",
        ),
        "a copy that equals it",
    ),
    "atoms.Writer.__init__: 0  ->  1": "a new value needs a number that no other one has, whichever it is",
    "factors.regrouped: degrees.get(base, ZERO) + degree  ->  degrees.get(base, ZERO) - degree": "0 is 0 negated",
    "picks.Picks.walk: () if ends else self.picked(node, refs)  ->  self.picked(node, refs)": "marked the first time",
    "picks.Picks.walk: if marks or not self.gates.of.keys().isdisjoint(refs)  ->  if True": "no marks, none more",
    "lowered.Lowered.differentiated: if not any((node.derivative for node in self.program.nodes))  ->  if False": (
        "without a derivative a weight that is used has a use of its own"
    ),
    "copies.without_copies: if not copies.keys().isdisjoint(node.refs)  ->  if True": "nothing is renamed",
    "copies.without_copies: x is not None and y is not None  ->  y is not None": "no argument is a result that is none",
    "factors.regrouped: [_factors(Factor(x), seen, measured) for x in (s.x, s.y)] if measured else parts  ->  "
    "[_factors(Factor(x), seen, measured) for x in (s.x, s.y)]": "the same where nothing is measured",
    "copies.without_copies: if not same.keys().isdisjoint(refs)  ->  if True": "nothing is renamed",
    "gates.Gates.see: if self.of.keys().isdisjoint(refs)  ->  if False": "what meets no gates has no axes of theirs",
    **dict.fromkeys(
        (
            "factors._norm: seen.of(f.value).degree * f.power > 0  ->  seen.of(f.value).degree * f.power >= 0",
            "factors._parts: made.k < 0  ->  made.k <= 0",
            "thin.Thin._bare: x.k > 0  ->  x.k >= 0",
            "picks._divided_by: x.k < 0  ->  x.k <= 0",
        ),
        "no power is the zeroth, which is a constant",
    ),
}

TRACES = Traces()

#: Exit code of a child that could not install its mutant.
BROKEN = 3
#: CPU seconds that a test may take beyond its usual time, and bytes: a mutant that never ends is noticed.
PATIENCE, MEMORY = 2, 6 << 30


class Bench:
    """A pytest plugin that runs mutants in place of the tests it has collected."""

    def __init__(self, mutants: list[Mutant], progress: bool = True) -> None:
        self.mutants = mutants
        self.progress = progress
        self.error: Optional[str] = None
        self.noticed: dict[Mutant, str] = {}
        self.survivors: list[Mutant] = []
        self.endless: list[Mutant] = []
        self.seconds: dict[str, float] = {}
        self.spent: dict[Mutant, float] = {}
        self.reached: dict[Line, set[str]] = {}
        self.traces = TRACES

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed or not session.items:
            self.error = "the tests could not be collected"
            return True
        self.items = {item.nodeid: item for item in session.items}
        self.kept = clearers({item.getparent(pytest.Module).obj for item in session.items})
        failed = self.run_unchanged()
        if failed:
            self.error = f"{len(failed)} tests fail without any mutant: {', '.join(failed[:5])}"
            return True
        gc.collect()
        gc.freeze()
        killers: dict[str, Counter] = {}
        for index, mutant in enumerate(self.mutants):
            start = time.monotonic()
            known = killers.setdefault(mutant.of, Counter())
            killer = self.run(mutant, known)
            if self.error:
                return True
            self.spent[mutant] = time.monotonic() - start
            if killer is None:
                self.survivors.append(mutant)
                self.say(f"so far SURVIVED {mutant}")
            else:
                self.noticed[mutant] = killer
                known[killer] += 1
            if index % 100 == 99:
                self.say(f"{index + 1} of {len(self.mutants)} mutants tried")
        return True

    def say(self, text: str) -> None:
        if self.progress:
            print(text, file=sys.__stdout__, flush=True)

    def run_unchanged(self) -> list[str]:
        """Run every test once; the nodes that fail.  What it takes is noted, what it reaches, and what it traced."""
        failed = []
        self.traces.install()
        for watched in (True, False):  # the second time with their traces kept, as under mutants
            for nodeid in self.items:
                start, lines = time.process_time(), Lines({subject.module.__file__ for subject in SUBJECTS})
                with lines if watched else nullcontext():
                    passed = self.passes(nodeid)
                if not passed:
                    failed.append(nodeid)
                for line in lines.ran:
                    self.reached.setdefault(line, set()).add(nodeid)
                self.seconds[nodeid] = time.process_time() - start
            if failed:
                break
        return failed

    def passes(self, nodeid: str) -> bool:
        """Whether this test does, without anything that another one has found."""
        for clear in self.kept:
            clear()
        self.traces.of_test(nodeid)
        item = self.items[nodeid]
        module = item.getparent(pytest.Module).obj
        sys.modules[module.__name__] = module
        try:
            return succeeds(item)
        finally:
            sys.modules.pop(module.__name__)

    def order(self, mutant: Mutant, known: Counter) -> list[str]:
        """Tests that reach it: the quick first, but before them those that have noticed a mutant of the same law."""
        tests: Collection[str] = self.items
        if mutant.lines:
            file, lines = mutant.lines
            tests = set().union(*(self.reached.get((file, line), ()) for line in lines))
        return sorted(tests, key=lambda nodeid: (self.seconds[nodeid] / (1 + 100 * known[nodeid]), nodeid))

    def run(self, mutant: Mutant, known: Counter) -> Optional[str]:
        """The test that notices ``mutant``, None if it survives."""
        order = self.order(mutant, known)
        if not order:
            return None
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            self.in_child(mutant, order, send)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            told = pipe.read().decode().split("\n")
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == BROKEN:
            self.error = f"the mutant {mutant} cannot be installed"
        if code == 0:
            return None
        if code != 1:  # stopped by the timer
            self.endless.append(mutant)
        return told[-1]

    def in_child(self, mutant: Mutant, order: list[str], send: int) -> None:
        code = BROKEN
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            limit_memory()
            mutant.install()
            code = 1
            for nodeid in order:
                os.write(send, f"\n{nodeid}".encode())
                signal.setitimer(signal.ITIMER_PROF, PATIENCE + 10 * self.seconds[nodeid])
                if not self.passes(nodeid):
                    break
            else:
                code = 0
        finally:
            os._exit(code)


def succeeds(item: Any) -> bool:
    """Whether a test does.  Of a failure no report is made, which takes longer than most tests."""
    item._initrequest()
    item.stash[tmppath_result_key] = {}  # what a temporary folder asks of the report
    try:
        item.ihook.pytest_runtest_setup(item=item)
        item.ihook.pytest_runtest_call(item=item)
    except pytest.skip.Exception:
        return True
    except BaseException:
        return False
    finally:
        item.ihook.pytest_runtest_teardown(item=item, nextitem=None)
        item.funcargs = None
    return True


def limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def clearers(tests: Collection[ModuleType]) -> list[Callable[[], None]]:
    """Of all that keeps a result which a law may have a part in."""
    no_law = ("tpcalc.trace", "tpcalc.algebra", "tpcalc.probe")
    names = [name for name in sys.modules if name.startswith(("tpcalc", "tests", "benchmarks", "examples"))]
    modules = {*tests, *(sys.modules[name] for name in names if not name.startswith(no_law))}
    found: dict[int, Any] = {}
    for thing in (thing for module in modules for thing in vars(module).values()):
        if not isinstance(thing, type) and callable(getattr(thing, "cache_clear", None)):
            found[id(thing)] = thing.cache_clear
    return list(found.values())


def bench(mutants: list[Mutant], tests: list[str], progress: bool = True) -> Bench:
    """Run ``mutants`` against the test files ``tests``."""
    import torch
    from hypothesis import Phase, settings

    torch.set_num_threads(1)
    # a failure is enough: it need not be made small
    settings.register_profile(
        "mutate", phases=[Phase.explicit, Phase.generate], database=None, deadline=None, derandomize=True
    )
    settings.load_profile("mutate")
    plugin = Bench(mutants, progress)
    options = ["-q", "-s", "--tb=short", "-p", "no:cacheprovider", "-p", "no:warnings"]
    with redirect_stdout(io.StringIO()) as told:
        code = pytest.main([*options, *(f"--deselect={test}" for test in NO_JUDGES), *tests], plugins=[plugin])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED):
        plugin.error = plugin.error or "pytest did not run"
    if plugin.error:
        sys.exit(f"error: {plugin.error}\n{told.getvalue()[-2000:]}")
    return plugin


def chosen(subjects: tuple[Subject, ...], only: str) -> list[Mutant]:
    return [mutant for subject in subjects for mutant in subject.mutants(only)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="laws whose name contains this")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    parser.add_argument("--quick", action="store_true", help="only the tables, no slow tests for what survives them")
    parser.add_argument("--tests", help="only these files, separated by commas")
    parser.add_argument("--equivalent", action="store_true", help="try those listed as equivalent: none may be noticed")
    parser.add_argument("--again", type=Path, help="only those that survived a run that printed this file")
    parser.add_argument("--slow", type=int, default=0, help="show this many of the mutants that took longest")
    arguments = parser.parse_args()
    start = time.monotonic()
    found = chosen(SUBJECTS, arguments.only)
    laws = {mutant.of for mutant in found}
    gone = {text for text in EQUIVALENT if text.partition(": ")[0] in laws} - {str(mutant) for mutant in found}
    if gone:
        sys.exit(f"error: listed as equivalent but not there: {'; '.join(sorted(gone))}")
    if arguments.again:
        lines = {line.removeprefix("so far ") for line in arguments.again.read_text().splitlines()}
        found = [mutant for mutant in found if f"SURVIVED {mutant}" in lines]
    if arguments.list:
        print(*found, sep="\n")
        return
    listed = [mutant for mutant in found if str(mutant) in EQUIVALENT]
    tried = listed if arguments.equivalent else [mutant for mutant in found if str(mutant) not in EQUIVALENT]
    stages: tuple[Collection[str], ...] = (
        ((*QUICK, *LOWERING),) if arguments.quick else (QUICK, LOWERING, LOWERED, SLOW)
    )
    if arguments.tests:
        stages = (arguments.tests.split(","),)
        if missing := [name for name in stages[0] if not (ROOT / "tests" / name).exists()]:
            sys.exit(f"error: tests/{missing[0]} is not there: name files as calculus/test_laws.py")
    left, noticed, endless = tried, {}, 0
    for names in stages:
        tests = [str(path) for path in (ROOT / "tests" / name for name in names) if path.exists()]
        if left and tests:
            result = bench(left, tests)
            print(f"{len(left)} mutants, {len(result.items)} tests ({sum(result.seconds.values()):.0f} s unchanged)")
            left, endless = result.survivors, endless + len(result.endless)
            noticed |= result.noticed
            for mutant in sorted(result.spent, key=result.spent.get, reverse=True)[: arguments.slow]:
                print(f"{result.spent[mutant]:.1f} s  {mutant}  by {result.noticed.get(mutant)}")
    minutes, used = (time.monotonic() - start) / 60, sum(os.times()[:4]) / 60
    if arguments.equivalent:
        print(
            *(f"NOTICED {mutant}: not equivalent, see {killer}" for mutant, killer in noticed.items()), sep="\n", end=""
        )
        print(f"{len(tried)} listed as equivalent, {len(noticed)} noticed")
        sys.exit(1 if noticed else 0)
    print(*(f"SURVIVED {mutant}\n" for mutant in left), sep="", end="")
    print(
        f"{len(tried)} mutants of {len({mutant.of for mutant in tried})} laws: {len(noticed)} noticed ({endless} of "
        f"them never ended), {len(left)} survived; {len(listed)} more listed as equivalent; {minutes:.1f} minutes, "
        f"{used:.1f} of them on a processor"
    )
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
