"""Record one model at one width: every ATen call of its forward pass and of autograd's backward pass.

:func:`record` runs on phantom tensors, which have shapes but no memory, so a model of any size can be
recorded.  :func:`observe` runs the same recorder on a real model, and shows every value to a callback
under the id it has in the recorded trace.

What is recorded is the model as its author wrote it: fused kernels are off (attention, LSTM and
transformer layers appear decomposed), activation checkpointing and ``torch.compile`` are ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch.utils._pytree import tree_map

from tpcalc.errors import TpcalcError, TraceError
from tpcalc.program.raw import RawTrace, RawWeight
from tpcalc.trace.inputs import example_inputs
from tpcalc.trace.record.isolation import decomposed, seeded, without_gc
from tpcalc.trace.record.mode import Recording
from tpcalc.trace.record.outputs import find_loss, flatten, primary_outputs
from tpcalc.trace.record.phantom import Memory, Phantom, make_phantom
from tpcalc.trace.record.where import Modules

__all__ = ["Observation", "observe", "record"]

Loss = Callable[[Any], torch.Tensor]


def record(
    call: Callable[[], Any],
    width: int,
    *,
    loss: Optional[Loss] = None,
    backward: bool = True,
    building: Optional[Callable[[], AbstractContextManager]] = None,
    activation_grads: bool = True,
    sources: bool = True,
) -> RawTrace:
    """The trace of the model that ``call()`` builds.

    ``call`` returns ``(model, inputs)`` and runs on phantom tensors.  ``loss`` maps the model's output to
    a scalar; without it the model's own loss is used, or else a gradient is put on its primary outputs.
    ``building`` makes a context manager held while ``call`` runs; its ``laws(model)`` are stored in
    ``RawTrace.init``.  ``activation_grads=False`` leaves out the gradients of activations,
    ``sources=False`` the source lines.

    Raises TraceError where the model can't be recorded.
    """
    recording = Recording(sources=sources)
    with decomposed(), seeded(), without_gc():
        with recording, building() if building is not None else nullcontext() as laws:
            built = call()
            model, inputs, said = _unpack(built, width)
        trace = RawTrace(width, init=laws.laws(model) if laws is not None else {}, assumptions=said)
        run = _Run(recording, model, trace)
        run.enter(dict(model.named_parameters(remove_duplicate=False)), dict(model.named_buffers()))
        output = run.forward(*_phantom_inputs(recording, inputs))
        run.forward_done(output, loss)
        if backward:
            run.backward(activation_grads=activation_grads)
    run.finish()
    return trace


@dataclass
class Observation:
    """What a real model gave: its output, its loss if there is one, and the gradient of each weight."""

    output: Any
    loss: Optional[torch.Tensor] = None
    grads: dict[str, torch.Tensor] = field(default_factory=dict)


def observe(
    model: torch.nn.Module,
    inputs: Any,
    callback: Callable[[int, torch.Tensor], None],
    *,
    loss: Optional[Loss] = None,
    backward: bool = False,
    seed: Optional[Callable[[str, torch.Tensor], torch.Tensor]] = None,
) -> Observation:
    """Run a real model, calling ``callback(value_id, tensor)`` on every value, with the ids of :func:`record`.

    The callback must use the tensor at once: later in-place ops may overwrite it.  ``seed(path, output)``
    gives the gradient to put on each output where there is no loss; ones by default.  The model's
    weights are left as they are (their ``.grad`` too); its buffers are updated as in any forward pass.
    """
    recording = Recording(sources=False, measured=True, callback=callback)
    trace = RawTrace(0)
    with decomposed(), _standing_in(model, recording) as (weights, buffers):
        run = _Run(recording, model, trace)
        run.enter(weights, buffers)
        output = run.forward(*_phantom_inputs(recording, _as_inputs(inputs)))
        run.forward_done(output, loss, seed)
        grads = run.backward(activation_grads=True) if backward else {}
    real = tree_map(_numbers, output)
    value = _numbers(run.loss) if run.loss is not None else None
    return Observation(real, value, {name: _numbers(grad) for name, grad in grads.items()})


def _numbers(leaf: Any) -> Any:
    return leaf.shadow if isinstance(leaf, Phantom) else leaf


class _Run:
    """One pass through a model under a recording."""

    def __init__(self, recording: Recording, model: torch.nn.Module, trace: RawTrace) -> None:
        self.recording, self.model, self.trace = recording, model, trace
        self.loss: Optional[torch.Tensor] = None
        self._modules = Modules(model, recording.modules)
        self._weights: list[tuple[list[str], torch.Tensor, int]] = []
        self._outputs: list[torch.Tensor] = []
        self._seeds: list[torch.Tensor] = []

    def enter(self, weights: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]) -> None:
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
            self.recording.leaf(buffer, "buffer", name)

    def forward(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The model's output."""
        recording = self.recording
        for name, tensor in _named_inputs(self.model, args, kwargs):
            self.trace.inputs.append(recording.leaf(tensor, "input", name))
        try:
            with recording, self._modules.following():
                return self.model(*args, **kwargs)
        except TpcalcError:
            raise
        except Exception as error:
            raise self._failure("the forward pass", error) from error

    def forward_done(self, output: Any, loss: Optional[Loss], seed: Any = None) -> None:
        """Choose what is differentiated, and put a gradient on it."""
        if loss is not None:
            self.loss = self._own_loss(loss, output)
        else:
            self.loss = find_loss(output)
        chosen = [("loss", self.loss)] if self.loss is not None else primary_outputs(output)
        if not chosen:
            raise TraceError(
                f"no output of {type(self.model).__name__} at width {self.trace.width} is differentiable; return a "
                "floating-point tensor that depends on the weights (outside torch.no_grad), or pass loss="
            )
        recording = self.recording
        for path, tensor in chosen:
            phantom = recording.phantom(tensor)
            recording.refresh(phantom)
            self.trace.outputs.append((path, phantom.ref.id))
            gradient = self._seed(path, phantom, seed if self.loss is None else None)
            seed_id = recording.leaf(gradient, "seed", f"d_{path}" if path else "d_output")
            self.trace.seeds.append((phantom.ref.id, seed_id))
            self._outputs.append(tensor)
            self._seeds.append(gradient)
        if self.loss is not None:
            self.trace.loss = self.trace.outputs[0][1]

    def _own_loss(self, loss: Loss, output: Any) -> torch.Tensor:
        try:
            with self.recording:
                value = loss(output)
        except TpcalcError:
            raise
        except Exception as error:
            raise self._failure("the loss function", error) from error
        if not isinstance(value, torch.Tensor) or value.dim() != 0 or not value.requires_grad:
            raise TraceError(
                f"loss= returned {_describe(value)} at width {self.trace.width}; return a differentiable scalar tensor"
            )
        return value

    def _seed(self, path: str, output: Phantom, seed: Any) -> Phantom:
        """The gradient put on an output: 1 on a loss, of unknown entries on a tensor."""
        recording = self.recording
        shape = tuple(output.shape)
        stride = torch.empty(shape, device="meta").stride() if shape else ()
        geometry = recording.geometry(shape, stride, 0, output.dtype)
        real: Optional[torch.Tensor] = None
        if recording.measured and seed is not None:
            real = seed(path, output.shadow)
        elif recording.measured or self.loss is not None:
            real = torch.ones(shape, dtype=output.dtype)
        return make_phantom(geometry, Memory(known=real is not None), None, real)

    def backward(self, *, activation_grads: bool) -> dict[str, torch.Tensor]:
        """Record autograd's backward pass; returns the gradient of each trainable weight it reached."""
        recording, trace = self.recording, self.trace
        weights = [(names, weight, vid) for names, weight, vid in self._weights if weight.requires_grad]
        leaves = [weight for _, weight, _ in weights]
        current = []
        if activation_grads:
            current = [out for out in recording.results if out.requires_grad and out.version == out.memory.version]
        ids = [vid for _, _, vid in weights] + [out.ref.id for out in current]
        recording.results = []
        recording.stage = "backward"
        try:
            with recording:
                grads = torch.autograd.grad(self._outputs, [*leaves, *current], self._seeds, allow_unused=True)
        except TpcalcError:
            raise
        except Exception as error:
            raise self._failure("the backward pass", error) from error
        for vid, grad in zip(ids, grads, strict=True):
            if grad is not None:
                phantom = recording.phantom(grad)
                recording.refresh(phantom)
                trace.grads[vid] = phantom.ref.id
        named = zip(weights, grads[: len(weights)], strict=True)
        return {name: grad for (names, _, _), grad in named if grad is not None for name in names}

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
                    module_type=owners.get(names[0].rpartition(".")[0], ""),
                )
            )

    def _failure(self, what: str, error: Exception) -> TraceError:
        message = " ".join(str(error).split())
        module = self._modules.failed
        where = f" in {module}" if module else ""
        return TraceError(
            f"{what} of {type(self.model).__name__} raised {type(error).__name__}: {message.rstrip('.')[:300]} "
            f"at width {self.trace.width}{where}; check that the model runs at this width on the inputs given"
        )


# -- the user's model and inputs -------------------------------------------------------------------


def _unpack(result: Any, width: int) -> tuple[torch.nn.Module, Any, list[str]]:
    """The model, its inputs and what was assumed about them."""
    model, inputs = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(model, torch.nn.Module):
        raise TraceError(f"the factory returned {_describe(model)} at width {width}; return (model, inputs)")
    found = example_inputs(model) if inputs is None else (inputs, "")
    if found is None:
        raise TraceError(
            f"the factory returned {type(model).__name__} without example inputs at width {width}; return (model, "
            "inputs), inputs being a tuple or dict of tensors for its forward"
        )
    for name, weight in model.named_parameters():
        if isinstance(weight, torch.nn.parameter.UninitializedParameter):
            raise TraceError(f"{name} is a lazy parameter at width {width}; build the model with explicit sizes")
    return model, _as_inputs(found[0]), [found[1]] if found[1] else []


def _as_inputs(inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Inputs as arguments and keyword arguments."""
    if hasattr(inputs, "keys"):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def _phantom_inputs(recording: Recording, inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Inputs with every tensor made a phantom of the recording."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        phantom = recording.phantom(leaf)
        return phantom.requires_grad_() if leaf.requires_grad and leaf.is_leaf and phantom is not leaf else phantom

    return tree_map(convert, inputs)


def _named_inputs(model: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every input tensor, named after the parameter of ``forward`` that takes it."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for index, arg in enumerate(args):
        yield from flatten(arg, names[index] if index < len(names) else f"input{index}")
    for name, arg in kwargs.items():
        yield from flatten(arg, name)


def _describe(thing: Any) -> str:
    if isinstance(thing, torch.Tensor):
        return f"a tensor of shape {tuple(thing.shape)}" + ("" if thing.requires_grad else " without gradient")
    return f"a {type(thing).__name__}"


# -- real models -----------------------------------------------------------------------------------


@contextmanager
def _standing_in(
    model: torch.nn.Module, recording: Recording
) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Phantoms with the numbers of the real parameters and buffers stand in their places in the model."""
    weights: dict[str, torch.Tensor] = {}
    buffers: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for prefix, module in list(model.named_modules(remove_duplicate=False)):
            dot = prefix + "." if prefix else ""
            for table, found in ((module._parameters, weights), (module._buffers, buffers)):
                for name, tensor in table.items():
                    if tensor is None:
                        continue
                    if not isinstance(tensor, Phantom):
                        stack.callback(_give_back, table, name, tensor)
                        table[name] = _stand_in(recording, tensor)
                    found[dot + name] = table[name]
        yield weights, buffers


def _stand_in(recording: Recording, tensor: torch.Tensor) -> Phantom:
    phantom = recording.phantom(tensor)
    if isinstance(tensor, torch.nn.Parameter):
        phantom._is_param = True
    return phantom.requires_grad_(tensor.requires_grad)


def _give_back(table: dict[str, Any], name: str, tensor: torch.Tensor) -> None:
    """Put the real tensor back, or, where the model replaced its buffer, the numbers of the new one."""
    now = table.get(name)
    replaced = isinstance(now, Phantom) and now.shadow is not None and now.shadow.data_ptr() != tensor.data_ptr()
    table[name] = now.shadow if replaced and not isinstance(tensor, torch.nn.Parameter) else tensor
