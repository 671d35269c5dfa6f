"""One training run: a model at one place, its multipliers, the hyperparameters of the base, a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional, Union

import torch

from tpcalc.algebra.scales import Place, Point
from tpcalc.check.optimizers import Groups, Make, built
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import LiveRecipe, Recipe, UpdateLaw, recipe
from tpcalc.scaling.runtime import Multipliers
from tpcalc.trace.target import call_factory, load_target, name_of
from tpcalc.transfer.training import Context, Outcome, Train, check_train, default_train, outcome
from tpcalc.verify.built import optimizers_in

__all__ = ["Base", "Together", "Trainer", "trainer"]


@dataclass(frozen=True)
class Base:
    """Hyperparameters as at the base: what multipliers multiply."""

    lr: float
    weight_decay: float = 0.0
    eps: float = 1e-8

    def check(self) -> None:
        """Raise TpcalcError where one of them is no hyperparameter."""
        for name, value in vars(self).items():
            if not (math.isfinite(value) and (value > 0 or (value == 0 and name != "lr"))):
                least = "more than 0" if name == "lr" else "0 or more"
                raise TpcalcError(f"{name} {value:g} is no hyperparameter; give a finite number, {least}")


class Together(torch.optim.Optimizer):
    """Several optimizers as one: their groups in one list, for schedules, and a step of each."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]  # the very same ones

    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            raise TpcalcError("several optimizers (muon+adamw) take no closure; compute the gradients before step()")
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


#: The groups of each update law, and the model -> what trains them.
Makes = Callable[[Mapping[str, Groups], torch.nn.Module], Sequence[torch.optim.Optimizer]]


@dataclass(frozen=True)
class Trainer:
    """What all runs share."""

    factory: Callable[..., Any]
    how: Recipe
    train: Train
    make: Makes
    device: str = "cpu"

    def run(self, place: Place, multipliers: Multipliers, base: Base, seed: int, steps: int) -> Outcome:
        """Train the model at ``place`` from ``seed``; the state of torch's random numbers is as it was after.

        Raises TpcalcError where the factory or the loop fails, other than by a loss that is not finite.
        """
        cuda = [torch.cuda.current_device()] if self.device.startswith("cuda") else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            model, inputs = call_factory(self.factory, place)
            multipliers.init_(model)
            multipliers.forward_(model)
            model.to(self.device)
            optimizer = self.optimizer(model, multipliers, base)
            scales = place.by_name if isinstance(place, Point) else {"width": place}
            return outcome(self.train, model, optimizer, Context(scales, steps, seed, inputs, multipliers, self.device))

    def optimizer(self, model: torch.nn.Module, multipliers: Multipliers, base: Base) -> torch.optim.Optimizer:
        """That of the parameters of ``model``, with their own learning rates, decays and epsilons."""
        laws = sorted(
            {weight.optimizer for _, parameter, weight in multipliers.match(model) if parameter.requires_grad}
        )
        groups = {
            law: multipliers.param_groups(model, base.lr, base.weight_decay, base.eps, optimizer=law) for law in laws
        }
        if not any(groups.values()):
            raise TpcalcError("the model has no parameters to train")
        parts = self.make(groups, model)
        return parts[0] if len(parts) == 1 else Together(parts)


def trainer(
    factory: Callable[..., Any],
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    train: Optional[Train] = None,
    device: str = "cpu",
) -> Trainer:
    """``optimizer``: one of :func:`tpcalc.derive`, or what makes one from param groups; ``train``: by default
    :func:`~tpcalc.transfer.training.default_train`.

    Raises TpcalcError where either can't be used.
    """
    how = recipe(optimizer)
    loop = train or default_train
    check_train(loop)
    if isinstance(how, LiveRecipe):
        given: Any = load_target(optimizer) if isinstance(optimizer, str) else optimizer
        return Trainer(factory, how, loop, _live(given), device)
    makers = {law.name: built(law.name).make for law in how.laws}  # before anything slow
    return Trainer(factory, how, loop, partial(_named, makers), device)


def _named(
    makers: Mapping[str, Make], groups: Mapping[str, Groups], model: torch.nn.Module
) -> Sequence[torch.optim.Optimizer]:
    return [makers[law](own, model) for law, own in groups.items() if own]


def _live(make: Callable[..., Any]) -> Makes:
    """What the user's own function makes of all groups together; their lr, weight_decay and eps go before its own."""

    def makes(groups: Mapping[str, Groups], model: torch.nn.Module) -> Sequence[torch.optim.Optimizer]:
        try:
            made = optimizers_in(make([group for own in groups.values() for group in own]))
        except Exception as error:
            raise TpcalcError(
                f"{name_of(make)}(groups) raised {type(error).__name__}: {str(error)[:200]}; it is given param groups "
                f"with lr, weight_decay and eps, and returns an optimizer"
            ) from error
        return made

    return makes
