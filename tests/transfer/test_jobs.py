"""Plans, ledgers and executors: every job once, whoever does them in whatever order."""

from __future__ import annotations

import json
import random
import threading

import pytest

from tpcalc.transfer.jobs import Here, Job, Memory, work
from tpcalc.transfer.run import Base
from tpcalc.transfer.training import Outcome


def job(number: int, generation: int = 0) -> Job:
    return Job.of("derived", {"width": 8 + generation}, {"lr": 0.5**number, "eps": 1e-8}, 10, number)


def run(asked: Job) -> Outcome:
    return Outcome(asked.seed + 1 / dict(asked.scales)["width"], ((0, 1.0),))


def generations(sizes):
    """Each generation depends on what came of the one before: its jobs are numbered from the best."""

    def plan(done):
        found, start = [], 0
        for generation, size in enumerate(sizes):
            own = [job(start + number, generation) for number in range(size)]
            found += own
            if not all(each in done for each in own):
                break
            start = min(own, key=lambda each: (-done[each].loss, each.key)).seed
        return found

    return plan


class Slots:
    """Runs ``slots`` at once, which finish in random order."""

    def __init__(self, slots, source):
        self.slots, self.source, self.started = slots, source, []

    def start(self, asked):
        self.started.append(asked)
        return len(self.started) - 1

    def finish(self, running):
        assert 0 < len(running) <= self.slots
        chosen = self.source.choice(running)
        return chosen, run(self.started[chosen])


def test_a_job():
    one = Job.of("tuned", {"width": 8, "depth": 2}, {"lr": 0.1, "hidden.init": 2.0, "*.a.weight.lr": 3.0}, 5, 1)
    assert one == Job.of("tuned", {"width": 8, "depth": 2}, {"*.a.weight.lr": 3.0, "hidden.init": 2.0, "lr": 0.1}, 5, 1)
    assert one.constants == {"hidden": {"init": 2.0}, "*.a.weight": {"lr": 3.0}} and one.base == Base(0.1)
    assert json.loads(one.key)["scales"] == [["width", 8], ["depth", 2]]
    others = [Job.of("tuned", {"width": 8}, dict(one.numbers), 5, 1), job(0), job(1)]
    assert len({one.key, *(other.key for other in others)}) == 4


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_any_order_comes_to_the_same_end(slots, seed):
    sizes = (1, 5, 3, 4)
    alone = work(generations(sizes), Memory(), Here(run))
    executor, told = Slots(slots, random.Random(seed)), []
    done = work(generations(sizes), Memory(), executor, lambda *now: told.append(now))
    assert done == alone and list(done) == list(alone), "in the order of the plan"
    assert len(executor.started) == len(set(executor.started)) == len(alone) == sum(sizes)
    assert told == sorted(told) and told[0] == (0, 1) and told[-1] == (13, 13)


@pytest.mark.parametrize("slots", [(1, 1), (1, 3), (2, 4, 1)])
def test_several_on_one_ledger(slots):
    """Each in a thread of its own; a job that another does is waited for."""
    ledger, lock, sizes = Memory(), threading.RLock(), (1, 6, 4)
    claim = ledger.claim

    def claimed(jobs):
        with lock:
            return claim(jobs)

    ledger.claim = claimed
    ledger.done = lambda: dict(ledger.outcomes)
    executors = [Slots(count, random.Random(count)) for count in slots]
    ends = []
    pause = threading.Event()
    threads = [
        threading.Thread(
            target=lambda own=own: ends.append(
                work(generations(sizes), ledger, own, wait=lambda: pause.wait(0.001) and None)
            )
        )
        for own in executors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [work(generations(sizes), Memory(), Here(run))] * len(slots)
    started = [asked for own in executors for asked in own.started]
    assert len(started) == len(set(started)) == sum(sizes)


def test_what_is_done_is_not_done_again():
    ledger, ran = Memory(), []
    plan = generations((2, 2))
    first = work(plan, ledger, Here(run))
    assert work(plan, ledger, Here(ran.append)) == first and not ran


class Broken(Slots):
    """``at``: where it fails, once the second job is started."""

    def __init__(self, at):
        super().__init__(2, random.Random(0))
        self.at = at

    def start(self, asked):
        if self.at == "start" and self.started:
            raise RuntimeError
        return super().start(asked)

    def finish(self, running):
        if self.at == "finish":
            raise RuntimeError
        return super().finish(running)


@pytest.mark.parametrize("at", ["start", "finish"])
def test_an_error_gives_all_claims_back(at):
    ledger = Memory()
    with pytest.raises(RuntimeError):
        work(generations((3,)), ledger, Broken(at))
    assert not ledger.taken and not ledger.outcomes
    assert len(work(generations((3,)), ledger, Here(run))) == 3


def test_a_claim_that_cannot_be_told_is_given_back():
    class Full(dict):
        def __setitem__(self, key, value):
            raise OSError

    ledger = Memory()
    ledger.outcomes = Full()
    with pytest.raises(OSError):
        work(generations((3,)), ledger, Here(run))
    assert not ledger.taken


def test_nothing_to_do():
    assert work(lambda done: [], Memory(), Here(run)) == {}
    assert Memory().claim([]) is None
