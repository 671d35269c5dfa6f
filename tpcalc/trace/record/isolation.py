"""One context for everything global a trace touches: flags of torch, random states, the garbage collector."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Iterator

import torch
import torch.backends.opt_einsum  # torch 2.4 imports it late
import torch.distributions
import torch.utils._device
import torch.utils.checkpoint
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from tpcalc.errors import TraceError
from tpcalc.trace.record.dynamo import as_written, without_dynamo
from tpcalc.trace.record.flex import flex_decomposed
from tpcalc.trace.record.lazy import materialised, pad_packed_sequence

__all__ = ["decomposed", "on_cpu", "seeded"]


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _run_directly(run_function: Any, preserve_rng_state: bool, *args: Any) -> Any:
    return run_function(*args)


def _no_checkpoint(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


@contextmanager
def _switched(read: Callable[[], bool], write: Callable[[bool], Any], value: bool) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


#: What checkpoints without reentrance: what torch calls, and what it calls since torch 2.14.
_CHECKPOINTS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")


@contextmanager
def decomposed() -> Iterator[None]:
    """Fused kernels off, so that the ops inside attention, LSTM and transformer layers are visible.

    Activation checkpointing only trades memory for time; it is switched off, as a trace has no memory to save
    (and its reentrant form can't be differentiated by ``torch.autograd.grad``).
    """
    checkpoint = torch.utils.checkpoint
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        for name in _CHOOSE_ATTENTION:  # the model's own choice of a kernel
            if hasattr(torch._C, name):
                stack.enter_context(_set(torch._C, name, _unchosen))
        stack.enter_context(_switched(torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled, False))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        mha = torch.backends.mha
        stack.enter_context(_switched(mha.get_fastpath_enabled, mha.set_fastpath_enabled, False))
        stack.enter_context(_set(torch.backends.opt_einsum, "enabled", False))
        stack.enter_context(_set(checkpoint.CheckpointFunction, "apply", staticmethod(_run_directly)))
        for name in _CHECKPOINTS:
            if hasattr(checkpoint, name):
                stack.enter_context(_set(checkpoint, name, _no_checkpoint))
        stack.enter_context(_set(torch, "compile", _uncompiled))
        stack.enter_context(without_dynamo())
        stack.enter_context(as_written())
        stack.enter_context(torch.jit.optimized_execution(False))
        executor = torch._C._jit_set_profiling_executor(False)
        stack.callback(torch._C._jit_set_profiling_executor, executor)
        stack.enter_context(_set(torch, "embedding", partial(_dense, torch.embedding, 4)))
        stack.enter_context(_set(torch, "embedding_bag", partial(_dense, torch.embedding_bag, 5)))
        stack.enter_context(flex_decomposed())
        stack.enter_context(materialised())
        stack.enter_context(_set(torch._VF, "_pad_packed_sequence", pad_packed_sequence))
        if "torch.export" in sys.modules:
            stack.enter_context(_set(sys.modules["torch.export"], "export", _unexported))
        stack.enter_context(_set(torch, "cond", _taken_branch))
        stack.enter_context(_set(torch, "tensor", partial(_tensor, torch.tensor)))
        stack.enter_context(_set(torch.cuda, "_lazy_init", _no_device))
        stack.enter_context(_set(torch.distributions.Distribution, "_validate_args", False))
        stack.enter_context(_set(logging.getLogger("torch._subclasses.fake_tensor"), "disabled", True))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(on_cpu())
        yield


class _OnCpu(TorchFunctionMode):
    """As ``with torch.device("cpu")``, under which code may call ``torch.set_default_device`` as well."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in torch.utils._device._device_constructors() and kwargs.get("device") is None:
            kwargs["device"] = torch.device("cpu")
        return func(*args, **kwargs)


def on_cpu() -> AbstractContextManager:
    """Tensors without a device of their own are on the CPU, whatever ``torch.set_default_device`` has said: a trace
    needs no accelerator, and its own few numbers are no part of the model.
    """
    default = torch.utils._device.CURRENT_DEVICE
    return nullcontext() if default is None or default.type == "cpu" else _OnCpu()


_CHOOSE_ATTENTION = (
    "_set_sdp_use_flash", "_set_sdp_use_mem_efficient", "_set_sdp_use_math", "_set_sdp_use_cudnn",
    "_set_sdp_use_overrideable", "_set_sdp_priority_order",
)  # fmt: skip


def _unchosen(*args: Any) -> None:
    """Attention takes its decomposed path, whatever kernel the model asks for."""


def _uncompiled(model: Any = None, **options: Any) -> Any:
    """``torch.compile`` while tracing: the model as written."""
    return (lambda inner: inner) if model is None else model


def _tensor(make: Callable, data: Any, **options: Any) -> torch.Tensor:
    """``torch.tensor`` of a list of tensors, whose memory it would read."""

    def plain(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return item.item() if item.numel() == 1 else item.tolist()
        return type(item)(map(plain, item)) if type(item) in (list, tuple) else item

    return make(plain(data) if type(data) in (list, tuple) else data, **options)


def _unexported(*args: Any, **kwargs: Any) -> Any:
    raise TraceError(
        "the factory calls torch.export, and an exported program can't be traced: its sizes are fixed; return the "
        "module that is exported instead"
    )


def _dense(look_up: Callable, sparse: int, *args: Any, **kwargs: Any) -> Any:
    """A look-up with a dense gradient, which has the same numbers."""
    if "sparse" in kwargs:
        kwargs["sparse"] = False
    return look_up(*args[:sparse], *(False for _ in args[sparse : sparse + 1]), *args[sparse + 1 :], **kwargs)


def _taken_branch(pred: Any, true_fn: Callable, false_fn: Callable, operands: Any = ()) -> Any:
    """``torch.cond`` while tracing: the branch that runs."""
    return true_fn(*operands) if pred else false_fn(*operands)


def _no_device() -> None:
    """Tensors put on a GPU stay where they are, so a model written for one traces without one."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed Python, numpy and torch, and give back their states after."""
    numpy = sys.modules.get("numpy")
    states = (random.getstate(), torch.get_rng_state(), numpy.random.get_state() if numpy else None)
    dtype = torch.get_default_dtype()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if numpy:
        numpy.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
        if numpy:
            numpy.random.set_state(states[2])
        torch.set_default_dtype(dtype)
