"""Multipliers written into a lowered program: what is behind them, and gradients before them."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import nn

import tpcalc
from tests.support.verify_setups import x_inputs
from tpcalc.algebra.order import ONE, order
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import weight_orders
from tpcalc.derive.solve import solve, solve_lowered
from tpcalc.lower.flatten import lower
from tpcalc.lower.multiplied import multiplied


class Net(nn.Module):
    def __init__(self, n, by):
        super().__init__()
        self.inp, self.hid, self.out, self.by = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4), by

    def forward(self, x):
        h = self.inp(x)
        h = h + self.hid(F.gelu(h))
        return self.out(F.gelu(h) * self.by)


def program(by: float = 0.0):
    return tpcalc.trace(lambda n: (Net(n, n**by), x_inputs()), (64, 128, 256))


def orders(solution):
    return {name: (need.A, need.C) for name, need in solution.needs.items()}


@pytest.mark.parametrize("power", ["-1", "-1/2", "1/2"])
def test_the_same_as_written_in_the_code(power):
    plain, written = program(), program(float(order(power)))
    lowered = lower(plain)
    at = [node.outputs[0] for node in plain.nodes if node.phase == "forward" and node.short_op == "mul"]
    at = at or [next(node for node in reversed(plain.nodes) if node.short_op == "gelu").outputs[0]]
    changed = solve_lowered(multiplied(lowered, {at[0]: order(power)}), solve(plain).alignment)
    assert orders(changed) == orders(solve(written))
    gradient = {w.name: changed.facts[w.grad].trained for w in plain.weights}
    assert gradient == {w.name: solve(written).facts[w.grad].trained for w in written.weights}


def test_ids_stay_and_two_multipliers_are_one():
    plain = program()
    lowered = lower(plain)
    at = next(node for node in plain.nodes if node.phase == "forward" and node.short_op == "gelu").outputs[0]
    once = multiplied(lowered, {at: ONE})
    back = multiplied(once, {at: -ONE})
    assert {atom.out for atom in lowered.atoms} <= {atom.out for atom in once.atoms}
    weights = {w.name: weight_orders(w, ONE, ONE) for w in plain.weights}
    before, after, again = (propagate(x, weights, backward=False) for x in (lowered, once, back))
    assert after[at].init == before[at].init + 1 and again[at].init == before[at].init
    assert len(back.atoms[: back.forward]) == len(once.atoms[: once.forward])


def test_an_output_has_its_seed_multiplied():
    plain = program()
    lowered = lower(plain)
    (out,) = plain.results
    changed = multiplied(lowered, {out: -ONE})
    weights = {w.name: weight_orders(w, ONE, ONE) for w in plain.weights}
    before, after = propagate(lowered, weights), propagate(changed, weights)
    assert all(after[w.grad].init == before[w.grad].init - 1 for w in plain.weights)
