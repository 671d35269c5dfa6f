"""Update laws: the order of one unit-learning-rate update of an entry, and what follows for lr, epsilon and decay.

A parameter is ``w`` in ``W = n^-a w``; ``b`` is its order (entries ~ n^-b), ``g`` that of its gradient (entries ~ n^g).
With ``C`` the effective update order (entries of dW ~ n^-C) and ``u`` the order of a unit-lr update of ``w``::

    C = a + c - u(g, b, ...)        so        lr ~ n^-c,   c = C - a + u

A law is a pure function of a :class:`WeightView`.  It says nothing of the gauge: in another representative of the abc
orbit it is handed another view (:meth:`WeightView.at`), and the shift symmetry follows (TP4 Equation 5, TP4b Section
2, TP5 Lemma J.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Optional, Union

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Exact, Order
from tpcalc.algebra.roots import Factor
from tpcalc.errors import DeriveError
from tpcalc.files import same_place


@dataclass(frozen=True)
class WeightView:
    """What an update law may know of a parameter ``w``.

    ``gradient``: ``g``, entries of its gradient ~ n^g.  ``size``: ``b``, its entries ~ n^-b.  ``axes``: growths of its
    axes as the optimizer sees them.  ``fan_in``: growth of the axes contracted where it meets values, ``inputs``: the
    order of those values (for laws that look at activations, K-FAC).  ``zero``: it starts at zero, and ``size`` says
    nothing (only a given parametrization says so, :mod:`tpcalc.dynamics.training`).  ``few``: of how much
    less growth the number of its entries is whose gradient is not zero (behind a top-k); ``gradient`` is theirs.
    ``thin``: these are few in each row and each column (a band), and not whole rows or columns.
    """

    gradient: Order
    size: Order
    axes: tuple[Order, ...] = ()
    fan_in: Order = ZERO
    inputs: Order = ZERO
    zero: bool = False
    few: Order = ZERO
    thin: bool = False

    @property
    def rows(self) -> Order:
        """Growth of the first axis."""
        return self.axes[0] if self.axes else ZERO

    @property
    def columns(self) -> Order:
        """Growth of all other axes together."""
        return sum(self.axes[1:], ZERO)

    @property
    def entries(self) -> Order:
        """Growth of the number of entries."""
        return self.rows + self.columns

    @property
    def moved(self) -> Order:
        """Growth of the number of entries whose gradient is not zero."""
        return self.entries - self.few

    @property
    def full(self) -> Order:
        """Growth of the number of entries of a full matrix with as many in a row, and in a column, as are moved."""
        return self.moved - (self.few if self.thin else ZERO)

    @property
    def norm(self) -> Order:
        """Order of the Frobenius norm of the gradient."""
        return self.gradient + self.moved / 2

    def at(self, a: Order) -> "WeightView":
        """The same weight behind a multiplier ``n^-a`` more: ``w`` is n^a times larger, its gradient as much
        smaller."""
        return replace(self, gradient=self.gradient - a, size=self.size - a) if a else self


@dataclass(frozen=True)
class Decay:
    """How the weight-decay coefficient enters an update.  ``exponent(w, c)``: x in "weight decay ~ n^x"."""

    exponent: Callable[[WeightView, Order], Order]
    convention: str


@dataclass(frozen=True)
class Epsilon:
    """``exponent(w)``: x in "eps ~ n^x" with which epsilon keeps its place in the update.

    ``power``: an update is ``n^-(power * excess)`` as large under an epsilon that exceeds it by ``n^excess``;
    ``below``: likewise ``n^-(below * lack)`` under one that is smaller (Adadelta, whose updates start at its size).
    """

    exponent: Callable[[WeightView], Order]
    convention: str
    power: Order = ONE
    below: Order = ZERO


@dataclass(frozen=True)
class UpdateLaw:
    """How an optimizer turns gradients into updates.

    ``update(w)``: order ``u`` of the entries of one unit-lr update of ``w``; of a matrix that is not low-rank (Muon),
    of entries that would act alike on aligned inputs.  ``eps`` None: there is none, or its size does not matter.
    ``source``: where the law is published.  ``note``: a warning for whoever uses it.  ``shape(rows, columns)``: where
    the update depends on the shape alone, its size as factors of the true lengths.  ``least(w)``: the order of an
    update made from data that the optimizer has seen before, where that is smaller (SOAP); a check asks for no more.
    """

    name: str
    update: Callable[[WeightView], Exact]
    decay: Decay
    eps: Optional[Epsilon]
    source: str
    note: str = ""
    shape: Optional[Callable[[int, int], Sequence[Factor]]] = None
    least: Optional[Callable[[WeightView], Order]] = None

    def c(self, C: Order, w: WeightView, a: Order = ZERO) -> Order:
        """Exponent of the learning rate (~ n^-c) that gives updates of order ``C``; ``w`` as in the gauge ``a``."""
        return C - a + self.unit(w)

    def C(self, c: Order, w: WeightView, a: Order = ZERO, eps: Optional[Order] = None) -> Order:
        """Effective update order under lr ``~ n^-c`` and, if given, epsilon ``~ n^eps``."""
        return a + c - self.unit(w) + self.held_back(w, eps)

    def unit(self, w: WeightView) -> Order:
        """``u`` as an exact number; a zero gradient counts as order 0.

        Raises DeriveError where the law (a user's own) gives no exact order.
        """
        remedy = "return an exact one, such as w.gradient / 2 or Fraction(1, 2)"
        try:
            u = self.update(replace(w, gradient=ZERO) if w.gradient is MINUS_INFINITY else w)
        except TypeError as error:
            raise DeriveError(f"the update law {self.name!r} gives no exact order ({error}); {remedy}") from error
        if not isinstance(u, (Order, Fraction, int)):
            raise DeriveError(f"the update law {self.name!r} gives {u!r} for an order; {remedy}")
        return finite(Order(u))

    def held_back(self, w: WeightView, eps: Optional[Order]) -> Order:
        """By how much an epsilon ``~ n^eps`` makes the update smaller, as an exponent."""
        if eps is None or self.eps is None:
            return ZERO
        off = eps - finite(self.eps.exponent(w))
        return off * self.eps.power if off > 0 else -off * self.eps.below

    @property
    def shift(self) -> Order:
        """How far ``c`` moves down per unit of ``a`` along the abc orbit: 2 for SGD, 1 for Adam, 0 for LAMB."""
        w = WeightView(ZERO, ZERO)
        return self.c(ZERO, w) - self.c(ZERO, w.at(ONE), ONE)

    @cached_property
    def relative(self) -> bool:
        """Whether the update is proportional to the weight itself: at a rate above 1 it would grow without end."""
        w = WeightView(ZERO, ZERO)
        return self.unit(w) - self.unit(replace(w, size=ONE)) == 1

    @property
    def follows_gradient(self) -> bool:
        """Whether a larger gradient makes an update of another size (SGD)."""
        w = WeightView(ZERO, ZERO)
        return self.unit(w) != self.unit(replace(w, gradient=ONE))

    @property
    def follows_others(self) -> bool:
        """Whether the update hangs on the size of the gradient or of the weight (SGD, LAMB), and so on other
        weights."""
        w = WeightView(ZERO, ZERO)
        return self.follows_gradient or self.unit(w) != self.unit(replace(w, size=ONE))

    @property
    def coupled(self) -> bool:
        """Whether decay enters the gradient before it is normalised."""
        return self.decay in (COUPLED, COUPLED_IN_NORM)

    @property
    def conventions(self) -> tuple[str, ...]:
        """Sentences to be read with the exponents of decay and epsilon."""
        return (self.decay.convention, *((self.eps.convention,) if self.eps is not None else ()))


def finite(order: Order) -> Order:
    """An order that is a number; a zero gradient counts as order 0."""
    return ZERO if order is MINUS_INFINITY else order


# -- how weight decay enters -------------------------------------------------------------------------

DECOUPLED = Decay(lambda w, c: c, "weight decay is decoupled (torch subtracts lr*wd*W): wd ~ n^c keeps lr*wd constant")
INDEPENDENT = Decay(
    lambda w, c: ZERO,
    "weight decay is independent of the learning rate (wd*W is subtracted, or lr/initial_lr*wd*W): wd ~ n^0 keeps it "
    "constant",
)
LINEAR = Decay(
    lambda w, c: c,
    "weight decay enters the gradient (wd*W); the update is linear in it, so wd ~ n^c keeps lr*wd constant",
)
COUPLED = Decay(
    lambda w, c: finite(w.gradient) + w.size,
    "weight decay enters the gradient before it is normalised (wd*W): wd ~ n^(g+b) keeps it in proportion to the "
    "gradient",
)
#: LARS, LAMB: all of W has a part in the norm by which an update is divided that moves few entries.
COUPLED_IN_NORM = Decay(lambda w, c: COUPLED.exponent(w, c) - w.few / 2, COUPLED.convention)
AFTER_NORMALISING = Decay(
    lambda w, c: w.size - w.few / 2,
    "weight decay joins the update after Adam has normalised it (wd*W) and before it is scaled to the norm of W: "
    "wd ~ n^b keeps it in proportion",
)
SCALED_WITH_THE_RATE = Decay(
    lambda w, c: c + w.size,
    "weight decay is multiplied by the learning rate as scaled by rms(W) (transformers subtracts lr*rms(W)*wd*W): "
    "wd ~ n^(c+b) keeps the product constant",
)

# -- where epsilon stands ----------------------------------------------------------------------------

BESIDE_GRADIENT = Epsilon(
    lambda w: w.gradient, "eps stands beside the root of the squared gradient: eps ~ n^g keeps it in proportion"
)
#: LAMB: what epsilon takes from the update, the scaling to the norm of W gives back.
BESIDE_GRADIENT_RESCALED = Epsilon(BESIDE_GRADIENT.exponent, BESIDE_GRADIENT.convention, ZERO)
BESIDE_SQUARE = Epsilon(
    lambda w: w.gradient * 2,
    "eps stands beside the squared gradient, inside the root, and also starts the update: eps ~ n^(2g)",
    ZERO,
    HALF,
)
INSIDE_ROOT = Epsilon(
    lambda w: w.gradient * 2, "eps stands beside the squared gradient, inside the root: eps ~ n^(2g)", HALF
)
BESIDE_NORM = Epsilon(
    lambda w: w.norm,
    "eps stands beside the Frobenius norm of the gradient: eps ~ n^(g + entries/2) keeps it in proportion",
)
BESIDE_GRAM = Epsilon(
    lambda w: w.norm * 2,
    "eps is added to the sums of G G^T and G^T G, whose largest eigenvalue is the squared Frobenius norm of the "
    "gradient: eps ~ n^(2g + entries)",
    HALF,
)

# -- the registry ------------------------------------------------------------------------------------

#: Name -> law; user's own are added by :func:`optimizer`.
LAWS: dict[str, UpdateLaw] = {}

DECAYS = {"decoupled": DECOUPLED, "independent": INDEPENDENT, "linear": LINEAR, "coupled": COUPLED}
EPSILONS = {"gradient": BESIDE_GRADIENT, "norm": BESIDE_NORM}


def plain_name(name: str) -> str:
    """Names are told apart without case, and ``adam-atan2`` is ``adam_atan2``."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def register(law: UpdateLaw) -> UpdateLaw:
    """Enter a law under its name; raises DeriveError for a name that is taken or can't be written in a file."""
    law = replace(law, name=plain_name(law.name))
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", law.name):
        raise DeriveError(
            f"an update law cannot be called {law.name!r}; use at most 40 letters, digits and underscores"
        )
    if law.name in LAWS and not same_place(LAWS[law.name].update, law.update):
        raise DeriveError(f"there is an update law called {law.name!r} already; choose another name")
    LAWS[law.name] = law
    return law


def optimizer(
    name: str,
    *,
    decay: Union[str, Decay] = "decoupled",
    eps: Union[str, Epsilon, None] = None,
    source: str = "declared by the user",
    note: str = "",
) -> Callable[[Callable[[WeightView], Exact]], UpdateLaw]:
    """Decorator that declares the update law of an optimizer: a function from a :class:`WeightView` to the order ``u``.

    ::

        @tpcalc.optimizer("sign_of_root", decay="decoupled")
        def sign_of_root(w):
            return w.gradient / 2          # entries of one unit-lr update ~ n^(g/2)

    ``decay``: ``decoupled`` (lr*wd*W is subtracted), ``independent`` (wd*W is, whatever the rate), ``linear`` (enters
    the gradient, the update is linear in it), ``coupled`` (enters the gradient before it is normalised), or a
    :class:`Decay`.  ``eps``: ``gradient`` (beside the root of the squared gradient), ``norm`` (beside its Frobenius
    norm), None, or an :class:`Epsilon`.  The name then
    works in ``derive``, on the command line (``--plugin``) and, with :func:`tpcalc.declare_optimizer`, in ``verify``.

    Raises DeriveError for a name that is taken, or words that mean nothing.
    """
    for word, known, what in ((decay, DECAYS, "decay"), (eps, EPSILONS, "eps")):
        if isinstance(word, str) and word not in known:
            raise DeriveError(f"{what}={word!r} means nothing here; choose one of {', '.join(map(repr, known))}")

    def declare(update: Callable[[WeightView], Exact]) -> UpdateLaw:
        return register(
            UpdateLaw(
                name,
                update,
                DECAYS[decay] if isinstance(decay, str) else decay,
                EPSILONS[eps] if isinstance(eps, str) else eps,
                source,
                note,
            )
        )

    return declare
