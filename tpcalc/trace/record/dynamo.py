"""Torch's compiler, left out: what was compiled runs as written, and what only asks to be left alone imports nothing.

Importing Dynamo takes half as long again as ``import torch``.  An optimizer that is made or stepped imports it to say
that it is not to be compiled, and so do kernels that torch wrote in Python.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


class _StandIn(ModuleType):
    """In Dynamo's place, for torch's own code that wants to be left alone.  Whatever else is asked of it, and all that
    is asked when it is held no more, is asked of the real one, which takes its place."""

    def __init__(self, held: ExitStack) -> None:
        super().__init__(NAME)
        self._held, self._left_alone = held, list[Callable]()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # whoever looks through all modules (inspect) wants nothing
            raise AttributeError(name)
        return getattr(self._real(), name)

    def disable(self, fn: Any = None, *args: Any, **kwargs: Any) -> Any:
        if self._stands and str(getattr(fn, "__module__", None)).startswith("torch."):
            self._left_alone.append(fn)
            return fn
        return self._real().disable(fn, *args, **kwargs)

    def graph_break(self, *args: Any, **kwargs: Any) -> None:
        if not self._stands:
            self._real().graph_break(*args, **kwargs)

    @property
    def _stands(self) -> bool:
        return sys.modules.get(NAME) is self

    def _real(self) -> Any:
        if self._stands:
            del sys.modules[NAME]
            importlib.import_module(NAME)
            self._held.enter_context(as_written())
        return importlib.import_module(NAME)

    def _leave(self) -> None:
        if self._stands:
            del sys.modules[NAME]
        for fn in self._left_alone:  # torch keeps the answer; that of the real one may be another
            vars(fn).pop("__dynamo_disable", None)


@contextmanager
def without_dynamo() -> Iterator[None]:
    """While it is held, torch's optimizers and kernels do not import Dynamo, unless it is there already."""
    if NAME in sys.modules:
        yield
        return
    with ExitStack() as held:
        stand_in = sys.modules[NAME] = _StandIn(held)
        try:
            yield
        finally:
            stand_in._leave()


def as_written() -> AbstractContextManager:
    """What was compiled already, as when its file was imported, runs as written.

    Where nothing was, the compiler is not imported for this: that takes longer than most traces.
    """
    there = sys.modules.get(NAME)
    if there is not None and not isinstance(there, _StandIn) and hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


__all__ = ["as_written", "without_dynamo"]
