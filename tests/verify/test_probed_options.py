"""What else decides a step counts: options under any key, attributes, numbers in the code, momentum that settles."""

from __future__ import annotations

import functools

import pytest
import torch

import tpcalc
from tests.support.probed_setups import BASE, Base, Net, X, adam, one_rate, parts
from tpcalc.errors import SetupError

WIDTHS = (64, 128, 256)
HIDDEN = {"h1.weight", "h2.weight"}
MATRICES = HIDDEN | {"out.weight"}


def verified(setup):
    report = tpcalc.verify(setup, WIDTHS)
    kinds = {name: finding.kind for finding in report.findings for name in finding.weights}
    return kinds, " ".join(report.notes)


def setup(cls, option=lambda m: {}, right=True, held=None, **more):
    """Matrices at a rate of ``1/m`` (not ``right``: 1) with ``option(m)`` in their group, others with option(1)."""

    def made(n):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        groups = [{"params": [*h, *o], "lr": 1e-3 / m if right else 1e-3, **option(m)}]
        optimizer = cls([*groups, {"params": r, "lr": 1e-3, **option(1.0)}], **more)
        if held is not None:
            held(optimizer, [*h, *o], m)
        return model, optimizer, (X,)

    return made


class Scaled(Base):
    """``factor`` says by how much."""

    def one(self, p, g, s, group):
        p.sub_(adam(g, s) * self.factor(p, group), alpha=group["lr"])


class Keyed(Scaled):
    def factor(self, p, group):
        return group.get("lr_mult", 1.0)


class OnParameter(Scaled):
    def factor(self, p, group):
        return getattr(p, "lr_scale", 1.0)


class ById(Scaled):
    def factor(self, p, group):
        return self.scales.get(id(p), 1.0)


class ByTensor(Scaled):
    def factor(self, p, group):
        return self.scales.get(p, 1.0)


class Private(Scaled):
    def factor(self, p, group):
        return self._by(p.dim() == 2 and p.shape[1] > 24 or p.shape[0] == 10)


def on_parameter(optimizer, matrices, m):
    for p in matrices:
        p.lr_scale = 1 / m


def by_id(optimizer, matrices, m):
    optimizer.scales = {id(p): 1 / m for p in matrices}


def by_tensor(optimizer, matrices, m):
    optimizer.scales = {p: 1 / m for p in matrices}


@pytest.mark.parametrize("cls, held", [(OnParameter, on_parameter), (ById, by_id), (ByTensor, by_tensor)])
def test_scales_of_parameters(cls, held):
    assert verified(setup(cls, right=False, held=held))[0] == {}
    assert set(verified(setup(cls, right=True, held=held))[0]) == MATRICES  # once too often


def test_a_key_that_has_lr_in_its_name():
    assert verified(setup(Keyed, lambda m: {"lr_mult": 1 / m}, right=False))[0] == {}
    kinds, _ = verified(setup(Keyed, lambda m: {"lr_mult": m}))
    assert set(kinds) == MATRICES and set(kinds.values()) == {"explodes"}


@pytest.mark.parametrize("hide", [lambda x: functools.partial(lambda y, _: y, x), lambda x: lambda _: x])
def test_what_is_private(hide):
    def two(n, power):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        made = [Private([*h, *o]), Private(r)]
        made[0]._by, made[1]._by = hide(m**power), hide(1.0)
        return model, made, (X,)

    assert verified(lambda n: two(n, -1))[0] == {}
    assert set(verified(lambda n: two(n, 0))[0]) == MATRICES


# -- decay ------------------------------------------------------------------------------------------------


def decaying(share):
    class Decaying(Base):
        def one(self, p, g, s, group):
            p.mul_(1 - share(group))
            p.sub_(adam(g, s), alpha=group["lr"])

    return Decaying


@pytest.mark.parametrize("size", [0.1, 1e-3])
def test_decay_under_a_key_of_its_own(size):
    cls = decaying(lambda group: group["lr"] * group["shrinkage"])
    kinds, notes = verified(setup(cls, lambda m: {"shrinkage": size * m}))
    assert kinds == {} and "under a key that is not weight_decay" in notes and "clamps" not in notes
    assert verified(setup(cls, lambda m: {"shrinkage": size}))[0] == dict.fromkeys(MATRICES, "decay drift")


def test_decay_by_a_number():
    kinds, notes = verified(setup(decaying(lambda group: 0.1 * group["lr"])))
    assert kinds == dict.fromkeys(MATRICES, "decay drift") and "by a number in its code" in notes
    kinds, notes = verified(setup(decaying(lambda group: 1e-4)))
    assert kinds == {} and "by a number in its code" in notes and "clamps" not in notes


# -- strengths --------------------------------------------------------------------------------------------


def test_options_that_change_little_with_the_width():
    assert verified(setup(torch.optim.Adam, lambda m: {"betas": (0.9, 1 - 0.05 / m)}, eps=0.0))[0] == {}
    kinds, _ = verified(setup(torch.optim.Adam, lambda m: {"betas": (0.9, 1 - 0.05 / m)}, right=False, eps=0.0))
    assert set(kinds) == MATRICES


def test_momentum_that_depends_on_the_width():
    def sgd(n, momentum):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        groups = [{"params": h, "lr": 0.1, "momentum": momentum(m)}, {"params": r, "lr": 0.1 * m}]
        return model, torch.optim.SGD([*groups, {"params": o, "lr": 0.1 / m}]), (X,)

    assert verified(lambda n: sgd(n, lambda m: 0.9))[0] == {}
    kinds, _ = verified(lambda n: sgd(n, lambda m: 1 - 0.1 / m))
    assert kinds == dict.fromkeys(HIDDEN, "explodes")


def sgd_hooked(register):
    """Right rates for SGD, and what ``register`` hooks to it."""

    def made(n):
        model, m = Net(n), n / BASE
        h, r, o = parts(model)
        rates = [{"params": h, "lr": 0.1}, {"params": r, "lr": 0.1 * m}, {"params": o, "lr": 0.1 / m}]
        optimizer = torch.optim.SGD(rates)
        register(optimizer, model, m)
        return model, optimizer, (X,)

    return made


def scale_gradient(of, by):
    def register(optimizer, model, m):
        def hook(optimizer, args, kwargs):
            for name, p in model.named_parameters():
                if name == of:
                    p.grad.mul_(by(m))

        optimizer.register_step_pre_hook(hook)

    return register


def decay_by_hand(by):
    def register(optimizer, model, m):
        def hook(optimizer, args, kwargs):
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.data.mul_(1 - 0.1 * by(m) * group["lr"])

        optimizer.register_step_post_hook(hook)

    return register


def test_hooks_of_a_step_count():
    assert verified(sgd_hooked(scale_gradient("h1.weight", lambda m: 2.0))) == ({}, "")
    assert verified(sgd_hooked(scale_gradient("h1.weight", lambda m: m)))[0] == {"h1.weight": "explodes"}
    assert verified(sgd_hooked(scale_gradient("h2.weight", lambda m: 1 / m)))[0] == {"h2.weight": "frozen"}
    kinds, notes = verified(sgd_hooked(decay_by_hand(lambda m: 1.0)))
    assert "decays weights by a number in its code" in notes and set(kinds.values()) == {"decay drift"}
    assert "h1.weight" not in kinds and {"out.weight", "inp.weight"} <= set(kinds)


def test_hooks_that_can_not_be_run_are_said():
    def register(optimizer, model, m):
        optimizer.register_step_pre_hook(lambda *args: missing)  # noqa: F821

    kinds, notes = verified(sgd_hooked(register))
    assert kinds == {} and "step hooks of torch.optim.sgd.SGD are not run (its step fails on a small tensor" in notes


def test_epsilons_in_the_code_are_said_with_what_follows():
    class Hidden(Scaled):
        def one(self, p, g, s, group):
            p.sub_(adam(g, s, 1e-8), alpha=group["lr"])

    kinds, notes = verified(setup(Hidden))
    assert kinds == {}
    assert "on weights [n, 1] and [n] and [n, n] and [1, n], the update fades where gradients have entries" in notes
    assert "below about 1e-8" in notes
    follows = "the small number in the code of Hidden is the same at every width, and ought to go as n^(-1) for inp."
    assert follows in notes and "out.weight" not in notes
    assert "small number" not in verified(setup(torch.optim.Adam, eps=1e-8))[1]


def test_a_group_without_a_rate():
    class Own(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

    with pytest.raises(SetupError, match="group 0 of Own has no 'lr'"):
        verified(lambda n: (model := Net(n), Own(model.parameters()), (X,)))


def test_groups_that_may_have_one_rate_only():
    with pytest.raises(SetupError, match=r"OneRate does not take groups with several learning rates.*one lr for all"):
        verified(lambda n: one_rate(n, -1))
    kinds, notes = verified(lambda n: one_rate(n, 0))
    assert set(kinds) == MATRICES and "OneRate takes one learning rate for all its groups: of " in notes
    assert "multiply the result by n^x in the forward pass, the init std by n^(-x)" in notes


class Uncopied:
    """Numbers that are made in the set-up, and that stay where they are."""

    def __init__(self):
        self.scale = torch.tensor(2.0)

    def __deepcopy__(self, memo):
        return self


class OfTheTrace(Scaled):
    def factor(self, p, group):
        return -self.numbers.scale


def test_tensors_of_the_trace_that_have_no_copy_are_said_so():
    made = setup(OfTheTrace, held=lambda optimizer, matrices, m: setattr(optimizer, "numbers", Uncopied()))
    with pytest.raises(SetupError, match="it works on tensors of the trace, which have no numbers") as refused:
        verified(made)
    assert "aten" not in str(refused.value)
