"""Exact multipliers: computed from exponents and true sizes, saved as JSON, applied to real training.

Computing and applying them needs torch; a document of them and the code made of it (``exported``, ``codegen``,
``dialects``) do not, so the names here are imported on first use.
"""

from __future__ import annotations

from tpcalc.late import late

_PUBLIC = {
    "Exported": "tpcalc.scaling.exported",
    "Scaling": "tpcalc.scaling.result",
    "ScalingError": "tpcalc.errors",
    "SiteWarning": "tpcalc.scaling.compute",
    "Weight": "tpcalc.scaling.weight",
    "scale": "tpcalc.scaling.compute",
}

__all__ = list(_PUBLIC)

__getattr__ = late(__name__, _PUBLIC)
