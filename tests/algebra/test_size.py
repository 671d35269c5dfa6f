"""Sizes and constants: one object a value, exact arithmetic, formulas."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.algebra.size import Scalar, Size, size_difference, size_product, size_quotient, size_sum
from tpcalc.errors import FitError

N = sympy.Symbol("n", positive=True)
ROUNDED = Size(((ONE, Fraction(8, 3)),), rounded=True, samples=((128, 384), (256, 768), (512, 1536)))

coefficients = st.fractions(min_value=-4, max_value=4, max_denominator=6).filter(bool)
powers = st.sampled_from([Order(0), HALF, ONE, Order("3/2"), Order(2)])
sizes = st.dictionaries(powers, coefficients, max_size=3).map(lambda terms: Size(sorted(terms.items(), reverse=True)))
single = st.tuples(powers, coefficients).map(lambda term: Size((term,)))
floats = st.floats(allow_infinity=False, allow_nan=False, width=32)


@given(sizes, sizes)
def test_equal_sizes_are_one_object(x, y):
    assert (x is y) == (x == y) == (x.terms == y.terms) == (x - y is Size(()))
    plain = Size(((Fraction(power), coefficient) for power, coefficient in x.terms))
    for same in (plain, pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert same is x and hash(same) == hash(x)


def test_a_rounded_size_is_not_the_exact_one():
    exact = Size(ROUNDED.terms)
    assert ROUNDED != exact and pickle.loads(pickle.dumps(ROUNDED)) is ROUNDED
    assert ROUNDED.at(256) == 768 and str(ROUNDED) == "~8*n/3" and str(exact) == "8*n/3"
    with pytest.raises(FitError, match=r"known only at widths \[128, 256, 512\], not at 64"):
        ROUNDED.at(64)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes)
def test_arithmetic_is_that_of_the_formulas(x, y):
    for operation in (operator.add, operator.sub, operator.mul):
        assert sympy.expand(operation(x.expr, y.expr) - operation(x, y).expr) == 0
    assert size_sum((x, y)) is x + y and size_product((x, y)) is x * y and size_difference(x, y) is x - y


@given(sizes, single)
def test_a_quotient_undoes_a_product(x, y):
    assert (x * y) / y is x is size_quotient(x * y, y)
    assert (x * y).growth == (x.growth + y.growth if x.terms else 0)


def test_arithmetic_with_whole_numbers():
    n = Size.linear()
    assert n + 32 is Size.linear(1, 32) is 32 + n and n * 4 is Size.linear(4) is 4 * n
    assert 3 - n is Size.linear(-1, 3) and n * 4 / 2 is n + n and sum([n, n]) is 2 * n
    assert Size.constant(0) is Size(()) and str(Size(())) == "0"


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_a_rounded_size_has_no_exact_arithmetic(operation):
    for x, y in ((ROUNDED, Size.linear()), (Size.linear(), ROUNDED)):
        with pytest.raises(FitError, match="has no exact size: a rounded size is known at sampled widths only"):
            operation(x, y)
    assert size_sum((ROUNDED, Size.linear())) is None is size_product((Size.linear(), ROUNDED))
    assert size_difference(Size.linear(), ROUNDED) is None is size_quotient(ROUNDED, Size.linear())


@pytest.mark.parametrize("by", [Size.linear(1, 2), Size(((Order(2), 1),)), Size(())])
def test_quotients_that_are_no_size(by):
    with pytest.raises(FitError, match="is no sum of powers of n"):
        Size.linear() / by
    assert size_quotient(Size.linear(), by) is None


@pytest.mark.parametrize(
    "size, text, expr, growth",
    [
        (Size.constant(7), "7", sympy.Integer(7), ZERO),
        (Size.linear(4), "4*n", 4 * N, ONE),
        (Size.linear(Fraction(1, 16), 32), "n/16 + 32", N / 16 + 32, ONE),
        (Size.linear(Fraction(43, 16), -3), "43*n/16 - 3", 43 * N / 16 - 3, ONE),
        (Size(((HALF, 1),)), "n^(1/2)", sympy.sqrt(N), HALF),
        (Size(((Order(2), 3), (-ONE, 1))), "3*n^2 + n^(-1)", 3 * N**2 + 1 / N, Order(2)),
        (ROUNDED, "~8*n/3", 8 * N / 3, ONE),
    ],
)
def test_text_and_formula(size, text, expr, growth):
    assert str(size) == text and size.expr == expr and size.growth is growth and repr(size) == f"Size({text})"


@settings(max_examples=60, deadline=None)
@given(sizes, st.sampled_from([16, 64, 144]))
def test_a_length_is_the_formula_evaluated(x, width):
    """At square widths: all powers here are whole numbers."""
    value = x.expr.subs(N, width)
    if value.is_integer:
        assert x.at(width) == value
    else:
        with pytest.raises(FitError, match="is not a whole number"):
            x.at(width)


@given(floats, powers, floats)
def test_constants(k, p, d):
    constant = Scalar(k, p, d)
    assert Scalar(k, Fraction(p), d) is constant is pickle.loads(pickle.dumps(constant))
    assert constant.at(16) == k * 16.0 ** float(p) + d
    assert constant.order == (p if k else ZERO if d else MINUS_INFINITY)
    assert Scalar.of(d).order == (ZERO if d else MINUS_INFINITY) and Scalar.of(d).at(99) == d


def test_constants_that_look_alike():
    nan = float("nan")
    assert Scalar.of(0.0) is not Scalar.of(-0.0) and Scalar.of(nan) is Scalar.of(nan)
    assert Scalar(1.0, -ONE, 2.0).order == 0 and Scalar.of(float("inf")).order == 0
    assert [str(Scalar(k, -HALF, d)) for k, d in ((2, 0), (1, 3), (0.5, -1))] == [
        "2*n^(-1/2)",
        "n^(-1/2) + 3",
        "0.5*n^(-1/2) - 1",
    ]
    assert Scalar(2, -HALF, 0.25).expr == 2 / sympy.sqrt(N) + sympy.Float(0.25) and Scalar.of(3).expr == 3


@pytest.mark.parametrize("thing", [Size.linear(), Scalar(1.0, ONE)])
def test_neither_can_be_changed(thing):
    for name in ("growth", "order", "p", "colour"):
        with pytest.raises(AttributeError, match="can't be changed"):
            setattr(thing, name, 3)


def test_sympy_is_imported_when_a_formula_is_asked_for():
    """Its import takes longer than deriving the rules of a model.  (torch imports it, too.)"""
    script = """
import sys
sys.modules["torch"] = None
import tpcalc.derive.solve
from tpcalc.algebra.fit import fit_size
size = fit_size(((1, 2), (2, 4), (3, 6)))
assert str(size * size + 3) == "4*n^2 + 3" and "sympy" not in sys.modules
assert str(size.expr) == "2*n" and "sympy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
