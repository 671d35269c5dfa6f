"""One training run: a model at one place, its multipliers, the hyperparameters of the base, a seed."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import torch
import torch.utils._device

from tpcalc.algebra.scales import Place, scales_of
from tpcalc.check.optimizers import Groups, Make, built
from tpcalc.errors import TpcalcError, first_line
from tpcalc.optimizers import LiveRecipe, Recipe, UpdateLaw, recipe
from tpcalc.scaling.runtime import Multipliers, RatioWarning
from tpcalc.trace.quoted import error_text
from tpcalc.trace.record import seeded
from tpcalc.trace.target import call_factory, described, load_target, name_of
from tpcalc.transfer.training import Context, Outcome, Train, check_train, default_train, outcome
from tpcalc.verify.built import optimizers_in

__all__ = ["Base", "Together", "Trainer", "share_processors", "trainer"]


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


def share_processors(processes: int) -> int:
    """Have this process take its part of those that torch uses, and give how many that are."""
    threads = max(1, torch.get_num_threads() // processes)
    torch.set_num_threads(threads)
    return threads


class Together(torch.optim.Optimizer):
    """Several optimizers as one: their groups in one list, for schedules, their states, and a step of each."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._join()

    def _join(self) -> None:
        """Hold the very same groups as the parts do, which are new ones after a load."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Any:
        return {parameter: own for part in self.parts for parameter, own in part.state.items()}

    @state.setter
    def state(self, _: Any) -> None:
        """torch begins with none; the parts have theirs."""

    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            raise TpcalcError("several optimizers (muon+adamw) take no closure; compute the gradients before step()")
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._join()


#: The groups of each update law, and the model -> what trains them.
Makes = Callable[[Mapping[str, Groups], torch.nn.Module], Sequence[torch.optim.Optimizer]]


@dataclass(frozen=True)
class Trainer:
    """What all runs share.  ``own``: the user's function that makes the optimizer, where there is one."""

    factory: Callable[..., Any]
    how: Recipe
    train: Train
    make: Makes
    device: str = "cpu"
    own: Optional[Callable[..., Any]] = None

    @property
    def asked(self) -> dict[str, Any]:
        """What runs are of, so that those of something else are not taken for them; ``code``: of their files."""
        return {
            "target": described(self.factory),
            "train": name_of(self.train),
            "code": _digest(self.factory, self.train, *([self.own] if self.own else [])),
            "optimizer": self.how.name,
            "device": self.device,
        }

    def run(self, place: Place, multipliers: Multipliers, base: Base, seed: int, steps: int) -> Outcome:
        """Train the model at ``place`` from ``seed``; the state of random numbers (of torch, numpy and random), the
        directory, and torch's gradients, default dtype and device are as they were after.

        Raises TpcalcError where the factory or the loop fails, other than by a loss that is not finite.
        """
        with _seeded(seed, self.device):
            model, inputs = call_factory(self.factory, place)
            multipliers.init_(model)
            multipliers.forward_(model)
            model.to(self.device)
            optimizer = self.optimizer(model, multipliers, base)
            context = Context(scales_of(place), steps, seed, inputs, multipliers, self.device)
            found = outcome(self.train, model, optimizer, context)
            self._check_ratios(multipliers, optimizer)
            return found

    def _check_ratios(self, multipliers: Multipliers, optimizer: torch.optim.Optimizer) -> None:
        """Raise TpcalcError where the loop gave every group the same rate, which erases the multipliers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RatioWarning)
            kept = multipliers.check_(optimizer)
        if not kept and len({float(group["lr"]) for group in optimizer.param_groups}) == 1:
            raise TpcalcError(
                f"{name_of(self.train)} sets one learning rate for all groups of the optimizer, which erases their "
                f"multipliers; multiply the rates of the groups (LambdaLR), or call context.multipliers.set_lr"
            )

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


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from ``seed``, by whatever a factory or a loop may draw, and give back the states after; also what else one
    run could leave to the next: the directory, and whether and where torch makes tensors with gradients."""
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    directory, place = os.getcwd(), torch.utils._device.CURRENT_DEVICE  # none by default: any makes torch slower
    with seeded(seed), torch.random.fork_rng(devices=cuda), torch.set_grad_enabled(torch.is_grad_enabled()):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            os.chdir(directory)
            if torch.utils._device.CURRENT_DEVICE != place:
                torch.set_default_device(place)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        why = first_line(error, 100)
        raise TpcalcError(f"device {device!r} can't be used ({why}); give one that torch has here, as cpu") from None


def _digest(*functions: Callable[..., Any]) -> str:
    """Of the files in which they are written; a function that is in none has a part of none in it."""
    found = hashlib.sha256()
    for function in functions:
        try:
            file = inspect.getsourcefile(inspect.unwrap(getattr(function, "func", function)))
            found.update(Path(file).read_bytes() if file else b"")
        except (OSError, TypeError):
            continue
    return found.hexdigest()[:16]


def trainer(
    factory: Callable[..., Any],
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    train: Optional[Train] = None,
    device: str = "cpu",
) -> Trainer:
    """``optimizer``: one of :func:`tpcalc.derive`, or what makes one from param groups; ``train``: by default
    :func:`~tpcalc.transfer.training.default_train`.

    Raises TpcalcError where one of them can't be used, or the device is not there.
    """
    _check_device(device)
    how = recipe(optimizer)
    loop = train or default_train
    check_train(loop)
    if isinstance(how, LiveRecipe):
        given: Any = load_target(optimizer) if isinstance(optimizer, str) else optimizer
        return Trainer(factory, how, loop, _live(given), device, given)
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
                f"{name_of(make)}(groups) raised {error_text(error)}; it is given param groups with lr, weight_decay "
                f"and eps, and returns an optimizer"
            ) from error
        if not made:
            raise TpcalcError(f"{name_of(make)}(groups) returned no optimizer; let it return one, or a list of them")
        return made

    return makes
