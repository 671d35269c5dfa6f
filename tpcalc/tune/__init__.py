"""Tuning at a small size, for a large one: a search over the hyperparameters of the base and the constants of modules.

TP5 (section 6) tunes the learning rate and multipliers of init and learning rate by module on a proxy of 40M
parameters for a model of 6.7B, at 7% of the cost of pretraining it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpcalc.late import late

if TYPE_CHECKING:
    from tpcalc.tune.search import tune

__all__ = ["tune"]

__getattr__ = late(__name__, {"tune": "tpcalc.tune.search"})
