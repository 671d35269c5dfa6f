"""``hf:<model_type>``: a Hugging Face config as a family of models in one width.  Nothing is downloaded.

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
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.family import Family
from tpcalc.trace.hf.fields import own_name, settable, sub_configs
from tpcalc.trace.hf.library import default_config, one_line, quiet
from tpcalc.trace.hf.models import build, example_inputs

__all__ = ["HuggingFaceFactory", "hf_factory"]


def hf_factory(
    model_type: str,
    *,
    overrides: Optional[Mapping[str, str]] = None,
    scale: str = "heads",
    widths: Sequence[int] = (128, 256, 512),
) -> "HuggingFaceFactory":
    """A factory ``width -> (model, inputs)`` of the main model of ``model_type`` (``"llama"``).

    ``overrides`` sets config fields, the same at every width: ``{"num_key_value_heads": "2"}``; values are
    Python literals (or plain text), fields of a nested config are written ``text_config.num_hidden_layers``.
    ``widths`` are those the sizes must fit.  Raises TargetError.
    """
    if scale not in ("heads", "head_dim"):
        raise TargetError(f"scale {scale!r} is unknown; write 'heads' (head count grows) or 'head_dim'")
    config = default_config(model_type)
    given = {key: _literal(value) for key, value in (overrides or {}).items()}
    return HuggingFaceFactory(model_type, config, given, scale, tuple(sorted(widths)))


class HuggingFaceFactory:
    """Builds the model at any width.  ``assumptions`` says where it departs from the default config's ratios."""

    def __init__(
        self, model_type: str, config: Any, overrides: dict[str, Any], scale: str, widths: tuple[int, ...]
    ) -> None:
        self.model_type = model_type
        self.scale = scale
        self.widths = widths
        self.assumptions: list[str] = []
        self.__name__ = f"hf:{model_type}"
        self._config_class = type(config)
        own, nested = _split_overrides(config, overrides, model_type)
        self._family = Family(config, own, nested, scale, widths, self.__name__)
        self.assumptions.extend(self._family.assumptions())

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
