"""The examples of tuning small and training big: they are traced and scaled, they train, and do what they say."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import tpcalc
from tests.support.forked import ranks
from tpcalc.algebra.scales import Point
from tpcalc.trace.target import load_target
from tpcalc.transfer.run import Base, trainer
from tpcalc.tune.recipe import write_recipe

FOLDER = Path(__file__).parents[2] / "examples" / "transfer"
BASE, WIDTHS = 32, (32, 64, 128)
BY_WIDTH = {"language": ("gpt", "gpt_tied", "gpt_heads", "gpt_moe"), "images": ("resnet",)}
CASES = [(file, name) for file, names in BY_WIDTH.items() for name in names]


def load(file: str, name: str):
    return load_target(f"{FOLDER / file}.py:{name}")


def optimizer_of(file: str):
    return load("images", "sgd") if file == "images" else "adamw"


def two_steps(file: str, name: str, scaling, place):
    of = trainer(load(file, name), optimizer_of(file), load(file, "train"))
    return of.run(place, scaling, Base(lr=1e-2), seed=0, steps=2)


@pytest.mark.parametrize("file, name", CASES)
def test_scaled_and_trained(file, name):
    scaling = tpcalc.scale(load(file, name), BASE, 64, optimizer_of(file), WIDTHS)
    assert any(weight.lr != 1 for weight in scaling.values())
    came = two_steps(file, name, scaling, 64)
    assert math.isfinite(came.loss) and came.curve
    assert two_steps(file, name, scaling, 64).loss == came.loss


def test_wider_and_deeper():
    place = Point(("width", "depth"), (64, 4))
    scaling = tpcalc.scale(load("language", "gpt_deep"), {"width": BASE, "depth": 2}, place.by_name)
    assert math.isfinite(two_steps("language", "gpt_deep", scaling, place).loss)


@pytest.mark.parametrize("file, name", CASES)
def test_inputs_are_like_a_batch_and_the_same_at_every_width(file, name):
    _, (inputs,) = load(file, name)(BASE)
    _, (wider,) = load(file, name)(2 * BASE)
    assert wider.equal(inputs)
    source = load("text" if file == "language" else file, "batches")
    length = inputs.shape[1:] if file == "language" else ()
    batch, _ = next(source(torch.Generator().manual_seed(0), len(inputs), *length))
    assert batch.shape == inputs.shape and batch.dtype == inputs.dtype


def test_text_held_out_is_not_trained_on():
    trained, held_out = (part.tolist() for part in load("text", "corpus")())
    alphabet = load("text", "ALPHABET.__str__")()
    assert len(alphabet) == len(set(alphabet)) == 96
    known, new = ("".join(alphabet[index] for index in part) for part in (trained, held_out))
    assert len(known) > 300_000 and len(new) > 30_000
    paragraphs = [part for part in new.split("\n\n")[1:] if len(part) > 100]
    assert len(paragraphs) > 50
    assert not any(part in known for part in paragraphs)


def test_characters_that_follow():
    tokens, following = next(load("text", "batches")(torch.Generator().manual_seed(0), 3, 8))
    assert tokens[:, 1:].equal(following[:, :-1])


def test_fused_attention_is_attention():
    model, _ = load("language", "gpt_tied")(64)
    assert model.head.weight is model.token.weight
    fused = model.blocks[0].attn
    plain = load("language", "gpt")(64)[0].blocks[0].attn
    with torch.no_grad():
        for layer, part in zip(
            (plain.q, plain.k, plain.v, plain.proj), (*fused.qkv.weight.chunk(3), fused.proj.weight)
        ):
            layer.weight.copy_(part)
    x = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fused(x), plain(x))


def test_two_experts_a_token():
    mixture = load("language", "gpt_moe")(64)[0].blocks[0].mlp
    x = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0))
    for token, came in zip(x.flatten(0, 1), mixture(x).flatten(0, 1)):
        scores = mixture.router(token)
        first, second = scores.argsort(descending=True)[:2]
        share = torch.sigmoid(scores[first] - scores[second])
        expected = share * mixture.experts[first](token) + (1 - share) * mixture.experts[second](token)
        torch.testing.assert_close(came, expected)


def test_heads_of_a_fixed_size_or_a_fixed_number():
    assert [load("language", "gpt")(width)[0].blocks[0].attn.head_dim for width in (32, 128)] == [16, 16]
    assert [load("language", "gpt_heads")(width)[0].blocks[0].attn.head_dim for width in (32, 128)] == [16, 64]


def test_an_image_shows_a_glyph_of_its_class():
    """The glyph that fits best anywhere, whatever its colour, is nearly always one of the class."""
    images, classes = next(load("images", "batches")(torch.Generator().manual_seed(0), 500))
    glyphs = load("images", "glyphs")()
    filters = glyphs.flatten(0, 1).unsqueeze(1)
    fits = F.conv2d(images.flatten(0, 1).unsqueeze(1), filters).unflatten(0, (len(images), 3))
    best = fits.square().sum(dim=1).flatten(2).amax(dim=2)
    found = best.argmax(dim=1) // glyphs.shape[1]
    assert (found == classes).double().mean() > 0.95


def test_the_rate_rises_and_falls():
    rates = [load("loop", "schedule")(step, 200) for step in range(200)]
    assert rates.index(max(rates)) in (19, 20) and max(rates) == 1
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    train = load("language", "train")
    write_recipe(tpcalc.tune(load("language", "gpt_tied"), BASE, 64, train, trials=3, steps=1, target_steps=11), folder)
    return folder


def losses(printed: str) -> list[float]:
    return [float(found) for found in re.findall(r"loss ([0-9.]+)", printed)]


@pytest.mark.slow
def test_the_target_on_two_processes_as_on_one(recipe, tmp_path):
    main = load("target", "main")
    ((one,), (first, second)) = (ranks(lambda: main(str(recipe)), count, tmp_path) for count in (1, 2))
    for found in (one, first, second):
        assert found.returncode == 0, found.stderr[-4000:]
    assert second.stdout == ""
    told = losses(one.stdout)
    assert len(told) == 4 and one.stdout.splitlines()[-1].startswith("held out: ")
    assert losses(first.stdout) == pytest.approx(told, rel=1e-5)
    assert told[-1] < told[0] / 2, "it should have trained"


@pytest.mark.slow
def test_the_target_is_trained_by_its_recipe(recipe, tmp_path):
    """Another learning rate in scaling.py is another run; and so is the loop's own way to train there."""
    torch.manual_seed(0)
    scaling = tpcalc.Scaling.load(recipe / "multipliers.json")
    base = Base(**load("target", "scaling_of")(recipe).BASE)
    of = trainer(load("language", "gpt_tied"), "adamw", load("language", "train"))
    came = of.run(64, scaling, base, seed=0, steps=11)
    (told,) = ranks(lambda: load("target", "main")(str(recipe)), 1, tmp_path)
    assert losses(told.stdout) == pytest.approx([*(loss for _, loss in came.curve), came.loss], rel=1e-5)
    other = shutil.copytree(recipe, tmp_path / "other")
    code = (other / "scaling.py").read_text()
    (other / "scaling.py").write_text(code.replace(f'"lr": {base.lr!r}', f'"lr": {base.lr / 100!r}'))
    (off,) = ranks(lambda: load("target", "main")(str(other)), 1, tmp_path)
    assert losses(off.stdout)[-1] > came.loss + 1


@pytest.mark.slow
def test_the_target_refuses(recipe, tmp_path):
    run = load("target", "run")
    with pytest.raises(SystemExit, match="holds no recipe.json"):
        run(tmp_path, torch.device("cpu"), 0, 1)
    with pytest.raises(SystemExit, match="3 processes can't share batches of 16"):
        run(recipe, torch.device("cpu"), 0, 3)
    other = shutil.copytree(recipe, tmp_path / "other")
    text = (other / "recipe.json").read_text()
    (other / "recipe.json").write_text(text.replace('"name": "gpt_tied"', '"name": "resnet"'))
    with pytest.raises(SystemExit, match="is of resnet with adamw; give one of language.py"):
        run(other, torch.device("cpu"), 0, 1)
