"""The structures: what the calculus needs to know of an op.

A rule (one line per ATen op, see :mod:`tpcalc.rules.registry`) says which structure an op has; the
interpreters (:mod:`tpcalc.calculus.laws`, :mod:`tpcalc.calculus.demands`) hold one law per structure.  Operands are
value ids or nested structures; :mod:`tpcalc.lower.flatten` flattens the nesting into :class:`Atom` s.

Growths (``K``, ``rest``) are exponents of axis sizes in the width: 1 for ``d_model``, 0 for a fixed axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Optional, Union

from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.algebra.size import Size

#: A value id, or a structure still to be flattened.
Operand = Union[int, "Structure"]


class Structure:
    """Base class; every subclass is a frozen dataclass of operands and small constants."""

    __slots__ = ()


#: Of the results of an op; None for one that carries no order.
Structures = tuple[Optional[Structure], ...]


@dataclass(frozen=True, slots=True)
class Known(Structure):
    """A value of known order, independent of weights: zeros, ones, arange, a random mask.

    ``data``: made from the inputs.  ``uniform``: all entries are the same number.  ``centred``: multiplying by it sums
    up nothing (noise of mean zero).  ``weight``: bit set of the fixed random numbers that it acts like in a
    contraction, 0 for others; ``odd``: their signs cancel in every sum.
    """

    order: Order
    data: bool = False
    uniform: bool = False
    centred: bool = False
    weight: int = 0
    odd: bool = False


@dataclass(frozen=True, slots=True)
class View(Structure):
    """The same entries in another arrangement: reshape, permute, slice, expand, cast, contiguous.

    ``repeated``: along growing axes that ``x`` does not have (expand, broadcasting).  Set by
    :mod:`tpcalc.lower.atoms`.
    """

    x: Operand
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Gather(Structure):
    """Entries picked by index: embedding look-up, ``index_select``.

    Order passes through; ``repeated`` as of a view.
    """

    x: Operand
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Sum(Structure):
    """Entrywise sum, difference, concatenation or choice: the order is the max.

    ``how``: ``sum``, ``difference`` (the first less the second), ``choice`` (each entry is one of some operand) or
    ``put`` (those of the second are written into the first, as many as there are).
    """

    xs: tuple[Operand, ...]
    how: str = "sum"


@dataclass(frozen=True, slots=True)
class Scale(Structure):
    """Multiplication by a constant ``k * n^order``.

    ``mixes``: growth of the axes whose entries a unitary map mixes besides (a Fourier transform).
    """

    x: Operand
    order: Order
    mixes: Order = ZERO


@dataclass(frozen=True, slots=True)
class Product(Structure):
    """Entrywise product: orders add."""

    x: Operand
    y: Operand


#: Sizes of some axes, each with its power (-1: divided by, as by the groups of a convolution).
Powers = tuple[tuple[Size, int], ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """True sizes behind the growths of a sum: of the axes summed over, and of those that only ``x`` or ``y`` has."""

    summed: Powers
    rest_x: Powers = ()
    rest_y: Powers = ()


@dataclass(frozen=True, slots=True)
class Contract(Structure):
    """``sum_k x_k y_k`` over axes of total growth ``K``.

    ``rest_x``: growth of the axes that only ``x`` has (not contracted, and not in ``y``); for a weight this is
    ``R`` of the operator-norm law.  ``rest_y`` likewise.  ``sizes`` follow from the axes of the op
    (:mod:`tpcalc.rules.axes`) and are filled in by :mod:`tpcalc.lower.flatten`; a rule gives growths.  ``convolves``:
    of spectra (:mod:`tpcalc.lower.spectra`).
    """

    x: Operand
    y: Operand
    K: Order
    rest_x: Order
    rest_y: Order
    sizes: Optional[Sizes] = None
    convolves: bool = False


@dataclass(frozen=True, slots=True)
class Reduce(Structure):
    """Sum over axes of total growth ``K``: a contraction with ones.  ``sizes`` as of a contraction."""

    x: Operand
    K: Order
    sizes: Optional[Sizes] = None


@dataclass(frozen=True, slots=True)
class Repeat(Structure):
    """What each period of a stack of growing depth adds to what all of them share: a sum over the depth.

    ``x`` is the term of a traced period, which stands for all.  ``K``: growth of the number of periods; 0 marks what
    enters the stack.  ``own``: bit set of the weights that each period has for itself; ``loop``: the bit that stands
    for them in what is summed.  ``signed``: the terms have signs of their own, whatever is known of ``x``: a weight
    that starts at zero, a gradient that came back through a matrix of its own period.  ``factor``: it multiplies the
    stream instead (a gain).  ``alpha``: what residual branches are asked for at init is L^-alpha.  ``back``: it sums
    terms of a gradient.  Set by :mod:`tpcalc.lower.depth`; no rule has it.
    """

    x: Operand
    K: Order
    own: int = 0
    loop: int = 0
    signed: bool = False
    factor: bool = False
    alpha: Order = ONE
    back: bool = False


@dataclass(frozen=True, slots=True)
class Power(Structure):
    """Homogeneous of degree ``k``: relu and abs (1), square (2), rsqrt (-1/2).

    ``parity``: ``odd``, ``even`` or ``none``, of the function.  ``largest``: of those entries that are largest, in
    order (top-k).
    """

    x: Operand
    k: Order
    parity: str = "none"
    largest: bool = False


@dataclass(frozen=True, slots=True)
class Guard(Structure):
    """``x`` kept away from zero by a small constant (``+ eps`` under a root, ``clamp_min(eps)``).

    The order is that of ``x``, as every theory of normalisation takes it; where ``x`` is zero, it is 0.
    """

    x: Operand


@dataclass(frozen=True, slots=True)
class LinearLike(Structure):
    """Asymptotically linear: gelu, silu, softplus.  ``offset``: f(0) != 0 (softplus).

    ``total``: of a logarithm of a sum of exponentials, the growth of the axis that is summed over.
    """

    x: Operand
    offset: bool = False
    total: Optional[Order] = None


@dataclass(frozen=True, slots=True)
class Bounded(Structure):
    """A bounded function of the forward pass: tanh, sigmoid, sin, cos, a clamp with two ends.

    ``zero``: f(0) = 0 with f'(0) != 0, so small inputs pass linearly; ``parity`` of the function.  An input of positive
    order saturates it.
    """

    x: Operand
    zero: bool
    parity: str = "none"


@dataclass(frozen=True, slots=True)
class Slope(Structure):
    """``f'(x)`` of a function that has its own structure in the forward pass: bounded whatever ``x`` is.

    It asks nothing of ``x``: the function itself did.
    """

    x: Operand


@dataclass(frozen=True, slots=True)
class Exp(Structure):
    """exp and 2^x: needs an input of order <= 0, else it explodes."""

    x: Operand


@dataclass(frozen=True, slots=True)
class Log(Structure):
    """log: order 0 (log n counts as 0)."""

    x: Operand


@dataclass(frozen=True, slots=True)
class Softmax(Structure):
    """softmax over an axis of growth ``growth``: entries n^-growth; ``log``: log_softmax."""

    x: Operand
    growth: Order
    log: bool = False


@dataclass(frozen=True, slots=True)
class Normalise(Structure):
    """``x`` divided by a norm of itself: order ``shift`` whatever the order of ``x`` (0 for rms)."""

    x: Operand
    shift: Order


@dataclass(frozen=True, slots=True)
class Centre(Structure):
    """``x`` less its mean over some axes, as a norm or a variance takes it: what ``x`` holds beside one number goes."""

    x: Operand


@dataclass(frozen=True, slots=True)
class Discrete(Structure):
    """A comparison, an index, an argmax: order 0, no gradient, may flip as its inputs change.

    ``parity`` as a function of one operand: that of a sign is ``odd``.  ``one``: along axes that no operand has, one
    entry is 1 and the others are 0.  ``above``: whether it holds where the first of two is larger, or where it is less,
    of one where it is not zero, or is; None for anything else.  ``how``: whether it
    holds where two are the ``same``, where either is not zero (``or``), where both are not (``and``); empty for
    anything else.
    """

    xs: tuple[Operand, ...] = ()
    parity: str = "none"
    one: bool = False
    above: Optional[bool] = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Atom:
    """A flattened structure: ``out = structure`` with value ids for operands, made by node ``node``."""

    out: int
    structure: Structure
    node: int


def linear_at_zero(structure: Structure) -> bool:
    """Whether it is a nonlinearity with f(0) = 0 and a slope there: it vanishes with what enters."""
    return (
        structure.zero if isinstance(structure, Bounded) else isinstance(structure, LinearLike) and not structure.offset
    )


#: Asked of every structure many times: at the speed of C.
_X, _X_Y, _XS = attrgetter("x"), attrgetter("x", "y"), attrgetter("xs")
_OPERANDS: dict[type, Any] = {Product: _X_Y, Contract: _X_Y, Sum: _XS, Discrete: _XS, Known: lambda known: ()}


def operands(structure: Structure) -> tuple[Any, ...]:
    """The operands of a structure, in order."""
    several = _OPERANDS.get(type(structure))
    found: tuple[Any, ...] = (_X(structure),) if several is None else several(structure)
    return found


def with_operands(s: Structure, xs: tuple[Operand, ...]) -> Structure:
    """A structure with other operands."""
    if xs == operands(s):
        return s
    if isinstance(s, (Sum, Discrete)):
        return replace(s, xs=xs)
    if isinstance(s, (Product, Contract)):
        return replace(s, x=xs[0], y=xs[1])
    return s if isinstance(s, Known) else replace(s, x=xs[0])  # type: ignore[type-var]


def with_nested(s: Structure, made: Callable[[Structure], Operand]) -> Structure:
    """A structure, with what is ``made`` of each structure in it in the place of that."""
    xs = operands(s)
    for x in xs:
        if type(x) is not int:
            return with_operands(s, tuple(x if isinstance(x, int) else made(x) for x in xs))
    return s


def leaves(structure: Optional[Operand]) -> frozenset[int]:
    """The value ids in a nested structure."""
    if structure is None or isinstance(structure, int):
        return frozenset(() if structure is None else (structure,))
    xs = operands(structure)
    for x in xs:
        if type(x) is not int:
            return frozenset().union(*map(leaves, xs))
    return frozenset(xs)


def renamed(s: Structure, table: Mapping[int, int]) -> Structure:
    """A nested structure with other value ids."""
    xs = tuple(table.get(x, x) if isinstance(x, int) else renamed(x, table) for x in operands(s))
    return with_operands(s, xs)
