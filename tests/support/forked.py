"""Processes of their own, as forks of this one: a new Python would import torch first, which takes seconds.

For what must not stay in this process: custom ops, plugins, process groups.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SECONDS = 300


def forked(task: Callable[[], Any], cwd: Path, environment: Mapping[str, str] | None = None) -> Running:
    """Start ``task()`` in a fork that works in ``cwd``, where it finds modules, too."""
    files = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    sys.stdout.flush(), sys.stderr.flush()
    child = os.fork()
    if child:
        return Running(child, files)
    code = 1
    try:
        for number, file in zip((1, 2), files):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        signal.alarm(SECONDS)
        os.chdir(cwd)
        sys.path.insert(0, str(cwd))
        os.environ.update(environment or {})
        task()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
        if isinstance(stopped.code, str):
            print(stopped.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


class Running:
    """A fork and the files that it prints to."""

    def __init__(self, child: int, files: tuple[Any, Any]) -> None:
        self.child, self.files = child, files

    def wait(self) -> subprocess.CompletedProcess:
        _, status = os.waitpid(self.child, 0)
        told = []
        for file in self.files:
            file.seek(0)
            told.append(file.read().decode())
            file.close()
        return subprocess.CompletedProcess(self.child, os.waitstatus_to_exitcode(status), *told)


def ranks(worker: Callable[[], Any], count: int, cwd: Path) -> Sequence[subprocess.CompletedProcess]:
    """``worker()`` in ``count`` processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    each = [forked(worker, cwd, {**known, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]
    return [running.wait() for running in each]
