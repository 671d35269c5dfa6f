"""What a search says of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import tpcalc
from tests.report.made import tuned
from tests.support.stacks import pre
from tpcalc.transfer.training import Outcome


def test_numbers_of_the_best_run():
    result = tuned()
    assert result.best in result.jobs and result.loss == result.done[result.best].loss
    assert result.loss == min(result.done[job].loss for job in result.jobs if job.steps == 100)
    numbers = dict(result.best.numbers)
    assert (result.base.lr, result.base.weight_decay) == (numbers["lr"], 0.1)
    assert result.constants == {
        "embedding": {"lr": numbers["embedding.lr"]},
        "readout": {"init": numbers["readout.init"]},
    }


def test_all_runs_in_the_order_of_the_plan():
    result = tuned()
    assert [job.steps for job in result.jobs] == [25] * 16 + [100] * 4
    assert result.jobs[:4] == tuple(result.search.first) and set(result.jobs) == set(result.done)


def test_losses_before_and_after_are_of_short_runs():
    result = tuned()
    short = [result.done[job].loss for job in result.jobs[:16]]
    assert result.before == min(short[:4]) and result.after == min(short) < result.before
    assert result.loss < result.after
    wild = {**result.done, **dict.fromkeys(result.search.first[:1], Outcome(math.inf))}
    assert replace(result, done=wild).before == min(loss for loss in short[1:4])


def test_nothing_is_before_where_the_model_as_it_is_diverges():
    result = tuned()
    one = replace(result.search, runs=replace(result.search.runs, trials=4, finals=0))
    done = {**result.done, **dict.fromkeys(one.first, Outcome(math.inf))}
    assert replace(result, search=one, done=done).before is None


def test_ends_by_name():
    assert tuned().ends == ({"width": 64}, {"width": 256})
    base, target = {"width": 16, "depth": 2}, {"width": 64, "depth": 4}
    assert replace(tuned(), scaling=tpcalc.scale(pre, base, target)).ends == (base, target)
