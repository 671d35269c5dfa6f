"""Set-ups of several scales: width and depth, independent sizes, both stacks of a translator."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

import tpcalc
from tests.scaling.test_everywhere import everywhere
from tests.support import scaled, stacks
from tests.support.command import tpcalc_command as command
from tests.support.once import once
from tests.support.scaled_setups import adamw, feed_forward, mended, residual
from tests.support.stacks import STACKS
from tpcalc.errors import AlignError, FitError, SetupError, TargetError
from tpcalc.verify import Report

H = Fraction(1, 2)
DEEP = {"width": (64, 128, 256), "depth": (2, 3)}
SIZES = {"width": (64, 128, 256), "ffn": (256, 512, 1024)}
MLP, GPT = r"\.two\.", r"attn\.o\.|down\."


def told(report: Report) -> dict[tuple, set[str]]:
    """(severity, kind, quantity, found, needed) of every finding -> weights; exponents as sorted items."""
    found: dict[tuple, set[str]] = {}
    for f in report.findings:
        powers = (None if x is None else tuple(sorted(x.items())) for x in (f.found, f.needed))
        found.setdefault((f.severity, f.kind, f.quantity, *powers), set()).update(f.weights)
    return found


def powers(**exponents) -> tuple:
    return tuple(sorted((symbol, Fraction(x)) for symbol, x in exponents.items()))


def names(*ends: str, stem: str = "blocks") -> set[str]:
    return {f"{stem}.{block}.{end}" for block in (0, 1) for end in ends}


@once
def width_only() -> Report:
    return tpcalc.verify(residual(STACKS["gpt"], GPT, init=0, rate=0), scales=DEEP)


# -- width and depth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model, last", [("pre", MLP), ("gpt", GPT), ("sandwich", r"\.behind\.")])
def test_complete_p_by_hand_is_maximal(model, last):
    report = tpcalc.verify(residual(STACKS[model], last), scales=DEEP)
    assert report.findings == () and report.regime == "maximal" and report.ok, report
    assert report.scales == DEEP and report.widths == ()


def test_mup_of_the_width_alone_lacks_the_depth_in_the_last_matrices_and_biases():
    found = told(width_only())
    matrices = names("attn.o.weight", "down.weight", stem="layers")
    biases = names("attn.o.bias", "down.bias", stem="layers")
    assert found == {
        ("error", "explodes", "init std", powers(n=-H, L=0), powers(n=-H, L=-1)): matrices,
        ("error", "explodes", "lr", powers(n=-1, L=0), powers(n=-1, L=-1)): matrices,
        ("error", "explodes", "lr", powers(n=0, L=0), powers(n=0, L=-1)): biases,
    }
    assert width_only().regime == "unstable" and not width_only().ok
    assert width_only().findings[0].effect == {"n": 0, "L": H}
    assert "grow without bound with width or depth" in str(width_only())
    row = width_only().weights["layers.0.down.weight"]
    assert (row.b, row.c, row.needed) == ({"n": H, "L": 0}, {"n": 1, "L": 0}, ({"n": H, "L": 1}, {"n": 1, "L": 1}))


def test_the_fixes_applied_pass():
    fixed = mended(residual(STACKS["gpt"], GPT, init=0, rate=0), width_only(), {"n": 64, "L": 2})
    report = tpcalc.verify(fixed, scales=DEEP)
    assert report.findings == () and report.regime == "maximal", report


def test_depth_mup_is_stable_and_leaves_inner_weights_lazy():
    setup = residual(STACKS["pre"], MLP, 0.5)
    report = tpcalc.verify(setup, scales=DEEP)
    assert report.regime == "feature learning" and report.ok and not report.errors
    inner = {w for f in report.warnings if f.kind == "not maximal" for w in f.weights}
    assert inner == names("one.weight", "one.bias", "norm.weight", "norm.bias")
    assert tpcalc.verify(setup, scales=DEEP, depth_alpha="1/2").findings == ()


def test_branches_of_depth_mup_with_the_rates_of_complete_p_explode():
    report = tpcalc.verify(residual(STACKS["pre"], MLP, 0.5, inner=0), scales=DEEP)
    (error,) = report.errors
    assert set(error.weights) == names("two.weight") and error.quantity == "init std"
    assert error.found == {"n": -H, "L": -H} and error.needed == {"n": -H, "L": -1}


def test_a_branch_that_no_weight_makes_smaller_needs_a_multiplier():
    """The gain is written 1 + w; one multiplier does, for its size and for its updates."""
    report = tpcalc.verify(residual(STACKS["plus_one"], "none", rate=0, inner=0), scales=DEEP)
    (error,) = report.errors
    assert (error.quantity, error.needed, error.weights) == ("multiplier", {"n": 0, "L": -1}, ())
    assert error.subject == "blocks.{0,1}.behind"


class Quartic(torch.optim.AdamW):
    """AdamW whose steps are larger by the fourth root of the fan-in: a law of its own."""

    def step(self, closure=None):
        before = {p: p.detach().clone() for g in self.param_groups for p in g["params"]}
        super().step(closure)
        with torch.no_grad():
            for p, old in before.items():
                if p.dim() == 2:
                    p.copy_(old + (p - old) * p.shape[1] ** 0.25)


def test_a_law_of_its_own_is_read_along_a_depth():
    """Its update has a power of the width, and none of the depth."""

    def setup(width: int, depth: int):
        model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
        return model, Quartic(optimizer.param_groups), inputs

    report = tpcalc.verify(setup, scales=DEEP)
    wrong = {w: f for f in report.findings if f.quantity == "lr" for w in f.weights}
    assert wrong.keys() == names("one.weight", "two.weight") | {"out.weight"}
    assert wrong["blocks.1.two.weight"].needed == {"n": -1 - H / 2, "L": -1}


@pytest.mark.slow
def test_each_stack_has_a_depth_of_its_own():
    """The number of the encoder's blocks stands in the last layers of the decoder's."""

    def setup(width: int, encoder: int, decoder: int):
        model, inputs = stacks.two_depths(width, encoder, decoder)
        n, rates = width / 64, {}
        for name, p in model.named_parameters():
            last = ".o." in name or ".down." in name
            L = (encoder if name.startswith("encoder") or ".down." in name else decoder) / 2 if last else 1
            matrix = p.dim() == 2 and not name.startswith("embed")
            if p.dim() == 2:
                out = name.startswith("head")
                nn.init.normal_(p, std=1 / width if out else width**-0.5 if matrix else 1.0)
            with torch.no_grad():
                p.mul_(1 / L)
            rates[p] = 1 / L / (n if matrix else 1), (n * encoder * decoder) ** -3
        return model, adamw(rates), inputs

    report = tpcalc.verify(setup, scales={"width": (64, 128, 256), "encoder": (2, 3, 4), "decoder": (2, 3, 4)})
    wrong = {(w, f.quantity): f for f in report.errors for w in f.weights if "decoder" in f.needed}
    assert {w for w, _ in wrong} == {f"decoder.{i}.down.{end}" for i in (0, 1) for end in ("weight", "bias")}
    assert wrong["decoder.0.down.weight", "lr"].needed == {"n": -1, "decoder": -1}
    assert {w for f in report.findings for w in f.weights} == {w for w, _ in wrong}


# -- independent sizes ----------------------------------------------------------------------------------


@once
def wrong_rate() -> Report:
    return tpcalc.verify(feed_forward("width"), scales=SIZES)


def test_sizes_apart_by_hand_pass_and_kinks_are_warnings():
    """Where width outgrows ffn, or ffn width, no plain power of a fan-in is right; where both grow it is."""
    report = tpcalc.verify(feed_forward(), scales=SIZES)
    assert report.ok and report.regime == "maximal"
    assert told(report) == {
        ("warning", "explodes", "init std", powers(n=-H), powers(n=-1)): {"up.weight"},
        ("warning", "explodes", "init std", powers(f=-H), powers(f=-1)): {"down.weight"},
    }
    assert all(f.fixes == () and "no one power is right in both" in f.message for f in report.findings)


def test_a_rate_over_the_wrong_size_is_named_along_both():
    """Over the width where ffn belongs: both together look right."""
    errors = {key: weights for key, weights in told(wrong_rate()).items() if key[0] == "error"}
    assert errors == {
        ("error", "explodes", "lr", powers(f=0), powers(f=-1)): {"down.weight"},
        ("error", "frozen", "lr", powers(n=-1), powers(n=0)): {"down.weight"},
    }
    assert "f^(-1)" in wrong_rate().errors[0].message and "lr ~ f^0" in wrong_rate().errors[0].message
    row = wrong_rate().weights["down.weight"]
    assert row.b == {"n": 0, "f": H} and row.kinds == ("explodes", "frozen")
    fixed = tpcalc.verify(mended(feed_forward("width"), wrong_rate(), {"n": 64, "f": 256}), scales=SIZES)
    assert fixed.ok and {f.quantity for f in fixed.findings} == {"init std"}


class Narrow(nn.Module):
    """A residual block of two matrices; its inner size is a scale."""

    def __init__(self, n: int, f: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.one, self.two = nn.Linear(n, f, bias=False), nn.Linear(f, n, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.two(torch.relu(self.one(self.norm(x))))


def three(width: int, ffn: int, depth: int):
    """Width, inner size and depth, each where it belongs."""
    model = stacks.Stack(width, [Narrow(width, ffn) for _ in range(depth)])
    n, f, L = width / 64, ffn / 256, depth / 2
    numbers = {"entry": (1.0, 1 / n), "out": (1 / n, 1.0), "one": (1 / n, 1 / f / L), "two": (1 / f / L, 1 / n)}
    stds = {"entry": 1.0, "out": 1 / width, "one": width**-0.5, "two": ffn**-0.5 / L}
    rates = {}
    for name, p in model.named_parameters():
        layer = name.split(".")[-2]
        if p.dim() == 2:
            nn.init.normal_(p, std=stds[layer])
        lr, eps = numbers.get(layer, (1.0, 1 / n / (L if name.startswith("blocks") else 1)))
        rates[p] = (lr if p.dim() == 2 else 1.0), eps
    return model, adamw(rates), stacks.points()


def test_two_sizes_and_a_depth():
    report = tpcalc.verify(three, scales={**SIZES, "depth": (2, 3)})
    assert report.ok and report.regime == "maximal", report
    assert told(report) == {
        ("warning", "explodes", "init std", powers(n=-H, L=0), powers(n=-1, L=0)): names("one.weight"),
        ("warning", "explodes", "init std", powers(f=-H), powers(f=-1)): names("two.weight"),
    }
    row = report.weights["blocks.1.two.weight"]
    assert row.b == {"n": 0, "L": 1, "f": H} and row.c == {"n": 0, "L": 1, "f": 1}


def test_weights_without_an_optimizer_are_all_named():
    def setup(width: int, depth: int):
        model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
        held = {*model.entry.parameters(), *model.norm.parameters(), *model.out.parameters()}
        groups = [group for group in optimizer.param_groups if group["params"][0] in held]
        return model, torch.optim.AdamW(groups), inputs

    report = tpcalc.verify(setup, scales=DEEP)
    lost = {w for f in report.errors if f.kind == "unmatched" for w in f.weights}
    assert lost == names(*(f"{layer}.{end}" for layer in ("one", "two", "norm") for end in ("weight", "bias")))


def by_multipliers(factory: Callable, base: dict, moved: dict, folder: Path) -> Callable:
    """Init and groups by the generated formulas of tpcalc's own multipliers."""
    code = everywhere(tpcalc.scale(factory, base=base, target=moved), folder)

    def setup(**place: int):
        multipliers = code.multipliers(**place)
        model, inputs = factory(**place)
        multipliers.init_(model)
        return model, torch.optim.AdamW(multipliers.param_groups(model, lr=1e-2, weight_decay=0.1)), inputs

    setup.__name__ = factory.__name__
    return setup


OWN = {
    "depth": (STACKS["pre"], DEEP, {"width": 128, "depth": 4}),
    "heads": (scaled.attention, {"heads": (2, 4, 8), "head_dim": (16, 32, 64)}, {"heads": 4, "head_dim": 32}),
    "packed": (scaled.packed, {"heads": (2, 4, 8), "head_dim": (16, 32, 64)}, {"heads": 4, "head_dim": 32}),
}


@pytest.mark.parametrize("name", ["depth", "heads", pytest.param("packed", marks=pytest.mark.slow)])
def test_the_multipliers_pass(name, tmp_path):
    factory, scales, moved = OWN[name]
    base = {scale: values[0] for scale, values in scales.items()}
    report = tpcalc.verify(by_multipliers(factory, base, moved, tmp_path), scales=scales)
    assert report.findings == () and report.regime == "maximal", report


# -- refused ---------------------------------------------------------------------------------------------


def by_index(width: int, depth: int):
    """The rate of a block follows its index."""
    model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
    index = {p: int(name.split(".")[1]) for name, p in model.named_parameters() if name.startswith("blocks")}
    for group in optimizer.param_groups:
        group["lr"] *= 0.9 ** index.get(group["params"][0], 0)
    return model, optimizer, inputs


def init_by_index(width: int, depth: int):
    model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
    for index, block in enumerate(model.blocks):
        nn.init.normal_(block.two.weight, std=width**-0.5 / (1 + index))
    return model, optimizer, inputs


def scheduled(width: int, depth: int):
    model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), inputs


def no_power(width: int, depth: int):
    model, optimizer, inputs = residual(STACKS["pre"], MLP)(width, depth)
    optimizer.param_groups[0]["lr"] = 0.1 if depth < 5 and width < 100 else 0.2
    return model, optimizer, inputs


def together_only(width: int, ffn: int):
    """A threshold on both sizes at once, which neither alone reaches."""
    model, optimizer, inputs = feed_forward()(width, ffn)
    optimizer.param_groups[0]["lr"] *= 3 if width > 64 and ffn > 256 else 1
    return model, optimizer, inputs


def only_width(width: int):
    return residual(STACKS["pre"], MLP)(width, 2)


@pytest.mark.parametrize(
    "setup, scales, error, sentence",
    [
        (by_index, DEEP, FitError, "optimizer of blocks.[01].* of two blocks, differ at width=64, depth=3"),
        (init_by_index, DEEP, FitError, "the init of blocks.0.two.weight and of blocks.1.two.weight.*index of a block"),
        (scheduled, DEEP, SetupError, r"has a scheduler \(LambdaLR.*verify it with --widths"),
        (no_power, DEEP, FitError, "learning rate of entry.weight .*no product of powers of width and depth"),
        (only_width, DEEP, TargetError, "an argument of the name of each scale"),
        (feed_forward(), {"width": (64, 128), "ffn": (256, 512, 1024)}, TargetError, "scale width: 2 widths are too"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(setup, scales, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        tpcalc.verify(setup, scales=scales)
    assert "\n" not in str(raised.value)


def test_a_threshold_on_both_sizes_is_seen_where_both_grow():
    with pytest.raises(FitError, match="is 0.01 at s=64; 0.03 at s=128"):
        tpcalc.verify(together_only, scales=SIZES)


def test_depths_are_those_of_whole_periods():
    """Two kinds of blocks take turns."""

    def turns(width: int, depth: int):
        blocks = [stacks.Block(width, "sandwich" if index % 2 else "pre") for index in range(depth)]
        return stacks.Stack(width, blocks), stacks.points()

    right = residual(turns, r"blocks\.\d*[02468]\.two|\.behind\.")
    with pytest.raises(AlignError, match="depth=5 is no whole number of periods"):
        tpcalc.verify(right, scales={**DEEP, "depth": (4, 5)})
    report = tpcalc.verify(right, scales={**DEEP, "depth": (4, 6)})
    assert report.findings == (), report


# -- the command ------------------------------------------------------------------------------------------

FILE = """
from tests.support.scaled_setups import residual
from tests.support.stacks import STACKS
right = residual(STACKS["pre"], r"\\.two\\.")
wrong = residual(STACKS["pre"], r"\\.two\\.", rate=0)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "by_hand.py"
    path.write_text(FILE)
    return str(path)


def test_the_command(file):
    scales = ["--scale", "width=64,128,256", "--scale", "depth=2,3"]
    done = command("verify", f"{file}:right", *scales, "--strict")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("right along width=64,128,256 and depth=2,3, on fake tensors\nok, maximal")
    assert "blocks.*.two.weight   hidden  n^-1/2 L^-1  n^-1 L^-1  n L           n^-1" in done.stdout
    done = command("verify", f"{file}:wrong", "--widths", "64,128,256", "--scale", "depth=2,3", "--format", "json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "tpcalc.verify/2" and document["scales"] == {k: [*v] for k, v in DEEP.items()}
    first = document["findings"][0]
    assert (first["found"], first["needed"]) == ({"n": "-1", "L": "0"}, {"n": "-1", "L": "-1"})
    assert {"target": "blocks.0.two.weight", "quantity": "lr", "by": {"n": "0", "L": "-1"}, "to": None} in first[
        "fixes"
    ]


def test_alpha_is_about_depth(file):
    done = command("verify", f"{file}:right", "--widths", "64,128,256", "--depth-alpha", "1/2")
    assert done.returncode == 2 and "along a scale depth" in done.stderr
