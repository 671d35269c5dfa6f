"""The distribution of the entries of a tensor: draws, constants, data, and mixtures of them.

``mean`` and ``std`` follow closed formulas; where these don't reach, a law is worked with through its quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch.utils._python_dispatch import _disable_current_modes

from tpcalc.program.ir import InitLaw

__all__ = [
    "GRID", "Law", "Norm", "Uniform", "blend", "constant", "independent", "measured_law", "mixture", "normal",
    "of_entries", "of_moments", "probabilities", "truncated_normal", "truncated_normal_moments", "uniform", "unknown",
]  # fmt: skip

#: Points of the quantile grid on which non-affine pointwise ops are evaluated.
GRID = 4096


@dataclass(frozen=True)
class Law:
    """Distribution of the entries of a tensor; if it is not ``known``, ``call`` says why.

    ``quantiles`` yields real float64 entries representative of the law, or None.  Laws with the same
    ``source`` are functions of the same draw, entry by entry; different sources are independent.  ``drawn``: made of
    random numbers, not of data.
    """

    mean: float
    std: float
    call: str
    quantiles: Optional[Callable[[], Optional[torch.Tensor]]] = None
    source: Any = field(default_factory=object)
    known: bool = True
    drawn: bool = False

    @property
    def is_constant(self) -> bool:
        return self.known and self.std == 0.0

    @property
    def square(self) -> float:
        """Mean of the squares of the entries."""
        return self.std**2 + self.mean**2

    def sample(self) -> Optional[torch.Tensor]:
        """Representative entries, real even while everything else is fake; None if there are none."""
        with _disable_current_modes():
            if self.is_constant:
                return torch.full((1,), self.mean, dtype=torch.float64)
            return self.quantiles() if self.quantiles is not None else None

    def affine(self, scale: float, shift: float, call: str) -> "Law":
        """Law of ``scale * x + shift``."""
        if not self.known:
            return self
        inner = self.quantiles

        def quantiles() -> Optional[torch.Tensor]:
            entries = inner() if inner is not None else None
            return None if entries is None else entries * scale + shift

        moved = quantiles if inner is not None else None
        return Law(scale * self.mean + shift, abs(scale) * self.std, call, moved, self.source, drawn=self.drawn)

    def scaled(self, factor: float, suffix: str = "") -> "Law":
        """Law of ``factor * x``; ``suffix`` says so behind the call."""
        if factor == 1.0:
            return self
        if self.is_constant:
            return constant(self.mean * factor, f"constant_({self.mean * factor:.6g})")
        if factor == 0.0:
            return constant(0.0, "zeros_()")
        return self.affine(factor, 0.0, self.call + (suffix or f" * {factor:.6g}"))

    def summary(self) -> InitLaw:
        if not self.known or not math.isfinite(self.mean) or not math.isfinite(self.std):
            return InitLaw("unknown", call=self.call)
        return InitLaw("random" if self.std else "constant", self.std, self.mean, self.call, self.drawn)


def unknown(why: str) -> Law:
    return Law(0.0, 0.0, why, known=False)


def constant(value: float, call: str) -> Law:
    return Law(float(value), 0.0, call)


def of_moments(
    mean: float,
    square: float,
    call: str,
    quantiles: Optional[Callable[[], Optional[torch.Tensor]]] = None,
    drawn: bool = False,
) -> Law:
    """The law of this mean and mean square."""
    return Law(mean, math.sqrt(max(square - mean * mean, 0.0)), call, quantiles, drawn=drawn)


# -- draws -----------------------------------------------------------------------------------------


def probabilities() -> torch.Tensor:
    return (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID


def normal(mean: float, std: float, call: str) -> Law:
    return Law(mean, abs(std), call, lambda: torch.special.ndtri(probabilities()) * std + mean, drawn=True)


def uniform(low: float, high: float, call: str) -> Law:
    spread = abs(high - low) / math.sqrt(12.0)
    entries, source = lambda: probabilities() * (high - low) + low, Uniform(low, high)
    return Law((low + high) / 2, spread, call, entries, source, drawn=True)


@dataclass(frozen=True, eq=False)
class Uniform:
    """Source of a uniform draw; its bounds make ``erfinv`` of it, the classical truncated normal, exact."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Norm:
    """Source of the norms of rows of ``count`` entries; dividing by them leaves entries of rms ``1/sqrt(count)``."""

    of: Any
    count: int


def independent(x: Law, y: Law) -> bool:
    """A transpose counts as independent of its tensor: off the diagonal it is."""
    return x.source is not y.source and x.source != y.source


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0


def _interval_probability(low: float, high: float) -> float:
    """``P(low < z < high)`` of a standard normal, accurate in the tails."""
    if low > 0:
        return (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))) / 2
    if high < 0:
        return (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2))) / 2
    return (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2


def truncated_normal_moments(mean: float, std: float, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of ``N(mean, std^2)`` conditioned on ``low <= x <= high``."""
    if std == 0:
        return mean, 0.0
    alpha, beta = (low - mean) / std, (high - mean) / std
    mass = _interval_probability(alpha, beta)
    if mass <= 0.0:
        nearest = min(max(mean, low), high)
        return nearest, 0.0
    shift = (_density(alpha) - _density(beta)) / mass

    def edge(x: float) -> float:
        return x * _density(x) if math.isfinite(x) else 0.0

    variance = 1 + (edge(alpha) - edge(beta)) / mass - shift * shift
    return mean + std * shift, std * math.sqrt(max(variance, 0.0))


def truncated_normal(mean: float, std: float, low: float, high: float, call: str) -> Law:
    def quantiles() -> torch.Tensor:
        bounds = torch.tensor([low, high], dtype=torch.float64)
        a, b = torch.special.ndtr((bounds - mean) / std)
        return (torch.special.ndtri(a + (b - a) * probabilities()) * std + mean).clamp(low, high)

    return Law(*truncated_normal_moments(mean, std, low, high), call, quantiles, drawn=True)


def of_entries(values: torch.Tensor, call: str) -> Law:
    """The law of known entries."""
    flat = values.detach().to(torch.float64).flatten()
    if flat.numel() == 0:
        return constant(0.0, call)
    mean = float(flat.mean())
    if bool((flat == flat[0]).all()):
        return constant(float(flat[0]), call)
    return Law(mean, float(flat.std(correction=0)), call, lambda: flat)


def mixture(parts: Iterable[tuple[int, Law]]) -> Law:
    """Law of a tensor of which ``count`` entries follow each law."""
    given = [(count, law) for count, law in parts if count > 0]
    if any(not law.is_constant for _, law in given):
        given = [(count, law) for count, law in given if not law.is_constant or law.mean]
    if not given:
        return constant(0.0, "no entries")
    first = given[0][1]
    for _, law in given:
        if not law.known:
            return law
    alike = all((law.mean, law.std) == (first.mean, first.std) for _, law in given)
    return first if alike else blend(given)


def blend(parts: list[tuple[int, Law]]) -> Law:
    """Law of a tensor whose entries follow these laws, with none left out."""
    total = sum(count for count, _ in parts)
    mean = sum(count * law.mean for count, law in parts) / total
    square = sum(count * law.square for count, law in parts) / total
    call = " and ".join(dict.fromkeys(law.call for _, law in parts))
    drawn = all(law.drawn for _, law in parts)
    return of_moments(mean, square, f"parts: {call}" if len(call) < 200 else "parts", drawn=drawn)


def measured_law(tensor: torch.Tensor) -> InitLaw:
    """The law of a real tensor from its entries: where the code's init can't be read, a small instance is measured.

    A mean within four standard errors of zero is taken for zero.
    """
    entries = tensor.detach().to(torch.float64).flatten()
    if entries.numel() == 0:
        return InitLaw("unknown", call="no entries")
    if bool((entries == entries[0]).all()):
        return InitLaw("constant", 0.0, float(entries[0]), "measured")
    mean, std = float(entries.mean()), float(entries.std(correction=0))
    if not math.isfinite(std):
        return InitLaw("unknown", call="measured: not finite")
    if abs(mean) < 4 * std / math.sqrt(entries.numel()):
        mean, std = 0.0, math.sqrt(mean * mean + std * std)
    return InitLaw("random", std, mean, "measured")
