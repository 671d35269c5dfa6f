"""The sentences under the table: what was assumed, what could not be told apart, what shares a rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, max_order, order
from tpcalc.algebra.text import power_text
from tpcalc.derive.depth import depth_notes
from tpcalc.derive.rates import Needs, views
from tpcalc.derive.result import Rule
from tpcalc.derive.solve import Solution
from tpcalc.optimizers import UpdateLaw
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import Normalise


def notes(solution: Solution, rules: Mapping[str, Rule], laws: Sequence[UpdateLaw]) -> tuple[str, ...]:
    """All of them; ``laws``: those that train some weight."""
    weights, leaves = solution.lowered.program.weights, solution.lowered.leaves_of
    whole = [w.name for w in weights if len(leaves[w.name]) == 1 and any(size.is_mixed for size in w.shape)]
    blurred = [
        w.name
        for w in weights
        if w.grad is not None
        and len(leaves[w.name]) > 1
        and all(leaf.grad == w.grad and leaf.bulk is None for leaf in leaves[w.name])
    ]
    sites = "gradients, and so the eps column, count on the multipliers that the sites above ask for"
    return (
        *([sites] if solution.sites else []),
        *(
            f"{name} has a packed axis whose blocks could not be told apart; it is treated as one block, "
            f"and where a few of its rows are taken apart, all have the exponents that those need"
            for name in whole
        ),
        *_shared_rates(solution, rules, laws),
        *(
            f"the gradients of the blocks of {name} could not be told apart: eps, and gradients upstream, are those of "
            f"the largest"
            for name in blurred
        ),
        *(
            f"{name} has no path to an output: its exponents are 0 and nothing was derived"
            for name in sorted(solution.unused)
        ),
        *(
            f"{w.name} is only read detached: it has rules, but no gradient that would train it"
            for w in weights
            if w.trainable and w.grad is None and w.name not in solution.unused and solution.lowered.program.grads
        ),
        *_vanishing(solution),
        *depth_notes(solution.lowered, solution.facts),
        *(law.note for law in laws if law.note),
    )


def _vanishing(solution: Solution) -> Iterator[str]:
    """Norms of what vanishes: a constant that is added to keep them from zero does not."""
    lowered = solution.lowered
    told: dict[str, str] = {}
    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        if not isinstance(s, Normalise) or atom.out not in solution.budgets.of:
            continue
        divided: Any = s.x
        fact = solution.facts[divided]
        size = max_order(fact.init, fact.trained)
        if fact.is_weight or not fact.data or size is MINUS_INFINITY or size >= 0:
            continue
        of, squared = (power_text(power, style="full") for power in (size, 2 * size))
        node = lowered.node(atom)
        told.setdefault(
            node.where,
            f"{node.short_op} ({node.where or 'line unknown'}) normalises what vanishes as {of}: an eps of its own "
            f"takes over at large widths; let it go as {squared} beside the square, as {of} beside the norm",
        )
    yield from told.values()


def conventions(laws: Sequence[UpdateLaw]) -> tuple[str, ...]:
    """How decay and epsilon are meant; of several laws with the name of each."""
    told: dict[str, list[str]] = {}
    for law in laws:
        for sentence in law.conventions:
            told.setdefault(sentence, []).append(law.name)
    return tuple(
        sentence if len(names) == len(laws) else f"{', '.join(names)}: {sentence}" for sentence, names in told.items()
    )


def _shared_rates(solution: Solution, rules: Mapping[str, Rule], laws: Sequence[UpdateLaw]) -> Iterator[str]:
    """One sentence for all packed weights whose blocks stand alike."""
    by_name = {law.name: law for law in laws}
    alike: dict[str, list[str]] = {}
    for weight in solution.lowered.program.weights:
        rule = rules[weight.name]
        sentence = _shared_rate(solution, weight, rule, by_name[rule.optimizer]) if rule.slices else None
        if sentence is not None and weight.trainable:
            alike.setdefault(sentence, []).append(weight.name)
    for sentence, names in alike.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{', '.join(names[:3])}{more}: {sentence}"


def _shared_rate(solution: Solution, weight: Weight, rule: Rule, law: UpdateLaw) -> Optional[str]:
    """What the blocks share, which ones are slow for it, the remedy; None where the common rate is maximal for all."""
    found = solution.blocks_of(weight)
    seen = views(solution, solution.applied, found)
    c, a = order(rule.c), order(rule.a)
    slow = {id(need) for need, view in seen if law.C(c, view.at(a), a) > need.C}

    def spans(pairs: Needs) -> str:
        texts = [leaf.name.removeprefix(weight.name) for leaf, _ in pairs]
        return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))

    behind = [pair for pair in found if id(pair[1]) in slow]
    if not behind:
        return None
    shared = "weight decay" if rule.eps is None else "eps and weight decay"
    text = (
        f"the blocks {spans(found)} have each their own init but share one learning rate, the smallest (and {shared}), "
        f"so that {spans(behind)} learn{'s' * (len(behind) == 1)} slower than maximal; split the parameter to give "
        f"each its own"
    )
    largest = max((need for _, need in found), key=lambda need: need.C)
    site = largest.demand.excess_at
    if site is not None and largest.shift < 0:
        op, power = solution.lowered.node(site).short_op, power_text(largest.shift, style="full")
        text += f", or multiply the result of {op} by {power} in the forward pass (attention logits: 1/d for 1/sqrt(d))"
    return text
