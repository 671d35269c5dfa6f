"""Multipliers on an optimizer that somebody else has made: its groups are split, and held to their ratios.

A trainer knows best how it makes its optimizer: which class, which parameters decay, which learning rate a layer has.
So all of that is left to it; each group is then split by the multipliers of its parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tpcalc.optimizers import LAWS, UpdateLaw, update_law
from tpcalc.probe import number
from tpcalc.scaling.runtime import Multipliers, RatioWarning
from tpcalc.scaling.schedules import ratios_kept
from tpcalc.scaling.weight import Weight
from tpcalc.verify.optimizers import law_of

__all__ = ["has_multipliers", "hold_ratios", "scale_optimizer_"]

#: What a group says of itself, in checkpoints too: its multiplier, and the rate that it had without.
MARK, AT_BASE = "lr_multiplier", "lr_at_base"
#: Laws that differ in how weight decay enters alone: without any they are one.
TWINS = ({"adam", "adamw"}, {"nadam", "nadamw"}, {"radam", "radamw"})


def scale_optimizer_(optimizer: Optimizer, scaling: Multipliers, model: nn.Module) -> None:
    """Split the groups of a fresh ``optimizer`` over parameters of ``model``, in place, by the multipliers of these.

    Learning rate, weight decay and epsilon of each group are taken as tuned at the base.  Groups that have their
    multipliers already are left as they are, and those that were added since are split.  From here on the optimizer
    loads no state that was saved under other multipliers, takes no step with a group that has none, and warns at the
    first step with learning rates that have lost their ratios.

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
    ours = has_multipliers(optimizer)
    fresh = [group for group in groups if MARK not in group]
    if ours or not fresh:
        _check_scaled([group for group in groups if MARK in group], optimizer, scaling, known)
    elif len(fresh) < len(groups):
        _check_scaled(groups, optimizer, scaling, known)
    if fresh:
        _check_fresh(fresh, optimizer, scaling)
        groups[:] = [
            part
            for group in groups
            for part in ([group] if MARK in group else _split(group, known, optimizer, scaling))
        ]
    if not ours:
        optimizer.register_load_state_dict_pre_hook(_loader(scaling))
        optimizer.register_step_pre_hook(_watcher(optimizer, scaling))
        optimizer._holds_multipliers = True  # type: ignore[attr-defined]


def has_multipliers(optimizer: Any) -> bool:
    """Whether :func:`scale_optimizer_` has been here."""
    return getattr(optimizer, "_holds_multipliers", False)


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
            own = number(group["lr"])
            if own is not None:
                part[AT_BASE] = own
            if "weight_decay" in group:
                part["weight_decay"] = decay * (key[1] * beside.weight_decay)
            if eps is not None:
                part["eps"] = group["eps"] * eps
            found[key] = part
        found[key]["params"].append(parameter)
    return list(found.values())


def _check_fresh(groups: Sequence[Mapping[str, Any]], optimizer: Optimizer, scaling: Multipliers) -> None:
    if any(_stepped(optimizer.state[p]) for group in groups for p in group["params"] if p in optimizer.state):
        raise scaling.error(
            f"{_class(optimizer)} has taken steps without multipliers; start from a fresh one, or train on without them"
        )
    if any("initial_lr" in group for group in groups):
        raise scaling.error(
            f"a scheduler was made for {_class(optimizer)} before its groups had their multipliers, and would undo "
            f"them; make the optimizer with scaling.param_groups(model, lr=...), and the scheduler after that"
        )


def _stepped(state: Any) -> bool:
    """Whether a parameter has taken steps: Adagrad makes its state, with a count of 0, before any."""
    count = number(state["step"]) if isinstance(state, Mapping) and "step" in state else None
    return bool(state) and count != 0


def _check_scaled(
    groups: Sequence[Mapping[str, Any]],
    optimizer: Optimizer,
    scaling: Multipliers,
    known: Mapping[int, tuple[str, Weight]],
) -> None:
    for group in groups:
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
        if here != saved:
            raise scaling.error(
                f"the checkpoint's optimizer has the multipliers {_listed(saved)}, and this run has {_listed(here)}; "
                f"resume with the multipliers that it was saved with"
            )

    return check


def _watcher(optimizer: Optimizer, scaling: Multipliers) -> Any:
    """Looks at the groups before each step: whoever changes them (a callback, a schedule of a trainer's own, a rate
    finder) does so behind our back, and clipping is not always on."""
    kept, all_groups = [True], [optimizer.param_groups]

    def watch(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if len(optimizer.param_groups) >= len(all_groups[0]):  # ZeRO steps with one at a time
            all_groups[0] = optimizer.param_groups
        added = [parameter for group in optimizer.param_groups if MARK not in group for parameter in group["params"]]
        if added:
            raise scaling.error(
                f"{_class(optimizer)} was given {len(added)} more tensors after its groups had their multipliers, and "
                f"these have none; give it all when it is made (one that is frozen takes no step), or call "
                f"tpcalc.integrations.groups.scale_optimizer_(optimizer, scaling, model) once they are added"
            )
        if kept[0]:  # said once
            kept[0] = scaling.check_(SimpleNamespace(param_groups=all_groups[0]))

    return watch


def _listed(multipliers: list[Any]) -> str:
    return ", ".join("none" if m is None else f"{m:.4g}" for m in multipliers)


def _class(optimizer: Any) -> str:
    return type(optimizer).__name__
