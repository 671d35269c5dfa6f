"""What ``tpcalc verify --format json`` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tpcalc.document.model import Exponent, OneOf, OrderText, Row, Several
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, TRIVIAL, UNSTABLE


class FixRow(Row):
    """one change that mends: `quantity` of `target` times n^`by`, or, where nothing is there to multiply, ~ n^`to`"""

    target: str
    """a weight, one block of a packed weight, or the site of a multiplier in the forward pass"""
    quantity: str
    by: Optional[Exponent]
    to: Optional[Exponent]


class FindingRow(Row):
    """one cause; `found` and `needed` are each x in "`quantity` ~ n^x", null where there is no power"""

    kind: str
    severity: Literal["error", "warning"]
    subject: str
    """the weights, repeated blocks folded, or the site"""
    quantity: str
    found: Optional[Exponent]
    needed: Optional[Exponent]
    effect: Optional[OrderText]
    """order of what breaks; of an update too small, how much it moves its result"""
    where: str
    """module and source line"""
    message: str
    weights: Several[str]
    """every parameter by its full name"""
    fixes: Several[FixRow]
    """what to change; the fixes of all findings together give a clean report"""


class NeededRow(Row):
    A: Exponent
    C: Exponent


class BlockRow(Row):
    name: str
    b: Optional[Exponent]


class CheckedRow(Row):
    """the exponents that one weight was found to have"""

    name: str
    shape: str
    role: str
    optimizer: Optional[str]
    a: Exponent = "0"
    """forward multiplier ~ n^-a"""
    b: Optional[Exponent]
    """init std ~ n^-b"""
    c: Optional[Exponent]
    """learning rate ~ n^-c"""
    weight_decay: Optional[Exponent]
    """weight decay ~ n^x"""
    eps: Optional[Exponent]
    """epsilon ~ n^x"""
    A: Optional[Exponent]
    """effective init order"""
    C: Optional[Exponent]
    """effective update order"""
    gradient: OrderText
    """gradient ~ n^x"""
    needed: Optional[NeededRow]
    """the largest that are stable; null for a weight no output depends on"""
    findings: Several[str]
    """kinds of the findings on it"""
    blocks: list[BlockRow] = []
    """blocks of a packed weight with inits of their own; left out where there are none"""

    @model_serializer(mode="wrap")
    def _without_no_blocks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        return data if self.blocks else {key: value for key, value in data.items() if key != "blocks"}


class VerifyDocument(Row):
    """Printed by `tpcalc verify --format json`. Exponents are exact rationals as text."""

    version: Literal["tpcalc.verify/1"] = Field(alias="schema")
    ok: bool
    """no errors (with --strict no warnings either)"""
    regime: Annotated[str, OneOf((UNSTABLE, TRIVIAL, KERNEL, LEARNING, MAXIMAL))]
    """what the infinite-width limit does"""
    r: Optional[Exponent]
    """features move by n^-r"""
    summary: str
    widths: Several[int]
    ran_on: str
    ran_on_reason: str
    findings: Several[FindingRow]
    weights: list[CheckedRow]
    notes: Several[str]
    assumptions: Several[str]
