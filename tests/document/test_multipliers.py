"""Reading multipliers: one sentence, with the place and the remedy (more, on real files, in tests/scaling)."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

import tpcalc
from tpcalc.document.multipliers import check, read
from tpcalc.errors import ScalingError


@pytest.fixture(scope="module")
def document() -> dict:
    def factory(width):
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4)), (torch.ones(2, 8),)

    return tpcalc.scale(factory, 32, 128).document


AGAIN = "; export it again"
SENTENCES = [
    (("weights", 0, "multipliers", "lr"), "4", "at weights[0].multipliers.lr: '4' should be a valid number" + AGAIN),
    (("weights", 0, "multipliers", "lr"), True, "at weights[0].multipliers.lr: True should be a valid number" + AGAIN),
    (("weights", 0, "shape_at", "base"), [8.0], "at weights[0].shape_at.base[0]: 8.0 is no whole number" + AGAIN),
    (("weights", 1, "tied_to"), KeyError, "at weights[1]: 'tied_to' is missing" + AGAIN),
    (("notes",), KeyError, "at top level: 'notes' is missing" + AGAIN),
    (("scale",), [1] * 99, "at scale: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ... should be"),
    (("gauge",), "own", "at gauge: 'own' should be 'init', 'mup', 'symmetric', 'ntk' or 'completep'" + AGAIN),
]


@pytest.mark.parametrize("path, value, sentence", SENTENCES)
def test_the_sentence_names_the_place(document, path, value, sentence):
    broken = copy.deepcopy(document)
    place = broken
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ScalingError) as caught:
        check(broken, "m.json")
    assert str(caught.value).startswith("m.json breaks the schema tpcalc/1 " + sentence)


def test_unknown_keys_and_earlier_files_are_let_pass(document, tmp_path):
    earlier = copy.deepcopy(document) | {"later": {"x": [1]}}
    for key in ("gauge", "parametrization", "alignment", "clipping"):
        del earlier[key]
    for entry in earlier["weights"]:
        del entry["multipliers"]["forward"]
    (tmp_path / "m.json").write_text(json.dumps(earlier))
    assert read(tmp_path / "m.json") == earlier
    with pytest.raises(ScalingError, match="lacks the forward multiplier of '0.weight'"):
        check(earlier | {"gauge": "mup"})


def test_whole_numbers_are_multipliers_too(document):
    whole = copy.deepcopy(document)
    for entry in whole["weights"]:
        entry["multipliers"] = {key: value and 1 for key, value in entry["multipliers"].items()}
    check(whole)
