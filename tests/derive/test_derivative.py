"""A gradient that is an output: forces, residuals, penalties have the rules of the network that is differentiated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import tpcalc
from tests.support.once import once

WIDTHS = (32, 64, 128)
POINTS = torch.linspace(-1, 1, 30).reshape(5, 6).sin()


class Energy(nn.Module):
    """A perceptron; ``of(self, x)`` is the output."""

    def __init__(self, n, of):
        super().__init__()
        self.a, self.b, self.c, self.of = nn.Linear(6, n), nn.Linear(n, n), nn.Linear(n, 1), of

    def energy(self, x):
        return self.c(F.silu(self.b(F.silu(self.a(x)))))

    def forward(self, x):
        return self.of(self, x)


def slope(s, x):
    return torch.autograd.grad(s.energy(x).sum(), x, create_graph=True)[0]


def inputs(x):
    return x.clone().requires_grad_(True)


def with_forces(s, x):
    x = inputs(x)
    return s.energy(x), -slope(s, x)


def residual(s, x):
    x = inputs(x)
    g = slope(s, x)
    gg = torch.autograd.grad(g[:, 0].sum(), x, create_graph=True)[0]
    return (g[:, 1] - gg[:, 0]).pow(2).mean()


def penalty(s, x):
    x = inputs(x)
    return s.energy(x).mean() + (slope(s, x).norm(dim=1) - 1).pow(2).mean()


def score(s, x):
    x = inputs(x)
    g = slope(s, x)
    trace = sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))
    return (g.pow(2).sum(1) / 2 + trace).mean()


def hamiltonian(s, x):
    g = slope(s, inputs(x))
    return torch.cat([g[:, 3:], -g[:, :3]], 1)


def descent(s, x):
    x = inputs(x)
    for _ in range(2):
        x = x - 0.1 * slope(s, x)
    return x


def wave(s, x):
    def u(z):
        return s.energy(z).squeeze(-1)

    return (vmap(lambda z: torch.trace(hessian(u)(z)))(x) + vmap(u)(x).sin()).pow(2).mean()


def pulled(s, x):
    y, back = vjp(s.energy, x)
    return y, back(torch.ones_like(y))[0]


OUTPUTS = {
    "energy and forces": with_forces,
    "forces": lambda s, x: -slope(s, inputs(x)),
    "residual": residual,
    "penalty": penalty,
    "score": score,
    "hamiltonian": hamiltonian,
    "descent": descent,
    "torch.func.grad": lambda s, x: (vmap(grad(lambda z: s.energy(z)[0]))(x)[:, 0] + s.energy(x)[:, 0]).pow(2).mean(),
    "torch.func.hessian": wave,
    "torch.func.jacrev": lambda s, x: vmap(jacrev(s.energy))(x),
    "torch.func.jacfwd": lambda s, x: vmap(jacfwd(s.energy))(x),
    "torch.func.jvp": lambda s, x: jvp(s.energy, (x,), (torch.ones_like(x),))[1],
    "torch.func.vjp": pulled,
}


@once
def traced(of):
    return tpcalc.trace(lambda n: (Energy(n, of), (POINTS,)), WIDTHS)


@once
def rules(of, optimizer):
    derived = tpcalc.derive(traced(of), optimizer)
    assert not derived.sites
    return {name: (rule.b, rule.c) for name, rule in derived.items() if rule.role != "unused"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_is_differentiated_has_its_plain_rules(output, optimizer):
    found = rules(OUTPUTS[output], optimizer)
    plain = rules(Energy.energy, optimizer)
    assert found == {name: plain[name] for name in found}
    assert {"a.weight", "b.weight", "c.weight"} <= set(found)


#: What the features pass, of a gain and one number.  Written by hand, a norm leaves autograd products that the features
#: no longer pass through; a number for all features sums a product of the features and of what flows back.
PASSED = {
    "gain first": lambda s, h: s.gain * h / size(h),
    "gain by size": lambda s, h: h * (s.gain / size(h)),
    "gain last": lambda s, h: h / size(h) * s.gain,
    "number": lambda s, h: h * s.gain * torch.tanh(s.number(h)),
}


def size(h):
    return (h.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


class Passed(Energy):
    def __init__(self, n, passed, of):
        super().__init__(n, of)
        self.gain, self.number, self.passed = nn.Parameter(torch.ones(n)), nn.Linear(n, 1), passed

    def energy(self, x):
        return self.c(F.silu(self.b(self.passed(self, self.a(x)))))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("passed", PASSED)
def test_what_only_a_gradient_reads_asks_for_no_more(passed, optimizer):
    def rules(of):
        derived = tpcalc.derive(tpcalc.trace(lambda n: (Passed(n, PASSED[passed], of), (POINTS,)), WIDTHS), optimizer)
        assert not derived.sites
        return {name: (rule.b, rule.c) for name, rule in derived.items() if rule.role != "unused"}

    assert rules(with_forces) == rules(Passed.energy)


def test_a_derivative_is_told_from_a_forward_pass():
    program = traced(with_forces)
    made = [node.derivative for node in program.nodes if node.phase == "forward"]
    assert any(made) and not all(made)
    assert not any(node.derivative for node in program.nodes if node.phase == "backward")


def test_a_weight_used_in_both_directions_by_hand_still_needs_a_multiplier():
    """What is written into the forward pass asks for its own size: a decoder that is the encoder, transposed."""
    program = tpcalc.trace(lambda n: (Energy(n, lambda s, x: torch.relu(s.a(x)) @ s.a.weight), (POINTS,)), WIDTHS)
    assert tpcalc.derive(program, "adamw").sites
