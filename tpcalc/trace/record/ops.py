"""Facts about an ATen overload that the recorder needs, read once from its schema."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch._subclasses import fake_impls

__all__ = ["Op", "op_of"]

_BATCH_NORMS = ("aten.native_batch_norm.default", "aten.cudnn_batch_norm.default", "aten.miopen_batch_norm.default")

_ONE_DTYPE = frozenset(
    f"aten.{name}" for name in "mm addmm bmm baddbmm mv addmv dot linear convolution _convolution".split()
)
"""Ops that refuse numbers of two types, which they do only when they have numbers."""

_ASK_THE_DEVICE = (
    "norm", "fft", "linalg", "pad1d", "pad2d", "pad3d", "median", "mode", "pixel", "embedding_bag", "upsample",
    "grid_sampler", "log_sigmoid", "scaled", "nonzero",
)  # fmt: skip
"""Parts of names of ops whose results have another geometry on another device; meta counts as another."""


def _runs_on_meta(func: Any) -> bool:
    """``FakeTensorMode`` runs most ops on meta tensors, with much ado; these can be run there directly."""
    if any(part in func.name() for part in _ASK_THE_DEVICE):
        return False
    if func.namespace != "aten" or not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "Meta"):
        return False
    table = fake_impls.op_implementations_dict
    if func in table and table[func].__name__ != "_view_meta":
        return False
    checks = [applies for applies, _ in fake_impls.op_implementations_checks if applies != table.__contains__]
    return not any(applies(func) for applies in checks)


def _makes_a_tensor(func: Any) -> bool:
    """``empty``, ``arange``: no tensors among the arguments, and a device."""
    schema = func._schema
    takes_device = any(argument.name == "device" for argument in schema.arguments)
    return func.namespace == "aten" and takes_device and fake_impls._is_tensor_constructor(func)


class Op:
    """One overload.

    ``writes``: positions (or keyword names) of the arguments it writes to.
    ``returned``: for each output, the argument written to that it returns, or None.
    ``aliases``: for each output, the argument it is a view of, or None.
    """

    __slots__ = (
        "func", "name", "writes", "returned", "aliases", "views", "reshapes", "random", "returns_self", "empty",
        "hides_writes", "on_meta", "cuts", "constructs", "one_dtype",
    )  # fmt: skip

    def __init__(self, func: Any) -> None:
        schema = func._schema
        self.func = func
        self.name = str(func)
        self.writes: list[Any] = []
        sources: dict[str, Any] = {}
        written: dict[str, Any] = {}
        for position, argument in enumerate(schema.arguments):
            alias = argument.alias_info
            if alias is None:
                continue
            key = argument.name if argument.kwarg_only else position
            if alias.is_write:
                self.writes.append(key)
                written.update(dict.fromkeys(alias.before_set, key))
            else:
                sources.update(dict.fromkeys(alias.before_set, key))
        self.returned = [self._match(result, written) for result in schema.returns]
        self.aliases = [self._match(result, sources) for result in schema.returns]
        self.views = any(alias is not None for alias in self.aliases)
        self.cuts = not self.views and not self.writes and bool(sources) and schema.returns[0].alias_info is not None
        """Whether it returns a list of views: ``split``, ``unbind``."""
        tags = func.tags
        self.reshapes = torch.Tag.inplace_view in tags
        self.random = torch.Tag.nondeterministic_seeded in tags
        self.returns_self = self.writes == [0] and self.returned == [0] and not self.reshapes
        self.empty = self.name.startswith(("aten.empty", "aten.new_empty"))
        self.hides_writes = self.name in _BATCH_NORMS
        self.one_dtype = self.name.rpartition(".")[0] in _ONE_DTYPE
        self.on_meta = _runs_on_meta(func)
        """Whether a bare run on meta tensors tells the geometry of its result."""
        self.constructs = _makes_a_tensor(func)
        """Whether it makes a tensor from none, so that it can be told to do so on the meta device."""

    @staticmethod
    def _match(result: Any, table: dict[str, Any]) -> Any:
        alias = result.alias_info
        if alias is None:
            return None
        return next((table[name] for name in alias.before_set if name in table), None)

    def hidden_writes(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments written to although the schema doesn't say so: batch norm's running statistics."""
        return args[3:5] if self.hides_writes and args[5] else ()


@lru_cache(maxsize=None)
def op_of(func: Any) -> Op:
    """The facts about ``func``: a schema never changes, and a check records the same few overloads many times."""
    return Op(func)
