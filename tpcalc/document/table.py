"""The scaling table as JSON: a documented, versioned schema shared by tables and ``multipliers.json``.

Every parameter stands under its own full name, tied ones included; exponents are text (``"1/2"``), multipliers are
numbers and null in a table, whose ``scale`` has no base and target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

from pydantic import Field

from tpcalc.calculus.alignment import ALIGNMENTS
from tpcalc.derive.gauge import EXPERTS, GAUGES, OF_DEPTH, WRITTEN_IN
from tpcalc.document.model import Count, Exponent, Number, OneOf, OrderText, Row, Several, SizeText

if TYPE_CHECKING:  # reading a document needs nothing of what derives one
    from tpcalc.derive.result import Parametrization, Rule

SCHEMA = "tpcalc/1"


class ScaleRow(Row):
    symbol: str
    """the scale symbol, n"""
    base: Optional[int]
    """width the hyperparameters were tuned at"""
    target: Optional[int]
    """width the multipliers are for"""


class Lengths(Row):
    """true lengths at base and target width"""

    base: Optional[list[Count]]
    target: Optional[list[Count]]


class Place(Row):
    base: Optional[Count]
    target: Optional[Count]


class InitSize(Row):
    """std or mean of the init; the mean is that of a norm's gain, whose std is 0"""

    base: Number
    """what the code gives at base width"""
    target: Number
    """what is wanted at target width"""
    code_at_target: Number
    """what the code gives at target width"""


class SliceNumbers(Row):
    init: Number
    """on the block as the code initialises it"""


class Numbers(Row):
    init: Number
    """on the parameter as the code initialises it, unless slices have their own"""
    lr: Number
    """on the learning rate tuned at base width"""
    weight_decay: Number
    """on the weight decay tuned at base width"""
    eps: Number
    """on the epsilon of base width; null without one"""
    clip: Number
    """on the gradient where the global norm is measured"""
    forward: Number = None
    """on the weight in the forward pass; 1 in the gauge init"""


#: How the code draws a parameter; other: by anything but one plain distribution.
Drawn = Literal["normal", "uniform", "constant", "other"]

_NOWHERE = Place(base=None, target=None)
_NO_SIZE = InitSize(base=None, target=None, code_at_target=None)


class SliceRow(Row):
    """start <= index < start + length along axis dim; numbers are null in a table"""

    dim: Count
    start: SizeText
    length: SizeText
    role: str
    A: Exponent
    C: Exponent
    b: Optional[Exponent]
    c: Optional[Exponent]
    """what it needs; it is trained with that of the weight"""
    start_at: Place = _NOWHERE
    length_at: Place = _NOWHERE
    init_std: InitSize = _NO_SIZE
    init_mean: InitSize = _NO_SIZE
    multipliers: SliceNumbers = SliceNumbers(init=None)


class WeightRow(Row):
    name: str
    """fully-qualified parameter name"""
    shape: Several[SizeText]
    """sizes as text, e.g. 4*n"""
    role: Literal["input", "hidden", "output", "vector", "scalar", "frozen", "unused"]
    a: Exponent
    """forward multiplier ~ n^-a"""
    b: Exponent
    """init std ~ n^-b"""
    c: Exponent
    """learning rate ~ n^-c"""
    weight_decay: Exponent
    """weight decay ~ n^x"""
    eps: Optional[Exponent]
    """epsilon ~ n^x; null where the optimizer has none"""
    A: Exponent
    """effective init order, a + b"""
    C: Exponent
    """effective update order"""
    gradient: OrderText
    """gradient ~ n^x; -oo where it is zero"""
    trainable: bool
    tied_to: Optional[str]
    """first name of the weight this one is tied to"""
    aliases: Several[str]
    """other names of a tied weight"""
    reason: str
    slices: Several[SliceRow]
    """blocks of a packed weight with an init of their own; they share the rest, the safest of each"""
    optimizer: Optional[str]
    """the update law that trains it"""
    shape_at: Lengths
    init_law: Optional[Drawn]
    """how the code draws it; other: by anything but one plain distribution"""
    init_std: InitSize
    init_mean: InitSize
    multipliers: Numbers


class ClippingRow(Row):
    """clipping by the global gradient norm"""

    norm: OrderText
    """global gradient norm ~ n^x, and so must a plain threshold"""
    dominated_by: Several[str]
    """the weights whose gradients make it"""


class SiteRow(Row):
    """a place that needs a forward multiplier because no weight can absorb the excess"""

    op: str
    module: str
    source: str
    found: OrderText
    needed: OrderText
    message: str


class TableDocument(Row):
    """Printed by `tpcalc table --format json`; its numbers are null, and filled in by `tpcalc export`.

    Exponents are exact rationals as text. `a`, `b`, `c` are each x in "quantity ~ n^-x"; `weight_decay`, `eps` and
    `gradient` are each x in "quantity ~ n^x".
    """

    version: Literal["tpcalc/1"] = Field(alias="schema")
    optimizer: str
    """an update law, or a recipe such as muon+adamw"""
    gauge: Annotated[str, OneOf((*GAUGES, OF_DEPTH))] = "init"
    """representative of the abc orbit; init: no forward multipliers"""
    parametrization: Annotated[str, OneOf(("derived", *WRITTEN_IN))] = "derived"
    """derived, or the given init under which learning rates are the largest stable ones"""
    alignment: Annotated[str, OneOf(tuple(ALIGNMENTS))] = "full"
    experts: Annotated[str, OneOf(EXPERTS)] = "mup"
    """init of the last weights of experts; mup: as derived"""
    scale: ScaleRow
    weights: list[WeightRow]
    clipping: ClippingRow = ClippingRow(norm="-oo", dominated_by=[])
    sites: Several[SiteRow]
    assumptions: Several[str]
    notes: Several[str]
    conventions: Several[str]


def table_json(parametrization: Parametrization) -> dict[str, Any]:
    """The document; a caller with exact numbers fills ``scale`` and, for each weight, all that is null."""
    scale = {"symbol": parametrization.symbol, "base": None, "target": None}
    weights = [weight_row(name, rule) for name, rule in parametrization.rules.items()]
    return TableDocument.of(parametrization, schema=SCHEMA, scale=scale, weights=weights).data()


def identity(name: str, rule: Any) -> dict[str, Any]:
    """What says which parameter an entry is, of a rule in one scale or in several; ``name`` may be an alias."""
    return {
        "name": name,
        "tied_to": None if name == rule.name else rule.name,
        "aliases": [other for other in (rule.name, *rule.aliases) if other != name],
        "optimizer": rule.optimizer or None,
    }


def weight_row(name: str, rule: Rule) -> WeightRow:
    """The entry of one parameter; ``name`` may be an alias of a tied weight."""
    return WeightRow.of(
        rule,
        **identity(name, rule),
        shape_at={"base": None, "target": None},
        init_law=None,
        init_std=_NO_SIZE,
        init_mean=_NO_SIZE,
        multipliers=dict.fromkeys(Numbers.model_fields),
    )
