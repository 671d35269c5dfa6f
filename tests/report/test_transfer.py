"""A sweep as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.made import RATES, curve, transferred
from tpcalc.report.transfer import transfer_text
from tpcalc.transfer.result import Curve

TEXT = """\
Transfer of the learning rate of gpt with adamw: width=64 up to width=256, 3 seeds, 150 steps

scales     parametrization  optimum  error   least loss
----------------------------------------------------------
width=64   standard         0.003    +-0.08  2.401 +-0.005
width=64   derived          0.003    +-0.08  2.401 +-0.005
width=256  standard         0.0015   +-0.08  2.208 +-0.01
width=256  derived          0.0031   +-0.08  2.371 +-0.005

optimum: of the learning rate as at the base, by a parabola; error: over seeds, in log2; least loss: at the best rate that was tried
standard: the code's own init, one learning rate; derived: the multipliers of tpcalc

at the largest  drift in log2  rate carried  loss with it   best rate there  loss with it
------------------------------------------------------------------------------------------
standard        -1.00 +-0.11   0.00316       2.274 +-0.008  0.001            2.208 +-0.01
derived         +0.05 +-0.11   0.00316       2.371 +-0.005  0.00316          2.371 +-0.005

derived, with the best rate of width=64, is worse at width=256 than standard at its own best, by 0.163 +-0.008

remarks:
  - standard at width=256: 6 of 21 runs diverged, at 0.0316 and above

advice:
  - readout.lr times 0.25 lowers the loss at width=64 from 2.400 by 0.2 +-0.03
  - hidden.init times 2 lowers the loss at width=64 from 2.400 by 0.05
  - multipliers keep the ratios between modules that the base has, and one learning rate does not tune these; tpcalc tune searches for all of them at width=64

notes:
  - one note

cost: 8.1% of one target run (3.2e+12 FLOPs at width=64; 3000 steps at width=256 are 3.9e+13)
"""  # noqa: E501


def test_text():
    assert transfer_text(transferred()) == TEXT
    assert str(transferred()) == repr(transferred()) == TEXT


def test_a_narrow_terminal_breaks_no_number():
    narrow = transfer_text(transferred(), width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.split() != TEXT.split() and all(word in narrow for word in ("2.401 +-0.005", "+0.05 +-0.11"))


def said(*curves: Curve, **more) -> str:
    return transfer_text(replace(transferred(), curves=curves, **more))


@pytest.mark.parametrize(
    "least, sentence",
    [
        (2.37, "derived, with the best rate of width=64, is worse at width=256 than standard at its own best, by 0.19"),
        (2.182, "is as good at width=256 as standard at its own best, within one standard error (+0.002 +-0.0"),
        (2.0, "is better at width=256 than standard at its own best, by 0.18"),
    ],
)
def test_ours_is_held_against_standard_at_its_own_best(least, sentence):
    standard = curve("standard", 256, 0.003, 2.18)
    others = (replace(standard, losses=standard.losses[::-1]),)  # other seeds are the best ones
    text = said(curve("derived", 64, 0.003, 2.4), curve("derived", 256, 0.003, least), *others, advice=())
    assert sentence in text
    assert ("tpcalc tune" in text) is (least > 2.2), "advice where ours loses"


def test_what_is_tuned_is_held_against_its_twin_too():
    text = said(curve("tuned", 64, 0.003, 2.1), curve("tuned", 256, 0.003, 2.0), curve("unscaled", 256, 0.001, 2.1))
    assert (
        "tuned, with the best rate of width=64, is better at width=256 than unscaled at its own best, by 0.0995" in text
    )
    assert "\nunscaled        -              -             -              0.001            2.101 +-0.006\n" in text
    assert "tuned: these, with the constants of the recipe; unscaled: those constants alone" in text


def test_divergence_in_words():
    small = curve("derived", 64, 0.003, 2.4)
    wild, nothing = curve("derived", 256, 0.003, 2.4, wall=0.003), curve("standard", 256, 0.003, 2.4, wall=0.0)
    text = said(small, wild)
    assert "derived at width=256: 12 of 21 runs diverged, at 0.00316 and above" in text
    text = said(small, nothing, wild)
    assert "derived, with the best rate of width=64, diverges at width=256" in text
    assert "standard at width=256: every run diverged; try smaller ones than 0.0001" in text
    assert "all diverged" in text
    text = said(small, nothing, curve("derived", 256, 0.003, 2.4))
    assert "trains at width=256, where standard diverges at every rate" in text
    inf = float("inf")
    holes = ((2.5, 2.4, inf, 2.3, 2.4, 2.5, inf), (inf, 2.4, 2.3, 2.2, 2.4, 2.5, inf))
    text = said(small, Curve("derived", {"width": 256}, RATES, holes))
    assert "derived at width=256: 4 of 14 runs diverged, at 0.0001, 0.001, 0.1" in text
    none = ((2.5, inf, inf, 2.3, 2.4, inf, inf), (inf, 2.4, 2.3, inf, inf, 2.5, inf))
    assert "a run diverged at every learning rate" in said(small, Curve("derived", {"width": 256}, RATES, none))


def test_ends_of_the_grid_in_words():
    ends = said(curve("derived", 64, 1e-6, 2.4), curve("derived", 128, 1e-6, 2.3), curve("derived", 256, 1.0, 2.2))
    assert "derived at width=64; width=128: the optimum is the smallest rate of the grid, 0.0001, so" in ends
    assert (
        "derived at width=256: the optimum is the largest rate of the grid, 0.1, so the true one may be larger" in ends
    )
    assert "0.1 (end of grid)     -      3.084 +-0.05\n" in ends and "+9.97     " in ends, "without an error"


def test_one_seed_and_one_size():
    alone = replace(
        transferred(), curves=(replace(curve("derived", 64, 0.003, 2.4), losses=((2.5,) * 3 + (2.4,) + (2.5,) * 3,)),)
    )
    text = transfer_text(replace(alone, seeds=1, steps=1, cost=None))
    assert text.startswith("Transfer of the learning rate of gpt with adamw: width=64, 1 seed, 1 step\n")
    assert "width=64  derived          0.00316  -      2.400\n" in text
    assert "drift" not in text and "cost" not in text
