"""The example models run, at every width users are told they work at, and train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tpcalc.trace.target import load_target
from tpcalc.verify import verify

EXAMPLES = Path(__file__).parents[2] / "examples"
FACTORIES = {
    "gpt.py": ("gpt", "gpt_deep", "gpt_tied", "gpt_growing_heads", "gpt_growing_heads_mup", "gpt_mqa", "gpt_moe"),
    "mlp.py": ("mlp",),
    "resnet.py": ("resnet",),
}
#: Setups for ``tpcalc verify``, with the verdict each is written to get.
SETUPS = {"by_hand.py": {"right": (), "fan_ratio": ("hidden.weight",)}}
CASES = [(file, name) for file, names in FACTORIES.items() for name in names]


def load(file: str, name: str):
    return load_target(f"{EXAMPLES / file}:{name}")


def test_every_example_is_listed():
    assert sorted([*FACTORIES, *SETUPS]) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("file, name", CASES)
@pytest.mark.parametrize("width", [64, 128, 512])
def test_forward_and_backward(file, name, width):
    torch.manual_seed(0)
    model, inputs = load(file, name)(width)
    logits = model(*inputs)
    assert logits.shape[0] == inputs[0].shape[0]
    assert torch.isfinite(logits).all()
    logits.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("file, name", [(file, name) for file, names in SETUPS.items() for name in names])
def test_setups_get_the_verdict_they_are_written_for(file, name):
    report = verify(load(file, name), widths=(64, 128, 256))
    assert tuple(finding.subject for finding in report.findings) == SETUPS[file][name]


def test_gpt_is_causal():
    model, (tokens,) = load("gpt.py", "gpt")(64)
    changed = tokens.clone()
    changed[:, -1] += 1
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_gpt_variants_differ_in_what_they_say_they_do():
    def model(name):
        return load("gpt.py", name)(128)[0]

    tied = model("gpt_tied")
    assert tied.head.weight is tied.token.weight
    plain = model("gpt")
    assert plain.head.weight is not plain.token.weight
    assert plain.blocks[0].attn.head_dim == 16
    assert model("gpt_growing_heads").blocks[0].attn.head_dim == 32
    assert model("gpt_growing_heads").blocks[0].attn.scale == 32**-0.5
    assert model("gpt_growing_heads_mup").blocks[0].attn.scale == 1 / 32
    assert model("gpt_mqa").blocks[0].attn.k.weight.shape == (16, 128)
    assert model("gpt_moe").blocks[0].mlp.router.weight.shape == (4, 128)


def test_multi_query_attention_shares_one_head():
    """Expanding the key and value head is what attention over repeated heads computes."""
    torch.manual_seed(0)
    model, _ = load("gpt.py", "gpt_mqa")(64)
    attention = model.blocks[0].attn
    x = torch.randn(2, 8, 64)
    q, k, v = (attention.split(layer(x)) for layer in (attention.q, attention.k, attention.v))
    k, v = k.repeat_interleave(4, dim=1), v.repeat_interleave(4, dim=1)
    logits = (q @ k.transpose(-1, -2) / 4).masked_fill(torch.ones(8, 8).triu(1).bool(), float("-inf"))
    expected = attention.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


RIGHT = [
    (path.name, found)
    for path in sorted((EXAMPLES / "gallery").glob("*.py"))
    for found in re.findall(r"^def (right|mlp|transformer)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
]


def test_the_gallery_has_what_is_right():
    assert {("right.py", "mlp"), ("right.py", "transformer"), ("depth.py", "right"), ("tied.py", "right")} <= set(RIGHT)


@pytest.mark.slow  # the mistakes are verified where they are shown (tests/house/test_pages.py)
@pytest.mark.parametrize("file, name", RIGHT)
def test_what_is_mended_in_the_gallery_is_clean(file, name):
    scales = (
        {"scales": {"width": (64, 128, 256), "depth": (2, 3)}} if file == "depth.py" else {"widths": (64, 128, 256)}
    )
    report = verify(load_target(f"{EXAMPLES / 'gallery' / file}:{name}"), **scales)
    assert (report.ok, report.findings) == (True, ())
