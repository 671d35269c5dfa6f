"""The plan of a search: within its budget, and a function of outcomes alone."""

from __future__ import annotations

import math
import random

import pytest

from tests.report.made import TUNED_SPACE, made_outcome
from tpcalc.errors import TpcalcError
from tpcalc.transfer.jobs import Here, Memory, work
from tpcalc.transfer.training import Outcome
from tpcalc.tune import plan as module
from tpcalc.tune.plan import FEWEST, Schedule, Search, schedule
from tpcalc.tune.space import Space

SPACE = Space(TUNED_SPACE)
RUNS = Schedule(16, 25, 4, 100)


def search(sampler: str = "tpe", runs: Schedule = RUNS, seed: int = 0) -> Search:
    return Search({"width": 64}, SPACE, runs, seed, sampler)


def all_done(own: Search, outcome=made_outcome) -> dict:
    return work(own.jobs, Memory(), Here(outcome))


def test_no_budget_is_exceeded():
    generator = random.Random(0)
    paid = 0
    for _ in range(2000):
        steps, budget = generator.randint(1, 1000), 10 ** generator.uniform(-1.5, 3)
        try:
            runs = schedule(budget, steps)
        except TpcalcError as error:
            assert "\n" not in str(error) and "--share" in str(error)
            assert budget < 4, "enough for a search"
            continue
        paid += 1
        assert runs.taken <= budget * steps * (1 + 1e-9), (budget, steps)
        assert runs.trials >= FEWEST and runs.short <= runs.long <= steps
        assert runs.finals <= runs.trials
        if budget > 4 and steps >= 16:
            assert runs.taken > 0.6 * budget * steps, "what is there is used"
    assert paid > 1000


def test_a_small_budget_is_refused():
    with pytest.raises(
        TpcalcError, match=r"^the budget pays for 0\.1 runs of 100 steps at the base, which is no search"
    ):
        schedule(0.1, 100)
    for few in range(1, FEWEST):
        with pytest.raises(TpcalcError, match=f"--trials {few} is no search; give 3 or more"):
            schedule(10, 100, few)


def test_trials_that_are_asked_for_are_run():
    assert schedule(10, 100, 7) == Schedule(7, 25, 7, 100)
    assert schedule(0.1, 100, 40) == Schedule(40, 6, 1, 24), "whatever they cost; the share is told"


def test_what_is_planned_is_within_the_schedule():
    for runs in (RUNS, Schedule(3, 10, 0, 10), Schedule(5, 7, 5, 28), Schedule(33, 2, 9, 8)):
        done = all_done(search("random", runs))
        assert sum(job.steps for job in done) <= runs.taken
        assert sum(job.steps == runs.short for job in done) == runs.trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_plan_does_not_depend_on_the_order_of_outcomes(sampler):
    """Nor on who computes it: each time a new one, as another process has it."""
    expected = list(all_done(search(sampler)))
    for seed in range(3):
        generator, done = random.Random(seed), {}
        while left := [job for job in search(sampler).jobs(done) if job not in done]:
            for job in generator.sample(left, generator.randint(1, len(left))):
                done[job] = made_outcome(job)
            assert set(done) <= set(search(sampler).jobs(done)), "nothing known is forgotten"
        assert search(sampler).jobs(done) == expected
        assert search(sampler).best(done) == search(sampler).best(all_done(search(sampler)))
    assert expected != list(all_done(search(sampler, seed=1))), "another seed, another search"


def test_outcomes_decide_what_comes_next():
    def other(job):
        return Outcome(-made_outcome(job).loss)

    assert list(all_done(search())) != list(all_done(search(), other))


def test_a_generation_is_proposed_once(monkeypatch):
    """A plan is asked for after each run."""
    asked = []
    propose = module.propose
    monkeypatch.setattr(module, "propose", lambda *given: asked.append(given[3]) or propose(*given))
    own = search()
    all_done(own)
    own.best(all_done(own))
    assert asked == sorted(set(asked)) and len(asked) == 3, "4 + 3 * 4 short runs"


def test_it_begins_with_the_model_as_it_is():
    first = search().first
    assert [job.constants for job in first] == [{"embedding": {"lr": 1.0}, "readout": {"init": 1.0}}] * 4
    rates = [job.base.lr for job in first]
    assert rates == sorted(rates) and 1e-3 < rates[0] < rates[-1] < 1.0
    kept = Space({**TUNED_SPACE, "lr": (0.01, 0.01)})
    assert [job.base.lr for job in Search({"width": 64}, kept, RUNS).first] == [0.01]
    assert len(search(runs=Schedule(3, 25, 0, 25)).first) == 3


def test_the_decision_is_between_the_best_and_the_model_as_it_is_at_their_rates_and_half_of_them():
    own = search()
    done = all_done(own)
    short = sorted((job for job in done if job.steps == 25), key=lambda job: done[job].loss)
    finals = [job for job in done if job.steps == 100]
    as_it_is = next(job for job in short if job in own.first)
    assert as_it_is != short[0]
    expected = [(job.base.lr * rate, job.constants) for job in (short[0], as_it_is) for rate in (1.0, 0.5)]
    found = [(job.base.lr, job.constants) for job in finals]
    assert [constants for _, constants in found] == [constants for _, constants in expected]
    assert [rate for rate, _ in found] == pytest.approx([rate for rate, _ in expected], rel=1e-5)
    assert own.best(done) == min(finals, key=lambda job: done[job].loss)


def test_what_makes_no_difference():
    with pytest.raises(TpcalcError, match="^the loss is 2 whatever the learning rate: the loop does not train with"):
        all_done(search(), lambda job: Outcome(2.0))


def test_one_step_need_make_no_difference():
    """A loss from before the step is the same at every rate; runs of more steps decide, and are held to it."""
    own = search(runs=Schedule(4, 1, 2, 4))
    moves = all_done(own, lambda job: Outcome(2.0 if job.steps == 1 else job.base.lr))
    assert own.best(moves).steps == 4
    with pytest.raises(TpcalcError, match="^the loss is 2 whatever the learning rate"):
        own.best(all_done(own, lambda job: Outcome(2.0)))


def test_divergence():
    def wild(job):
        return Outcome(math.inf)

    own = search("random")
    done = all_done(own, wild)
    assert len(done) == 16, "nothing is decided between them"
    with pytest.raises(
        TpcalcError, match=r"^every run diverged at learning rates from 0\.001 to 1; give smaller ones, as"
    ):
        own.best(done)

    def long_runs_do(job):
        return made_outcome(job) if job.steps == 25 else wild(job)

    done = all_done(own, long_runs_do)
    assert own.best(done) == min(done, key=lambda job: done[job].loss), "a short one is better than none"
