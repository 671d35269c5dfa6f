"""The bench: steps of a copied optimizer on one small real tensor, and what they do to it."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, NamedTuple, Optional

import torch

from tpcalc.probe import samples
from tpcalc.probe.alone import alone
from tpcalc.probe.copy import DECAYS, EPSILON, Subject, Unprobable, memo_of, number, rates, replica, told
from tpcalc.probe.hooks import hang, hooked
from tpcalc.probe.samples import Kind
from tpcalc.trace.record import as_written, seeded, without_dynamo


class Setting(NamedTuple):
    """Of one run.  ``times``: the width, over the smallest.  ``wd``, ``eps`` None: as good as none.
    ``repeated``: the gradient is the same at every step.  ``every``: all steps are looked at, not the last alone.

    Gradients and weights are small against what an optimizer may clip or clamp, and large against an epsilon in it.
    """

    times: int = 1
    gradient: float = 2.0**-10
    size: float = 2.0**-4
    lr: float = 2.0**-16
    wd: Optional[float] = None
    eps: Optional[float] = None
    steps: int = 2
    scaled: str = ""
    by: float = 1.0
    repeated: bool = False
    every: bool = False


class Step(NamedTuple):
    """What one step does.  ``aligned``: entry of the update that acts on aligned inputs, for a learning rate of 1; of
    what goes along the weight, as decay does, nothing is in it.
    ``removed``: share of the weight that it takes away; ``at_first``: of the weight as it was before the first one."""

    aligned: float
    removed: float
    at_first: float


#: Decay and epsilon that are on and do nothing.
TINY_DECAY, TINY_EPS = 2.0**-40, 2.0**-50
#: How much larger rates are in float32, where an update must not be lost beside its weight; and with a decay, which
#: must not wear it down.
RATE_32, DECAYED_32 = 2.0**8, 2.0**3


#: Seconds of a processor for all runs of one reading; most take less than one.
PATIENCE = 20.0


class Slow(Exception):
    """The runs take too long: what was not looked at is not to be taken for what is not there."""


@dataclass
class Clock:
    """Seconds of a processor that runs have taken, and those of a step in the fastest (the first may import much)."""

    spent: float = 0.0
    step: float = math.inf

    def took(self, seconds: float, steps: int) -> None:
        self.spent, self.step = self.spent + seconds, min(self.step, seconds / steps)

    def after(self, steps: int) -> float:
        """What will have been spent after so many more."""
        return self.spent + self.step * steps if self.spent else 0.0


@dataclass
class Bench:
    """Runs a subject on shapes of one kind.  ``generic``: with gradients that have nothing in common (see samples).
    ``company``: another weight stands beside it, whose gradient is this many times larger (0: there is none).
    ``hooks``: those of its step are run too."""

    subject: Subject
    kind: Kind
    dtype: torch.dtype = torch.float64
    closure: Optional[bool] = None
    generic: bool = False
    company: float = 0.0
    hooks: bool = True
    runs: int = 0
    _rest: dict[int, torch.nn.Parameter] = field(default_factory=dict)
    _alone: dict[torch.dtype, Subject] = field(default_factory=dict)
    _clock: Clock = field(default_factory=Clock)
    _kept: dict[tuple[Setting, int], list[Step]] = field(default_factory=dict)

    def like(self, **changes: Any) -> Bench:
        """Another one, of the same subject and in the same way but for ``changes``."""
        names = ("dtype", "closure", "generic", "company", "hooks", "_alone", "_clock")
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Bench(self.subject, self.kind, **{**kept, **changes})

    # -- what the group says --

    @property
    def hooked(self) -> bool:
        """Whether step hooks are run."""
        return self.hooks and hooked(self.subject.optimizer)

    @property
    def group(self) -> dict[str, Any]:
        return {k: v for k, v in self.subject.group.items() if k != "params"}

    @property
    def decay_key(self) -> Optional[str]:
        return next((key for key in DECAYS if number(self.group.get(key)) is not None), None)

    @property
    def decays(self) -> bool:
        return self.decay_key is not None and bool(number(self.group[self.decay_key]))

    @property
    def eps_keys(self) -> list[str]:
        return [k for k, v in self.group.items() if EPSILON.search(k) and number(v) is not None]

    # -- runs --

    def run(self, setting: Setting, sign: int = 1) -> list[Step]:
        """The steps that are looked at; raises Unprobable where the optimizer does not step, Slow before a run
        that would take too long."""
        found = self._kept.get((setting, sign))
        if found is None:
            if self._clock.after(setting.steps) > PATIENCE:
                raise Slow("its steps take too long for its law to be read off them")
            begun = time.process_time()
            found = self._kept[setting, sign] = self._run(setting, sign)
            self._clock.took(time.process_time() - begun, setting.steps)
        return found

    def _run(self, setting: Setting, sign: int) -> list[Step]:
        self.runs += 1
        tries: list[tuple[torch.dtype, bool]]
        if self.closure is not None:
            tries = [(self.dtype, self.closure)]
        else:
            first = self._wants_closure()
            doubles = (torch.float64, torch.float32) if self.dtype is torch.float64 else (torch.float32,)
            tries = [(dtype, c) for dtype in doubles for c in (first, not first)]
        problem = ""
        for dtype, closure in tries:
            try:
                made = self._steps(setting, sign, dtype, closure)
            except _Single:
                self.dtype = torch.float32
                return self._run(setting, sign)
            except Unprobable:
                raise
            except Exception as error:
                problem = problem or f"its step fails on a small tensor ({told(error)})"
                continue
            self.dtype, self.closure = dtype, closure
            return made
        raise Unprobable(problem)

    def _wants_closure(self) -> bool:
        try:
            parameters = list(inspect.signature(type(self.subject.optimizer).step).parameters.values())[1:]
        except (TypeError, ValueError):
            return False
        return bool(parameters) and parameters[0].default is inspect.Parameter.empty

    def _steps(self, setting: Setting, sign: int, dtype: torch.dtype, closure: bool) -> list[Step]:
        base, shape = self.kind.base, self.kind.at(setting.times)
        lr = setting.lr
        if dtype is torch.float32:
            lr *= RATE_32 if setting.wd is None else DECAYED_32
            if setting.wd is None and setting.size:  # nor must a small weight be lost beside its updates
                lr *= min(1.0, setting.size / Setting().size)
        stand_in = torch.nn.Parameter((sign * samples.weight(base, shape, setting.size)).to(dtype))
        other = torch.nn.Parameter(samples.weight(base, base, Setting().size).to(dtype)) if self.company else None
        origin, found = stand_in.detach().double().clone(), []
        with (
            seeded(),
            warnings.catch_warnings(),
            alone(),
            without_dynamo(),
            as_written(),
            torch.enable_grad(),
            ExitStack() as quiet,
        ):
            warnings.simplefilter("ignore")
            subject = self.subject if self.hooked else self._by_itself(dtype)
            memo = memo_of(subject, stand_in, self._rest if self.hooked else {})
            optimizer = replica(subject, stand_in, other, memo)
            if self.hooked:
                quiet.enter_context(redirect_stdout(StringIO()))
                hang(self.subject.optimizer, optimizer, memo)
                for parameter in self._rest.values():
                    parameter.grad = torch.zeros_like(parameter)
            self._set(optimizer, setting._replace(lr=lr))
            with suppress(Exception):  # a wrapper may ask one that has none
                optimizer.train()
            for step in range(setting.steps):
                if step == 0 or not setting.repeated:
                    made = samples.gradient(base, shape, setting.gradient, step, self.generic)
                seen = setting.every or step == setting.steps - 1
                before = stand_in.detach().double().clone() if seen else origin
                grads = [(stand_in, made.to(dtype))]
                if other is not None:
                    size = Setting().gradient * self.company
                    grads.append((other, samples.gradient(base, base, size, step + 500, self.generic).to(dtype)))
                stepped(optimizer, grads, closure)
                if seen:
                    found.append(_seen(stand_in.detach().double() - before, before, origin, made, lr))
            if dtype is torch.float64 and _is_single(stand_in.detach()) and not _is_single(origin):
                raise _Single
        return found

    def _by_itself(self, dtype: torch.dtype) -> Subject:
        """The subject without what is trained beside it: a copy, which is never stepped and is fast to copy."""
        if dtype not in self._alone:
            alone = torch.nn.Parameter(torch.zeros(self.kind.base, dtype=dtype))
            made = replica(self.subject, alone)
            index = next(index for index, group in enumerate(made.param_groups) if group["params"])
            self._alone[dtype] = Subject(made, index, alone)
        return self._alone[dtype]

    def _keeps_tensors(self, value: Any) -> bool:
        """A rate that is a tensor; torch's own optimizers would have it on a device, or no foreach."""
        return isinstance(value, torch.Tensor) and not type(self.subject.optimizer).__module__.startswith("torch.optim")

    def _set(self, optimizer: Any, setting: Setting) -> None:
        """The numbers of the run, in the group that holds the stand-in."""
        group = next(g for g in optimizer.param_groups if g["params"])
        rate = number(group.get("lr"))
        moved = rates(group)
        for key, value in list(group.items()):
            own = number(value)
            if key in moved and own is not None:
                number_of = setting.lr * (own / rate if rate else 1.0)
                group[key] = torch.full_like(value, number_of) if self._keeps_tensors(value) else number_of
            elif key in ("capturable", "fused") and own is None and value:
                group[key] = False
        if self.decay_key is not None:
            tiny = TINY_DECAY if self.decays else 0.0
            group[self.decay_key] = tiny if setting.wd is None else setting.wd
        for key in self.eps_keys:
            group[key] = TINY_EPS if setting.eps is None else setting.eps
        if setting.scaled:
            group[setting.scaled] = (number(group[setting.scaled]) or 0.0) * setting.by


class _Single(Exception):
    """It computes in float32, whatever the parameter is: rates must be larger."""


def _is_single(weight: torch.Tensor) -> bool:
    return torch.equal(weight.float().double(), weight)


def stepped(optimizer: Any, grads: list[tuple[torch.nn.Parameter, torch.Tensor]], closure: bool = False) -> None:
    """Have it step with these gradients."""

    def loss(*args: Any, **options: Any) -> torch.Tensor:
        for parameter, made in grads:
            parameter.grad = made.clone()
        return torch.ones((), dtype=grads[0][1].dtype)

    loss()
    optimizer.step(loss) if closure else optimizer.step()


def _seen(moved: torch.Tensor, before: torch.Tensor, origin: torch.Tensor, made: torch.Tensor, lr: float) -> Step:
    moved, before, origin, made = (tensor.flatten() for tensor in (moved, before, origin, made))
    if not math.isfinite(_dot(moved, moved)):
        raise Unprobable("its update is not finite on small numbers")
    square, size = _dot(made, made), _dot(before, before)
    norm = math.sqrt(square * made.numel())
    along = made - _dot(made, before) / size * before if size else made
    if _dot(along, along) < square / 16:  # a few entries, which point to where the weight does
        along = made
    removed = -_dot(moved, before) / size if size else 0.0
    first = _dot(origin, origin)
    return Step(abs(_dot(moved, along)) / norm / lr, removed, -_dot(moved, origin) / first if first else 0.0)


def _dot(one: torch.Tensor, other: torch.Tensor) -> float:
    # not torch.dot, whose last digits depend on where its operands lie in memory: shares that cancel would not always
    return float((one * other).sum())


__all__ = ["Bench", "Setting", "Slow", "Step", "stepped"]
