"""Optimizers that go by well-known names and do, under some options or for some shapes, something else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

BASE = 64


def inputs(size, *shape):
    return (torch.linspace(-1, 1, size).reshape(shape).sin(),)


X = torch.linspace(-1, 1, 96).reshape(4, 24).sin()


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inp, self.n1, self.h1 = nn.Linear(24, n), nn.LayerNorm(n), nn.Linear(n, n)
        self.n2, self.h2, self.out = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, 10, bias=False)
        for layer, std in ((self.inp, 0.2), (self.h1, n**-0.5), (self.h2, n**-0.5), (self.out, 1 / n)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.1)

    def forward(self, x):
        x = F.gelu(self.inp(x))
        x = x + F.gelu(self.h1(self.n1(x)))
        return self.out(x + F.gelu(self.h2(self.n2(x))))


def parts(model):
    hidden = [model.h1.weight, model.h2.weight]
    rest = [p for p in model.parameters() if p is not model.out.weight and all(p is not h for h in hidden)]
    return hidden, rest, [model.out.weight]


class Base(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, weight_decay=0.0, **more):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **more})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.one(p, p.grad, self.state[p], group)


def adam(g, s, eps=1e-12):
    if not s:
        s["m"], s["v"], s["t"] = torch.zeros_like(g), torch.zeros_like(g), 0
    s["t"] += 1
    s["m"].lerp_(g, 0.1), s["v"].lerp_(g * g, 0.001)
    return (s["m"] / (1 - 0.9 ** s["t"])) / ((s["v"] / (1 - 0.999 ** s["t"])).sqrt() + eps)


class Lamb(Base):
    def one(self, p, g, s, group):
        u = adam(g, s)
        if group["weight_decay"] != 0:
            u = u + group["weight_decay"] * p
            u = u * (p.norm() / u.norm())
        p.sub_(u, alpha=group["lr"])


class LARS(Base):
    def one(self, p, g, s, group):
        if p.ndim > 1:
            g = g + group["weight_decay"] * p
            g = g * (p.norm() / g.norm())
        p.sub_(g, alpha=group["lr"])


class Lion(Base):
    def one(self, p, g, s, group):
        m = s.setdefault("m", torch.zeros_like(g))
        if not group["weight_decouple"]:
            g = g + group["weight_decay"] * p
        else:
            p.mul_(1 - group["weight_decay"] * (1 if group["fixed_decay"] else group["lr"]))
        p.sub_(m.lerp(g, 0.1).sign(), alpha=group["lr"])
        m.lerp_(g, 0.01)


def orthogonal(x):
    x, tall = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12), x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class SingleDeviceMuon(Base):
    def one(self, p, g, s, group):
        u = orthogonal(g.flatten(1) if g.ndim == 4 else g) * max(1, g.size(-2) / g.size(-1)) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(u.view_as(p), alpha=group["lr"])


class Muon(Base):
    def one(self, p, g, s, group):
        if group.get("use_fallback") or p.ndim < 2:
            u = adam(g, s)
        else:
            r, c = p.shape
            u = orthogonal(g) * {"original": max(1, r / c), "rms_to_rms": r / c}[group["adjust_lr_fn"]] ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(u, alpha=group["lr"])


class OneRate(Base):
    """Signs, at a rate that groups share, as those have it that estimate one."""

    def one(self, p, g, s, group):
        if any(group["lr"] != other["lr"] for other in self.param_groups):
            raise RuntimeError("one lr for all groups")
        p.sub_(g.sign(), alpha=group["lr"])


def one_rate(n, power):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    return model, OneRate([{"params": h + o, "lr": 1e-3 * m**power}, {"params": r, "lr": 1e-3}]), (X,)


def lamb_without_decay(n):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    return (
        model,
        Lamb([{"params": h, "lr": 1e-2 * m**-0.5}, {"params": r, "lr": 1e-2}, {"params": o, "lr": 1e-2}]),
        (X,),
    )


def lars_vectors(n):
    model, m = Net(n), n / BASE
    nn.init.zeros_(model.n1.bias), nn.init.zeros_(model.n2.bias)
    h, r, o = parts(model)
    return model, LARS([{"params": h, "lr": 0.1 * m**-0.5}, {"params": r, "lr": 0.1}, {"params": o, "lr": 0.1}]), (X,)


def lion(n, power, **options):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    groups = [
        {"params": h + o, "lr": 1e-4 / m, "weight_decay": 0.1 * m**power},
        {"params": r, "lr": 1e-4, "weight_decay": 0.1},
    ]
    return model, Lion(groups, **{"weight_decouple": True, "fixed_decay": False, **options}), (X,)


def lion_fixed_right(n):
    return lion(n, 0, fixed_decay=True)


def lion_fixed_wrong(n):
    return lion(n, 1, fixed_decay=True)


def lion_coupled(n):
    return lion(n, 1, weight_decouple=False)


def muon(n, adjust):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    groups = [{"params": h, "lr": 1e-2}, {"params": r, "lr": 1e-3, "use_fallback": True}]
    return model, Muon([*groups, {"params": o, "lr": 1e-3 / m, "use_fallback": True}], adjust_lr_fn=adjust), (X,)


def muon_fallback(n):
    return muon(n, "original")


def muon_ratio(n):
    return muon(n, "rms_to_rms")


def muon_filters(n):
    model, m = nn.Module(), n / BASE
    model.stem, model.mid = nn.Conv2d(3, n, 3, padding=1, bias=False), nn.Conv2d(n, n, 3, padding=1, bias=False)
    model.head = nn.Linear(n, 10, bias=False)
    model.forward = lambda x: model.head(F.relu(model.mid(F.relu(model.stem(x)))).mean((2, 3)))
    for p, std in ((model.stem.weight, 0.2), (model.mid.weight, (9 * n) ** -0.5), (model.head.weight, 1 / n)):
        nn.init.normal_(p, std=std)
    head = torch.optim.AdamW([model.head.weight], lr=1e-3 / m, weight_decay=0)
    return (
        model,
        [SingleDeviceMuon([model.stem.weight, model.mid.weight], lr=0.02), head],
        inputs(384, 2, 3, 8, 8),
    )


def muon_conv1d(n):
    model, m = nn.Module(), n / BASE
    model.stem, model.mid = nn.Linear(3, n, bias=False), nn.Conv1d(n, n, 3, padding=1, bias=False)
    model.head = nn.Linear(n, 10, bias=False)
    model.forward = lambda x: model.head(F.relu(model.mid(F.relu(model.stem(x)).transpose(1, 2))).mean(2))
    for p, std in ((model.stem.weight, 0.5), (model.mid.weight, (3 * n) ** -0.5), (model.head.weight, 1 / n)):
        nn.init.normal_(p, std=std)
    rest = [
        {"params": [model.stem.weight], "lr": 1e-3, "eps": 1e-8 / m},
        {"params": [model.head.weight], "lr": 1e-3 / m},
    ]
    return (
        model,
        [SingleDeviceMuon([model.mid.weight], lr=0.02), torch.optim.AdamW(rest, weight_decay=0)],
        inputs(48, 2, 8, 3),
    )


def experts(n):
    return nn.Parameter(torch.randn(4, n, n) * n**-0.5)


def muon_experts(n):
    model, m = nn.Module(), n / BASE
    model.stem, model.head, model.w = (
        nn.Linear(3, n, bias=False),
        nn.Linear(n, 10, bias=False),
        nn.Parameter(torch.randn(4, n, n) * n**-0.5),
    )
    mixed = lambda x: torch.einsum("bi,eoi->beo", F.relu(model.stem(x)), model.w).mean(1)  # noqa: E731
    model.forward = lambda x: model.head(F.relu(mixed(x)))
    nn.init.normal_(model.stem.weight, std=0.5), nn.init.normal_(model.head.weight, std=1 / n)
    rest = [
        {"params": [model.stem.weight], "lr": 1e-3, "eps": 1e-8 / m},
        {"params": [model.head.weight], "lr": 1e-3 / m},
    ]
    return (
        model,
        [SingleDeviceMuon([model.w], lr=0.02), torch.optim.AdamW(rest, weight_decay=0)],
        inputs(24, 8, 3),
    )


class DecoupledAdamW(Base):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    def one(self, p, g, s, group):
        p.mul_(1 - group["lr"] / group["initial_lr"] * group["weight_decay"]).sub_(adam(g, s), alpha=group["lr"])


def independent_decay(n):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    return (
        model,
        DecoupledAdamW([{"params": h + o, "lr": 1e-3 / m}, {"params": r, "lr": 1e-3}], weight_decay=1e-4),
        (X,),
    )


class LocalMuon(Base):
    """A local muon.py: any factor of the shape."""

    def one(self, p, g, s, group):
        u, _, v = torch.linalg.svd(g, full_matrices=False)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(u @ v, alpha=group["lr"] * group["factor"](*p.shape))


def local_muon(n, power, factor=lambda r, c: 0.2 * max(r, c) ** 0.5):
    model, m = Net(n), n / BASE
    h, r, o = parts(model)
    rest = torch.optim.AdamW(
        [{"params": r, "lr": 1e-3, "eps": 1e-8 / m}, {"params": o, "lr": 1e-3 / m}], weight_decay=0
    )
    return model, [LocalMuon(h, lr=0.02 * m**power, factor=factor), rest], (X,)
