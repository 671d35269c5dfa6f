"""Updates of a whole matrix: orthogonalised (Muon) or preconditioned by Kronecker factors (Shampoo, SOAP, K-FAC).

A gradient of order ``g`` is of rank O(1) (a sum over samples), so its norm ``n^(g + (rows + columns)/2)`` is also its
largest singular value.  Divided by that, entries that act on aligned inputs are of order ``-(rows + columns)/2``.
Where few rows are not zero, that is so of the matrix of these rows; in a band few entries of a row act together.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Optional

from tpcalc.algebra.order import HALF, ZERO, Order, max_order
from tpcalc.errors import DeriveError
from tpcalc.optimizers.law import (
    BESIDE_GRADIENT,
    BESIDE_GRAM,
    BESIDE_NORM,
    COUPLED,
    DECOUPLED,
    UpdateLaw,
    WeightView,
    finite,
    register,
)

_SPECTRAL = "Yang, Simon & Bernstein 2023 (spectral condition)"


def _unit_norm(w: WeightView) -> Order:
    return -w.full / 2


# -- Muon ----------------------------------------------------------------------------------------------

MUON = register(
    UpdateLaw(
        "muon",
        lambda w: max_order(ZERO, w.rows - w.columns) / 2 + _unit_norm(w),
        DECOUPLED,
        BESIDE_NORM,
        "Jordan et al. 2024 (Muon), torch's adjust_lr_fn='original': the orthogonal factor of the momentum times "
        "sqrt(max(1, rows/columns)); " + _SPECTRAL,
        shape=lambda rows, columns: [
            (Fraction(rows * columns), -HALF),
            (max(Fraction(1), Fraction(rows, columns)), HALF),
        ],
    )
)
MUON_MATCH_RMS = register(
    UpdateLaw(
        "muon_match_rms_adamw",
        lambda w: max_order(w.rows, w.columns) / 2 + _unit_norm(w),
        DECOUPLED,
        BESIDE_NORM,
        "Liu et al. 2025 (Moonlight), torch's adjust_lr_fn='match_rms_adamw': the orthogonal factor times "
        "0.2 sqrt(max(rows, columns)); " + _SPECTRAL,
        shape=lambda rows, columns: [(Fraction(rows * columns), -HALF), (Fraction(max(rows, columns)), HALF)],
    )
)
MUON_SPECTRAL = register(
    UpdateLaw(
        "muon_spectral",
        lambda w: (w.rows - w.columns) / 2 + _unit_norm(w),
        DECOUPLED,
        BESIDE_NORM,
        "Bernstein & Newhouse 2024, Pethick et al. 2025 (Scion): the orthogonal factor times sqrt(rows/columns); "
        + _SPECTRAL,
        shape=lambda rows, columns: [(Fraction(rows * columns), -HALF), (Fraction(rows, columns), HALF)],
    )
)
#: torch.optim.Muon's adjust_lr_fn -> law.
MUON_FACTORS = {"original": MUON, "match_rms_adamw": MUON_MATCH_RMS}


def muon_law(adjust: Optional[str]) -> UpdateLaw:
    """The law of ``torch.optim.Muon(adjust_lr_fn=adjust)``; raises DeriveError for a factor that it does not know."""
    law = MUON_FACTORS.get(adjust or "original")
    if law is None:
        raise DeriveError(f"Muon's shape factor {adjust!r} is unknown; choose one of {', '.join(MUON_FACTORS)}")
    return law


# -- Kronecker factors ---------------------------------------------------------------------------------

SHAMPOO = register(
    UpdateLaw(
        # order k: the k preconditioners, sums of squared unfoldings, to the power -1/(2k) each, divide the gradient by
        # its norm.  Decay is decoupled as in Shi et al. 2023 (Distributed Shampoo).  In the gradient (wd*W) it would be
        # normalised in the gradient's null space, too, and its size there would not depend on wd.
        "shampoo",
        _unit_norm,
        DECOUPLED,
        BESIDE_GRAM,
        "Gupta, Koren & Singer 2018, Algorithm 2, with the decoupled decay of Shi et al. 2023; Ishikawa & Karakida "
        "2024 (e_A = e_B = 1/2)",
        shape=lambda rows, columns: [(Fraction(rows * columns), -HALF)],
    )
)
SOAP = register(
    UpdateLaw(
        # Adam in the eigenbases of averages of G G^T and G^T G, which lag a step behind.  A gradient that lies in them
        # (the same data again) has O(1) entries there that are not zero, each made order 0: of norm 1, as Shampoo's.
        # But what a new sample adds is orthogonal to all before; it is spread over the arbitrary basis of their null
        # space, and normalised entry by entry: Adam's update, in another basis.  That is the larger; it sets the rate.
        "soap",
        lambda w: ZERO,
        DECOUPLED,
        BESIDE_GRADIENT,
        "Vyas et al. 2024, Algorithm 3, with the law of Adam: see docs/optimizers.md",
        "soap normalises what is new in a gradient entry by entry, as Adam does, and has Adam's rates; on data that it "
        "has seen, updates of matrices are smaller, down to n^-((rows+columns)/2), the order of Shampoo's (Qiu et al. "
        "2025, who take a gradient to lie in its own eigenbasis, report deviations at finite width)",
        least=lambda w: _unit_norm(w) if len(w.axes) > 1 else ZERO,
    )
)


def _kronecker(e_inputs: int, e_outputs: int) -> Callable[[WeightView], Order]:
    """``B^-e G A^-e`` with A the second moment of inputs, B that of gradients of outputs (Ishikawa & Karakida 2024)."""

    def update(w: WeightView) -> Order:
        inputs = finite(w.inputs)
        outputs = finite(w.gradient) - inputs  # the gradient is their outer product
        fan_out = w.moved - w.fan_in
        return finite(w.gradient) - e_inputs * (w.fan_in + 2 * inputs) - e_outputs * (fan_out + 2 * outputs)

    return update


_DAMPING = (
    "damping is no single number: that of the inputs' factor scales as their squared norm (n^1 for a growing fan-in, "
    "n^0 else), that of the outputs' factor as n^(fan_out + 2g); a fraction of the factor's trace does so by itself"
)
KFAC = register(
    UpdateLaw(
        "kfac",
        _kronecker(1, 1),
        COUPLED,
        None,
        "Martens & Grosse 2015; Ishikawa & Karakida 2024, Table 1 (e_A = e_B = 1)",
        _DAMPING,
    )
)
FOOF = register(
    UpdateLaw(
        "foof",
        _kronecker(1, 0),
        COUPLED,
        None,
        "Benzing 2022; Ishikawa & Karakida 2024 (e_A = 1, e_B = 0)",
        _DAMPING,
    )
)

__all__ = [
    "FOOF",
    "KFAC",
    "MUON",
    "MUON_FACTORS",
    "MUON_MATCH_RMS",
    "MUON_SPECTRAL",
    "SHAMPOO",
    "SOAP",
    "muon_law",
]
