"""The transformers package: imported when asked for, and kept quiet."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tpcalc.errors import TargetError

__all__ = ["default_config", "one_line", "quiet", "transformers"]


def transformers() -> Any:
    """The package, once it has been told to be quiet."""
    ours = "transformers" not in sys.modules
    try:
        import transformers as package
    except ImportError as error:
        raise TargetError(
            "hf: targets need the transformers package; install it with pip install tpcalc[hf]"
        ) from error
    if ours:
        package.logging.set_verbosity_error()  # nobody else listens to its advice about faster kernels
    _hide_broken_torchvision()
    return package


def _hide_broken_torchvision() -> None:
    """Tell transformers that a torchvision that can't be imported is not there: it would fail on it otherwise."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except Exception:
        from transformers.utils import import_utils

        utils: Any = import_utils
        checks = [getattr(utils, f"is_torchvision{version}_available", bool) for version in ("", "_v2")]
        for check in checks:
            getattr(check, "cache_clear", bool)()
        if hasattr(utils, "_torchvision_available"):
            utils._torchvision_available = False
        original = utils._is_package_available
        utils._is_package_available = lambda name, *args, **kwargs: (
            (False, None) if name == "torchvision" else original(name, *args, **kwargs)
        )
        try:
            for check in checks:
                check()  # remembers the answer
        finally:
            utils._is_package_available = original


@contextmanager
def quiet() -> Iterator[None]:
    """Without the advice that transformers logs while it builds odd-sized models."""
    logging = transformers().logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def default_config(model_type: str) -> Any:
    """The config of ``model_type`` as it is without arguments.  Raises TargetError."""
    mapping = transformers().CONFIG_MAPPING
    if model_type not in mapping:
        near = difflib.get_close_matches(model_type, list(mapping.keys()), n=3)
        names = ", ".join(f"hf:{name}" for name in near)
        hint = f"did you mean {names}?" if near else "see transformers.CONFIG_MAPPING"
        raise TargetError(f"transformers knows no model type {model_type!r}; {hint}")
    try:
        with quiet():
            return mapping[model_type]()
    except Exception as error:
        raise TargetError(
            f"the config of hf:{model_type} has no defaults ({one_line(error)}); write a factory that builds it"
        ) from error


def one_line(error: BaseException) -> str:
    """An error of transformers in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}"
