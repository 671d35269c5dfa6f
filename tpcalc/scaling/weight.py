"""One weight's multipliers: plain data, without torch.

Copied into generated files (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

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


def _plain(name: str) -> str:
    """The parameter name without the components that wrappers put into it."""
    *path, last = name.split(".")
    return ".".join([part for part in path if part not in _WRAPPERS] + [last])


def _some(names: Sequence[str]) -> str:
    """The first three names and how many more there are."""
    text = ", ".join(map(repr, names[:3]))
    return text if len(names) <= 3 else f"{text} and {len(names) - 3} more"
