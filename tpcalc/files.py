"""Files: written whole or not at all; functions that are the same lines of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from tpcalc.errors import TpcalcError


def same_place(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are the same lines of the same file, imported twice (a plugin that is also the target)."""
    a, b = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return a is not None and b is not None and (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


def check_writable(path: Union[str, Path], *read: Optional[str]) -> None:
    """Raise before the work starts, rather than after it, where ``path`` cannot be written, or is a file of ``read``:
    targets (``file.py:callable``, ``hf:config.json``) and files, None for none."""
    given, path = str(path), Path(path)
    if not given:
        raise TpcalcError("cannot write a file without a name; name one")
    if path.is_dir() or given.endswith(os.sep):
        raise TpcalcError(f"cannot write {given or path}: it is a directory; name a file")
    real = path.resolve()
    if not real.parent.is_dir():
        if real.parent.exists():
            raise TpcalcError(f"cannot write {path}: {path.parent} is no directory; choose another")
        raise TpcalcError(f"cannot write {path}: the directory {path.parent} does not exist; create it first")
    if not os.access(real if real.exists() and not real.is_file() else real.parent, os.W_OK):  # a file is replaced
        raise TpcalcError(f"cannot write {path}: no permission; choose another file")
    for each in filter(None, read):
        if any(real == Path(own).resolve() for own in (each, each.rpartition(":")[0], each.removeprefix("hf:"))):
            raise TpcalcError(f"cannot write {path}: it is read, for {each}, and would be lost; choose another file")


def check_own(folder: Union[str, Path], marks: Mapping[str, str], others: Sequence[str] = ()) -> None:
    """Raise TpcalcError where files of ``folder`` that are about to be written are somebody else's.

    ``marks``: name -> what stands in a file of ours; ``others``: names, the first that of a file without words, which
    is ours where one of the rest of them is there.
    """
    folder = Path(folder)
    for name, mark in marks.items():
        if os.path.lexists(folder / name) and mark.encode() not in _content(folder / name):
            _refuse(folder, name)
    if others and os.path.lexists(folder / others[0]) and not any((folder / name).exists() for name in others[1:]):
        _refuse(folder, others[0])


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _refuse(folder: Path, name: str) -> None:
    raise TpcalcError(
        f"{folder} has a {name} that is not of this command, and would be written over; give another directory"
    )


def write_atomic(path: Union[str, Path], content: Union[str, bytes]) -> None:
    """Write text or bytes to a neighbouring temporary file and rename it to ``path``; devices are written directly."""
    check_writable(path)
    content = content.encode() if isinstance(content, str) else content
    real = Path(path).resolve()
    try:
        if real.exists() and not real.is_file():
            real.write_bytes(content)
        else:
            _replace(real, content)
    except OSError as error:
        raise TpcalcError(f"cannot write {path}: {error.strerror or error}; choose another file") from error


def _replace(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
