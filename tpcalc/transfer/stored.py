"""A ledger in an Optuna storage: it outlives the process, and several processes share it.

A job is a trial.  Where several trials are of one job the lowest number counts, so that two processes that plan at the
same time do nothing twice.  Who runs a job says every few seconds that it is alive; what is left behind by a process
that is gone is taken up again.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Iterator, Optional

from tpcalc.errors import TpcalcError, first_line
from tpcalc.transfer.jobs import Claim, Done, Job
from tpcalc.transfer.training import Outcome

__all__ = ["STALE", "Stored", "require_optuna", "stored"]

#: Seconds between two signs of life, and after how many without one a job is given up.
BEAT, STALE = 2.0, 20.0
#: Tells this process from one before it, which in a container had the same number.
_TOKEN = uuid.uuid4().hex


def require_optuna() -> Any:
    """The library.  Raises TpcalcError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise TpcalcError("this needs Optuna; install it with: pip install 'tpcalc[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def stored(url: str, asked: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> Stored:
    """Open or begin the ledger at ``url``, a file or the address of a database.

    ``asked``: what all its jobs are of; ``bounds``: of each number that varies, for whoever looks at the study.

    Raises TpcalcError where it can't be read, or is of something else.
    """
    optuna, shown = require_optuna(), re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)  # no password
    try:
        study = optuna.create_study(storage=_storage(optuna, url), study_name="tpcalc", load_if_exists=True)
        first = study.user_attrs.get("asked")
        if first is None:
            study.set_user_attr("asked", dict(asked))
    except Exception as error:
        raise TpcalcError(
            f"the storage {shown} can't be used ({type(error).__name__}: {first_line(error)}); give another one, or "
            f"remove it to begin again"
        ) from error
    now = json.loads(json.dumps(asked))
    if first is not None and first != now:
        other = sorted(key for key in {*first, *now} if first.get(key) != now.get(key))
        raise TpcalcError(
            f"the storage {shown} was begun with other {', '.join(other)}; give those again, or another directory"
        )
    return Stored(study, bounds)


def _storage(optuna: Any, url: str) -> Any:
    """A file is a journal: appended to under a lock that works on network file systems too, and whole after a kill
    (in SQLite two processes can get one waiting trial).

    The lock is a symbolic link to the file, and one that a killed process held is broken when the file behind it has
    not changed for long: so the path is absolute, as a link to a relative one leads nowhere and is waited for for ever.
    """
    if "://" in url:
        return url
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    url = os.path.abspath(url)  # and a loop may change the directory
    if os.path.exists(url) and not os.path.isfile(url):
        raise ValueError("it is no file")
    lock = JournalFileSymlinkLock(url, grace_period=int(STALE))
    backend = JournalFileBackend(url, lock)
    lock.acquire()
    try:
        with open(url, "rb+") as file:
            text = file.read()
            if text and not text.startswith(b'{"op_code"'):
                raise ValueError("it is no journal of Optuna")
            file.truncate(text.rfind(b"\n") + 1)  # no half a line, of a process that was killed, or a full disk
    finally:
        lock.release()
    return optuna.storages.JournalStorage(backend)


class Stored:
    """The ledger of one study.  Raises TpcalcError where its storage fails."""

    def __init__(self, study: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
        self.study, self.bounds = study, bounds
        self.optuna = require_optuna()
        self.states = self.optuna.trial.TrialState
        self.me = f"{socket.gethostname()}:{os.getpid()}:{_TOKEN}"

    def done(self) -> Done:
        with _reading():
            return {
                _job(trial.user_attrs["job"]): _outcome(trial)
                for trial in self._first().values()
                if trial.state == self.states.COMPLETE
            }

    def claim(self, jobs: Sequence[Job]) -> Optional[Claim]:
        with _reading():
            taken = self._first()
            for trial in [*taken.values()]:
                if trial.state == self.states.RUNNING and self._is_left(trial):
                    self.study.tell(trial.number, state=self.states.FAIL, skip_if_finished=True)
                    del taken[trial.user_attrs["job"]]
            if not any(trial.state == self.states.WAITING for trial in taken.values()):
                free = next((job for job in jobs if job.key not in taken), None)
                if free is None:
                    return None
                self.study.enqueue_trial(dict(free.numbers), user_attrs={"job": free.key})
            trial = self.study.ask()
            job = trial.user_attrs.get("job")
            if job is not None:
                trial.set_user_attr("by", self.me)
                trial.set_user_attr("alive", time.time())
                for name, number in _job(job).numbers:
                    low, high = self.bounds.get(name, (number, number))
                    trial.suggest_float(name, low, high, log=low > 0)
            if job is None or self._first()[job].number != trial.number or job not in {known.key for known in jobs}:
                self.study.tell(trial, state=self.states.FAIL)
                return self.claim(jobs) if job is None else None
            return _Running(self, trial, _job(job))

    def _first(self) -> dict[str, Any]:
        """Job -> of its trials that did not fail the one that counts: a finished one, else the lowest number."""
        found: dict[str, Any] = {}
        for trial in self.study.get_trials(deepcopy=False):
            job = trial.user_attrs.get("job")
            if job is None or trial.state in (self.states.FAIL, self.states.PRUNED):
                continue
            if job not in found or (trial.state == self.states.COMPLETE != found[job].state):
                found[job] = trial
        return found

    def _is_left(self, trial: Any) -> bool:
        """Whether the process that ran a trial is gone."""
        by = trial.user_attrs.get("by", "")
        if by == self.me:
            return False
        host, _, number = by.rpartition(":")[0].rpartition(":")
        if host == socket.gethostname() and (int(number) == os.getpid() or not _is_running(int(number))):
            return True
        started = 0.0 if trial.datetime_start is None else trial.datetime_start.timestamp()
        return time.time() - trial.user_attrs.get("alive", started) > STALE


class _Running:
    """A claim, with a thread that says it is alive."""

    def __init__(self, ledger: Stored, trial: Any, job: Job) -> None:
        self.ledger, self.trial, self.job = ledger, trial, job
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _beat(self) -> None:
        while not self.stopped.wait(BEAT):
            try:
                self.trial.set_user_attr("alive", time.time())
            except Exception:
                continue  # a storage that is back in time is as if nothing was; else another takes the job up

    def tell(self, outcome: Outcome) -> None:
        self._stop()
        given_up = self.ledger.optuna.exceptions.UpdateFinishedTrialError  # by another, as this one seemed to be gone
        with _reading(), suppress(given_up):
            self.trial.set_user_attr("curve", [list(point) for point in outcome.curve])
            self.trial.set_user_attr("seconds", outcome.seconds)
            self.ledger.study.tell(self.trial, outcome.loss, skip_if_finished=True)

    def drop(self) -> None:
        self._stop()
        with _reading():
            self.ledger.study.tell(self.trial, state=self.ledger.states.FAIL, skip_if_finished=True)

    def _stop(self) -> None:
        self.stopped.set()
        self.thread.join()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except TpcalcError:
        raise
    except Exception as error:
        raise TpcalcError(
            f"the storage of the runs failed ({type(error).__name__}: {first_line(error)}); what is finished is kept: "
            f"run the command again"
        ) from error


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@lru_cache(maxsize=4096)  # the whole ledger is read again at every look
def _job(key: str) -> Job:
    found = json.loads(key)
    return Job(
        found["parametrization"],
        tuple((name, value) for name, value in found["scales"]),
        tuple((name, value) for name, value in found["numbers"]),
        found["steps"],
        found["seed"],
    )


def _outcome(trial: Any) -> Outcome:
    curve = tuple((step, loss) for step, loss in trial.user_attrs.get("curve", ()))
    return Outcome(trial.value, curve, trial.user_attrs.get("seconds", 0.0))
