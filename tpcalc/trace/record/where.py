"""Where in the user's code an op comes from: the running module and the innermost user source line."""

from __future__ import annotations

import os
import sysconfig
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Iterator, Optional

import torch

__all__ = ["Modules", "SourceLines", "is_users"]

_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_RECORDER = tuple(os.path.join(_HERE, "trace", "record", name) for name in ("recorder.py", "run.py"))
"""Frames below which there is no user code of the model any more, only whoever asked for the trace."""
_COMPILED = "_compiled_call_impl"
"""What ``module.compile()`` leaves on a module, to be called in place of its own."""
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep


def is_users(filename: str) -> Optional[bool]:
    """Whether this is a file of the user's; None if the search ends there."""
    if filename in _RECORDER:
        return None
    if filename.startswith(("<", _TORCH, _HERE)):
        return False
    return not filename.startswith(_STDLIB) or "site-packages" in filename


class SourceLines:
    """Finds the innermost user line of the running call, remembering what it learnt of files and code objects."""

    def __init__(self) -> None:
        self._users: dict[str, Optional[bool]] = {}
        self._lines: dict[tuple[int, int], tuple[str, CodeType]] = {}
        """By the id of the code, which is kept, as equal code of another file is another place."""

    def current(self, frame: Optional[FrameType]) -> str:
        """``"gpt.py:41"``, or an empty string."""
        users = self._users
        while frame is not None:
            code = frame.f_code
            filename = code.co_filename
            if filename not in users:
                users[filename] = is_users(filename)
            users_own = users[filename]
            if users_own is None:
                return ""
            if users_own:
                key = (id(code), frame.f_lasti)
                known = self._lines.get(key)
                if known is None:
                    known = self._lines[key] = f"{os.path.basename(filename)}:{frame.f_lineno}", code
                return known[0]
            frame = frame.f_back
        return ""


class Modules:
    """The stack of running modules, by qualified name."""

    def __init__(self, model: torch.nn.Module, stack: list[str]) -> None:
        self.stack = stack
        self.failed: Optional[str] = None
        """Innermost module that raised."""
        self._names: dict[int, str] = {}
        self._kept = list(model.modules())
        """A module that the forward pass replaces must not leave its id to its successor."""
        for name, module in model.named_modules():
            self._names.setdefault(id(module), name)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow every module call.  What ``Module.__call__`` calls is patched, so that nothing is left on the user's
        model: a new ``__call__`` would be told to every subclass that is loaded, which takes longer than many a pass.
        """
        names, stack = self._names, self.stack
        original = torch.nn.Module._call_impl

        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            stack.append(names.get(id(module), stack[-1]))
            try:
                return original(module, *args, **kwargs)
            except BaseException:
                if self.failed is None:
                    self.failed = stack[-1]
                raise
            finally:
                stack.pop()

        compiled = {id(module): vars(module).pop(_COMPILED) for module in self._kept if _COMPILED in vars(module)}
        torch.nn.Module._call_impl = call  # type: ignore[assignment]
        try:
            yield
        finally:
            torch.nn.Module._call_impl = original  # type: ignore[method-assign]
            for module in self._kept:
                if id(module) in compiled:
                    vars(module)[_COMPILED] = compiled[id(module)]
