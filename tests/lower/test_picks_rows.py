"""Gates, picked outputs and experts of small programs: which axes count, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tpcalc
from tpcalc.lower.experts import experts
from tpcalc.lower.picks import Picks
from tpcalc.lower.wiring import Wiring
from tpcalc.program.ir import Program
from tpcalc.rules import REGISTRY

WIDTHS = (32, 64, 128)
TARGETS = torch.tensor([2, 0, 5])


class Net(nn.Module):
    """``v``: 2n rows; ``r``: a router of n/4 experts, ``up``, ``down`` their matrices, ``c`` a vector each."""

    def __init__(self, n: int, of: Callable) -> None:
        super().__init__()
        self.of, self.n = of, n
        shapes = {"i": (n, 8), "v": (2 * n, n), "b": (2 * n,), "w": (n, n), "r": (n // 4, n)}
        shapes |= {"up": (n // 4, n, 3 * n), "down": (n // 4, 3 * n, n), "c": (n // 4, n)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(self, x: Tensor) -> Tensor:
        return self.of(self, torch.tanh(x @ self.i.t()))


def y(s: Net, h: Tensor) -> Tensor:
    return h @ s.v.t()


def p(s: Net, h: Tensor) -> Tensor:
    return (h @ s.r.t()).softmax(-1)


def top(s: Net, h: Tensor, k: int = 2) -> torch.return_types.topk:
    return (h @ s.r.t()).topk(k, -1)


def each(s: Net, h: Tensor) -> Tensor:
    """What all experts give: [3, n/4, n]."""
    return torch.einsum("bef,efn->ben", torch.relu(torch.einsum("bn,enf->bef", h, s.up)), s.down)


def looked_up(s: Net, h: Tensor, k: int) -> Tensor:
    found = top(s, h, k)
    u = torch.relu(torch.einsum("bn,bknf->bkf", h, s.up[found.indices]))
    return (found.values.softmax(-1)[..., None] * torch.einsum("bkf,bkfn->bkn", u, s.down[found.indices])).sum(1)


def fused(s: Net, h: Tensor, k: int) -> Tensor:
    found = top(s, h, k)
    u = torch.relu(torch.einsum("bn,bknf->bkf", h, s.up[found.indices]))
    return torch.einsum("bk,bkf,bkfn->bn", found.values.softmax(-1), u, s.down[found.indices])


def masked(s: Net, h: Tensor) -> Tensor:
    found = top(s, h)
    gates = torch.zeros(3, s.n // 4).scatter(1, found.indices, found.values)
    return torch.einsum("be,ben->bn", gates, each(s, h))


def gathered(s: Net, h: Tensor, k: int) -> Tensor:
    scores = (h @ s.r.t()).sigmoid()
    where = scores.topk(k, -1).indices
    return (scores.gather(-1, where)[..., None] * s.c[where]).sum(1)


def attention(s: Net, h: Tensor) -> Tensor:
    q, k, v = ((h @ w).view(3, -1, 8).transpose(0, 1) for w in (s.w, s.w.t(), s.w))
    return ((q @ k.mT).softmax(-1) @ v).transpose(0, 1).flatten(1)


def by_two(s: Net, h: Tensor) -> Tensor:
    gates = p(s, h)
    return gates[:, :1] * (h @ s.w) + gates[:, 1:2] * (h @ s.v[: s.n].t())


def of_largest(s: Net, h: Tensor) -> Tensor:
    z = y(s, h)
    return z.gather(-1, z.topk(2, -1).indices).square().mean()


class Row(NamedTuple):
    """``picked``: growth of rows that are picked, of what meets the weight first and of the weight.  ``gates``: op,
    axis from the right and growth; None: of ops that depend on the version of torch.  ``means``: growth of the sum and
    of the gates in it.  ``last``: last weights of experts with K, R and how many are added up."""

    of: Callable
    picked: str = ""
    gates: str | None = ""
    means: str = ""
    last: str = ""


V = "v 0 1"
R = "r 0 1"
ROWS = {
    # what leaves, or is weighed or picked
    "leaves": Row(y, V),
    "leaves behind functions": Row(lambda s, h: torch.tanh(2 * y(s, h) + s.b), V),
    "leaves summed over samples": Row(lambda s, h: y(s, h).sum(0), V),
    "leaves in pieces": Row(lambda s, h: y(s, h).view(3, 2, -1).transpose(1, 2), V),
    "leaves, and is read": Row(lambda s, h: (y(s, h), y(s, h).square().sum()), V),
    "is read, and leaves": Row(lambda s, h: (lambda z: (z, z.square().sum()))(y(s, h))),
    "a loss": Row(lambda s, h: F.cross_entropy(y(s, h) + s.b, TARGETS), V),
    "a loss, beside others": Row(lambda s, h: F.cross_entropy(torch.cat([y(s, h), h], -1), TARGETS), V),
    "a loss, of others": Row(lambda s, h: F.cross_entropy(y(s, h)[:, s.n :], TARGETS), V),
    "the largest": Row(lambda s, h: y(s, h).amax(-1), V),
    "the largest two": Row(lambda s, h: y(s, h).topk(2, -1).values, V, "topk 1 0; topk 1 0"),
    "of the two that the largest say": Row(of_largest, V, "topk 1 0; topk 1 0; gather 1 0; pow 1 0"),
    "by an index of the inputs": Row(
        lambda s, h: y(s, h).gather(-1, h[:, :4].argmax(-1, keepdim=True)).square().mean(), V
    ),
    # all count
    "a norm": Row(lambda s, h: F.layer_norm(y(s, h), (2 * s.n,))),
    "a mean": Row(lambda s, h: y(s, h).mean(-1)),
    "a softmax over samples": Row(lambda s, h: y(s, h).softmax(0), "", "softmax 2 0"),
    "a softmax over pieces": Row(lambda s, h: torch.tanh(y(s, h).view(3, -1, 8)).softmax(-1), "", "softmax 1 0"),
    "a softmax of pieces": Row(lambda s, h: torch.tanh(y(s, h).view(3, -1, 8)).softmax(1), V, "softmax 2 1"),
    "a softmax without a weight": Row(lambda s, h: (h.t() @ h).softmax(-1), "", "softmax 1 1"),
    "a share": Row(lambda s, h: y(s, h).topk(s.n, -1).values.square().mean(), "", "topk 1 1; topk 1 1; pow 1 1"),
    "divided by the largest": Row(lambda s, h: (y(s, h) / y(s, h).abs().amax(-1, keepdim=True)).square().mean()),
    "compared with the largest": Row(
        lambda s, h: (lambda z: (z >= z.amax(-1, keepdim=True)) * z)(y(s, h)).square().mean()
    ),
    "by a constant index": Row(lambda s, h: y(s, h)[:, torch.arange(4)].square().mean()),
    # gates
    "codes": Row(lambda s, h: p(s, h) @ s.c, f"{R}, c 0 1", "softmax 1 1"),
    "some codes": Row(lambda s, h: p(s, h)[:, :4] @ s.c[:4], R, "softmax 1 1"),
    "keys of two parts": Row(
        lambda s, h: (p(s, h)[:, :, None] * p(s, h)[:, None]).flatten(1).topk(4, -1),
        R,
        "softmax 1 1; unsqueeze 2 1; softmax 1 1; unsqueeze 1 1; mul 2 1, 1 1; view 1 2; topk 1 0; topk 1 0",
    ),
    "a vector each": Row(
        lambda s, h: gathered(s, h, 2),
        R,
        "topk 1 0; topk 1 0; gather 1 0; unsqueeze 2 0; index 2 0, 3 0; mul 2 0, 3 0; sum 2 0",
    ),
    "a vector each of a share": Row(
        lambda s, h: gathered(s, h, s.n // 8),
        R,
        "topk 1 1; topk 1 1; gather 1 1; unsqueeze 2 1; index 2 1, 3 0; mul 2 1, 3 0; sum 2 0",
    ),
    "two of all": Row(by_two, f"{R}, {V}, w 0 1", "softmax 1 1", last="w 1 1 1, v 1 1 1"),
    "attention": Row(attention, "", None),
    # experts
    "soft": Row(
        lambda s, h: torch.einsum("be,bef,efn->bn", p(s, h), torch.relu(torch.einsum("bn,enf->bef", h, s.up)), s.down),
        f"up 0 1, {R}, down 0 1",
        None,
        "2 1",
        "down 1 1 1",
    ),
    "weighed": Row(
        lambda s, h: (p(s, h)[..., None] * each(s, h)).sum(1), f"{R}, up 0 1, down 0 1", None, last="down 1 1 1"
    ),
    "of one layer": Row(
        lambda s, h: (p(s, h)[..., None] * torch.einsum("bn,enf->bef", h, s.up)).sum(1), f"{R}, up 0 2", None,
        last="up 1 1 1",
    ),
    "of one layer, in one": Row(
        lambda s, h: torch.einsum("be,bef->bf", p(s, h), torch.einsum("bn,enf->bef", h, s.up)), f"{R}, up 0 1", None,
        last="up 1 1 1",
    ),
    "masked": Row(masked, f"{R}, up 0 1", None, last="down 1 1 0"),
    "looked up": Row(lambda s, h: looked_up(s, h, 2), R, None, last="down 1 1 0"),
    "a share looked up": Row(lambda s, h: looked_up(s, h, s.n // 8), f"{R}, up 0 1", None, last="down 1 1 1"),
    "looked up, in one": Row(lambda s, h: fused(s, h, 2), R, None, "1 0", "down 1 1 0"),
}  # fmt: skip


def program(of: Callable) -> Program:
    return tpcalc.trace(lambda n: (Net(n, of), (torch.linspace(-1, 1, 24).reshape(3, 8),)), WIDTHS)


def origin(program: Program, vid: int) -> str:
    while vid in program.producers:
        vid = program.producers[vid].refs[0]
    return program.value_name(vid)


def marks(found: dict) -> str:
    return ", ".join(f"{axis} {growth}" for axis, growth in found.items())


def told(program: Program) -> Row:
    picks = Picks(Wiring(program, REGISTRY))
    gates, nodes = picks.gates, {node.index: node for node in program.nodes}
    picked = {origin(program, nodes[index].refs[-1]): by for index, by in picks.found.items()}
    marked = [
        f"{node.short_op.strip('_')} {marks(gates.of[out])}"
        for node in program.nodes
        if node.phase == "forward" and "detach" not in node.op
        for out in node.outputs
        if out in gates.of
    ]
    return Row(
        told,
        ", ".join(sorted(f"{name} {x} {y}" for name, (x, y) in picked.items())),
        "; ".join(marked),
        ", ".join(f"{mean.whole} {mean.gates}" for mean in gates.means.values()),
        ", ".join(f"{e.weight} {e.K} {e.R} {e.count}" for e in experts(gates)),
    )


@pytest.mark.parametrize("name", ROWS)
def test_small_programs(name):
    row, found = ROWS[name], told(program(ROWS[name].of))
    assert found.picked == ", ".join(sorted(filter(None, row.picked.split(", "))))
    assert row.gates is None or found.gates == row.gates
    assert (found.means, found.last) == (row.means, row.last)
