"""What a weight's own update does where the weight is used, everything else held: predicted and measured.

From a weight lead views and products with constants or other weights (its *chain*) to the ops at which it meets data
(its
*uses*).  The effect of an update is the rms of ``op(W_t, x_t) - op(W_0, x_t)``.  Its *peak* is the largest along the
axes that don't grow:
of the logits, some may be moved by as much as predicted and others not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from tpcalc.algebra.order import MINUS_INFINITY, Order, max_order
from tpcalc.algebra.scales import Place
from tpcalc.algebra.size import Scalar, Size
from tpcalc.calculus.facts import Fact
from tpcalc.calculus.laws import interpret
from tpcalc.check.sizes import ROUNDING, rms
from tpcalc.lower.lowered import Lowered
from tpcalc.program.ir import Node, Program, Ref, Weight
from tpcalc.rules.structures import Repeat, operands
from tpcalc.trace.record import op_of


@dataclass(frozen=True)
class Use:
    """``node`` is where ``weight`` meets data, through the nodes of ``chain``; ``out``: the value that it makes there.

    ``held``: ids of all other operands.  Measuring needs the values of ``needed``.  ``growing``: axes of ``out`` that
    grow.
    """

    weight: Weight
    chain: tuple[Node, ...]
    node: Node
    out: int
    held: frozenset[int]
    growing: tuple[int, ...] = ()

    @property
    def needed(self) -> frozenset[int]:
        return self.held | {self.out}


def uses(lowered: Lowered, facts: Mapping[int, Fact]) -> list[Use]:
    """Every forward use of every trainable weight that can be run again on its own (a random op can't)."""
    return [use for weight in lowered.program.weights if weight.trainable for use in _uses(lowered, facts, weight)]


def _uses(lowered: Lowered, facts: Mapping[int, Fact], weight: Weight) -> list[Use]:
    program = lowered.program
    made_by: dict[int, tuple[Node, ...]] = {weight.value: ()}
    found = []
    for node in program.nodes:
        if node.phase != "forward":
            break
        from_weight = [ref for ref in node.refs if ref in made_by]
        if not from_weight or not node.op.startswith("aten.") or op_of(operator_of(node.op)).random:
            continue
        chain = tuple(dict.fromkeys(step for ref in from_weight for step in made_by[ref]))
        outs = [out for out in node.outputs if out is not None]
        if all(facts[out].is_weight for out in outs):
            made_by.update(dict.fromkeys(outs, (*chain, node)))
        elif outs and facts[outs[0]].data:
            own = {weight.value, *(out for step in chain for out in step.outputs)}
            held = frozenset(ref for step in (*chain, node) for ref in step.refs if ref not in own)
            growing = tuple(axis for axis, size in enumerate(program.values[outs[0]].shape) if size.growth > 0)
            found.append(Use(weight, chain, node, outs[0], held, growing))
    return found


def predicted(lowered: Lowered, facts: Mapping[int, Fact], use: Use, *, initial: bool = False) -> Order:
    """Order of the effect: the laws of the atoms on the way, with everything but the weight held at its trained size.

    ``initial``: held at its initial size, which is what the first steps of training see.
    """
    nodes = {node.index for node in (*use.chain, use.node)}
    own = {leaf.value for leaf in lowered.leaves_of[use.weight.name]} | {use.weight.value}
    local: dict[int, Fact] = {vid: facts[vid] for vid in own}
    for atom in lowered.atoms[: lowered.forward]:
        if atom.out != use.weight.value and atom.node not in nodes:
            continue
        for x in operands(atom.structure):
            if x not in local:
                size = facts[x].init if initial else facts[x].trained
                left = facts[x].deviation if initial else None
                local[x] = facts[x]._replace(
                    init=size, trained=size, change=MINUS_INFINITY, depends=0, odd=0, cover=0, deviation=left
                )
        s = atom.structure
        # of a stack, what one period does and not all of them
        local[atom.out] = local[operands(s)[0]] if isinstance(s, Repeat) else interpret(lowered, atom, local)
    return local[use.out].change


def binding(lowered: Lowered, facts: Mapping[int, Fact], found: list[Use]) -> dict[str, tuple[Order, list[Use]]]:
    """Weight name -> the largest predicted effect and the uses that have it."""
    orders: dict[str, list[tuple[Order, Use]]] = {}
    for use in found:
        orders.setdefault(use.weight.name, []).append((predicted(lowered, facts, use), use))
    result = {}
    for name, pairs in orders.items():
        largest = max_order(*(order for order, _ in pairs))
        result[name] = (largest, [use for order, use in pairs if order == largest])
    return result


def overwrites(program: Program) -> bool:
    """Whether the forward pass writes to any tensor in place, so that values must be copied when they are made."""
    return any(
        not node.op.startswith("aten.") or bool(op_of(operator_of(node.op)).writes)
        for node in program.nodes
        if node.phase == "forward"
    )


# -- measured --------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def operator_of(name: str) -> Callable[..., Any]:
    """The overload that a node calls, such as ``aten.add.Tensor``."""
    namespace, op, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), op), overload)


def _argument(arg: Any, values: Mapping[int, torch.Tensor], place: Place) -> Any:
    if isinstance(arg, Ref):
        return values[arg.id]
    if isinstance(arg, tuple):
        return [_argument(item, values, place) for item in arg]
    if isinstance(arg, (Size, Scalar)):
        return arg.at(place)
    if isinstance(arg, str) and arg.startswith("torch."):
        return getattr(torch, arg.removeprefix("torch."))
    return arg


def _call(node: Node, values: dict[int, torch.Tensor], place: Place) -> None:
    operator = operator_of(node.op)
    facts = op_of(operator)
    operands = {ref: values[ref].clone() for ref in node.refs} if facts.writes or facts.hides_writes else values
    args = [_argument(arg, operands, place) for arg in node.args]
    kwargs = {name: _argument(arg, operands, place) for name, arg in node.kwargs}
    result = operator(*args, **kwargs)
    flat = result if isinstance(result, (tuple, list)) else (result,)
    for out, tensor in zip(node.outputs, flat, strict=False):
        if out is not None:
            values[out] = tensor


def _run(use: Use, weight: torch.Tensor, held: Mapping[int, torch.Tensor], place: Place) -> torch.Tensor:
    values = {vid: held[vid] for vid in use.held}
    values[use.weight.value] = weight
    for node in (*use.chain, use.node):
        _call(node, values, place)
    return values[use.out]


class Effects(NamedTuple):
    """Sizes at one use of a weight: of its ``own`` effect ``(W_t - W_0) x_t``, of the ``peak`` of that, and of what is
    ``propagated`` to its result, ``W_0 (x_t - x_0)``.
    """

    own: float
    peak: float
    propagated: float


@torch.no_grad()
def measured(
    use: Use,
    before: torch.Tensor,
    after: torch.Tensor,
    held: Mapping[int, torch.Tensor],
    place: Place,
    starts: Mapping[int, torch.Tensor] = MappingProxyType({}),
) -> Effects:
    """Effects of going from ``before`` to ``after``.

    ``held`` are the values of a pass with the weight ``after``, ``use.out`` among them: so one run, with the weight
    ``before``, is all that is missing.  ``starts``: results at init, by which what is propagated is told; else it is 0.
    """
    still = torch.equal(before, after)
    unmoved = held[use.out] if still else _run(use, before, held, place)
    start = starts.get(use.out)
    propagated = rms(unmoved - start) if start is not None and start.shape == unmoved.shape else 0.0
    if start is not None and propagated <= ROUNDING * rms(start):
        propagated = 0.0
    if still:
        return Effects(0.0, 0.0, propagated)
    difference = held[use.out] - unmoved
    if difference.is_complex():
        difference = difference.abs()
    growing = use.growing
    along = torch.linalg.vector_norm(difference, dim=growing, dtype=torch.float64) if growing else difference.abs()
    effect = torch.linalg.vector_norm(along, dtype=torch.float64) / math.sqrt(difference.numel())
    return Effects(float(effect), float(along.max()) / math.sqrt(difference.numel() / along.numel()), propagated)
