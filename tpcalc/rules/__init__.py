"""The laws of the ops: one op, one line, grouped by structure.

Importing this package registers every rule that ships with tpcalc.
"""

from tpcalc.rules import contractions, creation, elementwise, linalg, normalisers, reductions, views
from tpcalc.rules.registry import REGISTRY, Call, Registry, ignore, rule

__all__ = [
    "REGISTRY",
    "Call",
    "Registry",
    "contractions",
    "creation",
    "elementwise",
    "ignore",
    "linalg",
    "normalisers",
    "reductions",
    "rule",
    "views",
]
