"""The optimizers that a check can train with: torch's own, and for laws that torch lacks small ones of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch

from tpcalc.errors import TpcalcError

Groups = Sequence[Mapping[str, Any]]
#: Param groups, each with lr, weight_decay and (where the law has one) eps -> an optimizer.
Build = Callable[[Groups], torch.optim.Optimizer]


@dataclass(frozen=True)
class Built:
    """``rate``: learning rate at the smallest width, where none is given; ``build``: makes the optimizer."""

    rate: float
    build: Build


BUILT: dict[str, Built] = {
    "sgd": Built(0.1, lambda groups: torch.optim.SGD(groups, lr=0.0)),
    "adam": Built(1e-3, torch.optim.Adam),
    "adamw": Built(1e-3, torch.optim.AdamW),
}


def built(name: str, build: Optional[Build] = None) -> Built:
    """How to make the optimizer of the law ``name``; ``build`` makes it instead.

    Raises TpcalcError where there is none.
    """
    own = BUILT.get(name)
    if build is not None:
        return Built(1e-3 if own is None else own.rate, build)
    if own is None:
        raise TpcalcError(
            f"tpcalc check cannot train with {name}: there is no implementation of it here; give one as "
            f"build=lambda groups: YourOptimizer(groups), or choose one of {', '.join(sorted(BUILT))}"
        )
    return own
