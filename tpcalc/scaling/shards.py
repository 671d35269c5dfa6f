"""Draws, slices and norms of real parameters, whole or in shards: torch only.

Copied into generated files (:mod:`tpcalc.scaling.standalone`).
"""

from __future__ import annotations

# --- copied into generated files from here on ---
import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tpcalc.scaling.weight import Weight


def _is_off(parameter: Tensor, weight: Weight) -> bool:
    """Whether a parameter is clearly not of the size that its own init gives it."""
    law, mean, std = weight.draw
    here = _local(parameter.detach())
    if law == "other" or here.numel() < 256:
        return False
    if type(here) is not Tensor or here.is_meta:  # a fake tensor has no numbers
        return False
    expected = math.hypot(mean, std) / weight.init
    found = here.float().square().mean().sqrt().item()
    return not 0.8 * expected <= found <= 1.25 * expected


def _draw(
    parameter: Tensor,
    law: str,
    mean: float,
    std: float,
    generator: torch.Generator | None,
) -> None:
    if law == "constant":
        parameter.fill_(mean)
    elif law == "uniform":
        reach = math.sqrt(3.0) * std
        parameter.uniform_(mean - reach, mean + reach, generator=generator)
    else:
        parameter.normal_(mean, std, generator=generator)


def _scale_slices(parameter: Tensor, weight: Weight) -> None:
    """Multiply each block of a packed weight by its multiplier."""
    if hasattr(parameter, "placements"):  # the blocks are cut across the shards
        _local(parameter).mul_(_slice_factors(parameter, weight))
        return
    for dim, start, length, init in weight.slices:
        parameter.narrow(dim, start, length).mul_(init)


def _slice_factors(parameter: Any, weight: Weight) -> Tensor:
    """The multipliers of a shard of a packed weight, entry by entry along its axis."""
    here, dim = _local(parameter.detach()), weight.slices[0][0]
    dtype = torch.float64 if here.dtype == torch.float64 else torch.float32
    factors = torch.ones(weight.shape[dim], dtype=dtype)
    for _, start, length, init in weight.slices:
        factors[start : start + length] = init
    mesh, placements = parameter.device_mesh, parameter.placements
    ranks = [mesh.get_local_rank(axis) for axis in range(mesh.ndim)]
    here_only = _indices_here(dim, len(factors), placements, mesh.shape, ranks)
    factors = factors[here_only]
    return factors.to(here.device).view(-1, *[1] * (here.dim() - dim - 1))


def _indices_here(
    dim: int,
    length: int,
    placements: Sequence[Any],
    sizes: Sequence[int],
    ranks: Sequence[int],
) -> Tensor:
    """Which indices along axis ``dim`` a shard holds.  Each mesh axis cuts as chunk does."""
    indices = torch.arange(length)
    for placed, size, rank in zip(placements, sizes, ranks, strict=True):
        if getattr(placed, "dim", None) != dim:
            continue
        parts = indices.chunk(getattr(placed, "split_factor", 1))
        shards = [part.chunk(size) for part in parts]
        indices = torch.cat([c[rank] if rank < len(c) else c[0][:0] for c in shards])
    return indices


def _shared_seed(parameter: Any, generator: torch.Generator | None) -> int:
    """A random number that all ranks agree on: rank 0's."""
    place = "cpu" if generator is None else generator.device
    number = torch.randint(2**62, (1,), generator=generator, device=place)
    number = number.to(_local(parameter).device)
    torch.distributed.broadcast(number, 0)
    return int(number.item())


def _shard_generator(parameter: Any, seed: int, name: str) -> torch.Generator:
    """Another stream for each shard of each parameter, the same one on its replicas."""
    mesh, placements = parameter.device_mesh, parameter.placements
    ranks = [mesh.get_local_rank(dim) for dim in range(mesh.ndim)]
    places = zip(ranks, placements, strict=True)
    shards = [rank for rank, placed in places if placed.is_shard()]
    source = random.Random(f"{seed} {shards} {name!r}")
    generator = torch.Generator(device=_local(parameter).device)
    return generator.manual_seed(source.getrandbits(62))


def _local(tensor: Any) -> Tensor:
    """The part of a tensor that lives here: of a DTensor its shard."""
    return tensor.to_local() if hasattr(tensor, "placements") else tensor


def _weighed_norm(found: Sequence[tuple[Any, float]], norm_type: float) -> Tensor:
    """The norm of all gradients together, each times its weight, over all ranks."""
    if not found:
        return torch.tensor(0.0)
    layouts: dict[Any, list[tuple[Tensor, float]]] = {}
    for grad, clip in found:
        layout: Any = None
        if hasattr(grad, "placements"):
            layout = (grad.device_mesh, tuple(grad.placements))
        layouts.setdefault(layout, []).append((grad, clip))
    norms = []
    for layout, members in layouts.items():
        here = [(_local(grad), clip) for grad, clip in members]
        norm = _stacked_norm(here, norm_type)
        if layout is not None:
            mesh, placements = layout
            norm = _reduced(norm, mesh, placements, norm_type)
        norms.append(norm)
    if len(norms) == 1:
        return norms[0]
    device = norms[0].device
    stacked = torch.stack([norm.to(device) for norm in norms])
    return torch.linalg.vector_norm(stacked, norm_type)


def _stacked_norm(members: Sequence[tuple[Tensor, float]], norm_type: float) -> Tensor:
    by_kind: dict[Any, list[int]] = {}
    for place, (grad, _) in enumerate(members):
        by_kind.setdefault((grad.device, grad.dtype), []).append(place)
    device = members[0][0].device
    norms: list[Any] = [None] * len(members)
    for places in by_kind.values():
        grads = [members[place][0] for place in places]
        found = torch._foreach_norm(grads, norm_type)
        for place, norm in zip(places, found, strict=True):
            norms[place] = norm.to(device) * members[place][1]
    return torch.linalg.vector_norm(torch.stack(norms), norm_type)


def _reduced(norm: Tensor, mesh: Any, placements: Any, norm_type: float) -> Tensor:
    """The norm over all shards: one all-reduce over the sharded dimensions of the mesh."""
    try:
        from torch.distributed.tensor import DTensor, Partial, Replicate
    except ImportError:  # torch 2.4
        from torch.distributed._tensor import DTensor, Partial, Replicate

    if any(placement.is_partial() for placement in placements):
        raise RuntimeError("a gradient is still a partial sum; reduce it first")
    largest = math.isinf(norm_type)
    part = norm if largest else norm**norm_type
    partial = Partial("max" if largest else "sum")
    kinds = [partial if placed.is_shard() else Replicate() for placed in placements]
    total = DTensor.from_local(part, mesh, kinds, run_check=False).full_tensor()
    return total if largest else total ** (1.0 / norm_type)
