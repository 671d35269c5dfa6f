"""The scaling table of several scales as JSON.

Each exponent is an object, symbol of a scale -> exact exponent as text, or null where it is no single product of
powers; ``formulas`` holds every quantity as text that sympy reads (with the symbols as ``locals``: to sympy, ``E`` is
a number).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Optional

from pydantic import Field

from tpcalc.document.model import Count, Exponent, Row, Several, SizeText
from tpcalc.document.table import Drawn, InitSize, Lengths, Numbers, Place, SliceNumbers, identity

if TYPE_CHECKING:  # reading a document needs nothing of what derives one
    from tpcalc.algebra.formula import Formula
    from tpcalc.derive.several import ScaledParametrization, ScaledRule

SCHEMA = "tpcalc/2"

#: Symbol -> exponent; null where a formula is no single product of powers.
Exponents = Optional[dict[str, Exponent]]


class ScaleOf(Row):
    name: str
    """what the factory calls it"""
    symbol: str
    """what formulas call it"""
    depth: bool
    """whether it counts repeated blocks"""


class Formulas(Row):
    """each as x in "quantity ~ x", for sympy"""

    multiplier: str
    init_std: str
    lr: str
    weight_decay: str
    eps: Optional[str]
    """null where the optimizer has none"""


class SliceFormulas(Row):
    init_std: str
    lr: str


class SliceOf(Row):
    """start <= index < start + length along axis dim"""

    dim: Count
    start: SizeText
    length: SizeText
    role: str
    formulas: SliceFormulas


class WeightOf(Row):
    name: str
    """fully-qualified parameter name"""
    shape: Several[SizeText]
    """sizes as text, e.g. h*d"""
    role: Literal["input", "hidden", "output", "vector", "scalar", "frozen", "unused"]
    a: Exponents
    """forward multiplier ~ product of symbol^-a"""
    b: Exponents
    """init std likewise"""
    c: Exponents
    """learning rate likewise"""
    weight_decay: Exponents
    """weight decay ~ product of symbol^x"""
    eps: Exponents
    """epsilon ~ product of symbol^x; null also where the optimizer has none"""
    A: Exponents
    """effective init order, as b"""
    C: Exponents
    """effective update order, as b"""
    formulas: Formulas
    trainable: bool
    tied_to: Optional[str]
    """first name of the weight this one is tied to"""
    aliases: Several[str]
    reason: str
    slices: Several[SliceOf]
    optimizer: Optional[str]


class RangeOf(Row):
    """whole numbers from start up to stop, in steps; as formulas in the depths"""

    start: str
    stop: str
    step: Count


class SlicePattern(Row):
    """start <= index < start + length along axis dim, as formulas"""

    dim: Count
    start: str
    length: str
    init_std: str
    code_init: str


class PatternOf(Row):
    """all parameters of one rule, at every place"""

    name: str
    """each * stands for the whole numbers in blocks"""
    aliases: Several[str]
    blocks: list[RangeOf]
    shape: list[str]
    optimizer: str
    init_law: Drawn
    init_std: float
    """what the code gives at the base"""
    init_mean: float
    code_init: str
    """how what the code gives follows the scales"""
    clip: str
    """on the gradient where the global norm is measured"""
    formulas: Formulas
    slices: list[SlicePattern]


class PeriodOf(Row):
    traced: Count
    """a depth at which the model was traced"""
    step: Count
    """by how much it is deeper with one period more"""


class SiteOf(Row):
    """a place that needs a forward multiplier because no weight can absorb the excess"""

    op: str
    module: str
    source: str
    multiplier: str
    message: str


class ScaledTableDocument(Row):
    """Printed by `tpcalc table --scale ... --scale ... --format json`."""

    version: Literal["tpcalc/2"] = Field(alias="schema")
    optimizer: str
    gauge: str
    alignment: str
    experts: str = "mup"
    """init of the last weights of experts; mup: as derived"""
    scales: Several[ScaleOf]
    points: list[dict[str, Count]]
    """where the model was traced, the base first"""
    cones: list[list[list[int]]]
    """walls v (v . log scales > 0) of each cone in which the derivation was run; together they are all directions"""
    weights: list[WeightOf]
    clipping: Optional[str]
    """global gradient norm ~ this; null where it may be zero"""
    sites: Several[SiteOf]
    assumptions: Several[str]
    notes: Several[str]
    conventions: Several[str]


class NumbersOfSlice(SliceOf):
    start_at: Place
    length_at: Place
    init_std: InitSize
    init_mean: InitSize
    multipliers: SliceNumbers


class NumbersOfWeight(WeightOf):
    slices: Several[NumbersOfSlice]  # type: ignore[assignment]
    shape_at: Lengths
    init_law: Drawn
    """how the code draws it; other: by anything but one plain distribution"""
    init_std: InitSize
    init_mean: InitSize
    multipliers: Numbers


class ScaledMultipliers(ScaledTableDocument):
    """A scaling table of several scales, each parameter of the target in a row, with its numbers between two places."""

    base: dict[str, Count]
    """the value of each scale at which the hyperparameters were tuned"""
    target: dict[str, Count]
    """that which the multipliers are for"""
    periods: dict[str, PeriodOf]
    """by the name of each depth"""
    patterns: Optional[list[PatternOf]]
    """the parameters of the model at every place; null where no formulas give exact numbers"""
    no_patterns: str
    """why there are none"""
    weights: list[NumbersOfWeight]  # type: ignore[assignment]


def scaled_json(rules: ScaledParametrization) -> dict[str, Any]:
    """The document."""
    return ScaledTableDocument.of(
        rules,
        schema=SCHEMA,
        points=[point.by_name for point in rules.points],
        cones=[[list(wall) for wall in walls] for walls in rules.cones],
        weights=[scaled_row(name, rule) for name, rule in rules.items()],
        clipping=None if rules.clipping is None else sympy_text(rules.clipping),
        scales=[ScaleOf(name=s.name, symbol=s.symbol, depth=s.depth) for s in rules.scales],
        sites=[SiteOf.of(site, multiplier=sympy_text(site.multiplier)) for site in rules.sites],
    ).data()


def scaled_row(name: str, rule: ScaledRule) -> WeightOf:
    """The entry of one parameter; ``name`` may be an alias of a tied weight."""
    found = rule.formulas
    powers = {key: None if (own := found[key]) is None else own.monomial for key in ("weight_decay", "eps")}
    return WeightOf.of(
        rule,
        **{key: getattr(rule, key) for key in "abcAC"},
        **powers,
        **identity(name, rule),
        formulas=formulas_of(rule),
        slices=[
            SliceOf.of(piece, formulas={key: sympy_text(own) for key, own in piece.formulas.items()})
            for piece in rule.slices
        ],
    )


def formulas_of(rule: ScaledRule) -> Formulas:
    found = rule.formulas
    return Formulas(
        **{key: None if (own := found[key]) is None else sympy_text(own) for key in Formulas.model_fields}  # type: ignore[arg-type]
    )


@lru_cache(maxsize=4096)
def sympy_text(formula: Formula) -> str:
    """A formula as text that sympy reads."""
    return str(formula.expr)
