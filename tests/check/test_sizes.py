"""What a check measures is measured once, and rightly: arrangements share sizes, writes in place spoil none."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import example
from tpcalc.check import effects, sizes, training
from tpcalc.check import run as checks
from tpcalc.check import seen as looked
from tpcalc.check.sizes import MASKING, rms
from tpcalc.rules import REGISTRY

GPT, WIDTHS = example("gpt.py", "gpt"), (32, 64, 128)


def exact(tensor: torch.Tensor) -> float:
    kept = tensor[torch.isfinite(tensor) & (tensor.abs() < MASKING)].double()
    return math.sqrt(float(kept.square().sum()) / max(1, kept.numel()))


# -- one set of entries ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e-25, 1e-40, 1e8, 1e25])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5001), (300, 256), (128, 257)])
def test_rms(scale, shape):
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype) * scale
        assert rms(x) == pytest.approx(exact(x), rel=1e-7, abs=0)
        assert rms(x.mT if x.dim() > 1 else x) == pytest.approx(exact(x), rel=1e-7, abs=0)


def test_rms_leaves_out_masks():
    x = torch.ones(200, 200)
    x[::2] = -math.inf
    x[1], x[3], x[5] = math.nan, -1e30, 2.0
    assert rms(x) == pytest.approx(exact(x), rel=1e-7) and rms(x[::2]) == 0 and rms(x[:0]) == 0


# -- how often -------------------------------------------------------------------------------------


def counted(monkeypatch, factory, **options) -> tuple[tpcalc.check.Result, Counter]:
    """A check, and how often each costly thing was done, by run."""
    calls: Counter = Counter()

    def count(owner, name):
        inner = getattr(owner, name)

        def counting(*args, **kwargs):
            calls[name] += 1
            return inner(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(sizes, "_measure")
    count(training, "observe")
    count(training, "call_factory")
    count(effects, "_run")
    count(torch.Tensor, "backward")
    result = tpcalc.check(factory, WIDTHS, seeds=2, **options)
    monkeypatch.undo()
    return result, Counter({name: calls[name] // (2 * len(WIDTHS)) for name in calls})


def test_cost_of_a_run(monkeypatch):
    """Two observed passes, as many training steps as asked for, and every set of entries measured once in each pass."""
    result, calls = counted(monkeypatch, GPT, steps=3)
    values, weights = len(list(result.of("init"))), len(list(result.of("gradient")))
    assert values == len(list(result.of("change"))) == 123 and weights == len(list(result.of("effect"))) == 29
    axes = [REGISTRY.axes(entry.op) for entry in result.of("init")]
    arranged = sum(one is not None and one.same for one in axes)
    assert arranged > values / 2  # heads are split, moved and put together again
    assert calls["observe"] == 2 and calls["backward"] == 3 and calls["call_factory"] == 1
    assert calls["_run"] == weights  # of each weight's one use, that with the old weight
    masked = 2  # the logits of causal attention, whose change is compared with their size after training
    assert calls["_measure"] <= 2 * (values - arranged) + masked + 2 * weights  # gradients at two steps


@pytest.mark.parametrize("rows, threads", [(2, [1, 1, 1]), (1024, [1, 1, 2])])
def test_small_models_run_on_one_thread(rows, threads):
    """1024 rows of 128 entries are few, 1024 rows of 256 are not."""
    x, seen = torch.ones(rows, 8), {}

    def batch(width):
        seen[width] = torch.get_num_threads()
        return x

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        build = lambda n: (nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 4)), (x,))  # noqa: E731
        tpcalc.check(build, (64, 128, 256), seeds=1, steps=1, batch=batch)
        assert list(seen.values()) == threads and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_fused_kernels_follow_the_same_rule(kind):
    models = [nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [kind(model.parameters(), lr=0.02, weight_decay=0.1) for model in models]
    training.take_fused_kernels(optimizers[1])
    assert all(group["fused"] for group in optimizers[1].param_groups)
    x = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for plain, fused in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-14)


def test_optimizers_without_a_fused_kernel_stay_as_they_are():
    weight = nn.Parameter(torch.ones(3))
    for kind in (torch.optim.RMSprop, torch.optim.Rprop, torch.optim.Adagrad):
        optimizer = kind([weight])
        groups = [dict(group) for group in optimizer.param_groups]
        training.take_fused_kernels(optimizer)
        assert [dict(group) for group in optimizer.param_groups] == groups


# -- the same numbers as the long way --------------------------------------------------------------


class Writer(nn.Module):
    """Writes in place and through a view, slices, expands, counts its calls; ``inplace``: the results are the same."""

    def __init__(self, n: int, inplace: bool = True) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4)
        self.gain, self.act, self.norm = nn.Parameter(torch.ones(n)), nn.ReLU(inplace), nn.BatchNorm1d(n)
        self.drop, self.inplace = nn.Dropout(0.2), inplace
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count.add_(1)
        h = self.act(self.first(x))
        half = h[:, : h.shape[1] // 2] * 0.5
        if self.inplace:
            h = h.clone()
            h[:, : h.shape[1] // 2] = half
        else:
            h = torch.cat([half, h[:, h.shape[1] // 2 :]], 1)
        h = self.norm(self.hidden(self.drop(h))) * self.gain.expand(len(x), -1)
        return self.last(self.act(h).unsqueeze(0).expand(3, -1, -1).mean(0))


def writer(n: int, inplace: bool = True):
    return Writer(n, inplace), (torch.randn(16, 8),)


def runs_of(monkeypatch, factory, widths, **options) -> dict:
    seen: dict = {}
    inner = checks._run_all
    with monkeypatch.context() as patch:
        patch.setattr(checks, "_run_all", lambda *arguments: seen.update(inner(*arguments)) or seen)
        tpcalc.check(factory, widths, seeds=2, steps=2, **options)
    return seen


@pytest.mark.parametrize(
    "factory, widths",
    [
        (GPT, WIDTHS),
        (example("gpt.py", "gpt_mqa"), WIDTHS),
        (example("resnet.py", "resnet"), (16, 32, 64)),
        (writer, WIDTHS),
    ],
)
def test_sharing_changes_no_size(monkeypatch, factory, widths):
    """Every value copied and measured by itself gives the sizes that arrangements share."""
    short = runs_of(monkeypatch, factory, widths)
    monkeypatch.setattr(looked, "arrangements", lambda *given: {})
    monkeypatch.setattr(training, "overwrites", lambda program: True)
    monkeypatch.setattr(sizes, "ROUNDING", 0.0)  # so that nothing counts as rounding, however it is found out
    long = runs_of(monkeypatch, factory, widths)
    assert short.keys() == long.keys()
    for key, run in short.items():
        assert run.losses == long[key].losses and run.sizes.keys() == long[key].sizes.keys()
        for what, size in run.sizes.items():
            full = long[key].sizes[what]
            cut = what[0] == "change" and size == 0.0 and full <= 3e-6 * run.sizes["init", what[1]]
            assert cut or size == pytest.approx(full, rel=1e-9, abs=0), what


def test_writes_in_place_spoil_nothing(monkeypatch):
    """A model that writes in place has the gradients and effects, to the last digit, of one that does not."""
    for (key, run), other in zip(
        runs_of(monkeypatch, writer, WIDTHS).items(),
        runs_of(monkeypatch, lambda n: writer(n, False), WIDTHS).values(),
        strict=True,
    ):
        assert run.losses == other.losses, key
        for what, size in run.sizes.items():
            if what[0] in ("gradient", "effect", "peak"):
                assert size > 0 and size == pytest.approx(other.sizes[what], rel=1e-6), (key, what)


def test_values_written_over_are_measured_as_they_were(monkeypatch):
    """What a linear layer returns, before a ReLU in place."""
    (linear,) = (
        entry
        for entry in tpcalc.check(writer, WIDTHS, seeds=1, steps=1).of("init")
        if entry.module == "first" and entry.op == "aten.addmm.default"
    )
    torch.manual_seed(0)
    model, (x,) = writer(WIDTHS[0])
    assert linear.sizes[0] == pytest.approx(exact(model.first(x).detach()), rel=1e-6)


def test_a_frozen_effect_is_zero(monkeypatch):
    """A weight that training leaves as it is has no effect, not one of rounding."""

    def stuck(n):
        model, inputs = writer(n)
        model.last.weight.register_hook(torch.zeros_like)
        return model, inputs

    for run in runs_of(monkeypatch, stuck, WIDTHS).values():
        assert run.sizes["effect", "last.weight"] == 0 and run.sizes["effect", "last.bias"] > 0
