"""Whether an optimizer takes groups with rates of their own: one that estimates a common step size may not."""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

import torch

from tpcalc.probe import samples
from tpcalc.probe.alone import alone
from tpcalc.probe.bench import Setting, stepped
from tpcalc.probe.copy import Subject, number, rates, replica, told
from tpcalc.probe.samples import Kind
from tpcalc.trace.record import as_written, seeded


def one_rate(subject: Subject, kind: Kind) -> str:
    """What its step raises where another group has another rate; empty where it bears that, or it can't be told."""
    if type(subject.optimizer).__module__.startswith("torch.optim"):
        return ""
    try:
        _step(subject, kind, 1.0)
    except Exception:
        return ""
    try:
        _step(subject, kind, 0.5)
    except Exception as error:
        return told(error)
    return ""


def _step(subject: Subject, kind: Kind, factor: float) -> None:
    """One step of a copy that trains two tensors in groups whose rates are apart by a factor."""
    setting, base = Setting(), kind.base
    with seeded(), warnings.catch_warnings(), alone(), as_written(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        pair = [torch.nn.Parameter(samples.weight(base, base, setting.size)) for _ in range(2)]
        optimizer = replica(subject, pair[0])
        group: dict[str, Any] = next(g for g in optimizer.param_groups if g["params"])
        moved = {key: (number(group[key]) or 0.0) * factor for key in rates(group)}
        optimizer.param_groups.append({**group, **moved, "params": [pair[1]]})
        with suppress(Exception):
            optimizer.train()
        stepped(optimizer, [(p, samples.gradient(base, base, setting.gradient, 0)) for p in pair])


__all__ = ["one_rate"]
