"""A copy of a live optimizer that holds one small real tensor in the place of one of its parameters.

The live one is never stepped and never written to.  Its parameters may be without memory (a setup runs under traced
tensors) or of any size; whatever else it holds is copied: options of the group, attributes, flags in its state, an
optimizer inside it.  Only a state that was made for the parameter in advance is made anew, at the size of the stand-in.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import torch

from tpcalc.errors import TraceError
from tpcalc.trace.record import REAL, Phantom

#: Attributes that belong to the live optimizer alone: schedulers put a ``step`` of their own on it.
NOT_COPIED = ("step", "state", "_opt_called", "_zero_grad_profile_name")
#: Attributes of a parameter that are the trace's.
OF_TRACES = (*Phantom.__annotations__, "_is_param")
#: Names of the rate in a group.
RATES = ("lr", "initial_lr")
#: Names of the decay in a group.
DECAYS = ("weight_decay", "wd")
#: A name of an epsilon in a group (``eps``, ``adamw_eps``, ``epsilon``), which ``steps`` is not.
EPSILON = re.compile(r"(^|_)eps(ilon)?(_|\d|$)", re.IGNORECASE)
#: A tensor without memory of more entries than this is nothing that a step on a small tensor could use.
MOST = 1 << 16
#: How deep what an optimizer holds is looked into.
DEEP = 5


class Unprobable(Exception):
    """Why an optimizer can't be probed, as the end of a sentence."""


@dataclass(frozen=True)
class Subject:
    """One parameter of a live optimizer: the place of its group and the tensor itself."""

    optimizer: Any
    index: int
    parameter: torch.Tensor

    @property
    def group(self) -> Mapping[str, Any]:
        return self.optimizer.param_groups[self.index]

    @property
    def said(self) -> Mapping[str, Any]:
        """What its state says of it besides tensors (Moonlight's Muon: ``use_muon``)."""
        states = getattr(self.optimizer, "state", None)
        state = states.get(self.parameter) if isinstance(states, Mapping) else None
        return {k: v for k, v in state.items() if plain(v)} if isinstance(state, Mapping) else {}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What a user put on the parameter (``p.lr_scale``)."""
        held = getattr(self.parameter, "__dict__", {})
        return {k: v for k, v in held.items() if k not in OF_TRACES and not isinstance(v, torch.Tensor)}


def plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str)) or type(value).__name__ == "dtype"


def rates(group: Mapping[str, Any]) -> list[str]:
    """Keys of a group that hold its rate: what a scheduler or a class keeps equal to it is moved with it."""
    rate = number(group.get("lr"))
    kept = rate not in (None, 0.0, 1.0)
    return [
        key
        for key, value in group.items()
        if number(value) is not None and (key in RATES or (kept and "lr" in key and number(value) == rate))
    ]


def number(value: Any) -> Optional[float]:
    """A Python number of a number or of a tensor of one entry (also one that is traced); None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        real = getattr(value, "content", None) if hasattr(value, "memory") else value
        return None if real is None else float(real)
    return float(value) if isinstance(value, (int, float)) else None


# -- the copy ----------------------------------------------------------------------------------------


def replica(
    subject: Subject,
    stand_in: torch.nn.Parameter,
    other: Optional[torch.nn.Parameter] = None,
    memo: Optional[dict[Any, Any]] = None,
) -> Any:
    """A copy of the optimizer that holds ``stand_in`` alone, or with an ``other``, in a group with the options of the
    subject's.  ``memo``: what stands for what (see :func:`memo_of`); what is copied is added.

    Raises Unprobable where it can't be copied, nor made anew from its options.
    """
    made = _replica(subject, stand_in, memo_of(subject, stand_in, {}) if memo is None else memo)
    for name, value in subject.attributes.items():
        try:
            setattr(stand_in, name, copy.deepcopy(value, {id(subject.parameter): stand_in}))
        except Exception as error:
            raise Unprobable(f"the {name} of its parameter can't be copied: {told(error)}") from None
    for group in made.param_groups:
        if other is not None and any(p is stand_in for p in group["params"]):
            group["params"].append(other)
    return made


def _replica(subject: Subject, stand_in: torch.nn.Parameter, memo: dict[Any, Any]) -> Any:
    if _made_in_advance(subject):
        try:
            return _anew(subject, stand_in)
        except Exception:  # its options don't tell: a copy, with zeros for what was made
            return _copied(subject, stand_in, memo)
    try:
        return _copied(subject, stand_in, memo)
    except Exception as error:
        try:
            return _anew(subject, stand_in)
        except Exception:
            raise Unprobable(f"it can't be copied: {told(error)}") from None


def told(error: BaseException) -> str:
    if isinstance(error, TraceError):
        return "it works on tensors of the trace, which have no numbers"
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    return f"{type(error).__name__}{f': {text[:120]}' if text else ''}"


def _made_in_advance(subject: Subject) -> bool:
    states = getattr(subject.optimizer, "state", None)
    state = states.get(subject.parameter) if isinstance(states, Mapping) else None
    return isinstance(state, Mapping) and any(isinstance(v, torch.Tensor) and v.dim() for v in state.values())


def memo_of(subject: Subject, stand_in: torch.nn.Parameter, rest: dict[int, torch.nn.Parameter]) -> dict[Any, Any]:
    """What stands for its parameters and for traced tensors where what holds them is copied, as of
    :func:`copy.deepcopy`; ``rest``: for its other parameters, filled at the first call."""
    for optimizer in () if rest else _family(subject.optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in rest:
                    shape = (1,) * max(parameter.dim(), 1)
                    rest[id(parameter)] = torch.nn.Parameter(torch.zeros(shape, dtype=stand_in.dtype))
    memo: dict[Any, Any] = dict(rest)
    memo[id(subject.parameter)] = stand_in
    shape = tuple(subject.parameter.shape)

    def real(tensor: torch.Tensor) -> torch.Tensor:
        """What stands for a traced tensor: its numbers where they are known, else zeros."""
        known = getattr(tensor, "content", None)
        if tuple(tensor.shape) != shape and known is not None:
            return known.clone()
        if tuple(tensor.shape) != shape and tensor.numel() > MOST:
            raise Unprobable("it holds large tensors besides its parameters")
        return torch.zeros(stand_in.shape if tuple(tensor.shape) == shape else tensor.shape, dtype=tensor.dtype)

    memo[REAL] = real
    return memo


def _copied(subject: Subject, stand_in: torch.nn.Parameter, memo: dict[Any, Any]) -> Any:
    shape = tuple(subject.parameter.shape)
    made = _clone(subject.optimizer, memo, stand_in)
    _by_id(vars(made), {key: new for key, new in memo.items() if isinstance(new, torch.nn.Parameter)})
    own = memo[id(subject.group)] if id(subject.group) in memo else made.param_groups[subject.index]
    for optimizer in _family(made):
        for group in optimizer.param_groups:
            kept = [index for index, p in enumerate(group["params"]) if p is stand_in]
            if len(group.get("param_names", ())) == len(group["params"]):
                group["param_names"] = [group["param_names"][index] for index in kept]
            group["params"][:] = [stand_in for _ in kept]
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g is own or g["params"]]
        for entry in optimizer.state.values():
            _resize(entry, shape, stand_in)
    return made


def _family(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those inside it."""
    seen: list[Any] = []
    stack = [optimizer]
    while stack:
        found = stack.pop()
        if all(found is not other for other in seen):
            seen.append(found)
            yield found
            stack += inside(vars(found).values())


def inside(values: Any) -> list[Any]:
    found = []
    for value in values:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        found += [item for item in items if isinstance(item, torch.optim.Optimizer)]
    return found


def _clone(optimizer: Any, memo: dict[Any, Any], stand_in: torch.Tensor) -> Any:
    """By its attributes: torch's own ``__getstate__`` keeps three of them only."""
    cls: Any = type(optimizer)
    made = cls.__new__(cls)
    memo[id(optimizer)] = made
    for inner in inside(vars(optimizer).values()):
        if id(inner) not in memo:
            _clone(inner, memo, stand_in)
    held = {name: value for name, value in vars(optimizer).items() if name not in NOT_COPIED}
    for function in _functions({name: value for name, value in held.items() if not name.endswith("_hooks")}):
        try:
            copied(function, memo)  # else it would go on with what is the live one's, or the trace's
        except Exception:  # it reaches what has no copy: it stays as it is
            memo.pop(id(function), None)
    for name, value in held.items():
        if isinstance(value, types.GeneratorType):  # the names of parameters, used up
            made.__dict__[name] = iter(())
            continue
        hooks = name.endswith("_hooks") and isinstance(value, OrderedDict)
        made.__dict__[name] = OrderedDict() if hooks else copy.deepcopy(value, memo)
    states = getattr(optimizer, "state", None)
    made.__dict__["state"] = defaultdict(dict)
    for key, entry in (states or {}).items():
        if not isinstance(key, torch.Tensor):
            made.state[key] = copy.deepcopy(entry, memo)
        elif memo.get(id(key)) is stand_in:
            made.state[stand_in] = copy.deepcopy(entry, memo)
    return made


def _by_id(held: Any, new: Mapping[Any, torch.nn.Parameter], depth: int = 0) -> None:
    """What goes by the ids of parameters goes by those of what stands for them."""
    if depth > DEEP:
        return
    if isinstance(held, dict):
        for key in [key for key in held if type(key) is int and key in new]:
            held[id(new[key])] = held.pop(key)
    elif isinstance(held, set):
        for key in [key for key in held if type(key) is int and key in new]:
            held.remove(key)
            held.add(id(new[key]))
    inner = held.values() if isinstance(held, dict) else held if isinstance(held, (list, tuple)) else ()
    for value in list(inner):
        if isinstance(value, (dict, set, list, tuple)):
            _by_id(value, new, depth + 1)


def _resize(entry: Any, shape: tuple[int, ...], stand_in: torch.Tensor) -> None:
    """What was made for the parameter in advance, at the size of the stand-in."""
    if not isinstance(entry, dict) or tuple(stand_in.shape) == shape:
        return
    for key, value in entry.items():
        if isinstance(value, torch.Tensor) and tuple(value.shape) == shape and value.dim():
            flat = value.flatten()
            same = value.numel() and bool((flat == flat[0]).all())
            fill = float(flat[0]) if same else 0.0
            entry[key] = torch.full(tuple(stand_in.shape), fill, dtype=stand_in.dtype)


def copied(function: Any, memo: dict[Any, Any]) -> Any:
    """A function with copies of what it closes over; of a method, and of anything else, what it holds is copied."""
    if isinstance(function, functools.partial):
        options = copy.deepcopy(function.keywords, memo)
        return functools.partial(copied(function.func, memo), *copy.deepcopy(function.args, memo), **options)
    if not inspect.isfunction(function):
        return copy.deepcopy(function, memo)
    if id(function) in memo:
        return memo[id(function)]
    if (written := getattr(function, "_torchdynamo_orig_callable", None)) is not None:
        memo[id(function)] = copied(written, memo)
        return memo[id(function)]
    cells = [types.CellType() for _ in function.__closure__ or ()]
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, tuple(cells) or None)
    memo[id(function)] = made
    made.__defaults__, made.__kwdefaults__ = copy.deepcopy((function.__defaults__, function.__kwdefaults__), memo)
    for cell, own in zip(cells, function.__closure__ or (), strict=True):
        held = contents(own)
        cell.cell_contents = copied(held, memo) if inspect.isfunction(held) else copy.deepcopy(held, memo)
    return made


def contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _functions(held: Any, depth: int = 0) -> Iterator[Any]:
    """Functions in what an optimizer holds that close over something."""
    if isinstance(held, (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, type)):
        return
    inner = held if isinstance(held, (list, tuple)) else held.values() if isinstance(held, dict) else ()
    for value in (*inner, *getattr(held, "__dict__", {}).values()):
        if inspect.isfunction(value) and value.__closure__:
            yield value
        elif depth < DEEP:
            yield from _functions(value, depth + 1)


def _anew(subject: Subject, stand_in: torch.nn.Parameter) -> Any:
    """Made by its class, from what the group, the defaults and its attributes say."""
    live, cls = subject.optimizer, type(subject.optimizer)
    group = {k: number(v) if isinstance(v, torch.Tensor) else v for k, v in subject.group.items() if k != "params"}
    group.pop("param_names", None)
    known = {**{k: v for k, v in vars(live).items() if plain(v)}, **getattr(live, "defaults", {}), **group}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]
    wanted = {p.name: known[p.name] for p in parameters if p.name in known and p.kind != p.VAR_KEYWORD}
    made = cls([{**group, "params": [stand_in]}], **wanted)
    state = made.state[stand_in]
    state.update({k: v for k, v in subject.said.items() if k not in state})
    if not state:
        del made.state[stand_in]
    return made
