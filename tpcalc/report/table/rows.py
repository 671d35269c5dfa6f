"""What a printed table shows, before any markup: its title, columns, folded rows and the lists under it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Union

from tpcalc.algebra.order import MINUS_INFINITY, Exact
from tpcalc.algebra.size import Size, size_sum
from tpcalc.algebra.text import power_text
from tpcalc.derive.clipping import Clipping
from tpcalc.derive.result import Parametrization, Rule, Site, SliceRule
from tpcalc.program.names import Folded, fold, fold_names, mask_indices


@dataclass(frozen=True)
class Code:
    """A cell set in typewriter: a name or a shape."""

    text: str


@dataclass(frozen=True)
class Power:
    """A power of the width: ``n^-1/2``; ``1`` for the exponent 0, ``0`` for the order of zero."""

    symbol: str
    exponent: Exact

    def __str__(self) -> str:
        return power_text(self.exponent, self.symbol)


Cell = Union[str, Code, Power]
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """``rows`` hold one cell for each of ``columns``; ``lists`` are ``(heading, sentences)`` and never empty."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    lists: tuple[tuple[str, tuple[str, ...]], ...]


def table_of(parametrization: Parametrization) -> Table:
    """The folded table of a parametrization."""
    rules = {name: rule for name, rule in parametrization.rules.items() if name == rule.name}
    folded = fold((name, _shown(rule)) for name, rule in rules.items())
    columns = _columns(list(rules.values()))
    rows = tuple(
        tuple(_cell(column, row, rules[row.names[0]], rules, parametrization.symbol) for column in columns)
        for row in folded
    )
    return Table(_title(parametrization), columns, rows, _lists(parametrization, folded, rules))


def _title(parametrization: Parametrization) -> str:
    widths = ", ".join(map(str, parametrization.widths))
    parts = [f"Scaling rules for {parametrization.optimizer}"]
    if parametrization.parametrization != "derived":
        parts.append(f"largest stable learning rates of {parametrization.parametrization}")
    if parametrization.gauge != "init":
        parts.append(f"gauge {parametrization.gauge}")
    if parametrization.alignment != "full":
        parts.append(f"alignment {parametrization.alignment}")
    return f"{', '.join(parts)}, {parametrization.symbol} = width (traced at {widths})"


def clipping_text(clipping: Clipping, symbol: str) -> tuple[str, ...]:
    """One sentence on clipping by the global norm, where it scales at all."""
    if clipping.norm is MINUS_INFINITY or clipping.norm == 0:
        return ()
    names = fold_names(clipping.dominated_by)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"the global norm of the gradient ~ {Power(symbol, clipping.norm)}, made by {', '.join(names[:3])}{more}: "
        f"scale a plain threshold alike, or clip with clip_grad_norm_ of the exported multipliers",
    )


def _columns(rules: list[Rule]) -> tuple[str, ...]:
    """Columns in which something is to be said."""
    columns = ["weight", "shape", "role"]
    if any(rule.a != 0 for rule in rules):
        columns.append("multiplier")
    columns += ["init std", "lr", "weight decay"]
    if any(rule.eps is not None for rule in rules):
        columns.append("eps")
    if len({rule.optimizer for rule in rules}) > 1:
        columns.append("optimizer")
    return (*columns, "why")


def _shown(rule: Rule) -> Hashable:
    """Everything a row shows of a rule: copies of a block fold where this agrees."""
    exponents = (rule.a, rule.b, rule.c, rule.weight_decay, rule.eps, rule.optimizer)
    slices = tuple((s.dim, str(s.start), str(s.length), s.A, s.C, s.b, s.c, s.role) for s in rule.slices)
    aliases = tuple(mask_indices(name) for name in rule.aliases)
    return exponents, rule.role, rule.shape_text, rule.trainable, slices, aliases, mask_indices(rule.reason)


def _cell(column: str, row: Folded, rule: Rule, rules: dict[str, Rule], symbol: str) -> Cell:
    """One cell; ``rule`` is that of the first of the folded names."""
    if column == "weight":
        return Code(" = ".join((row.name, *_alias_texts(row, rule))))
    if column == "shape":
        return Code(rule.shape_text)
    if column == "role":
        return rule.role
    if column == "multiplier":
        return Power(symbol, -rule.a)
    if column == "init std":
        return Power(symbol, -rule.b)
    if column == "why":
        reasons = {rules[name].reason for name in row.names}
        return rule.reason if len(reasons) == 1 else mask_indices(rule.reason)
    if not rule.trainable:
        return NOTHING
    if column == "optimizer":
        return rule.optimizer
    exponent = {"lr": -rule.c, "weight decay": rule.weight_decay, "eps": rule.eps}[column]
    return NOTHING if exponent is None else Power(symbol, exponent)


def _alias_texts(row: Folded, rule: Rule) -> list[str]:
    if len(row.names) == 1:
        return fold_names(rule.aliases)
    return [mask_indices(alias) for alias in rule.aliases]


def _lists(parametrization: Parametrization, folded: list[Folded], rules: dict[str, Rule]) -> tuple:
    symbol = parametrization.symbol
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


def site_texts(sites: tuple[Site, ...], symbol: str) -> list[str]:
    """One sentence a site; sites that differ only in the block they stand in share one."""
    groups: dict[tuple, dict[str, str]] = {}
    for site in sites:
        key = (site.op, site.source, site.found, site.needed, mask_indices(site.message))
        groups.setdefault(key, {})[site.module] = site.message
    texts = []
    for (op, source, found, needed, masked), modules in groups.items():
        where = ", ".join(part for part in (op, source) if part)
        place = ", ".join(name for name in fold_names(modules) if name) or "top level"
        message = masked if len(set(modules.values())) > 1 else next(iter(modules.values()))
        texts.append(f"{place} ({where}): found {Power(symbol, found)}, needed {Power(symbol, needed)}; {message}")
    return texts


def slice_text(name: str, piece: SliceRule, symbol: str, trainable: bool = True) -> str:
    """``attn.qkv.weight[0 : n]: init std n^-1/2, lr n^-1 (hidden)``."""
    span = f"{':, ' * piece.dim}{piece.start} : {_end(piece.start, piece.length)}"
    init = Power(symbol, -(piece.A if piece.b is None else piece.b))
    text = f"{name}[{span}]: init std {init}"
    if trainable:
        text += f", update {Power(symbol, -piece.C)}" if piece.c is None else f", lr {Power(symbol, -piece.c)}"
    return f"{text} ({piece.role})" if piece.role else text


def _end(start: Size, length: Size) -> str:
    """The sum of two sizes as text."""
    return str(size_sum((start, length)) or f"{start} + {length}")
