"""Every update law against measurement: under its rules the update of each weight has the same effect at all widths,
and under another law's rules it has not, by the difference of the two.

The optimizers are torch's, transformers' and those of ``tpcalc.check.reference``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.models import example
from tests.support.once import once
from tests.support.quick import quick
from tests.support.sampled import kept
from tpcalc.check import Result
from tpcalc.check.optimizers import BUILT
from tpcalc.check.slopes import fit
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import LAWS, LINEAR, Recipe, WeightView
from tpcalc.optimizers.law import AFTER_NORMALISING, COUPLED, COUPLED_IN_NORM, SCALED_WITH_THE_RATE
from tpcalc.trace.target import load_target

WIDTHS = (64, 128, 256, 512)
FEW = WIDTHS[:3]
#: Laws that take whole matrices apart: most of the time goes into their largest ones, whose slopes are clear without.
WHOLE = ("muon", "muon_match_rms_adamw", "muon_spectral", "shampoo", "soap", "kfac", "foof", "muon+adamw")
FEATURES, CLASSES, VOCABULARY = 24, 10, 16
TOLERANCE = 0.15


@pytest.fixture(autouse=True, scope="module")
def quickly() -> Iterator[None]:
    """Dozens of checks of the same few models: each is traced and solved once."""
    with quick():
        yield


# -- models ------------------------------------------------------------------------------------------


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picked(seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (4, 4), generator=torch.Generator().manual_seed(seed))


class Embedded(nn.Module):
    """Embedding, norm with gain and bias, hidden layers with biases, readout.  Nothing starts at zero."""

    def __init__(self, width: int, affine: bool = True):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)
        if affine:
            nn.init.normal_(self.norm.bias, std=0.2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.token(tokens))
        return self.head(x + self.down(F.gelu(self.up(x))))


class Matrices(nn.Module):
    """Matrices only: tall ``[n, 24]``, square, ``[2n, n]``, ``[n, 2n]``, wide ``[10, n]``."""

    def __init__(self, width: int):
        super().__init__()
        sizes = (FEATURES, width, width, 2 * width, width, CLASSES)
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x)) * 1.5
        return self.layers[-1](x)


def embedded(width: int):
    return Embedded(width), (picked(),)


def embedded_plain(width: int):
    """Without gains, which K-FAC has no factors for."""
    return Embedded(width, affine=False), (picked(),)


def matrices(width: int):
    return Matrices(width), (drawn(8, FEATURES),)


def small_gpt(width: int):
    """One block; embeddings small enough for a first loss near that of guessing."""
    build = load_target(f"{example.__globals__['EXAMPLES'] / 'gpt.py'}:build")
    Config = build.__globals__["Config"]
    model, _ = build(Config(width, width // 16, width // 16, layers=1, vocabulary=32, context=8))
    for table in (model.token, model.position):
        nn.init.normal_(table.weight, std=0.5)
    return model, (torch.randint(32, (4, 8), generator=torch.Generator().manual_seed(0)),)


mlp = example("mlp.py", "mlp")


# -- what each check runs on ---------------------------------------------------------------------------

#: Name of a law or a recipe -> model -> how its check differs from three steps with three seeds.
RUNS: dict[str, dict[Callable, dict]] = {
    name: {mlp: {}, embedded: {}} for name in (*BUILT, "muon+adamw", "shampoo+adamw", "lars+sgd")
}
for _name in ("sgd", "adamw", "lion", "adadelta", "adafactor", "lamb", "muon+adamw"):
    RUNS[_name][small_gpt] = {"seeds": 2}
RUNS["sgd"][small_gpt]["lr"] = 0.03  # at its default rate the loss falls too fast for a first order
for _name in ("shampoo", "shampoo+adamw"):
    RUNS[_name] = {mlp: {"seeds": 1}, embedded: {"seeds": 1}}  # roots of large matrices are slow
for _name in ("kfac", "foof"):
    RUNS[_name] = {mlp: {}, embedded_plain: {}}
#: SOAP's rate is for data that it has not seen: its first step, which makes its bases, is taken on the second batch.
FRESH = {"steps": 1, "batch": (drawn(4, FEATURES, seed=1), drawn(4, FEATURES, seed=2))}
RUNS["soap"] = {mlp: FRESH}
RUNS["soap+adamw"] = {mlp: FRESH}
#: The slopes of the MLP are always measured, under every law (for the page).  The model with a table and gains is run
#: for one law of each kind: those of a kind differ by what they make of a matrix, not by how vectors follow from that.
ONE_OF_EACH_KIND = ("sgd", "adamw", "sign", "adafactor", "lamb", "lars+sgd", "muon+adamw", "kfac", "soap")
CASES = kept(
    [(name, model) for name, models in RUNS.items() for model in models],
    lambda case: case[0] in ONE_OF_EACH_KIND and case[1] is list(RUNS[case[0]])[:2][-1],
)


@once
def run(name: str, model: Callable, widths: tuple[int, ...] = ()) -> Result:
    few = FEW if name in WHOLE else WIDTHS
    return tpcalc.check(model, widths or few, name, **{"steps": 3, "seeds": 3, **RUNS[name][model]})


def trained(model: Callable) -> set[str]:
    return {name for name, p in model(WIDTHS[0])[0].named_parameters() if p.requires_grad}


def effects(result: Result) -> dict[str, float]:
    return {e.subject: e.slope.value for e in result.of("effect") if e.slope is not None}


def test_every_law_is_run():
    assert set(LAWS) <= set(BUILT), "a law without an optimizer to check it with"
    assert set(BUILT) <= set(RUNS)


@pytest.mark.parametrize("name, model", CASES, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_every_weight_moves_what_it_makes_alike_at_all_widths(name, model):
    result = run(name, model)
    assert result.ok, str(result)
    found = list(result.of("effect"))
    assert {e.subject for e in found} == trained(model)
    assert all(e.predicted == 0 and abs(e.slope.value) <= TOLERANCE for e in found), effects(result)


# -- one law for another is noticed -----------------------------------------------------------------------

#: Optimizer -> (whose update law is taken for its own, the weight that tells).
WRONG = {
    **dict.fromkeys(
        ("adam", "adamw", "nadam", "nadamw", "radam", "radamw", "adamax", "rmsprop", "adagrad", "adam_atan2", "rprop"),
        ("sgd", "hidden.weight"),
    ),
    **dict.fromkeys(("sign", "lion", "adafactor_absolute"), ("adafactor", "hidden.weight")),
    **dict.fromkeys(("sgd", "asgd", "adadelta"), ("adam", "hidden.weight")),
    **dict.fromkeys(("adafactor", "adafactor_transformers", "lamb"), ("sgd", "hidden.weight")),
    "lars": ("sgd", "input.weight"),
    "muon": ("muon_match_rms_adamw", "hidden.weight"),
    "muon_match_rms_adamw": ("adam", "hidden.weight"),
    "muon_spectral": ("adam", "hidden.weight"),
    "shampoo": ("adam", "hidden.weight"),
    "soap": ("shampoo", "hidden.weight"),
    "kfac": ("foof", "hidden.weight"),
    "foof": ("kfac", "hidden.weight"),
}


def test_every_law_has_a_twin():
    assert set(WRONG) == set(BUILT)


@pytest.mark.parametrize("name", WRONG)
def test_another_law_fails_by_their_difference(name):
    """The update of the weight named is off by the difference of the two laws' exponents, and the check says so."""
    other, weight = WRONG[name]
    law = replace(LAWS[name], update=LAWS[other].update, shape=LAWS[other].shape)
    how = Recipe(LAWS["adamw"], law) if name.startswith("muon") else law
    options = {"steps": 2, **RUNS[name][mlp], "seeds": 1}
    result = tpcalc.check(mlp, WIDTHS, how, lr=BUILT[name].rate / 10, **options)
    program = tpcalc.trace.trace(mlp, WIDTHS)
    right, wrong = (tpcalc.derive(program, x)[weight].c for x in (name, how))
    (entry,) = result.of("effect", weight)
    assert right != wrong and entry in result.failures
    assert entry.verdict == ("above" if right > wrong else "below")
    assert abs(entry.slope.value - float(right - wrong)) <= 0.2


# -- Muon on shapes of uneven growth -----------------------------------------------------------------------

MUONS = ("muon", "muon_match_rms_adamw", "muon_spectral")


@pytest.mark.parametrize("name", MUONS)
@pytest.mark.parametrize("alone", [False, True], ids=["with adamw", "alone"])
def test_muon_on_tall_wide_and_square_matrices(name, alone):
    """``[n, 24]`` and ``[10, n]`` are AdamW's in the recipe; a Muon that takes them, too, has its rule for each."""
    result = tpcalc.check(matrices, FEW, Recipe(LAWS[name]) if alone else name, steps=2, seeds=1)
    assert result.ok and len(effects(result)) == 5, str(result)
    assert all(abs(slope) <= TOLERANCE for slope in effects(result).values()), effects(result)


def test_one_shape_factor_for_another_tells_on_the_wide_matrix():
    """sqrt(rows/columns) and sqrt(max(1, rows/columns)) differ where columns outgrow rows."""
    law = replace(LAWS["muon_spectral"], update=LAWS["muon"].update, shape=LAWS["muon"].shape)
    result = tpcalc.check(matrices, FEW, Recipe(law), steps=2, seeds=3)
    assert {e.subject for e in result.failures if e.quantity == "effect"} == {"layers.4.weight"}
    assert abs(effects(result)["layers.4.weight"] + 0.5) <= TOLERANCE


# -- SOAP: new data and old -----------------------------------------------------------------------------------


def test_soap_on_data_that_it_has_seen_moves_less_and_that_is_no_failure():
    """One batch again and again lies in SOAP's bases: updates are smaller than on new data, down to Shampoo's order."""
    law = LAWS["soap"]
    hidden = WeightView(Fraction(-1), Fraction(1, 2), (Fraction(1), Fraction(1)))
    assert law.update(hidden) == 0 and law.least(hidden) == LAWS["shampoo"].update(hidden) == -1
    result = tpcalc.check(mlp, WIDTHS, "soap", steps=1, seeds=2)
    new = run("soap", mlp)
    (old,) = result.of("effect", "hidden.weight")
    assert result.ok and old.floor == -1 and -1 - TOLERANCE <= old.slope.value <= -0.25
    assert abs(effects(new)["hidden.weight"]) <= 0.1


@pytest.mark.parametrize("name", ["shampoo", "muon_spectral", "foof", "lars", "adadelta"])
def test_other_laws_do_not_care_whether_data_are_new(name):
    batches = tuple(drawn(4, FEATURES, seed=i) for i in range(3))
    result = tpcalc.check(mlp, FEW if name == "shampoo" else WIDTHS, name, steps=3, seeds=1, batch=batches)
    assert result.ok and all(abs(slope) <= TOLERANCE for slope in effects(result).values()), effects(result)


# -- one parameter with a given gradient ----------------------------------------------------------------------

HIDDEN = WeightView(Fraction(-1), Fraction(1, 2), (Fraction(1), Fraction(1)), Fraction(1))
READOUT = WeightView(Fraction(0), Fraction(1), (Fraction(0), Fraction(1)), Fraction(1))
#: Needs a model, or (Rprop) knows no weight decay.
MODEL_OR_NO_DECAY = {"kfac", "foof", "rprop"}


def moved(name: str, view: WeightView, width: int, lr: float, decay: float = 0.0, eps: float | None = None) -> tuple:
    """What the first steps of interest change in a matrix of the view's order, under gradients of rank 1 and of the
    view's order, a new one each step; and the matrix."""
    rows, columns = (width if growth else CLASSES for growth in view.axes)
    ratio = width / WIDTHS[0]
    p = nn.Parameter(0.1 * drawn(rows, columns) * ratio ** -float(view.size))
    start = p.detach().clone()
    group = {"params": [p], "lr": lr, "weight_decay": decay, **({} if eps is None else {"eps": eps})}
    optimizer = BUILT[name].make([group], nn.Module())
    for step in range(BUILT[name].warm_up + 1):
        rank_one = drawn(rows, 1, seed=2 * step + 1) @ drawn(1, columns, seed=2 * step + 2)
        p.grad = 0.01 * rank_one * ratio ** float(view.gradient)
        optimizer.step()
    return p.detach() - start, start


def slope_of(measure: Callable[[int], float]) -> float:
    return fit(WIDTHS, [[measure(width) for width in WIDTHS]]).value


@pytest.mark.parametrize("name", [name for name in BUILT if name not in MODEL_OR_NO_DECAY])
@pytest.mark.parametrize("view", [HIDDEN, READOUT], ids=["hidden", "readout"])
def test_decay_keeps_its_share_as_scaled_and_loses_it_as_a_constant(name, view):
    """Its share is the part of W that a step takes away; where decay passes through a normalisation, the part of the
    update that is due to it."""
    law, built = LAWS[name], BUILT[name]
    c = law.c(Fraction(1), view)
    exponent = law.decay.exponent(view, c)
    of_update = law.decay in (COUPLED, COUPLED_IN_NORM, AFTER_NORMALISING)

    def share(power: Fraction) -> Callable[[int], float]:
        def at(width: int) -> float:
            ratio = width / WIDTHS[0]
            eps = None if law.eps is None else built.eps * ratio ** float(law.eps.exponent(view))
            numbers = {"lr": built.rate * ratio ** -float(c), "eps": eps}
            without, start = moved(name, view, width, **numbers)
            with_decay, _ = moved(name, view, width, decay=0.003 * ratio ** float(power), **numbers)
            return float((with_decay - without).norm() / (without if of_update else start).norm())

        return at

    assert abs(slope_of(share(exponent))) <= 0.1
    if exponent:
        constant = slope_of(share(Fraction(0)))
        assert constant * float(exponent) < 0 and abs(constant) >= 0.15
        if not of_update:
            assert abs(constant + float(exponent)) <= 0.05


def test_every_kind_of_decay_was_measured():
    kinds = {law.decay.convention for name, law in LAWS.items() if name in BUILT and name not in MODEL_OR_NO_DECAY}
    assert {kind.convention for kind in (LINEAR, COUPLED, AFTER_NORMALISING, SCALED_WITH_THE_RATE)} < kinds
    assert kinds == {law.decay.convention for name, law in LAWS.items() if name in BUILT}


#: A smaller epsilon only matters where updates start from it.
EPSILONS = [
    (name, excess)
    for name, law in LAWS.items()
    if law.eps is not None and name in BUILT and not name.startswith("radam")
    for excess in (Fraction(0), Fraction(1, 2), *([Fraction(-1, 2)] if law.eps.below else []))
]


@pytest.mark.parametrize("name, excess", EPSILONS)
def test_an_epsilon_out_of_proportion_holds_the_update_back_as_predicted(name, excess):
    """``n^excess`` too much epsilon, and so large that it rules at every width (too little: so small).

    RAdam's first steps know no epsilon, and would hide it.
    """
    law = LAWS[name]
    # beside the gradient 0.01, beside its norm and its square what these are at the smallest width
    beside = {**dict.fromkeys((*MUONS, "lars"), 0.6), "shampoo": 0.4, "adadelta": 1e-4}
    size = beside.get(name, 0.01) * (1 if not excess else 1e3 if excess > 0 else 1e-6)
    exponent = law.eps.exponent(HIDDEN) + excess
    c = law.c(Fraction(1), HIDDEN)

    def update(width: int) -> float:
        """The largest singular value: orthogonalised matrices are compared by it."""
        ratio = width / WIDTHS[0]
        numbers = {"lr": 1e-3 * ratio ** -float(c), "eps": size * ratio ** float(exponent)}
        return float(torch.linalg.matrix_norm(moved(name, HIDDEN, width, **numbers)[0], 2))

    assert abs(slope_of(update) + float(law.C(c, HIDDEN, eps=exponent)) - 1) <= 0.06


# -- weights that start at zero ---------------------------------------------------------------------------------


def zeroed(*names: str) -> Callable:
    def factory(width: int):
        model, inputs = mlp(width)
        for name in names:
            nn.init.zeros_(model.get_parameter(name))
        return model, inputs

    return factory


zero_biases = zeroed("input.bias", "hidden.bias", "output.bias")
zero_readout = zeroed("output.weight")
RELATIVE = ("adafactor", "adafactor_transformers", "lamb")


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.parametrize("steps", [1, 3])
def test_relative_laws_hold_for_zero_biases(name, steps):
    result = tpcalc.check(zero_biases, WIDTHS, name, steps=steps, seeds=1)
    assert result.ok and all(abs(slope) <= TOLERANCE for slope in effects(result).values()), effects(result)


@pytest.mark.parametrize("name", (*RELATIVE, "lars"))
def test_relative_laws_do_not_hold_for_a_zero_readout_and_say_so(name):
    """Its first update is of order 0 (under LARS of the gradient's, also 0) where n^-1 is needed."""
    result = tpcalc.check(zero_readout, WIDTHS, name, steps=1, seeds=1)
    assert [e.verdict for e in result.of("effect", "output.weight")] == ["above"]
    assert abs(effects(result)["output.weight"] - 1) <= 0.25
    assert any("starts at zero" in note for note in result.notes)


def test_lars_leaves_zero_biases_behind_and_sgd_beside_it_does_not():
    result = tpcalc.check(zero_biases, WIDTHS, "lars", steps=1, seeds=1)
    assert {e.subject for e in result.failures} == {"input.bias", "hidden.bias"}
    assert all(abs(effects(result)[name] + 1) <= TOLERANCE for name in ("input.bias", "hidden.bias"))
    assert tpcalc.check(zero_biases, WIDTHS, "lars+sgd", steps=1, seeds=1).ok


# -- what cannot be run ------------------------------------------------------------------------------------------


def test_a_torch_without_the_optimizer_is_one_sentence(monkeypatch):
    monkeypatch.delattr(torch.optim, "Adafactor")
    with pytest.raises(TpcalcError, match=r"torch \d.* has no torch\.optim\.Adafactor; install a newer torch"):
        tpcalc.check(mlp, WIDTHS, "adafactor", seeds=1, steps=1)


def test_transformers_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.optimization", None)
    with pytest.raises(TpcalcError, match=r"pip install 'tpcalc\[hf\]'"):
        tpcalc.check(mlp, WIDTHS, "adafactor_absolute", seeds=1, steps=1)


def test_kfac_refuses_what_it_has_no_factors_for():
    with pytest.raises(TpcalcError, match=r"norm\.weight is of LayerNorm; .* kfac\+adamw"):
        tpcalc.check(embedded, WIDTHS, "kfac", seeds=1, steps=1)
    with pytest.raises(TpcalcError, match=r"the FOOF .* head\.weight is used twice"):

        def tied(width: int):
            model, inputs = embedded_plain(width)
            model.head = nn.Linear(width, VOCABULARY, bias=False)
            model.head.weight = model.token.weight
            return model, inputs

        tpcalc.check(tied, WIDTHS, "foof", seeds=1, steps=1)
    result = tpcalc.check(embedded, WIDTHS, "kfac+adamw", seeds=1, steps=2)
    assert result.ok and abs(effects(result)["up.weight"]) <= TOLERANCE


def test_radam_is_measured_in_its_adaptive_steps():
    result = run("radam", mlp)
    assert result.steps == 3 + BUILT["radam"].warm_up and any("steps before" in note for note in result.notes)
    assert any("first steps" in note for note in result.notes)
    early = tpcalc.check(mlp, WIDTHS, "adam", steps=3, seeds=1, build=torch.optim.RAdam)
    assert {e.subject for e in early.failures} >= {"hidden.weight"}
    assert math.isclose(effects(early)["hidden.weight"], -1, abs_tol=0.2)


# -- the page ------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()
#: How far a slope may be from the one on the page: other versions of torch draw other numbers.
NEAR = 0.1
VIEWS = (
    HIDDEN,
    READOUT,
    WeightView(Fraction(-1), Fraction(0), (Fraction(1), Fraction(0))),
    WeightView(Fraction(-3, 2), Fraction(1, 4), (Fraction(2), Fraction(1)), Fraction(1), Fraction(1, 2)),
)


def table(heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the first table under a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = (line.strip("|").split("|") for line in section.splitlines() if line.startswith("|"))
    rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0]: row[1:] for row in rows[2:]}


def exponent_of(cell: str, view: WeightView, c: Fraction = Fraction(0)) -> Fraction:
    """The value of a formula of the page."""
    names = {"g": view.gradient, "b": view.size, "c": c, "rows": view.rows, "columns": view.columns, "max": max}
    names |= {"fan_in": view.fan_in, "fan_out": view.entries - view.fan_in, "inputs": view.inputs}
    exact = re.sub(r"/(\d+)", r"*Fraction(1, \1)", cell.strip("`"))
    return Fraction(eval(exact, {"__builtins__": {}}, {**names, "Fraction": Fraction}))


def power(cell: str) -> Fraction:
    return Fraction({"1": "0", "n": "1"}.get(cell, cell.removeprefix("n^")))


def test_the_page_lists_every_law_as_it_is():
    listed = table("The laws")
    assert set(listed) == set(LAWS)
    for name, (u, decay, eps, published) in listed.items():
        law = LAWS[name]
        assert law.source.startswith(published) and published[-4:].isdigit(), name
        assert bool(eps) == (law.eps is not None), name
        for view in VIEWS:
            assert law.unit(view) == exponent_of(u, view), (name, view)
            assert law.decay.exponent(view, Fraction(7, 3)) == exponent_of(decay, view, Fraction(7, 3)), (name, view)
            assert not eps or law.eps.exponent(view) == exponent_of(eps, view), (name, view)


THREE = ("input.weight", "hidden.weight", "output.weight")


def measured(name: str, widths: tuple[int, ...] = ()) -> list[float]:
    if name in MUONS:
        found = effects(tpcalc.check(matrices, widths or FEW, Recipe(LAWS[name]), steps=2, seeds=2))
        return [found[f"layers.{i}.weight"] for i in (0, 1, 4)]
    return [effects(run(name, mlp, widths))[weight] for weight in THREE]


@pytest.mark.parametrize("widths", [(), pytest.param(WIDTHS, marks=pytest.mark.slow)], ids=["few widths", "all widths"])
def test_the_page_has_the_rules_of_the_mlp_and_their_slopes(widths):
    program = tpcalc.trace.trace(mlp, WIDTHS)
    listed = table("On a multilayer perceptron")
    assert set(listed) == set(LAWS)
    for name, (*rates, decays, epsilons, slopes) in listed.items():
        rules = tpcalc.derive(program, Recipe(LAWS[name]))
        own = [rules[weight] for weight in THREE]
        assert [power(cell) for cell in rates] == [-rule.c for rule in own], name
        assert [power(cell) for cell in decays.split(", ")] == [rule.weight_decay for rule in own], name
        assert [power(cell) for cell in epsilons.split(", ") if cell] == [r.eps for r in own if r.eps is not None], name
        shown = [float(cell) for cell in slopes.split(", ")]
        assert all(abs(x - y) <= NEAR for x, y in zip(shown, measured(name, widths), strict=True)), name


def test_the_page_has_the_recipes():
    program = tpcalc.trace.trace(mlp, WIDTHS)
    for name, (*rates, slopes) in table("Recipes").items():
        rules = tpcalc.derive(program, name)
        assert [power(cell) for cell in rates] == [-rules[weight].c for weight in THREE], name
        shown = [float(cell) for cell in slopes.split(", ")]
        assert all(abs(x - y) <= NEAR for x, y in zip(shown, measured(name), strict=True)), name
