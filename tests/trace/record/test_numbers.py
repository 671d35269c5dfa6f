"""Sizes of known entries."""

import math

import pytest
import torch

from tpcalc.trace.record.numbers import MASKING, magnitude_and_rms


@pytest.mark.parametrize(
    "entries, sizes",
    [
        ([3.0, -4.0], (4.0, math.sqrt(12.5))),
        ([0.0, 0.0], (0.0, 0.0)),
        ([], (0.0, 0.0)),
        ([1.0, -math.inf], (1.0, 1.0)),
        ([2.0, -2 * MASKING], (2.0, 2.0)),
        ([math.inf], (0.0, 0.0)),
        ([True, False], (1.0, math.sqrt(0.5))),
        ([-3, 0], (3.0, math.sqrt(4.5))),
    ],
)
def test_masks_are_no_data(entries, sizes):
    assert magnitude_and_rms(torch.tensor(entries)) == pytest.approx(sizes)


def test_unknown_stays_unknown():
    assert magnitude_and_rms(None) == (None, None)
