"""The code's own initialisation: read from the calls that build a model, or measured on a real one."""

from tpcalc.trace.init.law import measured_law
from tpcalc.trace.init.recorder import InitRecorder

__all__ = ["InitRecorder", "measured_law"]
