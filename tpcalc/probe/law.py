"""From what was measured to an update law: the named one, if it says the same; else another that does; else its own.

A law says its exponents for any weight, a measurement for weights of one kind.  They are compared there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from tpcalc.algebra.form import Form
from tpcalc.algebra.order import MINUS_INFINITY, ONE, ZERO, Order
from tpcalc.algebra.text import power_text
from tpcalc.optimizers import (
    AFTER_NORMALISING,
    COUPLED,
    DECOUPLED,
    INDEPENDENT,
    LAWS,
    LINEAR,
    SCALED_WITH_THE_RATE,
    Decay,
    Epsilon,
    UpdateLaw,
    WeightView,
    finite,
    plain_name,
)
from tpcalc.probe.decay import Decayed
from tpcalc.probe.epsilon import Eps
from tpcalc.probe.measure import Measured
from tpcalc.probe.slopes import Powers

#: Laws that a measurement is compared with, the most common first.
COMMON = (
    "adamw", "adam", "sgd", "lion", "muon", "muon_match_rms_adamw", "muon_spectral", "lamb", "lars", "adafactor",
    "adafactor_transformers", "adafactor_absolute", "rmsprop", "shampoo", "adadelta",
)  # fmt: skip
PREFIX = "measured_"
MEASURED = "measured: steps of the optimizer itself on small made gradients (docs/optimizers.md, Probing)"


@dataclass(frozen=True)
class Found:
    """``law``; ``said``: its update in words; ``differs``: in what it is another than the hypothesis (``update``,
    ``decay``, ``eps``; empty: in nothing, or there was none)."""

    law: UpdateLaw
    said: str
    differs: str = ""


def _powers(of: Sequence[Order]) -> Powers:
    """Of a quantity at the views of order (0, 0), (g=1, 0), (0, b=1): ``n^x`` at growths, by gradient and by weight."""
    at_rest, by_gradient, by_size = of
    return Powers(by_gradient - at_rest, at_rest - by_size, at_rest)


def _views(growths: tuple[Order, ...]) -> tuple[WeightView, WeightView, WeightView]:
    rest = WeightView(ZERO, ZERO, growths)
    return rest, replace(rest, gradient=ONE), replace(rest, size=ONE)


def says_update(law: UpdateLaw, growths: tuple[Order, ...]) -> Powers:
    return _powers([law.unit(view) for view in _views(growths)])


def says_decay(law: UpdateLaw, growths: tuple[Order, ...]) -> Powers:
    views = _views(growths)
    found = _powers([law.decay.exponent(view, ZERO) for view in views])
    return found._replace(rate=found.ray - law.decay.exponent(views[0], ONE))


def says_eps(law: UpdateLaw, growths: tuple[Order, ...]) -> Optional[Eps]:
    if law.eps is None:
        return None
    return Eps(_powers([finite(law.eps.exponent(v)) for v in _views(growths)]), law.eps.power, law.eps.below)


def differs(law: UpdateLaw, seen: Measured, growths: tuple[Order, ...], decay: bool) -> str:
    """In what a law says something else than was measured; ``decay``: there too, where there is any."""
    if not _same_update(law, seen.update, growths):
        return "update"
    if decay and seen.decay is not None and says_decay(law, growths) != seen.decay.keeps:
        return "decay"
    if seen.eps_key is not None and seen.eps is not None and says_eps(law, growths) != seen.eps:
        return "eps"
    return ""


def _same_update(law: UpdateLaw, seen: Powers, growths: tuple[Order, ...]) -> bool:
    """Of a law whose updates are smaller on what it has seen, anything down to the least is its own."""
    says = says_update(law, growths)
    if law.least is None:
        return says == seen
    least = _powers([law.least(view) for view in _views(growths)])
    return says[:2] == seen[:2] and least.ray <= seen.ray <= says.ray


def law_of_measured(
    seen: Measured, growths: tuple[Order, ...], hypothesis: Optional[UpdateLaw], name: str, decay: bool
) -> Found:
    """The law that says what was measured; ``decay``: whether its decay matters (it is not 0)."""
    said = words(seen.update)
    off = "update" if hypothesis is None else differs(hypothesis, seen, growths, decay)
    if hypothesis is not None and off != "update":
        law = hypothesis
        if off == "decay":
            law = replace(law, name=_named(law.name), decay=decay_of(seen))
        if differs(law, seen, growths, decay):
            law = replace(law, name=_named(law.name), eps=_epsilon(seen.eps))
        return Found(law, said, off)
    for law in (LAWS[common] for common in COMMON):
        if not differs(law, seen, growths, decay) and _at_zero(law, seen, growths):
            return Found(law, said, off)
    return Found(_own(seen, _named(plain_name(name))), said, off)


def _named(name: str) -> str:
    """No law of the registry is called so."""
    return name if name.startswith(PREFIX) else PREFIX + name


def _at_zero(law: UpdateLaw, seen: Measured, growths: tuple[Order, ...]) -> bool:
    """Whether a law says what is done to a weight of zeros."""
    views = [replace(view, zero=True) for view in _views(growths)]
    return seen.zero is not None and _powers([law.unit(view) for view in views])[:3:2] == seen.zero[:3:2]


# -- a law of its own --------------------------------------------------------------------------------


def exponent(powers: Powers, w: WeightView, c: Order = ZERO) -> Order:
    """Of a quantity with these powers, at a weight and a rate ``~ n^-c``."""
    return powers.gradient * finite(w.gradient) - powers.size * w.size + powers.ray * _unit(w) - powers.rate * c


def _unit(w: WeightView) -> Order:
    """What the power of the size is meant of: of several scales the first, beside which no axis grows with another."""
    return next((axis.compass.unit(0) for axis in w.axes if isinstance(axis, Form)), ONE)


def _own(seen: Measured, name: str) -> UpdateLaw:
    zero = seen.zero

    def update(w: WeightView) -> Order:
        if not w.zero:
            return exponent(seen.update, w)
        return MINUS_INFINITY if zero is None else exponent(zero, w)

    return UpdateLaw(name, update, decay_of(seen), _epsilon(seen.eps), MEASURED)


#: How decay enters, by what keeps its share.
_DECAYS: dict[Powers, Decay] = {
    Powers(rate=-ONE): DECOUPLED,
    Powers(): INDEPENDENT,
    Powers(gradient=ONE, size=-ONE): COUPLED,
    Powers(size=-ONE): AFTER_NORMALISING,
    Powers(size=-ONE, rate=-ONE): SCALED_WITH_THE_RATE,
}


def decay_of(seen: Measured) -> Decay:
    found = seen.decay
    if found is None:
        return DECOUPLED
    if found.linear and found.keeps == Powers(rate=-ONE) and seen.update.gradient == 1:
        return LINEAR
    known = _DECAYS.get(found.keeps)
    return known or Decay(lambda w, c: exponent(found.keeps, w, c), _decay_words(found))


def _decay_words(found: Decayed) -> str:
    what = "its share of the weight constant" if found.linear else "it in proportion to the rest of the update"
    return f"weight decay, as measured: wd ~ {_symbols(found.keeps)} keeps {what}"


def _epsilon(eps: Optional[Eps]) -> Optional[Epsilon]:
    if eps is None:
        return None
    return Epsilon(
        lambda w: exponent(eps.place, w),
        f"eps, as measured: eps ~ {_symbols(eps.place)} keeps it in proportion",
        eps.power,
        eps.below,
    )


def _symbols(powers: Powers) -> str:
    parts = [(powers.gradient, "g"), (-powers.size, "b"), (-powers.rate, "c"), (powers.ray, "")]
    text = " + ".join(f"{x}" if not name else name if x == 1 else f"{x}*{name}" for x, name in parts if x)
    return f"n^({text or '0'})"


def words(update: Powers) -> str:
    """``gradient^1 * n^(-1/2)``"""
    parts = [
        f"{name}^{power}" if power != 1 else name
        for name, power in (("gradient", update.gradient), ("weight", update.size))
        if power
    ]
    parts += [power_text(update.ray, style="full")] if update.ray or not parts else []
    return " * ".join(parts)


__all__ = ["Found", "differs", "exponent", "law_of_measured", "words"]
