"""What sources say of batch size and training length, as powers of ratios of the target to the base.

``kappa_B``: of the batch sizes, ``kappa_D``: of the tokens (examples) of the whole run, ``kappa_N``: of the numbers of
parameters.  Steps follow, as kappa_D/kappa_B.  Where sources contradict one another, each rule says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Optional

__all__ = ["EXPONENTS", "RATIOS", "RULES", "STEPS", "Effect", "Powers", "Published"]

#: Names of the ratios, in formulas.
RATIOS = ("kappa_B", "kappa_D", "kappa_N")


@dataclass(frozen=True)
class Powers:
    """``kappa_B^batch kappa_D^tokens kappa_N^parameters``, with exact exponents."""

    batch: Fraction = Fraction(0)
    tokens: Fraction = Fraction(0)
    parameters: Fraction = Fraction(0)

    @property
    def by_name(self) -> dict[str, Fraction]:
        """Those that are not 0, by the names of the ratios."""
        return {name: power for name, power in zip(RATIOS, vars(self).values()) if power}

    @property
    def expr(self) -> Any:
        """As a sympy expression in positive symbols."""
        import sympy

        factors = (
            sympy.Symbol(name, positive=True) ** sympy.Rational(power.numerator, power.denominator)
            for name, power in self.by_name.items()
        )
        return sympy.prod(factors)

    def __sub__(self, other: Powers) -> Powers:
        return Powers(self.batch - other.batch, self.tokens - other.tokens, self.parameters - other.parameters)


@dataclass(frozen=True)
class Effect:
    """What the hyperparameters of one update law are multiplied by.

    ``decayed``: of lr*wd, the part of a weight that one step takes off; None where the source has no weight decay.
    """

    lr: Powers = Powers()
    decayed: Optional[Powers] = Powers()
    eps: Powers = Powers()
    one_minus_beta: Powers = Powers()
    source: str = ""


@dataclass(frozen=True)
class Published:
    """A rule.  ``effect``: law, exponent of the length -> what it does; ``laws``: those the source is about, by name,
    None for any.  ``exponent``: its default where the rule has one.  ``fixed_tokens``: why the length may not change.
    """

    name: str
    source: str
    effect: Callable[[str, Fraction], Effect]
    laws: Optional[tuple[str, ...]]
    exponent: Optional[Fraction] = None
    fixed_tokens: str = ""
    notes: tuple[str, ...] = ()
    contradicted: tuple[str, ...] = field(default=())


HALF = Fraction(1, 2)
STEPS = Powers(batch=Fraction(-1), tokens=Fraction(1))
#: 1 / steps: what keeps an average over a part of the run, tau = B/(lr wd D), that part.
PER_RUN = Powers(batch=Fraction(1), tokens=Fraction(-1))
#: Power Lines, eq. 3: the best tau ~ TPP^-0.527, TPP = tokens per parameter.
TPP = Fraction(527, 1000)

#: p in "lr ~ kappa_D^-p at a given batch size" -> who published it.
EXPONENTS: Mapping[Fraction, str] = {
    HALF: "Complete(d)P (2512.22382), Complete-muE (2605.23893)",
    Fraction(1, 3): "nuGPT",
    Fraction(8, 25): "Bjorck et al. (2409.19913), HyperP",
    Fraction(3, 10): "AdamH",
    Fraction(0): "Power Lines (2505.13738), Wang & Aitchison (2405.13698)",
}
_LENGTHS = "lr ~ kappa_D^-p at a given batch size: p = " + "; ".join(
    f"{text}, {EXPONENTS[Fraction(text)]}" for text in ("1/2", "1/3", "0.32", "0.3", "0")
)
_MORE_DECAY = (
    "Power Lines (2505.13738) keeps lr and gives wd all of kappa_B/kappa_D, times (TPP'/TPP)^0.527; the product lr*wd "
    "agrees but for the last factor"
)


def _completed(law: str, p: Fraction) -> Effect:
    """The SDE of RMSPropW; of the two that keep lr*wd*T, any p leaves wd the rest (iso-horizon)."""
    lr = Powers(batch=HALF, tokens=-p)
    return Effect(lr, PER_RUN, eps=Powers(batch=-HALF, tokens=HALF), one_minus_beta=PER_RUN)


def _malladi(law: str, p: Fraction) -> Effect:
    if law == "sgd":
        linear = Powers(batch=Fraction(1))
        return Effect(linear, linear, source="the linear rule of SGD: Goyal et al. 2017 (1706.02677)")
    return Effect(Powers(batch=HALF), None, Powers(batch=-HALF), Powers(batch=Fraction(1)))


def _power_lines(law: str, p: Fraction) -> Effect:
    return Effect(decayed=Powers(Fraction(1), TPP - 1, -TPP))


RULES: Mapping[str, Published] = {
    rule.name: rule
    for rule in (
        Published(
            "completed-p",
            "Mlodozeniec et al. 2025, Complete(d)P (arXiv 2512.22382), Table 1 and the SDE of RMSPropW; Complete-muE "
            "(arXiv 2605.23893) agrees",
            _completed,
            ("adamw", "adam", "rmsprop"),
            exponent=HALF,
            notes=(
                "at fixed tokens the SDE is kept; at a fixed batch size only lr*wd*T and averages as parts of the run "
                "are, and the ratio of signal to noise moves (the paper's iso-horizon rule)",
            ),
            contradicted=(
                _MORE_DECAY,
                _LENGTHS,
                "ArchScale (muP++) scales 1 - beta2 and not 1 - beta1, and as 'sdew' keeps lr, with wd and 1 - beta2 "
                "~ sqrt(kappa_B)",
            ),
        ),
        Published(
            "power-lines",
            "Bergsma et al. 2025, Power Lines (arXiv 2505.13738): tau = B/(lr wd D) ~ TPP^-0.527, TPP = D/N",
            _power_lines,
            ("adamw",),
            notes=("N counts every parameter of the model once, embeddings too",),
            contradicted=(
                "Complete(d)P (2512.22382) multiplies lr and wd by sqrt(kappa_B/kappa_D) each, eps and 1 - beta too",
                "Wang & Aitchison (2405.13698) find the best tau constant, so without the factor (TPP'/TPP)^0.527",
            ),
        ),
        Published(
            "wang-aitchison",
            "Wang & Aitchison 2024 (arXiv 2405.13698): the timescale 1/(lr wd) of AdamW is a constant part of the run",
            lambda law, p: Effect(decayed=PER_RUN),
            ("adamw",),
            notes=("they count it in epochs; as a part of the run it is the same where both ends take as many epochs",),
            contradicted=(
                "Power Lines (2505.13738) finds that the best tau falls as TPP^-0.527, TPP = tokens per parameter",
                "Complete(d)P (2512.22382) multiplies lr and wd by sqrt(kappa_B/kappa_D) each, eps and 1 - beta too",
            ),
        ),
        Published(
            "malladi",
            "Malladi et al. 2022 (arXiv 2205.10287): the square root rule, from the SDEs of RMSprop and Adam",
            _malladi,
            ("adam", "adamw", "rmsprop", "sgd"),
            fixed_tokens="it keeps the number of examples, and so takes 1/kappa_B as many steps",
            notes=("derived where the noise of the gradient is larger than the gradient, as in small batches",),
            contradicted=(
                "Complete(d)P (2512.22382) multiplies wd by sqrt(kappa_B) as well",
                "Power Lines (2505.13738) keeps lr and multiplies wd by kappa_B",
            ),
        ),
        Published("none", "no rule: hyperparameters stay as they are", lambda law, p: Effect(), None),
    )
}
