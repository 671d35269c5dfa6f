"""Rules told by shapes alone (Table 8 of TP5) are clean on every architecture; one slip in them is found, by name.

Each slip is one that people make: a weight left at the base's rate, the other power of the head size, a readout that
starts like a hidden weight, a group that lost its decay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

import tpcalc
from tests.support import by_shape as shapes
from tests.support.by_shape import Slip, by_shape
from tests.support.sampled import kept, sampled
from tests.support.verify_reports import WIDTHS

Groups = Sequence[Mapping[str, Any]]
RULES = Slip()  # none


def plain(cls: type, **options: Any) -> Callable:
    def make(groups: Groups) -> torch.optim.Optimizer:
        return cls([{key: value for key, value in group.items() if key != "matrix"} for group in groups], **options)

    return make


def muon(groups: Groups) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest."""
    numbers = ("params", "lr", "weight_decay")
    matrices = [{key: group[key] for key in numbers} for group in groups if group["matrix"]]
    rest = plain(torch.optim.AdamW)([group for group in groups if not group["matrix"]])
    return [torch.optim.Muon(matrices), rest] if matrices else [rest]


class Lamb(torch.optim.Optimizer):
    """Adam's first update with decay, scaled to the norm of the weight."""

    def __init__(self, groups: Groups):
        super().__init__(groups, {"lr": 0.01, "weight_decay": 0.0, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    update = p.grad / (p.grad.abs() + group["eps"]) + group["weight_decay"] * p
                    ratio = p.norm() / update.norm() if p.norm() > 0 else 1.0
                    p.sub_(update * ratio, alpha=group["lr"])


class Lion(torch.optim.Optimizer):
    def __init__(self, groups: Groups):
        super().__init__(groups, {"lr": 0.01, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(m.lerp(p.grad, 0.1).sign(), alpha=group["lr"])
                    m.lerp_(p.grad, 0.01)


OPTIMIZERS = {
    "adamw": ("adam", plain(torch.optim.AdamW)),
    "nadam": ("adam", plain(torch.optim.NAdam, decoupled_weight_decay=True)),
    "lion": ("adam", plain(Lion)),
    "sgd": ("sgd", plain(torch.optim.SGD, momentum=0.9, nesterov=True)),
    "muon": ("muon", muon),
    "lamb": ("relative", plain(Lamb)),
}


def report_of(model: str, optimizer: str, slip: Slip = RULES) -> tpcalc.verify.Report:
    family, make = OPTIMIZERS[optimizer]
    return tpcalc.verify(by_shape(getattr(shapes, model), family, make, slip), WIDTHS)


#: Each model under three optimizers, so that each optimizer meets six models.
RIGHT = [
    (model.__name__, name)
    for index, model in enumerate(shapes.MODELS)
    for name in (list(OPTIMIZERS)[::2] if index % 2 else list(OPTIMIZERS)[1::2])
]


#: One of the three in every run, another one from model to model, so that all six are met; the others by make slow.
MET = {(model.__name__, list(OPTIMIZERS)[index % len(OPTIMIZERS)]) for index, model in enumerate(shapes.MODELS)}


@pytest.mark.parametrize(("model", "optimizer"), kept(RIGHT, lambda case: case in MET))
def test_rules_by_shape_are_clean(model, optimizer):
    report = report_of(model, optimizer)
    assert report.findings == () and report.regime == "maximal", report


def slip(*, power: float = -1.0, **rules: Mapping[str, float]) -> Slip:
    return Slip({name.replace("__", "."): rule for name, rule in rules.items()}, power)


#: model, optimizer, slip -> kinds of which one is found, and part of the name that it is found of
WRONG = [
    ("NormedMLP", "adamw", slip(layers={"lr": 0, "decay": 0}), {"explodes"}, "layers"),
    ("NormedMLP", "lion", slip(readout__weight={"lr": 0, "decay": 0}), {"explodes"}, "readout.weight"),
    ("NormedMLP", "sgd", slip(first__weight={"lr": 0, "decay": 0}), {"frozen"}, "first.weight"),
    ("Convolutions", "adamw", slip(convs={"std": 0}), {"not maximal", "explodes"}, "convs"),
    ("Convolutions", "sgd", slip(stem={"lr": -1, "decay": 1}), {"frozen"}, "stem"),
    ("Convolutions", "nadam", slip(readout__weight={"std": -0.5}), {"explodes"}, "readout.weight"),
    ("GPT", "adamw", slip(power=-0.5), {"attention scale"}, "attention"),
    ("GPT", "muon", slip(qkv={"lr": -0.5, "decay": 0.5}), {"not maximal"}, "qkv"),
    ("GPT", "sgd", slip(wte={"lr": 0, "decay": 0}), {"frozen"}, "wte"),
    ("GPT", "adamw", slip(mlp={"lr": -0.5, "decay": 0.5}), {"explodes"}, "mlp"),
    ("NormedQueries", "adamw", slip(proj__weight={"lr": 0, "decay": 0}), {"explodes"}, "proj.weight"),
    ("NormedQueries", "nadam", slip(power=-0.5), {"attention scale"}, "attention"),
    ("NormedQueries", "muon", slip(readout={"lr": 0, "decay": 0}), {"explodes"}, "readout"),
    ("ViT", "adamw", slip(patch={"lr": -1, "decay": 1}), {"frozen"}, "patch"),
    ("ViT", "lion", slip(down={"lr": -0.5, "decay": 0.5}), {"explodes"}, "down.weight"),
    ("ViT", "sgd", slip(readout__weight={"lr": 0, "decay": 0}), {"explodes"}, "readout.weight"),
    ("Recurrent", "adamw", slip(weight_hh={"lr": 0, "decay": 0}), {"explodes"}, "weight_hh"),
    ("Recurrent", "sgd", slip(weight_ih={"lr": 0, "decay": 0}), {"frozen"}, "weight_ih"),
    ("Mixer", "adamw", slip(up={"lr": 0, "decay": 0}), {"explodes"}, "up.weight"),
    ("Mixer", "nadam", slip(down={"lr": -2, "decay": 2}), {"frozen"}, "down"),
    ("Experts", "adamw", slip(experts={"lr": -0.5, "decay": 0.5}), {"explodes"}, "experts"),
    ("Experts", "lion", slip(router={"lr": 0, "decay": 0}), {"explodes"}, "router"),
    ("Gated", "adamw", slip(depthwise={"lr": -1, "decay": 1}), {"frozen"}, "depthwise"),
    ("Gated", "sgd", slip(point2__weight={"lr": 1, "decay": -1}), {"explodes"}, "point2.weight"),
    ("Gated", "muon", slip(point1__weight={"lr": 0.5, "decay": -0.5}), {"explodes"}, "point1.weight"),
    ("Messages", "adamw", slip(message__weight={"lr": -2, "decay": 2}), {"frozen"}, "message.weight"),
    ("Messages", "lamb", slip(update={"lr": 0}), {"explodes"}, "update.weight"),
    ("CrossAttention", "adamw", slip(power=-0.5), {"attention scale", "explodes"}, ""),
    ("CrossAttention", "nadam", slip(kv__weight={"std": 0}), {"explodes"}, "kv.weight"),
    ("Modulated", "adamw", slip(film__weight={"lr": 0, "decay": 0}), {"explodes"}, "film.weight"),
    ("Modulated", "lamb", slip(hidden={"lr": -1}), {"not maximal", "frozen"}, "hidden.weight"),
    ("Modulated", "adamw", slip(hidden__weight={"decay": 0}), {"decay drift"}, "hidden.weight"),
    ("GPT", "adamw", slip(mlp={"eps": 0}), {"eps drift"}, "mlp"),
]


#: Every second slip, which leaves one of every model at least.
@pytest.mark.parametrize(("model", "optimizer", "slip", "kinds", "part"), sampled(WRONG, every=2))
def test_one_slip_is_found_and_named(model, optimizer, slip, kinds, part):
    report = report_of(model, optimizer, slip)
    # a weight left at the base's rate beside twins that are right is told as such
    blamed = [finding for finding in report.findings if finding.kind in kinds | {"unmatched"}]
    assert any(part in name for f in blamed for name in (*f.weights, f.subject)), report
    # nothing else is blamed: weights that the slip does not name keep a clean sheet
    assert all(part in name for f in report.errors for name in (f.weights or (f.subject,))), report
