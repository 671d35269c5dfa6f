"""The fields of a config: which follow the width, which count heads, and the whole numbers that they hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Optional

__all__ = [
    "HEAD_COUNTS", "HEAD_DIMS", "HEAD_DIM_FOLLOWERS", "KEY_VALUE_HEADS", "LAYER_DROPS", "PATH_DROPS",
    "PROPORTIONAL", "dropped", "first", "hidden_field", "hidden_size", "items", "mapped", "own_name", "settable",
    "sizes", "sub_configs", "whole",
]  # fmt: skip

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

#: Counts of heads that are shared by several of the main ones.
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "num_query_groups")

#: Head dimensions given beside the hidden size; the first that a config has is its main one.
HEAD_DIMS = (
    "head_dim d_kv attention_head_dim attention_head_size kv_channels d_head qk_head_dim qk_nope_head_dim "
    "qk_rope_head_dim v_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_head mamba_head_dim "
    "mamba_headdim swa_head_dim index_head_dim rotary_dim"
).split()

#: Fields that equal the head dimension where they follow it.
HEAD_DIM_FOLLOWERS = ("query_pre_attn_scalar",)


#: Ends of the names of rates at which whole layers are dropped at random in training.
LAYER_DROPS = ("layerdrop", "layer_drop")

#: Rates at which branches are dropped, where the last block has the rate and each block one by its index.
PATH_DROPS = ("drop_path_rate",)


def settable(config: Any) -> dict[str, Any]:
    """Fields the config's constructor accepts, with their defaults."""
    fields = getattr(type(config), "__dataclass_fields__", None)
    if fields:
        return {name: field.default for name, field in fields.items()}
    parameters = inspect.signature(type(config).__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD}


def sizes(config: Any, written: Collection[str] = ()) -> dict[str, Any]:
    """Fields that hold whole numbers, or lists of them, and do so by default or were ``written`` into a file.

    Others are None, and what the config puts there follows from other fields.
    """
    defaults = settable(config).items()
    fields = {
        name: getattr(config, name, None) for name, own in defaults if own not in (None, "auto") or name in written
    }
    return {name: value for name, value in fields.items() if whole(value)}


def dropped(config: Any, deep: bool = False) -> dict[str, str]:
    """Fields by which layers are dropped at random, and what is so without: a trace would see one draw.

    Where the config is ``deep``, those too that make a number for each block of its index: no power of the depth.
    """
    reasons = dict.fromkeys(LAYER_DROPS, "no layer is dropped at random")
    if deep:
        reasons |= dict.fromkeys(PATH_DROPS, "its blocks, which differ by it, are the same at every depth")
    return {
        name: reason
        for name in settable(config)
        for end, reason in reasons.items()
        if name.endswith(end) and any(items(getattr(config, name, None)))
    }


def sub_configs(config: Any) -> dict[str, Any]:
    """The configs nested in this one."""
    nested = {name: getattr(config, name, None) for name in sorted(getattr(config, "sub_configs", None) or {})}
    return {name: sub for name, sub in nested.items() if hasattr(sub, "to_dict")}


def own_name(config: Any, field: str) -> str:
    """What the config calls a field that transformers knows under another name."""
    return (getattr(config, "attribute_map", None) or {}).get(field, field)


def hidden_field(config: Any) -> Optional[str]:
    """The field of the hidden size."""
    names = settable(config)
    candidates = (own_name(config, HIDDEN[0]), *HIDDEN)
    return next((name for name in candidates if name in names and whole(getattr(config, name, None))), None)


def hidden_size(config: Any) -> Optional[int]:
    """The hidden size that a config says, of several stages the first."""
    field = hidden_field(config)
    return None if field is None else first(getattr(config, field))


def items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def first(value: Any) -> Any:
    return items(value)[0]


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """``function`` of a number, or of each in a list."""
    return [function(item) for item in value] if isinstance(value, (list, tuple)) else function(value)


def whole(value: Any) -> bool:
    """A whole number above 0, or several."""
    found = items(value)
    return bool(found) and all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in found)
