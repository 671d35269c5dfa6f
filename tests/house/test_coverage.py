"""The coverage page says what its data say, and its measurement names what is wrong."""

from __future__ import annotations

import importlib.util
import re
import time

import pytest
import torch
import transformers

import tpcalc
from benchmarks.coordinates import call, floats
from benchmarks.coverage import LISTED, OTHERS, PAGE, ROOT, measured_text, page, plain_factories, read
from benchmarks.coverage_measured import chosen, coordinates, few_tokens, limited, models, small_images
from benchmarks.zoo_packages import TABLE, entries
from tests.support.models import MODELS

DATA = read()


def test_page_and_data_say_the_same():
    said = PAGE.read_text(encoding="utf-8").replace(f"transformers {transformers.__version__};", "")
    wanted = page(DATA).replace(f"transformers {transformers.__version__};", "")
    assert re.sub("with torch [0-9.]+", "", said) == re.sub("with torch [0-9.]+", "", wanted)


def test_data_are_of_models_that_are_listed():
    known = {f"{each.package}:{each.name}" for each in entries()}
    known |= {f"hf:{name}" for name in [*" ".join(LISTED.values()).split(), *OTHERS]}
    known |= {f"plain:{name}" for name in plain_factories()}
    assert DATA.keys() <= known


def test_what_was_measured_is_said():
    off = {"effects": 3, "worst": 0.7, "off": [["effect", "a.weight", 0.7], ["init", "", 0.31]]}
    assert measured_text(off) == "off: `a.weight` (effect) +0.70, `the whole` (init) +0.31"
    assert measured_text({**off, "off": []}) == "ok, 3, +0.70"
    assert measured_text({"why": "it did not run"}) == "no: it did not run" and measured_text(None) == ""


def test_every_line_of_the_table_is_a_model_of_its_own():
    names = [each.__name__ for each in entries()]
    assert len(set(names)) == len(names) == sum(" | " in line for line in TABLE.read_text().splitlines()[2:])


def test_the_extra_has_the_packages_of_the_table():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extra = text.partition("\nzoo = [")[2].partition("]")[0]
    assert set(re.findall('"(.+?)"', extra)) == {each.package for each in entries()}


def test_a_line_is_a_factory_of_the_width(monkeypatch):
    """With a module that is there anyway, as packages are not."""
    from benchmarks import zoo_packages

    line = zoo_packages.Entry("torch", "torch.nn:Linear", "8, n, bias=False", "floats(4, 8)", "Linear")
    for width in (32, 64):
        model, inputs = line(width)
        assert line.installed and floats(call(model, inputs))[0].shape == (4, width)
    assert {name: (rule.b, rule.c) for name, rule in tpcalc.derive(tpcalc.trace(line, (32, 64, 128))).items()}
    assert not zoo_packages.Entry("none", "no_such_package:Model", "", "", "Model").installed


@pytest.mark.parametrize("package", ["timm", "x-transformers"])
def test_models_of_a_package_are_built(package):
    own = [each for each in entries() if each.package == package]
    if importlib.util.find_spec(own[0].path.split(".")[0]) is None:
        pytest.skip(f"{package} is not installed")
    for each in own:
        assert floats(call(*each(64)))


def test_a_plain_model_is_measured():
    found = coordinates(MODELS["mlp"], (32, 64, 128), again=False)
    assert not found["off"] and found["effects"] == 6 and found["seeds"] == 2
    again = coordinates(MODELS["mlp"], (32, 64, 128), again=True)
    assert not again["off"] and again["widths"] == [32, 64, 128, 256] and again["seeds"] == 4


def test_what_cannot_run_says_why():
    def broken(n):
        model, inputs = MODELS["mlp"](n)
        model.register_forward_hook(lambda module, args, output: output * torch.inf)
        return model, inputs

    assert coordinates(broken, (32, 64, 128), again=False)["why"].startswith("FloatingPointError: the loss is")


def test_few_tokens_are_left_and_each_number_of_one_is_among_them():
    found = few_tokens("bart")
    assert found["vocab_size"] == "256" and found["eos_token_id"] == "1"
    assert few_tokens("vit") == {} and small_images("bart", 32) == {}
    assert small_images("clip", 32) == {"vision_config.image_size": "32"}


def test_chosen_are_those_named_or_those_that_lack_data():
    known = ["hf:a", "hf:b", "timm:c"]
    data = {"hf:a": {"measured": {"off": [["effect", "w", 1.0]]}}, "hf:b": {"measured": {"off": []}}}
    assert chosen([], known, data, again=False) == ["timm:c"]
    assert chosen([], known, data, again=True) == ["hf:a"]
    assert chosen(["hf"], known, data, again=False) == ["hf:a", "hf:b"]
    assert chosen(["timm:c"], known, data, again=True) == ["timm:c"]
    assert {"hf:gpt2", "plain:mlp"} <= models().keys()


def test_a_model_has_a_time_limit():
    def slow():
        yield {"row": 1}
        while time.process_time() < 60:
            pass
        yield {"measured": {}}

    assert limited(lambda: [{"row": 1}, {"measured": {}}], 60) == {"row": 1, "measured": {}}
    assert limited(slow, 1) == {"row": 1, "measured": {"why": "not done in 1 seconds"}}
    assert limited(lambda: time.sleep(60), 0.05) == {"measured": {"why": "not done in 0.05 seconds"}}
