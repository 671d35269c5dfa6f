"""Experts trained by the derived rules: what each weight's update does is flat over how many there are, how many are
picked, and how wide they are; a rule without its power is off by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F

import tpcalc
from tests.support import experts as ex
from tests.support.once import once

#: Init and rate of a weight, and the sizes of a model -> the same, wrong on purpose.
Twin = Callable[[float, float, dict[str, int]], tuple[float, float]]


BASE = {"width": 48, "experts": 64, "top_k": 2, "ffn": 32}


@once
def rules(gates: Any, *fixed: str) -> Any:
    factory = ex.layer(ex.batched, gates, **{scale: BASE[scale] for scale in fixed})
    return tpcalc.derive(tpcalc.trace(factory, scales=ex.scales(*(name for name in ex.SCALES if name not in fixed))))


def at(gates: Any, name: str, sizes: dict[str, int]) -> tuple[float, float]:
    """Init and rate of a weight: what width and experts' width say, whatever the gates, times what these say."""
    init, lr = (
        rules(ex.of_picked, "experts", "top_k")[name].formulas[key].at(sizes)
        * rules(gates, "width", "ffn")[name].formulas[key].at(sizes)
        for key in ("init_std", "lr")
    )
    return init, lr


class Run(NamedTuple):
    """Root mean squares after training: of what own updates do to preactivations of the experts that were picked, to
    what those give, and to their scores; of what the change of the features does through the initial ``up``; of what
    the change of an expert's neurons does through the initial ``down``; of what the initial experts give."""

    up: float
    down: float
    router: float
    carried: float
    through: float
    initial: float


def adam(net: ex.Experts, sizes: dict[str, int], twins: dict[str, Twin]) -> torch.optim.Adam:
    """Adam under the derived rules, or their twins, by which a layer of experts starts anew."""
    groups = []
    for name, parameter in net.named_parameters():
        std, lr = at(net.gates, name, sizes)
        std, lr = twins[name](std, lr, sizes) if name in twins else (std, lr)
        if not name.startswith("norm"):
            torch.nn.init.normal_(parameter, std=0.0 if name == "embed.bias" else std)
        groups.append({"params": [parameter], "lr": 0.05 * lr, "eps": 1e-30})
    return torch.optim.Adam(groups, betas=(0.9, 0.95))


def run(gates: Any, sizes: dict[str, int], twins: dict[str, Twin], samples: int, steps: int, seed: int) -> Run:
    torch.manual_seed(seed)
    net = ex.Experts(**sizes, form=ex.einsums, gates=gates)
    x, targets = torch.randn(samples, 8), torch.randint(0, 4, (samples,))
    optimizer = adam(net, sizes, twins)

    def features() -> torch.Tensor:
        return net.norm(net.embed(x))

    def outputs() -> torch.Tensor:
        z = features()  # no stream beside the experts: what they give is all that there is
        return net.readout(ex.einsums(net, z, *gates(net.router(z), net.top_k)))

    with torch.no_grad():
        before = features()
        weights, where = gates(net.router(before), net.top_k)
        start = {name: p.clone() for name, p in net.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(outputs(), targets).backward()
        optimizer.step()
    with torch.no_grad():
        after, moved = features(), {name: p - start[name] for name, p in net.named_parameters()}
        u, v = (
            torch.relu(torch.einsum("bn,bknf->bkf", z, w[where])) for z, w in ((before, start["up"]), (after, net.up))
        )
        parts = (
            torch.einsum("bn,bknf->bkf", after, moved["up"][where]),
            torch.einsum("bk,bkf,bkfn->bn", weights, v, moved["down"][where]),
            (after @ moved["router.weight"].T).gather(-1, where),
            torch.einsum("bn,bknf->bkf", after - before, start["up"][where]),
            torch.einsum("bk,bkf,bkfn->bn", weights, v - u, start["down"][where]),
            torch.einsum("bk,bkf,bkfn->bn", weights, u, start["down"][where]),
        )
    return Run(*(part.square().mean().sqrt().item() for part in parts))


def slopes(
    gates: Any, scale: str, values: Sequence[int], twins: dict[str, Twin], base: Any, samples: int = 32, steps: int = 3
) -> Run:
    """Slopes over one scale, of geometric means of three seeds; ``base`` gives the sizes at a value of it."""
    places, means = [], []
    for value in values:
        runs = [run(gates, base(value), twins, samples, steps, seed) for seed in range(3)]
        places.append(math.log(value))
        # a router that picks one of one has no gradient
        means.append([sum(math.log(max(part, 1e-30)) for part in parts) / 3 for parts in zip(*runs)])
    x = [place - sum(places) / len(places) for place in places]
    return Run(*(sum(a * b for a, b in zip(x, y)) / sum(a * a for a in x) for y in zip(*means)))


VALUES = {"experts": (16, 32, 64, 128), "top_k": (2, 4, 8, 16), "ffn": (48, 96, 192, 384)}


@once
def measured(gates: Any, scale: str, twins: tuple[tuple[str, Twin], ...] = ()) -> Run:
    return slopes(gates, scale, VALUES[scale], dict(twins), lambda value: BASE | {scale: value})


#: What takes no new run here, and the rest.
USUAL = [*((ex.of_picked, scale) for scale in VALUES), (ex.of_all, "experts"), (ex.sigmoids, "top_k")]
MORE = [(gates, scale) for gates in (ex.of_all, ex.sigmoids) for scale in VALUES if (gates, scale) not in USUAL]


@pytest.mark.parametrize(("gates", "scale"), [*USUAL, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)])
def test_effects_of_updates_are_flat(gates: Any, scale: str) -> None:
    """Worst of nine: -0.20, of ``down`` over k (tokens that share experts share their updates)."""
    found = measured(gates, scale)
    assert max(abs(found.up), abs(found.down), abs(found.router)) < 0.26, found


def test_what_vanishes_does_so_as_the_notes_say() -> None:
    """The initial experts, and what a change of their neurons does through them: k^-1/2 where experts are narrow."""
    found = measured(ex.of_picked, "top_k")
    assert abs(found.initial + 0.5) < 0.1 and abs(found.through + 0.5) < 0.2, found


def of_others(std: float, lr: float, sizes: dict[str, int]) -> tuple[float, float]:
    """As if gates were 1/k: of no power of E or k."""
    return at(ex.of_picked, "down", sizes)


WRONG = [
    (ex.of_all, "experts", "down", of_others, -1.0),
    (ex.sigmoids, "top_k", "down", of_others, 1.0),
    (ex.of_picked, "ffn", "down", lambda std, lr, sizes: (std, lr * sizes["ffn"] ** 0.5), 0.5),
    (ex.of_picked, "experts", "router.weight", lambda std, lr, sizes: (std, lr * sizes["experts"] ** -0.5), -0.5),
]


@pytest.mark.parametrize(("gates", "scale", "name", "twin", "off"), WRONG)
def test_a_rate_without_its_power_is_noticed(gates: Any, scale: str, name: str, twin: Twin, off: float) -> None:
    part = name.split(".")[0]
    slope = getattr(measured(gates, scale, ((name, twin),)), part) - getattr(measured(gates, scale), part)
    assert abs(slope - off) < 0.15, slope


@pytest.mark.parametrize(("wrong", "expected"), [(False, 0.0), (True, 0.5)])
def test_experts_do_not_count_among_the_rows_of_one_another(wrong: bool, expected: float) -> None:
    """One expert of 8 neurons for each token, of n/8: the change of the features through it, n = 64 to 512.  An init of
    n^-1/2, as all experts together would bear as rows of one matrix, is too large."""
    twins = {"up": lambda std, lr, sizes: (sizes["width"] ** -0.5, lr)} if wrong else {}

    def base(n: int) -> dict[str, int]:
        return {"width": n, "experts": n // 8, "top_k": 1, "ffn": 8}

    found = slopes(ex.of_picked, "width", (64, 128, 256, 512), twins, base, samples=2, steps=1)
    assert abs(found.carried - expected) < 0.12, found.carried


def gradients(sizes: dict[str, int], seed: int) -> dict[str, float]:
    """Root mean squares after five steps, of entries that are not zero, with gates of 1/k as Jiang et al. have them."""
    torch.manual_seed(seed)
    net = ex.Experts(**sizes, form=ex.einsums, gates=ex.averaged)
    x, targets = torch.randn(64, 8), torch.randint(0, 4, (64,))
    optimizer = adam(net, sizes, {})
    for step in range(6):
        optimizer.zero_grad()
        F.cross_entropy(net(x), targets).backward()
        if step < 5:
            optimizer.step()
    found = {name: p.grad for name, p in net.named_parameters() if name in ("up", "down", "router.weight")}
    return {name: grad[grad != 0].square().mean().sqrt().item() for name, grad in found.items() if grad is not None}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (lambda x: {"width": 8 * x, "experts": 16, "top_k": 2, "ffn": 8 * x}, (-1, -1, 0)),
        (lambda x: {"width": 32, "experts": 16, "top_k": 2, "ffn": 16 * x}, (-1, 0, 0)),
        (lambda x: {"width": 64, "experts": 4 * x, "top_k": x // 2, "ffn": 64}, (-1, -1, -1)),
    ],
    ids=["width with ffn", "ffn", "top_k with experts"],
)
def test_gradients_of_experts(sizes: Callable[[int], dict[str, int]], expected: tuple[int, ...]) -> None:
    """Epsilon follows the gradient: n^0 for a router, no power of f for ``down``, 1/k for all (D24 of the theory)."""
    first, last = (
        torch.tensor([list(gradients(sizes(x), seed).values()) for seed in range(4)]).log().mean(0) for x in (4, 16)
    )
    assert torch.allclose((last - first) / math.log(4), torch.tensor(expected, dtype=torch.float), atol=0.25)
