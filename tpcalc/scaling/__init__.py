"""Exact multipliers: computed from exponents and true sizes, saved as JSON, applied to real training."""

from __future__ import annotations

from tpcalc.errors import ScalingError
from tpcalc.scaling.compute import SiteWarning, scale
from tpcalc.scaling.result import Scaling
from tpcalc.scaling.runtime import Weight

__all__ = ["Scaling", "ScalingError", "SiteWarning", "Weight", "scale"]
