"""The laws of the ops: one op, one line, grouped by structure.

Importing this package registers every rule that ships with tpcalc.
"""

from tpcalc.rules import (
    comparisons,
    contractions,
    creation,
    derivatives,
    elementwise,
    linalg,
    normalisers,
    quantisation,
    reductions,
    views,
)
from tpcalc.rules.call import Call
from tpcalc.rules.registry import REGISTRY, Registry, ignore, rule

__all__ = [
    "REGISTRY",
    "Call",
    "comparisons",
    "Registry",
    "contractions",
    "creation",
    "derivatives",
    "elementwise",
    "ignore",
    "linalg",
    "normalisers",
    "quantisation",
    "reductions",
    "rule",
    "views",
]
