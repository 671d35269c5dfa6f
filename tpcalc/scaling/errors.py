"""Errors of multipliers: no exact number, a file that is not ours, a model that does not match."""

from __future__ import annotations

from tpcalc.errors import TpcalcError


class ScalingError(TpcalcError, ValueError):
    """Multipliers can't be computed, loaded or applied; names the weight or the file."""
