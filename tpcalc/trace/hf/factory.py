"""``hf:<model_type>``: a Hugging Face config as a family of models in its width or in several scales.  Nothing is
downloaded.

``hf:./config.json`` and ``hf:./folder`` take a config that was saved, with its own sizes as the base.

The width ``n`` is the config's hidden size.  Everything that follows it in the default config follows it
in proportion: feed-forward sizes, low ranks, projection sizes, later stages of a pyramid.  Vocabulary,
depth, image and state sizes stay what they are.  Head *counts* grow at a fixed head dimension
(grouped-query ratios are kept).  Where the default head dimension doesn't give whole head counts at the
widths asked for, a smaller one is chosen once for all widths and said in ``factory.assumptions``.  Other
scales set their fields (``scales.py``), which then follow nothing else.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

from tpcalc.algebra.scales import star
from tpcalc.errors import TargetError
from tpcalc.trace.hf.family import Family
from tpcalc.trace.hf.fields import hidden_size, own_name, settable, sub_configs
from tpcalc.trace.hf.formula import formula, place_text
from tpcalc.trace.hf.library import default_config, one_line, quiet, transformers, written_config
from tpcalc.trace.hf.models import build, example_inputs
from tpcalc.trace.hf.scales import Scaled, reference_of, scaled

__all__ = ["HuggingFaceFactory", "hf_factory"]


def hf_factory(
    model_type: str,
    *,
    overrides: Optional[Mapping[str, str]] = None,
    widths: Optional[Sequence[int]] = None,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
) -> "HuggingFaceFactory":
    """A factory ``width -> (model, inputs)`` of the main model of ``model_type``: ``"llama"``, ``"./config.json"``, or
    a folder that holds one.  With ``scales`` (name -> values, the base first) it takes these by name.

    ``overrides`` sets config fields: ``{"num_key_value_heads": "2"}`` the same at every width, ``"n/128"`` or
    ``"8/3*n"`` in proportion; other values are Python literals (or plain text), fields of a nested config are written
    ``text_config.num_hidden_layers``.  ``widths`` are those the sizes must fit, where no scale but depths is given;
    None: the first three that they do, from 128 on.  Raises TargetError.
    """
    config, written = _config(model_type)
    names = {"n", *(scales or {})}
    given = {key: _literal(value, names) for key, value in (overrides or {}).items()}
    make = partial(HuggingFaceFactory, model_type, config, given, written=written)
    values = {name: tuple(sorted(several)) for name, several in (scales or {}).items()}
    if scales:
        factory: HuggingFaceFactory = make(values)
        if values.keys() - set(factory.depths):
            return factory
    if widths is None:
        return _fitting(lambda widths: make({"width": widths, **values}))
    return make({"width": tuple(sorted(widths)), **values})


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
            factory = make(widths)
            for point in star(factory.scales):
                factory.config(**point.by_name)
        except TargetError:
            refused = True
            continue
        if refused:
            shown = ", ".join(map(str, widths))
            factory.assumptions.append(f"traced at {shown}, the first widths from 128 on that fit {factory.__name__}")
        return factory
    return make((128, 256, 512))


class HuggingFaceFactory:
    """Builds the model at any width, or wherever ``scales`` are, which it takes by name; ``depths`` are those of them
    that count layers.  ``assumptions`` says where it departs from the default config's ratios; ``base`` is the width of
    a config that was read from a file.
    """

    def __init__(
        self,
        model_type: str,
        config: Any,
        overrides: dict[str, Any],
        scales: dict[str, tuple[int, ...]],
        written: Optional[dict[str, Any]] = None,
    ) -> None:
        self.model_type = model_type
        self.scales = scales
        self.widths = scales.get("width")
        self.__name__ = f"hf:{model_type}"
        self.overrides = dict(overrides)
        self._config_class = type(config)
        reference = reference_of(config)
        if reference is None:
            raise TargetError(f"{self.__name__} has no hidden size to scale; write a factory that builds it")
        places = [point.by_name for point in star(scales)]
        given = Scaled(*_split_overrides(config, overrides, model_type))
        set_ = scaled(config, given, tuple(scales), places, self.__name__, written or {})
        self.n, self.depths = set_.n, set_.depths
        widths = tuple(sorted({self.n.at(place, "the width") for place in places}))
        self._family = Family(
            config, set_.own, set_.nested, widths, self.__name__, reference, written, deep=bool(self.depths)
        )
        self.base = None if written is None else hidden_size(config)
        self.assumptions: list[str] = [*set_.notes, *self._family.assumptions()]

    def growth(self) -> list[tuple[str, str, str]]:
        """Each field of the config that holds whole numbers, what it is there, and what it is at width ``n``."""
        return self._family.growth()

    def config(self, width: Optional[int] = None, **others: int) -> Any:
        """The config at a width, or where scales have values by name; TargetError where a size is no whole number
        there or the config refuses it.
        """
        place = others if width is None else {"width": width, **others}
        if place.keys() != self.scales.keys():
            raise TargetError(
                f"{self.__name__} was made for {', '.join(self.scales)} and is to be built at {', '.join(place)}; give "
                f"all of its scales, or make it with hf_factory(scales=...)"
            )
        values = {**place, "n": self.n.at(place, "the width")}
        fields = self._family.fields(values)
        try:
            with quiet():
                config = self._config_class(**fields)
        except TargetError:
            raise
        except Exception as error:
            raise TargetError(
                f"{self.__name__} refuses its config at {place_text(place)}: {one_line(error)}; set fields with --set "
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

    def __call__(self, width: Optional[int] = None, **others: int) -> tuple[Any, dict[str, Any]]:
        config = self.config(width, **others)
        place = others if width is None else {"width": width, **others}
        with quiet():
            model = build(config, self.__name__, place_text(place))
            model.train()
            return model, example_inputs(model, config)


def _literal(value: Any, names: Collection[str]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if (found := formula(value, names)) is not None:
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
