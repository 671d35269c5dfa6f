"""Norms, whatever ops wrote them and in whatever order their factors stand.

``x * rsqrt(mean(x^2) + eps)``, ``(g * x) / norm``, ``x * (g / norm)``: a product is taken apart into factors, each
homogeneous in one base.  Those of a base whose degrees add up to zero no longer depend on its scale: together they are
a :class:`~tpcalc.rules.structures.Normalise` of that base, and the others multiply it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.lower.recognise import Recogniser
from tpcalc.rules.structures import Guard, Normalise, Operand, Power, Product, Scale, Structure, View

#: A product of more factors is not taken apart further (a scan multiplies one gate a step).
MOST = 12

#: Writes a structure, and gives its value.
Emit = Callable[[Structure], int]


class Factor(NamedTuple):
    """``value`` to the ``power``, times ``n^shift``; ``repeated`` as of a view, ``parity`` as of a power."""

    value: Any
    shift: Order = ZERO
    power: Order = ONE
    parity: str = "odd"
    repeated: bool = False


def regrouped(s: Product, seen: Recogniser, known: set[int], emit: Emit) -> Structure:
    """The product with its norms as such; ``s`` itself where it has none.  ``emit`` writes a structure."""
    parts = [_factors(Factor(x), seen, frozenset()) for x in (s.x, s.y)]
    divisors = [(h.measured, h.base) for h in map(seen.of, _values(*parts)) if h.measured is not None]
    measured = frozenset(seen.same.get(x, x) for x, _ in divisors)
    sides = [_factors(Factor(x), seen, measured) for x in (s.x, s.y)] if measured else parts
    measures = {base for _, base in divisors}
    based = [[_based(factor, seen, measures) for factor in side] for side in sides]
    degrees: dict[Operand, Order] = {}
    for base, degree in (*based[0], *based[1]):
        degrees[base] = degrees.get(base, ZERO) + degree
    gone = {base for base, degree in degrees.items() if degree == 0}
    if len(degrees) > 1:
        gone -= known
    norms: dict[Operand, list[Factor]] = {base: [] for base in gone}
    found: list[Factor | Operand] = []  # a base stands for its norm
    for operand, side, pairs in zip((s.x, s.y), sides, based):
        bases = [base for base, _ in pairs]
        if gone.isdisjoint(bases):
            found.append(Factor(operand))
            continue
        for base, factor in zip(bases, side):
            if base not in gone:
                found.append(factor)
                continue
            norms[base].append(factor)
            if base not in found:
                found.append(base)
    shift = sum((factor.shift for factor in found if isinstance(factor, Factor)), ZERO)
    xs = [_written(x, emit) if isinstance(x, Factor) else _norm(norms[x], seen, emit) for x in found]
    if shift != 0:
        xs[-1] = Scale(_id(xs[-1], emit), shift)
    whole: Structure = _product(xs, emit)
    return whole


def _values(*sides: Iterable[Factor]) -> Iterator[Operand]:
    return (factor.value for side in sides for factor in side)


def _based(factor: Factor, seen: Recogniser, measures: Container[Operand]) -> tuple[Operand, Order]:
    """The base of a factor, and its degree; of a part of something whose norm is there that whole."""
    h = seen.of(factor.value)
    whole = seen.whole.get(h.base, h.base)
    return whole if whole in measures else h.base, h.degree * factor.power


def _factors(whole: Factor, seen: Recogniser, measured: Container[Operand]) -> list[Factor]:
    """``measured``: values that are not taken apart, since a norm of them is among the factors."""
    done: list[Factor] = []
    todo = [whole]
    while todo:
        factor = todo.pop()
        stays = len(done) + len(todo) >= MOST or seen.same.get(factor.value, factor.value) in measured
        parts = None if stays else _parts(factor, seen)
        if parts is None:
            done.append(factor)
        else:
            todo.extend(reversed(parts))
    return done


def _parts(factor: Factor, seen: Recogniser) -> "list[Factor] | None":
    """What a factor is the product of; None of nothing simpler."""
    made = seen.made.get(factor.value)
    if isinstance(made, Product):
        return [factor._replace(value=made.x), factor._replace(value=made.y, shift=ZERO)]
    if isinstance(made, Scale) and made.order is not MINUS_INFINITY:
        return [factor._replace(value=made.x, shift=factor.shift + made.order * factor.power)]
    if isinstance(made, (View, Guard)) and _composed(made.x, seen):
        repeated = factor.repeated or (isinstance(made, View) and made.repeated)
        return [factor._replace(value=made.x, repeated=repeated)]
    if isinstance(made, Power) and made.k < 0 and _composed(made.x, seen):
        parity = made.parity if factor.parity == "odd" else factor.parity
        return [factor._replace(value=made.x, power=factor.power * made.k, parity=parity)]
    return None


def _composed(x: Operand, seen: Recogniser) -> bool:
    made = seen.made.get(x)
    while isinstance(made, (View, Guard)):
        made = seen.made.get(made.x)
    return isinstance(made, (Product, Scale))


def _written(factor: Factor, emit: Emit) -> Operand:
    """A factor but for its constant."""
    x = factor.value
    if factor.power != 1:
        x = emit(Power(x, factor.power, factor.parity))
    return emit(View(x, repeated=True)) if factor.repeated else x


def _norm(factors: list[Factor], seen: Recogniser, emit: Emit) -> Structure:
    """What the factors of one base make together: what is divided, of the order that is left."""
    shift = sum((f.shift + seen.of(f.value).shift * f.power for f in factors), ZERO)
    divided = [_written(f, emit) for f in factors if seen.of(f.value).degree * f.power > 0]
    return Normalise(_id(_product(divided, emit), emit), shift)


def _product(xs: list[Operand], emit: Emit) -> Any:
    whole = xs[0]
    for x in xs[1:]:
        whole = Product(_id(whole, emit), _id(x, emit))
    return whole


def _id(x: Operand, emit: Emit) -> int:
    return x if isinstance(x, int) else emit(x)
