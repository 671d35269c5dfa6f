"""Models whose blocks repeat more often than they were traced: which value of theirs is which of the program.

A few periods of a stack are traced, and stand for any number.  What is measured of a stack is its middle: the period
(of an odd number the two) before and behind which as much is added to the stream.  It is counted under the first period
that was traced.  The first one would not do, as it meets a stream to which nothing was added yet; nor would all of
them: sizes that change along the stream have a mean over ``L`` periods that is off by 1/L of itself, a slope of 0.2
from 2 to 16 periods.  Values outside of stacks are those of the program.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, Order, max_order
from tpcalc.algebra.scales import Place, Point
from tpcalc.calculus.facts import Fact
from tpcalc.check.effects import Use
from tpcalc.check.predict import Prediction, compared
from tpcalc.check.seen import Seen
from tpcalc.check.sizes import arrangements
from tpcalc.errors import AlignError
from tpcalc.lower.lowered import Lowered
from tpcalc.program.ir import Node, Program
from tpcalc.program.raw import RawTrace
from tpcalc.program.repeat import Loop
from tpcalc.scaling.many import ManyScales
from tpcalc.trace.record import record
from tpcalc.trace.target import call_factory


@dataclass(frozen=True)
class Kinds:
    """What is counted as one in a program with loops: nodes, values and weights of one place of a period.

    ``alike``: name of each weight -> that of its twin in the first period.
    """

    program: Program
    alike: Mapping[str, str]

    @cached_property
    def stacks(self) -> tuple[Loop, ...]:
        """The loops of the program, in whole periods, without what only looks like a part of one: an op in front of the
        blocks or behind them may be one of theirs but for the weight that it reads."""
        names = {weight.value: self.weight[weight.name] for weight in self.program.weights}
        reads = [tuple(names[vid] for vid in node.refs if vid in names) for node in self.program.nodes]
        found = []
        for loop in self.program.repeats.loops:
            start, period, end = loop.start, loop.period, loop.end
            for index in range(start, start + period):
                if reads[index] != reads[index + period]:
                    start = index + 1
            end = next((i for i in range(start + period, end) if reads[i] != reads[i - period]), end)
            found.append(replace(loop, start=start, end=end - (end - start) % period))
        return tuple(found)

    def node(self, index: int) -> int:
        """The node at the same place of the first period; one that is in no stack is its own."""
        for stack in self.stacks:
            if stack.covers(index):
                return stack.start + stack.place(index)
        return index

    def repeats(self, index: int) -> bool:
        """Whether a node is one of a stack."""
        return any(stack.covers(index) for stack in self.stacks)

    @cached_property
    def value(self) -> dict[int, int]:
        """Value of the forward pass -> the one under which it is counted."""
        found: dict[int, int] = {}
        for node in self.program.nodes:
            if node.phase == "forward":
                first = self.program.nodes[self.node(node.index)]
                pairs = zip(node.outputs, first.outputs)
                found.update({own: of for own, of in pairs if own is not None and of is not None})
        return found

    @cached_property
    def weight(self) -> dict[str, str]:
        """Any name of a weight -> the first name of the weight under which it is counted."""
        first = {name: weight.name for weight in self.program.weights for name in weight.names}
        return {name: first[self.alike[name]] for name in first}

    def prediction(self, lowered: Lowered, found: Prediction) -> Prediction:
        """The same with the largest orders of all that is counted as one, and one of each kind to be compared."""
        facts = dict(found.facts)
        values = list(dict.fromkeys(self.value[vid] for vid in compared(lowered, found.facts)))
        for vid, of in self.value.items():
            facts[of] = _larger(facts[of], found.facts[vid])
        effects: dict[str, Order] = {}
        grads = {weight.name: weight.grad for weight in self.program.weights}
        for weight in self.program.weights:
            name = self.weight[weight.name]
            if weight.name in found.effects:
                effects[name] = max_order(effects.get(name, MINUS_INFINITY), found.effects[weight.name])
            gradient = grads[name]
            if weight.grad is not None and gradient is not None:
                facts[gradient] = _larger(facts[gradient], found.facts[weight.grad])
        twins = frozenset(weight.name for weight in self.program.weights if self.weight[weight.name] != weight.name)
        return replace(found, facts=facts, effects=effects, values=tuple(values), repeated=twins)


def _larger(fact: Fact, other: Fact) -> Fact:
    sizes = {key: max(getattr(fact, key), getattr(other, key)) for key in ("init", "trained", "change")}
    return fact._replace(**sizes)


class Repeated:
    """Finds what is seen of a ``model`` at the places of several scales.

    ``wanted``: the values of the program that are compared; ``uses``: of each weight that is.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        model: ManyScales,
        lowered: Lowered,
        kinds: Kinds,
        wanted: Collection[int],
        uses: Mapping[str, Sequence[Use]],
        loss: Optional[Callable[..., Any]],
    ) -> None:
        self.factory, self.model, self.lowered, self.kinds, self.loss = factory, model, lowered, kinds, loss
        self.wanted, self.uses, self.program = wanted, uses, lowered.program

    def __call__(self, place: Place) -> Seen:
        assert isinstance(place, Point)
        trace = record(partial(call_factory, self.factory, place), place, loss=self.loss, backward=False, sources=False)
        sources = self.model.periods.sources(self.model.built(place))
        kinds = {weight.value: self.kinds.weight[sources[weight.names[0]]] for weight in trace.weights}
        names = {weight.value: weight.names[0] for weight in trace.weights}
        own, like = self.nodes(place, trace)
        middle = self.middle(like)
        looked = [(own[index], like[index]) for index, kept in enumerate(middle) if kept]
        same = {
            vid: of
            for node, twin in looked
            for vid, of in zip(node.outputs, twin.outputs)
            if vid is not None and of is not None and self.kinds.value[of] in self.wanted
        }
        read = {vid for node, twin in looked if self.kinds.repeats(twin.index) for vid in node.refs}
        there = {kind for vid, kind in kinds.items() if vid in read}
        return Seen(
            values={vid: self.kinds.value[of] for vid, of in same.items()},
            weights={names[vid]: kind for vid, kind in kinds.items() if vid in read or kind not in there},
            uses=self.used(own, looked, names, kinds),
            dims={vid: len(value.shape) for vid, value in trace.values.items()},
            arranged=arrangements(own, trace.values, same),
            centred=frozenset(vid for vid, of in same.items() if of in self.lowered.centred_inside),
        )

    def middle(self, like: Sequence[Node]) -> list[bool]:
        """Whether each node is outside of all stacks or in the middle of its own."""
        places = [self.kinds.node(node.index) for node in like]
        count, seen = Counter(places), Counter[int]()
        found = []
        for place in places:
            half, odd = divmod(count[place], 2)
            found.append(seen[place] in (half, half + odd) or count[place] == 1)
            seen[place] += 1
        return found

    def nodes(self, place: Point, trace: RawTrace) -> tuple[list[Node], list[Node]]:
        """The forward nodes of a model, and for each the one of the program that it repeats.

        Raises AlignError where the model is not the traced one with whole periods more or less.
        """
        traced, steps = self.program.widths[0].by_name, self.model.periods.steps
        like = [node for node in self.program.nodes if node.phase == "forward"]
        for stack in sorted(self.kinds.stacks, key=lambda stack: -stack.start):
            more = (place.by_name[stack.scale] - traced[stack.scale]) // steps[stack.scale]
            if more < 0:
                del like[stack.end + more * stack.period : stack.end]
            like[stack.end : stack.end] = like[stack.end - stack.period : stack.end] * max(more, 0)
        raws = [node for node in trace.nodes if node.phase == "forward"]
        own = [
            Node(index, raw.op, raw.args, raw.kwargs, raw.outputs, raw.module, raw.source)
            for index, raw in enumerate(raws)
        ]
        if [node.op for node in own] != [node.op for node in like]:
            raise AlignError(
                f"the model at {place} does not run the ops of the one at {self.program.widths[0]} with whole blocks "
                f"put in; make its blocks alike at all depths"
            )
        return own, like

    def used(
        self,
        own: Sequence[Node],
        looked: Sequence[tuple[Node, Node]],
        names: Mapping[int, str],
        kinds: Mapping[int, str],
    ) -> dict[str, list[Use]]:
        """The uses in a model of each weight that is compared, at the nodes that are looked at (each with its twin in
        the program).

        ``names``, ``kinds``: of each weight of the model, and under which of the program it is counted.
        """
        made = {vid: node for node in own for vid in node.outputs if vid is not None}
        places: dict[int, list[Node]] = defaultdict(list)
        for node, of in looked:
            places[self.kinds.node(of.index)].append(node)
        found: dict[str, list[Use]] = {}
        for name, uses in self.uses.items():
            each: dict[int, Use] = {}
            for use in uses:
                for node in places[self.kinds.node(use.node.index)]:
                    copy = _copied(use, node, made, names)
                    if copy is not None and kinds[copy.weight.value] == name:
                        each.setdefault(node.index, copy)
            found[name] = list(each.values())
        return found


def _copied(use: Use, node: Node, made: Mapping[int, Node], names: Mapping[int, str]) -> Optional[Use]:
    """The same use of another weight, that ``node`` meets; None where it meets none in that way."""
    chain = {out: step for step in use.chain for out in step.outputs if out is not None}
    ids: dict[int, int] = {}
    steps: dict[int, Node] = {}
    pairs = [(use.node, node)]
    while pairs:
        of, own = pairs.pop()
        ids.update({x: y for x, y in zip(of.outputs, own.outputs) if x is not None and y is not None})
        for x, y in zip(of.refs, own.refs):
            ids[x] = y
            if x in chain and chain[x].index not in steps:
                if y not in made or made[y].op != chain[x].op:
                    return None
                steps[chain[x].index] = made[y]
                pairs.append((chain[x], made[y]))
    weight = ids[use.weight.value]
    if weight not in names:
        return None
    return Use(
        weight=replace(use.weight, name=names[weight], value=weight),
        chain=tuple(sorted(steps.values(), key=lambda step: step.index)),
        node=node,
        out=ids[use.out],
        held=frozenset(ids[x] for x in use.held),
        growing=use.growing,
    )


__all__ = ["Kinds", "Repeated"]
