"""Published rows against derived rules: what a row says of each scale, and what is derived on a traced net.

Every ``*_exp`` of a row is x in "quantity ~ x^..." of one scale; a word before it names the scale (``depth_lr_exp``),
none is the width.  What is compared is modulo the shift symmetry: a multiplier of a row counts with the size, the rate,
the decay and the epsilon that stand behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Optional

import torch
from torch import nn

import tpcalc
from tests.support import experts as ex
from tests.support.depths import traced
from tests.support.once import once
from tpcalc.algebra.fan import Cell
from tpcalc.algebra.order import ONE as ORDER_ONE
from tpcalc.algebra.order import ZERO as ORDER_ZERO
from tpcalc.algebra.order import Order
from tpcalc.algebra.scales import Scale
from tpcalc.algebra.text import powers_text, product_text
from tpcalc.derive.api import made, solve_along
from tpcalc.derive.several import ScaledParametrization, in_every_direction, together
from tpcalc.derive.solve import Solution
from tpcalc.optimizers import DECOUPLED, LAWS, Recipe, UpdateLaw, WeightView, finite
from tpcalc.optimizers.law import BESIDE_GRAM, BESIDE_NORM, Epsilon

ZERO, HALF, ONE = Fraction(0), Fraction(1, 2), Fraction(1)

#: Scale -> what its columns begin with.
COLUMNS = {"width": "", "experts": "experts_", "top_k": "active_", "ffn": "ffn_", "depth": "depth_"}
#: Quantity of a row -> its word in columns of other scales than the width, the column of a rule.
QUANTITIES = {
    "init_std": ("init", "init_std"),
    "multiplier": ("mult", "multiplier"),
    "lr": ("lr", "lr"),
    "wd": ("wd", "weight_decay"),
    "eps": ("eps", "eps"),
}


# --- update laws that have no name in the library ---------------------------------------------------------------------

ORTHOGONAL = UpdateLaw(
    "orthogonal", lambda w: -w.entries / 2, DECOUPLED, BESIDE_NORM, "Jordan et al. 2024: Muon without a shape factor"
)
SOPHIA = UpdateLaw(
    "sophia", lambda w: 0, DECOUPLED, None, "Liu et al. 2023 (2305.14342): momentum over curvature, clipped by entries"
)
ADAMUON = UpdateLaw(
    "adamuon",
    lambda w: 0,
    DECOUPLED,
    Epsilon(lambda w: -w.entries / 2, "eps stands beside entries of the orthogonal factor"),
    "Si et al. 2025 (2507.11005): Adam on the orthogonal factor",
)


def shampoo(e: Fraction, blocks: bool) -> UpdateLaw:
    """Powers of the two factors that add up to ``e``; ``blocks``: of a size that does not grow, each by itself."""

    def norm(w: WeightView) -> Order:
        return finite(w.gradient) if blocks else finite(w.gradient) + w.entries / 2

    return UpdateLaw(
        f"shampoo_{e.numerator}_{e.denominator}{'_blocks' if blocks else ''}",
        lambda w: norm(w) * (1 - 2 * e) - (ZERO if blocks else w.entries / 2),
        DECOUPLED,
        Epsilon(lambda w: norm(w) * 2, BESIDE_GRAM.convention),
        "Shi et al. 2023 (2309.06497)",
    )


def grafted(size: UpdateLaw, way: UpdateLaw) -> UpdateLaw:
    """The update of ``way`` with the Frobenius norm that ``size`` has; both are of finite rank."""
    return UpdateLaw(
        f"{size.name}_{way.name}",
        size.update,
        DECOUPLED,
        Epsilon(lambda w: way.unit(w) + w.entries / 2, "eps stands beside the Frobenius norm of the update"),
        "Anil et al. 2020 (2002.09018)",
    )


#: Optimizer as printed -> its laws.
PRINTED = {
    "AdamW/Lion/Sophia": (LAWS["adamw"], LAWS["lion"], SOPHIA),
    "AdamW": (LAWS["adamw"],),
    "Adam": (LAWS["adamw"],),
    "Adam hidden": (LAWS["adamw"],),
    "Lion": (LAWS["lion"],),
    "Sophia": (SOPHIA,),
    "SGD": (LAWS["sgd"],),
    "Muon": (ORTHOGONAL,),
    "Muon-Kimi": (LAWS["muon_match_rms_adamw"],),
    "SSO": (LAWS["muon_spectral"],),
    "SSO (spectral sphere)": (LAWS["muon_spectral"],),
    "Shampoo": (LAWS["shampoo"],),
    "SOAP": (LAWS["soap"],),
    "AdaMuon": (ADAMUON,),
}


# --- what is derived --------------------------------------------------------------------------------------------------


@once
def _solved(factory: Callable, alpha: Fraction) -> Cell[Solution]:
    """Along width and depth there is one direction, since depths grow after widths."""
    (cell,) = in_every_direction(traced(factory), lambda along: solve_along(along, "full", Order(alpha)))
    return cell


@once
def of_stack(factory: Callable, law: UpdateLaw, alpha: Fraction = ONE) -> ScaledParametrization:
    """Along width and depth, in the form in which these papers write: L^-alpha behind residual branches."""
    cell = _solved(factory, alpha)
    return together(traced(factory), [replace(cell, found=made(cell.found, Recipe(law), "completep", "mup"))])


class Block(nn.Module):
    """Attention, then experts and a dense feed-forward block side by side."""

    def __init__(self, width: int, experts: int, top_k: int, ffn: int) -> None:
        super().__init__()
        self.norm, self.norm2, self.top_k, self.count = nn.LayerNorm(width), nn.LayerNorm(width), top_k, experts
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, width, ffn) * width**-0.5)
        self.down = nn.Parameter(torch.randn(experts, ffn, width) * ffn**-0.5)
        self.beside, self.after = nn.Linear(width, ffn, bias=False), nn.Linear(ffn, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.norm(x)
        q, k, v = (part(z).view(6, -1, 4).transpose(0, 1) for part in (self.q, self.k, self.v))
        x = x + self.o(((q @ k.mT / 4).softmax(-1) @ v).transpose(0, 1).reshape(6, -1))
        z = self.norm2(x)
        experts = ex.batched(self, z, *ex.averaged(self.router(z), self.top_k))  # type: ignore[arg-type]
        return x + experts + self.after(torch.relu(self.beside(z)))


class Transformer(nn.Module):
    """Heads of size 4 that grow in number, 1/d in attention."""

    def __init__(self, width: int, depth: int, **sizes: int) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(16, width), nn.ModuleList(Block(width, **sizes) for _ in range(depth))
        self.last, self.readout = nn.LayerNorm(width), nn.Linear(width, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.readout(self.last(x))


SIZES = {**ex.SCALES, "depth": (2, 3)}
#: Transformers, by the scales along which they grow; and one layer of experts, whose four scales are cheap.
WITH_DEPTH, WITH_EXPERTS, LAYER = ("width", "ffn", "depth"), ("experts", "top_k"), tuple(ex.SCALES)
ALL = tuple(SIZES)


@once
def _program(scales: tuple[str, ...]) -> tpcalc.Program:
    if scales == LAYER:
        return tpcalc.trace(ex.layer(ex.batched, ex.averaged), scales=ex.SCALES)
    if scales == ("width", "ffn"):
        return tpcalc.trace(ex.layer(ex.batched, ex.averaged, experts=8, top_k=2), scales=ex.scales(*scales))
    fixed = {name: sizes[0] for name, sizes in SIZES.items() if name not in scales}

    def factory(**sizes: int) -> tuple[nn.Module, tuple]:
        return Transformer(**(fixed | sizes)), (torch.zeros(6, dtype=torch.long),)

    return tpcalc.trace(factory, scales={name: SIZES[name] for name in scales})


@once
def of_experts(experts: str, scales: tuple[str, ...]) -> ScaledParametrization:
    gauge = "completep" if "depth" in scales else "init"
    return tpcalc.derive(_program(scales), "adamw", gauge=gauge, experts=experts)


@once
def regime(name: str, experts: str) -> tpcalc.Parametrization:
    """A layer of experts along n alone: (I) f ~ n with k fixed, (II) k ~ n with f fixed, (III) both ~ n; k ~ E."""

    def factory(width: int) -> tuple[nn.Module, tuple]:
        grows = width // 16
        count, f = (grows if name != "I" else 1), (grows if name != "II" else 1)
        return ex.layer(ex.batched, ex.averaged)(width=width, experts=8 * count, top_k=2 * count, ffn=24 * f)

    return tpcalc.derive(tpcalc.trace(factory, (16, 32, 64)), "adamw", experts=experts)


# --- what is published ------------------------------------------------------------------------------------------------


def exponent(text: str, alpha: Fraction = ONE, e: Fraction = HALF) -> Fraction:
    """``"alpha-1"``, ``"2alpha-1"``, ``"-1/2"``; of Shampoo ``"-(1-(eL+eR))"``; ``"-gamma"``, which is 1 in the paper's
    main text."""
    text = text.replace("-gamma", "-1").replace("(eL+eR)", str(e))
    if found := re.fullmatch(r"(-?)\(?1-(\d+/?\d*)\)?", text):
        return (-1 if found[1] else 1) * (1 - Fraction(found[2]))
    if found := re.fullmatch(r"(-?)(\d*)alpha([+-][\d/]+)?", text):
        return int(f"{found[1]}{found[2] or 1}") * alpha + Fraction(found[3] or 0)
    if found := re.fullmatch(r"(\d+/\d+)-alpha", text):
        return Fraction(found[1]) - alpha
    return Fraction(text)


def column(quantity: str, scale: str) -> str:
    return f"{COLUMNS[scale]}{quantity if scale == 'width' else QUANTITIES[quantity][0]}_exp"


def said(row: Mapping[str, Any], quantity: str, alpha: Fraction = ONE, e: Fraction = HALF) -> dict[str, Fraction]:
    """Scale -> exponent, of the scales that the row speaks of."""
    texts = {scale: row.get(column(quantity, scale)) for scale in COLUMNS}
    return {scale: exponent(text, alpha, e) for scale, text in texts.items() if text is not None}


@dataclass(frozen=True)
class Compared:
    """One comparison.  ``columns``: those of the row that it speaks for; ``published`` and ``derived``: powers, as
    text; ``number``: that of a discrepancy, in docs/theory.md."""

    columns: frozenset[str]
    what: str
    published: str
    derived: str
    agree: bool
    number: Optional[str] = None


def compared(columns: Sequence[str], what: str, published: Any, derived: Any, number: Optional[str] = None) -> Compared:
    """Of two values that are equal or not."""
    return Compared(frozenset(columns), what, str(published), str(derived), published == derived, number)


def power(scales: Sequence[Scale], exponents: Mapping[str, Fraction]) -> str:
    return product_text(scales, [exponents.get(scale.name, ZERO) for scale in scales], "plain")


def moved(quantity: str, law: UpdateLaw) -> Fraction:
    """What a multiplier x^1 adds to the effective exponent of a quantity that stands behind it."""
    if quantity == "eps":
        w = WeightView(ORDER_ZERO, ORDER_ZERO)
        return ZERO if law.eps is None else Fraction(str(law.eps.exponent(w.at(ORDER_ONE)) - law.eps.exponent(w)))
    shift = Fraction(str(law.shift))
    return {"init_std": ONE, "lr": shift, "wd": -shift}[quantity]


def effective(
    rows: Sequence[Mapping[str, Any]], quantity: str, law: UpdateLaw, alpha: Fraction = ONE, e: Fraction = HALF
) -> dict[str, Fraction]:
    """What the first row says of a quantity in each scale, with the multipliers of all of them; those of depth, which
    stand behind a branch, are left where they are."""
    found = said(rows[0], quantity, alpha, e)
    for row in rows if found else ():
        for scale, x in said(row, "multiplier", alpha, e).items():
            if scale != "depth" and scale in found:
                found[scale] += moved(quantity, law) * x
    return found


#: Ends of the names of what stands last in a branch, in the nets of this module, of ``stacks`` and of ``unusual``.
LAST = tuple(f"{name}.{kind}" for name in ("two", "layer", "o", "after", "down") for kind in ("weight", "bias"))


def along_each(
    rows: Sequence[Mapping[str, Any]],
    rules: ScaledParametrization,
    names: Sequence[str],
    law: UpdateLaw,
    alpha: Fraction = ONE,
    e: Fraction = HALF,
) -> Iterator[tuple[str, str, str, Compared]]:
    """A row against rules along width and depth, one scale after the other: (name, quantity, scale, comparison)."""
    row = rows[0]
    for quantity, (_, field) in QUANTITIES.items():
        if quantity == "multiplier":
            continue
        published = effective(rows, quantity, law, alpha, e)
        for name in names:
            formula = rules[name].formulas[field]
            if formula is None:
                continue  # Lion has no epsilon
            for index, scale in enumerate(rules.scales):
                if scale.name in published:
                    has = formula.along([ONE if i == index else ZERO for i in range(len(rules.scales))])
                    texts = [power([scale], {scale.name: x}) for x in (published[scale.name], has)]
                    columns = {column(quantity, scale.name)}
                    columns |= {column("multiplier", "width")} if scale.name == "width" else set()
                    agree = published[scale.name] == has
                    yield name, quantity, scale.name, Compared(frozenset(columns), quantity, *texts, agree)
    branch = row["param_class"] == "residual_branch"
    for name in names:
        for scale, x in said(row, "multiplier", alpha, e).items():
            if name.endswith(LAST) and (branch or scale == "depth"):
                has = rules[name].formulas["multiplier"].along([ONE if s.name == scale else ZERO for s in rules.scales])
                texts = (powers_text({scale: power}) for power in (x, has))
                yield name, "multiplier", scale, compared([column("multiplier", scale)], "multiplier", *texts)


__all__ = [
    "ADAMUON",
    "ALL",
    "COLUMNS",
    "LAYER",
    "ORTHOGONAL",
    "PRINTED",
    "QUANTITIES",
    "WITH_DEPTH",
    "WITH_EXPERTS",
    "Compared",
    "along_each",
    "column",
    "compared",
    "effective",
    "exponent",
    "grafted",
    "of_experts",
    "of_stack",
    "power",
    "regime",
    "said",
    "shampoo",
]
