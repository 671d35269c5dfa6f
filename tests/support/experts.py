"""A layer of experts behind a router, written in the ways that people write it, with its sizes as scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The scales of a model; the first of each is the base.
SCALES = {"width": (16, 32, 64), "experts": (8, 16, 32), "top_k": (2, 4, 8), "ffn": (24, 48, 96)}


class Experts(nn.Module):
    """A residual block of experts in [experts, width, ffn] between a layer that makes features and a readout.

    ``gates``: from router logits and k to weights and places of those that are picked; None: all are used, ``form``
    taking their probabilities.  ``shared``: a feed-forward block beside them.
    """

    def __init__(
        self, width: int, experts: int, top_k: int, ffn: int, form: Callable, gates: Any, shared: bool = False
    ) -> None:
        super().__init__()
        self.top_k, self.count, self.form, self.gates = top_k, experts, form, gates
        self.embed, self.norm = nn.Linear(8, width), nn.LayerNorm(width)
        self.router = nn.Linear(width, experts, bias=False)
        if form is looped:
            self.each = nn.ModuleList(
                nn.Sequential(nn.Linear(width, ffn, bias=False), nn.ReLU(), nn.Linear(ffn, width, bias=False))
                for _ in range(experts)
            )
        else:
            self.up = nn.Parameter(torch.randn(experts, width, ffn) * width**-0.5)
            self.down = nn.Parameter(torch.randn(experts, ffn, width) * ffn**-0.5)
        if shared:
            self.beside = nn.Sequential(nn.Linear(width, ffn, bias=False), nn.ReLU(), nn.Linear(ffn, width, bias=False))
        self.readout = nn.Linear(width, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        z = self.norm(x)
        scores = self.router(z)
        y = self.form(self, z, *((scores.softmax(-1),) if self.gates is None else self.gates(scores, self.top_k)))
        if hasattr(self, "beside"):
            y = y + self.beside(z)
        return self.readout(x + y)


# --- gates ------------------------------------------------------------------------------------------------------------


def of_picked(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A softmax of the k largest scores (Mixtral)."""
    top, where = scores.topk(k, -1)
    return top.softmax(-1), where


def normed(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest probabilities, made to add up to 1 (Qwen with norm_topk_prob)."""
    top, where = scores.softmax(-1).topk(k, -1)
    return top / top.sum(-1, keepdim=True), where


def of_all(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest probabilities as they are (Switch)."""
    top, where = scores.softmax(-1).topk(k, -1)
    return top, where


def sigmoids(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The sum over k sigmoids."""
    top, where = scores.sigmoid().topk(k, -1)
    return top, where


def averaged(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Their mean (Jiang et al. 2026)."""
    top, where = scores.sigmoid().topk(k, -1)
    return top / k, where


def gathered_sigmoids(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest sigmoids, looked up by their places and normalised (DeepSeek-V3)."""
    scores = scores.sigmoid()
    top = scores.gather(-1, scores.topk(k, -1).indices)
    return top / top.sum(-1, keepdim=True), scores.topk(k, -1).indices


# --- forms ------------------------------------------------------------------------------------------------------------


def soft(s: Experts, z: Tensor, p: Tensor) -> Tensor:
    """All experts, gates and experts in one contraction."""
    u = torch.relu(torch.einsum("bn,enf->bef", z, s.up))
    return torch.einsum("be,bef,efn->bn", p, u, s.down)


def weighed(s: Experts, z: Tensor, p: Tensor) -> Tensor:
    """All experts, their results weighed and added up."""
    u = torch.relu(torch.einsum("bn,enf->bef", z, s.up))
    return (p[..., None] * torch.einsum("bef,efn->ben", u, s.down)).sum(1)


def einsums(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    u = torch.relu(torch.einsum("bn,bknf->bkf", z, s.up[where]))
    return (w[..., None] * torch.einsum("bkf,bkfn->bkn", u, s.down[where])).sum(1)


def fused(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    u = torch.relu(torch.einsum("bn,bknf->bkf", z, s.up[where]))
    return torch.einsum("bk,bkf,bkfn->bn", w, u, s.down[where])


def batched(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    """One token and one expert in each place of a batch (transformers' batched_mm)."""
    z = z[:, None].expand(*where.shape, z.shape[-1]).flatten(0, 1)
    u = torch.relu(torch.bmm(z[:, None], s.up[where.flatten()]))
    y = torch.bmm(u, s.down[where.flatten()])[:, 0].view(*where.shape, -1)
    return (w[..., None] * y).sum(1)


def grouped(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    """Tokens sorted by their experts (transformers' grouped_mm)."""
    order = where.flatten().argsort()
    ends = F.one_hot(where.flatten(), s.count).sum(0).cumsum(0).to(torch.int32)
    u = torch.relu(torch._grouped_mm(z.repeat_interleave(s.top_k, 0)[order], s.up, offs=ends))
    y = torch._grouped_mm(u, s.down, offs=ends)
    return (w[..., None] * torch.zeros_like(y).index_copy(0, order, y).view(*where.shape, -1)).sum(1)


def masked(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    """All experts, those that are not picked with gates of zero."""
    gates = torch.zeros(len(z), s.count).scatter(1, where, w)
    u = torch.relu(torch.einsum("bn,enf->bef", z, s.up))
    return torch.einsum("be,ben->bn", gates, torch.einsum("bef,efn->ben", u, s.down))


def looped(s: Experts, z: Tensor, w: Tensor, where: Tensor) -> Tensor:
    """A list of modules, each adding what it makes of its tokens."""
    y, mask = torch.zeros_like(z), F.one_hot(where, s.count).permute(2, 1, 0)
    for index, expert in enumerate(s.each):
        place, token = torch.where(mask[index])
        y.index_add_(0, token, expert(z[token]) * w[token, place, None])
    return y


POINTS = torch.linspace(-1, 1, 48).reshape(6, 8).sin()


def layer(form: Callable, gates: Any = None, shared: bool = False, **fixed: int) -> Callable[..., Any]:
    """A factory of the scales that are not ``fixed``; without gates there is no top-k."""
    fixed = fixed if gates is not None else {"top_k": 1, **fixed}

    def factory(**sizes: int) -> tuple[nn.Module, tuple]:
        return Experts(**(fixed | sizes), form=form, gates=gates, shared=shared), (POINTS,)

    return factory


def scales(*names: str) -> dict[str, tuple[int, ...]]:
    return {name: SCALES[name] for name in names}
