"""How aligned what is trained is assumed to be: an option of the laws of contraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.order import HALF, ONE, Order


@dataclass(frozen=True)
class Alignment:
    """How aligned trained quantities are assumed to be, as fractions of the contracted growth ``K``.

    ``update``: law 3 (and 4 after training); ``initial``: law 2, None for the operator norm.  Everett et al. 2024
    (Section 3) call them alpha and omega; their ``full`` alignment has omega = 1/2.
    """

    name: str
    update: Order = ONE
    initial: Optional[Order] = None

    def weight_change(self, K: Order) -> Order:
        return self.update * K

    def initial_on_change(self, K: Order, R: Order) -> Order:
        if self.initial is not None:
            return self.initial * K
        return max(K / 2, K - R / 2)

    def values(self, K: Order) -> Order:
        return self.update * K


FULL = Alignment("full")
NONE = Alignment("none", update=HALF, initial=HALF)
OMEGA = Alignment("omega", update=ONE, initial=HALF)
ALIGNMENTS = {alignment.name: alignment for alignment in (FULL, NONE, OMEGA)}
