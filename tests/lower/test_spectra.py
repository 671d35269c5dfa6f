"""Products of spectra are convolutions: sums over the axis that was transformed."""

import math

import pytest
import torch
from torch.fft import irfft, rfft

import tpcalc
from benchmarks.coordinates import Coordinates, slopes
from tests.support.cases import spectra


@pytest.mark.parametrize("factory, wanted", spectra.CASES.values(), ids=spectra.CASES)
def test_rules(factory, wanted):
    for widths in ((64, 128, 256), (48, 96, 144)):
        found = tpcalc.derive(tpcalc.trace(factory, widths=widths))
        assert {name: (found[name].b, found[name].c) for name in wanted} == wanted
        assert not found.sites


@pytest.mark.parametrize("again", [True, False])
def test_an_autocorrelation_that_nothing_divides_is_a_site(again):
    def bare(h):
        s = rfft(h)
        return irfft(s * (rfft(h) if again else s).conj(), n=h.shape[-1])

    (site,) = tpcalc.derive(tpcalc.trace(spectra.net(bare, behind=True), widths=(64, 128, 256))).sites
    assert (site.found, site.needed) == (1, 0)


def test_features_of_a_spectrum_are_multiplied_entry_by_entry():
    def gated(h):
        s = rfft(h, norm="ortho").abs()
        return torch.cat([s * torch.sigmoid(h[..., : s.shape[-1]]), h], -1)[..., : h.shape[-1]]

    factory = spectra.net(gated, behind=True)
    found = tpcalc.derive(tpcalc.trace(factory, widths=(64, 128, 256)))
    assert (found["b.weight"].b, found["b.weight"].c) == spectra.HIDDEN and not found.sites


def test_an_update_of_a_kernel_adds_up_over_the_axis():
    """What the rules of a long convolution rest on: frequency 0 holds sums, along which the first update is aligned."""
    sizes, widths = [], (256, 1024, 4096)
    for n in widths:
        torch.manual_seed(0)
        h, back = torch.randn(32, n).relu(), torch.randn(32, n)
        gradient = irfft(rfft(back) * rfft(h).conj(), n=n)
        sizes.append(spectra.by_halves(h, gradient.sign() / n).square().mean(1).sqrt().mean().log().item())
    assert abs((sizes[-1] - sizes[0]) / math.log(widths[-1] / widths[0])) < 0.1


@pytest.mark.parametrize("case", ["a filter of frequencies", "autocorrelation"])
def test_training_agrees(case):
    found = slopes(Coordinates(spectra.CASES[case][0], [64, 128, 256], steps=2), seeds=2)
    assert all(abs(slope) < 0.25 for (_, name), slope in found.items() if name.startswith("b"))
