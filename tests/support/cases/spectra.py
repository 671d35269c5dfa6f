"""Convolutions over a growing axis by Fourier transforms, with a learned kernel or of features with themselves."""

from __future__ import annotations

import torch
from torch import nn
from torch.fft import fft, ifft, irfft, rfft

from tests.support.cases.acts import HIDDEN, INPUT, OUTPUT, H, X


class Kernel(nn.Module):
    def __init__(self, f, shape):
        super().__init__()
        self.weight, self.f = nn.Parameter(torch.randn(shape)), f

    def forward(self, h):
        return self.f(h, self.weight)


class Net(nn.Module):
    """Convolves features with a kernel; ``behind``: with another matrix instead, behind ``f`` of the features."""

    def __init__(self, n, f, shape=None, behind=False):
        super().__init__()
        self.a, self.c = nn.Linear(24, n), nn.Linear(n, 10)
        self.b = nn.Linear(n, n) if behind else Kernel(f, shape or (n,))
        self.f = f if behind else None

    def forward(self, x):
        h = self.a(x).relu()
        return self.c(self.b(h if self.f is None else self.f(h)).relu())


def net(f, **options):
    return lambda n: (Net(n, f, **options), (X,))


def by_halves(h, k):
    return irfft(rfft(h) * rfft(k), n=h.shape[-1])


def padded(h, k):
    n = h.shape[-1]
    return irfft(rfft(h, n=2 * n) * rfft(k, n=2 * n), n=2 * n)[..., :n]


def ortho(h, k):
    n = h.shape[-1]
    return irfft(rfft(h, norm="ortho") * rfft(k, norm="ortho"), n=n, norm="ortho") * n**0.5


def itself(h):
    return irfft(rfft(h) * rfft(h).conj(), n=h.shape[-1]) / h.shape[-1]


LONG = {"a.weight": INPUT, "b.weight": (H, 1), "c.weight": OUTPUT}
MATRIX = {"a.weight": INPUT, "b.weight": HIDDEN, "c.weight": OUTPUT}
CASES = {
    "long convolution": (net(by_halves), LONG),
    "long convolution, whole spectrum": (net(lambda h, k: ifft(fft(h) * fft(k)).real), LONG),
    "long convolution, padded": (net(padded), LONG),
    "long convolution, ortho": (net(ortho), LONG),
    "long correlation": (net(lambda h, k: irfft(rfft(h) * rfft(k).conj(), n=h.shape[-1])), LONG),
    "long convolution with a skip": (net(lambda h, k: h + by_halves(h, k)), LONG),
    "autocorrelation": (net(itself, behind=True), MATRIX),
    "a filter of frequencies": (
        lambda n: (
            Net(n, lambda h, k: irfft(rfft(h) * torch.view_as_complex(k), n=n), shape=(n // 2 + 1, 2)),
            (X,),
        ),
        {"a.weight": INPUT, "b.weight": INPUT, "c.weight": OUTPUT},
    ),
}
