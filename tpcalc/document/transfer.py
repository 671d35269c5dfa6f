"""What ``tpcalc transfer --format json`` prints: a sweep of the learning rate at several sizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BeforeValidator, Field

from tpcalc.document.model import Count, Row, Several
from tpcalc.document.reading import parsed, validated
from tpcalc.errors import TpcalcError


def measured(value: Any) -> Any:
    """Six digits; None for what JSON can't hold."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


Measured = Annotated[Optional[float], BeforeValidator(measured)]


class CurveRow(Row):
    """one parametrization at one size"""

    optimum: Measured
    """learning rate, as at the base; null where every rate has a run that diverged"""
    error: Measured
    """standard error of the optimum over seeds, in log2; null of one seed and at an edge"""
    edge: bool
    """the optimum is an end of the grid, beyond which better ones may lie"""
    loss: Measured
    """mean over seeds at the best rate that was tried"""
    loss_error: Measured
    """its standard error"""
    diverged: Count
    """runs"""
    rates: Several[float]
    losses: Several[Several[Measured]]
    """of each seed, at each rate; null where the run diverged"""


class SizeRow(Row):
    """one size, under each parametrization that was run there"""

    scales: dict[str, int]
    standard: Optional[CurveRow]
    """the code's own init and one learning rate"""
    derived: Optional[CurveRow]
    """the multipliers of tpcalc"""
    tuned: Optional[CurveRow]
    """these with the constants of a recipe"""
    unscaled: Optional[CurveRow]
    """those constants alone"""


class DriftRow(Row):
    """log2 of the optimum at the largest size over that at the smallest"""

    standard: Measured
    derived: Measured
    tuned: Measured
    unscaled: Measured


class BehindRow(Row):
    """how much more loss one has than another at its own best, at the largest size"""

    difference: Measured
    """null where either diverged"""
    error: Measured
    """standard error of the difference"""
    no_worse: bool
    """within one standard error"""


class EndingRow(Row):
    """one parametrization at the largest size; null where a run diverged"""

    rate: float
    """best of those tried at the smallest size"""
    carried: Measured
    """loss with it"""
    carried_error: Measured
    """standard error of the loss, over seeds"""
    best_rate: float
    """best of those tried here"""
    best: Measured
    """loss with it"""
    best_error: Measured
    against_standard: Optional[BehindRow]
    """carried, against the standard one at its own best"""
    against_unscaled: Optional[BehindRow]
    """carried, against the constants alone at their own best"""


class LargestRow(Row):
    scales: dict[str, int]
    standard: Optional[EndingRow]
    derived: Optional[EndingRow]
    tuned: Optional[EndingRow]
    unscaled: Optional[EndingRow]


class CostRow(Row):
    """floating point operations"""

    base: Count
    """of one step at the smallest size"""
    target: Count
    """of one step at the largest size"""
    spent: float
    """of all tuning"""
    steps: Count
    """of the one run at the largest size"""
    share: float
    """what was spent, over that run"""


class AdviceRow(Row):
    """a constant that helps at the base"""

    module: str
    kind: str
    factor: float
    loss: Measured
    """at the base, with it"""
    before: Measured
    """and without"""
    error: Measured = 0.0
    """standard error of the difference, over seeds"""


class TransferDocument(Row):
    """Printed by `tpcalc transfer --format json`. Measured numbers have six digits."""

    version: Literal["tpcalc.transfer/1"] = Field(alias="schema")
    name: str
    optimizer: str
    steps: Count
    seeds: Count
    sizes: list[SizeRow]
    """the smallest first"""
    drift: DriftRow
    drift_error: DriftRow
    """standard errors over seeds"""
    at_largest: LargestRow
    cost: Optional[CostRow]
    """of the sweep at the smallest size; null where it could not be counted"""
    advice: list[AdviceRow]
    """where derived rules lose, the best first"""
    notes: Several[str]


VERSION = "tpcalc.transfer/1"
#: In the directory that ``tpcalc transfer -o`` writes.
FILE = "transfer.json"

_AGAIN = "write it again with tpcalc transfer -o"


def read(path: Union[str, Path]) -> TransferDocument:
    """The document in a file, or in the directory of a sweep.

    Raises TpcalcError, in one sentence, where it is missing, corrupt or something else.
    """
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    data = parsed(path, _AGAIN)
    if not isinstance(data, dict) or data.get("schema") != VERSION:
        raise TpcalcError(f"{path} is no sweep of tpcalc; {_AGAIN}")
    return validated(TransferDocument, data, path, VERSION, _AGAIN)


NAMES = ("standard", "derived", "tuned", "unscaled")


def transfer_json(transfer: Any) -> dict[str, Any]:
    """The document of a :class:`tpcalc.transfer.result.Transfer`."""
    sizes = [
        {"scales": dict(place), **{name: _curve(transfer.find(name, place)) for name in NAMES}}
        for place in transfer.places
    ]
    return TransferDocument.of(
        transfer,
        schema=VERSION,
        sizes=sizes,
        drift={name: transfer.drift(name) for name in NAMES},
        drift_error={name: transfer.drift_error(name) for name in NAMES},
        at_largest={"scales": dict(transfer.places[-1]), **{name: _ending(transfer, name) for name in NAMES}},
        cost=transfer.cost and CostRow.of(transfer.cost, share=transfer.cost.share),
        advice=[AdviceRow.of(advice) for advice in transfer.advice],
    ).data()


def _curve(curve: Any) -> Optional[CurveRow]:
    if curve is None:
        return None
    rate = curve.rates[curve.best]
    found = vars(curve.optimum) if curve.optimum is not None else {"rate": None, "error": None, "edge": False}
    (loss, loss_error), diverged = curve.at(rate), curve.diverged
    more = {"optimum": found["rate"], "error": found["error"], "edge": found["edge"]}
    return CurveRow.of(curve, **more, loss=loss, loss_error=loss_error, diverged=diverged)


def _ending(transfer: Any, name: str) -> Optional[EndingRow]:
    ending = transfer.ending(name)
    if ending is None:
        return None
    against = {f"against_{other}": _behind(transfer.behind(name, other)) for other in ("standard", "unscaled")}
    return EndingRow.of(ending, **against)


def _behind(behind: Any) -> Optional[BehindRow]:
    return None if behind is None else BehindRow.of(behind, no_worse=behind.no_worse)
