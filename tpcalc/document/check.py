"""What ``tpcalc check --format json`` prints, along the width and along several scales."""

from __future__ import annotations

from typing import Literal, Optional

from pydantic import Field

from tpcalc.document.model import Count, Number, OrderText, Row, Several
from tpcalc.document.verify import FindingRow


class EntryRow(Row):
    """one comparison of a measured slope with an order"""

    quantity: Literal["init", "change", "gradient", "effect", "propagated"]
    """init or change of a value, gradient or own effect of a weight, what propagates to its result"""
    subject: str
    module: str
    where: str
    """module and source line"""
    op: str
    predicted: OrderText
    """what the calculus expects of the parametrization that ran"""
    wanted: OrderText
    """what the derived rules promise"""
    floor: Optional[OrderText]
    """order that an effect must reach"""
    slope: Number
    error: Number
    rms: list[Number]
    """at each width"""
    verdict: Literal["ok", "above", "below", "skipped"]
    reason: str


class CheckDocument(Row):
    """Printed by `tpcalc check --format json`. Orders are exact rationals as text, measured numbers have six digits."""

    version: Literal["tpcalc.check/1"] = Field(alias="schema")
    ok: bool
    """no measured slope left its prediction, training was one, and verification found no error"""
    parametrization: str
    optimizer: str
    widths: Several[int]
    seeds: Several[int]
    steps: Count
    tolerance: float
    compared: Count
    failed: Count
    skipped: Count
    slower: float
    """what all learning rates were multiplied by"""
    trouble: str
    """what makes it no training at all; empty if nothing does"""
    findings: Several[FindingRow]
    """of a set-up: root causes"""
    losses: dict[str, list[Number]]
    """at each width"""
    entries: list[EntryRow]
    notes: Several[str]


class RayRow(Row):
    """the check along one scale"""

    scale: str
    base: dict[str, int]
    """where all scales started; all but this one stayed there"""
    check: CheckDocument
    """with the values of this scale for widths"""


class ScaledCheckDocument(Row):
    """Printed by `tpcalc check --format json` along several scales: one check for each that moves."""

    version: Literal["tpcalc.check/2"] = Field(alias="schema")
    ok: bool
    rays: list[RayRow]
