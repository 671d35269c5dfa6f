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
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Optional

from tpcalc.errors import TargetError

__all__ = ["HuggingFaceFactory", "hf_factory"]

#: The field that is the width, in the order looked for (after the config's own ``hidden_size`` alias).
HIDDEN = ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "emb_dim", "hidden_sizes", "embed_dims")

#: Fields in proportion to the width.
PROPORTIONAL = frozenset(
    "intermediate_size ffn_dim d_ff n_inner dff hidden_dim dim_ff ffn_hidden_size feed_forward_size mlp_hidden_size "
    "encoder_ffn_dim decoder_ffn_dim intermediate_size_mlp dense_intermediate_size moe_intermediate_size "
    "shared_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "moe_shared_expert_intermediate_size expert_ffn_hidden_size embedding_size input_embedding_size "
    "output_embedding_size word_embed_proj_dim projection_dim pooler_output_size pooler_hidden_size q_lora_rank "
    "kv_lora_rank o_lora_rank time_step_rank mamba_dt_rank attention_hidden_size lru_width d_inner mamba_d_ssm "
    "prediction_head_size intra_bottleneck_size true_hidden_size backbone_hidden_size encoder_hidden_size "
    "decoder_hidden_size cross_attention_hidden_size router_hidden_size hidden_sizes encoder_hidden_sizes embed_dims "
    "decoder_hidden_sizes".split()
)

#: Head counts; the first that a config has is its main one.
HEAD_COUNTS = (
    "num_attention_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads num_key_value_heads num_kv_heads num_query_groups "
    "swa_num_attention_heads swa_num_key_value_heads linear_num_key_heads linear_num_value_heads linear_num_heads "
    "mamba_n_heads mamba_num_heads index_n_heads"
).split()

#: Head dimensions given beside the hidden size; the first that a config has is its main one.
HEAD_DIMS = (
    "head_dim d_kv attention_head_dim attention_head_size kv_channels d_head qk_head_dim qk_nope_head_dim "
    "qk_rope_head_dim v_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_head mamba_head_dim "
    "mamba_headdim swa_head_dim index_head_dim rotary_dim"
).split()

#: Fields that equal the head dimension where they follow it.
HEAD_DIM_FOLLOWERS = ("query_pre_attn_scalar",)

SMALLEST_HEAD_DIM = 8

#: A count that grows must never be 1: an axis of length 1 is squeezed away, which changes the graph.
FEWEST_HEADS = 2


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
    config = _default_config(model_type)
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
        self._family = _Family(config, own, nested, scale, widths, self.__name__)
        self.assumptions.extend(self._family.assumptions())

    def config(self, width: int) -> Any:
        """The config at ``width``; TargetError where a size is no whole number there or the config refuses it."""
        fields = self._family.fields(width)
        try:
            with _quiet():
                config = self._config_class(**fields)
        except TargetError:
            raise
        except Exception as error:
            raise TargetError(
                f"{self.__name__} refuses its config at width {width}: {_one_line(error)}; set fields with --set "
                f"name=value"
            ) from error
        config.architectures = (
            config.architectures or []
        )  # transformers iterates over it where a type has several models
        for each in (config, *_sub_configs(config).values()):
            if getattr(each, "use_cache", None):
                each.use_cache = False
            if hasattr(each, "_experts_implementation"):
                each._experts_implementation = "batched_mm"
        return config

    def __call__(self, width: int) -> tuple[Any, dict[str, Any]]:
        config = self.config(width)
        with _quiet():
            model = _build(config, self.__name__, width)
            model.train()
            return model, _inputs(model, config)


# -- configs ---------------------------------------------------------------------------------------


def _transformers() -> Any:
    ours = "transformers" not in sys.modules
    try:
        import transformers
    except ImportError as error:
        raise TargetError(
            "hf: targets need the transformers package; install it with pip install tpcalc[hf]"
        ) from error
    if ours:
        transformers.logging.set_verbosity_error()  # nobody else listens to its advice about faster kernels
    _hide_broken_torchvision()
    return transformers


def _hide_broken_torchvision() -> None:
    """Tell transformers that a torchvision that can't be imported is not there: it would fail on it otherwise."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except Exception:
        from transformers.utils import import_utils

        for name in ("is_torchvision_available", "is_torchvision_v2_available"):
            check = getattr(import_utils, name, None)
            if hasattr(check, "cache_clear"):
                check.cache_clear()
        if hasattr(import_utils, "_torchvision_available"):
            import_utils._torchvision_available = False
        original = import_utils._is_package_available
        import_utils._is_package_available = lambda name, *args, **kwargs: (
            (False, None) if name == "torchvision" else original(name, *args, **kwargs)
        )
        try:
            import_utils.is_torchvision_available()  # remembers the answer
            getattr(import_utils, "is_torchvision_v2_available", bool)()
        finally:
            import_utils._is_package_available = original


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that transformers logs while it builds odd-sized models."""
    logging = _transformers().logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _default_config(model_type: str) -> Any:
    mapping = _transformers().CONFIG_MAPPING
    if model_type not in mapping:
        near = difflib.get_close_matches(model_type, list(mapping.keys()), n=3)
        hint = (
            f"did you mean {', '.join(f'hf:{name}' for name in near)}?" if near else "see transformers.CONFIG_MAPPING"
        )
        raise TargetError(f"transformers knows no model type {model_type!r}; {hint}")
    try:
        with _quiet():
            return mapping[model_type]()
    except Exception as error:
        raise TargetError(
            f"the config of hf:{model_type} has no defaults ({_one_line(error)}); write a factory that builds it"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}"


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None, "null": None}.get(value.lower(), value)


def _settable(config: Any) -> dict[str, Any]:
    """Fields the config's constructor accepts, with their defaults."""
    fields = getattr(type(config), "__dataclass_fields__", None)
    if fields:
        return {name: field.default for name, field in fields.items()}
    parameters = inspect.signature(type(config).__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD}


def _sub_configs(config: Any) -> dict[str, Any]:
    found = {}
    for name in sorted(getattr(config, "sub_configs", None) or {}):
        sub = getattr(config, name, None)
        if sub is not None and hasattr(sub, "to_dict"):
            found[name] = sub
    return found


def _split_overrides(
    config: Any, overrides: dict[str, Any], model_type: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Overrides of the config itself under its own field names, and those of each nested config."""
    subs = _sub_configs(config)
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {name: {} for name in subs}
    for key, value in overrides.items():
        owner, _, field = key.rpartition(".")
        if owner and owner not in subs:
            raise TargetError(f"hf:{model_type} has no nested config {owner!r}; it has {', '.join(subs) or 'none'}")
        target = subs[owner] if owner else config
        names = _settable(target)
        field = (getattr(target, "attribute_map", None) or {}).get(field, field)
        if field not in names:
            known = [name for name in names if not name.startswith("_")]
            known += [f"{sub}.{name}" for sub in subs if not owner for name in _settable(subs[sub])]
            near = difflib.get_close_matches(field, known, n=3, cutoff=0.5)
            near += [name for name in known if name.endswith(f".{field}") and name not in near]
            hint = f"did you mean {', '.join(near)}?" if near else f"see {type(target).__name__}"
            raise TargetError(f"the config of hf:{model_type} has no field {key!r}; {hint}")
        (nested[owner] if owner else own)[field] = value
    return own, nested


# -- the family of configs -------------------------------------------------------------------------


class _Family:
    """How the fields of one config, and of those nested in it, follow the width of the outermost one.

    ``unit`` is this config's own hidden size over the width, as in the default config.
    """

    def __init__(
        self,
        config: Any,
        own: dict[str, Any],
        nested: dict[str, dict[str, Any]],
        scale: str,
        widths: tuple[int, ...],
        name: str,
        reference: Optional[int] = None,
    ) -> None:
        self.name = name
        self.own = own
        self._notes: list[str] = []
        subs = _sub_configs(config)
        hidden = _hidden_field(config)
        size = None if hidden is None else _first(getattr(config, hidden))
        if hidden in own:
            raise TargetError(f"{hidden} is the width of {name} and can't be set; give it with --widths")
        nested_in = reference is not None
        if reference is None:
            reference = size or next((s for s in map(_hidden_size, _by_importance(subs)) if s), None)
        if reference is None:
            raise TargetError(f"{name} has no hidden size to scale; write a factory that builds it")
        self.ratios: dict[str, Any] = {}
        self.fixed: dict[str, Any] = {}
        unit = Fraction(1) if size is None else Fraction(size, reference)
        if nested_in and size is not None:
            unit = self._whole_unit(unit, widths)
        self._scale_sizes(config, hidden, Fraction(size or reference) / unit, widths)
        if size is not None:
            self._scale_heads(config, size, unit, scale, widths)
        self.subs = {
            key: (
                sub,
                _Family(
                    sub, nested[key], {k: {} for k in _sub_configs(sub)}, scale, widths, f"{name} {key}", reference
                ),
            )
            for key, sub in subs.items()
        }

    def assumptions(self) -> list[str]:
        return self._notes + [note for _, family in self.subs.values() for note in family.assumptions()]

    def fields(self, width: int) -> dict[str, Any]:
        """Constructor arguments at ``width``."""
        fields = dict(self.fixed)
        for field, ratio in self.ratios.items():
            fields[field] = self._at(field, ratio, width)
        fields.update(self.own)
        for key, (sub, family) in self.subs.items():
            fields[key] = {**_non_defaults(sub), **family.fields(width)}
        return fields

    def _at(self, field: str, ratio: Any, width: int) -> Any:
        if isinstance(ratio, list):
            return [self._at(field, item, width) for item in ratio]
        value = ratio * width
        if value.denominator != 1 or value < 1:
            raise TargetError(
                f"{field} of {self.name} would be {float(value):g} at width {width}; choose multiples of "
                f"{ratio.denominator}, or set it: --set {field}=..."
            )
        return int(value)

    def _scale_sizes(self, config: Any, hidden: Optional[str], reference: Fraction, widths: tuple[int, ...]) -> None:
        names = _settable(config)
        for field in names:
            value = getattr(config, field, None)
            if field in self.own or not (field == hidden or field in PROPORTIONAL) or names[field] in (None, "auto"):
                continue
            if not _whole(value):
                continue
            exact = _map(value, lambda item: item / reference)
            ratio = _map(exact, lambda item: _friendly(item, widths))
            if field == hidden and ratio != exact:
                ratio = exact  # the width itself is never rounded: the error at that width says what fits
            self.ratios[field] = ratio
            if ratio != exact:
                self._notes.append(
                    f"{field} of {self.name} is {_map(ratio, str)}*n (the config's own ratio is "
                    f"{_map(exact, lambda item: f'{float(item):.4g}')}, no whole number at these widths)"
                )

    def _whole_unit(self, unit: Fraction, widths: tuple[int, ...]) -> Fraction:
        """The hidden size of a nested config over the width: the default's, or a simple ratio near it that is whole."""
        if all((unit * width).denominator == 1 for width in widths):
            return unit
        for step in (1, 2, 4, 8, 16, 32, 64):
            near = Fraction(max(round(unit * step), 1), step)
            if abs(near - unit) <= unit / 6 and all((near * width).denominator == 1 for width in widths):
                self._notes.append(
                    f"the hidden size of {self.name} is {near}*n (the default's ratio is {float(unit):.4g}, no whole "
                    f"number at these widths)"
                )
                return near
        return unit

    def _scale_heads(self, config: Any, size: int, unit: Fraction, scale: str, widths: tuple[int, ...]) -> None:
        heads = _Heads(config, size, self.own)
        if heads.main is None or not _whole(getattr(config, heads.main)):
            return
        choice = heads.choose(scale, [unit * width for width in widths])
        if choice is None:
            counts = ", ".join(f"{field}={self.own.get(field, value)}" for field, value in heads.counts.items())
            candidates = range(-(-min(widths) // 32) * 32, 8193, 32)
            step = next((w for w in candidates if heads.choose(scale, [unit * w * k for k in (1, 2, 4)])), None)
            fitting = f"use widths such as {step},{2 * step},{4 * step}" if step else "use other widths"
            remedy = f"{fitting}, or fix a count: --set {list(heads.counts)[-1]}=2"
            raise TargetError(
                f"the heads of {self.name} ({counts}, head dimension {heads.dimension}) don't fit the widths "
                f"{', '.join(map(str, widths))}; {remedy}"
            )
        grown, kept = (choice.dims, choice.counts) if choice.dims_grow else (choice.counts, choice.dims)
        for field, value in grown.items():
            self.ratios[field] = _map(value, lambda item: item * unit)
        self.fixed.update({field: _map(value, int) for field, value in kept.items()})
        if choice.note:
            at = ", ".join(map(str, widths))
            self._notes.append(f"{choice.note} in {self.name}, for two or more whole heads at widths {at}")


class _Choice:
    """Head counts and head dimensions; those that grow are given per unit of hidden size."""

    def __init__(self, counts: dict[str, Any], dims: dict[str, Any], note: str = "", dims_grow: bool = False) -> None:
        self.counts, self.dims, self.note, self.dims_grow = counts, dims, note, dims_grow


class _Heads:
    """The head counts and dimensions of one config, and how they can follow its hidden size.

    Fields in ``own`` were set by the user: they are left alone, and the others must fit them.
    """

    def __init__(self, config: Any, size: int, own: dict[str, Any]) -> None:
        names = _settable(config)
        mapped = (getattr(config, "attribute_map", None) or {}).get("num_attention_heads")
        self.size = size
        self.own = own
        self.groups = own.get("n_groups", getattr(config, "n_groups", None)) if "n_groups" in names else None
        order = ([mapped] if mapped else []) + HEAD_COUNTS
        self.counts = {
            field: getattr(config, field)
            for field in dict.fromkeys(order)
            if field in names and names[field] not in (None, "auto") and _whole(getattr(config, field))
        }
        self.dims = {
            field: getattr(config, field)
            for field in HEAD_DIMS
            if field in names and names[field] not in (None, "auto") and _whole(getattr(config, field))
        }
        self.main = next(iter(self.counts), None)
        if self.main is None:
            return
        self.main_dim = next(iter(self.dims), None)
        self.given_dim = next((own[field] for field in HEAD_DIMS if own.get(field)), None)
        self.count = _first(self.counts[self.main])
        self.dimension = Fraction(_first(self.dims[self.main_dim])) if self.dims else Fraction(size, self.count)
        for field in HEAD_DIM_FOLLOWERS:
            if field in names and getattr(config, field, None) == self.dimension:
                self.dims[field] = getattr(config, field)

    def choose(self, scale: str, sizes: list[Fraction]) -> Optional[_Choice]:
        """The first choice that is whole at all hidden ``sizes``."""
        if self.main in self.own:
            return self._growing_dims(sizes, Fraction(_first(self.own[self.main])))
        tries = self._with_heads(sizes) if scale == "heads" or self.given_dim else self._with_dims(sizes)
        return next(tries, None)

    def _counts(self, main: Fraction) -> dict[str, Any]:
        """All head counts, in the config's ratios to a main one of ``main``."""
        return {
            field: _map(value, lambda item: item * main / self.count)
            for field, value in self.counts.items()
            if field not in self.own
        }

    def _dims(self, main: Fraction) -> dict[str, Any]:
        """All head dimensions, in the config's ratios to a main one of ``main``."""
        return {
            field: _map(value, lambda item: item * main / self.dimension)
            for field, value in self.dims.items()
            if field not in self.own
        }

    def _inner_ratios(self) -> list[tuple[Fraction, str]]:
        """heads x head dimension over hidden size: the config's own, else 1."""
        own = self.count * self.dimension / self.size
        if own == 1 or self.main_dim is None:
            return [(own, "")]
        return [
            (own, ""),
            (Fraction(1), f", heads times head dimension 1*n (the config's own ratio is {float(own):.4g})"),
        ]

    def _with_heads(self, sizes: list[Fraction]) -> Iterator[_Choice]:
        given = self.given_dim
        dimensions = [Fraction(given)] if given else [self.dimension, *_powers_below(self.dimension)]
        for ratio, ratio_note in self._inner_ratios():
            for dimension in dimensions:
                counts, dims = self._counts(ratio / dimension), self._dims(dimension)
                if not self._fits(counts, dims, sizes):
                    continue
                note = ""
                if dimension != self.dimension and not given or ratio_note:
                    note = f"head dimension is {dimension} at every width (the config's own is {self.dimension})"
                    note += ratio_note
                yield _Choice(counts, dims, note)

    def _fits(self, counts: dict[str, Any], dims: dict[str, Any], sizes: list[Fraction]) -> bool:
        if not all(item.denominator == 1 for value in dims.values() for item in _items(value)):
            return False
        for size in sizes:
            values = [item * size for value in counts.values() for item in _items(value)]
            if not all(value.denominator == 1 and value >= FEWEST_HEADS for value in values):
                return False
            main = _first(counts[self.main]) * size
            shared = [_first(self.own[field]) for field in HEAD_COUNTS if field != self.main and self.own.get(field)]
            if any(main % count or main == count for count in shared):  # as many heads as shared ones is another graph
                return False
            if self.groups and (main % self.groups or main < FEWEST_HEADS * self.groups):
                return False
        return True

    def _with_dims(self, sizes: list[Fraction]) -> Iterator[_Choice]:
        for count in (Fraction(self.count), *_powers_below(Fraction(self.count), smallest=1)):
            choice = self._growing_dims(sizes, count)
            if choice is not None:
                if count != self.count:
                    choice.note = f"there are {count} heads at every width (the config's own number is {self.count})"
                yield choice

    def _growing_dims(self, sizes: list[Fraction], count: Fraction) -> Optional[_Choice]:
        """``count`` heads at every width, head dimensions in proportion to the hidden size."""
        counts = self._counts(count)
        if not all(item.denominator == 1 and item >= 1 for value in counts.values() for item in _items(value)):
            return None
        for ratio, ratio_note in self._inner_ratios():
            dimension = ratio / count
            dims = self._dims(dimension)
            every = [item * size for value in (*dims.values(), dimension) for item in _items(value) for size in sizes]
            if all(value.denominator == 1 and value % 2 == 0 for value in every) and dimension * min(sizes) >= 4:
                return _Choice(counts, dims, ratio_note.removeprefix(", "), dims_grow=True)
        return None


def _hidden_field(config: Any) -> Optional[str]:
    names = _settable(config)
    mapped = (getattr(config, "attribute_map", None) or {}).get("hidden_size")
    for field in ([mapped] if mapped else []) + list(HIDDEN):
        if field in names and _whole(getattr(config, field, None)):
            return field
    return None


def _hidden_size(config: Any) -> Optional[int]:
    field = _hidden_field(config)
    return None if field is None else _first(getattr(config, field))


def _by_importance(subs: dict[str, Any]) -> list[Any]:
    """Nested configs, that of the text model first."""
    return [subs[key] for key in sorted(subs, key=lambda key: (key not in ("text_config", "decoder"), key))]


def _non_defaults(config: Any) -> dict[str, Any]:
    """What the outer config set in a nested one."""
    fields = {"model_type": config.model_type}
    for name, default in _settable(config).items():
        value = getattr(config, name, None)
        if default not in (None, "auto") and isinstance(value, (bool, int, float, str)) and value != default:
            fields[name] = value
    return fields


def _friendly(ratio: Fraction, widths: tuple[int, ...]) -> Fraction:
    """``ratio`` if it gives whole numbers at all widths, else the nearest that does, in 64ths at finest."""
    if all((ratio * width).denominator == 1 for width in widths):
        return ratio
    step = math.gcd(64, *widths)
    return Fraction(max(round(ratio * step), 1), step)


def _powers_below(value: Fraction, smallest: int = SMALLEST_HEAD_DIM) -> list[Fraction]:
    powers = [Fraction(2**k) for k in range(20, -1, -1)]
    return [power for power in powers if smallest <= power < value]


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _first(value: Any) -> Any:
    return _items(value)[0]


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    return [function(item) for item in value] if isinstance(value, (list, tuple)) else function(value)


def _whole(value: Any) -> bool:
    items = _items(value)
    return bool(items) and all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in items)


# -- models ----------------------------------------------------------------------------------------


def _auto_class(config: Any) -> Any:
    """The auto class of the config's main model.

    Encoder-decoders are sequence-to-sequence models; a config that has both a masked and a causal head
    (the BERT family) is a masked one; a pair of towers (CLIP) is its base model.
    """
    transformers = _transformers()

    def has(name: str) -> Any:
        auto = getattr(transformers, name, None)
        return auto if auto is not None and type(config) in auto._model_mapping.keys() else None

    causal, masked = has("AutoModelForCausalLM"), has("AutoModelForMaskedLM")
    if getattr(config, "is_encoder_decoder", False):
        found = has("AutoModelForSeq2SeqLM") or has("AutoModelForSpeechSeq2Seq")
        if found:
            return found
    return (
        masked
        or causal
        or has("AutoModelForSeq2SeqLM")
        or (None if _is_two_towers(config) else has("AutoModelForImageClassification"))
        or has("AutoModel")
    )


def _build(config: Any, name: str, width: int) -> Any:
    auto = _auto_class(config)
    if auto is None:
        raise TargetError(f"{name} has no model to build from its config; write a factory that builds it")
    failure: Optional[Exception] = None
    for attention in ("sdpa", "eager"):
        try:
            return auto.from_config(config, attn_implementation=attention)
        except (ValueError, ImportError) as error:
            failure = error
            if "attention" not in str(error).lower() and "sdpa" not in str(error).lower():
                break
    raise TargetError(
        f"{name} can't be built at width {width} ({_one_line(failure)}); set fields with --set name=value"
    ) from failure


def _inputs(model: Any, config: Any) -> dict[str, Any]:
    """The smallest example inputs that reach every weight: two sequences of eight tokens, two images."""
    import torch

    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    parameters = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {}

    def tokens(length: int = 8) -> "torch.Tensor":
        # Ordinary tokens: the first few ids are padding and other special ones.
        vocabulary = getattr(text, "vocab_size", None) or 32
        low = 5 if vocabulary > 32 else 0
        return torch.arange(2 * length).reshape(2, length) % min(vocabulary - low, 64) + low

    if "input_ids" in parameters and "input_features" not in parameters:
        inputs["input_ids"] = tokens()
    if "input_features" in parameters:
        if hasattr(config, "num_mel_bins"):
            shape = (2, config.num_mel_bins, 2 * getattr(config, "max_source_positions", 50))
        else:
            shape = (2, 64, getattr(config, "input_feat_per_channel", 80))
        inputs["input_features"] = torch.randn(shape)
    if "pixel_values" in parameters and ("input_ids" not in parameters or _is_two_towers(config)):
        vision = _sub_configs(config).get("vision_config", config)
        size = getattr(vision, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        inputs["pixel_values"] = torch.randn(2, getattr(vision, "num_channels", 3), height, width)
    if "input_values" in parameters and not inputs:
        inputs["input_values"] = torch.randn(2, 4000)
    if "decoder_input_ids" in parameters and getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens()
    if not inputs:
        raise TargetError(
            f"no example inputs are known for {type(model).__name__} (it takes {', '.join(list(parameters)[:4])}); "
            f"write a factory that returns (model, inputs)"
        )
    return inputs


def _is_two_towers(config: Any) -> bool:
    """Text and image side by side (CLIP), not images spliced into the text at their own tokens."""
    subs = _sub_configs(config)
    spliced = hasattr(config, "image_token_id") or hasattr(config, "image_token_index")
    return "text_config" in subs and "vision_config" in subs and not spliced
