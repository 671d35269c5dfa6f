"""Update laws: the order of one unit-learning-rate update of an entry, and what follows for lr, eps and decay.

With ``C`` the effective update order (entries of dW ~ n^-C), ``g`` the order of the gradient and ``u`` that of a
unit-lr update (all at a = 0), the learning rate is ``~ n^-c`` with ``c = C + u``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Optional

from tpcalc.errors import DeriveError
from tpcalc.order import MINUS_INFINITY, ZERO, Order


@dataclass(frozen=True)
class UpdateLaw:
    """How an optimizer turns gradients into updates.

    ``update(g, A)``: order ``u`` of one unit-lr update.  ``eps(g)``: exponent of epsilon, None without one.
    ``decay(g, b, c)``: exponent of the weight-decay coefficient.  ``shift``: how ``c`` moves per unit of ``a`` along
    the abc orbit (2 for SGD, 1 for Adam).  ``source``: where the law is published.
    """

    name: str
    update: Callable[[Order, Fraction], Order]
    eps: Callable[[Fraction], Optional[Fraction]]
    decay: Callable[[Fraction, Fraction, Fraction], Fraction]
    decay_convention: str
    shift: int
    source: str


DECOUPLED = "weight decay is decoupled (torch subtracts lr*wd*W): wd ~ n^c keeps lr*wd constant"
LINEAR = "weight decay enters the gradient (wd*W); the update is linear in it, so wd ~ n^c keeps lr*wd constant"
COUPLED = "weight decay enters the gradient before Adam normalises it (wd*W): wd ~ n^(g+b) keeps it in proportion to the gradient"

SGD = UpdateLaw(
    "sgd",
    lambda g, A: g,
    lambda g: None,
    lambda g, b, c: c,
    LINEAR,
    2,
    "Yang & Hu 2021 (TP4), Section 3; Yang et al. 2022 (TP5), Table 3",
)
ADAM = UpdateLaw(
    "adam",
    lambda g, A: ZERO,
    lambda g: g,
    lambda g, b, c: g + b,
    COUPLED,
    1,
    "Yang & Littwin 2023 (TP4b), Table 1; Yang et al. 2022 (TP5), Table 3 and Appendix B.3",
)
ADAMW = UpdateLaw(
    "adamw",
    lambda g, A: ZERO,
    lambda g: g,
    lambda g, b, c: c,
    DECOUPLED,
    1,
    "Yang & Littwin 2023 (TP4b), Table 1; Yang et al. 2022 (TP5), Appendix B.3",
)


def _adam_like(name: str, source: str, decoupled: bool = False, eps: bool = True) -> UpdateLaw:
    """Entries of the update are of order 0 whatever the gradient: it is divided by its own size, or only its sign is
    kept.
    """
    return UpdateLaw(
        name,
        lambda g, A: ZERO,
        (lambda g: g) if eps else (lambda g: None),
        (lambda g, b, c: c) if decoupled else (lambda g, b, c: g + b),
        DECOUPLED if decoupled else COUPLED,
        1,
        source,
    )


def _relative(name: str, source: str) -> UpdateLaw:
    """The update is scaled to the size of the weight itself: of order -A."""
    return UpdateLaw(name, lambda g, A: -A, lambda g: None, lambda g, b, c: c, DECOUPLED, 0, source)


ENTRYWISE = "Yang & Littwin 2023 (TP4b), Section 2: an entrywise update of degree 0 in the gradient"
ASGD = UpdateLaw(
    "asgd",
    SGD.update,
    SGD.eps,
    SGD.decay,
    LINEAR,
    2,
    "Polyak & Juditsky 1992: SGD whose iterates are averaged; " + SGD.source,
)
RMSPROP = _adam_like("rmsprop", "Tieleman & Hinton 2012; " + ENTRYWISE)
ADAGRAD = _adam_like("adagrad", "Duchi, Hazan & Singer 2011; " + ENTRYWISE)
ADADELTA = _adam_like("adadelta", "Zeiler 2012, with a width-independent epsilon; " + ENTRYWISE, eps=False)
ADAMAX = _adam_like("adamax", "Kingma & Ba 2015, Section 7.1; " + ENTRYWISE)
NADAM = _adam_like("nadam", "Dozat 2016; " + ENTRYWISE)
NADAMW = _adam_like(
    "nadamw", "Dozat 2016 with the decoupled decay of Loshchilov & Hutter 2019; " + ENTRYWISE, decoupled=True
)
RADAM = _adam_like("radam", "Liu et al. 2020; " + ENTRYWISE)
RADAMW = _adam_like(
    "radamw", "Liu et al. 2020 with the decoupled decay of Loshchilov & Hutter 2019; " + ENTRYWISE, decoupled=True
)
RPROP = _adam_like("rprop", "Riedmiller & Braun 1993, only signs of the gradient; " + ENTRYWISE, eps=False)
SIGN = _adam_like("sign", "Bernstein et al. 2018 (signSGD); " + ENTRYWISE, decoupled=True, eps=False)
LION = _adam_like(
    "lion", "Chen et al. 2023, the sign of a momentum, decoupled decay; " + ENTRYWISE, decoupled=True, eps=False
)
ADAFACTOR = _relative(
    "adafactor", "Shazeer & Stern 2018, Section 8 (relative step size): the update is scaled by rms(W)"
)
LAMB = _relative("lamb", "You et al. 2020, Algorithm 2: the update is scaled to the norm of W")
LARS = _relative("lars", "You, Gitman & Ginsburg 2017: the update is scaled to the norm of W")

MUON_FACTORS = ("original", "match_rms_adamw")


def muon_law(rows: Fraction, columns: Fraction, adjust: str = "original") -> UpdateLaw:
    """Muon's law for one matrix whose rows and columns have these growths.

    The update is orthogonal, of spectral norm 1: on aligned inputs it acts like entries of order ``-(rows +
    columns)/2``.  torch multiplies it by ``sqrt(max(1, rows/columns))`` (``original``) or ``0.2 sqrt(max(rows,
    columns))`` (``match_rms_adamw``). Epsilon guards the Frobenius norm of the gradient.
    """
    if adjust not in MUON_FACTORS:
        raise DeriveError(f"Muon's shape factor {adjust!r} is unknown; choose one of {', '.join(MUON_FACTORS)}")
    factor = max(ZERO, rows - columns) / 2 if adjust == "original" else max(rows, columns) / 2
    half = (rows + columns) / 2
    return UpdateLaw(
        "muon" if adjust == "original" else f"muon ({adjust})",
        lambda g, A: factor - half,
        lambda g: g + half,
        lambda g, b, c: c,
        DECOUPLED,
        1,
        "Jordan et al. 2024 (Muon); Yang, Simon & Bernstein 2023 (spectral condition); Liu et al. 2025 (match_rms_adamw)",
    )


LAWS = {
    law.name: law
    for law in (
        SGD,
        ADAM,
        ADAMW,
        ASGD,
        RMSPROP,
        ADAGRAD,
        ADADELTA,
        ADAMAX,
        NADAM,
        NADAMW,
        RADAM,
        RADAMW,
        RPROP,
        SIGN,
        LION,
        ADAFACTOR,
        LAMB,
        LARS,
    )
}


def update_law(name: str) -> UpdateLaw:
    """The law of the optimizer ``name``; raises DeriveError for an unknown one."""
    law = LAWS.get(name.lower())
    if law is None:
        raise DeriveError(f"optimizer {name!r} has no update law here; choose one of {', '.join(sorted(LAWS))}")
    return law


def finite(order: Order) -> Fraction:
    """An order as a number; a zero gradient counts as order 0."""
    return ZERO if order is MINUS_INFINITY else order
