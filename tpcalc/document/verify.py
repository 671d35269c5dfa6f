"""What ``tpcalc verify --format json`` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional, Union

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tpcalc.document.model import Exponent, OneOf, OrderText, Row, Several
from tpcalc.dynamics.regime import KERNEL, LEARNING, MAXIMAL, TRIVIAL, UNSTABLE

#: Along several scales an object: symbol of a scale -> exponent.
Powers = Union[Exponent, dict[str, Exponent]]


class FixRow(Row):
    """one change that mends: `quantity` of `target` times n^`by`, or, where nothing is there to multiply, ~ n^`to`"""

    target: str
    """a weight, one block of a packed weight, or the site of a multiplier in the forward pass"""
    quantity: str
    by: Optional[Powers]
    to: Optional[Powers]


class FindingRow(Row):
    """one cause; `found` and `needed` are each x in "`quantity` ~ n^x", null where there is no power"""

    kind: str
    severity: Literal["error", "warning"]
    subject: str
    """the weights, repeated blocks folded, or the site"""
    quantity: str
    found: Optional[Powers]
    needed: Optional[Powers]
    effect: Optional[Union[OrderText, dict[str, Exponent]]]
    """order of what breaks; of an update too small, how much it moves its result"""
    where: str
    """module and source line"""
    trained_by: str
    """group of the optimizer that it is about, and the line that made it; empty where it is about none, or several"""
    message: str
    weights: Several[str]
    """every parameter by its full name"""
    fixes: Several[FixRow]
    """what to change; the fixes of all findings together give a clean report"""


class NeededRow(Row):
    A: Powers
    C: Powers


class BlockRow(Row):
    name: str
    b: Optional[Powers]


class CheckedRow(Row):
    """the exponents that one weight was found to have"""

    name: str
    shape: str
    role: str
    optimizer: Optional[str]
    a: Exponent = "0"
    """forward multiplier ~ n^-a"""
    b: Optional[Powers]
    """init std ~ n^-b"""
    c: Optional[Powers]
    """learning rate ~ n^-c"""
    weight_decay: Optional[Powers]
    """weight decay ~ n^x"""
    eps: Optional[Powers]
    """epsilon ~ n^x"""
    A: Optional[Powers]
    """effective init order"""
    C: Optional[Powers]
    """effective update order"""
    gradient: Union[OrderText, dict[str, Exponent]]
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
    """Printed by `tpcalc verify --format json`. Exponents are exact rationals as text, along several scales (version 2)
    objects of those by the symbol of each scale that grows"""

    version: Literal["tpcalc.verify/1", "tpcalc.verify/2"] = Field(alias="schema")
    ok: bool
    """no errors (with --strict no warnings either)"""
    regime: Annotated[str, OneOf((UNSTABLE, TRIVIAL, KERNEL, LEARNING, MAXIMAL))]
    """what the infinite-width limit does"""
    r: Optional[Powers]
    """features move by n^-r"""
    summary: str
    widths: Several[int]
    scales: dict[str, Several[int]] = {}
    """along several scales, their values; else left out"""
    ran_on: str
    ran_on_reason: str
    findings: Several[FindingRow]
    weights: list[CheckedRow]
    notes: Several[str]
    assumptions: Several[str]

    @model_serializer(mode="wrap")
    def _without_no_scales(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        return data if self.scales else {key: value for key, value in data.items() if key != "scales"}
