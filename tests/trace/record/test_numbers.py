"""Sizes of known entries."""

import math

import pytest
import torch

from tpcalc.trace.record.numbers import MASKING, Seen, filled, magnitude_and_rms, measured


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


def test_the_same_numbers_are_measured_once_and_others_in_their_place_anew():
    seen, numbers = Seen(), torch.arange(12.0).reshape(3, 4)
    first = seen.of(numbers)
    assert first == (*measured(numbers), filled(numbers))
    assert seen.of(numbers[:]) is first
    for written in (lambda: numbers.mul_(2), lambda: numbers.numpy().fill(1), lambda: numbers.data[0].zero_()):
        written()
        assert seen.of(numbers) == (*measured(numbers), filled(numbers)) != first
    assert seen.of(numbers.T) == (*measured(numbers.T), filled(numbers.T)) != seen.of(numbers)


def test_what_is_kept_of_measured_numbers_is_little():
    seen = Seen()
    for size in range(2 * Seen.MOST):
        seen.of(torch.ones(size + 1))
    assert len(seen._kept) == Seen.MOST
    seen.of(torch.ones(Seen.LARGEST + 1))
    assert len(seen._kept) == Seen.MOST
