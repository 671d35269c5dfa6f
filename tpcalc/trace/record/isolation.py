"""One context for everything global a trace touches: flags of torch, random states, the garbage collector."""

from __future__ import annotations

import gc
import logging
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Iterator

import torch
import torch.distributions
import torch.utils.checkpoint
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["decomposed", "seeded", "without_dynamo", "without_gc"]


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


@contextmanager
def decomposed() -> Iterator[None]:
    """Fused kernels off, so that the ops inside attention, LSTM and transformer layers are visible.

    Activation checkpointing only trades memory for time; it is switched off, as a trace has no memory to save
    (and its reentrant form can't be differentiated by ``torch.autograd.grad``).
    """
    checkpoint = torch.utils.checkpoint
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_switched(torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled, False))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        mha = torch.backends.mha
        stack.enter_context(_switched(mha.get_fastpath_enabled, mha.set_fastpath_enabled, False))
        stack.enter_context(_set(torch.backends.opt_einsum, "enabled", False))
        stack.enter_context(_set(checkpoint.CheckpointFunction, "apply", staticmethod(_run_directly)))
        stack.enter_context(_set(checkpoint, "_checkpoint_without_reentrant_generator", _no_checkpoint))
        stack.enter_context(_set(torch, "compile", _uncompiled))
        stack.enter_context(_set(torch, "cond", _taken_branch))
        stack.enter_context(_set(torch.cuda, "_lazy_init", _no_device))
        stack.enter_context(_set(torch.distributions.Distribution, "_validate_args", False))
        stack.enter_context(_set(logging.getLogger("torch._subclasses.fake_tensor"), "disabled", True))
        stack.enter_context(torch.enable_grad())
        yield


def _uncompiled(model: Any = None, **options: Any) -> Any:
    """``torch.compile`` while tracing: the model as written."""
    return (lambda inner: inner) if model is None else model


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


@contextmanager
def without_dynamo() -> Iterator[None]:
    """Kernels that torch wrote in Python import Dynamo when first called, to be left alone by it: half as long again as
    ``import torch``.  Here, where nothing is compiled, something small stands in its place, unless it is there already.

    Only for calls of torch's own kernels: other code could use what Dynamo has besides.
    """
    name, asked = "torch._dynamo", []

    def disable(fn: Callable, *args: Any, **kwargs: Any) -> Callable:
        asked.append(fn)
        return fn

    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = ModuleType(name)
    stand_in.disable = disable  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sys.modules[name]
        for fn in asked:  # torch keeps the answer; with the real one it may be another
            vars(fn).pop("__dynamo_disable", None)


@contextmanager
def without_gc() -> Iterator[None]:
    """A trace makes many objects and frees few: collections would only walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
