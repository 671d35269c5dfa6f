"""Learning rates of a check that was given none: as large as the model bears within the first order.

A small model is a picture of the limit only while it trains as the limit does.  Steps so large that the loss no longer
follows its gradient (two classes are learnt in one step, a loss of 42 falls to 9) tell of saturation and of
overshooting, which set in at another time at each width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

from tpcalc.algebra.scales import Place
from tpcalc.check.training import Trainer

#: How far the loss may leave what its gradients foretell, as a part of that: where slopes are to stay below their
#: orders, and where one rate serves all widths and slopes are to be those of the first order.
BENT, STRAIGHT = 0.1, 0.01
#: Where the loss is no number at a rate this small, it is so at any.
FEEBLEST = 2.0**-100
#: Halvings between two trials, at most.
STRIDE = 3
#: Falls of less than this, of the loss, are rounding.
ROUNDING = 1e-5


def bearable(trainer: Trainer, places: Sequence[Place], seed: int, astray: float) -> float:
    """A power of 1/2 that slows learning until at each of ``places`` the loss falls as its gradients foretell, but for
    a part ``astray``.

    1 where nothing helps: the gradients are then not those of the loss (a custom one).
    """
    slower = 1.0
    for place in places:
        largest = slower
        while (found := _astray(*trainer.descent(slower, place, seed))) is None or found > astray:
            if found is None:
                if slower == largest:
                    break
                return 1.0
            if slower < FEEBLEST:
                return 1.0
            slower /= 2 ** (STRIDE if found == math.inf else min(STRIDE, math.ceil(math.log2(found / astray))))
    return slower


def _astray(fell: float, foretold: float, size: float) -> Optional[float]:
    """The second order of the loss's fall relative to its first: proportional to a small learning rate.

    None where the loss is not foretold to fall, or by so little that it can't be seen.
    """
    if foretold <= ROUNDING * size:
        return None
    ratio = fell / foretold
    return abs(1 - ratio) if math.isfinite(ratio) else math.inf
