"""A model as its code makes it at one place: names, shapes, ties and init laws; nothing is drawn and nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tpcalc.algebra.scales import Place
from tpcalc.program.ir import InitLaw
from tpcalc.trace.init import InitRecorder
from tpcalc.trace.record import build
from tpcalc.trace.target import call_factory

__all__ = ["Built"]


@dataclass(frozen=True)
class Built:
    """The parameters of ``factory`` at ``place`` under all their names, in the order of the model."""

    place: Place
    parameters: dict[str, torch.Tensor]
    recorder: InitRecorder
    model: torch.nn.Module

    @staticmethod
    def at(factory: Callable[..., Any], place: Place) -> Built:
        """Builds it on phantom tensors, at any size.  Raises TargetError where the factory does."""
        recorder = InitRecorder()
        model, _ = build(partial(call_factory, factory, place), recorder)
        return Built(place, dict(model.named_parameters(remove_duplicate=False)), recorder, model)

    @property
    def tied(self) -> dict[str, tuple[str, ...]]:
        """First name of each parameter -> all its names."""
        by_id: dict[int, list[str]] = {}
        for name, parameter in self.parameters.items():
            by_id.setdefault(id(parameter), []).append(name)
        return {names[0]: tuple(names) for names in by_id.values()}

    def kinds(self) -> dict[str, Any]:
        """Path of each module -> its class, and the truths, words and numbers that it holds."""
        return {
            name: (type(module), {key: x for key, x in vars(module).items() if isinstance(x, (bool, str, int, float))})
            for name, module in self.model.named_modules(remove_duplicate=False)
        }

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.parameters[name].shape)

    def law(self, name: str) -> InitLaw:
        return self.recorder.law_of(self.parameters[name])

    def law_of_block(self, name: str, dim: int, start: int, length: int) -> InitLaw:
        return self.recorder.law_of_block(self.parameters[name], dim, start, length)
