"""Rows of one weight whose gradients are of different orders: one rate suits them where updates do not follow these."""

from __future__ import annotations

from collections.abc import Mapping

from tpcalc.errors import DeriveError
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import UpdateLaw
from tpcalc.program.queries import reach


def check_even(lowered: Lowered, laws: Mapping[str, UpdateLaw]) -> None:
    """Raise DeriveError where a weight that is trained by a law of ``laws`` (name -> law) has no rate of its own.

    Values that are divided by their largest entry send it a gradient of n^0 beside n^-1 of their own.  SGD moves its
    row n times as fast as the others: with their rate its effect grows (slope +0.79 over 64 to 2048), with its own
    (-0.16) theirs fades (-0.89).
    """
    mixed = {atom.out: atom for atom in lowered.atoms if atom.node in lowered.uneven}
    for weight in lowered.program.weights if mixed else ():
        law = laws[weight.name]
        if not weight.trainable or weight.grad is None or not law.follows_gradient:
            continue
        for out in mixed.keys() & set(reach((weight.grad,), lowered.operands_of)):
            raise DeriveError(
                f"{lowered.where(mixed[out]) or 'a line unknown'}: values are divided or multiplied by their largest "
                f"entry, whose gradient is of a larger order than the others', and {law.name}, which follows the size "
                f"of gradients, has no rate for {weight.name} that suits both; take one that does not (Adam, Muon), "
                f"divide by a root mean square, or detach the largest entry"
            )
