"""Fields that follow the width or other scales: ``8/3*n``, ``n/64``, ``2*n + 128``, ``heads*head_dim``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.scales import scales_text
from tpcalc.errors import TargetError

__all__ = ["Formula", "formula", "place_text", "product"]

_OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Formula:
    """A whole number as a function of the width ``n`` and of scales by name; ``text`` as it was written."""

    text: str

    def value(self, values: Mapping[str, int]) -> Fraction:
        """Exact, and perhaps no whole number; TargetError where it divides by zero."""
        try:
            return _value(ast.parse(self.text, mode="eval").body, values)
        except ZeroDivisionError:
            raise TargetError(f"{self.text} divides by zero at {place_text(values)}; write another formula") from None

    def at(self, values: Mapping[str, int], field: str) -> int:
        """The field where scales have these values; TargetError where it is no whole number above 0."""
        value = self.value(values)
        if value.denominator != 1 or value < 1:
            raise TargetError(
                f"{field}={self.text} would be {float(value):g} at {place_text(values)}; choose {_kinds(values)} at "
                f"which it is a positive whole number"
            )
        return int(value)

    @property
    def names(self) -> frozenset[str]:
        """What it depends on."""
        return frozenset(node.id for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.Name))

    @property
    def ratio(self) -> Optional[Fraction]:
        """``c`` of ``c*n``; None for another formula."""
        if self.names != {"n"}:
            return None
        first = self.value({"n": 1})
        return first if all(self.value({"n": width}) == first * width for width in (2, 3, 5)) else None

    def __str__(self) -> str:
        return self.text


def formula(text: str, names: Collection[str] = ("n",)) -> Optional[Formula]:
    """None for text that is no arithmetic in some of ``names``: a number, another name, a list."""
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Constant, ast.Name, ast.Load, *_OPERATIONS)
    nodes = list(ast.walk(tree))
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    numbers = [node.value for node in nodes if isinstance(node, ast.Constant)]
    plain = all(type(number) in (int, float) for number in numbers) and all(isinstance(node, allowed) for node in nodes)
    return Formula(text) if plain and found and found <= set(names) else None


def product(ratio: Fraction, *factors: str, over: str = "") -> Formula:
    """``9*heads*head_dim/8``, ``n/heads``; of no factors a constant."""
    times = "*".join([*([] if ratio.numerator == 1 and factors else [str(ratio.numerator)]), *factors])
    return Formula(
        "/".join([times, *([] if ratio.denominator == 1 else [str(ratio.denominator)]), *([over] if over else [])])
    )


def place_text(values: Mapping[str, int]) -> str:
    """``width 128``, ``heads=2, head_dim=32``: a place in an error."""
    scales = {name: value for name, value in values.items() if name != "n"} or {"width": values["n"]}
    if scales.keys() == {"width"}:
        return f"width {scales['width']}"
    return scales_text(scales)


def _kinds(values: Mapping[str, int]) -> str:
    return "sizes" if values.keys() - {"n", "width"} else "widths"


def _value(node: ast.AST, values: Mapping[str, int]) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, values)
    return Fraction(values[node.id]) if isinstance(node, ast.Name) else Fraction(str(getattr(node, "value", 0)))
