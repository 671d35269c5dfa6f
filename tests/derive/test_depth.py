"""Depth as a scale: the table of exponents in L, gauges, sites, refusals and notes.

Exponents in the width are those that the same program has without a depth.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.support import stacks, unusual
from tests.support.depths import depth_of, of_depth, powers, rules, traced
from tpcalc.algebra.form import coordinates
from tpcalc.algebra.order import MINUS_INFINITY, ZERO, order
from tpcalc.derive.certificate import certify
from tpcalc.derive.depth import check_periods, depth_power
from tpcalc.derive.gauge import check_gauge
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import solve
from tpcalc.dynamics.regime import LEARNING, MAXIMAL, regime
from tpcalc.dynamics.training import Given, analyse
from tpcalc.errors import DeriveError
from tpcalc.lower.depth import Depth
from tpcalc.optimizers import LAWS
from tpcalc.trace.depth import trace_depths

H, ONE = Fraction(1, 2), Fraction(1)
ALPHAS = (ONE, H, Fraction(3, 4))


def role(name: str, last: tuple[str, ...], gains: tuple[str, ...] = (), biases: tuple[str, ...] = ()) -> str:
    """The row of the table: by where a weight stands in its block."""
    if not name.startswith(("blocks.", "layers.", "encoder.", "decoder.", "stages.")):
        return "outside"
    end = name.split(".", 2)[2]
    for row, ends in (("last", last), ("gain", gains), ("bias", biases)):
        if end in ends:
            return row
    return "inner"


def expected(row: str, a: Fraction) -> dict[str, Fraction]:
    """A, C, g and the rates of a row, for alpha = ``a``."""
    A, C = {"outside": (0, 0), "last": (a, ONE), "inner": (0, 1 - a), "gain": (0, ONE), "bias": (a, ONE)}[row]
    g = -a if row == "inner" else Fraction(0)
    return {
        "A": Fraction(A),
        "C": Fraction(C),
        "gradient": g,
        "adamw": Fraction(C),
        "eps": g,
        "sgd": C + g,
        "muon": Fraction(C),
    }


PAIRS = ("two.weight", "two.bias")
TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "pre": {"last": PAIRS},
    "without_norm": {"last": PAIRS},
    "sandwich": {"last": ("behind.weight", "behind.bias")},
    "post": {"last": PAIRS, "gains": ("behind.weight",), "biases": ("behind.bias",)},
    "gpt": {"last": ("attn.o.weight", "attn.o.bias", "down.weight", "down.bias")},
    "parallel": {"last": ("attn.o.weight", "attn.o.bias", "down.weight", "down.bias")},
    "translator": {
        "last": ("attn.o.weight", "attn.o.bias", "down.weight", "down.bias", "cross.o.weight", "cross.o.bias")
    },
}
#: All alphas and optimizers for the small ones.
CASES = [(name, a) for name in ("pre", "without_norm", "sandwich", "post") for a in ALPHAS]
CASES += [("gpt", ONE), ("gpt", H), ("parallel", ONE), ("translator", H)]


@pytest.mark.parametrize("name, a", CASES)
def test_the_table(name, a):
    program = traced(stacks.STACKS[name])
    found = powers(program, a)
    rows = {weight: expected(role(weight, **TABLE[name]), a) for weight in found}
    assert {"last", "inner", "outside"} <= {role(weight, **TABLE[name]) for weight in found}
    for field, of in (("A", "A"), ("C", "C"), ("gradient", "gradient"), ("c", "adamw"), ("eps", "eps")):
        assert of_depth(found, field) == {weight: row[of] for weight, row in rows.items()}, field
    # the width is as it was
    plain = parametrize(solve(program), "adamw", "init")
    for field in ("A", "C", "c", "eps", "weight_decay"):
        assert {w: each[field] and (each[field][0], 0) for w, each in found.items()} == {
            w: coordinates(getattr(rule, field), 2) for w, rule in plain.items()
        }, field


@pytest.mark.parametrize("a", ALPHAS)
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_rates_of_other_optimizers(a, optimizer):
    for name in ("pre", "post"):
        found = powers(traced(stacks.STACKS[name]), a, optimizer)
        rows = {weight: expected(role(weight, **TABLE[name]), a)[optimizer] for weight in found}
        if optimizer == "muon":  # it trains matrices alone
            rows = {weight: c for weight, c in rows.items() if weight.endswith(("one.weight", "two.weight"))}
        assert {weight: found[weight]["c"][1] for weight in rows} == rows


@pytest.mark.parametrize("a", [ONE, H])
def test_weights_that_all_periods_share(a):
    """The last matrix is asked for L^-1 whatever alpha; gradients are sums over the depth."""
    found = powers(traced(stacks.tied), a)
    last = {weight: Fraction(role(weight, PAIRS) == "last") for weight in found}
    for field in ("A", "C", "c", "gradient"):
        assert of_depth(found, field) == last, field
    sgd = powers(traced(stacks.tied), a, "sgd")
    assert of_depth(sgd, "c") == {weight: 2 * power for weight, power in last.items()}


@pytest.mark.parametrize(
    "scales, factory", [(("encoder", "decoder"), stacks.two_depths), (("first", "second"), stacks.stages)]
)
def test_each_stack_has_its_own_depth(scales, factory):
    found = powers(traced(factory, scales), H, "sgd")
    prefixes = ("encoder.", "decoder.") if factory is stacks.two_depths else ("stages.0.", "stages.1.")
    for weight, each in found.items():
        for place, prefix in enumerate(prefixes, 1):
            powers_of = [each[field][place] for field in ("A", "C", "c", "gradient")]
            if not weight.startswith(prefix):
                assert powers_of == [0, 0, 0, 0], (weight, prefix)
            elif powers_of[0]:
                assert powers_of == [H, 1, 1, 0], weight
            else:
                assert powers_of == [0, H, 0, -H], weight
        assert any(each["C"][1:]) == weight.startswith(prefixes), weight


def test_all_weights_of_a_branch_are_one_row_behind_a_multiplier():
    """CompleteP's form (Dey et al. 2025, table 1): the same rate and epsilon for all weights of a branch."""
    program = traced(stacks.pre)
    for a in ALPHAS:
        found = powers(program, a, gauge="completep")
        for weight, each in found.items():
            row = role(weight, PAIRS)
            assert each["a"][1] == (a if row == "last" else 0) and each["b"][1] == 0
            assert (each["c"][1], each["eps"][1]) == ((0, 0) if row == "outside" else (1 - a, -a)), weight
        sgd = of_depth(powers(program, a, "sgd", gauge="completep"), "c")
        assert sgd == {weight: 0 if role(weight, PAIRS) == "outside" else 1 - 2 * a for weight in sgd}
    assert check_gauge("completep") == "completep"
    plain = parametrize(solve(program), "adamw", "completep")
    assert all(rule.a == 0 for rule in plain.values())


@pytest.mark.parametrize("power", [ONE, H])
@pytest.mark.parametrize("a", [ONE, H])
def test_what_the_code_multiplies_by_is_left_out(power, a):
    found = powers(traced(unusual.multiplied(float(power))), a)
    for weight, each in found.items():
        if role(weight, PAIRS) == "last":
            assert each["A"][1] == a - power and each["C"][1] == 1 - power, weight


def test_a_branch_without_a_sign_of_its_own_is_asked_for_1_whatever_alpha():
    last = ("layer.weight", "layer.bias")
    for a in (ONE, H):
        found = powers(traced(unusual.positive), a)
        assert of_depth(found, "A") == of_depth(found, "C") == {w: role(w, last) == "last" for w in found}
    notes = rules(traced(unusual.positive), H).notes
    assert any("has a mean that all periods share" in note and "unusual.py" in note for note in notes)


def test_a_learned_injection():
    found = powers(traced(unusual.injected))
    assert {w: (each["A"][1], each["c"][1]) for w, each in found.items() if w.startswith("back")} == {
        "back.0": (1, 1),
        "back.1": (1, 1),
    }


@pytest.mark.parametrize("a, text", [(ONE, r"depth\^-1"), (H, r"depth\^\(-1/2\)")])
def test_a_branch_that_nothing_absorbs_is_a_site(a, text):
    """Its norm's gain is written 1 + w.  All weights are derived with the multiplier in its place."""
    program = traced(stacks.plus_one)
    found = rules(program, a)
    assert len(found.sites) == 2
    for place, site in enumerate(found.sites):
        assert f"mul in blocks.{place}.behind (stacks.py:" in site.message
        assert site.message.endswith(f"multiply it by {text} in the forward pass".replace("\\", ""))
    for weight, each in powers(program, a).items():
        inside = weight.startswith("blocks.")
        assert each["A"][1] == 0 and each["C"][1] == (1 - a if inside else 0), weight
        assert each["eps"][1] == (-a if inside else 0), weight


@pytest.mark.parametrize("name", unusual.REFUSED)
def test_what_no_power_of_the_depth_scales_is_refused(name):
    factory, words = unusual.REFUSED[name]
    with pytest.raises(DeriveError, match=words) as error:
        solve(traced(factory), depth=depth_of(traced(factory)))
    assert "exponentially with depth" in str(error.value) or "depend on depth exponentially" in str(error.value)
    solve(traced(factory))  # the width alone


def noted(factory: Callable, alpha: Fraction = ONE) -> tuple[str, ...]:
    return rules(traced(factory), alpha).notes


def test_notes():
    (skip,) = [note for note in noted(unusual.ladder) if "is a stream itself" in note]
    assert skip.startswith("unusual.py:") and skip.endswith("multiply what is added by 1/depth")
    (alone,) = [note for note in noted(unusual.turns) if "do not repeat with depth" in note]
    assert alone.startswith("unusual.py:")
    (single,) = [note for note in noted(unusual.single) if "branches of one matrix" in note]
    assert single.startswith("blocks.0, unusual.py:")
    assert not any("depth" in note for note in noted(stacks.gpt))
    assert not any("depth" in note for note in parametrize(solve(traced(unusual.ladder)), "adamw", "init").notes)


def test_skips_leave_other_weights_as_they_are():
    found = powers(traced(unusual.ladder))
    assert of_depth(found, "A") == {w: w.startswith(("down", "up")) and w.endswith(PAIRS) for w in found}


def test_skips_that_branches_read_are_no_terms_of_the_stream():
    program = traced(unusual.hourglass)
    for a in (ONE, H):
        found = powers(program, a)
        for name, each in found.items():
            row = expected("last" if name.endswith(PAIRS) else "inner", a)
            if not name.startswith(("down", "up")):
                row = expected("outside", a)
            assert (each["A"][1], each["c"][1], each["eps"][1]) == (row["A"], row["adamw"], row["eps"]), name
    assert not any("depth" in note for note in noted(unusual.hourglass))


def test_sandwich_norms_along_three_scales():
    """Behind a matrix that starts small (f > n) a norm makes gradients at init larger, and our bound of them with each
    block; the trained ones are alike.  Trained so, 3 seeds, slopes of the stream's change, of that inside a branch, of
    the logits': over f = 64 to 4096 +0.06, +0.05, -0.01, over n = 32 to 1024 +0.02, 0.00, -0.04, over L = 2 to 16
    -0.21 (the random part fades), +0.04, 0.00.  SGD's rates follow gradients at init."""
    program = trace_depths(stacks.between, {"width": (16, 32, 64), "ffn": (48, 96, 192)})
    found = rules(program)
    expected = {
        "norm.weight": ("1", "1", "n^-1 L^-1"),
        "one.weight": ("n^-1/2 Min(1, sqrt(f/n))", "n^-1", "f^-1 L^-1"),
        "two.weight": ("f^-1/2 Min(1, sqrt(n/f))", "f^-1", "n^-1 L^-1"),
        "behind.weight": ("L^-1", "L^-1", "n^-1"),
    }
    for block in (0, 1):
        own = {name: found[f"blocks.{block}.{name}"].formulas for name in expected}
        assert {n: tuple(str(x[q]) for q in ("init_std", "lr", "eps")) for n, x in own.items()} == expected
    with pytest.raises(DeriveError, match="which this optimizer's rates follow"):
        rules(program, optimizer="sgd")
    assert rules(program, optimizer="muon")


def test_periods_that_do_not_agree_are_refused():
    solution = solve(traced(stacks.pre), depth=depth_of(traced(stacks.pre)))
    check_periods(solution.lowered, solution.orders, solution.facts)
    leaf = next(leaf for leaf in solution.lowered.leaves if leaf.name == "blocks.1.one.weight")
    facts = {**solution.facts, leaf.grad: solution.facts[leaf.grad]._replace(init=ZERO, trained=ZERO)}
    words = r"blocks.0.one.weight and blocks.1.one.weight stand at the same place of two blocks along depth"
    with pytest.raises(DeriveError, match=words):
        check_periods(solution.lowered, solution.orders, facts)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["pre", "post", "sandwich", "without_norm", "tied", "gpt"])
def test_training_along_the_depth_is_maximal_at_alpha_1_alone(name, optimizer):
    """The other road: given the exponents, the same updates are found, stable, and certified as the largest.

    For alpha < 1 a block is linear in its weights in the limit; what all blocks share has no alpha.
    """
    program = traced(stacks.STACKS[name])
    for a in (ONE, H):
        solution = solve(program, depth=depth_of(program, a))
        found = parametrize(solution, optimizer)
        given = {weight: Given(order(rule.a), order(rule.b), order(rule.c)) for weight, rule in found.items()}
        analysis = analyse(solution.lowered, given, LAWS[optimizer])
        assert analysis.trail[-1].C == {leaf: orders.C for leaf, orders in solution.orders.items()}
        limit = regime(analysis)
        assert limit.name == (MAXIMAL if a == 1 or name == "tied" else LEARNING)
        assert set(limit.per_weight.values()) == ({"maximal"} if limit.name == MAXIMAL else {"maximal", "lazy"})
        assert all(each.holds for weight in program.weights for each in certify(solution, weight))


def test_what_a_depth_may_be():
    program = traced(stacks.pre)
    for alpha in ("1/4", "2"):
        with pytest.raises(DeriveError, match="alpha is .*; give a rational between 1/2 and 1"):
            tpcalc.derive(program, depth_alpha=alpha)
    for alpha in (0.5, "half"):
        with pytest.raises(DeriveError, match="depth_alpha .* is no exact rational; write 1, 1/2 or 3/4"):
            tpcalc.derive(program, depth_alpha=alpha)
    grown = depth_of(program).growths
    with pytest.raises(DeriveError, match="the program has no blocks along layers; trace it with its depth"):
        solve(program, depth=Depth({**grown, "layers": grown["depth"]}))
    with pytest.raises(DeriveError, match="how depth grows is not said"):
        solve(program, depth=Depth({}))
    plain = tpcalc.trace(lambda n: stacks.pre(n, 2), (16, 32, 64))
    with pytest.raises(DeriveError, match="depth_alpha is about residual branches along a depth"):
        tpcalc.derive(plain, depth_alpha="1/2")
    with pytest.raises(DeriveError, match="mup is one of the width alone"):
        tpcalc.derive(program, parametrization="mup")


def test_powers_in_words():
    program = traced(stacks.pre)
    assert program.compass is not None
    lowered = solve(program, depth=depth_of(program, "3/4")).lowered
    width, depth = program.compass.unit(0), program.compass.unit(1)
    assert depth_power(lowered, depth) == "depth^-1"
    assert depth_power(lowered, depth * Fraction(3, 4)) == "depth^(-3/4)"
    assert depth_power(lowered, width) is None is depth_power(lowered, MINUS_INFINITY)


@pytest.mark.parametrize("norm", [False, True], ids=["bare", "norm"])
def test_a_stream_that_another_stack_reads_in_every_period(norm):
    """An encoder's bare stream: its gradient is a sum over the decoder's blocks, as behind a norm.

    Without that sum the entry's epsilon got 1/decoder and its rate under SGD the decoder's depth (measured: the rms of
    the gradient has slope -0.46 over 2 to 32 at init, and aligned 0, where -1 was told).
    """

    class Reads(nn.Module):
        def __init__(self, n: int):
            super().__init__()
            self.own, self.other, self.out = (nn.Linear(n, n, bias=False) for _ in range(3))

        def forward(self, x, memory):
            scaled = nn.functional.layer_norm(x, x.shape[-1:])
            return x + self.out(torch.tanh(self.own(scaled) + self.other(memory)))

    class Two(nn.Module):
        def __init__(self, n: int, encoder: int, decoder: int):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(8, n), nn.Linear(8, n), nn.Linear(n, 4)
            self.encoder = nn.ModuleList(stacks.Block(n) for _ in range(encoder))
            self.decoder = nn.ModuleList(Reads(n) for _ in range(decoder))

        def forward(self, x):
            memory, x = self.first(x), self.second(x)
            for block in self.encoder:
                memory = block(memory)
            memory = nn.functional.layer_norm(memory, memory.shape[-1:]) if norm else memory
            for block in self.decoder:
                x = block(x, memory)
            return self.last(nn.functional.layer_norm(x, x.shape[-1:]))

    program = traced(
        lambda width, encoder, decoder: (Two(width, encoder, decoder), stacks.points()), ("encoder", "decoder")
    )
    found = powers(program)
    assert found["first.weight"]["eps"] == found["second.weight"]["eps"] == (-1, 0, 0)
    for block in (0, 1):
        assert found[f"encoder.{block}.one.weight"]["eps"] == (-1, -1, 0)
        assert found[f"encoder.{block}.two.weight"]["c"] == (1, 1, 0)
        assert found[f"decoder.{block}.other.weight"]["eps"] == (-1, 0, -1)
        assert found[f"decoder.{block}.out.weight"]["c"] == (1, 0, 1)
    assert powers(program, optimizer="sgd")["first.weight"]["c"] == (-1, 0, 0)
