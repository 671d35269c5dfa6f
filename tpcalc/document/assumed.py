"""The block ``assumed`` of a document: a stated rule for batch size and training length, apart from what is derived."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any, Optional

from pydantic import Field

from tpcalc.document.model import Exponent, Row, Several
from tpcalc.horizon.assumed import LEAST, MOST, Ends, Horizon
from tpcalc.horizon.rules import STEPS, Powers
from tpcalc.horizon.words import formula_text
from tpcalc.optimizers import UpdateLaw

__all__ = ["AssumedRow", "MayAssume", "assumed_json"]

Size = Annotated[float, Field(gt=0)]


class EndsRow(Row):
    base: Size
    target: Size


class FactorRow(Row):
    """what something is multiplied by"""

    powers: dict[str, Exponent]
    """by ratio of target over base: kappa_B of batch sizes, kappa_D of tokens, kappa_N of parameters"""
    formula: str
    """the same for sympy"""
    factor: Annotated[float, Field(gt=LEAST, lt=MOST)]


class LawRow(Row):
    """of one optimizer; on top of the multipliers of every parameter alike"""

    lr: FactorRow
    weight_decay: FactorRow
    eps: Optional[FactorRow]
    """null where the optimizer has none"""
    one_minus_beta: FactorRow
    """on 1 - beta of each average that the optimizer keeps"""


class AssumedRow(Row):
    """a published rule, stated and not derived"""

    rule: str
    exponent: Optional[Exponent]
    """p in "lr ~ kappa_D^-p" at a given batch size; null where the rule has none"""
    batch: EndsRow
    tokens: EndsRow
    parameters: Optional[EndsRow]
    """of the whole model"""
    steps: FactorRow
    """what the rule takes for granted of the number of steps"""
    laws: dict[str, LawRow]
    source: str
    notes: Several[str]
    contradicted: Several[str]
    """by which other sources, and in what"""


class MayAssume(Row):
    """A document in which something may be assumed; where nothing is, it is written as ever."""

    assumed: Optional[AssumedRow] = None
    """a stated rule for batch size and length, on top of all multipliers; left out where nothing is assumed"""

    def data(self) -> dict[str, Any]:
        found = super().data()
        if self.assumed is None:
            del found["assumed"]
        return found


def assumed_json(horizon: Horizon, laws: Sequence[UpdateLaw]) -> dict[str, Any]:
    """As plain data.  Raises ScalingError where a factor is none."""

    def factor(powers: Powers) -> dict[str, Any]:
        return {"powers": powers.by_name, "formula": formula_text(powers), "factor": horizon.factor(powers)}

    return AssumedRow(
        rule=horizon.rule.name,
        exponent=horizon.exponent,  # type: ignore[arg-type]
        batch=_ends(horizon.batch),
        tokens=_ends(horizon.tokens),
        parameters=None if horizon.parameters is None else _ends(horizon.parameters),
        steps=factor(STEPS),  # type: ignore[arg-type]
        laws={
            law.name: {"eps": None, **{key: factor(powers) for key, powers in horizon.quantities(law).items()}}  # type: ignore[misc]
            for law in laws
        },
        source=horizon.rule.source,
        notes=(*horizon.remarks, *(note for law in laws for note in horizon.notes(law))),  # type: ignore[arg-type]
        contradicted=horizon.rule.contradicted,  # type: ignore[arg-type]
    ).data()


def _ends(ends: Ends) -> EndsRow:
    base, target = map(_plain, ends)
    return EndsRow(base=base, target=target)


def _plain(number: Fraction) -> float:
    """A whole number as such."""
    return number.numerator if number.denominator == 1 else float(number)
