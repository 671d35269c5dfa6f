"""A stand-alone Python file that holds formulas and not numbers: ``multipliers(width=..., depth=...)`` of any target.

Formulas come from a file, so nothing of them is ever executed here: they are read as syntax trees of a few kinds
(:func:`expression`) and written as Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from keyword import iskeyword
from typing import Any

from tpcalc.algebra.scales import scales_text
from tpcalc.errors import ScalingError
from tpcalc.horizon.rules import RATIOS
from tpcalc.horizon.words import ENDS
from tpcalc.scaling.codegen import DATA, FUTURE, RUNTIME, header, literal, tuple_of
from tpcalc.scaling.exported import Exported, weights
from tpcalc.scaling.factors import counted
from tpcalc.scaling.standalone import code, imports

__all__ = ["codegen_formulas", "expression"]

_FOOTER = '''

def multipliers(*, {arguments}) -> Multipliers:
    """Those that carry hyperparameters from BASE to this place{more}."""
    check_place({place}, PERIODS)
    base, target = _weights(**BASE), _weights({passed})
    {found}
'''
_DERIVED = "return Multipliers(between(base, target))"
_ASSUMING = """weights = between(base, target)
    there: dict[str, float] = {{
{amounts}    }}
    return Multipliers(weights, assumed_between(POWERS, AT_BASE, there))"""
#: Name of a ratio -> the argument that says it at the target, of those that weights do not say.
_ARGUMENTS = {"kappa_B": "batch", "kappa_D": "tokens"}

_PARTS = (*DATA, *RUNTIME, "relative")

#: Names of functions that formulas call.
_TAKEN = frozenset({"max", "min", "range", "sqrt", "whole", "Weight"})
_FUNCTIONS = {"Max": "max", "Min": "min", "sqrt": "sqrt"}
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


def codegen_formulas(scaling: Exported) -> str:
    """The text of the file.  The same multipliers give the same bytes.

    Raises ScalingError where the multipliers are of one scale, or no formulas give exact numbers at every place.
    """
    document = scaling.document
    if "patterns" not in document:
        raise ScalingError(
            "these multipliers are of the width alone; formulas need scales by name: "
            "tpcalc export TARGET --base width=64,depth=2 --target width=256,depth=8"
        )
    if document["patterns"] is None:
        raise ScalingError(
            f"no formulas give these multipliers everywhere: {document['no_patterns']}; export them for each target"
        )
    ratios = _ratios(document)
    given = {_ARGUMENTS[ratio]: ratio for ratio in ratios if ratio in _ARGUMENTS}
    names = list(document["base"])
    for name in given:
        if name in names:
            raise ScalingError(f"a scale called {name} can't be told from that of the rule; call it otherwise")
    start = header(scaling, _usage(scaling, given), "scaling.", "any other place")
    footer = _FOOTER.format(
        arguments=", ".join((*(f"{name}: int" for name in names), *(f"{name}: float" for name in given))),
        more=", for a run of these" if given else "",
        place="{" + ", ".join(f'"{name}": {name}' for name in names) + "}",
        passed=", ".join(f"{name}={name}" for name in names),
        found=_ASSUMING.format(amounts="".join(map(_amount, ratios))) if ratios else _DERIVED,
    )
    parts = (*_PARTS, "factors") if ratios else _PARTS
    powers = [_powers(document, ratios)] if ratios else []
    return f"{start}\n{FUTURE}{imports(*parts)}\n" + "\n\n".join((*map(code, parts), *powers, _body(document))) + footer


def _usage(scaling: Exported, given: Mapping[str, str]) -> str:
    ends = scaling.document.get("assumed") or {}
    more = "".join(f", {name}={ends[name]['target']:.12g}" for name in given)
    return f"scaling = multipliers({scales_text(scaling.target)}{more})  # or any other\n    "


def _ratios(document: Mapping[str, Any]) -> list[str]:
    """Those that a stated rule has powers of, in the order of :data:`RATIOS`; none where nothing is assumed.

    Raises ScalingError where the file has others, or another number of parameters than its weights.
    """
    assumed = document.get("assumed") or {"laws": {}}
    quantities = [own for law in assumed["laws"].values() for own in law.values() if own is not None]
    used = {ratio for own in quantities for ratio in own["powers"]}
    for other in used - {*RATIOS}:
        raise ScalingError(f"{other[:40]!r} is no ratio of a rule for batch size and length; export again")
    if "kappa_N" in used and assumed["parameters"]["target"] != counted(weights(document)):
        raise ScalingError("these multipliers are not of all parameters that their rule counts; export again")
    return [ratio for ratio in RATIOS if ratio in used]


def _amount(ratio: str) -> str:
    """What stands over the base's in a ratio, as an entry of a dict of code."""
    name = _ARGUMENTS.get(ratio)
    value = f'amount("{name}", {name}, AT_BASE["{ratio}"])' if name else "counted(weights)"
    return f'        "{ratio}": {value},\n'


def _powers(document: Mapping[str, Any], ratios: Sequence[str]) -> str:
    """The rule as a table: what it is of at the base, and the powers of each factor."""
    assumed = document["assumed"]
    ends = dict(zip(RATIOS, ENDS))
    base = ", ".join(f'"{ratio}": {float(assumed[ends[ratio]]["base"])!r}' for ratio in ratios)
    lines = [
        "# Assumed, not derived: powers of ratios to the base, on top of the multipliers.\n# fmt: off\n",
        f"AT_BASE: dict[str, float] = {{{base}}}\n",
        "POWERS: dict[str, dict[str, Powers]] = {\n",
    ]
    for law, quantities in assumed["laws"].items():
        rows = (f'        "{key}": {_of(own["powers"])},\n' for key, own in quantities.items() if own is not None)
        lines.append(f"    {literal(law)}: {{\n{''.join(rows)}    }},\n")
    return "".join((*lines, "}\n# fmt: on\n"))


def _of(powers: Mapping[str, Any]) -> str:
    each = {name: Fraction(power) for name, power in powers.items()}
    return "{" + ", ".join(f'"{name}": ({p.numerator}, {p.denominator})' for name, p in each.items()) + "}"


def _body(document: Mapping[str, Any]) -> str:
    symbols = {scale["symbol"]: scale["name"] for scale in document["scales"]}
    for name in (*symbols, *symbols.values()):
        if not name.isidentifier() or iskeyword(name) or name in _TAKEN:
            raise ScalingError(f"a scale called {name[:40]!r} can't be an argument in Python; call it otherwise")
    names = list(document["base"])
    periods = {name: (period["traced"], period["step"]) for name, period in document["periods"].items()}
    lines = [
        "# fmt: off\n",
        f"BASE = {document['base']!r}\n",
        f"PERIODS: dict[str, tuple[int, int]] = {periods!r}\n\n\n",
        f"def _weights({', '.join(f'{name}: int' for name in names)}) -> tuple[Relative, ...]:\n",
        '    """All weights at one place; their numbers have a meaning as ratios of two places alone."""\n',
        "    sqrt = math.sqrt\n",
        *(f"    {symbol} = {name}\n" for symbol, name in symbols.items() if symbol != name),
        "    return (\n",
    ]
    lines += [f"        {_weight(pattern, symbols)},\n" for pattern in document["patterns"]]
    return "".join((*lines, "    )\n", "# fmt: on\n"))


def _weight(pattern: Mapping[str, Any], symbols: Iterable[str]) -> str:
    """One entry as it is at a place."""
    known = frozenset(symbols)

    def code(text: str) -> str:
        return expression(text, known)

    formulas = pattern["formulas"]
    zero = not (pattern["init_std"] or pattern["init_mean"])

    def init(wanted: str, drawn: str) -> str:
        return "1.0" if zero else f"({code(wanted)}) / ({code(drawn)})"

    ranges = [
        f"range(whole({code(r['start'])}), whole({code(r['stop'])}), {int(r['step'])})" for r in pattern["blocks"]
    ]
    slices = [
        f"({int(piece['dim'])}, whole({code(piece['start'])}), whole({code(piece['length'])}), "
        f"{init(piece['init_std'], piece['code_init'])})"
        for piece in pattern["slices"]
    ]
    cells = [
        literal(pattern["name"]),
        tuple_of(ranges),
        tuple_of(f"whole({code(size)})" for size in pattern["shape"]),
        f"init={init(formulas['init_std'], pattern['code_init'])}",
        f"lr={code(formulas['lr'])}",
        f"weight_decay={code(formulas['weight_decay'])}",
        f"eps={'None' if formulas['eps'] is None else code(formulas['eps'])}",
        f"clip={code(pattern['clip'])}",
        f"draw=({literal(pattern['init_law'])}, {pattern['init_mean']!r}, {pattern['init_std']!r})",
        f"optimizer={literal(pattern['optimizer'])}",
        f"forward={code(formulas['multiplier'])}",
    ]
    if pattern["aliases"]:
        cells.append(f"aliases={tuple_of(map(literal, pattern['aliases']))}")
    if slices:
        cells.append(f"slices={tuple_of(slices)}")
    return f"(Weight({', '.join(cells)}), {code(formulas['init_std'])})"


def expression(text: str, symbols: frozenset[str]) -> str:
    """A formula as sympy writes it, as Python; raises ScalingError for anything else than arithmetic of ``symbols``."""
    try:
        tree = ast.parse(text, mode="eval").body
        return ast.unparse(_checked(tree, symbols))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ScalingError(f"{text[:60]!r} is no formula of {', '.join(sorted(symbols))}; export again") from error


def _checked(tree: ast.expr, symbols: frozenset[str]) -> ast.expr:
    match tree:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return ast.Constant(float(value))
        case ast.Name(id=name) if name in symbols:
            return tree
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return ast.UnaryOp(tree.op, _checked(operand, symbols))
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            return ast.BinOp(_checked(left, symbols), op, _checked(right, symbols))
        case ast.Call(func=ast.Name(id=name), args=[*args], keywords=[]) if name in _FUNCTIONS and args:
            return ast.Call(ast.Name(_FUNCTIONS[name]), [_checked(arg, symbols) for arg in args], [])
    raise ValueError(ast.dump(tree)[:60])
