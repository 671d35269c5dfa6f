"""The readings of a structure agree with one another: for every structure, on random facts.

What comes out (laws) is the judge of the others.  Operands that keep what ``demands`` ask, or ``allowed`` permits, give
a result within what was asked of it, and a little more breaks that; what ``causes`` names, repaired, gives a result
within its limit.  Structures are made from their fields, so that a new one is tested without being listed here; what
does not hold by design has a written reason.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Optional

import pytest

from tpcalc.algebra.order import HALF, MINUS_INFINITY, ONE, ZERO, Order, max_order
from tpcalc.algebra.size import Size
from tpcalc.calculus import allowed, causes, demands, effects, freedom, laws, limits, words
from tpcalc.calculus.alignment import FULL, NONE, OMEGA, Alignment
from tpcalc.calculus.allowed import ALLOWED, Allowance
from tpcalc.calculus.causes import INIT, Fault, Search, TooLarge
from tpcalc.calculus.demands import DEMANDS, Demand, Walk
from tpcalc.calculus.facts import Fact, WeightOrders, flips, weight_fact
from tpcalc.calculus.freedom import Freedom
from tpcalc.calculus.laws import LAWS
from tpcalc.calculus.reading import STRUCTURES, Reading, back, forth
from tpcalc.lower.lowered import Leaf, Lowered
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import (
    Atom,
    Bounded,
    Discrete,
    Exp,
    Guard,
    Known,
    LinearLike,
    Log,
    Normalise,
    Power,
    Repeat,
    Scale,
    Slope,
    Softmax,
    Structure,
    View,
    operands,
)

OUT, DRAWS = 9, 400
LITTLE = Fraction(1, 8)
QUARTERS = [Fraction(i, 4) for i in range(-6, 7)]
ORDERS = [*QUARTERS, MINUS_INFINITY]
GROWTHS = [ZERO, HALF, ONE, Fraction(2)]

Facts = dict[int, Fact]


# -- random structures and facts -------------------------------------------------------------------


def made(kind: type[Structure], rng: random.Random) -> Structure:
    """A structure with operands 0, 1 ... and other fields drawn at random."""
    fields: dict[str, Any] = {}
    ids = iter(range(5))
    for f in dataclasses.fields(kind):
        text = str(f.type)
        if text.startswith("tuple[Operand"):
            fields[f.name] = tuple(next(ids) for _ in range(rng.choice((1, 2, 3))))
        elif text == "Operand":
            fields[f.name] = next(ids)
        elif text == "bool":
            fields[f.name] = rng.random() < 0.5
        elif text == "str":
            fields[f.name] = rng.choice(("odd", "even", "none"))
        elif f.name == "alpha":
            fields[f.name] = rng.choice((HALF, HALF * 3 / 2, ONE))
        elif f.name == "own":
            fields[f.name] = rng.choice((0, 1, 3))
        elif text == "Order" and f.name in ("order",):
            fields[f.name] = rng.choice(ORDERS)
        elif text in ("Order", "Fraction"):  # growths are no less than 0; a degree, a shift may be
            signed = f.name in ("k", "shift")
            fields[f.name] = rng.choice((-1, -HALF, *GROWTHS) if signed else GROWTHS) * ONE
        else:
            assert f.default is not dataclasses.MISSING, f"what may {kind.__name__}.{f.name} be?"
    return kind(**fields)


def value(rng: random.Random) -> Fact:
    init, change = rng.choice(ORDERS), rng.choice(ORDERS)
    depends = rng.choice((0, 1, 2))
    return Fact(init, max_order(init, change), change, depends, depends & rng.choice((0, 1)), data=True)


def weight(bit: int, rng: random.Random) -> Fact:
    A, C = (rng.choice([*QUARTERS, None]) for _ in range(2))
    return weight_fact(bit, WeightOrders(A, C, rng.random() < 0.8))


def drawn(
    kind: type[Structure], extra: int = 0, weights: float = 0.4
) -> Iterator[tuple[Structure, Facts, random.Random]]:
    rng = random.Random(f"{kind.__name__} {extra}")
    for _ in range(DRAWS):
        structure = made(kind, rng)
        facts = {x: weight(x, rng) if rng.random() < weights else value(rng) for x in operands(structure)}
        yield structure, facts, rng


def law(structure: Structure, facts: Facts, alignment: Alignment = FULL) -> Fact:
    return LAWS[type(structure)](structure, facts, alignment)


def at(fact: Fact, init: Order, change: Order) -> Fact:
    return fact._replace(init=init, change=change, trained=max_order(init, change))


def names(kinds) -> Callable:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)


def speaking(reading: Reading) -> list[type[Structure]]:
    return [kind for kind in STRUCTURES if kind not in reading.silent_on]


# -- demands ---------------------------------------------------------------------------------------

#: Structures whose operands are asked for order 0, which does not keep every demand on the result.
OF_ORDER_0 = {
    LinearLike: "what enters a nonlinearity has order 0 and not less, whatever is asked of the result",
    Bounded: "as above; f(0) != 0 cannot be made small",
    Exp: "as above",
    Log: "as above",
    Softmax: "as above",
    Normalise: "of its order whatever enters",
    Discrete: "of its order whatever enters",
}


def asked(structure: Structure, facts: Facts, demand: Demand, alignment: Alignment) -> dict[int, Demand]:
    """What is asked of each operand; every value without a weight's scale of its own is pinned."""
    hops: dict[int, Optional[int]] = {
        x: None if fact.trained is MINUS_INFINITY else 0 if fact.weight else 5 for x, fact in facts.items()
    }
    known = {**facts, OUT: law(structure, facts, alignment)}
    walk = Walk(Lowered(None, (), 0, ()), known, Freedom(hops, {}, known), alignment, {}, {})
    DEMANDS.pass_on(Atom(OUT, structure, 0), demand, walk)
    return {
        x: Demand(min(d.init for d in found), min(d.change for d in found), True, "")
        for x, found in walk.demands.items()
    }


def kept(structure: Structure, facts: Facts, demand: Demand, alignment: Alignment) -> Facts:
    """``facts`` with operands as large as asked, or smaller where they are."""
    for _ in range(4):
        wanted = asked(structure, facts, demand, alignment)
        facts = {
            x: at(fact, min(fact.init, wanted[x].init), min(fact.change, wanted[x].change)) if x in wanted else fact
            for x, fact in facts.items()
        }
    return facts


def slowed(structure: Structure, facts: Facts) -> Facts:
    """As the solver has them: where a branch is asked for L^-alpha, updates of its weights are L^-(1 - alpha) less."""
    if not isinstance(structure, Repeat) or structure.factor or not flips(structure, facts[0]):
        return facts
    return {0: facts[0]._replace(fresh=facts[0].change - (ONE - structure.alpha) * structure.K)}


def within(result: Fact, demand: Demand) -> bool:
    return result.init <= demand.init and result.change <= demand.change


def inverse(structure: Structure) -> bool:
    """Larger for less: what it divides by is asked for order 0, and to be exactly that."""
    return isinstance(structure, Power) and structure.k <= 0


@names(speaking(DEMANDS))
@pytest.mark.parametrize("alignment", [FULL, OMEGA], ids=lambda alignment: alignment.name)
def test_demands_keep_the_result(kind, alignment):
    for structure, facts, rng in drawn(kind):
        if inverse(structure):
            facts = {x: at(fact, ZERO, ZERO) for x, fact in facts.items()}
        if isinstance(structure, Guard) and facts[0].init is MINUS_INFINITY:
            continue  # of order 0 by itself: what keeps zero away from zero
        order = ZERO if kind in OF_ORDER_0 or inverse(structure) else rng.choice(QUARTERS[:7])
        order = max(order, structure.shift) if isinstance(structure, Normalise) else order
        demand = Demand(order, order, True, "")
        held = kept(structure, facts, demand, alignment)
        result = law(structure, slowed(structure, held), alignment)
        assert within(result, demand), (structure, facts, held, demand)


@names([kind for kind in speaking(DEMANDS) if kind not in OF_ORDER_0])
def test_demands_ask_for_no_less_than_needed(kind):
    """An operand exactly as asked keeps the result, and a little more breaks it.

    Of those that a smaller demand asks for less.
    """
    bound = 0
    for structure, facts, rng in drawn(kind):
        order = rng.choice(QUARTERS[:7])
        demand = Demand(order, order, True, "")
        held = kept(structure, facts, demand, FULL)
        wanted, less = (asked(structure, held, d, FULL) for d in (demand, demand.shifted(ONE)))
        for x in (x for x in wanted if less[x].init < wanted[x].init):
            init, change = wanted[x].init, wanted[x].change
            assert within(law(structure, slowed(structure, {**held, x: at(held[x], init, change)})), demand)
            more = law(structure, slowed(structure, {**held, x: at(held[x], init + LITTLE, change + LITTLE)}))
            assert not within(more, demand), (structure, x, held, wanted)
            bound += 1
    assert bound > DRAWS / 8


# -- allowed ---------------------------------------------------------------------------------------


def permitted(structure: Structure, facts: Facts, most: Order, alignment: Alignment) -> dict[int, Order]:
    state = Allowance(facts, alignment)
    ALLOWED.pass_on(Atom(OUT, structure, 0), most, state)
    return state.most


def moved(fact: Fact, change: Order) -> Fact:
    return at(fact, fact.init, change)


def within_limits(structure: Structure, facts: Facts, most: Order, alignment: Alignment) -> Facts:
    for _ in range(4):
        limit = permitted(structure, facts, most, alignment)
        facts = {x: moved(f, min(f.change, limit[x])) if x in limit else f for x, f in facts.items()}
    return facts


def waking(structure: Structure, facts: Facts) -> bool:
    """What starts at zero changes a relative measure, or an inverse, by as much as it can, by any update."""
    return (isinstance(structure, (Log, Normalise)) or inverse(structure)) and facts[0].init is MINUS_INFINITY


def stricter(structure: Structure, limit: Order, fact: Fact) -> bool:
    """More than its own size is another value: that is not allowed even where the result would be.

    And an even function (cos) is flat at 0: small changes are smaller in the result.
    """
    own_size = isinstance(structure, (Normalise, Power)) and limit == fact.init
    return own_size or (isinstance(structure, Bounded) and structure.parity == "even")


@names(speaking(ALLOWED))
@pytest.mark.parametrize("alignment", [FULL, NONE, OMEGA], ids=lambda alignment: alignment.name)
def test_allowed_changes_keep_the_result(kind, alignment):
    for structure, facts, rng in drawn(kind):
        most = rng.choice(QUARTERS)
        if waking(structure, facts):
            continue
        facts = within_limits(structure, facts, most, alignment)
        assert law(structure, facts, alignment).change <= most, (structure, facts, most)


@names(speaking(ALLOWED))
def test_a_little_more_than_allowed_breaks_the_result(kind):
    bound = 0
    for structure, facts, rng in drawn(kind):
        most = rng.choice(QUARTERS)
        facts = within_limits(structure, facts, most, FULL)
        limit = permitted(structure, facts, most, FULL)
        for x, order in limit.items():
            if stricter(structure, order, facts[x]):
                continue
            more = law(structure, {**facts, x: moved(facts[x], order + LITTLE)})
            assert more.change > most, (structure, x, facts, most, limit, more)
            bound += 1
    assert bound > DRAWS / 8


# -- causes ----------------------------------------------------------------------------------------


def alone(structure: Structure, facts: Facts) -> Lowered:
    """A program of one atom whose operands are leaves."""
    shape = (Size.linear(),)
    leaves = [Leaf(f"W{x}", Weight(f"W{x}", x, shape), x, shape, None) for x, fact in facts.items() if fact.weight]
    return Lowered(None, (Atom(OUT, structure, 0),), 1, tuple(leaves))


def mend(item: "Fault | TooLarge", facts: Facts) -> Order:
    """Repair an operand; what is to be taken from the result itself."""
    if isinstance(item, TooLarge):
        fact = facts[item.value]
        init = fact.init if item.change else min(fact.init, item.allowed)
        facts[item.value] = at(fact, init, min(fact.change, item.allowed))
    elif item.leaf is None:
        return item.excess
    else:
        fact = facts[item.leaf.value]
        by = (item.excess, ZERO) if item.quantity == INIT else (ZERO, item.excess)
        facts[item.leaf.value] = at(fact, fact.init - by[0], fact.change - by[1])
    return ZERO


@names(STRUCTURES)
@pytest.mark.parametrize("change", [False, True], ids=["size", "change"])
def test_what_causes_name_mends_the_result(kind, change):
    mended = 0
    for structure, facts, rng in drawn(kind, int(change)):
        limit, taken = rng.choice(QUARTERS), ZERO
        if isinstance(structure, (Guard, Normalise)) and facts[0].weight and facts[0].init is MINUS_INFINITY:
            continue  # a weight that starts at zero has no size to be guarded, and no direction
        for _ in range(8):
            result = law(structure, facts).shifted(-taken)
            search = Search(alone(structure, facts), {**facts, OUT: result}, FULL, ())
            if search.size(OUT, change) <= limit:
                break
            found = list(search.step(TooLarge(OUT, limit, change)))
            assert found, (structure, facts, limit, result)
            taken += sum(mend(item, facts) for item in found)
            mended += 1
        assert search.size(OUT, change) <= limit, (structure, facts, limit, result)
    assert mended or (kind is Known and change)


# -- the table of a reading ------------------------------------------------------------------------

READINGS = [
    reading
    for module in (laws, freedom, demands, allowed, causes, effects, limits, words)
    for reading in vars(module).values()
    if isinstance(reading, Reading)
]


@pytest.mark.parametrize("reading", {id(r): r for r in READINGS}.values(), ids=lambda reading: reading.name)
def test_every_reading_is_complete_and_closed(reading):
    reading.complete()
    assert set(reading) | set(reading.silent_on) == set(STRUCTURES) and not set(reading) & set(reading.silent_on)
    assert all(len(why) > 10 for why in reading.silent_on.values())
    kind = next(iter(reading))
    with pytest.raises(ValueError, match=f"{kind.__name__} already has a law in the reading '{reading.name}'"):
        reading.law(kind)(reading[kind])
    with pytest.raises(ValueError, match="already has a law"):
        reading.silent(kind, why="never")
    for silent, why in reading.silent_on.items():
        with pytest.raises(LookupError, match=silent.__name__) as error:
            reading[silent]
        assert why in str(error.value)
        with pytest.raises(ValueError, match="is silent in the reading"):
            reading.law(silent)(reading[kind])


@dataclasses.dataclass(frozen=True)
class Unknown(Structure):
    x: int


def test_a_structure_that_nobody_knows_never_falls_through():
    reading: Reading = Reading("test", "what of it?")
    with pytest.raises(ValueError, match="Unknown is no structure of tpcalc.rules.structures"):
        reading.law(Unknown)(lambda s: s)
    with pytest.raises(ValueError, match="Unknown is no structure"):
        reading.silent(Unknown, why="unknown")
    for known in (reading, LAWS, DEMANDS):
        with pytest.raises(LookupError, match="has no law for Unknown"):
            known.of(Unknown(0))
        with pytest.raises(LookupError, match="has no law for Unknown"):
            known.pass_on(Atom(OUT, Unknown(0), 0), None, None)


def test_an_incomplete_table_names_what_is_missing():
    reading: Reading = Reading("test", "what of it?")
    every = reading.law(*(kind for kind in STRUCTURES if kind not in (View, Scale, Slope)))(lambda s: "seen")
    reading.silent(Slope, why="for a test")
    with pytest.raises(LookupError, match=r"'test' \(what of it\?\) has neither a law nor .* for View, Scale$"):
        reading.complete()
    assert reading.of(Slope(0)) is None and reading.of(Discrete()) is every
    reading.law(View, Scale)(every)
    reading.complete()


def test_laws_speak_where_they_are_asked_or_registered_to():
    heard = []
    reading: Reading = Reading("test", "what of it?")
    reading.law(View)(lambda *told: heard.append(told))
    reading.law(Scale, unasked=True)(lambda *told: heard.append(told))
    view, scale = Atom(1, View(0), 0), Atom(1, Scale(0, ONE), 0)
    for atom in (view, scale):
        reading.pass_on(atom, None, "state")
    assert heard == [(scale.structure, None, "state", scale)]
    reading.pass_on(view, ZERO, "state")
    assert heard[1:] == [(view.structure, ZERO, "state", view)]


def test_passes_go_each_way_over_the_forward_atoms():
    atoms = tuple(Atom(i, View(i - 1), 0) for i in (1, 2, 3))
    program = Lowered(None, atoms, 2, ())
    reading: Reading = Reading("test", "where?")
    reading.law(View)(lambda s, *known: (s.x, known))
    seen: list = []
    forth(reading, program.atoms[:2], ("known",), lambda atom, found: seen.append((atom.out, found)))
    assert seen == [(1, (0, ("known",))), (2, (1, ("known",)))]
    forth(reading, program.atoms, (), lambda atom, found: seen.append(atom.out))
    assert seen[2:] == [1, 2, 3]

    class State:
        def asked_of(self, atom):
            return (atom.out, None, -atom.out)

    told: list = []
    asking: Reading = Reading("test", "what?")
    asking.law(View)(lambda s, asked, state, atom: told.append((s.x, asked)))
    back(asking, program, State())
    assert told == [(1, 2), (1, -2), (0, 1), (0, -1)]
