"""Optimizers as verify reads them: which law each class follows, and that right rates pass and wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import nn

import tpcalc
from tests.optimizers.test_optimizer_families import small_gpt
from tests.support.models import MODELS, program
from tests.support.once import once
from tests.support.sampled import kept, sampled
from tests.support.verify_setups import BASE, LR, MLP, mup_init, x_inputs
from tpcalc.algebra.order import Order
from tpcalc.calculus.weights import weight_view
from tpcalc.check import reference
from tpcalc.check.optimizers import BUILT
from tpcalc.derive.solve import solve
from tpcalc.optimizers import LAWS, WeightView
from tpcalc.program.ir import Program
from tpcalc.verify import Report, SetupError
from tpcalc.verify.optimizers import law_of

WIDTHS = (64, 128, 256)
HALF = Fraction(1, 2)
HIDDEN = {"hidden1.weight", "hidden2.weight"}
MATRIX = (Fraction(1), Fraction(1))


# -- a net and the groups that the rules ask for -----------------------------------------------------------


def net(width: int) -> nn.Module:
    model = MLP(width)
    mup_init(model)
    return model


@once
def traced() -> Program:
    return tpcalc.trace(lambda width: (net(width), x_inputs()), WIDTHS)


@once
def rules(how: str) -> tpcalc.Parametrization:
    return tpcalc.derive(traced(), how)


def groups_of(model: nn.Module, how: str, width: int, law: str, hidden: Fraction = Fraction(0)) -> list[dict]:
    """One group a parameter of ``law``, as the rules of ``how`` scale it; hidden rates off by ``n^hidden``."""
    m = width / BASE
    groups = []
    for name, p in model.named_parameters():
        rule = rules(how)[name]
        if rule.optimizer != law:
            continue
        power = (hidden if name in HIDDEN else 0) - rule.c
        group = {"params": [p], "lr": LR * m ** float(power), "weight_decay": 0.01 * m ** float(rule.weight_decay)}
        groups.append(group | ({} if rule.eps is None else {"eps": 1e-8 * m ** float(rule.eps)}))
    return groups


def by_rules(how: str, hidden: Fraction = Fraction(0)) -> Callable:
    """``setup``: every optimizer of a law or recipe."""

    def setup(width: int):
        model = net(width)
        laws = dict.fromkeys(rules(how)[name].optimizer for name, _ in model.named_parameters())
        made = [BUILT[law].make(groups_of(model, how, width, law, hidden), model) for law in laws]
        return model, made, x_inputs()

    return setup


def named(report: Report) -> set[str]:
    return {name for finding in report.findings for name in finding.weights}


# -- right and wrong ---------------------------------------------------------------------------------------

HOWS = [name for name in BUILT if name != "lars"] + ["soap+adamw", "shampoo+adamw", "lion+adamw", "lars+sgd"]


@pytest.mark.parametrize("how", sampled(HOWS, every=2))
def test_what_the_rules_say_passes(how):
    report = tpcalc.verify(by_rules(how), WIDTHS)
    assert report.findings == () and report.regime == "maximal", report


#: Every optimizer in one of the two directions, a few in both.
WRONG = kept(
    [(how, off) for how in HOWS for off in (HALF, -HALF)],
    lambda case: case[0] in ("sgd", "adamw", "muon") or (case[1] > 0) == (HOWS.index(case[0]) % 2 == 0),
)


@pytest.mark.parametrize("how, off", WRONG)
def test_a_wrong_hidden_rate_is_named(how, off):
    report = tpcalc.verify(by_rules(how, off), WIDTHS)
    rates = [f for f in report.findings if f.quantity == "lr"]
    assert [f.kind for f in rates] == ["explodes" if off > 0 else "not maximal"] and named(report) == HIDDEN
    assert all(f.found - f.needed == off for f in rates) and report.ok == (off < 0)


def test_weights_that_start_at_zero_under_relative_laws():
    """Biases are zero in this net: as they should be under LAMB, left behind under LARS.  A zero readout explodes."""
    report = tpcalc.verify(by_rules("lars"), WIDTHS)
    assert named(report) == {"input.bias", "hidden1.bias", "hidden2.bias"} and report.ok
    # they stay n^-1 as large as they should be, and so does their decay
    assert [(f.kind, f.quantity, f.effect) for f in report.findings] == [
        ("not maximal", "init std", -1),
        ("decay drift", "weight_decay", -1),
    ]
    assert "it starts at zero, where lars has no size" in report.findings[0].message
    assert any("starts at zero" in note for note in report.notes)

    def zero_readout(width: int):
        model, optimizer, inputs = by_rules("lamb")(width)
        nn.init.zeros_(model.readout.weight)
        return model, optimizer, inputs

    report = tpcalc.verify(zero_readout, WIDTHS)
    assert [(f.kind, f.quantity, f.weights, f.effect) for f in report.findings if f.severity == "error"] == [
        ("explodes", "init std", ("readout.weight",), 1)
    ]
    assert "start it at a size ~ n^(-1)" in report.findings[0].message


def test_notes_of_laws_reach_the_report():
    report = tpcalc.verify(by_rules("radam"), WIDTHS)
    assert report.notes == (LAWS["radam"].note,) and LAWS["radam"].note in str(report)
    assert tpcalc.verify(by_rules("adamw"), WIDTHS).notes == ()


def test_an_epsilon_that_lamb_makes_up_for_is_told_so():
    def setup(width: int):
        model, (optimizer,), inputs = by_rules("lamb")(width)
        for group in optimizer.param_groups:
            group["eps"] = 1e-8
        return model, optimizer, inputs

    (finding,) = tpcalc.verify(setup, WIDTHS).findings
    assert finding.kind == "eps drift" and "becomes another one" in finding.message


# -- which law a class follows -----------------------------------------------------------------------------


class Stepless(torch.optim.Optimizer):
    def __init__(self, params, **defaults):
        super().__init__(params, {"lr": LR, **defaults})

    def step(self, closure=None):
        raise NotImplementedError


def someones(name: str, **members) -> type:
    """A class of this name in nobody's module."""
    return type(name, (Stepless,), {"step": Stepless.step, "__module__": "somebody.code", **members})


def law_name(optimizer, group: int = 0, growths: tuple = MATRIX) -> str:
    law = law_of(optimizer)
    return law if isinstance(law, str) else law(optimizer.param_groups[group], growths).name


P = [nn.Parameter(torch.zeros(2, 2))]


@pytest.mark.parametrize(
    "name, law",
    [
        ("Lion", "lion"),
        ("SignSGD", "sign"),
        ("Signum", "sign"),
        ("LAMB", "lamb"),
        ("Lamb", "lamb"),
        ("LARS", "lars"),
        ("AdamAtan2", "adam_atan2"),
        ("SOAP", "soap"),
    ],
)
def test_bare_names(name, law):
    assert law_name(someones(name)(P)) == law


@pytest.mark.parametrize("decoupled", [False, True])
def test_tensorflows_rmsprop_has_its_epsilon_inside_the_root(decoupled):
    law = law_of(someones("RMSpropTF")(P))({"decoupled_decay": decoupled}, MATRIX)
    assert law.name == ("adamw" if decoupled else "rmsprop")
    assert law.eps.exponent(WeightView(Order(-1), Order(0), MATRIX)) == -2


@pytest.mark.parametrize(
    "cls, options, law",
    [
        ("SGD", {}, "sgd"),
        ("ASGD", {}, "asgd"),
        ("Adam", {}, "adam"),
        ("AdamW", {}, "adamw"),
        ("Adamax", {}, "adamax"),
        ("NAdam", {}, "nadam"),
        ("NAdam", {"decoupled_weight_decay": True}, "nadamw"),
        ("RAdam", {}, "radam"),
        ("RAdam", {"decoupled_weight_decay": True}, "radamw"),
        ("RMSprop", {}, "rmsprop"),
        ("Adagrad", {}, "adagrad"),
        ("Adadelta", {}, "adadelta"),
        ("Rprop", {}, "rprop"),
        ("Adafactor", {}, "adafactor"),
        ("Muon", {}, "muon"),
        ("Muon", {"adjust_lr_fn": "original"}, "muon"),
        ("Muon", {"adjust_lr_fn": "match_rms_adamw"}, "muon_match_rms_adamw"),
    ],
)
def test_torchs_own(cls, options, law):
    found = getattr(torch.optim, cls, None)
    if found is None:
        pytest.skip(f"this torch has no {cls}")
    assert law_name(found(P, lr=LR, **options)) == law


def test_transformers_adafactor_absolute_and_relative():
    Adafactor = pytest.importorskip("transformers.optimization").Adafactor
    fixed = {"lr": LR, "relative_step": False}
    assert law_name(Adafactor(P, scale_parameter=True, **fixed)) == "adafactor_transformers"
    assert law_name(Adafactor(P, scale_parameter=False, **fixed)) == "adafactor_absolute"

    def relative_step(width: int):
        return (model := net(width)), Adafactor(model.parameters()), x_inputs()

    report = tpcalc.verify(relative_step, WIDTHS)  # its own rate is the same at all widths
    assert report.weights["hidden1.weight"].c == 0 and report.weights["hidden1.weight"].C == HALF


def test_the_reference_optimizers_are_known():
    known = {"Sign", "Lion", "AdamAtan2", "LAMB", "LARS", "MuonSpectral", "Shampoo", "SOAP"}
    for name in known:
        assert law_name(getattr(reference, name)(P)) in LAWS
    assert law_name(reference.KFAC([{"params": P}], nn.Module())) == "kfac"
    assert law_name(reference.FOOF([{"params": P}], nn.Module())) == "foof"


# -- one name, several laws ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, told, message",
    [
        ("Muon", {"momentum": 0.95}, r"shape factor .* 'muon_match_rms_adamw' for"),
        ("Shampoo", {}, r"power of its factors"),
        ("Adafactor", {}, r"scales updates to rms\(W\)"),
    ],
)
def test_what_a_name_does_not_tell_is_refused_with_the_choices(name, told, message):
    with pytest.raises(SetupError, match=rf"somebody\.code\.{name} goes by a name of several laws: .*{message}"):
        law_of(someones(name)(P, **told))
    cls = someones(name)
    tpcalc.declare_optimizer("adamw")(cls)
    assert law_name(cls(P)) == "adamw"


def test_what_groups_tell_is_read():
    muon = someones("Muon")
    assert law_name(muon(P, adjust_lr_fn="match_rms_adamw")) == "muon_match_rms_adamw"
    assert law_name(muon(P, adjust_lr_fn=None)) == "muon"
    assert law_name(muon(P, adjust_lr_fn="original", use_muon=False)) == "adamw"
    assert law_name(someones("Adafactor")(P, scale_parameter=False)) == "adafactor_absolute"


# -- Muon and AdamW in one optimizer --------------------------------------------------------------------------


class MuonWithAuxAdam(Stepless):
    """As Keller Jordan's: groups say ``use_muon``; the factor is sqrt(max(1, rows/columns))."""

    step = Stepless.step


def keller_jordan(power: float) -> Callable:
    def setup(width: int):
        model, m = net(width), width / BASE
        hidden = [p for name, p in model.named_parameters() if name in HIDDEN]
        readout = [model.readout.weight, model.readout.bias]
        rest = [p for p in model.parameters() if all(p is not q for q in (*hidden, *readout))]
        adam = {"use_muon": False, "betas": (0.9, 0.95), "weight_decay": 0.0}
        groups = [
            {"params": hidden, "use_muon": True, "lr": LR * m**power, "weight_decay": 0.01 * m**-power},
            {"params": rest, "lr": LR, "eps": 1e-10 / m, **adam},
            {"params": readout[:1], "lr": LR / m, "eps": 1e-10, **adam},
            {"params": readout[1:], "lr": LR, "eps": 1e-10, **adam},
        ]
        return model, MuonWithAuxAdam(groups), x_inputs()

    return setup


def test_muon_with_aux_adam():
    assert tpcalc.verify(keller_jordan(0.0), WIDTHS).findings == ()
    report = tpcalc.verify(keller_jordan(0.5), WIDTHS)
    assert [(f.kind, f.found, f.needed) for f in report.findings] == [("explodes", HALF, 0)]
    assert named(report) == HIDDEN
    (finding,) = tpcalc.verify(keller_jordan(-1.0), WIDTHS).findings
    assert finding.kind == "frozen" and set(finding.weights) == HIDDEN  # Adam's rate


def moonlights(readouts_too: bool, power: float) -> Callable:
    """As Moonlight's: one group, ``wd``, ``adamw_eps``, and the state says which parameter uses Muon."""

    def adjust_lr_for_muon(self, lr, shape):
        return 0.2 * max(shape) ** 0.5 * lr

    Muon = someones("Muon", adjust_lr_for_muon=adjust_lr_for_muon)

    def setup(width: int):
        model, m = net(width), width / BASE
        # one rate for all fits only where 1/sqrt(n) is the need of all: matrices here, the rest is frozen
        for name, p in model.named_parameters():
            p.requires_grad_(name in HIDDEN or readouts_too and name == "readout.weight")
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = Muon(parameters, lr=LR * m**power, wd=0.1 * m**-power, adamw_eps=1e-8)
        for name, p in model.named_parameters():
            if p.requires_grad:
                optimizer.state[p]["use_muon"] = name in HIDDEN
        return model, optimizer, x_inputs()

    return setup


def test_moonlight_trains_everything_in_one_optimizer():
    report = tpcalc.verify(moonlights(False, -0.5), WIDTHS)
    assert report.findings == () and report.weights["hidden1.weight"].weight_decay == HALF
    assert report.weights["hidden1.weight"].eps is None
    report = tpcalc.verify(moonlights(False, 0.0), WIDTHS)
    assert [(f.kind, f.found, f.needed) for f in report.findings] == [("explodes", 0, -HALF)]
    assert named(report) == HIDDEN
    report = tpcalc.verify(moonlights(True, -0.5), WIDTHS)  # AdamW for the readout, which needs 1/n
    assert [(f.kind, f.weights, f.needed) for f in report.findings if f.quantity == "lr"] == [
        ("explodes", ("readout.weight",), -1)
    ]
    assert report.weights["readout.weight"].eps == 0


# -- a GPT ------------------------------------------------------------------------------------------------------


def test_muon_and_adamw_on_a_gpt_name_the_hidden_weights():
    """The recipe's own multipliers pass; Muon's rate scaled as AdamW's does not, and only hidden matrices are named."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    how = "muon_match_rms_adamw"
    scalings = {width: tpcalc.scale(small_gpt, base=64, target=width, optimizer=how) for width in WIDTHS[1:]}

    def setup(power: float) -> Callable:
        def right_or_wrong(width: int):
            model, inputs = small_gpt(width)
            if width == WIDTHS[0]:
                scalings[width] = tpcalc.scale(small_gpt, base=64, target=64, optimizer=how, widths=(64, 128, 256))
            scaling = scalings[width]
            scaling.init_(model)
            muon = scaling.param_groups(model, lr=LR, weight_decay=0.1, optimizer=how)
            for group in muon:
                group["lr"] *= (width / 64) ** power
                group["weight_decay"] *= (width / 64) ** -power
            adamw = scaling.param_groups(model, lr=LR, weight_decay=0.1, optimizer="adamw")
            return model, [torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"), torch.optim.AdamW(adamw)], inputs

        return right_or_wrong

    matrices = {name for name, p in small_gpt(64)[0].named_parameters() if "blocks" in name and p.dim() == 2}
    assert tpcalc.verify(setup(0.0), WIDTHS).findings == ()
    report = tpcalc.verify(setup(-0.5), WIDTHS)
    assert named(report) == matrices and {f.kind for f in report.findings} == {"not maximal"}
    report = tpcalc.verify(setup(0.5), WIDTHS)
    assert not report.ok and named(report) == matrices


def test_rates_follow_the_larger_update_of_start_and_later():
    """K-FAC divides by gradients: those behind multi-query attention start smaller than they become, so first updates
    are larger.
    """
    build = MODELS["gpt_mqa"]
    solution, rules = solve(program(build)), tpcalc.derive(program(build), "kfac")
    later = {}
    for leaf in solution.lowered.leaves:
        need = solution.needs[leaf.name]
        later[leaf.name] = LAWS["kfac"].c(need.C, weight_view(solution.lowered, leaf, solution.facts, need.A))
    names = {f"blocks.{block}.attn.proj.weight" for block in (0, 1)}
    assert all(rules[name].c == later[name] + HALF for name in names)
    assert all(rules[name].c >= c for name, c in later.items())
    scalings = {width: tpcalc.scale(build, base=64, target=width, optimizer="kfac", widths=WIDTHS) for width in WIDTHS}

    def setup(power: float) -> Callable:
        def built(width: int):
            model, inputs = build(width)
            scalings[width].init_(model)
            groups = []
            for group in scalings[width].param_groups(model, lr=LR, weight_decay=0, optimizer="kfac"):
                for parameter in group.pop("params"):
                    off = any(parameter is model.get_parameter(name) for name in names)
                    lr = group["lr"] * (width / 64) ** (power * off)
                    groups.append({**group, "params": [parameter], "lr": lr})
            return model, reference.KFAC(groups, nn.Module()), inputs

        return built

    assert tpcalc.verify(setup(0.0), WIDTHS).findings == ()
    report = tpcalc.verify(setup(0.5), WIDTHS)
    c = rules["blocks.0.attn.proj.weight"].c
    assert [(f.kind, f.quantity, f.found, f.needed) for f in report.findings] == [("explodes", "lr", HALF - c, -c)]
    assert named(report) == names
