"""Multipliers on an optimizer that somebody else has made: its groups are split, and held to their ratios.

A trainer knows best how it makes its optimizer: which class, which parameters decay, which learning rate a layer has.
So all of that is left to it; each group is then split by the multipliers of its parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tpcalc.optimizers import LAWS, UpdateLaw, update_law
from tpcalc.scaling.runtime import Multipliers, RatioWarning
from tpcalc.scaling.schedules import ratios_kept
from tpcalc.scaling.weight import Weight
from tpcalc.verify.optimizers import law_of

__all__ = ["hold_ratios", "scale_optimizer_"]

MARK = "lr_multiplier"
#: Laws that differ in how weight decay enters alone: without any they are one.
TWINS = ({"adam", "adamw"}, {"nadam", "nadamw"}, {"radam", "radamw"})


def scale_optimizer_(optimizer: Optimizer, scaling: Multipliers, model: nn.Module) -> None:
    """Split the groups of a fresh ``optimizer`` over parameters of ``model``, in place, by the multipliers of these.

    Learning rate, weight decay and epsilon of each group are taken as tuned at the base.  One whose groups have their
    multipliers already is left as it is.  From here on it loads no state that was saved under other multipliers.

    Raises ``scaling.error`` where the optimizer has taken steps, is of another law than the multipliers, holds tensors
    that are no parameters of the model, or was given to a scheduler.
    """
    if not isinstance(optimizer, Optimizer):
        raise scaling.error(f"{_class(optimizer)} is no torch.optim.Optimizer, whose groups could be given multipliers")
    known = {id(parameter): (name, weight) for name, parameter, weight in scaling.match(model)}
    groups = optimizer.param_groups
    strangers = sum(id(parameter) not in known for group in groups for parameter in group["params"])
    if strangers:
        raise scaling.error(
            f"{strangers} tensors of {_class(optimizer)} are no parameters of the model that the multipliers are for; "
            f"make the optimizer from that model, after it has been moved and before it is sharded"
        )
    laws = {weight.optimizer for group in groups for p in group["params"] for weight in [known[id(p)][1]]}
    for law in sorted(laws):
        _check_law(optimizer, law, scaling)
    if any(MARK in group for group in groups):
        _check_scaled(optimizer, scaling, known)
    else:
        _check_fresh(optimizer, scaling)
        split = [part for group in groups for part in _split(group, known, optimizer, scaling)]
        groups[:] = split
    if not getattr(optimizer, "_holds_multipliers", False):
        optimizer.register_load_state_dict_pre_hook(_loader(scaling))
        optimizer._holds_multipliers = True  # type: ignore[attr-defined]


def hold_ratios(optimizer: Any, scheduler: Any, scaling: Multipliers) -> None:
    """Raise ``scaling.error``, with the remedy, where a scheduler moves the groups to one rate: an absolute floor, a
    peak or a start given as a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RatioWarning)
        try:
            ratios_kept(optimizer, getattr(scheduler, "scheduler", scheduler))
        except RatioWarning as warning:
            raise scaling.error(str(warning)) from None


def _split(
    group: Mapping[str, Any], known: Mapping[int, tuple[str, Weight]], optimizer: Optimizer, scaling: Multipliers
) -> list[dict[str, Any]]:
    """The groups of a group, in the order in which their first parameters stand there."""
    found: dict[Any, dict[str, Any]] = {}
    decay = group.get("weight_decay", 0.0)
    for parameter in group["params"]:
        name, weight = known[id(parameter)]
        beside = scaling.beside(weight)
        eps = None if weight.eps is None else weight.eps * beside.eps
        if eps is not None and not isinstance(group.get("eps"), (int, float)):
            if eps != 1.0:
                raise scaling.error(
                    f"the epsilon of {name} needs the multiplier {eps:.3g}, and {_class(optimizer)} has eps = "
                    f"{group.get('eps')!r} in its group; use an optimizer with one number for it"
                )
            eps = None
        key = (weight.lr, weight.weight_decay if decay else 0.0, eps)
        if key not in found:
            rate = weight.lr * beside.lr
            part = {**beside.options(dict(group), scaling.error), "params": [], "lr": group["lr"] * rate, MARK: rate}
            if "weight_decay" in group:
                part["weight_decay"] = decay * (key[1] * beside.weight_decay)
            if eps is not None:
                part["eps"] = group["eps"] * eps
            found[key] = part
        found[key]["params"].append(parameter)
    return list(found.values())


def _check_fresh(optimizer: Optimizer, scaling: Multipliers) -> None:
    if optimizer.state:
        raise scaling.error(
            f"{_class(optimizer)} has taken steps without multipliers; start from a fresh one, or train on without them"
        )
    if any("initial_lr" in group for group in optimizer.param_groups):
        raise scaling.error(
            f"a scheduler was made for {_class(optimizer)} before its groups had their multipliers, and would undo "
            f"them; make the optimizer with scaling.param_groups(model, lr=...), and the scheduler after that"
        )


def _check_scaled(optimizer: Optimizer, scaling: Multipliers, known: Mapping[int, tuple[str, Weight]]) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name, weight = known[id(parameter)]
            rate = weight.lr * scaling.beside(weight).lr
            if group.get(MARK) != rate:
                raise scaling.error(
                    f"{name} has the lr_multiplier {group.get(MARK)} in a group of {_class(optimizer)}, and "
                    f"{rate} in these multipliers; make all groups with param_groups of these"
                )


def _check_law(optimizer: Optimizer, wanted: str, scaling: Multipliers) -> None:
    """Multipliers are those of one update law: refuse another."""
    law = law_of(optimizer)
    for group in optimizer.param_groups:
        made = law if isinstance(law, UpdateLaw) else update_law(law) if isinstance(law, str) else law(group, ())
        decays = bool(group.get("weight_decay"))
        if wanted in LAWS and not (made.name == wanted or not decays and {made.name, wanted} in TWINS):
            raise scaling.error(
                f"the multipliers are for {wanted}, and {_class(optimizer)} follows the law of {made.name}; make them "
                f"with --optimizer {made.name} (optimizer={made.name!r}), or train with {wanted}"
            )


def _loader(scaling: Multipliers) -> Any:
    def check(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Groups take all they say from the state that is loaded: it must say the same of multipliers."""
        here = [group.get(MARK) for group in optimizer.param_groups]
        saved = [group.get(MARK) for group in state["param_groups"]]
        if len(here) == len(saved) and here != saved:
            raise scaling.error(
                f"the checkpoint's optimizer has the multipliers {_listed(saved)}, and this run has {_listed(here)}; "
                f"resume with the multipliers that it was saved with"
            )

    return check


def _listed(multipliers: list[Any]) -> str:
    return ", ".join("none" if m is None else f"{m:.4g}" for m in multipliers)


def _class(optimizer: Any) -> str:
    return type(optimizer).__name__
