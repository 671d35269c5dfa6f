"""What is quoted of the user's own code where it fails: the error, the line, how it ended the process."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Optional

from tpcalc.trace.arguments import exit_text

__all__ = ["MOST_QUOTED", "error_text", "exit_place", "users_line"]

#: Letters of somebody else's error message.
MOST_QUOTED = 300

_TPCALC = Path(__file__).resolve().parents[1]
_STDLIB = Path(sysconfig.get_paths()["stdlib"]).resolve()
#: Where frames of C++ begin that torch appends to a message.
_FRAMES = " Exception raised from "


def error_text(error: BaseException, path: Optional[Path] = None) -> str:
    """``ValueError: 65 is not divisible by 4 (gpt.py:41)``: the innermost line of the user's own code."""
    try:
        message = " ".join(str(error).split()).partition(_FRAMES)[0]
    except Exception:  # of a class whose own __str__ fails
        message = ""
    message = message.rstrip(".")
    message = message if len(message) <= MOST_QUOTED else message[:MOST_QUOTED] + " ..."
    text = type(error).__name__ + (f": {message}" if message else "")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_user_file(frame.filename)]
    if path is not None:
        own = [frame for frame in own if Path(frame.filename) == path] or own
    return f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else text


def exit_place(error: SystemExit) -> str:
    """``called sys.exit(3) (train.py:41)``, ``reads the command line (argparse: ...) (train.py:8)``."""
    place = re.search(r" \([^()]*:\d+\)$", error_text(error))
    return exit_text(error) + (place.group() if place else "")


def users_line(frame: Optional[FrameType]) -> str:
    """``"train.py:41"``: the innermost line of the user's own code that is running, or an empty string."""
    while frame is not None:
        if _is_user_file(frame.f_code.co_filename):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_user_file(filename: str) -> bool:
    """A line of neither an installed library, nor the interpreter, nor tpcalc itself."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    return "site-packages" not in path.parts and not {_STDLIB, _TPCALC} & set(path.parents)
