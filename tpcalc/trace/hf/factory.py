"""``hf:<model_type>``: a Hugging Face config as a family of models in one width.  Nothing is downloaded.

``hf:./config.json`` and ``hf:./folder`` take a config that was saved, with its own sizes as the base.

The width ``n`` is the config's hidden size.  Everything that follows it in the default config follows it
in proportion: feed-forward sizes, low ranks, projection sizes, later stages of a pyramid.  Vocabulary,
depth, image and state sizes stay what they are.  With ``scale="heads"`` head *counts* grow at a fixed
head dimension (grouped-query ratios are kept), with ``scale="head_dim"`` the head dimension grows at
fixed counts.  Where the default head dimension doesn't give whole head counts at the widths asked for,
a smaller one is chosen once for all widths and said in ``factory.assumptions``.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.family import Family, hidden_size
from tpcalc.trace.hf.fields import own_name, settable, sub_configs
from tpcalc.trace.hf.formula import formula
from tpcalc.trace.hf.library import default_config, one_line, quiet, transformers, written_config
from tpcalc.trace.hf.models import build, example_inputs

__all__ = ["HuggingFaceFactory", "hf_factory"]


def hf_factory(
    model_type: str,
    *,
    overrides: Optional[Mapping[str, str]] = None,
    scale: str = "heads",
    widths: Optional[Sequence[int]] = None,
) -> "HuggingFaceFactory":
    """A factory ``width -> (model, inputs)`` of the main model of ``model_type``: ``"llama"``, ``"./config.json"``, or
    a folder that holds one.

    ``overrides`` sets config fields: ``{"num_key_value_heads": "2"}`` the same at every width, ``"n/128"`` or
    ``"8/3*n"`` in proportion; other values are Python literals (or plain text), fields of a nested config are written
    ``text_config.num_hidden_layers``.  ``widths`` are those the sizes must fit; None: the first three that they do,
    from 128 on.  Raises TargetError.
    """
    if scale not in ("heads", "head_dim"):
        raise TargetError(f"scale {scale!r} is unknown; write 'heads' (head count grows) or 'head_dim'")
    config, written = _config(model_type)
    given = {key: _literal(value) for key, value in (overrides or {}).items()}
    make = partial(HuggingFaceFactory, model_type, config, given, scale, written=written)
    return _fitting(make) if widths is None else make(widths=tuple(sorted(widths)))


def _config(place: str) -> tuple[Any, Optional[dict[str, Any]]]:
    """The config of a model type or of a file, and what the file says."""
    if not place.strip():
        raise TargetError("hf: names no model; give a model type such as hf:llama, or a saved config: hf:./config.json")
    is_path = place.endswith(".json") or place.startswith((".", "~", "/"))
    # a model type is one, also beside a folder of that name
    if is_path or (Path(place).is_dir() and place not in transformers().CONFIG_MAPPING):
        return written_config(place)
    if "/" in place:
        raise TargetError(
            f"hf:{place} is the name of a model on a hub, and nothing is downloaded here; save its config.json and "
            f"give hf:./config.json, or a model type such as hf:llama"
        )
    return default_config(place), None


def _fitting(make: Callable[..., "HuggingFaceFactory"]) -> "HuggingFaceFactory":
    """The factory at the first widths at which its sizes are whole numbers, if there are any."""
    refused = False
    for base in sorted(range(32, 1025, 32), key=lambda base: (base < 128, base)):
        widths = (base, 2 * base, 4 * base)
        try:
            factory = make(widths=widths)
            for width in widths:
                factory.config(width)
        except TargetError:
            refused = True
            continue
        if refused:
            shown = ", ".join(map(str, widths))
            factory.assumptions.append(f"traced at {shown}, the first widths from 128 on that fit {factory.__name__}")
        return factory
    return make(widths=(128, 256, 512))


class HuggingFaceFactory:
    """Builds the model at any width.  ``assumptions`` says where it departs from the default config's ratios; ``base``
    is the width of a config that was read from a file.
    """

    def __init__(
        self,
        model_type: str,
        config: Any,
        overrides: dict[str, Any],
        scale: str,
        widths: tuple[int, ...],
        written: Optional[dict[str, Any]] = None,
    ) -> None:
        self.model_type = model_type
        self.scale = scale
        self.widths = widths
        self.assumptions: list[str] = []
        self.__name__ = f"hf:{model_type}"
        self._config_class = type(config)
        own, nested = _split_overrides(config, overrides, model_type)
        self._family = Family(config, own, nested, scale, widths, self.__name__, written=written)
        self.base = None if written is None else hidden_size(config)
        self.assumptions.extend(self._family.assumptions())

    def growth(self) -> list[tuple[str, str, str]]:
        """Each field of the config that holds whole numbers, what it is there, and what it is at width ``n``."""
        return self._family.growth()

    def config(self, width: int) -> Any:
        """The config at ``width``; TargetError where a size is no whole number there or the config refuses it."""
        fields = self._family.fields(width)
        try:
            with quiet():
                config = self._config_class(**fields)
        except TargetError:
            raise
        except Exception as error:
            raise TargetError(
                f"{self.__name__} refuses its config at width {width}: {one_line(error)}; set fields with --set "
                f"name=value"
            ) from error
        # transformers iterates over it where a type has several models
        config.architectures = config.architectures or []
        for each in (config, *sub_configs(config).values()):
            if getattr(each, "use_cache", None):
                each.use_cache = False
            if hasattr(each, "_experts_implementation"):
                each._experts_implementation = "batched_mm"
        return config

    def __call__(self, width: int) -> tuple[Any, dict[str, Any]]:
        config = self.config(width)
        with quiet():
            model = build(config, self.__name__, width)
            model.train()
            return model, example_inputs(model, config)


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if (found := formula(value)) is not None:
            return found
        return {"true": True, "false": False, "none": None, "null": None}.get(value.lower(), value)


def _split_overrides(
    config: Any, overrides: dict[str, Any], model_type: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Overrides of the config itself under its own field names, and those of each nested config."""
    subs = sub_configs(config)
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {name: {} for name in subs}
    for key, value in overrides.items():
        owner, _, field = key.rpartition(".")
        if owner and owner not in subs:
            raise TargetError(f"hf:{model_type} has no nested config {owner!r}; it has {', '.join(subs) or 'none'}")
        target = subs[owner] if owner else config
        names = settable(target)
        field = own_name(target, field)
        if field not in names:
            known = [name for name in names if not name.startswith("_")]
            known += [f"{sub}.{name}" for sub in subs if not owner for name in settable(subs[sub])]
            near = difflib.get_close_matches(field, known, n=3, cutoff=0.5)
            near += [name for name in known if name.endswith(f".{field}") and name not in near]
            hint = f"did you mean {', '.join(near)}?" if near else f"see {type(target).__name__}"
            raise TargetError(f"the config of hf:{model_type} has no field {key!r}; {hint}")
        (nested[owner] if owner else own)[field] = value
    return own, nested
