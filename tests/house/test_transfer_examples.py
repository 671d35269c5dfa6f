"""The examples of tuning small and training big: traced, scaled, trained, and what they say of their data."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import tpcalc
from tpcalc.algebra.scales import Point
from tpcalc.trace.target import load_target
from tpcalc.transfer.run import Base, trainer

FOLDER = Path(__file__).parents[2] / "examples" / "transfer"
BASE, WIDTHS = 32, (32, 64, 128)
LANGUAGE = ("gpt", "gpt_tied", "gpt_heads", "gpt_moe")


def load(name: str):
    return load_target(f"{FOLDER / name.split(':')[0]}.py:{name.split(':')[1]}")


def two_steps(name: str, scaling, place, optimizer):
    loop = load(name.split(":")[0] + ":train")
    return trainer(load(name), optimizer, loop).run(place, scaling, Base(lr=1e-2), seed=0, steps=2)


@pytest.mark.parametrize("name", [*(f"language:{name}" for name in LANGUAGE), "images:resnet"])
def test_scaled_and_trained(name):
    optimizer = load("images:sgd") if name == "images:resnet" else "adamw"
    scaling = tpcalc.scale(load(name), BASE, 64, optimizer, WIDTHS)
    assert any(weight.lr != 1 for weight in scaling.values())
    came = two_steps(name, scaling, 64, optimizer)
    assert math.isfinite(came.loss) and len(came.curve) == 1
    assert two_steps(name, scaling, 64, optimizer).loss == came.loss


def test_wider_and_deeper():
    factory = load("language:gpt_deep")
    place = Point(("width", "depth"), (64, 4))
    scaling = tpcalc.scale(factory, {"width": BASE, "depth": 2}, place.by_name)
    assert math.isfinite(two_steps("language:gpt_deep", scaling, place, "adamw").loss)


@pytest.mark.parametrize("name", [*(f"language:{name}" for name in LANGUAGE), "images:resnet"])
def test_inputs_are_a_batch_as_trained_on(name):
    module = name.split(":")[0]
    _, (inputs,) = load(name)(BASE)
    source = load("text:batches") if module == "language" else load(f"{module}:batches")
    length = () if module == "images" else (inputs.shape[1],)
    batch, _ = next(source(torch.Generator().manual_seed(0), len(inputs), *length))
    assert batch.shape == inputs.shape and batch.dtype == inputs.dtype
    _, (wider,) = load(name)(2 * BASE)
    assert wider.equal(inputs)


def test_text_held_out_is_not_trained_on():
    trained, held_out = load("text:corpus")()
    alphabet = load("text:ALPHABET.__str__")()
    words = ["".join(alphabet[index] for index in part.tolist()) for part in (trained, held_out)]
    assert len(words[0]) > 300_000 and len(words[1]) > 30_000
    paragraphs = [part for part in words[1].split("\n\n")[1:] if len(part) > 100]
    assert len(paragraphs) > 50
    assert not any(part in words[0] for part in paragraphs)
