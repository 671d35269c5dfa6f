"""One weight's multipliers, and what a stated rule adds to all: plain data, without torch.

Copied into generated files (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

# Path components that wrappers put into parameter names: torch.compile, activation
# checkpointing, FSDP1.  What all names begin with is handled in Multipliers._bare.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")


@dataclass(frozen=True)
class Weight:
    """The multipliers of one weight, or of its copies in repeated blocks.

    Each ``*`` in ``name`` stands for the indices in ``blocks``; ``aliases`` are the
    other names of a tied weight.  ``draw`` is how a fresh value is drawn at the target
    width: its law, mean and standard deviation.  ``clip`` weighs the gradient in the
    global norm; ``forward`` multiplies the weight in the forward pass.  ``slices`` are
    the blocks of a packed weight with an init of their own, each an axis, a start, a
    length and the multiplier that takes the place of ``init``.
    """

    name: str
    blocks: tuple[Sequence[int], ...]
    shape: tuple[int, ...]
    init: float
    lr: float
    weight_decay: float
    eps: float | None
    clip: float
    draw: tuple[str, float, float]
    optimizer: str
    aliases: tuple[str, ...] = ()
    slices: tuple[tuple[int, int, int, float], ...] = ()
    forward: float = 1.0

    def names(self) -> list[str]:
        """Every parameter name this entry stands for, aliases left out."""
        if not self.blocks:
            return [self.name]
        parts = self.name.split(".")
        stars = [place for place, part in enumerate(parts) if part == "*"]
        names = []
        for indices in product(*self.blocks):
            for place, index in zip(stars, indices, strict=True):
                parts[place] = str(index)
            names.append(".".join(parts))
        return names


@dataclass(frozen=True)
class Assumed:
    """What a stated rule for batch size and training length multiplies, on top of the
    multipliers and alike for every weight of one optimizer."""

    lr: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0
    one_minus_beta: float = 1.0

    def options(self, given: dict[str, Any], error: type[Exception]) -> dict[str, Any]:
        """Options of a group; ``betas`` (``alpha`` of RMSprop) given as at the base."""
        if self.one_minus_beta == 1.0:
            return given
        found = dict(given)
        if "betas" in given:
            found["betas"] = tuple(map(self._beta, given["betas"]))
        if "alpha" in given:
            found["alpha"] = self._beta(given["alpha"])
        if None in (found.get("alpha", 0.0), *found.get("betas", ())):
            raise error("betas are averages; give each from 0 to less than 1")
        if not {"betas", "alpha"} & found.keys():
            raise error(
                f"the rule for batch size and length multiplies 1 - beta by "
                f"{self.one_minus_beta:.6g}, and no betas are given; give those of the base to "
                f"param_groups, as betas=(0.9, 0.999) (of RMSprop alpha=0.99)"
            )
        return found

    def _beta(self, beta: float) -> float | None:
        """What a beta of the base becomes; None of what is none."""
        if not 0.0 <= beta < 1.0:
            return None
        wanted = 1.0 - self.one_minus_beta * (1.0 - beta)
        # over more than 2^24 steps, an average no longer moves in float32
        found = min(max(wanted, 0.0), 1.0 - 2.0**-24)
        if abs(found - wanted) > 1e-12:
            warnings.warn(
                f"1 - beta = {1.0 - beta:.6g} times {self.one_minus_beta:.6g} is no average: "
                f"beta is clipped to {found:.8g}, where the rule does not hold",
                stacklevel=4,
            )
        return found


def _plain(name: str) -> str:
    """The parameter name without the components that wrappers put into it."""
    *path, last = name.split(".")
    return ".".join([part for part in path if part not in _WRAPPERS] + [last])


def _some(names: Sequence[str]) -> str:
    """The first three names and how many more there are."""
    text = ", ".join(map(repr, names[:3]))
    return text if len(names) <= 3 else f"{text} and {len(names) - 3} more"
