"""The processes that share the runs of a command, what they note them in, and how far they are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from tpcalc.errors import TpcalcError

__all__ = ["LEDGER", "Workers", "directory_for", "ledger_in"]

#: Seconds between two looks at what others do.
POLL = 0.2
LEDGER = "runs.log"


class Workers:
    """``arguments``: those of this command, which helpers are started with.  ``make``: gives what does a job."""

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        ray: Optional[str],
        make: Callable[[], Any],
        helper: bool,
        device: str,
    ) -> None:
        if ray is not None and processes > 1:
            raise TpcalcError("--ray has processes of its own; drop --processes")
        self.arguments, self.processes, self.make = list(arguments), 1 if helper else processes, make
        self.ray, self.gpus = None if helper else ray, int(device.startswith("cuda"))
        self.helpers: list[subprocess.Popen[bytes]] = []

    @property
    def executor(self) -> Optional[Callable[[Any], Any]]:
        """Where jobs are run; None: in this process."""
        if self.ray is None:
            return None
        from tpcalc.transfer.remote import OnRay

        address = self.ray
        return lambda run: OnRay(address, self.make, self.gpus)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Helpers run while this lasts, and share the processors with this one."""
        if self.processes > 1:
            from tpcalc.transfer.run import share_processors

            threads = share_processors(self.processes)
            command = [sys.executable, "-m", "tpcalc", *self.arguments, "--helper"]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
            self.helpers = [subprocess.Popen(command, **quiet) for _ in range(self.processes - 1)]
        try:
            yield
        finally:
            for helper in self.helpers:
                helper.terminate()
            for helper in self.helpers:
                helper.wait()

    def wait(self) -> None:
        """Until others may have done something."""
        time.sleep(POLL)


def directory_for(
    given: Optional[str], storage: Optional[str], processes: int, check: Callable[[Path], None], plots: bool = False
) -> Optional[Path]:
    """The directory of results, absolute, which :func:`ledger_in` makes: not before there is something to write.

    ``check``: raises TpcalcError where it has files that are somebody else's.  Raises TpcalcError where it can't be
    made or written, or is needed.
    """
    if given is None:
        if processes > 1 and storage is None:
            raise TpcalcError("--processes needs -o DIR, where processes note their runs; give one")
        return None
    if not given:
        raise TpcalcError("-o names no directory; name one")
    folder = Path(os.path.abspath(given))  # a loop may change the directory
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise TpcalcError(f"cannot make the directory {given}: {there} is a file; name another one")
    if not os.access(there, os.W_OK):
        raise TpcalcError(f"cannot write into {there}; name another directory")
    check(folder)
    if plots:
        from tpcalc.report.plots import require_matplotlib

        require_matplotlib()
    return folder


def ledger_in(folder: Optional[Path], storage: Optional[str], work: Any) -> Any:
    """What the runs of ``work`` are noted in: a storage, a file of the directory, or the memory of this process."""
    from tpcalc.transfer.jobs import Memory

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise TpcalcError(f"cannot make the directory {folder}: {why}; name another one") from error
    if storage is None and folder is None:
        return Memory()
    from tpcalc.transfer.stored import stored

    return stored(storage or str(folder / LEDGER if folder else ""), work.asked, work.bounds)
