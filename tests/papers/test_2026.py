"""Every entry of ``papers_2026.json``, and the depths of ``papers.json``, walked: compared, argued, or set aside.

An entry is compared with what is derived on a traced net, column by column; or it has a written reason why nothing can
be compared; a difference carries the number under which ``docs/theory.md`` argues it, and stands in ``DIFFERENCES``
with both values.  An entry, or a column of a row, that is none of these fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import pytest

import tpcalc
from tests.papers.test_oracles import NAMES, PARAMETER, Row, net, view
from tests.support import published as pub
from tests.support import stacks, unusual
from tests.support.models import example, program
from tests.support.once import once
from tests.support.published import COLUMNS, HALF, ONE, PRINTED, QUANTITIES, ZERO, Compared, column, compared
from tpcalc.algebra.text import power_text, powers_text
from tpcalc.derive.parametrizations import named_solution
from tpcalc.optimizers import ADAM, LAWS, UpdateLaw

HERE = Path(__file__).parent
THEORY = (HERE.parents[1] / "docs" / "theory.md").read_text(encoding="utf-8")
ENTRIES: list[dict[str, Any]] = json.loads((HERE / "papers_2026.json").read_text(encoding="utf-8"))
OLDER: list[dict[str, Any]] = json.loads((HERE / "papers.json").read_text(encoding="utf-8"))
ROWS = [(index, entry) for index, entry in enumerate(ENTRIES) if entry["kind"] == "row"]
#: Rows to be compared: place, whether in the older file (of which the depths are walked here), row.
CASES = [(index, False, entry) for index, entry in ROWS] + [
    (index, True, entry)
    for index, entry in enumerate(OLDER)
    if entry["kind"] == "row" and any(entry[key] is not None for key in entry if key.startswith("depth_"))
]

# --- what is set aside, and why ---------------------------------------------------------------------------------------

NOISE = (
    "batch and duration: what noise and time ask for, no order of a limit of the traced program; the stated rules are "
    "compared with these columns in tests/horizon/test_rules.py"
)
EMPIRICAL = "fitted or chosen by trials; no assumption from which an exponent follows"
#: What a row's paper, parametrization, optimizer and class begin with -> why nothing of it is compared.
SET_ASIDE = {
    "Complete-muE (2605.23893), Complete-muE, AdamW, all": NOISE,
    "Malladi 2205.10287": NOISE,
    "Power Lines 2505.13738": NOISE,
    "muP++ (ArchScale), muP++, AdamW, matrix, code 'sdew'": NOISE,
    "nanochat": EMPIRICAL,
    "Everett2024, muP, Adam, global LR fit": EMPIRICAL,
    "Jiang2026 MoE HP transfer, MoE-CompleteP (alpha=1), Adam, expert_routing_bias": (
        "moved by a count of tokens, no gradient trains it"
    ),
    "Jiang2026 MoE HP transfer, MoE-CompleteP (alpha=1), Adam, moe_aggregation": (
        "a factor of the forward pass, which the traced net has: gates over k"
    ),
    "Complete-muE (2605.23893), Complete-muE, AdamW, ffn/expert_down: output multiplier A": (
        "counted with ffn/expert_down, which stands behind it"
    ),
    "Complete-muE (2605.23893), Complete-muE, AdamW, route scale R": (
        "counted with ffn/expert_down, which stands behind it"
    ),
    "CompleteP, muP, AdamW, hidden": "the width's rules alone: a depth that is no scale has no power of L",
}
#: Why a column (the words that it begins with) is not compared.
COLUMNS_SET_ASIDE = {"batch_": NOISE, "tokens_": NOISE}
RESTATED = "says in words what the exponents beside it say"


def title(row: dict[str, Any]) -> str:
    return ", ".join(row[key] for key in ("paper", "parametrization", "optimizer", "param_class", "table"))


def set_aside(row: dict[str, Any]) -> Optional[str]:
    found = [why for start, why in SET_ASIDE.items() if title(row).startswith(start)]
    return found[0] if found else None


def columns_of(row: dict[str, Any]) -> set[str]:
    """The columns that claim something of a weight."""
    ends = ("_exp", "_formula")
    return {key for key in row if key.endswith(ends) and row[key] is not None}


def left_out(row: dict[str, Any], key: str) -> Optional[str]:
    for start, why in COLUMNS_SET_ASIDE.items():
        if key.startswith(start):
            return why
    if key == "wd_formula" and "tokens" in row[key] or key == "eps_formula" and row[key].startswith("sde"):
        return NOISE
    if key == "eps_formula" and row["paper"].startswith("Qiu2025 authors") and row["optimizer"] not in OWN_EPS:
        return "epsilons of Adam and of Muon stand in one cell; this row is neither's"
    if row["param_class"].startswith("residual_branch(") and row[key] == "0":
        return "of a multiplier, which has no init, rate or epsilon, it says that experts have no part in it"
    quantity = {"init": "init_std", "mult": "multiplier"}.get(key.split("_")[0], key.split("_")[0])
    if key.endswith("_formula") and any(row.get(column(quantity, scale)) is not None for scale in COLUMNS):
        return RESTATED
    return None


# --- rows about stacks of blocks: width and depth ---------------------------------------------------------------------

LAST = ("two.weight", "two.bias")
#: Class of a parameter -> ends of names in the nets.
CLASSES = {
    "embedding": ("entry.weight",),
    "input": ("entry.weight",),
    "hidden": ("one.weight", "two.weight", "layer.weight"),
    "hidden(residual branch)": ("layer.weight",),
    "hidden in block": ("one.weight", "two.weight"),
    "matrix": ("one.weight", "two.weight", "layer.weight"),
    "hidden (MHSA/MLP)": tuple(f".{name}.weight" for name in ("q", "k", "v", "o", "up", "down")),
    "hidden_bias": ("one.bias", "two.bias", "layer.bias"),
    "pre_ln(gain,bias)": tuple(f"blocks.{i}.norm.{kind}" for i in (0, 1) for kind in ("weight", "bias")),
    "final_ln": ("norm.weight", "norm.bias"),
    "unembedding": ("out.weight",),
    "output": ("out.weight",),
    "output_bias": ("out.bias",),
    "qk_norm": ("q_norm.weight", "k_norm.weight"),
    "residual_branch": LAST,
    "first and last layer": ("entry.weight", "out.weight"),
}


def says(row: dict[str, Any]) -> str:
    return " ".join(str(row.get(key)) for key in ("parametrization", "table", "depth_mult_exp", "depth_lr_exp"))


def alphas(row: dict[str, Any]) -> tuple[Fraction, ...]:
    """Of a row for any alpha three of them, else that which it is for."""
    if any(word in says(row) for word in ("alpha=1/2", "k=1", "block depth 1")) or row["paper"].startswith("muP++"):
        return (HALF,)
    if "alpha" in says(row).replace("alpha=1", ""):
        return (HALF, Fraction(3, 4), ONE)
    return (ONE,)


def factory_of(row: dict[str, Any]) -> Callable:
    """Blocks with as many matrices as the row is about."""
    if "k=1" in says(row) or "block depth 1" in says(row):
        return unusual.single
    return {"qk_norm": stacks.qk_norms, "hidden (MHSA/MLP)": stacks.gpt}.get(row["param_class"], stacks.pre)


def names_in(rules: Any, row: dict[str, Any]) -> list[str]:
    found = [name for name in rules if name.endswith(CLASSES[row["param_class"]])]
    if row["param_class"] == "final_ln":
        found = [name for name in found if not name.startswith("blocks")]
    assert found, row
    return found


def excuse_of_stack(row: dict[str, Any], name: str, quantity: str, scale: str, alpha: Fraction) -> Optional[str]:
    """The number under which the theory argues a difference, if there is one."""
    if quantity == "eps" and scale == "width" and row["paper"] == "CompleteP" and row["param_class"] == "embedding":
        return "D11"
    if quantity == "eps" and scale == "width" and row["param_class"] == "final_ln":
        return "D21"
    if quantity == "wd" and scale == "depth" and alpha < 1:
        return "D20"
    if row["optimizer"] == "SOAP" and quantity in ("lr", "wd") and scale == "width":
        return "D22"
    return None


def of_stack(row: dict[str, Any]) -> Iterator[Compared]:
    for alpha in alphas(row):
        # a branch is not trained: any law will do
        for law in PRINTED[row["optimizer"]]:
            rules = pub.of_stack(factory_of(row), law, alpha)
            for name, quantity, scale, found in pub.along_each([row], rules, names_in(rules, row), law, alpha):
                number = None if found.agree else excuse_of_stack(row, name, quantity, scale, alpha)
                yield replace(found, number=number)


def first_and_last(row: dict[str, Any]) -> Iterator[Compared]:
    """Bordelon et al.: L^(1/2 - alpha) in the forward pass and its inverse in the init, under the blocks' rate."""
    bulk = {entry["optimizer"]: entry for _, entry in ROWS if entry["param_class"] == "hidden (MHSA/MLP)"}
    for alpha in (HALF, Fraction(3, 4), ONE):
        init, multiplier = (pub.said(row, quantity, alpha)["depth"] for quantity in ("init_std", "multiplier"))
        for optimizer in row["optimizer"].split("/"):
            law = PRINTED[optimizer][0]
            rules = pub.of_stack(stacks.gpt, law, alpha)
            for name in ("embed.weight", "head.weight"):
                A, lr = (-rules[name].A["L"], -rules[name].c["L"])
                yield compared(["depth_init_exp", "depth_mult_exp"], "init_std", init + multiplier, A)
                common = pub.said(bulk[optimizer], "lr", alpha)["depth"]
                behind = lr - pub.moved("lr", law) * multiplier
                number = None if common == behind else "D28"
                texts = (powers_text({"L": x}) for x in (common, behind))
                yield compared(["depth_mult_exp"], f"lr, {optimizer}", *texts, number)


# --- rows about experts -----------------------------------------------------------------------------------------------

#: Directions, in the order of the scales, with no more picked than there are: experts wider than the model, narrower.
WIDE = [(2, 5, 3, 7, 1), (4, 9, 1, 5, 2), (3, 4, 2, 11, 1)]
NARROW = [(7, 5, 3, 2, 1), (5, 6, 2, 1, 2)]
EXPERTS = {"Jiang2026 MoE HP transfer": "stein", "Complete-muE (2605.23893)": "balanced", "muP-MoE (2508.09752)": "mup"}
ATTENTION = ("q.weight", "k.weight", "v.weight", "o.weight")
#: Class of a parameter -> names in the first block, or outside of all.
OF_EXPERTS = {
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
    "residual_branch(MHA,MoE)": ("o.weight", "o.bias", "down", "after.weight"),
}


def effective(row: dict[str, Any], quantity: str) -> dict[str, Fraction]:
    rows, name = [row], row["param_class"]
    if name == "ffn/expert_down":
        rows += [
            other
            for _, other in ROWS
            if other["paper"] == row["paper"] and other["param_class"].endswith(("multiplier A", "(routed sum only)"))
        ]
        assert len(rows) == 3
    found = pub.effective(rows, quantity, ADAM)
    if found and name.startswith("ffn/expert_down EFFECTIVE"):
        found["top_k"] += 1  # behind gates of 1/k, as the weight itself is compared
    if found and "width only" in row["conditions"]:
        found["ffn"] = ZERO  # follows the width
    return found


def excuse_of_experts(row: dict[str, Any], quantity: str, narrow: bool) -> Optional[str]:
    name, jiang = row["param_class"], row["paper"].startswith("Jiang")
    if quantity == "eps" and jiang:
        if name in ("norm(all)", "other_biases(attn,expert)"):
            return "D21"
        if narrow and name in ("expert_up", "dense_ffn_up"):
            return "D23"
        return "D24" if name in ("router", "expert_up", "expert_down", "dense_ffn_down") else "D23" if narrow else None
    if quantity == "init_std" and narrow and ("up" in name or name == "dense_ffn_down"):
        return "D23"
    if quantity == "init_std" and name == "router" and row["paper"].startswith("Complete"):
        return "D25"
    return "D26" if name == "final output projection" else None


def of_experts(row: dict[str, Any], whole: bool = False) -> Iterator[Compared]:
    mup = EXPERTS[row["paper"]] == "mup"
    nets = [pub.ALL] if whole else [("width", "ffn")] if mup else [pub.LAYER, pub.WITH_EXPERTS, pub.WITH_DEPTH]
    for scales in nets:
        rules = pub.of_experts(EXPERTS[row["paper"]], scales)
        names = [name for name in rules if name.removeprefix("blocks.0.") in OF_EXPERTS[row["param_class"]]]
        assert names or scales == pub.LAYER, row
        for name in names:
            if row["param_class"].startswith("residual_branch"):
                if "depth" in scales:
                    published = pub.power(rules.scales, pub.said(row, "multiplier"))
                    yield compared(["depth_mult_exp"], "multiplier", published, str(rules[name].formulas["multiplier"]))
                continue
            for quantity, (_, field) in QUANTITIES.items():
                published = effective(row, quantity) if quantity != "multiplier" else {}
                if published:
                    yield from along(row, quantity, published, rules, rules[name].formulas[field])


def along(row: dict[str, Any], quantity: str, published: dict, rules: Any, formula: Any) -> Iterator[Compared]:
    """In directions, since formulas have kinks; what a row does not speak of stays, but for the width of experts, which
    any row knows."""
    grown = [scale.name for scale in rules.scales]
    columns = {column(of, scale) for scale in published if scale in grown for of in (quantity, "multiplier")}
    for narrow, directions in ((False, WIDE), (True, NARROW)):
        agree = True
        for direction in directions:
            at = dict.fromkeys(COLUMNS, 0)
            moved = (*published, "ffn") if "width" in published else published
            at |= {s: x for s, x in zip(pub.ALL, direction) if s in grown and s in moved}
            if "width only" in row["conditions"]:
                at["ffn"] = at["width"]
            elif narrow and "ffn" not in grown:
                continue  # neither the model nor its experts become wider
            agree &= sum(x * at[scale] for scale, x in published.items()) == formula.along(
                [Fraction(at[name]) for name in grown]
            )
        number = None if agree else excuse_of_experts(row, quantity, narrow)
        texts = pub.power(rules.scales, published), str(formula)
        yield Compared(frozenset(columns), quantity, *texts, agree, number)


# --- Qiu et al.: formulas in the sizes of a matrix, the depth, the number of blocks of a preconditioner ---------------

#: Growths of a matrix's inputs and outputs.
SHAPES = {"input": (0, 1), "hidden": (1, 1), "output": (1, 0)}
#: Printed formula of a rate -> its exponents in n and, in a block, in L: of the growths of inputs, outputs and of the
#: number of blocks (``many``; a block is the matrix, or does not grow), and of e, the powers of Shampoo's factors
#: together.  Of SOAP's formulas the one with both factors.
RATES: dict[str, Callable] = {
    # a fraction's bar is lost in this reading of the table: see D27
    "(d_out/d_in)^(1-(eL+eR)) * L^(2(eL+eR)-1) * n_blk^(eL+eR)": lambda i, o, e, many: (
        (o - i) * (1 - e) + many * e,
        2 * e - 1,
    ),
    "N^{1-2E}(d_out/d_in)^{1-E} n_blk^-E, branch N=L": lambda i, o, e, many: ((o - i) * (1 - e) - many * e, 1 - 2 * e),
    "b_out^(eL/2) b_in^(eR/2)/d_in": lambda i, o, e, many: ((i + o - many) * HALF - i, ZERO),
    "both: (d_out/d_in)^.5 n_blk^-.5; input-only: (d_in n_blk)^-1/2": lambda i, o, e, many: (
        (o - i - many) * HALF,
        ZERO,
    ),
    "sqrt(d_out/d_in)": lambda i, o, e, many: ((o - i) * HALF, ZERO),
    "1/d_in": lambda i, o, e, many: (-i * ONE, ZERO),
    "d_out/d_in": lambda i, o, e, many: ((o - i) * ONE, None),
    "N d_out/d_in": lambda i, o, e, many: ((o - i) * ONE, ONE),
}
IN_CODE = "Adam eps/(d_out N sqrt(B)); Muon NS eps (d_in/d_out)^.5/N"
EPSILONS: dict[str, Callable] = {
    "d_in/(L^2 d_out n_blk)": lambda i, o, many: (ONE * (i - o - many), -2),
    "b_out^(eL/2) b_in^(eR/2)/(L d_out)": lambda i, o, many: ((i + o - many) * HALF - o, -1),
    "(1/L) sqrt(d_in/d_out)": lambda i, o, many: (HALF * (i - o), -1),
    "sqrt(1/(d_in d_out))": lambda i, o, many: (-HALF * (i + o), 0),
    IN_CODE + "Adam hidden": lambda i, o, many: (-ONE * o, -1),
    IN_CODE + "Muon": lambda i, o, many: (HALF * (i - o), -1),
}
OWN_EPS = ("Adam hidden", "Muon")
OF_KIND = {"input": "entry.weight", "hidden": "blocks.0.one.weight", "output": "out.weight"}
LAST_OF_KIND = OF_KIND | {"hidden": "blocks.0.two.weight"}


def laws_of(row: dict[str, Any]) -> Iterator[tuple[UpdateLaw, Fraction, bool]]:
    """The law, the powers of Shampoo's factors together, and whether it works in blocks of a size that stays."""
    shampoo, soap = (row["optimizer"].startswith(word) for word in ("Shampoo", "SOAP"))
    for blocks in (False, True) if shampoo or soap else (False,):
        for e in (HALF, Fraction(3, 4), ONE) if shampoo else (HALF,):
            yield (pub.shampoo(e, blocks) if shampoo else PRINTED["SOAP" if soap else row["optimizer"]][0]), e, blocks


def of_preconditioner(row: dict[str, Any]) -> Iterator[Compared]:
    kind = row["param_class"]
    i, o = SHAPES[kind]
    for law, e, blocks in laws_of(row):
        rules = pub.of_stack(stacks.pre, law)
        many = (i + o) if blocks else 0
        whole_soap = "D22" if law.name == "soap" and not blocks else None
        if not blocks:
            for *_, found in pub.along_each([row], rules, [LAST_OF_KIND[kind]], law, e=e):
                yield found
        for key, text, formulas in (("lr", row["lr_formula"], RATES), ("eps", row["eps_formula"], EPSILONS)):
            if key == "eps" and (text is None or left_out(row, "eps_formula")):
                continue
            if text == IN_CODE:
                text += row["optimizer"]
            published = formulas[text](i, o, e, many) if key == "lr" else formulas[text](i, o, many)
            published = published[0], (published[1] if kind == "hidden" else ZERO)
            has = rules[OF_KIND[kind]].formulas[key].monomial
            # a row without a word on the depth is compared along the width
            depth = ZERO if published[1] is None else has["L"]
            texts = [powers_text({"n": n, "L": L or ZERO}) for n, L in (published, (has["n"], depth))]
            number = whole_soap or ("D27" if key == "lr" and "n_blk^(eL+eR)" in text else None)
            number = None if texts[0] == texts[1] else number
            what = key + (" in blocks" if blocks else "") + (f", e = {e}" if e != HALF else "")
            yield compared([f"{key}_formula"], what, *texts, number)


def of_grafting(row: dict[str, Any]) -> Iterator[Compared]:
    """The rate of Q1 for the direction of Q2, whose own rate says how large its update is, and so epsilon."""
    kind = row["param_class"]
    name, (i, o) = OF_KIND[kind], SHAPES[kind]
    assert (row["lr_formula"], row["eps_formula"]) == ("eta_{Q1}", "(1/eta_{Q2}) sqrt(d_out/d_in)")
    adam, sgd = PRINTED["Adam"][0], PRINTED["SGD"][0]
    for size, way in ((adam, pub.shampoo(ONE, False)), (adam, pub.ORTHOGONAL), (sgd, pub.shampoo(HALF, False))):
        grafted, one, two = (pub.of_stack(stacks.pre, law) for law in (pub.grafted(size, way), size, way))
        yield compared(["lr_formula"], "lr", one[name].c, grafted[name].c)
        has = grafted[name].formulas["eps"].monomial
        said = {"n": two[name].c["n"] + (o - i) * HALF, "L": two[name].c["L"]}
        yield compared(["eps_formula"], "eps", said, has)
        for *_, found in pub.along_each([row], grafted, [LAST_OF_KIND[kind]], size):
            yield found


# --- Muon as it is written --------------------------------------------------------------------------------------------

#: Factor in front of the orthogonal factor -> the law that has it, its exponent in growths of rows and columns.
FACTORS: dict[str, tuple[str, Callable]] = {
    "0.2*sqrt(max(A,B)) * msgn": ("muon_match_rms_adamw", lambda rows, columns: max(rows, columns) * HALF),
    "0.2*sqrt(max(fan_in,fan_out))": ("muon_match_rms_adamw", lambda rows, columns: max(rows, columns) * HALF),
    "max(out,in)^0.5": ("muon_match_rms_adamw", lambda rows, columns: max(rows, columns) * HALF),
    "sqrt(fan_out/fan_in)": ("muon_spectral", lambda rows, columns: (rows - columns) * HALF),
    "sqrt(d_out/d_in) msgn": ("muon_spectral", lambda rows, columns: (rows - columns) * HALF),
    "(out/in)^0.5": ("muon_spectral", lambda rows, columns: (rows - columns) * HALF),
    "max(1,out/in)^0.5": ("muon", lambda rows, columns: max(0, rows - columns) * HALF),
}


def of_muon(row: dict[str, Any]) -> Iterator[Compared]:
    """The printed factor is the law's, for each shape, and the rate beside it what is derived for that law."""
    text, said = row["lr_formula"], Fraction(row["lr_exp"])
    if row["param_class"].startswith("lm_head") or row["param_class"] == "output Sign":
        law = LAWS["lion" if row["param_class"].startswith("lm_head") else "sign"]
        has = -pub.of_stack(stacks.pre, law)["out.weight"].c["n"]
        yield compared(["lr_exp", "lr_formula"], "lr", f"n^{said}", f"n^{has}", None if said == has else "D29")
        return
    name, factor = next(found for start, found in FACTORS.items() if text.startswith(start))
    law, bare = LAWS[name], pub.of_stack(stacks.pre, pub.ORTHOGONAL)
    rules = pub.of_stack(stacks.pre, law)
    yield compared(["lr_exp"], "lr", said, -rules[OF_KIND["hidden"]].c["n"])
    for kind, (i, o) in SHAPES.items():
        has = rules[OF_KIND[kind]].c["n"] - bare[OF_KIND[kind]].c["n"]
        yield compared(["lr_formula"], f"factor of {kind}", factor(o, i), has)


# --- the width alone, and attention -----------------------------------------------------------------------------------


def everett(row: dict[str, Any]) -> Iterator[Compared]:
    """Inits, and of Adam the largest rates, under their alignment."""
    of, weight = Row(-1, row), PARAMETER[row["param_class"]]
    solution = named_solution(net(), NAMES[row["parametrization"]], "omega")
    orders = solution.orders[weight]
    # D30: of muP's readout a note that quotes the table has n^-1/2 for both factors together
    number = "D30" if weight == "output.weight" and of.A != orders.A else None
    texts = (power_text(-A) for A in (of.A, orders.A))
    yield compared(["init_std_exp", "multiplier_exp"], "init_std", *texts, number)
    if of.exp("lr") is not None:
        c = ADAM.c(orders.C, view(solution, weight).at(of.a), of.a)
        yield compared(["lr_exp"], "lr", -of.exp("lr"), c)


def attention_logits(row: dict[str, Any]) -> Iterator[Compared]:
    """1/d, of which the code has the root and queries make up for the rest."""
    rules = tpcalc.derive(program(example("gpt.py", "gpt_growing_heads")), "adam", gauge="mup")
    assert row["mult_formula"].startswith("QK^T/d_head")
    yield compared(["mult_formula"], "multiplier", -ONE, -HALF - rules["blocks.0.attn.q.weight"].a)


# --- which row is compared how ----------------------------------------------------------------------------------------

#: What a paper's name begins with -> how its rows are compared.
BY_PAPER: dict[str, Callable[[dict[str, Any]], Iterator[Compared]]] = {
    "Complete(d)P": of_stack,
    "CompleteP-SGD": of_stack,
    "CompleteP": of_stack,
    "TP6": of_stack,
    "Zheng2026": of_stack,
    "Bordelon": of_stack,
    "muP++": of_stack,
    "Wang&Aitchison": of_stack,
    "Kosson": of_stack,
    "Jiang2026": of_experts,
    "Complete-muE": of_experts,
    "muP-MoE": of_experts,
    "Qiu2025": of_preconditioner,
    "Muon production": of_muon,
    "Everett2024": everett,
}
BY_CLASS = {"first and last layer": first_and_last, "attention_logit": attention_logits}


def compare(row: dict[str, Any]) -> list[Compared]:
    if row["param_class"] in BY_CLASS:
        return list(BY_CLASS[row["param_class"]](row))
    if row["optimizer"].startswith("Grafting"):
        return list(of_grafting(row))
    return list(next(how for start, how in BY_PAPER.items() if row["paper"].startswith(start))(row))


# --- formulas and remarks ---------------------------------------------------------------------------------------------

#: Growths of n, f and k in the regimes of MSSP.
REGIMES = {"I": (1, 1, 0), "II": (1, 0, 1), "III": (1, 1, 1)}


def terms(regime: str, experts: str) -> tuple[Fraction, Fraction]:
    """Orders of (a) what the update of the first matrix does through the initial last one, and of (b, c) what comes of
    the initial experts."""
    (found,) = pub.regime(regime, experts).terms
    return Fraction(str(found.through)), Fraction(str(found.initial))


def hierarchy(text: str) -> Iterator[Compared]:
    assert "variance n/(m K L)" in text
    for regime, (n, f, k) in REGIMES.items():
        yield compared([], f"variance {regime}", n - f - k, 2 * terms(regime, "stein")[1])


def stein(text: str) -> Iterator[Compared]:
    assert "sigma=sqrt(n)/m" in text
    sigma = pub.of_experts("stein", pub.LAYER)["down"].formulas["init_std"]
    for n, f in ((100, 100), (64, 1024), (900, 30)):
        yield compared(
            [], "init_std", n**0.5 / f, pytest.approx(sigma.at({"width": n, "ffn": f, "experts": 8, "top_k": 2}))
        )


def of_token(at: dict[str, float]) -> tuple[float, float]:
    """Effective init and rate of an expert's last matrix under Complete-muE's rule: behind gates of 1/k."""
    rule = pub.of_experts("balanced", pub.LAYER)["down"]
    return tuple(rule.formulas[field].at(at) / at["top_k"] for field in ("init_std", "lr"))  # type: ignore[return-value]


def granularity(text: str) -> Iterator[Compared]:
    assert "Granularity at fixed a/N and fixed a*h: nothing changes" in text and "No factor in N anywhere" in text
    base = {"width": 64, "experts": 32, "top_k": 4, "ffn": 512}
    finer = base | {"experts": 64, "top_k": 8, "ffn": 256}
    yield compared([], "finer experts", of_token(base), pytest.approx(of_token(finer)))
    rules = pub.of_experts("balanced", pub.LAYER)
    for name in rules:
        for field in ("init_std", "lr"):
            yield compared([], f"{name}, {field}", 0, rules[name].formulas[field].along([ZERO, ONE, ZERO, ZERO]))


def worked_example(text: str) -> Iterator[Compared]:
    """H_act = 9 d at the target, d at the base: eight experts that are picked and one for all."""
    assert "all 2D LR x1/8, std x1/sqrt8; down std x3/sqrt8, A=1/9, R=8" in text
    sizes = {"width": 1024, "ffn": 1024, "depth": 2}, {"width": 128, "ffn": 128, "depth": 2}
    q = pub.of_experts("balanced", pub.WITH_DEPTH)["blocks.0.q.weight"].formulas
    for field, times in (("lr", 1 / 8), ("init_std", 8**-0.5)):
        yield compared([], f"2D, {field}", times, pytest.approx(q[field].at(sizes[0]) / q[field].at(sizes[1])))
    large = of_token({"width": 1024, "experts": 129, "top_k": 9, "ffn": 1024})
    small = of_token({"width": 128, "experts": 129, "top_k": 1, "ffn": 128})
    ratios = tuple(x / y for x, y in zip(large, small))
    yield compared([], "down", (1 / 9 * 3 / 8**0.5, 1 / 9 / 8), pytest.approx(ratios))


def r_norms(text: str) -> Iterator[Compared]:
    """||W||_R = sqrt(d_in/d_out) ||W||_2: a random matrix, an update and a gradient of rank 1."""
    assert "Gradient R-norms (k>=2): (1/n_out, 1/L, 1)" in text
    adam = PRINTED["Adam"][0]
    one = pub.of_stack(unusual.single, adam, HALF)["blocks.0.layer.weight"]
    yield compared([], "k = 1: W, dW", (-HALF, -ONE), (-one.A["L"], -one.C["L"]))
    rules = pub.of_stack(stacks.pre, adam)
    first, last = rules["blocks.0.one.weight"], rules["blocks.0.two.weight"]
    products = -first.A["L"] - last.A["L"], -first.C["L"] - last.A["L"], -first.A["L"] - last.C["L"]
    yield compared([], "k = 2: W W, dW W, W dW", (-ONE, -ONE, -ONE), products)
    for (kind, (i, o)), gradient in zip(SHAPES.items(), ({"n": -1, "L": 0}, {"n": 0, "L": -1}, {"n": 0, "L": 0})):
        rule = rules[OF_KIND[kind]]
        norms = -rule.A["n"] + (max(i, o) + i - o) * HALF, -rule.C["n"] + i
        yield compared([], f"W, dW of {kind}", (ZERO, ZERO), norms)
        g = rule.formulas["of_gradient"].monomial
        behind = 1 if kind == "output" else 0  # their readout has a multiplier 1/n
        yield compared([], f"gradient of {kind}", gradient, {"n": g["n"] + i - behind, "L": g["L"]})


def effective_comparison(text: str) -> Iterator[Compared]:
    """std and lr of the last matrix of an expert behind gates of 1/k, in each regime, by each rule."""
    assert "regime III Jiang=muP(MSSP paper)=-3/2" in text and "All agree on effective LR 1/(K h)" in text
    inits = {"I": (-HALF, -HALF, -HALF), "II": (-HALF, -HALF, -ONE), "III": (-3 * HALF, -ONE, -3 * HALF)}
    for regime, (_, f, k) in REGIMES.items():
        for experts, init in zip(("stein", "balanced", "mup"), inits[regime]):
            rule = pub.regime(regime, experts)["down"]
            yield compared([], f"{regime} {experts}", (init, -k - f), (-rule.A - k, -rule.c - k))


def three_terms(text: str) -> Iterator[Compared]:
    assert "Jiang = (a)+(d) Theta(1)" in text and "(a) ~ sqrt(K h/n)=sqrt(H_act/d)" in text
    for regime, (n, f, k) in REGIMES.items():
        yield compared([], f"{regime} Jiang (a)", ZERO, terms(regime, "stein")[0])
        yield compared([], f"{regime} Complete-muE (a), (b)", ((k + f - n) * HALF, ZERO), terms(regime, "balanced"))
        yield compared([], f"{regime} (d)", Fraction(f), pub.regime(regime, "mup")["down"].C)
    yield compared([], "II, sqrt(n)/h: (a), (b)", (ZERO, ZERO), terms("II", "stein"))


def measured(text: str) -> Iterator[Compared]:
    """Slopes of (a), (b) and (c), to a tenth."""
    said = {
        ("I", "mup"): "I fan-in -0.02,0.00,0.01",
        ("II", "mup"): "II muP -0.53,-0.51,-0.53",
        ("II", "stein"): "II sqrt(n)/h 0.01,0.08,-0.02",
        ("III", "mup"): "III fan-in -0.03,-0.47,-0.48",
        ("III", "balanced"): "III Complete-muE-like sqrt(K) boost 0.41,-0.02,-0.03",
    }
    for (regime, experts), words in said.items():
        assert words in text
        slopes = [float(x) for x in words.rpartition(" ")[2].split(",")]
        a, b = map(float, terms(regime, experts))
        yield compared([], words, slopes, pytest.approx([a, b, b], abs=0.1))


def epsilon_of(name: str, of_paper: dict[str, int]) -> Iterator[Compared]:
    """Of wide experts: in k and n on one layer, in L on a transformer."""
    for scales in (pub.LAYER, pub.WITH_DEPTH):
        rules = pub.of_experts("stein", scales)
        formula = rules[name if scales == pub.LAYER else f"blocks.0.{name}"].formulas["eps"]
        grown = [scale.name for scale in rules.scales]
        for direction in WIDE:
            at = dict(zip(pub.ALL, direction))
            has = formula.along([Fraction(at[scale]) for scale in grown])
            yield compared([], "eps", sum(x * at[scale] for scale, x in of_paper.items() if scale in grown), has)


def router_epsilon(text: str) -> Iterator[Compared]:
    assert "-> 1/(K L), no n factor" in text
    yield from epsilon_of("router.weight", {"top_k": -1, "depth": -1})


def down_epsilon(text: str) -> Iterator[Compared]:
    assert "~ n^-1 K^-1 L^-1, no h factor" in text
    yield from epsilon_of("down", {"width": -1, "top_k": -1, "depth": -1})


def head(text: str) -> Iterator[Compared]:
    assert "effective Adam update of logits n*n^-1*n^-1 = n^-1" in text
    has = pub.of_experts("balanced", pub.LAYER)["readout.weight"].formulas["lr"].monomial["n"] + 1
    yield compared([], "update of the logits", "n^-1", power_text(has), "D26")


def decay(text: str) -> Iterator[Compared]:
    assert "expert_up n, expert_down h (Jiang repo)" in text
    rules = pub.of_experts("stein", pub.LAYER)
    has = [str(rules[name].formulas["weight_decay"]) for name in ("up", "down")]
    yield compared([], "weight decay", ["n", "f"], has)


#: Place of a formula in the file -> how it is compared, or why not.
FORMULAS: dict[int, Any] = {
    13: NOISE,
    29: "constant factors beside the orders",
    30: hierarchy,
    31: stein,
    32: EMPIRICAL,
    42: granularity,
    43: worked_example,
    46: "says of which sweeps transferred",
    69: r_norms,
    111: effective_comparison,
    112: three_terms,
    113: measured,
    114: router_epsilon,
    115: down_epsilon,
    116: head,
    117: decay,
}
#: Remarks on papers that contradict each other -> words of docs/theory.md where that is argued, or why it is not.
REMARKS: dict[int, Any] = {
    101: ("| `stein` (Jiang et al.) | sqrt(n)/f |", "MSSP asks for all four"),
    102: ("**D23.",),
    103: ("**D25.",),
    104: ("**D11.", "**D21.", "**D24."),
    105: ("*Which alpha.*",),
    106: ("**D15.",),
    107: ("**D14.",),
    108: NOISE,
    109: NOISE,
    110: ("**D31.",),
    111: EMPIRICAL,
    112: ("**D26.",),
    113: "two programs at second hand, neither of which states what it assumes",
}

# --- the walk ---------------------------------------------------------------------------------------------------------

#: How many agree, differ somewhere under a number, are set aside.
COUNTS = {"rows": (111, 35, 10), "depths of papers.json": (14, 2, 1), "formulas": (11, 1, 4)}
#: Discrepancies: number, class or formula, quantity, published, derived: all of them and no other.
DIFFERENCES = """
D11 | embedding | eps | 1 | n^-1
D20 | hidden | wd | 1 | L^1/2
D20 | hidden | wd | 1 | L^1/4
D20 | hidden | wd | L^-1/2 | 1
D20 | hidden_bias | wd | 1 | L^1/2
D20 | hidden_bias | wd | 1 | L^1/4
D20 | hidden_bias | wd | L^-1/2 | 1
D20 | pre_ln(gain,bias) | wd | 1 | L^1/2
D20 | pre_ln(gain,bias) | wd | 1 | L^1/4
D20 | qk_norm | wd | 1 | L^1/2
D20 | qk_norm | wd | 1 | L^1/4
D21 | final_ln | eps | 1 | n^-1
D21 | norm(all) | eps | 1 | n^-1
D21 | norm(all) | eps | 1 | n^-1 L^-1 Max(1, sqrt(n/f))
D21 | norm(all) | eps | 1 | n^-1 Max(1, sqrt(n/f))
D21 | other_biases(attn,expert) | eps | L^-1 | n^-1 L^-1 Max(1, sqrt(n/f))
D22 | hidden | eps | L^-1 | n^-1 L^-1
D22 | hidden | lr | 1 | n^-1
D22 | hidden | wd | 1 | n
D22 | input | eps | n^-1/2 | n^-1
D22 | input | lr | n^1/2 | 1
D22 | input | wd | n^-1/2 | 1
D22 | output | eps | n^1/2 | 1
D22 | output | lr | n^-1/2 | n^-1
D22 | output | wd | n^1/2 | n
D23 | attn_qkvo | eps | n^-1 L^-1 | n^-1 L^-1 Max(1, sqrt(n/f))
D23 | dense_ffn_down | init_std | n^1/2 f^-1 | f^-1/2 Min(1, sqrt(n/f))
D23 | dense_ffn_up | init_std | n^-1/2 | n^-1/2 Min(1, sqrt(f/n))
D23 | embedding | eps | n^-1 | n^-1 Max(1, sqrt(n/f))
D23 | expert_up | eps | f^-1 L^-1 | f^-1 L^-1 Max(1, sqrt(n/f))
D23 | expert_up | eps | f^-1 | k^-1 f^-1 Max(1, sqrt(n/f))
D23 | expert_up | init_std | n^-1/2 | n^-1/2 Min(1, sqrt(f/n))
D23 | ffn/expert_up,gate | init_std | n^-1/2 | n^-1/2 Min(1, sqrt(f/n))
D23 | unembedding (tied) | eps | 1 | Max(1, sqrt(n/f))
D24 | dense_ffn_down | eps | n f^-2 L^-1 | n^-1 L^-1
D24 | expert_down | eps | 1 | k^-1
D24 | expert_down | eps | n f^-2 L^-1 | n^-1 L^-1
D24 | expert_down | eps | n f^-2 | n^-1 k^-1
D24 | expert_up | eps | 1 | k^-1
D24 | expert_up | eps | f^-1 | k^-1 f^-1 Max(1, sqrt(n/f))
D24 | router | eps | 1 | k^-1
D24 | router | eps | n^-1 L^-1 | L^-1 Max(1, sqrt(n/f))
D24 | router | eps | n^-1 | k^-1 Max(1, sqrt(n/f))
D25 | router | init_std | n^-1/2 | n^-1
D26 | final output projection | init_std | n^-3/2 | n^-1
D26 | final output projection | lr | n^-2 | n^-1
D26 | formula 116 | update of the logits | n^-1 | 1
D27 | hidden | lr in blocks | n | n^-1
D27 | hidden | lr in blocks, e = 1 | n^2 L | n^-2 L^-1
D27 | hidden | lr in blocks, e = 3/4 | n^3/2 L^1/2 | n^-3/2 L^-1/2
D27 | hidden | lr, e = 1 | L | L^-1
D27 | hidden | lr, e = 3/4 | L^1/2 | L^-1/2
D27 | input | lr in blocks | n | 1
D27 | input | lr in blocks, e = 1 | n | n^-1
D27 | input | lr in blocks, e = 3/4 | n | n^-1/2
D27 | output | lr in blocks | 1 | n^-1
D27 | output | lr in blocks, e = 1 | n | n^-1
D27 | output | lr in blocks, e = 3/4 | n^1/2 | n^-1
D28 | first and last layer | lr, Adam | 1 | L^1/2
D28 | first and last layer | lr, Adam | L^-1/2 | 1
D28 | first and last layer | lr, Adam | L^-1/4 | L^1/4
D29 | lm_head (Adam/Lion) | lr | n^-1/2 | n^-1
D30 | readout | init_std | n^-1/2 | n^-1
"""
LINES = set(DIFFERENCES.split("\n")[1:-1])


def line(of: str, one: Compared) -> str:
    return f"{one.number} | {of} | {one.what} | {one.published} | {one.derived}"


def check(of: str, found: list[Compared]) -> None:
    """Raises AssertionError for a difference that is not written down."""
    assert found
    for one in found:
        assert one.agree or one.number is not None, f"{one.what}: published {one.published}, derived {one.derived}"
        if one.number is not None:
            assert f"**{one.number}." in THEORY and line(of, one) in LINES, line(of, one)


@once
def formula(index: int) -> list[Compared]:
    return list(FORMULAS[index](ENTRIES[index]["text"])) if callable(FORMULAS[index]) else []


@once
def comparisons(index: int, older: bool = False) -> list[Compared]:
    """Of a row, by its place in the file; none of one that is set aside."""
    row = (OLDER if older else ENTRIES)[index]
    return [] if set_aside(row) else compare(row)


def off(row: dict[str, Any], key: str) -> dict[str, Any]:
    """The row with an eighth more in one exponent."""
    return {**row, key: str(pub.exponent(row[key]) + Fraction(1, 8))}


def name_of(case: Any) -> str:
    return f"{case[0]} {title(case[2])}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_row(case):
    """Each column is compared or has a reason, and an exponent that is off is noticed."""
    index, older, row = case
    if set_aside(row):
        return
    found = comparisons(index, older)
    check(row["param_class"], found)
    columns = frozenset().union(*(one.columns for one in found))
    assert not {key for key in columns_of(row) - columns if left_out(row, key) is None}
    for key in columns:
        if key.endswith("_exp") and row.get(key) is not None:
            with pytest.raises(AssertionError):
                check(row["param_class"], compare(off(row, key)))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case[2]["paper"] in EXPERTS], ids=name_of)
def test_a_row_about_experts_in_all_scales_at_once(case):
    _, _, row = case
    if set_aside(row) is None and EXPERTS[row["paper"]] != "mup" and "residual" not in row["param_class"]:
        for one in of_experts(row, whole=True):
            assert one.agree or one.number is not None, f"{one.what}: {one.published}, {one.derived}"


@pytest.mark.parametrize("index", [index for index, how in FORMULAS.items() if callable(how)])
def test_a_formula(index):
    check(f"formula {index}", formula(index))


@pytest.mark.parametrize("index", REMARKS)
def test_a_remark(index):
    """What papers contradict each other about is argued."""
    assert isinstance(REMARKS[index], str) or all(words in THEORY for words in REMARKS[index])


def test_nothing_is_skipped():
    """Every entry is in one of the tables; how many agree, differ somewhere under a number, are set aside."""
    assert {i for i, entry in enumerate(ENTRIES) if entry["kind"] == "formula"} == FORMULAS.keys()
    assert [entry["id"] for entry in ENTRIES if entry["kind"] == "discrepancy"] == list(REMARKS)
    assert {entry["kind"] for entry in ENTRIES} == {"meta", "row", "formula", "discrepancy"}
    assert all(any(title(row).startswith(start) for _, _, row in CASES) for start in SET_ASIDE)
    found = {
        "rows": [comparisons(index, older) for index, older, _ in CASES if not older],
        "depths of papers.json": [comparisons(index, older) for index, older, _ in CASES if older],
        "formulas": [formula(index) for index in FORMULAS],
    }
    tally = {}
    for kind, each in found.items():
        differ = sum(any(one.number for one in entry) for entry in each)
        aside = each.count([])
        tally[kind] = (len(each) - differ - aside, differ, aside)
        print(f"{kind}: agree {tally[kind][0]}, differ {differ}, set aside {aside}; {sum(map(len, each))} comparisons")
    assert tally == COUNTS


def test_differences_are_all_real():
    found = {line(row["param_class"], one) for i, old, row in CASES for one in comparisons(i, old) if one.number}
    found |= {line(f"formula {index}", one) for index in FORMULAS for one in formula(index) if one.number}
    assert found == LINES


def test_a_size_of_another_paper_is_noticed():
    row = next(row for _, row in ROWS if row["param_class"] == "expert_down")
    with pytest.raises(AssertionError):
        check("expert_down", compare(row | {"paper": "Complete-muE (2605.23893)"}))
