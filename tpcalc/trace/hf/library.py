"""The transformers package: imported when asked for, and kept quiet."""

from __future__ import annotations

import difflib
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpcalc.errors import TargetError
from tpcalc.trace.hf.fields import own_name, sub_configs

__all__ = ["default_config", "one_line", "quiet", "transformers", "written_config"]

#: Fields of a file that say how a model was stored or is run.
_STORED = frozenset(
    "model_type architectures transformers_version torch_dtype dtype _name_or_path quantization_config auto_map "
    "use_cache output_attentions output_hidden_states return_dict".split()
)


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


def written_config(place: str) -> tuple[Any, dict[str, Any]]:
    """The config in a file, or in ``config.json`` of a folder, and what the file says under the config's own names.

    How it was stored, quantised or served says nothing of how it trains, and is left out.  Raises TargetError.
    """
    path = Path(place).expanduser()
    path = path / "config.json" if path.is_dir() else path
    remedy = "give a folder or a file that a Hugging Face model was saved to, such as hf:./config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"{path} can't be read ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise TargetError(f"{path} is no JSON ({error}); {remedy}") from None
    if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
        raise TargetError(f"{path} has no model_type; {remedy}")
    kind = type(default_config(data["model_type"]))
    try:
        with quiet():
            config = kind.from_dict(dict(data))
    except Exception as error:
        raise TargetError(f"transformers refuses {path} ({one_line(error)}); {remedy}") from error
    return config, _kept(config, data)


def _kept(config: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What is said of the model itself; of nested configs likewise."""
    subs = sub_configs(config)
    kept = {own_name(config, key): value for key, value in data.items() if key not in _STORED and key not in subs}
    return {**kept, **{key: _kept(sub, data[key]) for key, sub in subs.items() if isinstance(data.get(key), dict)}}


def one_line(error: BaseException) -> str:
    """An error of transformers in one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}"
