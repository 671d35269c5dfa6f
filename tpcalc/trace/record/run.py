"""One pass through a model under a recording: its forward pass, what is differentiated, its backward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Optional

import torch
from torch.utils._pytree import tree_map

from tpcalc.algebra.scales import place_text
from tpcalc.errors import TpcalcError, TraceError
from tpcalc.program.raw import RawTrace, RawWeight
from tpcalc.trace.record.draws import Generators, decides
from tpcalc.trace.record.mode import Recording
from tpcalc.trace.record.outputs import find_loss, flatten, primary_outputs
from tpcalc.trace.record.phantom import Memory, Phantom, make_phantom
from tpcalc.trace.record.where import Modules

__all__ = ["Loss", "Run", "Seed", "as_inputs", "described"]

Loss = Callable[[Any], torch.Tensor]
Seed = Callable[[str, torch.Tensor], torch.Tensor]


class Run:
    """One pass through ``model``; ``trace`` is filled on the way, and complete after :meth:`finish`."""

    def __init__(self, recording: Recording, model: torch.nn.Module, trace: RawTrace) -> None:
        self.recording, self.model, self.trace = recording, model, trace
        self.loss: Optional[torch.Tensor] = None
        self._modules = Modules(model, recording.modules)
        self._weights: list[tuple[list[str], torch.Tensor, int]] = []
        self._outputs: list[torch.Tensor] = []
        self._seeds: list[torch.Tensor] = []
        self._drew = False
        self._slope_of: dict[int, int] = {}
        self._told: list[str] = []
        """Arguments that are numbers, truths or words."""

    def forward(
        self,
        weights: dict[str, torch.Tensor],
        buffers: dict[str, torch.Tensor],
        inputs: Any,
        loss: Optional[Loss] = None,
        seed: Optional[Seed] = None,
    ) -> Any:
        """The model's output; what of it is differentiated is chosen."""
        self._enter(weights, buffers)
        recording = self.recording
        args, kwargs = _phantoms(recording, as_inputs(inputs))
        for name, tensor in _named_inputs(self.model, args, kwargs):
            self.trace.inputs.append(recording.leaf(tensor, "input", name))
        self._told = [f"{name}={value!r}" for name, value in _named(self.model, args, kwargs) if _decides(value)]
        generators = None if recording.measured else Generators(self.model)
        with self._blamed("the forward pass"), generators.drawing() if generators else nullcontext():
            with recording, self._modules.following():
                output = self.model(*args, **kwargs)
        self._drew = generators is not None and generators.drew
        self._choose(output, loss, seed)
        return output

    def _enter(self, weights: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]) -> None:
        """Number the parameters (tied names together) and the buffers; from here on calls are recorded."""
        self.recording.stage = "forward"
        tied: dict[int, list[str]] = {}
        for name, weight in weights.items():
            if id(weight) in tied:
                tied[id(weight)].append(name)
                continue
            names = tied[id(weight)] = [name]
            self._weights.append((names, weight, self.recording.leaf(weight, "weight", name)))
        for name, buffer in buffers.items():
            if buffer.layout == torch.strided:  # others are refused where they are used
                self.recording.leaf(buffer, "buffer", name)

    def _choose(self, output: Any, loss: Optional[Loss], seed: Optional[Seed]) -> None:
        """Choose what is differentiated, and put a gradient on it."""
        self.loss = self._own_loss(loss, output) if loss is not None else find_loss(output)
        chosen = [("loss", self.loss)] if self.loss is not None else primary_outputs(output)
        if not chosen:
            if self._weights and not any(weight.requires_grad for _, weight, _ in self._weights):
                raise TraceError(
                    f"no weight of {type(self.model).__name__} at {place_text(self.trace.width)} is trained: "
                    f"requires_grad is False of all {len(self._weights)}; leave it True of those that an optimizer is "
                    "to train"
                )
            raise TraceError(
                f"no output of {type(self.model).__name__} at {place_text(self.trace.width)} is differentiable; return "
                "a floating-point tensor that depends on the weights (outside torch.no_grad), or pass loss="
            )
        recording = self.recording
        for path, tensor in chosen:
            vid = recording.id_of(tensor)
            self.trace.outputs.append((path, vid))
            gradient = self._seed(path, recording.phantom(tensor), seed)
            seed_id = recording.leaf(gradient, "seed", f"d_{path}" if path else "d_output")
            self.trace.seeds.append((vid, seed_id))
            self._outputs.append(tensor)
            self._seeds.append(gradient)
        if self.loss is not None:
            self.trace.loss = self.trace.outputs[0][1]

    def _own_loss(self, loss: Loss, output: Any) -> torch.Tensor:
        with self._blamed("the loss function"), self.recording:
            value = loss(output)
        if not isinstance(value, torch.Tensor) or value.dim() != 0 or not value.requires_grad:
            raise TraceError(
                f"loss= returned {described(value)} at {place_text(self.trace.width)}; return a differentiable "
                f"scalar tensor"
            )
        return value

    def _seed(self, path: str, output: Phantom, seed: Optional[Seed]) -> Phantom:
        """The gradient put on an output: 1 on a loss, of unknown entries on a tensor."""
        recording = self.recording
        real: Optional[torch.Tensor] = None
        if recording.measured and seed is not None and self.loss is None:
            assert output.shadow is not None
            real = seed(path, output.shadow)
        elif recording.measured or self.loss is not None:
            real = torch.ones(output.shape, dtype=output.dtype)
        geometry = recording.contiguous(output.shape, output.dtype)
        return make_phantom(geometry, Memory(known=real is not None), None, real)

    def backward(self, *, activation_grads: bool = True) -> dict[str, torch.Tensor]:
        """Record autograd's backward pass; returns the gradient of each trainable weight it reached."""
        recording = self.recording
        weights = [(names, weight, vid) for names, weight, vid in self._weights if weight.requires_grad]
        leaves = [weight for _, weight, _ in weights]
        current = []
        if activation_grads:
            current = [out for out in recording.results if out.requires_grad and out.version == out.memory.version]
        ids = [vid for _, _, vid in weights] + [out.ref.id for out in current if out.ref is not None]
        recording.results = []
        recording.stage = "backward"
        slopes: dict[int, int] = {}
        with self._blamed("the backward pass"), recording, self._slopes(weights, slopes):
            grads = torch.autograd.grad(self._outputs, [*leaves, *current], self._seeds, allow_unused=True)
            grads = self._hooked(weights, grads, slopes)
        for vid, grad in zip(ids, grads, strict=True):
            if grad is not None:
                self.trace.grads[vid] = recording.id_of(grad)
        self._slope_of = {vid: slope for vid, slope in slopes.items() if slope != self.trace.grads.get(vid)}
        named = zip(weights, grads[: len(weights)], strict=True)
        return {name: grad for (names, _, _), grad in named if grad is not None for name in names}

    @contextmanager
    def _slopes(self, weights: Sequence[tuple[Any, torch.Tensor, int]], slopes: dict[int, int]) -> Iterator[None]:
        """Note the gradients of weights with hooks of their own before these change them."""
        handles = []
        for _, weight, vid in weights:
            hooks = weight._backward_hooks
            if hooks:
                others = dict(hooks)
                handles.append(weight.register_hook(partial(self._note, slopes, vid)))
                for key, hook in others.items():  # torch calls them in the order in which they entered the dict
                    del hooks[key]
                    hooks[key] = hook
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, slopes: dict[int, int], vid: int, grad: torch.Tensor) -> None:
        slopes[vid] = self.recording.id_of(grad)

    def _hooked(
        self, weights: Sequence[tuple[Any, torch.Tensor, int]], grads: Sequence[Any], slopes: dict[int, int]
    ) -> tuple:
        """Gradients as hooks that wait for them to be accumulated leave them, which ``torch.autograd.grad`` skips."""
        found = list(grads)
        for index, (_, weight, vid) in enumerate(weights):
            hooks, grad = getattr(weight, "_post_accumulate_grad_hooks", None), found[index]
            if not hooks or grad is None:
                continue
            slopes.setdefault(vid, self.recording.id_of(grad))
            before, weight.grad = weight.grad, grad.clone()
            with torch.no_grad():
                for hook in list(hooks.values()):
                    if hook(weight) is not None:
                        raise RuntimeError("a hook of a gradient that is accumulated should return None")
            found[index] = grad if weight.grad is None else weight.grad
            weight.grad = before
        return tuple(found)

    def finish(self) -> None:
        """Move what was recorded into the trace."""
        trace, recording = self.trace, self.recording
        trace.nodes, trace.values = recording.nodes, recording.values
        trace.assumptions += list(recording.assumptions)
        owners = {name: type(module).__name__ for name, module in self.model.named_modules(remove_duplicate=False)}
        for names, weight, vid in self._weights:
            trace.weights.append(
                RawWeight(
                    names=tuple(names),
                    value=vid,
                    shape=tuple(weight.shape),
                    trainable=weight.requires_grad,
                    grad=trace.grads.get(vid),
                    slope=self._slope_of.get(vid),
                    module_type=owners.get(names[0].rpartition(".")[0], ""),
                )
            )
        unused = [weight.names[0] for weight in trace.weights if weight.trainable and weight.grad is None]
        if unused and self._told and self._outputs and recording.stage == "backward":
            trace.assumptions.append(
                f"the forward pass was traced with {', '.join(self._told)} alone: {unused[0]}"
                f"{f' and {len(unused) - 1} more have' if len(unused) > 1 else ' has'} no gradient there, and may have "
                "one with others"
            )
        if self._drew:
            if unused and self._outputs and recording.stage == "backward":
                raise decides(f"{type(self.model).__name__}, of which {unused[0]} is not used,")
            trace.assumptions.append("the forward pass draws random numbers from Python or numpy; one draw was traced")

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """An error of the user's code is a TraceError that says where it was raised."""
        try:
            yield
        except TpcalcError:
            raise
        except (Exception, SystemExit) as error:
            message = " ".join(str(error).split())
            where = f" in {self._modules.failed}" if self._modules.failed else ""
            raise TraceError(
                f"{what} of {type(self.model).__name__} raised {type(error).__name__}: {message.rstrip('.')[:300]} "
                f"at {place_text(self.trace.width)}{where}; check that the model runs at this width on the inputs given"
            ) from error


def as_inputs(inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Inputs as arguments and keyword arguments."""
    if hasattr(inputs, "keys"):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def _phantoms(recording: Recording, inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Inputs with every tensor made a phantom of the recording."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        phantom = recording.phantom(leaf)
        return phantom.requires_grad_() if leaf.requires_grad and leaf.is_leaf and phantom is not leaf else phantom

    return tree_map(convert, inputs)


def _named_inputs(model: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every input tensor, named after the parameter of ``forward`` that takes it."""
    for name, arg in _named(model, args, kwargs):
        yield from flatten(arg, name)


def _named(model: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    yield from ((names[i] if i < len(names) else f"input{i}", arg) for i, arg in enumerate(args))
    yield from kwargs.items()


def _decides(arg: Any) -> bool:
    """Whether an argument may say which part of a model runs."""
    return isinstance(arg, (bool, int, str))


def described(thing: Any) -> str:
    """``a tensor of shape (2, 8) without gradient``, for messages."""
    if isinstance(thing, torch.Tensor):
        return f"a tensor of shape {tuple(thing.shape)}" + ("" if thing.requires_grad else " without gradient")
    if thing is None:
        return "None"
    kind = type(thing).__name__
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"
