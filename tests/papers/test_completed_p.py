"""Table 1 of Complete(d)P (2512.22382), row by row, as one export of a traced GPT: width, depth, batch and tokens.

The powers of width and depth are derived; those of batch and tokens are stated (:mod:`tpcalc.horizon`).  What is
compared is what an optimizer is handed for the model at the target.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tpcalc
from tests.support.once import once
from tests.support.published import exponent
from tpcalc.algebra.roots import power_product

pytestmark = pytest.mark.usefixtures("recorded_once")

ENTRIES = json.loads((Path(__file__).parent / "papers_2026.json").read_text(encoding="utf-8"))
ROWS = [e for e in ENTRIES if e["kind"] == "row" and (e["paper"], e["table"]) == ("Complete(d)P", "Table 1")]
BASE, TARGET = {"width": 16, "depth": 2}, {"width": 64, "depth": 8}
BATCH, TOKENS = (64, 1024), (1e9, 2e11)
#: Ratios of the target to the base, by what the columns of other quantities than the width begin with.
RATIOS = {"": Fraction(4), "depth_": Fraction(4), "batch_": Fraction(16), "tokens_": Fraction(200)}
VOCABULARY, HEAD, CONTEXT = 16, 8, 6
LR, DECAY, EPS, BETAS = 3e-3, 0.1, 1e-8, (0.9, 0.95)


class Block(nn.Module):
    """Pre-norm; queries and keys are normed, by gains that all heads share."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.q, self.k, self.v, self.o = (nn.Linear(n, n) for _ in range(4))
        self.q_norm, self.k_norm = nn.RMSNorm(HEAD), nn.RMSNorm(HEAD)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln1(x)
        q, k, v = (part(h).unflatten(-1, (-1, HEAD)).transpose(-2, -3) for part in (self.q, self.k, self.v))
        weights = (self.q_norm(q) @ self.k_norm(k).transpose(-1, -2) / HEAD).softmax(-1)
        x = x + self.o((weights @ v).transpose(-2, -3).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, n: int, depth: int) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(VOCABULARY, n), nn.Embedding(CONTEXT, n)
        self.blocks = nn.ModuleList(Block(n) for _ in range(depth))
        self.final, self.head = nn.LayerNorm(n), nn.Linear(n, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position(torch.arange(CONTEXT))
        for block in self.blocks:
            x = block(x)
        return self.head(self.final(x))


def gpt(width: int, depth: int) -> tuple[nn.Module, tuple[Tensor]]:
    return GPT(width, depth), (torch.zeros(2, CONTEXT, dtype=torch.long),)


MATRICES = ("q", "k", "v", "o", "up", "down")
#: Class of a parameter in the table -> the ends of names here.
CLASSES = {
    "embedding": ("embed.weight", "position.weight"),
    "hidden": tuple(f".{name}.weight" for name in MATRICES),
    "hidden_bias": tuple(f".{name}.bias" for name in MATRICES),
    "pre_ln(gain,bias)": ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"),
    "qk_norm": ("q_norm.weight", "k_norm.weight"),
    "final_ln": ("final.weight", "final.bias"),
    "unembedding": ("head.weight",),
    "output_bias": ("head.bias",),
    "residual_branch": (".o.weight", ".o.bias", ".down.weight", ".down.bias"),
}
#: Quantity -> its word in columns.
QUANTITIES = {"lr": "lr", "weight_decay": "wd", "eps": "eps", "one_minus_beta": "one_minus_beta"}


@once
def exported(alpha: Fraction) -> tpcalc.Scaling:
    ends: Any = {"batch": BATCH, "tokens": TOKENS, "horizon": "completed-p"}
    return tpcalc.scale(gpt, BASE, TARGET, gauge="completep", depth_alpha=alpha, **ends)


@once
def handed(alpha: Fraction) -> dict[str, dict[str, Any]]:
    """Name of a parameter at the target -> the group that an optimizer is handed for it."""
    model, _ = gpt(**TARGET)
    groups = exported(alpha).param_groups(model, LR, DECAY, EPS, betas=BETAS)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


def published(row: dict[str, Any], quantity: str, alpha: Fraction) -> float:
    """All powers that a row has of a quantity, as a number between the base and the target."""
    word = QUANTITIES[quantity]
    columns = ((ratio, row.get(f"{start}{word}_exp")) for start, ratio in RATIOS.items())
    return power_product([(ratio, exponent(text, alpha)) for ratio, text in columns if text is not None])


def argued(param_class: str, quantity: str, alpha: Fraction) -> float:
    """By what we differ, and where docs/theory.md argues it: D21, D20."""
    if quantity == "eps" and param_class == "final_ln":
        return 1 / 4  # D21: what the final norm's gain gets of a gradient falls as 1/n
    if quantity == "weight_decay" and param_class in ("hidden", "hidden_bias", "pre_ln(gain,bias)", "qk_norm"):
        return power_product([(RATIOS["depth_"], 1 - alpha)])  # D20: lr*wd is kept along the depth too
    return 1.0


@pytest.mark.parametrize("alpha", ["1", "1/2"])
@pytest.mark.parametrize("row", ROWS, ids=[row["param_class"] for row in ROWS])
def test_a_row(row, alpha):
    alpha = Fraction(alpha)
    names = [name for name in exported(alpha) if name.endswith(CLASSES[row["param_class"]])]
    assert len(names) in (1, 2, 16, 32, 48), row["param_class"]
    for name in names:
        weight, group = exported(alpha)[name], handed(alpha)[name]
        if row["param_class"] == "residual_branch":
            assert row["depth_mult_exp"] == "-alpha" and weight.forward == 4.0**-alpha
            continue
        entry = next(e for e in exported(alpha).document["weights"] if e["name"] == name)
        size = entry["init_std"] if entry["init_std"]["base"] else entry["init_mean"]
        if size["base"]:
            assert size["target"] / size["base"] == pytest.approx(4.0 ** exponent(row["init_std_exp"])), name
        found = {
            "lr": group["lr"] / LR,
            "weight_decay": group["weight_decay"] / DECAY,
            "eps": group["eps"] / EPS,
            "one_minus_beta": (1 - group["betas"][0]) / (1 - BETAS[0]),
        }
        assert (1 - group["betas"][1]) / (1 - BETAS[1]) == pytest.approx(found["one_minus_beta"])
        for quantity, number in found.items():
            wanted = published(row, quantity, alpha) * argued(row["param_class"], quantity, alpha)
            assert number == pytest.approx(wanted, rel=1e-12 if quantity != "one_minus_beta" else 1e-9), (
                name,
                quantity,
            )


def test_all_rows_and_parameters_are_met():
    assert {row["param_class"] for row in ROWS} == CLASSES.keys()
    for name in exported(Fraction(1)):
        classes = [c for c, ends in CLASSES.items() if name.endswith(ends) and c != "residual_branch"]
        assert len(classes) == 1, (name, classes)


def test_the_formula_in_words():
    (entry,) = (e for e in ENTRIES if e["kind"] == "formula" and e["paper"] == "Complete(d)P")
    assert (
        "eta x sqrt(kappa), lambda x sqrt(kappa), steps / kappa, eps / sqrt(kappa), (1-beta) x kappa" in entry["text"]
    )
    assert "eta x kappa^-1/2, lambda x kappa^-1/2, eps x kappa^1/2, (1-beta)/kappa" in entry["text"]
    laws = exported(Fraction(1)).assumed["laws"]["adamw"]
    assert {key: own["powers"] for key, own in laws.items()} == {
        "lr": {"kappa_B": "1/2", "kappa_D": "-1/2"},
        "weight_decay": {"kappa_B": "1/2", "kappa_D": "-1/2"},
        "eps": {"kappa_B": "-1/2", "kappa_D": "1/2"},
        "one_minus_beta": {"kappa_B": "1", "kappa_D": "-1"},
    }
    assert exported(Fraction(1)).assumed["steps"]["factor"] == 12.5
