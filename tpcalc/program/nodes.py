"""What a program is made of: values, the nodes that make them, and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import ZERO, Order
from tpcalc.algebra.size import Scalar, Size, turned


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor argument of a node: the id of a :class:`Value`."""

    id: int


@dataclass(frozen=True, slots=True)
class InitLaw:
    """How the code itself initialises a weight, read at one width.

    ``kind``: ``random`` (zero-mean entries of standard deviation ``std``), ``constant`` (all entries equal
    ``mean``, ``std`` 0) or ``unknown``.  ``call`` says where it was read: ``"normal_(std=0.02)"``.  ``drawn``: made of
    random numbers, not of data whose entries merely differ.
    """

    kind: str
    std: float = 0.0
    mean: float = 0.0
    call: str = ""
    drawn: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor.  ``kind`` as in :class:`tpcalc.program.raw.RawValue`; ``magnitude`` is the size of its entries (their
    root mean square) as a function of the width where the content is known, else None.

    ``signs``: whether its entries add up like random numbers, so that it acts on what it is contracted with as a random
    weight of that size does: ``drawn`` (it is random), ``odd`` (in every sum), ``mixed`` (along each axis, but not all
    of them together: an identity matrix), or empty.

    ``few``: for each axis, by how much less than the axis the number of entries along it grows that are not zero; empty
    where that is nothing, or not known.
    """

    id: int
    shape: tuple[Size, ...]
    dtype: str
    kind: str = "op"
    name: str = ""
    magnitude: Optional[Scalar] = None
    signs: str = ""
    few: tuple[Order, ...] = ()

    def along(self, compass: Compass) -> Value:
        """The same value with its orders compared along another direction."""
        return replace(
            self,
            shape=tuple(size.along(compass) for size in self.shape),
            magnitude=None if self.magnitude is None else self.magnitude.along(compass),
            few=tuple(turned(order, compass) for order in self.few),
        )

    @property
    def growths(self) -> tuple[Order, ...]:
        """Growth of each axis."""
        return tuple(size.growth for size in self.shape)

    @property
    def growth(self) -> Order:
        """Total growth of its axes."""
        return sum([size.growth for size in self.shape if size.growth is not ZERO], ZERO)

    @property
    def type_text(self) -> str:
        """``V[n]``: S, V, M or T by the number of growing axes, with the growing sizes."""
        growing = [str(size) for size in self.shape if size.growth > 0]
        return "SVMT"[min(len(growing), 3)] + (f"[{', '.join(growing)}]" if growing else "")


def place(module: str, source: str) -> str:
    """``"attn.q, gpt.py:41"``: module and source line, whichever are known."""
    return ", ".join(part for part in (module, source) if part)


@dataclass(frozen=True, slots=True)
class Node:
    """One ATen call.  Arguments are Ref, Size, Scalar, int, float, bool, str, None or nested tuples.

    ``derivative``: made by autograd in the forward pass.  ``random``: it gives other numbers each time.  ``refs``: ids
    of every tensor argument, in order.
    """

    index: int
    op: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    outputs: tuple[Optional[int], ...]
    module: str = ""
    source: str = ""
    phase: str = "forward"
    derivative: bool = False
    random: bool = False
    refs: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "refs", tuple(references((self.args, self.kwargs))))

    def along(self, compass: Compass) -> Node:
        """The same call with its sizes and constants compared along another direction."""
        args, kwargs = _turned(self.args, compass), _turned(self.kwargs, compass)
        return self if args is self.args and kwargs is self.kwargs else replace(self, args=args, kwargs=kwargs)

    @property
    def short_op(self) -> str:
        """``add`` for ``aten.add.Tensor``; the namespace of other libraries stays."""
        return self.op.removeprefix("aten.").rsplit(".", 1)[0]

    @property
    def where(self) -> str:
        """``"attn.q, gpt.py:41"``: module and source line, whichever are known."""
        return place(self.module, self.source)


def references(arg: Any) -> Iterator[int]:
    """Ids of every tensor in an argument of a node."""
    if isinstance(arg, Ref):
        yield arg.id
    elif isinstance(arg, tuple):
        for item in arg:
            yield from references(item)


def _turned(arg: Any, compass: Compass) -> Any:
    if isinstance(arg, (Size, Scalar)):
        return arg.along(compass)
    if isinstance(arg, tuple):
        items = tuple(_turned(item, compass) for item in arg)
        return arg if all(new is old for new, old in zip(items, arg)) else items
    return arg


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter.  Tied parameters are one Weight with several ``aliases`` and several uses.

    ``grad`` is the value id of its gradient, None where autograd gave none; ``slope`` that of its gradient before
    hooks of its own changed it, None where none did.
    ``init`` holds the code's own init law at each traced width, empty where it was not read.
    """

    name: str
    value: int
    shape: tuple[Size, ...]
    trainable: bool = True
    grad: Optional[int] = None
    aliases: tuple[str, ...] = ()
    module_type: str = ""
    init: tuple[tuple[Any, InitLaw], ...] = ()
    slope: Optional[int] = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


__all__ = ["InitLaw", "Node", "Ref", "Value", "Weight", "references"]
