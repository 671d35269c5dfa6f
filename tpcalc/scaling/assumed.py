"""What a stated rule for batch size and length multiplies: plain data, without torch.

Copied into generated files (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
import warnings
from dataclasses import dataclass
from typing import Any


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
            betas = given["betas"]
            each = betas if isinstance(betas, (tuple, list)) else (None,)
            found["betas"] = tuple(map(self._beta, each))
        if "alpha" in given:
            found["alpha"] = self._beta(given["alpha"])
        if None in (found.get("alpha", 0.0), *found.get("betas", ())):
            raise error("betas are averages; give each from 0 to less than 1")
        if not {"betas", "alpha"} & found.keys():
            raise error(
                f"the rule for batch size and length multiplies 1 - beta by "
                f"{self.one_minus_beta:.6g}, and no betas are given; give those of the base "
                f"here, as betas=(0.9, 0.999) (of RMSprop alpha=0.99)"
            )
        return found

    def _beta(self, beta: Any) -> float | None:
        """What a beta of the base becomes; None of what is none."""
        if beta is None or isinstance(beta, str) or not 0.0 <= beta < 1.0:
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
