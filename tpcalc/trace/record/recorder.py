"""Record one model at one width: every ATen call of its forward pass and of autograd's backward pass.

:func:`record` runs on phantom tensors, which have shapes but no memory, so a model of any size can be recorded.
:func:`record_real` records a model that stands already, with its numbers left alone.  :func:`observe` runs the same
recorder on a real model, and shows every value to a callback under the id it has in the recorded trace.

What is recorded is the model as its author wrote it: fused kernels are off (attention, LSTM and transformer layers
appear decomposed), activation checkpointing and ``torch.compile`` are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch.utils._pytree import tree_map

from tpcalc.algebra.scales import place_text
from tpcalc.collector import without_gc
from tpcalc.errors import TraceError
from tpcalc.program.raw import RawTrace
from tpcalc.trace.inputs import example_inputs
from tpcalc.trace.record.caches import Files, kept_apart
from tpcalc.trace.record.isolation import decomposed, on_cpu, seeded
from tpcalc.trace.record.mode import Recording
from tpcalc.trace.record.phantom import Phantom
from tpcalc.trace.record.run import Loss, Run, Seed, described

__all__ = ["Observation", "build", "observe", "record", "record_real"]


def record(
    call: Callable[[], Any],
    width: Any,
    *,
    loss: Optional[Loss] = None,
    backward: bool = True,
    building: Optional[AbstractContextManager] = None,
    activation_grads: bool = True,
    sources: bool = True,
    files: Optional[Files] = None,
) -> RawTrace:
    """The trace of the model that ``call()`` builds.

    ``call`` returns ``(model, inputs)`` and runs on phantom tensors.  ``loss`` maps the model's output to
    a scalar; without it the model's own loss is used, or else a gradient is put on its primary outputs.
    ``building`` is held while ``call`` runs, such as an ``InitRecorder``; its ``laws(model)`` are stored in
    ``RawTrace.init``.  ``activation_grads=False`` leaves out the gradients of activations,
    ``sources=False`` the source lines.  ``files``: what the user's files keep, where that was looked at already.

    Raises TraceError where the model can't be recorded.
    """
    recording = Recording(sources=sources)
    if files is None:
        files = Files()
    else:
        files.look()
    with decomposed(), seeded(), without_gc(), files.without(Phantom):
        with recording, building if building is not None else nullcontext() as laws:
            model, inputs, said = _unpack(call(), width)
        files.add_those_of(model)
        recording.law_of = getattr(laws, "law_of", None)
        with on_cpu():  # wherever the factory wants tensors
            trace = RawTrace(width, init=laws.laws(model) if laws is not None else {}, assumptions=said)
            run = Run(recording, model, trace)
            run.forward(dict(model.named_parameters(remove_duplicate=False)), dict(model.named_buffers()), inputs, loss)
            if backward:
                run.backward(activation_grads=activation_grads)
    run.finish()
    return trace


def record_real(
    model: torch.nn.Module, inputs: Any, width: Any, *, loss: Optional[Loss] = None, sources: bool = True
) -> RawTrace:
    """The trace of a real model, as :func:`record` gives it; its parameters and buffers keep their numbers.

    Raises TraceError where the model can't be recorded.
    """
    recording = Recording(sources=sources)
    trace = RawTrace(width)
    with decomposed(), seeded(), _apart(model), _standing_in(model, recording) as (weights, buffers):
        run = Run(recording, model, trace)
        run.forward(weights, buffers, inputs, loss)
        run.backward()
        run.finish()
    return trace


def build(call: Callable[[], Any], building: AbstractContextManager) -> Any:
    """What ``call()`` makes on phantom tensors, of any size, with the context manager ``building`` held meanwhile."""
    with decomposed(), seeded(), without_gc(), Files().without(Phantom), Recording(sources=False), building:
        return call()


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
    seed: Optional[Seed] = None,
    files: Optional[Files] = None,
) -> Observation:
    """Run a real model, calling ``callback(value_id, tensor)`` on every value, with the ids of :func:`record`.

    The callback must use the tensor at once: later in-place ops may overwrite it.  ``seed(path, output)``
    gives the gradient to put on each output where there is no loss; ones by default.  The model's
    weights are left as they are (their ``.grad`` too); its buffers are updated as in any forward pass.
    ``files`` as of :func:`record`; they are not looked at again.
    """
    recording = Recording(sources=False, measured=True, callback=callback)
    with decomposed(), _apart(model, files), _standing_in(model, recording) as (weights, buffers):
        run = Run(recording, model, RawTrace(0))
        output = run.forward(weights, buffers, inputs, loss, seed)
        grads = run.backward() if backward else {}
    return Observation(*tree_map(_numbers, (output, run.loss, grads)))


def _numbers(leaf: Any) -> Any:
    return leaf.shadow if isinstance(leaf, Phantom) else leaf


def _unpack(result: Any, width: Any) -> tuple[torch.nn.Module, Any, list[str]]:
    """The model, its inputs and what was assumed about them."""
    model, inputs = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(model, torch.nn.Module):
        raise TraceError(f"the factory returned {described(model)} at {place_text(width)}; return (model, inputs)")
    found = example_inputs(model) if inputs is None else (inputs, "")
    if found is None:
        raise TraceError(
            f"the factory returned {type(model).__name__} without example inputs at {place_text(width)}; return "
            "(model, inputs), inputs being a tuple or dict of tensors for its forward"
        )
    for name, weight in model.named_parameters():
        if torch.nn.parameter.is_lazy(weight):
            raise TraceError(f"{name} is a lazy parameter at {place_text(width)}; build the model with explicit sizes")
    return model, found[0], [found[1]] if found[1] else []


# -- real models -----------------------------------------------------------------------------------


@contextmanager
def _apart(model: torch.nn.Module, files: Optional[Files] = None) -> Iterator[None]:
    """Nothing that the model, or a file, keeps of what is traced outlasts this."""
    files = Files() if files is None else files
    files.add_those_of(model)
    with files.without(Phantom), kept_apart(model):
        yield


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
                    if tensor is None or tensor.layout != torch.strided:
                        continue
                    if not isinstance(tensor, Phantom):
                        stack.callback(_give_back, table, name, tensor)
                        table[name] = _stand_in(recording, tensor)
                    found[dot + name] = table[name]
        yield weights, buffers


def _stand_in(recording: Recording, tensor: torch.Tensor) -> Phantom:
    phantom = recording.phantom(tensor)
    for name, value in vars(tensor).items():  # what code notes on its parameters (mup: infshape)
        vars(phantom).setdefault(name, value)
    if isinstance(tensor, torch.nn.Parameter):
        phantom._is_param = True
    phantom.requires_grad_(tensor.requires_grad)
    return phantom


def _give_back(table: dict[str, Any], name: str, tensor: torch.Tensor) -> None:
    """Put the real tensor back, or, where the model replaced its buffer, the numbers of the new one."""
    now = table.get(name)
    if isinstance(tensor, torch.nn.Parameter) or not isinstance(now, Phantom) or now.shadow is None:
        table[name] = tensor
    else:
        table[name] = tensor if now.shadow.data_ptr() == tensor.data_ptr() else now.shadow
