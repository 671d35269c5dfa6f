"""Named parametrizations and the command line's gauges, alignments and recipes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import jsonschema
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.models import bare_mlp, example, program
from tpcalc.check.slopes import fit
from tpcalc.derive.named import NAMED
from tpcalc.document import schema
from tpcalc.document.table import table_json

H = Fraction(1, 2)
GPT, MLP = example("gpt.py", "gpt"), example("mlp.py", "mlp")


def rules(factory=GPT, **options):
    return tpcalc.derive(program(factory), **{"optimizer": "adam", **options})


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("gauge", ["init", "mup", "symmetric", "ntk", None])
def test_every_gauge_writes_the_same_parametrization(name, gauge):
    found = rules(parametrization=name, gauge=gauge)
    assert (found.parametrization, found.gauge) == (name, gauge or NAMED[name])
    other = rules(parametrization=name, gauge="init")
    for weight, rule in found.items():
        assert (rule.A, rule.C) == (rule.a + rule.b, rule.C) == (other[weight].A, other[weight].C)


def test_standard_parametrization_of_a_gpt():
    """W ~ n^-1/2 in the readout: what it reads may move by n^-1/2 only (law 2), or freely if it counts as random."""
    full, omega = rules(parametrization="sp"), rules(parametrization="sp", alignment="omega")
    for name, rule in full.items():
        lazy = H if name != "head.weight" else 0
        assert (rule.a, rule.A) == (0, H if rule.role in ("hidden", "output") else 0), name
        assert (rule.C, omega[name].C) == (rule.A * 2 + lazy, rule.A * 2), name
    assert full["head.weight"].C == 1


def test_heads_that_grow_are_lazy_under_a_given_init():
    """1/sqrt(d) and d ~ n: nothing is absorbed, so queries and keys move by n^-1/2."""
    growing = rules(example("gpt.py", "gpt_growing_heads"), parametrization="mup")
    assert growing["blocks.0.attn.q.weight"].C - growing["blocks.0.attn.v.weight"].C == H
    assert "absorbs" not in str(growing)


def test_mup_is_what_is_derived():
    for factory in (MLP, GPT, bare_mlp(3)):
        named, derived = rules(factory, parametrization="mup", gauge="init"), rules(factory)
        assert {n: (r.A, r.C, r.c, r.eps) for n, r in named.items()} == {
            n: (r.A, r.C, r.c, r.eps) for n, r in derived.items()
        }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"parametrization": "muP"}, "parametrization 'muP' is unknown; choose one of derived, sp, ntp, mfp, mup"),
        (
            {"parametrization": "sp", "alignment": "half"},
            "alignment 'half' is unknown; choose one of full, none, omega",
        ),
        ({"alignment": "half"}, "alignment 'half' is unknown"),
        ({"gauge": "tp5"}, "gauge 'tp5' is unknown; choose one of init, mup, symmetric, ntk"),
        ({"optimizer": "adamm"}, "optimizer 'adamm' has no update law here; did you mean adam"),
        ({"optimizer": "adamw+muon"}, r"write it first: muon\+adamw"),
        ({"optimizer": "muon+"}, "is no recipe; write two names"),
        ({"optimizer": 3}, "optimizer 3 is no name and no UpdateLaw"),
    ],
    ids=str,
)
def test_wrong_words(options, message):
    with pytest.raises(tpcalc.DeriveError, match=message):
        rules(MLP, **options)


def test_an_init_that_is_unstable_is_refused():
    """A tied embedding of std 1 read as logits: n^(1), as it meets what it made itself."""
    with pytest.raises(
        tpcalc.DeriveError, match=r"unstable before any update: h\d+, which leaves as an output, grows like n"
    ):
        rules(example("gpt.py", "gpt_tied"), parametrization="sp")


def test_json_holds_what_was_asked():
    for options in ({"parametrization": "sp", "alignment": "none"}, {"gauge": "mup", "optimizer": "muon+adamw"}):
        found = rules(MLP, **options)
        document = table_json(found)
        jsonschema.validate(document, schema("table"))
        assert document["gauge"] == found.gauge and document["optimizer"] == found.optimizer
        assert document["parametrization"] == options.get("parametrization", "derived")
        assert document["alignment"] == options.get("alignment", "full")
    by_name = {entry["name"]: entry for entry in document["weights"]}
    assert (by_name["hidden.weight"]["optimizer"], by_name["output.weight"]["optimizer"]) == ("muon", "adamw")
    assert document["clipping"] == {"norm": "0", "dominated_by": ["hidden.weight", "output.bias"]}


def tpcalc_command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "tpcalc", *arguments], capture_output=True, text=True)


def test_command_line():
    run = tpcalc_command(
        "table", "examples/mlp.py:mlp", "--parametrization", "ntp", "--optimizer", "sgd", "--format", "json"
    )
    document = json.loads(run.stdout)
    assert (document["parametrization"], document["gauge"]) == ("ntp", "ntk")
    rows = {e["name"]: (e["a"], e["b"], e["c"]) for e in document["weights"]}
    assert rows["hidden.weight"] == ("1/2", "0", "0")
    run = tpcalc_command("table", "examples/mlp.py:mlp", "--optimizer", "adamm")
    assert run.returncode == 2 and run.stdout == "" and "did you mean adam" in run.stderr
    run = tpcalc_command("table", "examples/mlp.py:mlp", "--gauge", "tp5")
    assert run.returncode == 2 and "tp5" in run.stderr and "see tpcalc table --help" in run.stderr
    run = tpcalc_command("explain", "examples/mlp.py:mlp", "hidden.weight", "--optimizer", "muon+adamw")
    assert "c = C + u = 0" in run.stdout and "muon (Jordan et al. 2024" in run.stdout
    run = tpcalc_command("explain", "examples/mlp.py:mlp", "output.weight", "--gauge", "mup")
    assert "a = 1, b = A - a = 0, gradient g - a = -1" in run.stdout


# --- measured ---------------------------------------------------------------------------------------------------------


def logits_moved(width: int, seed: int, rates: list[float], steps: int) -> float:
    """An MLP of Gaussian weights of std 1/sqrt(fan_in) under Adam: what the features' change moves the logits by,
    through the readout as it started."""
    torch.manual_seed(seed)
    sizes = [(width, 8), (width, width), (4, width)]
    weights = [nn.Parameter(torch.randn(size) / math.sqrt(size[1])) for size in sizes]
    x, y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 4

    def features():
        return F.relu(F.relu(x @ weights[0].T) @ weights[1].T)

    readout, before = weights[2].detach().clone(), features().detach()
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, eps=1e-12)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(features() @ weights[2].T, y).backward()
        optimizer.step()
    return float(((features().detach() - before) @ readout.T).square().mean().sqrt())


@pytest.mark.parametrize("alignment, expected", [("full", 0.0), ("omega", 0.5)])
def test_the_largest_rates_of_sp_measured(alignment, expected):
    """Under full alignment W_out times the features' change stays O(1); with omega = 1/2 it grows as n^(1/2) (D18)."""
    found = tpcalc.derive(program(bare_mlp(2)), "adam", parametrization="sp", alignment=alignment)
    widths, base = (128, 256, 512, 1024, 2048), 128
    sizes = [
        [
            logits_moved(width, seed, [2e-3 * (width / base) ** -float(r.c) for r in found.values()], steps=3)
            for width in widths
        ]
        for seed in range(3)
    ]
    slope = fit(widths, sizes)
    assert abs(slope.value - expected) < 0.15, slope


def test_blocks_of_a_packed_weight_have_each_their_init():
    """q, k and v in one matrix, heads that grow: q's block starts smaller, and all share its update."""
    from tests.scaling.test_scaling_slices import factory

    found = tpcalc.derive(tpcalc.trace(factory(), (32, 64, 128)), "adamw", parametrization="mup", gauge="init")
    rule = next(rule for rule in found.values() if rule.slices)
    assert [piece.b for piece in rule.slices] == [1, H, H]
    assert rule.C == max(piece.C for piece in rule.slices)
