"""A search as text."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.report.made import TUNED_SPACE, made_outcome, tuned
from tpcalc.report.tune import tune_text
from tpcalc.transfer.jobs import Here, Memory, work
from tpcalc.transfer.training import Outcome
from tpcalc.tune.plan import Schedule, Search
from tpcalc.tune.space import Space

TEXT = """\
Tuning of mlp with adamw at width=64 for width=256: 16 runs of 25 steps and 4 of 100

number        range        found
---------------------------------------------------
lr            0.001 to 1   0.0264
embedding.lr  0.125 to 8   0.329
readout.init  0.0312 to 4  0.033   at its lower end
weight_decay  kept         0.1

loss at width=64, 25 steps: 1.917 as the model is, 1.544 tuned
loss at width=64, 100 steps: 1.244 with what was found

remarks:
  - readout.init is at its lower end, beyond which better ones may lie; search there too, with readout.init=0.00195:4 in --space
  - 4 of 20 runs diverged
  - the numbers were found in a run of 100 steps, and the target's has 1000, 10 times as many: longer runs tend to want a smaller learning rate; have longer ones here (a larger --share, fewer --trials); --horizon completed-p applies a published rule (docs/horizon.md, and its worth)

next:
  - train once at width=256: init_(model), then an optimizer of param_groups(model, lr=0.0263523, weight_decay=0.1, eps=1e-08), both of scaling.py or of the multipliers here
  - a schedule there has 1000 steps, here it had 100; let it end with the run

notes:
  - one note

cost: 5.3% of one target run (8e+08 FLOPs at width=64; 1000 steps at width=256 are 1.5e+10)
"""  # noqa: E501


def test_text():
    assert tune_text(tuned()) == TEXT
    assert str(tuned()) == repr(tuned()) == TEXT


def test_a_narrow_terminal_breaks_no_number():
    narrow = tune_text(tuned(), width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert all(word in narrow for word in ("0.125 to 8", "lr=0.0263523", "8e+08"))


RUNS = Schedule(16, 25, 4, 100)


def searched(outcome=made_outcome, ranges=TUNED_SPACE, runs=RUNS) -> str:
    search = Search({"width": 64}, Space(ranges), runs, sampler="random")
    done = work(search.jobs, Memory(), Here(outcome))
    return tune_text(replace(tuned(), search=search, done=done, best=search.best(done), notes=()))


def test_ends_of_ranges_in_words():
    """A number that is kept is at no end."""
    text = searched(ranges={"lr": (1e-3, 0.012), "readout.init": (1.0, 1.0), "embedding.lr": (1.0, 1.0)})
    assert "at its upper end" in text.split("\n")[4] and "readout.init  kept" in text
    assert "lr is at its upper end, beyond which better ones may lie; search there too, with lr=0.001:0.192" in text
    assert text.count("at its") == 2


def test_no_run_of_the_model_as_it_is():
    def far(job):
        return Outcome(math.inf) if set(job.constants["readout"].values()) == {1.0} else made_outcome(job)

    assert "loss at width=64, 25 steps: diverged at every learning rate as the model is, 1." in searched(far)


def test_nothing_better_was_found():
    """And where there are only short runs, their loss is told once."""

    def near(job):
        own = set(job.constants["readout"].values()) == {1.0}
        return replace(made_outcome(job), loss=(1.0 if own else 2.0) + 1e-3 * job.base.lr)

    text = searched(near, runs=Schedule(6, 25, 0, 25))
    assert "6 runs of 25 steps\n" in text and text.count("loss at") == 1
    assert "none that was tried is better than that" in text
    assert "none that was tried" not in searched()


def test_a_space_that_leaves_the_model_out():
    text = searched(ranges={**TUNED_SPACE, "readout.init": (0.1, 0.5)})
    assert " as near to the model as it is as the space allows, " in text
