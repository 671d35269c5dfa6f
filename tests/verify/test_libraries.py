"""Optimizers of other people's libraries under rules by shape: right ones are clean, one slip is found, by name.

Each test needs one package, and is skipped without it.
"""

from __future__ import annotations

from itertools import cycle

import pytest

import tpcalc
from tests.support import by_shape as shapes
from tests.support import libraries
from tests.support.by_shape import RATES, SIZES, Slip, by_shape
from tests.support.libraries import LIBRARIES
from tests.support.verify_reports import WIDTHS

RULES = Slip()  # none
MODELS = {
    model.__name__: model
    for model in (*shapes.MODELS, libraries.Tied, libraries.LongShort, libraries.TopOne)
    if model.__name__ in {"NormedMLP", "GPT", "Convolutions", "Experts", "Recurrent", "Tied", "LongShort", "TopOne"}
}


def report_of(library: str, model: str, slip: Slip = RULES) -> tpcalc.verify.Report:
    package, family, make = LIBRARIES[library]
    pytest.importorskip(package)
    return tpcalc.verify(by_shape(MODELS[model], family, make, slip), WIDTHS)


@pytest.mark.parametrize(("library", "model"), [*zip(LIBRARIES, cycle(MODELS))])
def test_right_ones_are_clean(library, model):
    report = report_of(library, model)
    assert report.findings == () and report.regime == "maximal", report


#: model, part of a name, kind of weight, what is off by which power; what is found
SLIPS = [
    ("NormedMLP", "layers", "matrix", "lr", 1.0, {"explodes"}),
    ("GPT", "mlp", "matrix", "lr", 0.5, {"explodes"}),
    ("Convolutions", "stem", "vector", "lr", -1.0, {"frozen"}),
    ("Experts", "router", "readout", "lr", 1.0, {"explodes"}),
    ("Recurrent", "weight_hh", "matrix", "lr", 0.5, {"explodes"}),
    ("Tied", "down", "matrix", "lr", 1.0, {"explodes"}),
    ("LongShort", "readout.weight", "readout", "std", 0.5, {"explodes"}),
    ("TopOne", "experts", "matrix", "lr", -1.0, {"frozen", "not maximal"}),
    ("NormedMLP", "layers", "matrix", "decay", 1.0, {"decay drift"}),
    ("GPT", "attention.proj.weight", "matrix", "lr", -0.5, {"not maximal"}),
    ("Convolutions", "readout.weight", "readout", "lr", 0.5, {"explodes"}),
    ("Experts", "first.weight", "vector", "lr", 0.5, {"explodes"}),
    ("GPT", "wpe", "vector", "lr", -1.0, {"frozen", "not maximal"}),
]


def slipped(family: str, part: str, kind: str, quantity: str, by: float) -> Slip:
    rate = RATES[family][kind]
    right = {"lr": rate, "std": SIZES[kind], "decay": -SIZES[kind] if family == "relative" else -rate}
    wrong = {quantity: right[quantity] + by}
    if quantity == "lr" and family != "relative":
        wrong["decay"] = -wrong["lr"]
    return Slip({part: wrong})


@pytest.mark.parametrize(("library", "slip"), [*zip(LIBRARIES, cycle(SLIPS))])
def test_one_slip_is_found_and_named(library, slip):
    model, part, kind, quantity, by, kinds = slip
    report = report_of(library, model, slipped(LIBRARIES[library][1], part, kind, quantity, by))
    blamed = [finding for finding in report.findings if finding.kind in kinds | {"unmatched"}]
    assert any(part in name for f in blamed for name in (*f.weights, f.subject)), report
    assert all(part in name for f in report.errors for name in (f.weights or (f.subject,))), report


@pytest.mark.parametrize("library", [name for name in LIBRARIES if "adamw" in name])
def test_an_epsilon_left_as_it_was_is_found(library):
    report = report_of(library, "GPT", Slip({"mlp": {"eps": 0.0}}))
    assert {f.kind for f in report.findings} == {"eps drift"}, report
    assert all("mlp" in name for f in report.findings for name in f.weights), report
