"""How far long work is: told by what does it, and shown where somebody looks on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Optional, TextIO, TypeVar

__all__ = ["shown", "steps", "tell"]

#: Seconds after which work counts as long.
PATIENCE = 2.0

Item = TypeVar("Item")
_BAR: ContextVar[Optional["_Bar"]] = ContextVar("bar", default=None)


def tell(what: str, done: int = 0, of: Optional[int] = None) -> None:
    """Say what is done now, and how much of it; ``of`` None: nobody knows of how much."""
    bar = _BAR.get()
    if bar is not None:
        bar.tell(what, done, of)


def steps(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items one by one, telling how many are done."""
    for done, item in enumerate(items):
        tell(what, done, len(items))
        yield item


@contextmanager
def shown(stream: Optional[TextIO] = None) -> Iterator[None]:
    """While this lasts, what is told is shown on ``stream`` (None: stderr), if that is a terminal, by a bar that comes
    after two seconds and leaves nothing behind.  Inside another one it does nothing.
    """
    stream = stream or sys.stderr
    if _BAR.get() is not None or stream is None or not stream.isatty():
        yield
        return
    bar = _Bar(stream)
    token = _BAR.set(bar)
    try:
        yield
    finally:
        _BAR.reset(token)
        bar.close()


class _Bar:
    """Drawn by a thread of its own, from the time when patience ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._told: tuple[str, int, Optional[int]] = ("importing", 0, None)
        self._progress: Any = None
        self._closed = False
        self._timer = threading.Timer(PATIENCE, self._open)
        self._timer.daemon = True
        self._timer.start()

    def tell(self, what: str, done: int, of: Optional[int]) -> None:
        with self._lock:
            self._told = what, done, of
            self._draw()

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._progress is not None:
                self._progress.stop()

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(file=self._stream)
        # what the work prints goes where it was to go
        quiet: Any = {"redirect_stdout": False, "redirect_stderr": False}
        progress = Progress(*parts, console=console, transient=True, **quiet)
        progress.add_task("", total=None)
        with self._lock:
            if not self._closed:
                self._progress = progress
                self._draw()
                progress.start()

    def _draw(self) -> None:
        if self._progress is not None:
            what, done, of = self._told
            self._progress.update(self._progress.task_ids[0], description=what, completed=done, total=of)
