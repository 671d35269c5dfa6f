"""The committed figures of docs/transfer.md are of this code: a few of their trainings again, each to the same loss.

Of every file one run of each parametrization: at the largest size, the first seed, the rate that was best there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tpcalc.trace.target import factory_of
from tpcalc.transfer.jobs import Job
from tpcalc.transfer.result import DERIVED, STANDARD
from tpcalc.transfer.run import trainer
from tpcalc.transfer.sizes import Sizes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "transfer"
#: Where models and loops are; a loss of 2.2 is known to this much on other processors after some hundred steps.
LANGUAGE, IMAGES, SAME = ROOT / "examples/transfer/language.py", ROOT / "examples/transfer/images.py", 0.02
SWEEPS = sorted(
    path.relative_to(DATA).as_posix() for path in DATA.glob("*/*.json") if "sizes" in json.loads(path.read_text())
)
TARGETS = sorted(
    path.relative_to(DATA).as_posix() for path in DATA.glob("*/*target.json") if "runs" in json.loads(path.read_text())
)


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / name).read_text())
    return document


@cache
def sizes_of(model: str, base: tuple[tuple[str, int], ...], place: tuple[tuple[str, int], ...]) -> Any:
    """What runs a job of one model at a place."""
    file, optimizer = (IMAGES, factory_of(f"{IMAGES}:sgd")) if model == "resnet" else (LANGUAGE, "adamw")
    how = trainer(factory_of(f"{file}:{model}"), optimizer, factory_of(f"{file}:train"))
    return Sizes(how.factory, dict(base), [dict(place)], how.how).runner(how)


def again(model: str, base: dict, place: dict, name: str, numbers: dict[str, float], steps: int) -> float:
    run = sizes_of(model, tuple(base.items()), tuple(place.items()))
    loss: float = run(Job.of(name, place, numbers, steps, 0)).loss
    return loss


def numbers_of(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Hyperparameters of the recipe beside a file, the rate left out, and its constants; none where there is none."""
    path = name.replace("target.json", "recipe.json")
    if path == name or not (DATA / path).exists():
        return {}, {}
    recipe = read(path)
    own = {f"{module}.{kind}": x for module, kinds in recipe["constants"].items() for kind, x in kinds.items()}
    return {key: x for key, x in recipe["base"]["hyperparameters"].items() if key in ("weight_decay", "eps")}, own


def curves(document: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Parametrization, best rate, loss of the first seed there; of a sweep at the largest size."""
    if "runs" in document:
        for which in dict.fromkeys(run["parametrization"] for run in document["runs"]):
            own = [run for run in document["runs"] if run["parametrization"] == which]
            best = min(own, key=lambda run: run["loss"])
            yield which, best["lr"], best["losses"][0]
        return
    for name, curve in document["sizes"][-1].items():
        if name != "scales" and curve is not None:
            first = curve["losses"][0]
            means = [sum(column) / len(column) if None not in column else math.inf for column in zip(*curve["losses"])]
            at = means.index(min(means))
            yield name, curve["rates"][at], first[at]


def ends_of(document: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    if "runs" in document:
        return document["base"], document["target"]
    return document["sizes"][0]["scales"], document["sizes"][-1]["scales"]


def test_there_are_figures():
    assert len(SWEEPS) >= 6 and len(TARGETS) >= 2


@pytest.mark.parametrize("name", [*SWEEPS, *TARGETS])
def test_runs_come_out_the_same(name):
    document, (hyper, constants) = read(name), numbers_of(name)
    model, ends, found = name.partition("/")[0], ends_of(document), {}
    for which, rate, loss in curves(document):
        numbers = {"lr": rate, **hyper, **({} if which in (STANDARD, DERIVED) else constants)}
        found[which] = again(model, *ends, which, numbers, document["steps"]), loss
    assert found and all(abs(here - there) < SAME for here, there in found.values()), found
