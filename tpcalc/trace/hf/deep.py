"""Hugging Face models whose depth can be chosen beside the width, to be traced with few of their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.factory import HuggingFaceFactory, hf_factory
from tpcalc.trace.hf.fields import own_name, sub_configs
from tpcalc.trace.hf.scales import layer_fields

__all__ = ["by_depth"]


def by_depth(
    model_type: str, overrides: Optional[Mapping[str, str]], widths: Sequence[int]
) -> Optional[tuple[HuggingFaceFactory, int]]:
    """A factory of width and depth, and the depth that the config (with ``overrides``) has.

    None where there is no one depth: several stacks that are not alike, or layers that a list of the config describes
    one by one and no other depth fits.
    """
    made = hf_factory(model_type, overrides=overrides, widths=widths)
    config = made.config(widths[0])
    owners = {"": config, **sub_configs(config)}
    counts = {(owner, field): getattr(each, field) for owner, each in owners.items() for field in layer_fields(each)}
    depths = {value for value in counts.values()}
    if len(depths) != 1 or not isinstance(next(iter(depths)), int):
        return None

    def is_depth(key: str) -> bool:
        owner, _, field = key.rpartition(".")
        return owner in owners and (owner, own_name(owners[owner], field)) in counts

    others = {key: value for key, value in (overrides or {}).items() if not is_depth(key)}
    try:
        return hf_factory(model_type, overrides=others, widths=widths, scales={"depth": (2, 3)}), depths.pop()
    except TargetError:
        return None
