"""Which values are spectra, and which products convolutions: one structure at a time."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.lower.spectra import Spectra
from tpcalc.rules.structures import Contract, Exp, Known, Operand, Power, Product, Scale, Sum, View

TWO = Fraction(2)
#: Two spectra of an axis of growth 1, one of an axis of growth 1/2, a value that is none.
X, Y, ROOT, PLAIN = range(4)
FOURIER = Scale(PLAIN, ZERO, mixes=ONE)


def convolved(x: Operand, y: Operand, K):
    return Scale(Contract(Scale(x, -K / 2), Scale(y, -K / 2), K, K, K, convolves=True), K / 2)


def spectra() -> Spectra:
    found = Spectra()
    found.mixed |= {X: ONE, Y: ONE, ROOT: HALF}
    return found


SEEN = [
    (Product(X, Y), convolved(X, Y, ONE)),
    (Product(X, ROOT), convolved(X, ROOT, HALF)),
    (Product(ROOT, X), convolved(ROOT, X, HALF)),
    (Product(X, PLAIN), None),
    (Product(PLAIN, X), None),
    (Power(ROOT, TWO, "even"), convolved(ROOT, ROOT, HALF)),
    (Power(X, ONE), None),
    (Power(X, Fraction(3)), None),
    (Power(PLAIN, TWO), None),
    (Sum((X, Y)), None),
    (Product(X, FOURIER), convolved(X, FOURIER, ONE)),
    (Scale(Product(X, Y), -ONE), Scale(convolved(X, Y, ONE), -ONE)),
    (Sum((Product(X, Y), PLAIN)), Sum((convolved(X, Y, ONE), PLAIN))),
    (Known(ZERO), None),
]


@pytest.mark.parametrize("structure, expected", SEEN)
def test_products_of_spectra(structure, expected):
    assert spectra().seen(structure) == (structure if expected is None else expected)


NOTED = [
    (FOURIER, ONE),
    (Scale(X, ZERO, mixes=ONE), None),  # and back
    (Scale(FOURIER, ZERO, mixes=ONE), None),
    (Scale(ROOT, -ONE), HALF),
    (View(X), ONE),
    (Sum((PLAIN, X)), ONE),
    (Sum((X, ROOT)), ONE),
    (Product(PLAIN, ROOT), HALF),
    (Power(X, ONE), ONE),
    (Power(X, TWO), None),
    (convolved(X, Y, ONE), ONE),
    (Contract(X, ROOT, ONE, ONE, ONE, convolves=True), ONE),
    (Contract(X, Y, ONE, ONE, ONE), None),
    (Contract(PLAIN, PLAIN, ONE, ONE, ONE, convolves=True), None),
    (Exp(X), None),
    (View(PLAIN), None),
    (Known(ZERO), None),
]


@pytest.mark.parametrize("structure, over", NOTED)
def test_what_is_a_spectrum(structure, over):
    found = spectra()
    found.note(9, structure)
    assert found.mixed.get(9) == over
