"""What a printed table shows, before any markup: its title, columns, folded rows and the lists under it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from tpcalc.algebra.formula import Formula
from tpcalc.algebra.order import MINUS_INFINITY, Exact
from tpcalc.algebra.size import Size, size_sum
from tpcalc.algebra.text import Style, power_text
from tpcalc.derive.clipping import Clipping
from tpcalc.derive.result import Parametrization, Rule, Site, SliceRule
from tpcalc.derive.several import ScaledParametrization, ScaledRule, ScaledSite, ScaledSlice
from tpcalc.program.names import Folded, fold, fold_names, mask_indices


@dataclass(frozen=True)
class Code:
    """A cell set in typewriter: a name or a shape."""

    text: str


@dataclass(frozen=True)
class Power:
    """A power of the width: ``n^-1/2``; ``1`` for the exponent 0, ``0`` for the order of zero."""

    symbol: str
    exponent: Union[Exact, Formula]

    def text(self, style: Style = "plain") -> str:
        if isinstance(self.exponent, Formula):
            return self.exponent.text(style)
        return power_text(self.exponent, self.symbol, style)

    def __str__(self) -> str:
        return self.text()


Cell = Union[str, Code, Power]
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """``rows`` hold one cell for each of ``columns``; ``lists`` are ``(heading, sentences)`` and never empty.
    ``names``: of each row the weights that it stands for.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    lists: tuple[tuple[str, tuple[str, ...]], ...]
    names: tuple[tuple[str, ...], ...] = ()


AnyRule = Union[Rule, ScaledRule]
AnyParametrization = Union[Parametrization, ScaledParametrization]


def table_of(parametrization: AnyParametrization) -> Table:
    """The folded table of a parametrization."""
    rules = {name: rule for name, rule in parametrization.rules.items() if name == rule.name}
    folded = fold((name, _shown(rule)) for name, rule in rules.items())
    columns = _columns(list(rules.values()))
    rows = tuple(
        tuple(_cell(column, row, rules[row.names[0]], rules, _symbol(parametrization)) for column in columns)
        for row in folded
    )
    names = tuple(row.names for row in folded)
    return Table(_title(parametrization), columns, rows, _lists(parametrization, folded, rules), names)


def _symbol(parametrization: AnyParametrization) -> str:
    """That of the one scale; several have theirs in their formulas."""
    return parametrization.symbol if isinstance(parametrization, Parametrization) else ""


def _title(parametrization: AnyParametrization) -> str:
    parts = [f"Scaling rules for {parametrization.optimizer}"]
    if isinstance(parametrization, ScaledParametrization):
        named = ", ".join(
            scale.name if scale.symbol == scale.name else f"{scale.symbol} = {scale.name}"
            for scale in parametrization.scales
        )
        traced = f"traced at {parametrization.points[0]} and at {len(parametrization.points) - 1} places around it"
        return ", ".join([*parts, *_settings(parametrization), f"{named} ({traced})"])
    widths = ", ".join(map(str, parametrization.widths))
    if parametrization.parametrization != "derived":
        parts.append(f"largest stable learning rates of {parametrization.parametrization}")
    parts += _settings(parametrization)
    return f"{', '.join(parts)}, {parametrization.symbol} = width (traced at {widths})"


def _settings(parametrization: AnyParametrization) -> list[str]:
    """The gauge and the alignment, where they are not the usual ones."""
    usual = {"gauge": "init", "alignment": "full", "experts": "mup"}
    return [f"{name} {own}" for name, other in usual.items() if (own := getattr(parametrization, name)) != other]


def clipping_text(clipping: Union[Clipping, Formula, None], symbol: str) -> tuple[str, ...]:
    """One sentence on clipping by the global norm, where it scales at all."""
    if clipping is None or isinstance(clipping, Formula):
        if clipping is None or not any(map(any, clipping.ways[0])):
            return ()
        return (f"the global norm of the gradient ~ {clipping}: scale a plain threshold alike",)
    if clipping.norm is MINUS_INFINITY or clipping.norm == 0:
        return ()
    names = fold_names(clipping.dominated_by)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"the global norm of the gradient ~ {Power(symbol, clipping.norm)}, made by {', '.join(names[:3])}{more}: "
        f"scale a plain threshold alike, or clip with clip_grad_norm_ of the exported multipliers",
    )


def _columns(rules: Sequence[AnyRule]) -> tuple[str, ...]:
    """Columns in which something is to be said."""
    columns = ["weight", "shape", "role"]
    if any(Power("", rule.formulas["multiplier"] or 0).text() != "1" for rule in rules):
        columns.append("multiplier")
    columns += ["init std", "lr", "weight decay"]
    if any(rule.formulas["eps"] is not None for rule in rules):
        columns.append("eps")
    if len({rule.optimizer for rule in rules}) > 1:
        columns.append("optimizer")
    return (*columns, "why")


def _shown(rule: AnyRule) -> Hashable:
    """Everything a row shows of a rule: copies of a block fold where this agrees."""
    columns = ("multiplier", "init_std", "lr", "weight_decay", "eps")
    exponents = (*(rule.formulas[column] for column in columns), rule.optimizer)
    slices = tuple((s.dim, str(s.start), str(s.length), s.role, *s.formulas.values()) for s in rule.slices)
    aliases = tuple(mask_indices(name) for name in rule.aliases)
    return exponents, rule.role, rule.shape_text, rule.trainable, slices, aliases, mask_indices(rule.reason)


def _cell(column: str, row: Folded, rule: AnyRule, rules: Mapping[str, AnyRule], symbol: str) -> Cell:
    """One cell; ``rule`` is that of the first of the folded names."""
    if column == "weight":
        return Code(" = ".join((row.name, *_alias_texts(row, rule))))
    if column == "shape":
        return Code(rule.shape_text)
    if column == "role":
        return rule.role
    if column in ("multiplier", "init std"):
        return _power(symbol, rule.formulas[column.replace(" ", "_")])
    if column == "why":
        reasons = {rules[name].reason for name in row.names}
        return rule.reason if len(reasons) == 1 else mask_indices(rule.reason)
    if not rule.trainable:
        return NOTHING
    if column == "optimizer":
        return rule.optimizer
    return _power(symbol, rule.formulas[column.replace(" ", "_")])


def _power(symbol: str, exponent: Union[Exact, Formula, None]) -> Cell:
    return NOTHING if exponent is None else Power(symbol, exponent)


def _alias_texts(row: Folded, rule: AnyRule) -> list[str]:
    if len(row.names) == 1:
        return fold_names(rule.aliases)
    return [mask_indices(alias) for alias in rule.aliases]


def _lists(parametrization: AnyParametrization, folded: list[Folded], rules: Mapping[str, AnyRule]) -> tuple:
    symbol = _symbol(parametrization)
    slices = [
        slice_text(row.name, piece, symbol, rules[row.names[0]].trainable)
        for row in folded
        for piece in rules[row.names[0]].slices
    ]
    lists = (
        ("sites that need a multiplier", site_texts(parametrization.sites, symbol)),
        ("slices with rules of their own", slices),
        ("assumptions", parametrization.assumptions),
        ("notes", parametrization.notes),
        ("gradient clipping", clipping_text(parametrization.clipping, symbol)),
        ("conventions", parametrization.conventions),
    )
    return tuple((heading, tuple(texts)) for heading, texts in lists if texts)


def site_texts(sites: Sequence[Union[Site, ScaledSite]], symbol: str) -> list[str]:
    """One sentence a site; sites that differ only in the block they stand in share one."""
    groups: dict[tuple, dict[str, str]] = {}
    for site in sites:
        if isinstance(site, ScaledSite):
            what = f"multiply by {site.multiplier}"
        else:
            what = f"found {Power(symbol, site.found)}, needed {Power(symbol, site.needed)}"
        key = (site.op, site.source, what, mask_indices(site.message))
        groups.setdefault(key, {})[site.module] = site.message
    texts = []
    for (op, source, what, masked), modules in groups.items():
        where = ", ".join(part for part in (op, source) if part)
        place = ", ".join(name for name in fold_names(modules) if name) or "top level"
        message = masked if len(set(modules.values())) > 1 else next(iter(modules.values()))
        texts.append(f"{place} ({where}): {what}; {message}")
    return texts


def slice_text(name: str, piece: Union[SliceRule, ScaledSlice], symbol: str, trainable: bool = True) -> str:
    """``attn.qkv.weight[0 : n]: init std n^-1/2, lr n^-1 (hidden)``."""
    span = f"{':, ' * piece.dim}{piece.start} : {_end(piece.start, piece.length)}"
    text = f"{name}[{span}]: init std {Power(symbol, piece.formulas['init_std'])}"
    if trainable:
        words = {"lr": "lr", "effective_update": "update"}
        text += "".join(f", {words[k]} {Power(symbol, x)}" for k, x in piece.formulas.items() if k in words)
    return f"{text} ({piece.role})" if piece.role else text


def _end(start: Size, length: Size) -> str:
    """The sum of two sizes as text."""
    return str(size_sum((start, length)) or f"{start} + {length}")
