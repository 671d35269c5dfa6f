"""Head counts and head dimensions: how they can follow the hidden size in whole numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.trace.hf.fields import (
    HEAD_COUNTS,
    HEAD_DIM_FOLLOWERS,
    HEAD_DIMS,
    first,
    items,
    mapped,
    own_name,
    settable,
    sizes,
)

__all__ = ["Choice", "Heads"]

SMALLEST_HEAD_DIM = 8

#: A count that grows must never be 1: an axis of length 1 is squeezed away, which changes the graph.
FEWEST_HEADS = 2


@dataclass(frozen=True)
class Choice:
    """Head counts and head dimensions; those that grow are given per unit of hidden size."""

    counts: dict[str, Any]
    dims: dict[str, Any]
    note: str = ""
    dims_grow: bool = False


class Heads:
    """The head counts and dimensions of one config, and how they can follow its hidden size.

    Fields in ``own`` were set by the user: they are left alone, and the others must fit them.  Those in ``follow`` the
    user lets follow the hidden size, at these ratios.  ``written``: fields that a file gives.
    """

    def __init__(
        self,
        config: Any,
        size: int,
        own: dict[str, Any],
        follow: Optional[dict[str, Fraction]] = None,
        written: Collection[str] = (),
    ) -> None:
        known = sizes(config, written)
        self.follow = follow or {}
        main = own_name(config, "num_attention_heads")
        self.size = size
        self.own = own
        self.groups = own.get("n_groups", getattr(config, "n_groups", None)) if "n_groups" in settable(config) else None
        self.counts = {field: known[field] for field in dict.fromkeys((main, *HEAD_COUNTS)) if field in known}
        self.dims = {field: known[field] for field in HEAD_DIMS if field in known}
        self.main = next(iter(self.counts), "")
        if not self.main:
            return
        self.main_dim = next(iter(self.dims), None)
        self.given_dim = next((own[field] for field in HEAD_DIMS if own.get(field)), None)
        self.count = first(self.counts[self.main])
        self.dimension = Fraction(first(next(iter(self.dims.values())))) if self.dims else Fraction(size, self.count)
        for field in HEAD_DIM_FOLLOWERS:
            if field in settable(config) and getattr(config, field, None) == self.dimension:
                self.dims[field] = getattr(config, field)

    def choose(self, sizes: list[Fraction]) -> Optional[Choice]:
        """The first choice that is whole at all hidden ``sizes``."""
        if self.main in self.own:
            return self._growing_dims(sizes, Fraction(first(self.own[self.main])))
        inner = self.count * self.dimension / self.size
        if (dim := next((field for field in HEAD_DIMS if field in self.follow), None)) is not None:
            return self._growing_dims(sizes, inner / self.follow[dim])
        if self.main in self.follow:
            own = self.follow[self.main]
            dimension = Fraction(self.given_dim) if self.given_dim else inner / own
            counts, dims = self._counts(own), self._dims(dimension)
            return Choice(counts, dims) if self._fits(counts, dims, sizes) else None
        return next(self._with_heads(sizes), None)

    def _counts(self, main: Fraction) -> dict[str, Any]:
        """All head counts, in the config's ratios to a main one of ``main``."""
        return self._in_ratio(self.counts, main / self.count)

    def _dims(self, main: Fraction) -> dict[str, Any]:
        """All head dimensions, in the config's ratios to a main one of ``main``."""
        return self._in_ratio(self.dims, main / self.dimension)

    def _in_ratio(self, fields: dict[str, Any], ratio: Fraction) -> dict[str, Any]:
        scaled = {
            name: mapped(value, lambda item: item * ratio) for name, value in fields.items() if name not in self.own
        }
        return {**scaled, **{name: ratio for name, ratio in self.follow.items() if name in fields}}

    def _inner_ratios(self) -> list[tuple[Fraction, str]]:
        """heads x head dimension over hidden size: the config's own, else 1."""
        own = self.count * self.dimension / self.size
        if own == 1 or self.main_dim is None:
            return [(own, "")]
        return [
            (own, ""),
            (Fraction(1), f", heads times head dimension 1*n (the config's own ratio is {float(own):.4g})"),
        ]

    def _with_heads(self, sizes: list[Fraction]) -> Iterator[Choice]:
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
                yield Choice(counts, dims, note)

    def _fits(self, counts: dict[str, Any], dims: dict[str, Any], sizes: list[Fraction]) -> bool:
        if not all(item.denominator == 1 for value in dims.values() for item in items(value)):
            return False
        for size in sizes:
            values = [item * size for value in counts.values() for item in items(value)]
            if not all(value.denominator == 1 and value >= FEWEST_HEADS for value in values):
                return False
            main = first(counts[self.main]) * size
            shared = [first(self.own[field]) for field in HEAD_COUNTS if field != self.main and self.own.get(field)]
            if any(main % count or main == count for count in shared):  # as many heads as shared ones is another graph
                return False
            if self.groups and (main % self.groups or main < FEWEST_HEADS * self.groups):
                return False
        return True

    def _growing_dims(self, sizes: list[Fraction], count: Fraction) -> Optional[Choice]:
        """``count`` heads at every width, head dimensions in proportion to the hidden size."""
        counts = self._counts(count)
        if not all(item.denominator == 1 and item >= 1 for value in counts.values() for item in items(value)):
            return None
        for ratio, ratio_note in self._inner_ratios():
            dimension = ratio / count
            dims = self._dims(dimension)
            every = [item * size for value in (*dims.values(), dimension) for item in items(value) for size in sizes]
            if all(value.denominator == 1 and value % 2 == 0 for value in every) and dimension * min(sizes) >= 4:
                return Choice(counts, dims, ratio_note.removeprefix(", "), dims_grow=True)
        return None


def _powers_below(value: Fraction) -> list[Fraction]:
    powers = [Fraction(2**k) for k in range(20, -1, -1)]
    return [power for power in powers if SMALLEST_HEAD_DIM <= power < value]
