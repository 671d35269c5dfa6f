"""What the user's own training loop is called with and what it gives: ``train(model, optimizer, context) -> loss``."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from itertools import cycle, islice
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

from tpcalc.algebra.scales import Point, scales_text
from tpcalc.errors import TpcalcError
from tpcalc.scaling.runtime import Multipliers
from tpcalc.trace.quoted import error_text
from tpcalc.trace.record import find_loss, primary_outputs
from tpcalc.trace.target import call_factory, name_of

__all__ = [
    "Context",
    "Diverged",
    "Outcome",
    "Train",
    "batches",
    "check_train",
    "default_train",
    "outcome",
    "with_a_batch",
]

#: ``train(model, optimizer, context)`` -> the loss to be judged by, a number.
Train = Callable[[torch.nn.Module, Any, "Context"], Any]
#: A loss this many times the first one is no training any more, and a run that has it ends.
RUNAWAY = 100.0


class Diverged(Exception):
    """Ends a run whose loss is no finite number, or has run away."""


@dataclass
class Context:
    """What a training loop is told.

    ``scales``: where the model stands, by name (``{"width": 256}``).  ``steps``: how many to take; a schedule ends
    there.  ``seed``: of the data; the model has been initialised from it already.  ``inputs``: what the factory
    returned beside the model.  ``multipliers``: those of this place.
    """

    scales: Mapping[str, int]
    steps: int
    seed: int
    inputs: Any
    multipliers: Multipliers
    device: str = "cpu"
    curve: list[tuple[int, float]] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.scales["width"]

    def report(self, step: int, loss: Any) -> None:
        """Note the loss of a step.  Ends the run (:class:`Diverged`) where it is no finite number, or runs away.

        Raises TpcalcError where it is no number at all.
        """
        value = _number(loss, "context.report(step, loss) was given", "give it the loss of the step")
        self.curve.append((step, value))
        if not math.isfinite(value) or value > RUNAWAY * max(self.curve[0][1], 1.0):
            raise Diverged

    def clip_grad_norm_(self, model: torch.nn.Module, max_norm: float) -> Any:
        """Clip by the norm that one ``max_norm`` serves at all sizes (docs/multipliers.md)."""
        return self.multipliers.clip_grad_norm_(model, max_norm)

    def generator(self, offset: int = 0) -> torch.Generator:
        """A source of randomness for data: the same at every size and for every hyperparameter, another a seed."""
        return torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + offset)


@dataclass(frozen=True)
class Outcome:
    """What came of one run.  ``loss``: infinite where it diverged.  ``curve``: (step, loss) as reported."""

    loss: float
    curve: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0


def outcome(train: Train, model: torch.nn.Module, optimizer: Any, context: Context) -> Outcome:
    """Run the loop.  Raises TpcalcError where it gives no number, or raises itself."""
    started = time.perf_counter()
    try:
        loss = train(model, optimizer, context)
    except (TpcalcError, KeyboardInterrupt):
        raise
    except Diverged:
        loss = math.inf
    except (Exception, SystemExit) as error:
        raise TpcalcError(
            f"{name_of(train)} raised {error_text(error)} at {scales_text(context.scales)}; it is called as "
            f"train(model, optimizer, context) and returns the loss"
        ) from error
    value = _number(loss, f"{name_of(train)} returned", "return the loss to be judged by")
    return Outcome(value if math.isfinite(value) else math.inf, tuple(context.curve), time.perf_counter() - started)


def _number(loss: Any, said: str, wanted: str) -> float:
    try:
        if isinstance(loss, (bool, str)):
            raise TypeError
        return _float(loss)
    except (TypeError, ValueError, RuntimeError):
        shape = list(getattr(loss, "shape", ()))
        what = "a tensor" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TpcalcError(f"{said} {what}{f' of shape {shape}' if shape else ''}; {wanted}, one number") from None


def _float(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)


def check_train(train: Train) -> None:
    """Raise TpcalcError unless ``train`` can be called with a model, an optimizer and a context."""
    try:
        inspect.signature(train).bind(None, None, None)
    except TypeError:
        shown = str(inspect.signature(train))
        raise TpcalcError(
            f"{name_of(train)}{shown} can't be called as train(model, optimizer, context); give it these three "
            f"arguments, and return the loss"
        ) from None
    except ValueError:
        return  # it has no signature that can be read


def default_train(model: torch.nn.Module, optimizer: Any, context: Context) -> float:
    """Train on the inputs of the factory, a batch or a list of batches, and give the mean loss of the last tenth.

    The loss is the model's own (a scalar, or ``.loss``), or of logits over tokens that of the next token.  The
    learning rate rises over the first tenth and falls to a tenth along a cosine.
    """
    steps = context.steps
    losses = []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps))
    for step, given in enumerate(islice(batches(context.inputs), steps)):
        batch = tree_map(lambda x: x.to(context.device) if isinstance(x, torch.Tensor) else x, given)
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model(**batch) if isinstance(batch, Mapping) else model(*batch), batch)
        losses.append(loss.detach())
        context.report(step, losses[-1])
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(torch.stack(losses[-max(1, steps // 10) :]).mean())


def warmup_cosine(step: int, steps: int) -> float:
    """The learning rate at ``step`` over its largest: linear over a tenth of all steps, then a cosine to a tenth."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    part = min(1.0, (step - warm) / max(1, steps - warm))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * part))


def batches(inputs: Any) -> Iterator[Any]:
    """Without end those of a factory's inputs, which are one batch or a list of them.  Raises TpcalcError for none."""
    if inputs is None:
        raise TpcalcError(
            "the target gives no inputs to train on; return (model, inputs), or give --train file.py:train"
        )
    several = isinstance(inputs, Sequence) and all(isinstance(batch, (Sequence, Mapping)) for batch in inputs)
    return cycle(inputs if several and inputs else [inputs])


def with_a_batch(factory: Callable[..., Any]) -> Callable[..., Any]:
    """``factory`` with the first of its batches for inputs, which is what the model is traced with."""

    @wraps(factory)
    def made(*width: int, **scales: int) -> tuple[Any, Any]:
        model, inputs = call_factory(factory, width[0] if width else Point(tuple(scales), scales.values()))
        return model, None if inputs is None else next(batches(inputs))

    made.__name__ = name_of(factory)
    return made


def _loss(output: Any, batch: Any) -> torch.Tensor:
    own: Optional[torch.Tensor] = find_loss(output)
    if own is not None:
        return own
    outputs = [out for _, out in primary_outputs(output)]
    leaves = batch.values() if isinstance(batch, Mapping) else batch
    tokens = [x for x in leaves if isinstance(x, torch.Tensor) and not x.is_floating_point() and x.dim() >= 2]
    if len(outputs) == 1 and tokens and outputs[0].dim() == tokens[0].dim() + 1:
        logits, first = outputs[0], tokens[0]
        if logits.shape[:-1] == first.shape:
            return F.cross_entropy(logits[..., :-1, :].flatten(0, -2), first[..., 1:].flatten())
    raise TpcalcError(
        "the model returns no loss, and no logits over the tokens that it reads; give a loop: --train file.py:train"
    )
