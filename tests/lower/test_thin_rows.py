"""What is remembered of thin weights, and the sums over them: one op at a time whose axes are given."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.support.wired import Op, wired
from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.algebra.size import Scalar, Size
from tpcalc.lower.atoms import Writer
from tpcalc.lower.picks import Picks
from tpcalc.lower.thin import Thin
from tpcalc.rules.structures import (
    Atom,
    Contract,
    Exp,
    Gather,
    Known,
    Power,
    Product,
    Reduce,
    Scale,
    Sizes,
    Softmax,
    Structure,
    Sum,
    View,
)

TWO = Fraction(2)
N, B = Size.linear(), Size.constant(3)
#: Weights, an input, a fixed band of zeros and ones, fixed numbers, a band of a weight, one of few rows, a mask, a
#: bias, zeros, bands of a fixed number, a weight of one axis that grows.
W, V, X, MASK, FIXED, BAND, ROWS, BOOL, BIAS, ZEROS, TUBE, TALL = range(12)
LEAVES: dict[int, tuple] = dict.fromkeys((W, V, MASK, FIXED, BAND, ROWS, BOOL, ZEROS), (N, N)) | {
    X: (B, N),
    BIAS: (N,),
    TUBE: (N, N, B),
    TALL: (N, B),
}
OUT = 20
SAME = "nm->nm"


def thin(*ops: Op) -> Thin:
    wiring = wired(ops, LEAVES, (W, V, BIAS, TALL), (X,), OUT)
    values = wiring.program.values
    size = Scalar.of(1.0)
    known = {
        MASK: {"few": (ONE, ONE), "magnitude": size}, FIXED: {"magnitude": size}, BAND: {"few": (ONE, ONE)},
        ROWS: {"few": (ONE, ZERO)}, TUBE: {"few": (ONE, ONE, ZERO)}, BOOL: {"dtype": "bool"},
    }  # fmt: skip
    values.update({vid: replace(values[vid], **more) for vid, more in known.items()})
    found = Thin(Writer(wiring.program, Picks(wiring)), wiring)
    found.weights |= {BAND, ROWS}
    return found


def seen(s: Structure, refs: tuple[int, ...], axes: str, parts: dict | None = None) -> Any:
    found = thin(Op(refs, (s,), axes, ((N, N),)))
    found.parts.update(parts or {})
    return found._seen(s, found.wiring.program.nodes[0], 0), found.writer.atoms


BY_BAND = Contract(X, BAND, ONE, ZERO, ONE, Sizes(()))
BY_ROWS = Contract(X, ROWS, ONE, ZERO, ONE, Sizes(()))
UP, ACROSS = "bn,nm->bm", "bm,nm->bn"
MASKED = Product(Scale(MASK, HALF), W)
#: Structure, what it reads, its axes, what it is seen as, along which axes the result is thin.
SEEN: dict[str, tuple[Structure, tuple[int, ...], str, Structure | None, tuple]] = {
    "masked": (Product(MASK, W), (MASK, W), "nm,nm->nm", MASKED, (ONE, ONE)),
    "masked, other way round": (Product(W, MASK), (W, MASK), "nm,nm->nm", MASKED, (ONE, ONE)),
    "a function masked": (
        Product(Exp(W), MASK), (W, MASK), "nm,nm->nm", Product(Scale(MASK, HALF), Exp(W)), (ONE, ONE)
    ),
    "masked twice": (
        Product(Product(MASK, W), MASK), (MASK, W), "nm,nm->nm", Product(Scale(MASK, HALF), MASKED), (ONE, ONE)
    ),
    "fixed numbers masked": (Product(MASK, FIXED), (MASK, FIXED), "nm,nm->nm", None, ()),
    "by fixed numbers": (Product(W, FIXED), (W, FIXED), "nm,nm->nm", None, ()),
    "two weights": (Product(W, V), (W, V), "nm,nm->nm", None, ()),
    "a band of a weight": (Product(W, BAND), (W, BAND), "nm,nm->nm", None, ()),
    "masked and scaled": (Scale(Product(MASK, W), ONE), (MASK, W), "nm,nm->nm", Scale(MASKED, ONE), ()),
    "contracted": (BY_BAND, (X, BAND), UP, replace(BY_BAND, K=ZERO, sizes=None), (ZERO,)),
    "contracted, first": (
        Contract(BAND, X, ONE, ONE, ZERO), (BAND, X), "mn,bn->bm", Contract(BAND, X, ZERO, ONE, ZERO), (ZERO,)
    ),
    "half of it": (Contract(X, BAND, HALF, ZERO, ONE), (X, BAND), UP, Contract(X, BAND, ZERO, ZERO, HALF), (HALF,)),
    "more than it": (Contract(X, BAND, TWO, ZERO, ONE), (X, BAND), UP, Contract(X, BAND, ONE, ZERO, ONE), (ZERO,)),
    "along few": (BY_ROWS, (X, ROWS), UP, replace(BY_ROWS, K=ZERO, sizes=None), (ZERO,)),
    "along few, half of it": (
        replace(BY_ROWS, K=HALF), (X, ROWS), UP, Contract(X, ROWS, ZERO, ZERO, HALF), (HALF,)
    ),
    "along many": (BY_ROWS, (X, ROWS), ACROSS, Contract(X, ROWS, ONE, ZERO, ZERO), (ONE,)),
    "along many, first": (
        Contract(ROWS, X, ONE, ONE, ZERO), (ROWS, X), "nm,bm->bn", Contract(ROWS, X, ONE, ZERO, ZERO), (ONE,)
    ),
    "along many, scaled": (
        Contract(X, Scale(ROWS, ONE), ONE, ZERO, ONE), (X, ROWS), ACROSS,
        Contract(X, Scale(ROWS, ONE), ONE, ZERO, ZERO), (ONE,),
    ),
    "a band and rows": (
        Contract(BAND, ROWS, ONE, ONE, ONE), (BAND, ROWS), "mn,kn->mk", Contract(BAND, ROWS, ZERO, ONE, ZERO), (ONE,)
    ),
    "of no order": (Contract(X, BAND, ZERO, ZERO, ONE), (X, BAND), UP, None, ()),
    "all": (Contract(X, W, ONE, ZERO, ONE, Sizes(())), (X, W), UP, None, (ZERO,)),
    "fixed": (Contract(X, MASK, ONE, ZERO, ONE), (X, MASK), UP, None, (ZERO,)),
    "summed": (Reduce(BAND, ONE), (BAND,), "nm->n", Reduce(BAND, ZERO), (ZERO,)),
    "summed along many": (Reduce(ROWS, ONE, Sizes(())), (ROWS,), "nm->n", None, (ONE,)),
    "summed along few": (Reduce(ROWS, ONE), (ROWS,), "nm->m", Reduce(ROWS, ZERO), (ZERO,)),
    "a multiple": (Reduce(Scale(BAND, ONE), ONE), (BAND,), "nm->n", Reduce(Scale(BAND, ONE), ZERO), (ZERO,)),
    "a product": (Reduce(Product(W, BAND), ONE), (W, BAND), "nm,nm->n", Reduce(Product(W, BAND), ZERO), (ZERO,)),
    "a product, first": (Reduce(Product(BAND, W), ONE), (BAND, W), "nm,nm->n", Reduce(Product(BAND, W), ZERO), (ZERO,)),
    "a power": (Reduce(Power(BAND, TWO), ONE), (BAND,), "nm->n", Reduce(Power(BAND, TWO), ZERO), (ZERO,)),
    "a root": (Reduce(Power(BAND, HALF), ONE), (BAND,), "nm->n", Reduce(Power(BAND, HALF), ZERO), (ZERO,)),
    "an inverse": (Reduce(Power(BAND, -ONE), ONE), (BAND,), "nm->n", None, (ZERO,)),
    "a function": (Reduce(Exp(BAND), ONE), (BAND,), "nm->n", None, (ZERO,)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_sums_over_few_entries(name):
    s, refs, axes, expected, along = SEEN[name]
    assert seen(s, refs, axes)[0] == (s if expected is None else expected, along)


def test_a_masked_summand_is_a_value_of_its_own():
    (found, along), atoms = seen(Sum((Product(MASK, W), V)), (MASK, W, V), "nm,nm,nm->nm")
    new = atoms[-1].out
    assert found == Sum((new, V)) and along == () and atoms[-1].structure == Product(atoms[-2].out, W)
    assert seen(Sum((Scale(W, ONE), V)), (W, V), "nm,nm->nm")[0][0] == Sum((Scale(W, ONE), V))
    added = Sum((Contract(X, ROWS, ONE, ZERO, ONE), X))
    assert seen(added, (X, ROWS), ACROSS)[0][0] == Sum((Contract(X, ROWS, ONE, ZERO, ZERO), X))
    assert seen(Sum((Product(W, V), V)), (W, V), "nm,nm->nm")[0][0] == Sum((Product(W, V), V))


def test_summands_are_contracted_each_by_itself():
    mixed = Contract(X, V, ONE, ZERO, ONE)
    whole = Sum((Contract(X, W, ONE, ZERO, ONE), Contract(X, BAND, ZERO, ZERO, ONE)))
    assert seen(mixed, (X, V), UP, {V: (W, BAND)})[0] == (whole, ())
    tube, rows = (seen(mixed, (X, V), UP, {V: (part,)})[0][0] for part in (TUBE, ROWS))
    assert tube == Sum((Contract(X, TUBE, ZERO, ZERO, ONE),))
    assert rows == Sum((Contract(X, ROWS, ONE, ZERO, ZERO),))  # nobody knows which axis is which
    assert seen(Reduce(V, ONE), (V,), "nm->n", {V: (W, BAND)})[0][0] == Sum((Reduce(W, ONE), Reduce(BAND, ZERO)))
    assert seen(replace(mixed, K=ZERO), (X, V), UP, {V: (W, BAND)})[0] == (replace(mixed, K=ZERO), ())
    assert seen(Exp(V), (V,), SAME, {V: (W, BAND)})[0] == (Exp(V), ())


def noted(s: Structure, refs: tuple[int, ...]) -> dict:
    """What is new of the result (20) of an op."""
    words = ["nm" if len(LEAVES[ref]) > 1 else "m" for ref in refs]
    found = thin(Op(refs, (s,), ",".join(words) + "->nm", ((N, N),)))
    found._note(s, found.wiring.program.nodes[0], OUT)
    told: dict[str, Any] = {name: True for name in ("weights", "fixed", "data") if OUT in getattr(found, name)}
    return told | ({"parts": found.parts[OUT]} if OUT in found.parts else {})


NOTED: dict[str, tuple[Structure, tuple[int, ...], dict]] = {
    "a function of a weight": (Exp(W), (W,), {"weights": True}),
    "of fixed numbers": (Exp(FIXED), (FIXED,), {"fixed": True}),
    "of both": (Product(W, FIXED), (W, FIXED), {"weights": True}),
    "of nothing": (Known(ZERO), (), {"fixed": True}),
    "of data": (Exp(X), (X,), {"data": True}),
    "of data and a weight": (Product(X, W), (X, W), {"data": True}),
    "where data says": (Gather(W), (W, X), {"data": True}),
    "of what is not known": (Exp(ZEROS), (ZEROS,), {}),
    "a sum with a band": (Sum((W, BAND)), (W, BAND), {"weights": True, "parts": (W, BAND)}),
    "a band joined": (Sum((W, BAND), "choice"), (W, BAND), {"weights": True, "parts": (W, BAND)}),
    "a sum with a function of a band": (Sum((W, Exp(BAND))), (W, BAND), {"weights": True}),
    "a sum of others": (Sum((W, V)), (W, V), {"weights": True}),
    "a product with a band": (Product(W, BAND), (W, BAND), {"weights": True}),
    "a step of descent": (Sum((W, X), "difference"), (W, X), {"data": True, "parts": (W, X)}),
    "a step, other way round": (Sum((X, W)), (X, W), {"data": True, "parts": (X, W)}),
    "a choice by data": (Sum((W, X), "choice"), (W, X), {"data": True}),
    "a step of a function": (Sum((W, Exp(X))), (W, X), {"data": True}),
    "data and a bias": (Sum((BIAS, X)), (BIAS, X), {"data": True}),
    "data and what grows along one axis": (Sum((TALL, X)), (TALL, X), {"data": True}),
    "data and fixed numbers": (Sum((FIXED, X)), (FIXED, X), {"data": True}),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_known_of_a_result(name):
    s, refs, expected = NOTED[name]
    assert noted(s, refs) == expected


def test_a_thin_sum_is_told_by_its_axes():
    found = thin(Op((W, BAND), (Sum((W, BAND)),), "nm,nm->nm", ((N, N),)))
    found.made[OUT] = (ONE, ONE)
    found.emit(Sum((W, BAND)), found.wiring.program.nodes[0], 0, OUT)
    assert OUT in found.weights
    found._note(Sum((W, BAND)), found.wiring.program.nodes[0], OUT)
    assert OUT not in found.parts
    found.weights, found.fixed = {W}, set()
    found._note(Exp(W), found.wiring.program.nodes[0], OUT)
    assert found.weights == {W, OUT}  # a program of one weight


def test_a_view_of_a_sum_is_seen_summand_by_summand():
    for axes, shape, along in (("nm->mn", (N, N), (ONE, ONE)), ("n.->n..", (N, N, B), ())):
        found = thin(Op((V,), (View(V),), axes, (shape,)))
        found.parts[V] = W, BAND
        found._note(View(V), found.wiring.program.nodes[0], OUT)
        w, band = found.parts[OUT]
        assert [atom.structure for atom in found.writer.atoms] == [View(W), View(BAND)]
        assert found.along(w) == () and found.along(band) == along
        assert found.writer.values[band].shape == shape
    found = thin(Op((V,), (View(V),), "nm->mn", ((N, N),)))
    found.parts[V] = (ROWS,)
    found.made[ROWS] = HALF, ONE
    found._note(View(V), found.wiring.program.nodes[0], OUT)
    assert found.along(found.parts[OUT][0]) == (ONE, ONE)  # whichever axis is which
    found.made[ROWS] = ONE, ZERO
    found._note(View(V), found.wiring.program.nodes[0], OUT)
    assert found.along(found.parts[OUT][0]) == (ONE, ZERO)
    found._note(View(W), found.wiring.program.nodes[0], OUT + 1)
    assert OUT + 1 not in found.parts


def emitted(s: Structure, refs: tuple[int, ...], axes: str, shape=(N, N), made: tuple = (), **few: Any) -> tuple:
    """Of the result of an op: its atom, and how few entries it has."""
    found = thin(Op(refs, (s,), axes, (shape,)))
    for name, value in few.items():
        getattr(found.writer.few, name).update(value)
    if made:
        found.made[OUT] = made
    found.emit(s, found.wiring.program.nodes[0], 0, OUT)
    last = found.writer.few
    return found.writer.atoms[-1], last.many.get(OUT), OUT in last.alike


def test_results_of_thin_sums_are_few():
    assert emitted(BY_ROWS, (X, ROWS), ACROSS, (B, N)) == (Atom(OUT, Contract(X, ROWS, ONE, ZERO, ZERO), 0), ONE, False)
    assert emitted(BY_ROWS, (X, ROWS), UP, (B, N))[1:] == (None, False)
    assert emitted(Product(MASK, W), (MASK, W), "nm,nm->nm")[1:] == (ONE, True)
    one = thin(Op((MASK, W), (Product(MASK, W),), "nm,nm->nm", ((N, N),)))
    values = one.wiring.program.values
    one.writer.values[MASK] = values[MASK] = replace(values[MASK], few=(ONE, ZERO))
    one.emit(Product(MASK, W), one.wiring.program.nodes[0], 0, OUT)
    assert one.writer.few.many[OUT] == ONE and OUT not in one.writer.few.alike
    assert one.writer.atoms[0].structure == Scale(MASK, HALF)
    # told by axes
    assert emitted(Product(MASK, W), (MASK, W), "nm,nm->nm", made=(ONE, ONE), many={W: ONE})[1] is None
    assert emitted(Product(MASK, W), (MASK, W), "nm,nm->nm", made=(ONE, ONE))[1:] == (None, False)


def test_a_softmax_along_a_band():
    def growth(made: tuple) -> Any:
        return emitted(Softmax(W, ONE), (W,), SAME, made=made)[0].structure.growth  # type: ignore[attr-defined]

    assert [growth(made) for made in ((ONE, ONE), (HALF, ZERO), (TWO, ZERO), (ZERO, ZERO), ())] == [
        ZERO, HALF, ZERO, ONE, ONE
    ]  # fmt: skip


def test_choices_by_a_mask():
    choice = Sum((W, ZEROS), "choice")
    few: dict[str, Any] = {"many": {BOOL: ONE}, "zero": {ZEROS}}
    assert emitted(choice, (BOOL, W, ZEROS), "nm,nm,nm->nm", **few)[1] == ONE
    assert emitted(choice, (W, ZEROS), "nm,nm->nm", **few)[1] is None
    assert emitted(choice, (MASK, W, ZEROS), "nm,nm,nm->nm", many={MASK: ONE}, zero={ZEROS})[1] is None
    assert emitted(Sum((W, ZEROS, BOOL), "choice"), (BOOL, W, ZEROS), "nm,nm,nm->nm", **few)[1] is None
    assert emitted(replace(choice, how="sum"), (BOOL, W, ZEROS), "nm,nm,nm->nm", **few)[1] is None
    several = Sum((Scale(W, ONE), V), "choice")
    assert emitted(several, (BOOL, W, V), "nm,nm,nm->nm", **few)[1] is None
    found = thin(Op((BOOL, ZEROS), (Sum((BOOL, ZEROS), "choice"),), "nm,nm->nm", ((N, N),)))
    found.writer.few.many[BOOL] = ONE
    found.writer.few.zero.add(ZEROS)
    found.emit(Sum((BOOL, ZEROS), "choice"), found.wiring.program.nodes[0], 0, OUT)
    assert not found.writer.few.picked  # a mask that is written is none that chooses
