"""``recipe.json``: hyperparameters tuned at a small size, what they become at a large one, and how they were found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BeforeValidator, Field

from tpcalc.document.assumed import MayAssume
from tpcalc.document.model import Count, Row, Several
from tpcalc.document.reading import parsed, validated
from tpcalc.document.transfer import CostRow, Measured, measured
from tpcalc.errors import TpcalcError

SCHEMA = "tpcalc.recipe/1"
_AGAIN = "write it again with tpcalc tune"

Positive = Annotated[float, Field(gt=0)]
Finite = Annotated[float, BeforeValidator(measured)]
NotNegative = Annotated[float, Field(ge=0)]
#: What a module has a constant of.
Kind = Literal["lr", "init", "weight_decay"]
#: The values of scales, by name.
Scales = Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)]


class HyperparametersRow(Row):
    """plain ones, of all parameters alike"""

    lr: Positive
    weight_decay: NotNegative
    eps: NotNegative
    """felt where the optimizer has one"""


class BaseRow(Row):
    """where they were tuned"""

    scales: Scales
    hyperparameters: HyperparametersRow


class TargetRow(Row):
    """what they are for"""

    scales: Scales
    steps: Count


class MultipliersRow(Row):
    """from the base to the target, constants included and what is assumed left out; more of them in multipliers.json"""

    init: Positive
    """on the parameter as the code initialises it; blocks of a packed one have their own in multipliers.json"""
    lr: Positive
    weight_decay: Positive
    eps: Optional[Positive]
    """null where the optimizer has none"""


class WeightRow(Row):
    """one parameter at the target"""

    name: str
    """fully-qualified; a tied one stands under each of its names"""
    optimizer: str
    """the update law that trains it"""
    multipliers: MultipliersRow
    init_std: NotNegative
    """0 of a constant"""
    init_mean: float
    lr: Positive
    weight_decay: NotNegative
    eps: Optional[NotNegative]


class TrialRow(Row):
    """one run"""

    numbers: dict[str, float]
    """by name, as in the space"""
    steps: Count
    loss: Measured
    """null where it diverged"""


class SearchRow(Row):
    """how they were found"""

    space: dict[str, Annotated[list[float], Field(strict=False, min_length=2, max_length=2)]]
    """ends between which each number was searched; equal ones: it was kept"""
    sampler: str
    seed: int
    trials: list[TrialRow]
    """in the order of the plan"""


class LossRow(Row):
    """at the base"""

    before: Measured
    """the least of the model as it is, in short runs; null where all of these diverged"""
    after: Finite
    """the least of all short runs"""
    chosen: Finite
    """of the run whose numbers were taken"""


class RecipeDocument(MayAssume):
    """Written by `tpcalc tune`, and printed by `tpcalc tune --format json`. Losses have six digits."""

    version: Literal["tpcalc.recipe/1"] = Field(alias="schema")
    name: str
    optimizer: str
    base: BaseRow
    target: TargetRow
    constants: dict[str, dict[Kind, Positive]]
    """of modules, or of parameters by a pattern of their names; the same at every size"""
    weights: list[WeightRow]
    cost: CostRow
    search: SearchRow
    loss: LossRow
    notes: Several[str]


def recipe_json(tuned: Any) -> dict[str, Any]:
    """The document of a :class:`tpcalc.tune.result.Tuned`."""
    base, target = tuned.ends
    search, done = tuned.search, tuned.done
    return RecipeDocument.of(
        tuned,
        schema=SCHEMA,
        base={"scales": dict(base), "hyperparameters": vars(tuned.base)},
        target={"scales": dict(target), "steps": tuned.cost.steps},
        constants=tuned.constants,
        weights=list(_weights(tuned)),
        cost=CostRow.of(tuned.cost, share=tuned.cost.share),
        search={
            "space": search.space.ranges,
            "sampler": search.sampler,
            "seed": search.seed,
            "trials": [
                {"numbers": dict(job.numbers), "steps": job.steps, "loss": done[job].loss} for job in tuned.jobs
            ],
        },
        loss={"before": tuned.before, "after": tuned.after, "chosen": tuned.loss},
        assumed=tuned.scaling.assumed,
    ).data()


def _weights(tuned: Any) -> Iterator[dict[str, Any]]:
    base, laws = tuned.base, (tuned.scaling.assumed or {}).get("laws", {})
    for entry in tuned.scaling.document["weights"]:
        numbers = entry["multipliers"]
        beside = {key: own["factor"] for key, own in laws.get(entry["optimizer"], {}).items() if own is not None}
        yield {
            "name": entry["name"],
            "optimizer": entry["optimizer"],
            "multipliers": {kind: numbers[kind] for kind in ("init", "lr", "weight_decay", "eps")},
            "init_std": entry["init_std"]["target"],
            "init_mean": entry["init_mean"]["target"],
            "lr": base.lr * numbers["lr"] * beside.get("lr", 1.0),
            "weight_decay": base.weight_decay * numbers["weight_decay"] * beside.get("weight_decay", 1.0),
            "eps": None if numbers["eps"] is None else base.eps * numbers["eps"] * beside.get("eps", 1.0),
        }


def read(path: Union[str, Path]) -> RecipeDocument:
    """The document in a file.  Raises TpcalcError, in one sentence, where it is missing, corrupt or not ours."""
    found = parsed(path, _AGAIN)
    version = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(version, str) or not version.startswith("tpcalc.recipe/"):
        raise TpcalcError(f"{path} is not a recipe of tpcalc; write one with tpcalc tune")
    if version != SCHEMA:
        raise TpcalcError(f"{path} has version {version}, this tpcalc reads {SCHEMA}; upgrade tpcalc or tune again")
    return validated(RecipeDocument, found, path, version, _AGAIN)
