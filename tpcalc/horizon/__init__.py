"""Batch size and training length: published rules, stated as assumptions and never mixed with what is derived.

They are laws of noise and of time, not orders of a limit of the traced program.  :mod:`rules` holds what each source
says, as exact powers of three ratios; :mod:`assumed` applies one between two ends.
"""

from tpcalc.horizon.assumed import Chosen, Horizon, assume, assume_run, chosen, lowering
from tpcalc.horizon.rules import RULES, Effect, Powers, Published

__all__ = ["RULES", "Chosen", "Effect", "Horizon", "Powers", "Published", "assume", "assume_run", "chosen", "lowering"]
