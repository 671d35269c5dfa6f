"""Fields that the user lets follow the width: ``8/3*n``, ``n/64``, ``2*n + 128``."""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.errors import TargetError

__all__ = ["Formula", "formula"]

_OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Formula:
    """A whole number as a function of the width ``n``; ``text`` as it was written."""

    text: str

    def value(self, width: int) -> Fraction:
        """Exact, and perhaps no whole number; TargetError where it divides by zero."""
        try:
            return _value(ast.parse(self.text, mode="eval").body, Fraction(width))
        except ZeroDivisionError:
            raise TargetError(f"{self.text} divides by zero at width {width}; write another formula") from None

    def at(self, width: int, field: str) -> int:
        """The field at a width; TargetError where it is no whole number above 0."""
        value = self.value(width)
        if value.denominator != 1 or value < 1:
            raise TargetError(
                f"{field}={self.text} would be {float(value):g} at width {width}; choose widths at which it is a "
                f"positive whole number"
            )
        return int(value)

    @property
    def ratio(self) -> Optional[Fraction]:
        """``c`` of ``c*n``; None for another formula."""
        first = self.value(1)
        return first if all(self.value(width) == first * width for width in (2, 3, 5)) else None

    def __str__(self) -> str:
        return self.text


def formula(text: str) -> Optional[Formula]:
    """None for text that is no arithmetic in ``n``: a number, a name, a list."""
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Constant, ast.Name, ast.Load, *_OPERATIONS)
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    numbers = [node.value for node in nodes if isinstance(node, ast.Constant)]
    plain = all(type(number) in (int, float) for number in numbers) and all(isinstance(node, allowed) for node in nodes)
    return Formula(text) if plain and names == {"n"} else None


def _value(node: ast.AST, n: Fraction) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, n), _value(node.right, n))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, n)
    return Fraction(str(node.value)) if isinstance(node, ast.Constant) else n
