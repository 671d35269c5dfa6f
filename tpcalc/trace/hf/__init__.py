"""Hugging Face model types as factories of models in one width."""

from tpcalc.trace.hf.deep import by_depth
from tpcalc.trace.hf.factory import HuggingFaceFactory, hf_factory
from tpcalc.trace.hf.fields import settable, sub_configs
from tpcalc.trace.hf.library import default_config

__all__ = ["HuggingFaceFactory", "by_depth", "default_config", "hf_factory", "settable", "sub_configs"]
