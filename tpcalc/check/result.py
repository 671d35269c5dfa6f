"""Measured slopes beside predicted orders, with a verdict.  Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional, Union

from tpcalc.algebra.order import MINUS_INFINITY, Order, order_text
from tpcalc.check.settings import OWN
from tpcalc.check.slopes import Slope
from tpcalc.optimizers import finite
from tpcalc.show import Shown
from tpcalc.verify.findings import ERROR, Finding

QUANTITIES = ("init", "change", "gradient", "effect", "propagated")

#: Why a slope passes that is off by more than the tolerance.
UNSURE = "off by more than the tolerance, but by no more than its noise; more seeds would tell"
FADES = (
    "off as predicted while what branches add at init fades beside what streams start from; larger depths would tell"
)


@dataclass(frozen=True)
class Entry:
    """One comparison.

    ``quantity``: ``init`` or ``change`` of a value, ``gradient`` or own ``effect`` of a weight, or what is
    ``propagated`` to its result (of set-ups).  ``wanted``: the order
    that the derived rules promise; ``predicted``: what the calculus expects of the parametrization that ran (the same
    one for ``derived``).  ``floor``: for an effect, the order it must reach.  ``sizes``: rms at each width, averaged
    over seeds in the logarithm.  ``verdict``: ``ok``, ``above`` (the slope exceeds what is wanted), ``below`` (an
    effect that does not reach it) or ``skipped``.
    """

    quantity: str
    subject: str
    module: str
    where: str
    predicted: Order
    wanted: Order
    slope: Optional[Slope]
    sizes: tuple[float, ...]
    verdict: str
    reason: str = ""
    floor: Optional[Order] = None
    op: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict in ("above", "below")

    @property
    def excess(self) -> Optional[float]:
        """Slope minus wanted order."""
        if self.slope is None or self.wanted is MINUS_INFINITY:
            return None
        return self.slope.value - float(finite(self.wanted))

    def data(self) -> dict[str, Any]:
        """What its entry in the document holds."""
        measured = (None, None) if self.slope is None else (_number(self.slope.value), _number(self.slope.error))
        return {**vars(self), "slope": measured[0], "error": measured[1], "rms": [_number(size) for size in self.sizes]}

    def __str__(self) -> str:
        slope = "none" if self.slope is None else f"{self.slope.value:+.2f} +- {self.slope.error:.2f}"
        where = f" ({self.where})" if self.where else ""
        text = f"{self.quantity} of {self.subject}{where}: slope {slope}, wanted {order_text(self.wanted)}"
        if self.predicted != self.wanted:
            text += f", predicted {order_text(self.predicted)}"
        if self.verdict == "below" and self.floor is not None and self.floor != self.wanted:
            text += f", at least {order_text(self.floor)}"
        return text + (f"; {self.reason}" if self.reason else "")


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """What a check found.  ``ok`` if no measured slope left its prediction by more than ``tolerance``.

    ``slower``: what all learning rates were multiplied by.  ``trouble``: what makes it no training at all; never ok.
    ``name``, ``findings``: of a set-up, with what its verification found; never ok with an error.
    ``scale``: what moved, of several scales, and ``base``: where all of them started; ``widths`` are its values.
    """

    entries: tuple[Entry, ...]
    parametrization: str
    optimizer: str
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    tolerance: float
    slower: float
    losses: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trouble: str = ""
    name: str = ""
    findings: tuple[Finding, ...] = ()
    scale: str = "width"
    base: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def failures(self) -> tuple[Entry, ...]:
        """The failed entries; the furthest off first."""
        return tuple(sorted((e for e in self.entries if e.failed), key=lambda e: -abs(e.excess or 0.0)))

    @property
    def ok(self) -> bool:
        return not (self.failures or self.trouble or any(finding.severity == ERROR for finding in self.findings))

    @property
    def own(self) -> bool:
        """Whether a set-up was trained as it is."""
        return self.parametrization == OWN

    @property
    def skipped(self) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.verdict == "skipped")

    @property
    def compared(self) -> int:
        """How many slopes were compared."""
        return len(self.entries) - len(self.skipped)

    def of(self, quantity: str, subject: Optional[str] = None) -> Iterator[Entry]:
        """The entries of one quantity, and of one subject (a weight's or value's name)."""
        return (e for e in self.entries if e.quantity == quantity and subject in (None, e.subject))

    def json(self) -> dict[str, Any]:
        """The document of ``tpcalc check --format json``."""
        from tpcalc.document.check import CheckDocument

        return CheckDocument.of(
            self,
            schema="tpcalc.check/1",
            ok=self.ok,
            compared=self.compared,
            failed=len(self.failures),
            skipped=len(self.skipped),
            losses={str(width): [_number(loss) for loss in losses] for width, losses in self.losses.items()},
            entries=[entry.data() for entry in self.entries],
        ).data()


@dataclass(frozen=True, repr=False)
class ScaledResult(Shown):
    """What a check along several scales found: one result for each that moved.  ``ok`` if all are."""

    rays: tuple[Result, ...]

    def __getitem__(self, scale: str) -> Result:
        return next(ray for ray in self.rays if ray.scale == scale)

    @property
    def ok(self) -> bool:
        return all(ray.ok for ray in self.rays)

    @property
    def failures(self) -> tuple[Entry, ...]:
        """The failed entries along each scale; the furthest off first."""
        return tuple(entry for ray in self.rays for entry in ray.failures)

    @property
    def own(self) -> bool:
        return False

    def json(self) -> dict[str, Any]:
        """The document of ``tpcalc check --format json`` along several scales."""
        from tpcalc.document.check import ScaledCheckDocument

        rays = [{"scale": ray.scale, "base": ray.base, "check": ray.json()} for ray in self.rays]
        return ScaledCheckDocument.model_validate({"schema": "tpcalc.check/2", "ok": self.ok, "rays": rays}).data()


def result_json(result: Union[Result, ScaledResult]) -> dict[str, Any]:
    """The document of either."""
    return result.json()


def _number(x: float) -> Optional[float]:
    """Six digits; None for what JSON cannot hold."""
    return float(f"{x:.6g}") if math.isfinite(x) else None
