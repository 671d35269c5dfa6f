"""Optimizers that torch lacks, or has only in bfloat16, in a few readable lines each.  For measurement: small models.

Written from the algorithms of the papers that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tpcalc.errors import TpcalcError

State = dict[Any, Any]
Group = Mapping[str, Any]


class Reference(torch.optim.Optimizer):
    """``W -= lr * direction``; :meth:`direction` is what the optimizers differ in.

    ``DECAY``: ``decoupled`` (``lr * wd * W`` is subtracted), ``coupled`` (``wd * W`` joins the gradient) or ``own``
    (the direction sees to it).
    """

    DECAY = "decoupled"
    DEFAULTS: Mapping[str, Any] = {}

    def __init__(self, groups: Iterable[Any], **defaults: Any) -> None:
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0, **self.DEFAULTS, **defaults})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                gradient = p.grad + decay * p if decay and self.DECAY == "coupled" else p.grad
                direction = self.direction(p, gradient, state, group)
                if decay and self.DECAY == "decoupled":
                    p.mul_(1 - lr * decay)
                p.sub_(direction, alpha=lr)

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        """What one unit of learning rate subtracts from ``p``."""
        raise NotImplementedError


def _average(state: State, name: str, value: Tensor, beta: float) -> Tensor:
    """The running average of ``value``, started at zero."""
    if name not in state:
        state[name] = torch.zeros_like(value)
    return state[name].lerp_(value, 1 - beta)


def _moments(state: State, gradient: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Adam's two averages, with their bias corrected (Kingma & Ba 2015, Algorithm 1)."""
    m = _average(state, "m", gradient, betas[0]) / (1 - betas[0] ** state["step"])
    v = _average(state, "v", gradient.square(), betas[1]) / (1 - betas[1] ** state["step"])
    return m, v


# -- entry by entry ----------------------------------------------------------------------------------


class Sign(Reference):
    """Signum: the sign of a momentum (Bernstein et al. 2018, Algorithm 2); without momentum signSGD."""

    DEFAULTS = {"momentum": 0.9}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        return _average(state, "m", gradient, group["momentum"]).sign()


class Lion(Reference):
    """The sign of an interpolation between gradient and momentum (Chen et al. 2023, Algorithm 2)."""

    DEFAULTS = {"betas": (0.9, 0.99)}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        now, later = group["betas"]
        momentum = state.get("m", torch.zeros_like(gradient))
        state["m"] = torch.lerp(gradient, momentum, later)
        return torch.lerp(gradient, momentum, now).sign()


class AdamAtan2(Reference):
    """Adam with ``atan2(m, sqrt(v))`` for ``m / (sqrt(v) + eps)`` (Everett et al. 2024, Section 5)."""

    DEFAULTS = {"betas": (0.9, 0.999)}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        m, v = _moments(state, gradient, group["betas"])
        return torch.atan2(m, v.sqrt())


# -- scaled to the weight ----------------------------------------------------------------------------


def _trust(size: Tensor, update: Tensor) -> Tensor:
    """``size / update``, and 1 where either is zero, as in the authors' code."""
    return torch.where((size > 0) & (update > 0), size / update, torch.ones_like(size))


class LAMB(Reference):
    """Adam's update, scaled to the norm of the weight (You et al. 2020, Algorithm 2, phi the identity)."""

    DECAY = "own"
    DEFAULTS = {"betas": (0.9, 0.999), "eps": 1e-6}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        m, v = _moments(state, gradient, group["betas"])
        update = m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p
        return update * _trust(p.norm(), update.norm())


class LARS(Reference):
    """The gradient, scaled to the norm of the weight, with momentum after that (You, Gitman & Ginsburg 2017,
    Algorithm 1)."""

    DECAY = "own"
    DEFAULTS = {"momentum": 0.9, "eps": 1e-9}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        decay = group["weight_decay"]
        ratio = _trust(p.norm(), gradient.norm() + decay * p.norm() + group["eps"])
        state["m"] = group["momentum"] * state.get("m", 0.0) + ratio * (gradient + decay * p)
        return state["m"]


# -- whole matrices ----------------------------------------------------------------------------------

#: Coefficients of the quintic iteration (Jordan et al. 2024): steep at zero, and near 1 after five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, eps: float, rounds: int = 5) -> Tensor:
    """About the orthogonal factor of ``matrix``: its singular values come near 1 (Jordan et al. 2024)."""
    x = matrix / (matrix.norm() + eps)
    x = x.T if x.shape[0] > x.shape[1] else x
    a, b, c = QUINTIC
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


#: What the orthogonal factor is multiplied with, by torch's names and one that torch lacks.
ADJUST: Mapping[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1, rows / columns) ** 0.5,  # Jordan et al. 2024
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,  # Liu et al. 2025
    "spectral": lambda rows, columns: (rows / columns) ** 0.5,  # Bernstein & Newhouse 2024; Pethick et al. 2025
}


class Muon(Reference):
    """The orthogonal factor of a momentum times a factor of the shape (Jordan et al. 2024).

    As torch.optim.Muon, in the precision of the weight: torch's rounds are in bfloat16, which takes a hundred times as
    long on processors that lack it.
    """

    DEFAULTS = {"momentum": 0.95, "eps": 1e-7, "adjust_lr_fn": "original"}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        if p.dim() != 2:
            raise TpcalcError(f"{type(self).__name__} takes matrices only, not a weight of shape {tuple(p.shape)}")
        momentum = _average(state, "m", gradient, group["momentum"])
        blend = torch.lerp(gradient, momentum, group["momentum"])  # Nesterov's
        return orthogonal(blend, group["eps"]) * ADJUST[group["adjust_lr_fn"]](*p.shape)


class MuonSpectral(Muon):
    """Muon times ``sqrt(rows / columns)``."""

    DEFAULTS = {**Muon.DEFAULTS, "adjust_lr_fn": "spectral"}


def _unfolded(tensor: Tensor, axis: int) -> Tensor:
    return tensor.movedim(axis, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def _along(matrix: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """``matrix`` applied to one axis of ``tensor``."""
    return torch.tensordot(matrix, tensor, dims=([1], [axis])).movedim(0, axis)


class Shampoo(Reference):
    """Each axis is multiplied by (eps + the sum of its squared unfoldings) to the power -1/(2 * order of the tensor)
    (Gupta, Koren & Singer 2018, Algorithms 1 and 2).  Roots are taken in float64."""

    DEFAULTS = {"eps": 1e-4}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        update = gradient.double()
        for axis, size in enumerate(p.shape):
            sides = _unfolded(gradient.double(), axis)
            gram = state.get(axis)
            gram = group["eps"] * torch.eye(size, dtype=torch.float64) if gram is None else gram
            state[axis] = gram + sides @ sides.T
            values, vectors = torch.linalg.eigh(state[axis])
            root = values.clamp(min=group["eps"]) ** (-1 / (2 * p.dim()))
            update = _along((vectors * root) @ vectors.T, update, axis)
        return update.to(p.dtype)


class SOAP(Reference):
    """Adam in the eigenbasis of Shampoo's running averages (Vyas et al. 2024, Algorithm 3).

    Bases are renewed by one step of power iteration and QR each ``every`` steps; the first step only makes them; a
    vector has none, and takes Adam's steps: as in the authors' code.
    """

    DEFAULTS = {"betas": (0.95, 0.95), "eps": 1e-8, "every": 1}

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        axes = range(p.dim()) if p.dim() > 1 else ()
        if state["step"] == 1:
            for axis in axes:
                gram = self.gram(gradient, state, axis, group)
                # in float64: of so many equal eigenvalues float32 may not converge
                state["basis", axis] = torch.linalg.eigh(gram.double()).eigenvectors.flip(1).to(p.dtype)
            return torch.zeros_like(p)
        m = _average(state, "m", gradient, group["betas"][0])
        rotated = self.rotate(gradient, state, axes)
        v = _average(state, "v", rotated.square(), group["betas"][1])
        taken = state["step"] - 1
        m, v = (x / (1 - beta**taken) for x, beta in zip((m, v), group["betas"], strict=True))
        update = self.rotate(m, state, axes) / (v.sqrt() + group["eps"])
        update = self.rotate(update, state, axes, back=True)
        for axis in axes:
            gram = self.gram(gradient, state, axis, group)
            if taken % group["every"] == 0:
                state["basis", axis] = torch.linalg.qr(gram @ state["basis", axis]).Q
        return update

    @staticmethod
    def gram(gradient: Tensor, state: State, axis: int, group: Group) -> Tensor:
        sides = _unfolded(gradient, axis)
        return _average(state, f"gram {axis}", sides @ sides.T, group["betas"][1])

    @staticmethod
    def rotate(tensor: Tensor, state: State, axes: Sequence[int], back: bool = False) -> Tensor:
        for axis in axes:
            basis = state["basis", axis]
            tensor = _along(basis if back else basis.T, tensor, axis)
        return tensor


class KFAC(Reference):
    """``B^-1 G A^-1``, with A the second moment of a layer's inputs and B that of the gradients of its outputs, one
    sample each (Martens & Grosse 2015, Section 3).

    The factors come from hooks on nn.Linear and nn.Embedding; those of a bias are 1 and B.  A factor is damped by
    ``damping`` times its trace, so that there is nothing to scale.
    """

    DECAY = "coupled"
    DEFAULTS = {"damping": 0.03, "average": 0.95}
    #: Powers of A and B.
    POWERS = (1, 1)

    def __init__(self, groups: Sequence[Group], model: nn.Module, **defaults: Any) -> None:
        super().__init__(groups, **defaults)
        self.inputs: dict[nn.Module, Tensor] = {}
        self.gradients: dict[nn.Module, Tensor] = {}
        self.layer = self._layers(model)
        for module in set(self.layer.values()):
            module.register_forward_hook(self._see)

    def _layers(self, model: nn.Module) -> dict[Tensor, nn.Module]:
        mine = {p for group in self.param_groups for p in group["params"]}
        layer: dict[Tensor, nn.Module] = {}
        for name, module in model.named_modules():
            for own, p in module.named_parameters(name, recurse=False):
                if p not in mine:
                    continue
                if not isinstance(module, (nn.Linear, nn.Embedding)) or p in layer:
                    what = "used twice" if p in layer else f"of {type(module).__name__}"
                    raise TpcalcError(
                        f"the {type(self).__name__} that tpcalc check trains with takes weights and biases of nn.Linear"
                        f" and nn.Embedding, each used once: {own} is {what}; give another as build=, or train hidden "
                        f"matrices only, by {type(self).__name__.lower()}+adamw"
                    )
                layer[p] = module
        return layer

    def _see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep references only: an op in here would be one of the model's."""
        self.inputs[module] = args[0]
        if output.requires_grad:
            output.register_hook(partial(self._see_gradient, module))

    def _see_gradient(self, module: nn.Module, gradient: Tensor) -> None:
        self.gradients[module] = gradient

    def direction(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> Tensor:
        module = self.layer[p]
        table = isinstance(module, nn.Embedding)
        update = gradient.T if table else gradient  # outputs first
        if self.POWERS[1]:
            outputs = self.gradients[module].flatten(0, -2)
            outputs = outputs * len(outputs)  # of each sample's loss, not of their mean
            update = self.divided(outputs.T @ outputs / len(outputs), update, state, "outputs", group)
        if table:
            return self.look_up(self.inputs[module], update.T, state, group)
        if p.dim() > 1:
            inputs = self.inputs[module].flatten(0, -2)
            update = self.divided(inputs.T @ inputs / len(inputs), update.T, state, "inputs", group).T
        return update

    def divided(self, factor: Tensor, by: Tensor, state: State, name: str, group: Group) -> Tensor:
        """The damped inverse of a factor's running average, times ``by``."""
        mean = state[name] = torch.lerp(factor, state.get(name, factor), group["average"]).detach()
        damped = mean + group["damping"] * mean.trace() * torch.eye(len(mean))
        return torch.linalg.solve(damped.double(), by.double()).to(by.dtype)

    def look_up(self, tokens: Tensor, update: Tensor, state: State, group: Group) -> Tensor:
        """An embedding: inputs are one-hot, so A holds the frequency of each row."""
        own = torch.bincount(tokens.flatten(), minlength=len(update)) / tokens.numel()
        mean = state["inputs"] = torch.lerp(own, state.get("inputs", own), group["average"])
        return update / (mean + group["damping"])[:, None]


class FOOF(KFAC):
    """``G A^-1``: K-FAC without the factor of the outputs (Benzing 2022)."""

    POWERS = (1, 0)
