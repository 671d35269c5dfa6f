"""Published rows for experts, walked: Jiang et al. 2026, Complete-muE, muP-MoE, in width, expert width, experts, top-k
and depth.

``papers_experts.json`` holds the rows: every ``*_exp`` is x in "quantity ~ n^x", with ``ffn_``, ``experts_``,
``active_`` and ``depth_`` before it the power of that scale.  What is compared is effective: a multiplier counts with
the size or the rate that it multiplies.  Discrepancies carry the number under which ``docs/theory.md`` argues them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import experts as ex
from tests.support.once import once

ROOT = Path(__file__).parents[2]
ROWS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "papers" / "papers_experts.json").read_text(encoding="utf-8"))
THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")

SCALES = {**ex.SCALES, "depth": (2, 3)}
#: Scale -> what its columns begin with.
COLUMNS = {"width": "", "experts": "experts_", "top_k": "active_", "ffn": "ffn_", "depth": "depth_"}
#: Directions, in the order of ``SCALES``, with no more picked than there are: experts wider than the model, narrower.
WIDE = [(2, 5, 3, 7, 1), (4, 9, 1, 5, 2), (3, 4, 2, 11, 1)]
NARROW = [(7, 5, 3, 2, 1), (5, 6, 2, 1, 2)]


class Block(nn.Module):
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
    """Heads of size 4 that grow in number, 1/d in attention; a readout behind 1/n."""

    def __init__(self, width: int, depth: int, **sizes: int) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(16, width), nn.ModuleList(Block(width, **sizes) for _ in range(depth))
        self.last, self.readout = nn.LayerNorm(width), nn.Linear(width, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.readout(self.last(x))


def transformer(**sizes: int) -> tuple[nn.Module, tuple]:
    return Transformer(**sizes), (torch.zeros(6, dtype=torch.long),)


@once
def rules(experts: str, whole: bool) -> Any:
    """Of a transformer with a depth, or of one layer of experts alone (muP-MoE speaks of the width only)."""
    if experts == "mup" and not whole:
        factory = ex.layer(ex.batched, ex.averaged, experts=8, top_k=2)
        return tpcalc.derive(tpcalc.trace(factory, scales=ex.scales("width", "ffn")), "adamw")
    return tpcalc.derive(_program(whole), "adamw", gauge="completep" if whole else "init", experts=experts)


@once
def _program(whole: bool) -> tpcalc.Program:
    return tpcalc.trace(
        transformer if whole else ex.layer(ex.batched, ex.averaged), scales=SCALES if whole else ex.SCALES
    )


EXPERTS = {"Jiang2026 MoE HP transfer": "stein", "Complete-muE (2605.23893)": "balanced", "muP-MoE (2508.09752)": "mup"}
#: Class of a parameter -> names in the first block, or outside of all.
ATTENTION = ("q.weight", "k.weight", "v.weight", "o.weight")
CLASSES = {
    "embedding": ("embed.weight",),
    "unembedding (tied)": ("readout.weight",),
    "norm(all)": ("norm.weight", "norm2.bias", "last.weight"),
    "attn_qkvo": ATTENTION,
    "router": ("router.weight",),
    "expert_up": ("up",),
    "expert_down": ("down",),
    "dense_ffn_up": ("beside.weight",),
    "dense_ffn_down": ("after.weight",),
    "other_biases(attn,expert)": ("q.bias", "o.bias"),
    "attn/up/router (added by repo, from CompleteP)": (*ATTENTION, "up", "router.weight"),
    "expert_down (added by repo)": ("down",),
    "ffn/expert_down EFFECTIVE (A*R*stored, per expert with gate pi~1/a)": ("down",),
    "ffn/expert_down": ("down",),
    "ffn/expert_up,gate": ("up",),
    "attn_qkvo and any 2D linear in block": ATTENTION,
    "final output projection": ("readout.weight",),
    "expert_up,expert_down": ("up", "down"),
}
#: Rows that say nothing of a weight that a gradient trains: multipliers, a bias that counts tokens.
NO_WEIGHT = {
    "residual_branch(MHA,MoE)",
    "moe_aggregation",
    "expert_routing_bias",
    "ffn/expert_down: output multiplier A",
    "route scale R (routed sum only)",
}
#: Field of a row -> that of a rule.
FIELDS = {"init_std": "init_std", "lr": "lr", "wd": "weight_decay", "eps": "eps"}


def exponents(row: dict[str, Any], quantity: str) -> Optional[dict[str, Fraction]]:
    """Scale -> power, of those that the row speaks of; None where it does not speak of the quantity, or of a range."""
    short = {"init_std": "init", "multiplier": "mult"}.get(quantity, quantity)
    texts = {scale: row.get(f"{before}{short if before else quantity}_exp") for scale, before in COLUMNS.items()}
    if texts["width"] is None or "gamma" in texts["width"]:
        return None
    found = {scale: Fraction(text) for scale, text in texts.items() if text is not None}
    if "width only" in row["conditions"]:
        found["ffn"] = Fraction(0)  # follows the width
    return found


def effective(row: dict[str, Any], quantity: str) -> Optional[dict[str, Fraction]]:
    found = exponents(row, quantity)
    if found is None:
        return None
    multipliers = [row]
    name = row["param_class"]
    if name == "ffn/expert_down":
        multipliers += [other for other in ROWS if other["param_class"] in NO_WEIGHT and other["paper"] == row["paper"]]
    if name.startswith("ffn/expert_down") and quantity in ("init_std", "lr"):
        found["top_k"] += 1 if "EFFECTIVE" in name else 0  # behind gates of 1/k, as the weight itself is compared
    for other in multipliers:
        for scale, power in (exponents(other, "multiplier") or {}).items():
            sign = {"init_std": 1, "lr": 1, "eps": -1, "wd": -1}[quantity]
            found[scale] = found.get(scale, Fraction(0)) + sign * power
    return found


def discrepancy(row: dict[str, Any], quantity: str, narrow: bool) -> Optional[str]:
    """The number under which the theory argues a difference; None where all must agree."""
    name, jiang = row["param_class"], row["paper"].startswith("Jiang")
    if quantity == "eps" and jiang:
        if narrow:
            return "D23"
        return {"norm(all)": "D21", "other_biases(attn,expert)": "D21"}.get(name) or (
            "D24" if name in ("router", "expert_up", "expert_down", "dense_ffn_down") else None
        )
    if quantity == "init_std" and narrow and ("up" in name or name == "dense_ffn_down"):
        return "D23"
    if quantity == "init_std" and name == "router" and not jiang and row["paper"].startswith("Complete"):
        return "D25"
    if name == "final output projection":
        return "D26"
    return None


def names_of(row: dict[str, Any], whole: bool) -> list[str]:
    found = rules(EXPERTS[row["paper"]], whole)
    return [name for name in found if name.removeprefix("blocks.0.") in CLASSES[row["param_class"]]]


def comparisons(row: dict[str, Any], whole: bool) -> Iterator[tuple[str, str, bool, bool, Optional[str]]]:
    """Name, quantity, whether experts are narrow, whether published and derived agree, the number of a discrepancy."""
    found, names = rules(EXPERTS[row["paper"]], whole), names_of(row, whole)
    assert names, row
    for quantity, field in FIELDS.items():
        published = effective(row, quantity)
        if published is None:
            continue
        for name in names:
            formula = found[name].formulas[field]
            for narrow, directions in ((False, WIDE), (True, NARROW)):
                agree = True
                for direction in directions:
                    # what a row does not speak of stays, but for the width of experts, which any row knows
                    at = {scale: x if scale in (*published, "ffn") else 0 for scale, x in zip(SCALES, direction)}
                    if "width only" in row["conditions"]:
                        at["ffn"] = at["width"]
                    said = sum(power * at[scale] for scale, power in published.items() if whole or scale != "depth")
                    agree &= said == formula.along([Fraction(at[scale.name]) for scale in found.scales])
                yield name, quantity, narrow, agree, discrepancy(row, quantity, narrow)


COMPARED = [row for row in ROWS if row["param_class"] not in NO_WEIGHT]
LAYER = {"embed.weight", "norm.weight", "router.weight", "up", "down", "readout.weight"}
SMALL = [row for row in COMPARED if not LAYER.isdisjoint(CLASSES[row["param_class"]])]


def title(row: dict[str, Any]) -> str:
    return f"{row['paper'].split()[0]} {row['param_class']}"


def check(row: dict[str, Any], whole: bool) -> None:
    found = list(comparisons(row, whole))
    assert found
    for name, quantity, narrow, agree, number in found:
        where = f"{row['paper']}, {name}, {quantity}, {'narrow' if narrow else 'wide'} experts"
        assert agree or number is not None, where
        assert number is None or f"**{number}." in THEORY


@pytest.mark.parametrize("row", SMALL, ids=title)
def test_rows_about_a_layer_of_experts(row: dict[str, Any]) -> None:
    check(row, whole=False)


@pytest.mark.slow
@pytest.mark.parametrize("row", COMPARED, ids=title)
def test_rows_about_a_transformer(row: dict[str, Any]) -> None:
    check(row, whole=True)


def real(rows: list[dict[str, Any]], whole: bool) -> set[Optional[str]]:
    """The discrepancies that are."""
    return {number for row in rows for *_, agree, number in comparisons(row, whole) if not agree}


def test_discrepancies_are_real() -> None:
    assert {row["param_class"] for row in ROWS} == CLASSES.keys() | NO_WEIGHT
    assert real(SMALL, whole=False) == {"D21", "D23", "D24", "D25", "D26"}


def test_a_size_of_another_paper_is_noticed() -> None:
    row = next(row for row in ROWS if row["param_class"] == "expert_down")
    swapped = row | {"paper": "Complete-muE (2605.23893)"}
    assert not all(agree for _, quantity, _, agree, _ in comparisons(swapped, False) if quantity == "init_std")
