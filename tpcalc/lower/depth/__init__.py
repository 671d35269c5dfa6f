"""Stacks of growing depth in a lowered program: their streams, their branches, and sums over the depth."""

from tpcalc.lower.depth.numbers import with_powers
from tpcalc.lower.depth.write import Depth, Stack, branches, repeated, stacks

__all__ = ["Depth", "Stack", "branches", "repeated", "stacks", "with_powers"]
