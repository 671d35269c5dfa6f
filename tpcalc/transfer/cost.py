"""Floating point operations of training, and what tuning at a small size costs as a share of one large run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tpcalc.algebra.scales import Place, place_text
from tpcalc.errors import TpcalcError
from tpcalc.trace.record import flops_of, record
from tpcalc.trace.target import call_factory, name_of
from tpcalc.transfer.training import with_a_batch

__all__ = ["Cost", "flops"]


def flops(factory: Callable[..., Any], place: Place) -> int:
    """Of one step, forward and backward, on the inputs of the factory (of several batches the first).

    It is counted on a trace (:func:`~tpcalc.trace.record.flops_of`), which takes no memory and seconds for hundreds of
    billions of parameters.  Experts that tokens are routed to count as if each had all of them, as a trace can't know.

    Raises TpcalcError where the factory fails, or the model can't be traced or has nothing that is counted.
    """
    given = partial(call_factory, with_a_batch(factory), place)
    found = flops_of(record(given, place, activation_grads=False, sources=False))
    if not found:
        raise TpcalcError(
            f"{name_of(factory)} gives a model without products of matrices at {place_text(place)}, in which the cost "
            f"of training is counted; check its inputs"
        )
    return found


@dataclass(frozen=True)
class Cost:
    """FLOPs.  ``base``, ``target``: of one step at the size where tuning is done, and at the largest.  ``spent``: of
    all tuning.  ``steps``: of the one run at the largest that it is for."""

    base: int
    target: int
    spent: float
    steps: int

    @staticmethod
    def of(base: int, target: int, taken: int, steps: int) -> Cost:
        """``taken``: steps of all runs at the base together, which may differ in length."""
        return Cost(base, target, float(base * taken), steps)

    @property
    def share(self) -> float:
        """What was spent, over one run at the target."""
        return self.spent / (self.target * self.steps)

    def __str__(self) -> str:
        percent = 100 * self.share
        return f"{percent:.0f}% of one target run" if percent >= 10 else f"{percent:.2g}% of one target run"
