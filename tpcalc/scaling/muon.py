"""Muon for hidden matrices, AdamW for the rest.

The law is :func:`tpcalc.optimizers.muon_law`.  Here it gets its numbers: the update of a matrix is orthogonal, of
spectral norm 1, times torch's shape factor ``s``: on aligned inputs like entries of size ``s / sqrt(rows * columns)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from tpcalc.optimizers import finite, muon_law
from tpcalc.order import HALF
from tpcalc.parametrization import Rule
from tpcalc.scaling.fans import Fan
from tpcalc.scaling.powers import Factor

#: Name of the optimizer -> torch's name of its shape factor.
ADJUST = {"muon": "original", "muon_match_rms_adamw": "match_rms_adamw"}
#: Name of the optimizer -> square of torch.optim.Muon's shape factor, up to a constant, of a matrix [rows, columns].
SHAPE_FACTORS: dict[str, Callable[[int, int], Fraction]] = {
    "muon": lambda rows, columns: max(Fraction(1), Fraction(rows, columns)),
    "muon_match_rms_adamw": lambda rows, columns: Fraction(max(rows, columns)),
}


def takes(rule: Rule) -> bool:
    """torch.optim.Muon takes matrices only, and only those that grow on both sides need its law."""
    return rule.role == "hidden" and len(rule.shape) == 2 and all(size.growth > 0 for size in rule.shape)


def muon_rule(rule: Rule, optimizer: str) -> Rule:
    """The exponents of ``rule`` (made for AdamW) under Muon."""
    law = muon_law(*(size.growth for size in rule.shape), ADJUST[optimizer])
    g = finite(rule.gradient)
    u = finite(law.update(g, rule.A))
    slices = tuple(replace(piece, c=piece.C + u) for piece in rule.slices)
    return replace(rule, c=rule.C + u, weight_decay=law.decay(g, rule.A, rule.C + u), eps=law.eps(g), slices=slices)


def lr_factors(fan: Fan, C: Fraction, shapes: Sequence[tuple[int, int]], optimizer: str) -> list[Factor]:
    """Factors of the learning rate's ratio; ``shapes`` at base and at target."""
    s_base, s_target = (SHAPE_FACTORS[optimizer](*shape) for shape in shapes)
    area = Fraction(math.prod(shapes[1]), math.prod(shapes[0]))
    return [*fan.update_factors(C), (area, HALF), (s_target / s_base, -HALF)]
