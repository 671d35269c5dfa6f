"""How the fields of a config, and of those nested in it, follow the width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.fields import (
    HEAD_COUNTS,
    HEAD_DIMS,
    PROPORTIONAL,
    dropped,
    hidden_field,
    hidden_size,
    items,
    mapped,
    settable,
    sizes,
    sub_configs,
)
from tpcalc.trace.hf.formula import Formula, place_text, product
from tpcalc.trace.hf.heads import Heads
from tpcalc.trace.hf.scales import repeated

__all__ = ["Family"]

_HEADS = frozenset((*HEAD_COUNTS, *HEAD_DIMS))


class Family:
    """How the fields of one config, and of those nested in it, follow the width of the outermost one.

    ``reference`` is the width of the outermost config as it is.  At a single width nothing follows it.  Values in
    ``own`` and ``nested`` are numbers or :class:`~tpcalc.trace.hf.formula.Formula`; ``written`` is what a file says of
    the config, whose other fields are kept then; ``deep``: a scale counts its layers.
    """

    def __init__(
        self,
        config: Any,
        own: dict[str, Any],
        nested: dict[str, dict[str, Any]],
        widths: tuple[int, ...],
        name: str,
        reference: int,
        written: Optional[Mapping[str, Any]] = None,
        inner: bool = False,
        deep: bool = False,
    ) -> None:
        self.name = name
        self.config = config
        self.own = own
        self.written = written or {}
        self._notes: list[str] = []
        subs = sub_configs(config)
        hidden = hidden_field(config)
        size = hidden_size(config)
        if hidden in own:
            raise TargetError(f"{hidden} is the width of {name} and can't be set; give it with --widths")
        self.ratios: dict[str, Any] = {}
        still = {field: why for field, why in dropped(config, deep).items() if field not in own}
        self.fixed: dict[str, Any] = {field: mapped(getattr(config, field), lambda _: 0.0) for field in still}
        self._notes += [f"{field} of {name} is 0: {why}" for field, why in still.items()]
        unit = Fraction(1) if size is None else Fraction(size, reference)
        self._sizes = sizes(config, self.written)
        if len(widths) > 1:
            if inner and size is not None:
                unit = self._whole_unit(unit, widths)
            self._scale_sizes(hidden, Fraction(size or reference) / unit, widths)
            if size is not None:
                self._scale_heads(config, size, unit, widths)
        self.subs = {
            key: (
                sub,
                Family(
                    sub,
                    nested[key],
                    {k: {} for k in sub_configs(sub)},
                    widths,
                    f"{name} {key}",
                    reference,
                    self.written.get(key),
                    inner=True,
                    deep=deep,
                ),
            )
            for key, sub in subs.items()
        }

    def assumptions(self) -> list[str]:
        return self._notes + [note for _, family in self.subs.values() for note in family.assumptions()]

    def fields(self, values: Mapping[str, int]) -> dict[str, Any]:
        """Constructor arguments where the width ``n`` and scales have these values."""

        def at(value: Any) -> Any:
            return value.at(values, field) if isinstance(value, Formula) else value

        fields = {**self.written, **self.fixed}
        for field, ratio in self.ratios.items():
            fields[field] = self._at(field, ratio, values)
        for field, value in self.own.items():
            fields[field] = mapped(value, at)
        for key, (sub, family) in self.subs.items():
            fields[key] = {**_non_defaults(sub), **family.fields(values)}
        return {**fields, **repeated(self.config, fields)}

    def growth(self, owner: str = "") -> list[tuple[str, str, str]]:
        """Each field that holds whole numbers: its name, what it is in the config, and what it is at width ``n``."""
        rows = []
        set_by_scale = {f: getattr(self.config, f, None) for f, x in self.own.items() if isinstance(x, Formula)}
        for field, value in {**self._sizes, **set_by_scale}.items():
            follows: Any = self.own.get(field, self.ratios.get(field, self.fixed.get(field, value)))
            text = _in_n(follows) if field in self.ratios and field not in self.own else _text(follows)
            rows.append((owner + field, _text(value), text))
        return rows + [row for key, (_, family) in self.subs.items() for row in family.growth(f"{owner}{key}.")]

    def _at(self, field: str, ratio: Any, values: Mapping[str, int]) -> Any:
        if isinstance(ratio, list):
            return [self._at(field, item, values) for item in ratio]
        value = ratio * values["n"]
        if value.denominator != 1 or value < 1:
            raise TargetError(
                f"{field} of {self.name} would be {float(value):g} at {place_text(values)}; choose multiples of "
                f"{ratio.denominator}, or set it: --set {field}=..."
            )
        return int(value)

    def _scale_sizes(self, hidden: Optional[str], reference: Fraction, widths: tuple[int, ...]) -> None:
        for field, value in self._sizes.items():
            if field in self.own and field in PROPORTIONAL and not isinstance(self.own[field], Formula):
                self._notes.append(
                    f"{field} of {self.name} is {self.own[field]} at every width and counts as finite; write --set "
                    f"{field}={_in_n(mapped(value, lambda item: item / reference))} for one that grows"
                )
            if field in self.own or not (field == hidden or field in PROPORTIONAL):
                continue
            exact = mapped(value, lambda item: item / reference)
            ratio = mapped(exact, lambda item: _friendly(item, widths))
            if field == hidden and ratio != exact:
                ratio = exact  # the width itself is never rounded: the error at that width says what fits
            self.ratios[field] = ratio
            if ratio != exact:
                self._notes.append(
                    f"{field} of {self.name} is {mapped(ratio, str)}*n (the config's own ratio is "
                    f"{mapped(exact, lambda item: f'{float(item):.4g}')}, no whole number at these widths)"
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

    def _scale_heads(self, config: Any, size: int, unit: Fraction, widths: tuple[int, ...]) -> None:
        given = (item for f in _HEADS for item in items(self.own.get(f)))
        if any(isinstance(item, Formula) and item.names != {"n"} for item in given):
            return  # scales have set them all
        numbers = {field: value for field, value in self.own.items() if not isinstance(value, Formula)}
        follow = {f: value for f, value in self.own.items() if isinstance(value, Formula) and f in _HEADS}
        for field, value in follow.items():
            if value.ratio is None:
                raise TargetError(f"{field}={value} is no multiple of n, as heads must be; write {field}=n/64, say")
        ratios = {field: value.ratio / unit for field, value in follow.items() if value.ratio is not None}
        heads = Heads(config, size, numbers, ratios, self.written)
        if not heads.main:
            return
        if heads.main in numbers:
            self._notes.append(
                f"{heads.main} of {self.name} is {numbers[heads.main]} at every width: the size of a head grows, and "
                f"not their number; write --set {heads.main}=n/64 for heads of one size"
            )
        choice = heads.choose([unit * width for width in widths])
        if choice is None:
            counts = ", ".join(f"{field}={self.own.get(field, value)}" for field, value in heads.counts.items())
            candidates = range(-(-min(widths) // 32) * 32, 8193, 32)
            step = next((w for w in candidates if heads.choose([unit * w * k for k in (1, 2, 4)])), None)
            fitting = f"use widths such as {step},{2 * step},{4 * step}" if step else "use other widths"
            remedy = f"{fitting}, or give a count that fits: --set {list(heads.counts)[-1]}=n/{min(widths) // 2}"
            raise TargetError(
                f"the heads of {self.name} ({counts}, head dimension {heads.dimension}) don't fit the widths "
                f"{', '.join(map(str, widths))}; {remedy}"
            )
        grown, kept = (choice.dims, choice.counts) if choice.dims_grow else (choice.counts, choice.dims)
        for field, value in grown.items():
            self.ratios[field] = mapped(value, lambda item: item * unit)
        self.fixed.update({field: mapped(value, int) for field, value in kept.items()})
        if choice.note:
            at = ", ".join(map(str, widths))
            self._notes.append(f"{choice.note} in {self.name}, for two or more whole heads at widths {at}")


def _in_n(ratio: Any) -> str:
    """``11/4*n``, ``n/64``; of a list each."""
    if isinstance(ratio, list):
        return f"[{', '.join(map(_in_n, ratio))}]"
    return str(product(ratio, "n"))


def _text(value: Any) -> str:
    """A value as it is shown; formulas in a list without the quotes of one."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def _non_defaults(config: Any) -> dict[str, Any]:
    """What the outer config set in a nested one."""
    fields = {"model_type": config.model_type}
    for name, default in settable(config).items():
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
