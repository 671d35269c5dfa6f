"""What trainers are compared with: a small tied GPT with its multipliers, and ten steps of it in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tests.support.models import example
from tests.support.once import once
from tpcalc.scaling import Scaling

BASE, TARGET, VOCABULARY = 32, 64, 96
STEPS = 10
#: As tuned at the base; clipping and epsilon are felt.
LR, DECAY, EPS, MAX_NORM = 3e-3, 0.1, 1e-5, 0.2


def build(width: int) -> tuple[nn.Module, Any]:
    return example("gpt.py", "gpt_growing_heads")(width)


@once
def scaling(optimizer: str = "adamw", gauge: str = "init") -> Scaling:
    return tpcalc.scale(build, BASE, TARGET, optimizer=optimizer, gauge=gauge)


class Held(nn.Module):
    """The model under an attribute, with its loss, as trainers want it."""

    def __init__(self, width: int = TARGET) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = build(width)[0].double()

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(input_ids)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}


def examples(count: int = 64) -> list[dict[str, Tensor]]:
    rows = torch.randint(VOCABULARY, (count, 9), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row[:-1], "labels": row[1:]} for row in rows]


def batched(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def said(optimizer: Any, model: nn.Module) -> dict[str, dict[str, Any]]:
    """What the group of each parameter says, by the parameter's bare name."""
    keys = ("lr", "weight_decay", "eps", "betas", "lr_multiplier")
    names = {id(p): name.split("net.")[-1].removeprefix("module.") for name, p in model.named_parameters()}
    groups = [group | {"betas": tuple(group["betas"])} for group in optimizer.param_groups]
    return {names[id(p)]: {key: group[key] for key in keys} for group in groups for p in group["params"]}


def matrices(name: str, parameter: Tensor) -> bool:
    """Which have no weight decay by the rule of transformers: gains and biases."""
    return parameter.dim() < 2


def wanted(model: nn.Module, no_decay: Callable[..., bool] | None = matrices) -> dict[str, dict[str, Any]]:
    """What it ought to be."""
    groups = scaling().param_groups(model, lr=LR, weight_decay=DECAY, eps=EPS, no_decay=no_decay)
    return said(torch.optim.AdamW(groups, betas=(0.9, 0.999)), model)


def by_hand(
    batches: Iterable[Sequence[dict[str, Tensor]]],
    factor: Callable[[int], float] = lambda step: 1.0,
    no_decay: Callable[[str, Tensor], bool] = matrices,
    clipped: bool = True,
) -> dict[str, Tensor]:
    """Plain torch, a group a parameter, its numbers multiplied here: the weights after a step for each of
    ``batches``, the loss of which is the mean over its parts.  ``factor``: what the schedule makes of every rate."""
    model = Held()
    weights = scaling()
    groups: list[dict[str, Any]] = []
    for name, parameter in model.net.named_parameters():
        with torch.no_grad():
            parameter.mul_(weights[name].init)
        decay = 0.0 if no_decay(name, parameter) else DECAY * weights[name].weight_decay
        eps = EPS * (weights[name].eps or 1.0)
        groups.append({"params": [parameter], "lr": LR * weights[name].lr, "weight_decay": decay, "eps": eps})
    optimizer = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in groups]
    for step, parts in enumerate(batches):
        optimizer.zero_grad()
        for part in parts:
            (model(**part)["loss"] / len(parts)).backward()
        grads = {name: p.grad for name, p in model.net.named_parameters()}
        norm = torch.stack([grad.norm() * weights[name].clip for name, grad in grads.items()]).norm()
        assert norm > MAX_NORM, "the threshold should bite"
        part = MAX_NORM / (norm + 1e-6) if clipped else 1.0
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor(step)
            group["params"][0].grad *= part
        optimizer.step()
    return {name: p.detach() for name, p in model.net.named_parameters()}


def assert_same(model: nn.Module, expected: dict[str, Tensor]) -> None:
    found = {name.split("net.")[-1]: p.detach() for name, p in model.named_parameters()}
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=name)
