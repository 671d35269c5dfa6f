"""Drifts: weight decay and epsilon that lose or gain weight against the update as the width grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Optional

from tpcalc.algebra.order import MINUS_INFINITY, Order, max_order
from tpcalc.calculus.weights import gradient_order
from tpcalc.optimizers import DECOUPLED, INDEPENDENT, LINEAR, UpdateLaw, finite
from tpcalc.probe import exponent
from tpcalc.program.ir import Weight
from tpcalc.program.names import fold_names
from tpcalc.verify import words
from tpcalc.verify.case import Case
from tpcalc.verify.effective import Effective
from tpcalc.verify.findings import DECAY, EPS, EPSILON, FROZEN, VANISHES, WEIGHT_DECAY, Fix
from tpcalc.verify.grouping import Item
from tpcalc.verify.words import say


def _moving(case: Case) -> Iterator[tuple[Weight, Effective, UpdateLaw, Order]]:
    """Weights that an output depends on and that have a gradient, with their law and the exponent c of their rate."""
    for weight in case.program.weights:
        own = case.given[weight.name]
        used = weight.name not in case.solution.unused and case.gradient(weight) is not MINUS_INFINITY
        if used and own.law is not None and own.c is not None:
            yield weight, own, own.law, own.c


def decay_drifts(case: Case) -> Iterator[Item]:
    """Weight decay that changes against the update."""
    for weight, own, law, c in _moving(case):
        found, by_rate = own.weight_decay, law.decay in (DECOUPLED, LINEAR)
        needed = c if by_rate else _balanced(case, weight, law, c)
        if found is None or needed is None or found == needed or (by_rate and found in _right_rates(case, weight)):
            continue
        sentence, more = words.DECAY_BY_UPDATE, ""
        if by_rate:
            sentence, more = words.DECAY_BY_RATE, words.SO_CONSTANT
        elif law.decay == INDEPENDENT:
            sentence, more = words.DECAY_BY_ITSELF, words.AS_IT_IS
        elif law.coupled:
            sentence, more = words.DECAY_BY_GRADIENT, words.OR_DECOUPLED
        text = say(sentence, convention=law.decay.convention.partition(":")[0], off=found - needed)
        fix = say(words.MAKE_DECAY, needed=needed) + more
        fixes = (Fix(weight.name, WEIGHT_DECAY, needed - found),)
        yield Item(DECAY, WEIGHT_DECAY, found, needed, found - needed, "", text, fix, (weight.name,), fixes=fixes)


def _balanced(case: Case, weight: Weight, law: UpdateLaw, c: Order) -> Optional[Order]:
    """The decay that keeps its place beside the gradient, at the present size of the weight; None for one of zero."""
    size = max_order(*(case.mended[leaf.value].trained for leaf in case.lowered.leaves_of[weight.name]))
    if size is MINUS_INFINITY:
        return None
    return law.decay.exponent(replace(case.view(weight, case.gradient(weight)), size=-finite(size)), c)


def _right_rates(case: Case, weight: Weight) -> set[Optional[Order]]:
    """Where a rate is wrong, decay that fits a right one is no second fault."""
    leaves = case.lowered.leaves_of[weight.name]
    return {case.repaired.c[leaf.name] for leaf in leaves} | {case.maximal_c(leaf) for leaf in leaves}


def eps_drifts(case: Case, found: Sequence[Item]) -> Iterator[Item]:
    """Epsilon that shrinks more slowly than what it is added to.

    A gradient that another fault ``found`` makes small is not held against it.
    """
    small = any(item.kind in (VANISHES, FROZEN) for item in found)
    starved = {item.weight for item in found if item.kind == VANISHES}
    for weight, own, law, _ in _moving(case):
        if own.eps is None or law.eps is None or weight.name in starved:
            continue
        gradient = case.gradient(weight)
        if small:
            gradient = max_order(gradient, gradient_order(weight.grad, case.maximal))
        needed = finite(law.eps.exponent(case.view(weight, gradient)))
        if own.eps > needed:
            then, by = "fades" if law.eps.power else "becomes another one", needed - own.eps
            sentence = words.EPS_LAGS if needed == gradient else words.EPS_WRONG
            text = say(sentence, gradient=gradient, needed=needed, found=own.eps, then=then)
            fix = say(words.SCALE_EPS, by=by)
            fixes = (Fix(weight.name, EPSILON, by),)
            yield Item(EPS, EPSILON, own.eps, needed, by, "", text, fix, (weight.name,), fixes=fixes)


def hidden_epsilons(case: Case) -> Iterator[str]:
    """Notes on epsilons in the code of optimizers that lag behind in the same way: no setting mends them."""
    found: dict[tuple[str, Order, str], list[str]] = {}
    for weight, own, _, _ in _moving(case):
        hidden = own.trained.seen.hidden if own.trained is not None and own.trained.seen is not None else None
        if hidden is not None and hidden.place is not None:
            needed = exponent(hidden.place, case.view(weight, case.gradient(weight)))
            if needed < 0:
                then = "fades" if hidden.fades else "becomes another one"
                found.setdefault((own.optimizer, needed, then), []).append(weight.name)
    for (optimizer, needed, then), names in found.items():
        yield say(words.HIDDEN_EPS, optimizer=optimizer, needed=needed, names=", ".join(fold_names(names)), then=then)


__all__ = ["decay_drifts", "eps_drifts", "hidden_epsilons"]
