"""One published rule between two ends: exact powers, and the factors that they come to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.roots import power_product
from tpcalc.errors import ScalingError
from tpcalc.horizon.rules import EXPONENTS, RULES, STEPS, Effect, Powers, Published
from tpcalc.optimizers import COUPLED, DECOUPLED, INDEPENDENT, LINEAR, LiveRecipe, Recipe, UpdateLaw

__all__ = ["Chosen", "Ends", "Horizon", "assume", "assume_run", "chosen", "lowering"]

#: Between these a factor is one: products of a few are still floats.
LEAST, MOST = 1e-100, 1e100

#: At the base and at the target.
Ends = tuple[Fraction, Fraction]
_SAME: Ends = (Fraction(1), Fraction(1))
_DECAYS = (DECOUPLED, INDEPENDENT, LINEAR, COUPLED)


@dataclass(frozen=True)
class Chosen:
    """A rule and, where it has one, the exponent of its length: formulas, without ends."""

    rule: Published
    exponent: Optional[Fraction] = None

    def check(self, how: Recipe) -> None:
        """Raise ScalingError where the source says nothing of an optimizer."""
        if isinstance(how, LiveRecipe) and self.rule.laws is not None:
            raise ScalingError(
                f"{self.rule.name} is published for {_listed(self.rule.laws)}, and an optimizer that is read by "
                f"running it shows its orders and not how it averages noise; give it by name, as --optimizer adamw"
            )
        for law in how.laws if self.rule.laws is not None else ():
            self.check_law(law)

    def check_law(self, law: UpdateLaw) -> None:
        """Raise ScalingError where the source says nothing of a law."""
        if self.rule.laws is None:
            return
        if law.name not in self.rule.laws:
            others = [name for name, rule in RULES.items() if law.name in (rule.laws or ())]
            remedy = f"choose {_listed(others, 'or')}" if others else "leave the batch size and the length out"
            of = f"no published rule for {law.name}" if not others else f"its source says nothing of {law.name}"
            raise ScalingError(f"{self.rule.name}: {of} (it is about {_listed(self.rule.laws)}); {remedy}")
        if law.decay not in _DECAYS:
            raise ScalingError(
                f"{self.rule.name}: no published rule for {law.name} with a weight decay of its own; declare it as "
                f"decoupled or independent"
            )

    def effect(self, law: UpdateLaw) -> Effect:
        return self.rule.effect(law.name, self.exponent or Fraction(0))

    def weight_decay(self, law: UpdateLaw) -> Powers:
        """Of the coefficient that the optimizer is given: lr*wd is what a step takes off, or wd if it is independent;
        in a gradient that is normalised after, it is a term of the loss, of which no rule speaks."""
        effect = self.effect(law)
        if effect.decayed is None or law.coupled:
            return Powers()
        return effect.decayed if law.decay == INDEPENDENT else effect.decayed - effect.lr

    def quantities(self, law: UpdateLaw) -> dict[str, Powers]:
        """What each hyperparameter is multiplied by."""
        effect = self.effect(law)
        found = {"lr": effect.lr, "weight_decay": self.weight_decay(law)}
        if law.eps is not None:
            found["eps"] = effect.eps
        return {**found, "one_minus_beta": effect.one_minus_beta}

    def notes(self, law: UpdateLaw) -> Iterator[str]:
        """What is to be known of a law under this rule."""
        effect = self.effect(law)
        if effect.source:
            yield f"{law.name}: {effect.source}"
        if effect.decayed is None:
            yield f"{law.name}: the source has no weight decay, which is left as it is"
        elif law.coupled and effect.decayed != Powers():
            yield f"{law.name}: weight decay enters the gradient, as a term of the loss, and is left as it is"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be known of the rule, for all laws."""
        if self.exponent is None:
            return self.rule.notes
        by = EXPONENTS.get(self.exponent, "by no source that is known here")
        of = f"lr ~ kappa_D^-p with p = {self.exponent}: {by}"
        if self.exponent != self.rule.exponent:
            of += "; wd takes the rest of lr*wd*T (iso-horizon), eps and 1 - beta stay those of Complete(d)P"
        return (*self.rule.notes, of)


@dataclass(frozen=True)
class Horizon(Chosen):
    """What is assumed between a base and a target.  ``parameters``: of the models there, where they are known;
    ``said``: what is to be known of these ends."""

    batch: Ends = _SAME
    tokens: Ends = _SAME
    parameters: Optional[Ends] = None
    said: tuple[str, ...] = ()

    @property
    def ratios(self) -> tuple[Fraction, Fraction, Fraction]:
        """Target over base: kappa_B, kappa_D, kappa_N."""
        batch, tokens, parameters = (end[1] / end[0] for end in (self.batch, self.tokens, self.parameters or _SAME))
        return batch, tokens, parameters

    @property
    def steps(self) -> float:
        """Steps of the target over those of the base."""
        return self.factor(STEPS)

    def factor(self, powers: Powers) -> float:
        """Evaluated once: 1.0 exactly where the ends agree.

        Raises ScalingError where numbers of parameters are needed and not known, or no float can hold it.
        """
        if powers.parameters and self.parameters is None:
            raise ScalingError(f"{self.rule.name} needs the numbers of parameters at both ends")
        found = power_product(list(zip(self.ratios, vars(powers).values())))
        if not LEAST < found < MOST:
            raise ScalingError(f"{self.rule.name}: a factor of {found!r} is none; give ends nearer to one another")
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        return (*super().remarks, *self.said)

    def at(self, base: int, target: int) -> Horizon:
        """With the numbers of parameters of the models at both ends."""
        return replace(self, parameters=(Fraction(base), Fraction(target)))

    def lasting(self, base: int, target: int) -> Horizon:
        """With the tokens that so many steps of the batches come to, in the unit of these."""
        said = "no tokens are given: they are counted in steps, times the batch sizes where these are given"
        return replace(self, tokens=(base * self.batch[0], target * self.batch[1]), said=(*self.said, said))

    def found_in(self, steps: int, of: int) -> Horizon:
        """From the run in which hyperparameters were found, of ``steps`` steps, where the base's has ``of``.

        All factors are then those from that run to the target's; a rule that has no law of the length stays as it is.
        """
        if steps == of:
            return self
        run = f"the numbers were found in a run of {steps} steps, where the base's has {of}"
        if self.rule.fixed_tokens:
            said = f"{run}: for that there is no law here, and factors are those of the batch"
            return replace(self, said=(*self.said, said))
        tokens = self.tokens[0] * Fraction(steps, of), self.tokens[1]
        said = f"{run}: tokens at the base are those of the shorter one"
        return replace(self, tokens=tokens, said=(*self.said, said))


def chosen(name: str, exponent: Any = None) -> Chosen:
    """The rule called ``name``; ``exponent``: p in "lr ~ kappa_D^-p", of a rule that has it.

    Raises ScalingError.
    """
    rule = RULES.get(name)
    if rule is None:
        raise ScalingError(f"horizon {name!r} is no rule that is known; choose one of {', '.join(RULES)}")
    if exponent is None:
        return Chosen(rule, rule.exponent)
    if rule.exponent is None:
        raise ScalingError(
            f"horizon {name} has no exponent to choose; leave --horizon-exponent out, or take completed-p"
        )
    remedy = "give one from 0 to 1 with at most three digits, as 1/2 or 0.32"
    p = _number(exponent, "--horizon-exponent", remedy)
    if not 0 <= p <= 1 or p.denominator > 1000:
        raise ScalingError(f"--horizon-exponent {exponent} is no exponent of the length; {remedy}")
    return Chosen(rule, p)


def assume_run(
    horizon: Optional[str], batch: Any, tokens: Any, exponent: Any, steps: int, target_steps: Optional[int]
) -> Optional[Horizon]:
    """What is assumed between a run of ``steps`` steps and one at the target, as :func:`assume` has it; where tokens
    are left out, these follow from steps that are given and from the batch sizes, which without any are equal.

    Raises what :func:`assume` raises.
    """
    rule = RULES.get(horizon or "")
    if rule is None or rule.fixed_tokens or tokens is not None or (batch is not None and target_steps is None):
        return assume(horizon, batch, tokens, exponent)
    found = assume(horizon, batch, _SAME, exponent)
    return None if found is None else found.lasting(steps, target_steps or steps)


def assume(
    horizon: Optional[str], batch: Any = None, tokens: Any = None, exponent: Any = None, how: Optional[Recipe] = None
) -> Optional[Horizon]:
    """What is assumed; None where nothing is said.  ``batch``, ``tokens``: each the base's and the target's, as a pair
    or as text, ``64:1024``; one that is left out stays as it is.  ``how``: what is trained with it.

    Raises ScalingError where one is no pair of positive numbers, the rule is unknown or needs what is not given, or its
    source says nothing of the optimizer.
    """
    names = ", ".join(RULES)
    given = {"--batch": batch, "--tokens": tokens}
    said = [option for option, pair in given.items() if pair is not None]
    if horizon is None:
        if said or exponent is not None:
            option = said[0] if said else "--horizon-exponent"
            raise ScalingError(
                f"{option} is given and no rule by which hyperparameters follow it; add --horizon, one of {names}"
            )
        return None
    rule = chosen(horizon, exponent)
    if not said:
        raise ScalingError(
            f"--horizon {horizon} is given and neither a batch size nor a length; add --batch 64:1024, --tokens "
            f"1e9:2e11, or both, each at the base and at the target"
        )
    sizes, lengths = (_SAME if pair is None else _pair(pair, option) for option, pair in given.items())
    found = Horizon(rule.rule, rule.exponent, batch=sizes, tokens=lengths)
    found.factor(STEPS)  # ends that are too far from one another are refused before anything slow
    if found.rule.fixed_tokens and found.ratios[1] != 1:
        raise ScalingError(
            f"{horizon} has no law for a change of tokens: {found.rule.fixed_tokens}; leave --tokens out, or choose "
            f"completed-p"
        )
    if how is not None:
        found.check(how)
    return found


def lowering(laws: Collection[str]) -> tuple[str, ...]:
    """Rules that are published for all of these update laws, by name, and lower the rate of a longer run."""
    return tuple(
        name
        for name, rule in RULES.items()
        if rule.laws is not None
        and all(law in rule.laws and rule.effect(law, rule.exponent or Fraction(0)).lr.tokens < 0 for law in laws)
    )


def _pair(given: Any, option: str) -> Ends:
    example = "64:1024" if option == "--batch" else "1e9:2e11"
    remedy = f"give two positive numbers, of the base and of the target, as {option} {example}"
    parts: Sequence[Any] = given.split(":") if isinstance(given, str) else given
    if not isinstance(parts, (list, tuple)) or len(parts) != 2 or not all(str(part).strip() for part in parts):
        raise ScalingError(f"{option} {given} is no pair; {remedy}")
    base, target = (_number(part, option, remedy) for part in parts)
    for number in (base, target):
        if not 0 < number <= 10**30:
            raise ScalingError(f"{option} {given} holds {float(number):g}; {remedy}")
    return base, target


def _number(given: Any, option: str, remedy: str) -> Fraction:
    """Exactly; ``0.32`` as text, or as the float nearest to it, is 8/25."""
    text = repr(float(given)) if isinstance(given, float) else str(given)
    try:
        if isinstance(given, bool) or len(text) > 40 or abs(int((text.lower().split("e") + ["0"])[1])) > 40:
            raise ValueError
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ScalingError(f"{option} {text[:40]} is no number; {remedy}") from None


def _listed(names: Union[Sequence[str], tuple[str, ...]], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
