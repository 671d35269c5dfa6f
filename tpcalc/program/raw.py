"""What one recorder pass at one width yields: plain data, no tensors.

The recorder writes it, :mod:`tpcalc.trace.align` reads it.  Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from tpcalc.program.nodes import InitLaw, Ref, place

__all__ = ["InitLaw", "RawNode", "RawTrace", "RawValue", "RawWeight", "Ref", "Sums"]


@dataclass(frozen=True, slots=True)
class Sums:
    """How a fixed tensor adds up, held against random numbers of its size, for which all of these are about 1.

    ``along``: for each axis, the rms of the sums along it over ``rms * sqrt(length)``.  ``norms``: for each axis, the
    operator norm of the matrix of that axis against all others over ``rms * (sqrt(length) + sqrt(others))``.
    ``total``: of all entries.
    """

    along: tuple[float, ...]
    norms: tuple[float, ...]
    total: float


@dataclass(frozen=True, slots=True)
class RawValue:
    """A tensor seen in the trace.

    ``kind``: ``weight`` (a parameter), ``buffer``, ``input`` (example data), ``seed`` (the loss gradient
    put on an output), ``constant`` (made outside the trace), ``op`` (result of a node).
    ``magnitude``: largest finite absolute value where the tensor's content was computed for real
    (buffers, masks, positions, constants); None when unknown.  ``rms`` and ``sums`` likewise.  ``law``: how the code
    made the entries of a buffer or constant, where that was read.  ``filled``: for each axis, how many entries along it
    are not zero, the median of lines that have any and the most; of known numbers, and of functions of weights whatever
    these are.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str = "op"
    name: str = ""
    magnitude: Optional[float] = None
    rms: Optional[float] = None
    sums: Optional[Sums] = None
    law: Optional[InitLaw] = None
    filled: Optional[tuple[tuple[float, float], ...]] = None


@dataclass(frozen=True, slots=True)
class RawNode:
    """One ATen call: ``op`` as ``"aten.mm.default"``.

    ``args`` and ``kwargs`` hold :class:`Ref`, numbers, strings (dtypes, memory formats), None and
    nested tuples of them.  ``outputs`` are value ids, in order; None for a missing output of a
    multi-output op.  ``module`` is the qualified name of the innermost ``nn.Module`` running
    (``"blocks.0.attn"``, ``""`` at top), ``source`` the innermost user line as ``"gpt.py:41"``.
    ``phase``: ``forward`` or ``backward``.  ``derivative``: autograd made it in the forward pass, for a
    gradient that is itself an output (forces, residuals of a differential equation, gradient penalties).
    ``random``: it draws numbers, and gives others each time.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    outputs: tuple[Optional[int], ...]
    module: str = ""
    source: str = ""
    phase: str = "forward"
    derivative: bool = False
    random: bool = False

    @property
    def where(self) -> str:
        return place(self.module, self.source)


@dataclass(frozen=True, slots=True)
class RawWeight:
    """A parameter, once per storage-sharing identity: tied names are listed together."""

    names: tuple[str, ...]
    value: int
    shape: tuple[int, ...]
    trainable: bool
    grad: Optional[int] = None
    """Value id of its gradient after the backward pass; None if it got none."""
    module_type: str = ""
    """Class name of the module that owns it (``Linear``, ``Conv1D``): for messages only, never for rules."""
    slope: Optional[int] = None
    """Value id of its gradient before hooks of its own changed it; None if none did."""


@dataclass(slots=True)
class RawTrace:
    """Everything recorded at one width."""

    width: Any
    nodes: list[RawNode] = field(default_factory=list)
    values: dict[int, RawValue] = field(default_factory=dict)
    weights: list[RawWeight] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    """Differentiable outputs with their path in the returned structure: ``("logits", 17)``."""
    seeds: list[tuple[int, int]] = field(default_factory=list)
    """``(output id, seed id)``: the gradient put on each output."""
    grads: dict[int, int] = field(default_factory=dict)
    """Forward value id -> value id of its gradient, where autograd computed one."""
    loss: Optional[int] = None
    """Value id of the loss when the model (or ``loss=``) gives one."""
    init: dict[str, InitLaw] = field(default_factory=dict)
    """Parameter name -> InitLaw of the code's own initialisation (tpcalc.trace.init)."""
    assumptions: list[str] = field(default_factory=list)
