"""Heads, head dimension, key and value heads and width as scales: each field of heads as a formula in them.

Heads times head dimension is the width, times a constant of the config.  So two of the three say the third: the width
follows the others, or with the width itself a scale, the head dimension follows from the number of heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.errors import TargetError
from tpcalc.trace.hf.fields import KEY_VALUE_HEADS, first, items, mapped, settable
from tpcalc.trace.hf.formula import Formula, place_text, product
from tpcalc.trace.hf.heads import FEWEST_HEADS, Heads

__all__ = ["HeadScales"]


@dataclass(frozen=True)
class _Size:
    """``ratio`` times ``factors``, over ``over``; ``scale``: what it is set by."""

    ratio: Fraction
    factors: tuple[str, ...] = ()
    over: str = ""
    scale: str = ""

    def of(self, value: Any, base: Fraction) -> Any:
        """A formula for a number of the config, or each in a list, that is there beside ``base``."""
        return mapped(value, lambda x: product(self.ratio * Fraction(x) / base, *self.factors, over=self.over))


class HeadScales:
    """The fields of the heads of one config under scales; ``roles``: of width, heads, head_dim and kv_heads those that
    are scales, with their names.

    ``own`` fields are set by hand.  ``reference`` is the width of the config, ``n`` its formula.
    """

    def __init__(
        self,
        config: Any,
        heads: Heads,
        own: Mapping[str, Any],
        roles: Mapping[str, str],
        reference: int,
        places: Sequence[Mapping[str, int]],
        name: str,
    ) -> None:
        self.config, self.heads, self.own, self.roles = config, heads, own, roles
        self.places, self.name = places, name
        self.notes: list[str] = []
        self.n = product(Fraction(reference))
        self.inner = heads.count * heads.dimension / reference
        self.main: Optional[_Size] = None
        self.dim: Optional[_Size] = None
        self._solve()

    def _solve(self) -> None:
        h, d, width = (self.roles.get(role) for role in ("heads", "head_dim", "width"))
        if width is not None:
            self.n = Formula(width)
            if h is None and d is None:
                raise TargetError(
                    f"kv_heads beside the width leaves open how many heads of {self.name} there are; give --scale "
                    f"heads=... or --scale head_dim=... too"
                )
        if h is None and d is None:
            return
        self.main = _Size(Fraction(1), (h,), scale=h) if h else None
        self.dim = _Size(Fraction(1), (d,), scale=d) if d else None
        if width is None:
            self.main = self.main or self._by_hand(self.heads.main, self.heads.count)
            self.dim = self.dim or self._by_hand(self.heads.main_dim or "head_dim", self.heads.dimension)
            main, dim = self.main, self.dim
            self.n = self._whole(lambda inner: product(main.ratio * dim.ratio / inner, *main.factors, *dim.factors))
        elif self.main is None:
            self.main = _Size(self.inner, ("n",), over=str(d))
        elif self.dim is None:
            self.dim = _Size(self.inner, ("n",), over=str(h))

    def _by_hand(self, field: str, default: Any) -> _Size:
        """A number that is no scale: as set by hand, else as in the config."""
        value = self.own.get(field, default)
        if isinstance(value, Formula):
            raise TargetError(
                f"{field}={value} of {self.name} has no value where the width follows from "
                f"{' and '.join(self.roles.values())}; give --scale width=... too, or a number"
            )
        return _Size(Fraction(first(value)))

    def _whole(self, width: Any) -> Formula:
        """The width at the config's own ratio to heads x head dimension, or at 1 where that is no whole number."""
        for inner in (self.inner, Fraction(1)):
            found: Formula = width(inner)
            if all(found.value(place).denominator == 1 for place in self.places):
                if inner != self.inner:
                    self.notes.append(
                        f"heads times head dimension of {self.name} is 1*n (the config's own ratio is "
                        f"{float(self.inner):.4g}, no whole number at these values)"
                    )
                self.inner = inner
                return found
        return width(self.inner)

    def fields(self) -> dict[str, tuple[str, Any]]:
        """Field -> what it is set by (an empty text where it follows), and its formula."""
        heads, found = self.heads, dict[str, tuple[str, Any]]()
        pairs = ((self.main, heads.counts, Fraction(heads.count)), (self.dim, heads.dims, heads.dimension))
        for size, known, base in pairs:
            if size is not None:
                by = {heads.main: size.scale, heads.main_dim: size.scale}
                found.update({f: (by.get(f, ""), size.of(value, base)) for f, value in known.items()})
        if (kv := self.roles.get("kv_heads")) is not None:
            shared = [f for f in KEY_VALUE_HEADS if f in settable(self.config) and getattr(self.config, f, None)]
            found.update({f: (kv, Formula(kv)) for f in shared})
        if self.roles.keys() >= {"width", "heads", "head_dim"} and heads.main_dim is None:
            d = self.roles["head_dim"]
            if "head_dim" not in settable(self.config):
                raise TargetError(
                    f"{self.name} has no field for the size of a head, which is width / heads; give two of width, "
                    f"heads and head_dim"
                )
            found["head_dim"] = (d, Formula(d))
        return found

    def check(self, own: Mapping[str, Any]) -> None:
        """Raise TargetError where counts of heads don't fit one another, with all fields set."""
        main, counts = self.heads.main, [f for f in (*self.heads.counts, *KEY_VALUE_HEADS) if f in own]
        equal = set()
        for place in self.places:
            values = {**place, "n": self.n.at(place, "the width")}
            for size, what in ((self.main, "the number of heads"), (self.dim, "the size of a head")):
                if size is not None:
                    size.of(1, Fraction(1)).at(values, what)
            at = {f: [_at(item, values, f) for item in items(own[f])] for f in dict.fromkeys(counts)}
            for f, numbers in at.items():
                if min(numbers) < FEWEST_HEADS and any(isinstance(x, Formula) and x.names for x in items(own[f])):
                    raise TargetError(
                        f"{f} of {self.name} would be {min(numbers)} at {place_text(place)}, and an axis of one is no "
                        f"axis that grows; give {FEWEST_HEADS} or more"
                    )
                if f in KEY_VALUE_HEADS and main in at and f != main:
                    equal.add((f, at[main] == numbers))
                    if at[main][0] % numbers[0]:
                        raise TargetError(
                            f"{main}={at[main][0]} of {self.name} is no multiple of {f}={numbers[0]} at "
                            f"{place_text(place)}; choose values that are"
                        )
            groups = self.heads.groups
            if groups and main in at and (at[main][0] % groups or at[main][0] < FEWEST_HEADS * groups):
                raise TargetError(
                    f"{main}={at[main][0]} of {self.name} at {place_text(place)} gives no two heads or more to each of "
                    f"n_groups={groups}; choose multiples, or set the groups: --set n_groups=..."
                )
        for f in {f for f, _ in equal}:
            if {(f, True), (f, False)} <= equal:
                raise TargetError(
                    f"{f} of {self.name} equals {main} at some of these values and not at others, and the code takes "
                    f"another path there; choose values at which there are always more heads"
                )


def _at(value: Any, values: Mapping[str, int], f: str) -> int:
    return value.at(values, f) if isinstance(value, Formula) else value
