"""The optimizers that a check can train with: torch's own, and for laws that it lacks small ones of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch

from tpcalc.check import reference
from tpcalc.errors import TpcalcError

Groups = Sequence[Mapping[str, Any]]
#: Param groups, each with lr, weight_decay and (where the law has one) eps -> an optimizer.
Build = Callable[[Groups], torch.optim.Optimizer]
#: The same, with the model whose parameters they hold (K-FAC looks at its layers).
Make = Callable[[Groups, torch.nn.Module], torch.optim.Optimizer]

#: An epsilon that hides no slope.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Built:
    """How a check makes the optimizer of a law.

    ``rate``, ``eps``: at the smallest width, where none are given.  ``warm_up``: first steps that do not follow the
    law, taken before those that are asked for.
    """

    rate: float
    make: Make
    eps: float = NEGLIGIBLE
    warm_up: int = 0


def _torch(cls: str, rate: float, eps: float = NEGLIGIBLE, warm_up: int = 0, **options: Any) -> Built:
    def make(groups: Groups, model: torch.nn.Module) -> torch.optim.Optimizer:
        found = getattr(torch.optim, cls, None)
        if found is None:
            raise TpcalcError(f"torch {torch.__version__} has no torch.optim.{cls}; install a newer torch")
        return found(groups, **options)

    return Built(rate, make, eps, warm_up)


def _ours(cls: type, rate: float, eps: float = NEGLIGIBLE, warm_up: int = 0, **options: Any) -> Built:
    return Built(rate, lambda groups, model: cls(groups, **options), eps, warm_up)


def _watching(cls: type, rate: float) -> Built:
    return Built(rate, lambda groups, model: cls(groups, model))


def _transformers(rate: float, **options: Any) -> Built:
    def make(groups: Groups, model: torch.nn.Module) -> torch.optim.Optimizer:
        try:
            from transformers.optimization import Adafactor
        except ImportError:
            raise TpcalcError("this Adafactor is that of transformers; pip install 'tpcalc[hf]'") from None
        return Adafactor(groups, relative_step=False, **options)

    return Built(rate, make)


#: RAdam adapts from its sixth step on (rho > 5; Liu et al. 2020, Algorithm 2), and at first by a small factor that
#: grows fast only under a small beta2.
RADAM: dict[str, Any] = {"betas": (0.9, 0.9), "warm_up": 7}
#: Adadelta's updates start at the root of epsilon, so this one is no formality (torch's default).
ADADELTA_EPS = 1e-6

BUILT: dict[str, Built] = {
    "sgd": _torch("SGD", 0.1, lr=0.0),
    # lambd is a decay of its own; weight_decay is enough
    "asgd": _torch("ASGD", 0.1, lambd=0.0),
    "adadelta": _torch("Adadelta", 0.3, ADADELTA_EPS),
    "adam": _torch("Adam", 1e-3),
    "adamw": _torch("AdamW", 1e-3),
    "nadam": _torch("NAdam", 1e-3),
    "nadamw": _torch("NAdam", 1e-3, decoupled_weight_decay=True),
    "radam": _torch("RAdam", 1e-3, **RADAM),
    "radamw": _torch("RAdam", 1e-3, **RADAM, decoupled_weight_decay=True),
    "adamax": _torch("Adamax", 1e-3),
    "rmsprop": _torch("RMSprop", 1e-4),
    "adagrad": _torch("Adagrad", 1e-3),
    "rprop": _torch("Rprop", 1e-3),
    "adam_atan2": _ours(reference.AdamAtan2, 1e-3),
    "sign": _ours(reference.Sign, 1e-3),
    "lion": _ours(reference.Lion, 1e-3),
    "adafactor": _torch("Adafactor", 1e-2),
    "adafactor_transformers": _transformers(1e-2, scale_parameter=True),
    "adafactor_absolute": _transformers(1e-3, scale_parameter=False),
    "lamb": _ours(reference.LAMB, 1e-2),
    "lars": _ours(reference.LARS, 1e-2),
    "muon": _ours(reference.Muon, 1e-2),
    "muon_match_rms_adamw": _ours(reference.Muon, 1e-2, adjust_lr_fn="match_rms_adamw"),
    "muon_spectral": _ours(reference.MuonSpectral, 1e-2),
    "shampoo": _ours(reference.Shampoo, 1e-2),
    # its first step only makes its bases; entries of rounding noise must not reach epsilon
    "soap": _ours(reference.SOAP, 1e-3, 1e-8, warm_up=1),
    "kfac": _watching(reference.KFAC, 1e-3),
    "foof": _watching(reference.FOOF, 1e-2),
}


def built(name: str, build: Optional[Build] = None) -> Built:
    """How to make the optimizer of the law ``name``; ``build`` makes it instead.

    Raises TpcalcError where there is none.
    """
    own = BUILT.get(name)
    if build is not None:
        return Built(1e-3 if own is None else own.rate, lambda groups, model: build(groups))
    if own is None:
        raise TpcalcError(
            f"tpcalc check cannot train with {name}: there is no implementation of it here; give one as "
            f"build=lambda groups: YourOptimizer(groups), or choose one of {', '.join(sorted(BUILT))}"
        )
    return own
