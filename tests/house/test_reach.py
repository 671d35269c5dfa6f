"""What a run of a test leaves for its runs under mutants: the lines that it reaches, and its traces."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.house.mutants import Subject
from tests.house.reach import Lines, Traces, signature
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO
from tpcalc.calculus import laws


def test_the_lines_that_a_test_runs_are_those_of_the_mutants_that_it_can_notice():
    """Of an inverse of zero the branch of zero, and not the other one."""
    with Lines({laws.__file__}) as seen:
        assert laws._power(MINUS_INFINITY, -ONE) == ZERO
    reached, all_of_it = set(), set()
    for mutant in Subject(laws).mutants("laws._power"):
        assert mutant.lines is not None
        file, lines = mutant.lines
        (reached if seen.ran & {(file, line) for line in lines} else all_of_it).add(mutant.words)
    assert any(words.startswith("ZERO  ->  HALF") for words in reached)
    assert any(words.startswith("order * k  ->") for words in all_of_it)


def test_a_mutant_lies_in_its_function():
    for mutant in Subject(laws).mutants("laws.contract"):
        source, first = inspect.getsourcelines(laws.contract)
        assert mutant.lines is not None and len(mutant.lines[1]) > 0
        assert set(mutant.lines[1]) <= set(range(first, first + len(source)))


def made(n: int) -> Any:
    def factory(width: int) -> int:
        return width * n

    return factory


def test_the_same_question_at_the_same_place_has_the_same_answer():
    asked = []

    def real(factory: Any, widths: Any = (), **options: Any) -> Any:
        asked.append(widths)
        return SimpleNamespace()

    traces = Traces()

    def run(test: str, *factories: Any, widths: tuple = (1, 2)) -> list:
        traces.of_test(test)
        return [traces._of(real, factory, widths) for factory in factories]  # type: ignore[arg-type]

    first = run("a", made(1), made(2))
    assert run("a", made(1), made(2)) == first and len(asked) == 2
    assert run("b", made(1))[0] is not first[0]
    assert run("a", made(2))[0] is not first[0]  # another factory
    assert run("a", made(1), widths=(1, 3))[0] is not first[0] and len(asked) == 5


def test_signatures_are_those_of_what_is_made_alike():
    assert signature(made(1)) == signature(made(1)) != signature(made(2))
    assert signature(partial(made(1), 3)) == signature(partial(made(1), 3)) != signature(partial(made(1), 4))
    assert signature({"a": [made(1), None]}) == signature({"a": (made(1), None)}) != signature({"b": (made(1), None)})
    assert signature(SimpleNamespace(a=1)) == signature(SimpleNamespace(a=2))  # nobody can tell
