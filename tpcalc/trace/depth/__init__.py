"""Depth: how a model grows with the number of its blocks, from traces at two depths or more."""

from tpcalc.trace.depth.alike import check_alike
from tpcalc.trace.depth.folded import WORTH, folded
from tpcalc.trace.depth.insertion import grown, inserted, tokens
from tpcalc.trace.depth.names import Periods
from tpcalc.trace.depth.traced import depths_of, trace_depths

__all__ = ["WORTH", "Periods", "check_alike", "depths_of", "folded", "grown", "inserted", "tokens", "trace_depths"]
