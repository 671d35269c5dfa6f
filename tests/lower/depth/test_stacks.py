"""Streams and branches that are found in lowered programs, and what is written there."""

from __future__ import annotations

import pytest

from tests.support import stacks, unusual
from tests.support.depths import depth_of, traced
from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.lower.depth import branches
from tpcalc.lower.depth import stacks as stacks_of
from tpcalc.lower.flatten import lower
from tpcalc.rules import REGISTRY
from tpcalc.rules.structures import Repeat, operands


def found(factory, scales=("depth",)):
    lowered = lower(traced(factory, scales))
    return lowered, stacks_of(lowered, REGISTRY)


def names(lowered, vids) -> set[str]:
    return {lowered.name(vid) for vid in vids}


#: Sums over the depth in each of two blocks, gains and biases on the stream among them.
JUNCTIONS = {"pre": 1, "post": 3, "sandwich": 1, "without_norm": 1, "tied": 1, "gpt": 2, "parallel": 2}


@pytest.mark.parametrize("name", JUNCTIONS)
def test_sums_of_a_stream(name):
    lowered, (stack,) = found(stacks.STACKS[name])
    junctions = stack.stream.junctions
    assert len(junctions) == 2 * JUNCTIONS[name]
    assert [j.place for j in junctions[: JUNCTIONS[name]]] == [j.place for j in junctions[JUNCTIONS[name] :]]
    assert len(stack.stream.enters) == 1
    assert sum(j.factor for j in junctions) == (2 if name == "post" else 0)
    for junction in junctions:
        assert not stack.stream.values & set(junction.joining)
        assert set(operands(junction.atom.structure)) & stack.stream.values


def test_weights_inside_tied_and_what_all_blocks_read():
    lowered, (stack,) = found(stacks.pre)
    inside = names(lowered, stack.cones.inside & {leaf.value for leaf in lowered.leaves})
    assert inside == {f"blocks.{i}.{part}" for i in (0, 1) for part in parts(2)}
    assert not stack.cones.tied and not stack.cones.invariant
    lowered, (stack,) = found(stacks.tied)
    assert names(lowered, stack.cones.tied) == {f"blocks.0.{part}" for part in parts(2)}
    assert not stack.twins
    lowered, (encoder, decoder) = found(stacks.two_depths, ("encoder", "decoder"))
    assert (encoder.scale, decoder.scale) == ("encoder", "decoder")
    (memory,) = decoder.cones.invariant
    assert lowered.node(lowered.maker[memory]).module == "between" and not encoder.cones.invariant


def parts(count: int) -> list[str]:
    return [f"{part}.{kind}" for part in ("norm", "one", "two") for kind in ("weight", "bias")]


def test_twins_are_the_same_weights_of_two_blocks():
    for factory in (stacks.pre, stacks.post, stacks.gpt):
        _, (stack,) = found(factory)
        assert stack.twins and all(b == a.replace(".0.", ".1.", 1) for a, b in stack.twins)
    _, (stack,) = found(stacks.pre)
    assert len(stack.twins) == len(parts(2))


def test_what_precedes_a_stack_is_no_block():
    """The sum of tokens and positions is the same op as a residual sum, one op before the stack."""
    lowered, (stack,) = found(stacks.gpt)
    (enters,) = stack.stream.enters
    assert lowered.node(lowered.maker[enters]).index <= stack.stream.loop.start
    assert all(lowered.node(j.atom).module.startswith("layers.") for j in stack.stream.junctions)


def test_two_loops_share_no_sum():
    _, (down, up) = found(unusual.ladder)
    here, there = ({j.atom.out for j in stack.stream.junctions} for stack in (down, up))
    assert here and there and not here & there


def repeats(lowered, atoms):
    return [atom.structure for atom in atoms if isinstance(atom.structure, Repeat)]


def test_what_is_written():
    program = traced(stacks.pre)
    assert program.compass is not None
    K = program.compass.unit(1)
    plain, deep = lower(program), lower(program, depth=depth_of(program, HALF))
    assert plain.stacks == () and lower(program).atoms == plain.atoms
    forward, back = (
        repeats(deep, deep.atoms[: deep.forward]),
        repeats(deep, deep.atoms[deep.forward :]),
    )
    # of each block the matrix and its bias, of the gradients of what enters each block one term; marks at the ends
    assert [s.K for s in forward].count(K) == 4 and [s.K for s in forward].count(ZERO) == 1
    assert [s.K for s in back].count(K) == 2 and [s.K for s in back].count(ZERO) == 1
    assert {s.alpha for s in (*forward, *back) if s.K} == {HALF}
    own = {s.own for s in (*forward, *back) if s.K}
    assert len(own) == 1 and bin(own.pop()).count("1") == len(parts(2)) * 2
    (loop,) = {s.loop for s in (*forward, *back) if s.K}
    assert loop > deep.fixed and loop >= 1 << len(deep.leaves)
    # atoms stay in order: each reads what is made before it
    made = set(program.values) | {leaf.value for leaf in deep.leaves}
    made -= {atom.out for atom in deep.atoms}
    for atom in deep.atoms:
        assert made.issuperset(operands(atom.structure)), atom
        made.add(atom.out)
    assert len([atom for atom, _ in branches(deep)]) == 4


def test_a_gain_multiplies_the_stream_and_its_gradients():
    deep = lower(traced(stacks.post), depth=depth_of(traced(stacks.post)))
    gains = {
        atom.structure.x: atom.out
        for atom in deep.atoms
        if isinstance(atom.structure, Repeat) and atom.structure.factor
    }
    assert names(deep, gains) == {"blocks.0.behind.weight", "blocks.1.behind.weight"}
    back = deep.atoms[deep.forward :]
    for gain, all_of_them in gains.items():
        assert any(all_of_them in operands(atom.structure) for atom in back)
        assert not any(gain in operands(atom.structure) for atom in back)


def test_each_branch_has_a_gradient_of_its_own():
    """The terms of a sum share one: a multiplier behind one is none of the others."""
    deep = lower(traced(stacks.parallel), depth=depth_of(traced(stacks.parallel)))
    shared = {deep.program.grads[vid] for vid in deep.grads}
    assert deep.grads and len(set(deep.grads.values())) == 2 * len(shared)


def test_zero_biases_have_no_mean():
    deep = lower(traced(stacks.pre), depth=depth_of(traced(stacks.pre), HALF))
    signed = {s.x for s in repeats(deep, deep.atoms[: deep.forward]) if s.signed}
    assert not names(deep, signed)  # torch draws them
    deep = lower(traced(stacks.post), depth=depth_of(traced(stacks.post), HALF))
    signed = {s.x for s in repeats(deep, deep.atoms[: deep.forward]) if s.signed}
    assert names(deep, signed) == {"blocks.0.behind.bias", "blocks.1.behind.bias"}
    assert {s.alpha for s in repeats(deep, deep.atoms)} == {ONE, HALF}
