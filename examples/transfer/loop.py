"""The training loop of these examples, in plain PyTorch.

All that it takes of ``context`` is ``steps``, ``clip_grad_norm_(model, max_norm)`` and ``report(step, loss)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Optional

import torch
from torch import Tensor, nn

#: Steps between two reports.
OFTEN = 5


def schedule(step: int, steps: int) -> float:
    """The learning rate over its peak: up along a line for a tenth of all steps, then down to a tenth on a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    context: Any,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_of: Callable[[nn.Module, Any], Tensor],
    max_norm: Optional[float] = None,
) -> None:
    """Take ``context.steps`` steps, one a batch; ``max_norm``: of the gradient, if it is to be clipped."""
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, context.steps))
    model.train()
    for step, batch in enumerate(islice(batches, context.steps)):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, on(model, batch))
        if step % OFTEN == 0:
            context.report(step, loss.detach())
        loss.backward()
        if max_norm is not None:
            context.clip_grad_norm_(model, max_norm)
        optimizer.step()
        rates.step()


@torch.no_grad()
def held_out(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_of: Callable[[nn.Module, Any], Tensor]
) -> float:
    """The mean loss over batches of one size."""
    model.eval()
    return float(torch.stack([loss_of(model, on(model, batch)) for batch in batches]).mean())


def on(model: nn.Module, batch: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The batch, where the model is."""
    device = next(model.parameters()).device
    return tuple(part.to(device) for part in batch)
