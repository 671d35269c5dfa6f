"""Multipliers applied to a real model: torch only.

Copied into generated files (:mod:`tpcalc.scaling.standalone`), so what the package does and what a generated file does
is one and the same code.
"""

from __future__ import annotations

# --- copied into generated files from here on ---
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.shards import _draw, _is_off, _local, _scale_slices, _shard_generator, _shared_seed, _weighed_norm
from tpcalc.scaling.weight import Weight, _plain, _some


class Multipliers:
    """Multipliers keyed by parameter name, and what is done with them.

    Names are looked up anew at each call, so copies, reloads, ``torch.compile``, DDP
    and ``fully_shard`` make no difference.
    """

    error: type[Exception] = ValueError

    def __init__(
        self,
        weights: Iterable[Weight],
        assumed: Mapping[str, Assumed] | None = None,
    ) -> None:
        self._assumed = assumed or {}  # by the name of the optimizer
        self._made: list[list[weakref.ref[_Group]]] = []
        self._table: dict[str, tuple[Weight, str]] = {}
        for weight in weights:
            for name in weight.names():
                for key in (name, *weight.aliases):
                    self._table[key] = (weight, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": []}  # groups are of this process alone

    def init_(
        self,
        model: nn.Module,
        from_scratch: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Turn the model's own fresh initialisation into the wanted one, in place.

        Call it once, right after the model has initialised itself: each parameter is
        multiplied by its multiplier.  ``from_scratch=True`` draws every parameter anew
        instead (after ``to_empty``, when the model cannot initialise itself).
        """
        matched = self.match(model)
        meta = [name for name, parameter, _ in matched if parameter.is_meta]
        if meta:
            raise self.error(
                f"{_some(meta)} of the model is on the meta device; "
                f"call model.to_empty(device=...) and initialise it first"
            )
        if from_scratch:
            other = [name for name, _, weight in matched if weight.draw[0] == "other"]
            if other:
                raise self.error(
                    f"the law of {_some(other)} is not a plain distribution and cannot "
                    f"be drawn here; run the model's own initialisation, "
                    f"then init_(model)"
                )
        seed = None
        off = [name for name, p, w in matched if not from_scratch and _is_off(p, w)]
        if off:
            warnings.warn(
                f"{_some(off)} is not as the code at the target width initialises it; "
                f"call init_ once, on a fresh model, before anything is loaded into it",
                stacklevel=2,
            )
        with torch.no_grad():
            for name, parameter, weight in matched:
                if from_scratch:
                    source, here = generator, _local(parameter)
                    if hasattr(parameter, "placements"):
                        if seed is None:
                            seed = _shared_seed(parameter, generator)
                        source = _shard_generator(parameter, seed, name)
                    law, mean, std = weight.draw
                    if weight.slices:  # drawn as the code does and scaled below
                        mean, std = mean / weight.init, std / weight.init
                    _draw(here, law, mean, std, source)
                if weight.slices:
                    _scale_slices(parameter, weight)
                elif not from_scratch and weight.init != 1.0:
                    parameter.mul_(weight.init)

    def forward_(self, model: nn.Module) -> None:
        """Put the multipliers of the forward pass on the weights of ``model``, in place.

        Each becomes a ``torch.nn.utils.parametrize`` parametrization: ``module.weight`` is
        then the parameter times its multiplier.  Where every multiplier is 1 nothing
        changes.  Call it once, on a model that has initialised itself (before or after
        ``init_``), and before DistributedDataParallel or ``fully_shard``.
        """
        multiplied = {
            id(parameter): (name, parameter, weight.forward)
            for name, parameter, weight in self.match(model)
            if weight.forward != 1.0
        }
        places = [
            (module, name, *multiplied[id(parameter)])
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if id(parameter) in multiplied
        ]
        wrapped = [m for m in model.modules() if isinstance(m, DistributedDataParallel)]
        if places and wrapped:  # its hooks on the parameters would not survive
            raise self.error("call forward_ before the model is wrapped in DDP")
        for module, name, known, parameter, _ in places:
            problem = _why_not(module, name, parameter)
            if problem:
                raise self.error(f"{known} {problem}")
        for module, name, _, _, multiplier in places:
            parametrization = _Multiplier(multiplier)
            parametrize.register_parametrization(module, name, parametrization)

    def param_groups(
        self,
        model: nn.Module,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        *,
        no_decay: Callable[[str, nn.Parameter], bool] | None = None,
        optimizer: str | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """The fewest optimizer groups; ``lr``, ``weight_decay``, ``eps`` as at base width.

        Frozen parameters are left out.  ``no_decay(name, parameter)`` says which ones
        have no weight decay.  ``optimizer`` chooses among the optimizers of the table,
        where it has several.  Further ``options`` go into every group; ``betas`` (``alpha``
        of RMSprop) as at base width, where a rule for the batch size changes them.
        """
        kinds = sorted({weight.optimizer for weight, _ in self._table.values()})
        if (optimizer is None and len(kinds) > 1) or optimizer not in (None, *kinds):
            raise self.error(
                f"optimizer={optimizer!r} names no group of parameters here; "
                f"choose one of {', '.join(map(repr, kinds))}"
            )
        assumed = self._assumed.get(optimizer or "".join(kinds), Assumed())
        options = assumed.options(options, self.error)
        groups: dict[Any, _Group] = {}
        for name, parameter, weight in self.match(model):
            if not parameter.requires_grad:
                continue
            if optimizer not in (None, weight.optimizer):
                continue
            decays = weight_decay != 0 and not (no_decay and no_decay(name, parameter))
            decay = weight.weight_decay if decays else 0.0
            key = (weight.lr, decay, weight.eps)
            if key not in groups:
                rate = weight.lr * assumed.lr
                scaled_lr = lr * rate
                if isinstance(lr, Tensor):
                    scaled_lr = lr.detach().clone().mul_(rate)
                groups[key] = _Group(
                    params=[],
                    lr=scaled_lr,
                    weight_decay=weight_decay * (decay * assumed.weight_decay),
                    **options,
                    lr_multiplier=rate,
                )
                if weight.eps is not None:
                    groups[key]["eps"] = eps * (weight.eps * assumed.eps)
            groups[key]["params"].append(parameter)
        self._made = [made for made in self._made if any(group() for group in made)]
        self._made.append([weakref.ref(group) for group in groups.values()])
        return list(groups.values())

    def beside(self, weight: Weight) -> Assumed:
        """What a rule for batch size and length multiplies, where one is assumed."""
        return self._assumed.get(weight.optimizer, Assumed())

    def set_lr(self, optimizer: Any, lr: float | Tensor) -> None:
        """Set the learning rate of every group; ``lr`` as at base width.

        For loops that change it by hand: ``group["lr"] = lr`` in each group would erase
        the multipliers.  Groups must have been made by ``param_groups``.
        """
        if not float(lr) >= 0.0:
            raise self.error(f"lr={lr!r} is no learning rate; give one of 0 or more")
        unknown = [g for g in optimizer.param_groups if "lr_multiplier" not in g]
        if unknown:
            raise self.error(
                f"{len(unknown)} of {len(optimizer.param_groups)} groups of the optimizer "
                f"have no lr_multiplier; make them with param_groups(model, lr=...)"
            )
        for group in optimizer.param_groups:
            scaled = lr * group["lr_multiplier"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(scaled)
            else:
                group["lr"] = float(scaled)

    def check_(self, optimizer: Any = None) -> bool:
        """Whether learning rates still stand in the ratio of their multipliers.

        Warns, saying what to write, where they do not: something gave every group the
        same learning rate.  ``optimizer`` None: all groups that ``param_groups`` made and
        that are still in use, as ``clip_grad_norm_`` looks at every step.
        """
        trouble = self._out_of_ratio(optimizer)
        if trouble:
            warnings.warn(trouble, RatioWarning, stacklevel=2)
        return not trouble

    def _out_of_ratio(self, optimizer: Any = None) -> str:
        """What to write where rates are not in ratio: the same sentence at every step."""
        made: list[list[Any]] = [[group() for group in refs] for refs in self._made]
        if optimizer is not None:
            made = [[g for g in optimizer.param_groups if "lr_multiplier" in g]]
        for groups in made:
            groups = [g for g in groups if g is not None and _is_readable(g["lr"])]
            rates = [float(group["lr"]) for group in groups]
            first = [float(group.get("initial_lr", 0.0)) for group in groups]
            # a cosine ends at rounding errors in place of 0
            ended = max(rates, default=0.0) <= 1e-9 * max(first, default=0.0)
            if not ended and not _kept(rates, groups):
                multipliers = [group["lr_multiplier"] for group in groups]
                found, wanted = _as_ratio(rates), _as_ratio(multipliers)
                return (
                    f"the lr of the groups are as {found}, and their multipliers as "
                    f"{wanted}: something sets every group to one value; write "
                    f"set_lr(optimizer, lr) in place of group['lr'] = lr"
                )
        return ""

    def clip_grad_norm_(
        self,
        model: nn.Module,
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
    ) -> Tensor:
        """``torch.nn.utils.clip_grad_norm_`` with each gradient weighed by its ``clip``.

        Gives the norm, and the clipped gradients, of the model with its multipliers
        written into its forward pass, where one ``max_norm`` holds at all widths.
        Warns where learning rates have lost their ratios (``check_``).
        """
        # out here, so that the warning names the line of the caller
        trouble = self._out_of_ratio()
        if trouble:
            warnings.warn(trouble, RatioWarning, stacklevel=2)
        max_norm, norm_type = float(max_norm), float(norm_type)
        with torch.no_grad():
            return self._clip(model, max_norm, norm_type, error_if_nonfinite)

    def _clip(
        self,
        model: nn.Module,
        max_norm: float,
        norm_type: float,
        error_if_nonfinite: bool,
    ) -> Tensor:
        found = []
        for _, parameter, weight in self.match(model):
            if parameter.grad is not None:
                found.append((parameter.grad, weight.clip))
        grads = [grad for grad, _ in found]
        sharded = any(hasattr(grad, "placements") for grad in grads)
        if not sharded and all(clip == 1.0 for _, clip in found):
            parameters = [p for p in model.parameters() if p.grad is not None]
            clip = torch.nn.utils.clip_grad_norm_
            return clip(parameters, max_norm, norm_type, error_if_nonfinite)
        total = _weighed_norm(found, norm_type)
        if error_if_nonfinite and not torch.isfinite(total):
            what = f"the total norm of order {norm_type} of the gradients"
            raise RuntimeError(f"{what} is not finite, so they cannot be clipped")
        coefficient = torch.clamp(max_norm / (total + 1e-6), max=1.0)
        by_kind: dict[Any, list[Tensor]] = {}
        for grad in map(_local, grads):
            by_kind.setdefault((grad.device, grad.dtype), []).append(grad)
        for (device, _), members in by_kind.items():
            torch._foreach_mul_(members, coefficient.to(device))
        return total

    def match(self, model: nn.Module) -> list[tuple[str, nn.Parameter, Weight]]:
        """Each parameter of ``model`` once, with its name here and its entry.

        Raises ``error``, naming them, where the model has other parameters, other
        shapes or other ties than the one the multipliers were made for.
        """
        found = list(model.named_parameters(remove_duplicate=False))
        names = self._bare([_plain(name) for name, _ in found])
        self._check_names(names)
        matched: dict[int, tuple[str, nn.Parameter, Weight]] = {}
        owner: dict[str, tuple[int, str]] = {}
        for name, (_, parameter) in zip(names, found, strict=True):
            weight, first = self._table[name]
            same = matched.setdefault(id(parameter), (first, parameter, weight))
            before, partner = owner.setdefault(first, (id(parameter), name))
            if same[0] != first:
                raise self.error(
                    f"{same[0]} and {first} are one tied parameter in this model but "
                    f"two in the traced one; untie them, or trace this model"
                )
            if before != id(parameter):
                raise self.error(
                    f"{partner} and {name} are two parameters in this model but tied in "
                    f"the traced one; tie them again (to_empty unties)"
                )
            if tuple(parameter.shape) != weight.shape:
                raise self.error(
                    f"{name} has shape {list(parameter.shape)} where these multipliers "
                    f"are for {list(weight.shape)}; build the model at the target width"
                )
        return list(matched.values())

    def _bare(self, names: list[str]) -> list[str]:
        """The names as in the table: without what all of them, and not it, begin with.

        DDP's ``module.``, PEFT's ``base_model.model.``, the attribute under which a
        Lightning module holds the model.
        """
        bare, found = names, [self.table_name(name) for name in names]
        tried = [found]
        while any(name not in self._table for name in found):
            heads = [name.partition(".")[0] + "." for name in bare]
            most = max(heads, key=heads.count)
            below = [name.removeprefix(most) for name in bare]
            inner = [self.table_name(name) for name in below]
            if not self._table.keys() >= set(inner):
                tried.append(inner)
            if below == bare or any(head != most for head in heads):
                # refused: under the names that show best what is too much, what lacks
                known = [len(self._table.keys() & set(these)) for these in tried]
                return tried[known.index(max(known))]
            bare, found = below, inner
        return found

    def table_name(self, name: str) -> str:
        """The name of a parameter before ``forward_`` put a multiplier on it."""
        *path, kind, held, last = ["", "", *name.split(".")]
        if name in self._table or (kind, last) != ("parametrizations", "original"):
            return name
        return ".".join([*path[2:], held])

    def _check_names(self, names: list[str]) -> None:
        present = set(names)
        missing = [name for name in self._table if name not in present]
        extra = [name for name in names if name not in self._table]
        if missing or extra:
            parts = []
            if missing:
                parts.append(f"it lacks {_some(missing)}")
            if extra:
                parts.append(f"it also has {_some(extra)}")
            raise self.error(
                f"the model is not the one these multipliers were made for: "
                f"{' and '.join(parts)}; make them from this model"
            )


class RatioWarning(UserWarning):
    """Something erases the ratios between the learning rates of the groups."""


class _Group(dict):
    """A group of an optimizer that can be held weakly."""


def _is_readable(rate: Any) -> bool:
    """Whether a learning rate can be looked at without waiting for a device."""
    return not isinstance(rate, Tensor) or rate.device.type == "cpu"


def _as_ratio(values: Sequence[float]) -> str:
    most = max(values) or 1.0
    return " : ".join(f"{value / most:.3g}" for value in values)


def _kept(values: Sequence[float], groups: Sequence[Any]) -> bool:
    """Whether values are in the ratio of the multipliers of their groups, or of these times
    the rate that each group had at the base, where these were not all one."""
    multipliers = [group.get("lr_multiplier", 1.0) for group in groups]
    own = [group.get("lr_at_base", 1.0) for group in groups]
    both = [m * rate for m, rate in zip(multipliers, own, strict=True)]
    return _in_ratio(values, multipliers) or _in_ratio(values, both)


def _in_ratio(values: Sequence[float], multipliers: Sequence[float]) -> bool:
    """Whether values are one number times their multipliers, but for rounding."""
    pairs = list(zip(values, multipliers, strict=True))
    if any(value for value, multiplier in pairs if not multiplier):
        return False
    quotients = [v / m for v, m in pairs if m]
    low, high = min(quotients, default=0.0), max(quotients, default=0.0)
    return high - low <= 1e-6 * max(abs(low), abs(high))


class _Multiplier(nn.Module):
    """The parametrization of a weight that is multiplied in the forward pass."""

    def __init__(self, multiplier: float) -> None:
        super().__init__()
        self.multiplier = multiplier

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.multiplier


def _why_not(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    """Why the weight ``module.name`` can't be multiplied from outside; empty if it can."""
    kind = type(module).__name__
    if isinstance(module, parametrize.ParametrizationList):
        others = {type(part).__name__ for part in module}
        if _Multiplier.__name__ in others:
            return "has its multiplier already; call forward_ once"
        return (
            f"has another parametrization ({', '.join(sorted(others))}), which a "
            f"multiplier cannot join; use multipliers of the gauge init"
        )
    if isinstance(module, nn.RNNBase):
        return (
            f"is held by {kind}, which hands its weights to a fused kernel past any "
            f"multiplier; use multipliers of the gauge init"
        )
    if isinstance(module, torch.jit.ScriptModule):
        return f"is held by {kind}, a script; call forward_ before torch.jit.script"
    bounded = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    if bounded and module.max_norm is not None:
        return (
            f"is held by {kind} with max_norm, which cuts the rows of the product and "
            f"not of the parameter; use multipliers of the gauge init"
        )
    if hasattr(nn.ModuleDict(), name):
        return (
            f"is called as an attribute of nn.ModuleDict ({name}), in which torch keeps "
            f"multipliers; rename it, or use multipliers of the gauge init"
        )
    if hasattr(parameter, "placements"):
        return "is sharded already; call forward_ before fully_shard"
    return ""
