"""What the live objects of a setup say: which optimizer trains each parameter, with which numbers.

Parameters are told by identity, so nothing depends on how the groups were made (by hand, by ``mup``, by a trainer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Optional

import torch

from tpcalc.errors import SetupError
from tpcalc.probe import Kind, Subject
from tpcalc.verify.built import Built, number, unwrapped
from tpcalc.verify.optimizers import Trained, trained_by
from tpcalc.verify.schedules import Course, Scheduler


@dataclass(frozen=True)
class Settings:
    """How one parameter is trained at one width.  ``group`` holds what else its group says (``adjust_lr_fn``);
    ``line``: of the code that made the optimizer.
    """

    optimizer: str
    subject: Subject
    group: Mapping[str, Any]
    lr: float
    weight_decay: float
    eps: Optional[float]
    place: str
    line: str = ""

    @property
    def apart(self) -> bool:
        """Whether groups of its optimizer have rates of their own; one of 0 trains nothing."""
        groups = (group for group in self.subject.optimizer.param_groups if group["params"] and group["lr"])
        return len({number(group["lr"], "the learning rate") for group in groups}) > 1

    def trained(self, kind: Kind) -> Trained:
        """Its law, as its steps show it on weights of this kind."""
        return trained_by(self.subject, self.group, kind, self.weight_decay != 0)

    def epsilon(self, trained: Trained) -> Optional[float]:
        """The one that its steps go by, else the one that its name says."""
        if trained.law.eps is None:
            return None
        if trained.seen is None:
            return self.eps
        key = trained.seen.eps_key
        return None if key is None else number(self.group[key], f"the epsilon of {self.place}")


@dataclass(frozen=True)
class Live:
    """All parameters of one model: name (every tied one) -> Settings.

    ``empty``: groups that hold no parameter, as (place, lr).
    ``twice``: parameters held by two optimizers (the last is read).  ``strangers``: number of tensors in the
    optimizer that are no parameters of the model.  ``courses``: name -> its learning rate along the schedule;
    ``schedulers``: those that make it.
    """

    settings: dict[str, Settings]
    empty: tuple[tuple[str, float], ...] = ()
    strangers: int = 0
    twice: tuple[str, ...] = ()
    courses: Mapping[str, Course] = field(default_factory=dict)
    schedulers: tuple[Scheduler, ...] = ()


#: Where transformers' Adafactor chooses the rate itself, it is at most this, at every width.
RELATIVE_STEP = 1e-2


def _settings(subject: Subject, lr: float, label: str, place: str, line: str) -> Settings:
    """What a group says of one parameter; Moonlight's Muon says in its state which ones it trains as AdamW."""
    group = subject.group
    told = {key: value for key, value in group.items() if key != "params"}
    if "use_muon" in subject.said:
        told["use_muon"] = bool(subject.said["use_muon"])
    decay = group.get("weight_decay", group.get("wd"))
    eps = group.get("eps", None if told.get("use_muon") else group.get("adamw_eps"))
    read_eps = number(eps, f"the epsilon of {place}") if isinstance(eps, (int, float, torch.Tensor)) else None
    return Settings(
        label, subject, told, lr, number(decay or 0.0, f"the weight decay of {place}"), read_eps, place, line
    )


def read(
    built: Built,
    courses: Mapping[int, Course] = MappingProxyType({}),
    schedulers: tuple[Scheduler, ...] = (),
    line: Callable[[Any], str] = lambda optimizer: "",
) -> Live:
    """The settings of every parameter that an optimizer holds; ``courses``: its id -> its rate along the schedule;
    ``line``: where an optimizer was made.

    Raises SetupError for an optimizer of unknown class, or where its tensors are not the model's.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in built.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    settings: dict[str, Settings] = {}
    empty: list[tuple[str, float]] = []
    twice: list[str] = []
    strangers = 0
    for optimizer in unwrapped(built.optimizers):
        label = type(optimizer).__name__
        for index, group in enumerate(optimizer.param_groups):
            named = f" ({group['name']!r})" if isinstance(group.get("name"), str) else ""
            place = f"group {index} of {label}{named}"
            if "lr" not in group:
                raise SetupError(
                    f"{place} has no 'lr', so the learning rate of its weights can't be read; let the optimizer "
                    f"keep it there (defaults of {{'lr': ...}}), where schedulers look for it too"
                )
            rate = RELATIVE_STEP if group["lr"] is None and group.get("relative_step") else group["lr"]
            lr = number(rate, f"the learning rate of {place}")
            if not 0 <= lr < math.inf:
                raise SetupError(f"the learning rate of {place} is {lr:g}; give it a number that is 0 or more")
            if not group["params"]:
                empty.append((place, lr))
            for parameter in group["params"]:
                strangers += id(parameter) not in names
                own = _settings(Subject(optimizer, index, parameter), lr, label, place, line(optimizer))
                for name in names.get(id(parameter), ()):
                    if name in settings:
                        twice.append(name)
                    settings[name] = own
    if strangers and not settings:
        raise SetupError(
            f"the {strangers} tensors in the optimizer are no parameters of the model; make the optimizer after the "
            f"model has been moved, wrapped or tied"
        )
    followed = {name: courses[key] for key, own in names.items() if key in courses for name in own}
    return Live(settings, tuple(empty), strangers, tuple(twice), followed, schedulers)


__all__ = ["Live", "Settings", "read"]
