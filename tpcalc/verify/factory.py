"""Update laws of what a function makes: an optimizer, or several, of a list of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tpcalc.algebra.order import Order
from tpcalc.errors import DeriveError, SetupError
from tpcalc.optimizers import ADAMW, LiveRecipe, UpdateLaw
from tpcalc.probe import Kind, Subject
from tpcalc.trace.record import without_dynamo
from tpcalc.trace.target import load_target, name_of
from tpcalc.verify.built import optimizers_in
from tpcalc.verify.optimizers import trained_by

#: Beside the weight that is asked for: one parameter of each sort, so that no optimizer is left without any.
BESIDE = ((16, 16), (16,))


def of_factory(make: Callable[..., Any]) -> LiveRecipe:
    """The recipe of ``make(parameters)``, which returns an optimizer or a list of them.

    Each kind of weight is asked for by itself.  Its law raises DeriveError where ``make`` fails, leaves the weight
    out, or trains it by what can't be probed and has no name.
    """
    name = name_of(make)

    def law_of(growths: tuple[Order, ...], lengths: tuple[int, ...]) -> UpdateLaw:
        weight, *beside = (torch.nn.Parameter(torch.zeros(shape)) for shape in (lengths, *BESIDE))
        try:
            with without_dynamo():
                made = optimizers_in(make([weight, *beside]))
        except Exception as error:
            raise DeriveError(
                f"{name}(parameters) raised {type(error).__name__}: {error}; it is given a list of parameters and "
                f"returns an optimizer, or a list of them"
            ) from error
        if not made:
            raise DeriveError(f"{name}(parameters) returned no optimizer; let it return one, or a list of them")
        for optimizer in made:
            for index, group in enumerate(optimizer.param_groups):
                if any(parameter is weight for parameter in group["params"]):
                    return _law(Subject(optimizer, index, weight), Kind(growths, lengths))
        raise DeriveError(f"no optimizer that {name} makes holds a weight of shape {list(lengths)}; give it one")

    return LiveRecipe(ADAMW, made_by=re.sub(r"\W", "", name), law_of=law_of)


def of_target(target: str) -> LiveRecipe:
    """The recipe of ``file.py:function`` or ``package.module:function``; raises TargetError where there is none."""
    return of_factory(load_target(target))


def _law(subject: Subject, kind: Kind) -> UpdateLaw:
    try:
        trained = trained_by(subject, subject.group, kind, True, all_decay=True)
    except SetupError as error:
        raise DeriveError(str(error)) from None
    told = [note.format(shapes=trained.shape) for note in trained.notes]
    return replace(trained.law, note="; ".join(filter(None, (trained.law.note, *told))))


__all__ = ["of_factory", "of_target"]
