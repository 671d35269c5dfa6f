"""Scales of ``hf:`` targets by name: which fields of a config each sets, and what the hidden size is beside them.

A scale is ``width``, one of :data:`FIELDS`, or any field of the config that holds a whole number.  Several fields of
one scale keep the config's own proportions; stacks of layers all have one depth.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.fields import (
    KEY_VALUE_HEADS,
    PROPORTIONAL,
    first,
    hidden_field,
    hidden_size,
    mapped,
    own_name,
    settable,
    sub_configs,
    whole,
)
from tpcalc.trace.hf.formula import Formula, place_text, product
from tpcalc.trace.hf.head_scales import HeadScales
from tpcalc.trace.hf.heads import Heads

__all__ = ["FIELDS", "Scaled", "layer_fields", "reference_of", "repeated", "scaled"]

#: Scale -> the fields that it sets, of those a config has.
FIELDS: dict[str, tuple[str, ...]] = {
    "depth": tuple(
        "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_encoder_layers "
        "num_decoder_layers encoder_num_hidden_layers decoder_num_hidden_layers depth depths".split()
    ),
    "encoder_depth": ("encoder_layers", "num_encoder_layers", "encoder_num_hidden_layers"),
    "decoder_depth": ("decoder_layers", "num_decoder_layers", "decoder_num_hidden_layers"),
    "heads": (),  # the first of each that ``Heads`` finds
    "kv_heads": KEY_VALUE_HEADS,
    "head_dim": (),
    "ffn": tuple(
        "intermediate_size ffn_dim d_ff n_inner dff hidden_dim dim_ff ffn_hidden_size feed_forward_size "
        "mlp_hidden_size mlp_dim encoder_ffn_dim decoder_ffn_dim intermediate_size_mlp".split()
    ),
    "expert_ffn": tuple(
        "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_intermediate_size "
        "moe_shared_expert_intermediate_size share_expert_dim".split()
    ),
    "experts": ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"),
    "top_k": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k"),
    "vocab": ("vocab_size",),
}

#: Nested configs that are asked first.
_TEXT = ("text_config", "decoder")


@dataclass
class Scaled:
    """Fields that are set, of a config and of those nested in it; its width ``n``; what was changed to fit.

    ``depths``: the scales that count layers.
    """

    own: dict[str, Any]
    nested: dict[str, dict[str, Any]]
    n: Formula = Formula("width")
    notes: list[str] = field(default_factory=list)
    depths: tuple[str, ...] = ()

    def of(self, owner: str) -> dict[str, Any]:
        return self.nested[owner] if owner else self.own


def reference_of(config: Any) -> Optional[int]:
    """The hidden size that is the width: the config's own, or that of its text model first."""
    found = (hidden_size(each) for each in _owners(config).values())
    return next((size for size in found if size), None)


def repeated(config: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Lists with an entry for each layer, as long as there are layers now: layers that take turns go on doing so."""
    longer: dict[str, Any] = {}
    for name in layer_fields(config):
        own, now = getattr(config, name, None), fields.get(name)
        if not isinstance(own, int) or not isinstance(now, int) or own == now:
            continue
        for key, value in fields.items():
            if isinstance(value, (list, tuple)) and len(value) == own and _oflayer_fields(key, value):
                period = next(p for p in range(1, own + 1) if all(x == y for x, y in zip(value[p:], value)))
                longer[key] = [value[i % period] for i in range(now)]
    return longer


def scaled(
    config: Any,
    given: Scaled,
    scales: Sequence[str],
    places: Sequence[Mapping[str, int]],
    name: str,
    written: Mapping[str, Any],
) -> Scaled:
    """``given``, the fields that were set by hand, with those that ``scales`` set; ``places`` are the values of these.

    Raises TargetError for a scale that the config does not have, two that set one field, and heads that don't fit.
    """
    return _Scaling(config, given, places, name, written).all(scales)


class _Scaling:
    """One config, and who has set which of its fields."""

    def __init__(
        self, config: Any, given: Scaled, places: Sequence[Mapping[str, int]], name: str, written: Mapping[str, Any]
    ) -> None:
        self.owners, self.places, self.name = _owners(config), places, name
        self.result = Scaled(dict(given.own), {key: dict(fields) for key, fields in given.nested.items()})
        self.by = {(owner, f): "--set" for owner in self.owners for f in given.of(owner)}
        self.reference = reference_of(config)
        self.heads_in, self.heads = "", None
        for owner, each in self.owners.items():
            size = hidden_size(each)
            said = (written.get(owner) or {}) if owner else written
            if self.heads is None and size is not None and (heads := Heads(each, size, {}, written=said)).main:
                self.heads_in, self.heads = owner, heads

    def all(self, scales: Sequence[str]) -> Scaled:
        if "width" not in scales and self.reference is not None:
            self.result.n = product(Fraction(self.reference))
        roles: dict[str, str] = {}
        for scale in scales:
            found = [] if scale == "width" else self.fields(scale)
            role = self.role(scale, found)
            if role is None:
                self.set_plain(scale, found)
            elif role in roles:
                raise TargetError(f"the scales {roles[role]} and {scale} of {self.name} are the same; drop one of them")
            else:
                roles[role] = scale
        if roles.keys() - {"width"}:
            self.set_heads(roles)
        for owner in self.owners:
            self.check_experts(owner)
            self.keep_padding(owner)
        return self.result

    def set_plain(self, scale: str, found: list[tuple[str, str]]) -> None:
        values = [getattr(self.owners[owner], f) for owner, f in found]
        layers = all(f in layer_fields(self.owners[owner]) for owner, f in found)
        if layers:
            self.result.depths += (scale,)
        for (owner, f), value in zip(found, values):
            of = Formula(scale) if value is None else _in_proportion(value, None if layers else first(values[0]), scale)
            self.set(scale, owner, f, of)

    def set_heads(self, roles: Mapping[str, str]) -> None:
        assert self.heads is not None and self.reference is not None
        own, config = self.result.of(self.heads_in), self.owners[self.heads_in]
        made = HeadScales(config, self.heads, own, roles, self.reference, self.places, self.name)
        for f, (scale, value) in made.fields().items():
            if scale in roles.values() or f not in own:
                self.set(scale, self.heads_in, f, value)
        self.result.n = made.n
        self.result.notes += made.notes
        made.check(self.result.of(self.heads_in))

    def set(self, scale: str, owner: str, f: str, value: Any) -> None:
        if (other := self.by.get((owner, f))) is not None:
            by = "--set" if other == "--set" else f"the scale {other}"
            full = f"{owner}.{f}" if owner else f
            raise TargetError(f"{full} of {self.name} is set by {by} and by the scale {scale}; drop one of them")
        self.by[owner, f] = scale
        self.result.of(owner)[f] = value

    # -- what hangs together ------------------------------------------------------------------------------------

    def values(self, owner: str, names: Sequence[str]) -> tuple[str, list[int]]:
        """The first of these fields that a config has, and what it is at each place."""
        config = self.owners[owner]
        f = next((f for f in names if f in settable(config) and whole(getattr(config, f, None))), "")
        value = self.result.of(owner).get(f, getattr(config, f, None) if f else None)
        if isinstance(value, Formula):
            places = [{**place, "n": self.result.n.at(place, "the width")} for place in self.places]
            return f, [value.at(place, f) for place in places]
        return f, [value] * len(self.places) if isinstance(value, int) else []

    def check_experts(self, owner: str) -> None:
        """Raise TargetError for groups of experts that are not alike, and for more experts at work than there are."""
        (f, experts), (k, chosen) = (self.values(owner, FIELDS[scale]) for scale in ("experts", "top_k"))
        if not any(isinstance(self.result.of(owner).get(name), Formula) for name in (f, k)):
            return
        group, groups = self.values(owner, ("n_group",))
        for place, count, few, parts in zip(self.places, experts, chosen, groups or [1] * len(self.places)):
            if few > count:
                raise TargetError(
                    f"{k}={few} of {self.name} at {place_text(place)} is more than {f}={count}; give fewer of the one, "
                    f"or more of the other"
                )
            if parts > 1 and (count % parts or count < 2 * parts):
                raise TargetError(
                    f"{f}={count} of {self.name} at {place_text(place)} gives no two experts or more to each of "
                    f"{group}={parts}; choose multiples, or set the groups: --set {group}=..."
                )

    def keep_padding(self, owner: str) -> None:
        """A padding token in the smallest vocabulary, where its own number is beyond that."""
        config, own = self.owners[owner], self.result.of(owner)
        if "pad_token_id" in own or "pad_token_id" not in settable(config) or FIELDS["vocab"][0] not in own:
            return
        pad, sizes = config.pad_token_id, self.values(owner, FIELDS["vocab"])[1]
        if sizes and isinstance(pad, int) and pad >= min(sizes):
            own["pad_token_id"] = min(sizes) - 1
            self.result.notes.append(f"pad_token_id of {self.name} is {min(sizes) - 1}, in the smallest vocabulary")

    # -- names ---------------------------------------------------------------------------------------------------

    def role(self, scale: str, found: list[tuple[str, str]]) -> Optional[str]:
        """Of scales that hang together: width, heads, head_dim, kv_heads."""
        if scale in ("width", "heads", "head_dim", "kv_heads"):
            return scale
        if self.heads is None or scale in FIELDS:
            return None
        owner, f = found[0]
        roles: dict[Optional[str], str] = dict.fromkeys(KEY_VALUE_HEADS, "kv_heads")
        roles.update({self.heads.main_dim: "head_dim", self.heads.main: "heads"})
        return roles.get(f) if owner == self.heads_in else None

    def fields(self, scale: str) -> list[tuple[str, str]]:
        """Owner and name of each field that a scale sets.  Raises TargetError where there is none."""
        found = self.find(scale)
        if not found:
            known = ["width", *(name for name in FIELDS if self.find(name))]
            numbers = [f for each in self.owners.values() for f in settable(each) if whole(getattr(each, f, None))]
            near = [] if scale in FIELDS else difflib.get_close_matches(scale, [*known, *numbers], n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}? It has" if near else "it has"
            raise TargetError(
                f"{self.name} has no scale {scale!r}; {hint} {', '.join(known)}, and each whole number of its config "
                f"by its own name"
            )
        for owner, f in found:
            if f == hidden_field(self.owners[owner]):
                raise TargetError(f"{f} is the width of {self.name}; write --scale width=... for it")
        return found

    def find(self, scale: str) -> list[tuple[str, str]]:
        if scale in ("heads", "head_dim"):
            return [] if self.heads is None else [(self.heads_in, self.heads.main)]
        found: list[tuple[str, str]] = []
        for owner, config in self.owners.items():
            mine = [f for f in _candidates(config, scale) if _sizable(config, f)]
            found += [(owner, f) for f in mine if scale not in FIELDS or f != hidden_field(config)]
            if found and scale != "depth":  # all stacks are as deep as one another; other sizes are those of the text
                break
        return found


def _owners(config: Any) -> dict[str, Any]:
    """The config itself and those nested in it, by their places, that of the text first."""
    subs = sub_configs(config)
    return {"": config, **{key: subs[key] for key in sorted(subs, key=lambda key: (key not in _TEXT, key))}}


def _candidates(config: Any, scale: str) -> list[str]:
    if scale == "depth":
        return layer_fields(config)
    if scale == "encoder_depth" and any(f in settable(config) for f in FIELDS["decoder_depth"]):
        return [f for f in layer_fields(config) if f not in FIELDS["decoder_depth"]]  # T5 has num_layers of both kinds
    return list(FIELDS.get(scale, (own_name(config, scale),)))


def layer_fields(config: Any) -> list[str]:
    """The fields that count layers; with a list of depths, those of its stages alone."""
    fields = [
        f for f in dict.fromkeys((own_name(config, "num_hidden_layers"), *FIELDS["depth"])) if f in settable(config)
    ]
    return ["depths"] if "depths" in fields else fields


def _oflayer_fields(name: str, value: Sequence[Any]) -> bool:
    """Whether a list as long as there are layers is one of layers: two to four numbers may be sizes of an image."""
    numbers = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
    return not numbers or len(value) > 4 or "layer" in name


def _in_proportion(value: Any, base: Optional[int], scale: str) -> Any:
    """A number of the config, or each in a list, over ``base`` times a scale; where no base is given the scale."""
    return mapped(value, lambda x: product(Fraction(x, base or x), scale))


def _sizable(config: Any, f: str) -> bool:
    """A field that holds a whole number, or a size that is left to the code."""
    value = getattr(config, f, None)
    return f in settable(config) and (whole(value) or value is None and f in PROPORTIONAL)
