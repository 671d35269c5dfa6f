"""The coordinate check that knows no calculus passes exported multipliers, and names what is left unscaled."""

from __future__ import annotations

from benchmarks.coordinates import Coordinates, judged, slopes
from tests.support.models import example

MLP, WIDTHS = example("mlp.py", "mlp"), [32, 64, 128, 256]


def test_exported_multipliers_move_all_alike():
    found = slopes(Coordinates(MLP, WIDTHS), seeds=3)
    assert len(found) > 9 and not judged(found)


def test_without_them_the_hidden_weight_and_the_readout_are_named():
    off = judged(slopes(Coordinates(MLP, WIDTHS, scaled=False), seeds=3))
    assert {"hidden.weight"} <= {each.name for each in off if each.quantity == "effect" and each.slope > 0.3}
