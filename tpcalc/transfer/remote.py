"""Runs on a Ray cluster: the plan and the ledger stay here, jobs go there."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from tpcalc.errors import TpcalcError, first_line
from tpcalc.transfer.jobs import Job
from tpcalc.transfer.training import Outcome

__all__ = ["LOCAL", "OnRay"]

#: The address of a cluster of this machine alone, made for the runs.
LOCAL = "local"


#: Seconds in which a cluster must answer.
PATIENCE = 10.0


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at ``host:port`` (``ray://host:port``): Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


class OnRay:
    """As many jobs at once as the cluster has processors, or where each needs ``gpus`` as many as it has of those; each
    by a worker that traces the model once.

    ``make`` gives what does a job; it is called in each worker, so it must be possible to send it there, and find the
    files that it names.  A worker that is lost is replaced, and its job run again (three times at most).

    Raises TpcalcError where Ray is not installed or the cluster can't be reached.
    """

    def __init__(self, address: str, make: Callable[[], Callable[[Job], Outcome]], gpus: int = 0) -> None:
        try:
            import ray
        except ImportError:
            raise TpcalcError("--ray needs Ray; install it with: pip install 'tpcalc[ray]'") from None
        self.ray = ray
        started: dict[str, Any] = {} if address == LOCAL else {"address": address}
        try:
            if not ray.is_initialized():
                _knock(address)
                ray.init(**started, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except Exception as error:
            raise TpcalcError(
                f"no Ray cluster can be reached at {address} ({type(error).__name__}: {first_line(error)}); "
                f"start one with ray start --head, or give --ray {LOCAL}"
            ) from error
        there = ray.cluster_resources()
        self.slots = int(there.get("GPU", 0)) // gpus if gpus else int(there.get("CPU", 1))
        if self.slots < 1:
            raise TpcalcError(f"the Ray cluster at {address} has no GPU; give --device cpu, or another cluster")
        worker: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3)(_Worker)
        self.idle = [worker.remote(make, os.getcwd()) for _ in range(self.slots)]
        self.busy: dict[Any, Any] = {}

    def start(self, job: Job) -> Any:
        worker = self.idle.pop()
        future = worker.run.remote(job)
        self.busy[future] = worker
        return future

    def finish(self, running: Sequence[Any]) -> tuple[Any, Outcome]:
        """Raises TpcalcError with what a job raised."""
        (future,), _ = self.ray.wait(list(running), num_returns=1)
        self.idle.append(self.busy.pop(future))
        try:
            return future, self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, TpcalcError) else error
            raise TpcalcError(str(cause).strip().splitlines()[-1]) from error
        except self.ray.exceptions.RayError as error:
            raise TpcalcError(f"the Ray cluster lost a run ({type(error).__name__}); run the command again") from error


class _Worker:
    def __init__(self, make: Callable[[], Callable[[Job], Outcome]], directory: str) -> None:
        import torch

        if os.path.isdir(directory):
            os.chdir(directory)
        torch.set_num_threads(1)
        self.work = make()

    def run(self, job: Job) -> Outcome:
        return self.work(job)
