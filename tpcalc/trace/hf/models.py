"""The main model of a config, and example inputs that reach every weight of it."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from tpcalc.errors import TargetError
from tpcalc.trace.hf.fields import sub_configs
from tpcalc.trace.hf.library import one_line, transformers

__all__ = ["build", "example_inputs"]


def _auto_class(config: Any) -> Any:
    """The auto class of the config's main model.

    Encoder-decoders are sequence-to-sequence models; a config that has both a masked and a causal head
    (the BERT family) is a masked one; a pair of towers (CLIP) is its base model.
    """

    def has(name: str) -> Any:
        auto = getattr(transformers(), name, None)
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


def build(config: Any, name: str, where: str) -> Any:
    """The main model; ``where`` says at which sizes.  Raises TargetError."""
    auto = _auto_class(config)
    if auto is None:
        raise TargetError(f"{name} has no model to build from its config; write a factory that builds it")
    for attention in ("sdpa", "eager"):
        try:
            return auto.from_config(config, attn_implementation=attention)
        except (ValueError, ImportError) as error:
            about_attention = "attention" in str(error).lower() or "sdpa" in str(error).lower()
            if attention == "eager" or not about_attention:
                raise TargetError(
                    f"{name} can't be built at {where} ({one_line(error)}); set fields with --set name=value"
                ) from error


def example_inputs(model: Any, config: Any) -> dict[str, Any]:
    """The smallest example inputs that reach every weight: two sequences of eight tokens, two images."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    parameters = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {}

    def tokens(length: int = 8) -> torch.Tensor:
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
        vision = sub_configs(config).get("vision_config", config)
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
    subs = sub_configs(config)
    spliced = hasattr(config, "image_token_id") or hasattr(config, "image_token_index")
    return "text_config" in subs and "vision_config" in subs and not spliced
