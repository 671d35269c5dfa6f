"""A ledger that outlives the process, and that several share."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter

import pytest

from tests.support.forked import forked
from tpcalc.errors import TpcalcError
from tpcalc.transfer import stored as module
from tpcalc.transfer.jobs import Here, Job, Memory, work
from tpcalc.transfer.stored import Stored, stored
from tpcalc.transfer.training import Outcome

ASKED = {"steps": 10, "rates": (1e-3, 1e-2), "constants": {"hidden": {"lr": 2.0}}}
BOUNDS = {"lr": (1e-4, 1.0), "weight_decay": (0.0, 1.0)}


def job(number: int, generation: int = 0) -> Job:
    numbers = {"lr": 0.5**number, "weight_decay": 0.0, "hidden.lr": 3.0}
    return Job.of("derived", {"width": 8, "depth": 1 + generation}, numbers, 10, number)


def run(asked: Job) -> Outcome:
    loss = math.inf if asked.seed == 1 else 1 / (3 + asked.seed) + dict(asked.scales)["depth"]
    return Outcome(loss, ((0, 0.1), (5, math.inf), (6, math.nan)) if asked.seed == 1 else ((0, loss),), 0.25)


def plan(done):
    first = [job(number) for number in range(3)]
    if not all(each in done for each in first):
        return first
    best = min(first, key=lambda each: done[each].loss)
    return [*first, *(job(best.seed + number, 1) for number in range(3))]


def noted(path, seconds=0.0):
    """A run that notes in a file that it has begun."""

    def begun(asked):
        with path.open("a") as file:
            file.write(asked.key + "\n")
        time.sleep(seconds)
        return run(asked)

    return begun


def counts(path) -> Counter:
    return Counter(path.read_text().splitlines() if path.exists() else [])


def opened(path) -> Stored:
    return stored(str(path), ASKED, BOUNDS)


def pause():
    time.sleep(0.02)


def same(a, b) -> bool:
    return repr(a) == repr(b)  # nan is not itself


@pytest.mark.parametrize("name", ["ledger.log", "sqlite"])
def test_memory_and_storage_are_alike(tmp_path, name):
    url = f"sqlite:///{tmp_path}/runs.db" if name == "sqlite" else tmp_path / name
    alone = work(plan, Memory(), Here(run))
    assert same(work(plan, opened(url), Here(run)), alone), "infinite losses, curves and seconds as well"
    assert any(math.isinf(outcome.loss) for outcome in alone.values())
    ran = []
    assert same(work(plan, opened(url), Here(ran.append)), alone) and not ran


def test_two_processes_share_the_jobs(tmp_path):
    side = tmp_path / "begun"

    def helps():
        work(plan, opened(tmp_path / "log"), Here(noted(side, 0.1)), wait=pause)

    others = [forked(helps, tmp_path) for _ in range(2)]
    done = work(plan, opened(tmp_path / "log"), Here(noted(side, 0.1)), wait=pause)
    told = [other.wait() for other in others]
    assert [end.returncode for end in told] == [0, 0], told
    assert same(done, work(plan, Memory(), Here(run)))
    assert counts(side) == Counter(each.key for each in done), "none twice"


def test_killed_in_the_middle_of_a_job(tmp_path):
    side, log = tmp_path / "begun", tmp_path / "log"

    def hangs(asked):
        return noted(side, 60.0 if asked.seed == 2 else 0.0)(asked)

    other = forked(lambda: work(plan, opened(log), Here(hangs)), tmp_path)
    deadline = time.time() + 20
    while len(counts(side)) < 3 and time.time() < deadline:
        time.sleep(0.01)
    os.kill(other.child, signal.SIGKILL)
    other.wait()
    before, started = counts(side), time.time()
    assert len(before) == 3 and len(opened(log).done()) == 2
    done = work(plan, opened(log), Here(noted(side)), wait=pause)
    assert time.time() - started < module.STALE / 2, "at once"
    expected = Counter(each.key for each in done) + Counter([job(2).key])
    assert counts(side) == expected and same(done, work(plan, Memory(), Here(run)))


def test_a_half_written_line_of_a_killed_process(tmp_path):
    work(plan, opened(tmp_path / "log"), Here(run))
    with (tmp_path / "log").open("a") as file:
        file.write('{"op_code":5,"worker')
    ran = []
    assert same(work(plan, opened(tmp_path / "log"), Here(ran.append)), work(plan, Memory(), Here(run))) and not ran


def left_by(ledger, by, seconds):
    """A job that is running, as another process would have left it."""
    claim = ledger.claim([job(0)])
    claim._stop()
    claim.trial.set_user_attr("by", by)
    claim.trial.set_user_attr("alive", time.time() - seconds)
    return claim


HERE = module.socket.gethostname()


@pytest.mark.parametrize(
    "by, seconds, taken",
    [
        ("elsewhere:1:a", 0.0, False),
        ("elsewhere:1:a", module.STALE + 1, True),
        (f"{HERE}:{os.getppid()}:a", 0.0, False),
        (f"{HERE}:{os.getppid()}:a", module.STALE + 1, True),
        (f"{HERE}:{2**22 + 1}:a", 0.0, True),
        (f"{HERE}:{os.getpid()}:another process with this number", 0.0, True),
        (f"{HERE}:{os.getpid()}:{module._TOKEN}", module.STALE + 1, False),
    ],
    ids=["away", "away too long", "alive", "alive and stuck", "dead", "dead with this number", "this one"],
)
def test_whose_job_is_taken_up(tmp_path, by, seconds, taken):
    left_by(opened(tmp_path / "log"), by, seconds)
    ledger = opened(tmp_path / "log")
    claim = ledger.claim([job(0)])
    assert (claim is not None) == taken
    if taken:
        claim.tell(run(job(0)))
        assert ledger.done() == {job(0): run(job(0))}


def test_who_seemed_to_be_gone_comes_back(tmp_path):
    """What it tells is too late, and no error: the other's counts."""
    ledger = opened(tmp_path / "log")
    late = left_by(ledger, "elsewhere:1:a", module.STALE + 1)
    again = opened(tmp_path / "log").claim([job(0)])
    late.tell(Outcome(9.0))
    assert ledger.done() == {}
    late.drop()
    again.tell(Outcome(2.0))
    assert ledger.done()[job(0)].loss == 2.0


def test_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.02)
    ledger = opened(tmp_path / "log")
    claim = ledger.claim([job(0)])
    trial = ledger.study.get_trials()[0]
    deadline = time.time() + 10
    while ledger.study.get_trials()[0].user_attrs["alive"] == trial.user_attrs["alive"] and time.time() < deadline:
        time.sleep(0.01)
    assert ledger.study.get_trials()[0].user_attrs["alive"] > trial.user_attrs["alive"]
    claim.drop()
    assert not claim.thread.is_alive() and ledger.claim([job(0)]) is not None


@pytest.mark.parametrize("error", [RuntimeError("lost"), KeyboardInterrupt()])
def test_an_error_gives_the_claim_back(tmp_path, error):
    ledger = opened(tmp_path / "log")

    def fails(asked):
        if asked.seed == 1:
            raise error
        return run(asked)

    with pytest.raises(type(error)):
        work(plan, ledger, Here(fails))
    ran = []
    done = work(plan, opened(tmp_path / "log"), Here(lambda asked: ran.append(asked) or run(asked)))
    assert same(done, work(plan, Memory(), Here(run)))
    assert set(ran) == set(done) - {job(0)} and len(ran) == len(set(ran)), "what was finished before is kept"


def test_two_that_plan_the_same_at_once(tmp_path):
    """Both enqueue the job; the lower trial counts."""
    one, two = opened(tmp_path / "log"), opened(tmp_path / "log")
    for ledger in (one, two):
        ledger.study.enqueue_trial(dict(job(0).numbers), user_attrs={"job": job(0).key})
    claims = [ledger.claim([job(0)]) for ledger in (two, one)]
    assert [claim is None for claim in claims] == [False, True]
    claims[0].tell(run(job(0)))
    assert one.claim([job(0)]) is None and one.done() == {job(0): run(job(0))}


def test_a_job_of_a_later_generation_is_left_to_who_knows_it(tmp_path):
    ledger = opened(tmp_path / "log")
    ledger.study.enqueue_trial({}, user_attrs={"job": job(0, 1).key})
    done = work(plan, ledger, Here(run), wait=pause)
    assert same(done, work(plan, Memory(), Here(run)))


def test_a_lock_that_a_killed_process_held(tmp_path, monkeypatch):
    """The lock is a link to the file, and has to lead there where the path is relative, too: else nobody breaks it."""
    from optuna.storages.journal import JournalFileSymlinkLock

    monkeypatch.setattr(module, "STALE", 3.0)
    (tmp_path / "runs").mkdir()
    place = os.path.join("runs", "log")

    def dies():
        JournalFileSymlinkLock.release = lambda lock: os.kill(os.getpid(), signal.SIGKILL)
        opened(place)

    os.waitpid(forked(dies, tmp_path).child, 0)
    assert os.path.islink(tmp_path / "runs" / "log.lock"), "it was held"
    after = forked(lambda: work(plan, opened(place), Here(noted(tmp_path / "side"))), tmp_path)
    deadline, ended = time.time() + 40, 0
    while not ended and time.time() < deadline:
        ended, status = os.waitpid(after.child, os.WNOHANG)
        time.sleep(0.05)
    if not ended:
        os.kill(after.child, signal.SIGKILL)
        os.waitpid(after.child, 0)
    assert ended and status == 0 and len(counts(tmp_path / "side")) == 6


def test_the_directory_may_be_changed_by_a_loop(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    ledger = opened("log")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert same(work(plan, ledger, Here(run)), work(plan, Memory(), Here(run)))
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == []


# -- what can't be ---------------------------------------------------------------------------------


def refused(path, asked=ASKED) -> str:
    with pytest.raises(TpcalcError) as caught:
        stored(str(path), asked, BOUNDS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"no journal\nat all\n", b"notes", b"one line\n", b"\x80\x00\n\xff\n", b'{"op_code": 99}\n{}\n', b"[1]\n[2]\n"],
)
def test_a_corrupt_file(tmp_path, content):
    (tmp_path / "log").write_bytes(content)
    assert "can't be used (" in refused(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == content


def test_a_file_that_becomes_corrupt(tmp_path):
    ledger = opened(tmp_path / "log")
    with (tmp_path / "log").open("a") as file:
        file.write("nonsense\nnonsense\n")
    with pytest.raises(
        TpcalcError, match="the storage of the runs failed .*; what is finished is kept: run the command"
    ):
        work(plan, ledger, Here(run))


@pytest.mark.parametrize("place", ["missing/log", "file/log", "."])
def test_a_place_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    found = refused(tmp_path / place)
    assert str(tmp_path / place) in found and "give another one" in found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_no_database():
    assert "can't be used (" in refused("nosuch://host/runs")


def test_no_password_is_printed():
    with pytest.raises(TpcalcError) as error:
        stored("postgresql://me:secret@nowhere.invalid/runs", ASKED, {})
    assert "secret" not in str(error.value) and "//me:***@nowhere.invalid/runs" in str(error.value)


def test_runs_of_something_else(tmp_path):
    opened(tmp_path / "log")
    opened(tmp_path / "log")
    found = refused(tmp_path / "log", {**ASKED, "steps": 11, "more": 1})
    assert found.endswith("was begun with other more, steps; give those again, or another directory")
