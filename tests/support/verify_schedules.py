"""Set-ups as trainers return them: schedulers, dicts, hooks, exits; a right parametrization under each, or not.

Each is a ``setup(width) -> (model, optimizer[, scheduler], inputs)``.  ``RIGHT`` has those without a finding, ``WRONG``
those with one: its kind, and words of its message.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers

LR, BASE = 1e-3, 64


class Net(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inp = nn.Linear(12, width, bias=False)
        self.hid = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.hid(F.gelu(self.inp(x)))))


def x_inputs() -> Tensor:
    return torch.linspace(-1, 1, 48).reshape(4, 12)


def model_of(width: int) -> Net:
    model = Net(width)
    for layer, std in ((model.inp, 0.3), (model.hid, width**-0.5), (model.out, 6 / width)):
        nn.init.normal_(layer.weight, std=std)
    return model


def groups_of(model: Net, width: int, hidden: float = 1.0) -> list[dict]:
    """Right groups for Adam; the hidden rate ~ ``n^-hidden``."""
    n = width / BASE
    return [
        {"params": [model.inp.weight], "lr": LR, "eps": 1e-8 / n},
        {"params": [model.hid.weight], "lr": LR / n**hidden, "eps": 1e-8 / n},
        {"params": [model.out.weight], "lr": LR / n},
    ]


def right(width: int, weight_decay: float = 0.0, **more) -> tuple[Net, torch.optim.Optimizer]:
    model = model_of(width)
    return model, torch.optim.AdamW(groups_of(model, width, **more), weight_decay=weight_decay)


def scheduled(make, **more):
    """``setup``: a right optimizer under the scheduler ``make(optimizer, width)``."""

    def setup(width: int):
        model, optimizer = right(width, **more)
        return model, optimizer, make(optimizer, width), x_inputs()

    return setup


# -- schedulers that keep ratios ---------------------------------------------------------------------


def warm_up_by_width(o, width):
    return schedulers.LambdaLR(o, lambda s: min(1.0, (s + 1) / (0.0025 * width * width)))


def asleep(o, width):
    """A rate of 0 for 3000 steps."""
    return schedulers.LambdaLR(o, lambda s: float(s >= 3000))


def warm_then_cosine(o, width, eta_min=0.0, steps=400):
    warm = schedulers.LinearLR(o, 0.01, total_iters=20)
    cosine = schedulers.CosineAnnealingLR(o, T_max=steps, eta_min=eta_min)
    return schedulers.SequentialLR(o, [warm, cosine], milestones=[20])


def one_cycle(o, width):
    return schedulers.OneCycleLR(o, max_lr=[group["lr"] for group in o.param_groups], total_steps=300)


def chained(o, width):
    return schedulers.ChainedScheduler([schedulers.ConstantLR(o, 0.1, 20), schedulers.ExponentialLR(o, 0.9)])


def of_transformers(name, **options):
    def make(o, width):
        import transformers

        return getattr(transformers, name)(o, **options)

    return make


class Plain:
    """A scheduler of nobody's kind: it multiplies what the groups had."""

    def __init__(self, optimizer, to=None):
        self.optimizer, self.to, self.steps = optimizer, to, 0
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step(self):
        self.steps += 1
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = (rate if self.to is None else self.to) * min(1.0, self.steps / 50)


class ByEpoch:
    """One whose ``step`` asks for the epoch, as timm's."""

    def __init__(self, optimizer):
        self.groups, self.rates = optimizer.param_groups, [group["lr"] for group in optimizer.param_groups]

    def step(self, epoch, metric=None):
        for group, rate in zip(self.groups, self.rates):
            group["lr"] = rate * min(1.0, epoch / 5)


class ToOne(schedulers.LRScheduler):
    """All groups get one number."""

    def get_lr(self):
        return [LR / (1 + self.last_epoch) for _ in self.base_lrs]


# -- what else set-ups return ------------------------------------------------------------------------


def lightning(width):
    model, optimizer = right(width)
    return model, {"optimizer": optimizer, "lr_scheduler": schedulers.StepLR(optimizer, 10)}, x_inputs()


def lightning_with_interval(width):
    model, optimizer = right(width)
    inner = {"scheduler": schedulers.StepLR(optimizer, 10), "interval": "step", "frequency": 1, "monitor": None}
    return model, {"optimizer": optimizer, "lr_scheduler": inner}, x_inputs()


def lightning_lists(width):
    model, optimizer = right(width)
    return model, ([optimizer], [{"scheduler": schedulers.StepLR(optimizer, 10), "interval": "step"}]), x_inputs()


def lightning_of_two(width):
    model = model_of(width)
    one, *others = groups_of(model, width)
    optimizers = [torch.optim.AdamW(groups, weight_decay=0) for groups in ([one], others)]
    dicts = [{"optimizer": o, "lr_scheduler": {"scheduler": warm_then_cosine(o, width)}} for o in optimizers]
    return model, dicts, x_inputs()


def scale_gradient(factor, parameter):
    parameter.grad.mul_(factor)


def hooked(powers=(1, 0, -1), later=False):
    """SGD at one rate, gradients scaled by hooks."""

    def setup(width):
        model = model_of(width)
        for layer, power in zip((model.inp, model.hid, model.out), powers):
            factor = (width / BASE) ** power
            if later:
                layer.weight.register_post_accumulate_grad_hook(partial(scale_gradient, factor))
            else:
                layer.weight.register_hook(lambda g, c=factor: g * c)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), x_inputs()

    return setup


def lightning_at_one_rate(width):
    model = model_of(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0)
    return model, {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedulers.StepLR(optimizer, 10)}}, x_inputs()


def with_floor(eta_min):
    return scheduled(lambda o, n: schedulers.CosineAnnealingLR(o, T_max=100, eta_min=eta_min))


def cycles(o, width):
    rates = [group["lr"] for group in o.param_groups]
    return schedulers.CyclicLR(o, 1e-5, rates, 50, cycle_momentum=False)


def one_top(o, width):
    return schedulers.OneCycleLR(o, max_lr=LR, total_steps=300)


LINEAR, COSINE = "get_linear_schedule_with_warmup", "get_cosine_schedule_with_warmup"
LEAST = "get_cosine_with_min_lr_schedule_with_warmup"
LONG = {"num_warmup_steps": 2000, "num_training_steps": 100_000}
SHORT = {"num_warmup_steps": 3, "num_training_steps": 50}
RIGHT = {
    "cosine": with_floor(0.0),
    "warm-up by width": scheduled(warm_up_by_width),
    "asleep": scheduled(asleep),
    "sequential": scheduled(warm_then_cosine),
    "one cycle of lists": scheduled(one_cycle),
    "chained": scheduled(chained),
    "restarts": scheduled(lambda o, n: schedulers.CosineAnnealingWarmRestarts(o, T_0=50)),
    "transformers": scheduled(of_transformers(COSINE, **LONG)),
    "transformers, to zero": scheduled(of_transformers(LINEAR, **SHORT)),
    "transformers, to a part": scheduled(of_transformers(LEAST, min_lr_rate=0.1, **SHORT)),
    "transformers, inverse root": scheduled(of_transformers("get_inverse_sqrt_schedule", num_warmup_steps=100)),
    "plain": scheduled(lambda o, n: Plain(o)),
    "by epoch": scheduled(lambda o, n: ByEpoch(o)),
    "plateau": scheduled(lambda o, n: schedulers.ReduceLROnPlateau(o)),
    "lightning": lightning,
    "lightning with interval": lightning_with_interval,
    "lightning lists": lightning_lists,
    "lightning of two": lightning_of_two,
    "hooks": hooked(),
    "hooks after": hooked(later=True),
}

ENDS, DOWN, UP = "schedule", "multiply its lr by n^(-1)", "multiply its lr by n^1"
WRONG = {
    "cosine": (with_floor(1e-4), ENDS, "CosineAnnealingLR (verify_schedules.py:"),
    "small end": (with_floor(1e-6), ENDS, "leave eta_min at 0"),
    "floor above": (with_floor(4e-4), ENDS, "of which CosineAnnealingLR (verify_schedules.py:"),
    "sequential": (scheduled(partial(warm_then_cosine, eta_min=1e-5)), ENDS, "CosineAnnealingLR (verify_schedules.py:"),
    "long": (scheduled(partial(warm_then_cosine, eta_min=1e-5, steps=100_000)), ENDS, "to 1e-05 at its lowest"),
    "restarts": (
        scheduled(lambda o, n: schedulers.CosineAnnealingWarmRestarts(o, 50, eta_min=1e-5)),
        ENDS,
        "CosineAnnealingWarmRestarts (",
    ),
    "cyclic": (scheduled(cycles), ENDS, "give base_lr and max_lr as a list"),
    "one cycle": (scheduled(one_top), "explodes", "its group has lr ~ n^(-1), which OneCycleLR (verify_schedules.py:"),
    "to one": (scheduled(lambda o, n: ToOne(o)), "explodes", "which ToOne (verify_schedules.py:"),
    "plain": (scheduled(lambda o, n: Plain(o, LR)), "explodes", "which Plain (verify_schedules.py:"),
    "transformers": (scheduled(of_transformers(COSINE, **LONG), hidden=0.0), "explodes", DOWN),
    "asleep": (scheduled(asleep, hidden=2.0), "frozen", UP),
    "lightning": (lightning_at_one_rate, "explodes", DOWN),
    "hooks": (hooked((0, 1, -1)), "explodes", DOWN),
    "hooks after": (hooked((0, 1, -1), later=True), "explodes", DOWN),
    "no hooks": (hooked((0, 0, 0)), "frozen", UP),
}
