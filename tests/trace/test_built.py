"""A model as its code makes it: names, shapes, ties and init laws, at any size, with nothing drawn."""

from __future__ import annotations

import torch
from torch import nn

from tpcalc.algebra.scales import Point
from tpcalc.trace.built import Built


def tied(width: int):
    model = nn.ModuleDict({"token": nn.Embedding(32, width), "head": nn.Linear(width, 32, bias=False)})
    model["head"].weight = model["token"].weight
    nn.init.normal_(model["token"].weight, std=0.25)
    return model


def test_names_shapes_ties_and_laws():
    built = Built.at(tied, 64)
    assert list(built.parameters) == ["token.weight", "head.weight"]
    assert built.tied == {"token.weight": ("token.weight", "head.weight")}
    assert built.shape("head.weight") == (32, 64)
    assert (built.law("head.weight").kind, built.law("head.weight").std) == ("random", 0.25)


def test_blocks_have_laws_of_their_own():
    def packed(width: int, parts: int):
        model = nn.Linear(width, parts * width)
        with torch.no_grad():
            model.weight[:width].mul_(2)
        return model

    built = Built.at(packed, Point(("width", "parts"), (16, 3)))
    whole, first, last = (
        built.law_of_block("weight", 0, start, length) for start, length in [(0, 48), (0, 16), (32, 16)]
    )
    assert first.std == 2 * last.std > 0 and last.std < whole.std < first.std


def test_no_size_is_too_large():
    assert Built.at(lambda n: nn.Linear(n, n), 1 << 20).shape("weight") == (1 << 20, 1 << 20)
