"""Stacks of growing depth in a lowered program: their streams, their branches, and sums over the depth."""

from tpcalc.lower.depth.cones import cone
from tpcalc.lower.depth.graph import Graph
from tpcalc.lower.depth.numbers import with_powers
from tpcalc.lower.depth.write import Depth, Stack, branches, repeated, stacks

__all__ = ["Depth", "Graph", "Stack", "branches", "cone", "repeated", "stacks", "with_powers"]
