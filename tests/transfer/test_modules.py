"""Which weights are tuned together, and how a user says so."""

import pytest
import torch
from torch import nn

import tpcalc
from tests.support.models import WIDTHS, example, program
from tests.support.zoo import ZOO
from tpcalc.errors import TpcalcError
from tpcalc.transfer.modules import MODULES, check_selector, modules_at, modules_of, selected

NORMS = {"blocks.*.ln1.weight", "blocks.*.ln1.bias", "blocks.*.ln2.weight", "blocks.*.ln2.bias"}
GPT = {
    "embedding": {"token.weight"},
    "positions": {"position.weight"},
    "hidden": {*(f"blocks.*.attn.{name}.weight" for name in ("q", "k", "v", "proj"))},
    "projection": {"blocks.*.attn.proj.weight"},
    "readout": {"head.weight"},
    "norm": {*NORMS, "norm.weight", "norm.bias"},
}
DENSE = {
    **GPT,
    "hidden": {*GPT["hidden"], "blocks.*.mlp.fc.weight", "blocks.*.mlp.proj.weight"},
    "projection": {*GPT["projection"], "blocks.*.mlp.proj.weight"},
    "bias": {"blocks.*.mlp.fc.bias", "blocks.*.mlp.proj.bias"},
}
EXPERT = "blocks.*.mlp.experts.*"
EXAMPLES = {
    "gpt.py:gpt": DENSE,
    "gpt.py:gpt_mqa": DENSE,
    "gpt.py:gpt_growing_heads": DENSE,
    "gpt.py:gpt_tied": {
        **DENSE,
        "embedding": {"token.weight", "head.weight"},
        "readout": {"token.weight", "head.weight"},
    },
    "gpt.py:gpt_moe": {
        **GPT,
        "hidden": {*GPT["hidden"], f"{EXPERT}.fc.weight", f"{EXPERT}.proj.weight"},
        "projection": {*GPT["projection"], f"{EXPERT}.proj.weight"},
        "bias": {f"{EXPERT}.fc.bias", f"{EXPERT}.proj.bias"},
        "router": {"blocks.*.mlp.router.weight"},
    },
    "resnet.py:resnet": {
        "embedding": {"stem.weight"},
        "hidden": {"stages.*.conv1.weight", "stages.*.conv2.weight", "stages.*.shortcut.weight"},
        "projection": {"stages.*.conv2.weight"},
        "readout": {"head.weight"},
        "norm": {
            "norm.weight",
            "norm.bias",
            *(f"stages.*.bn{i}.{name}" for i in (1, 2) for name in ("weight", "bias")),
        },
        "bias": {"head.bias"},
    },
    "mlp.py:mlp": {
        "embedding": {"input.weight"},
        "hidden": {"hidden.weight"},
        "readout": {"output.weight"},
        "bias": {"input.bias", "hidden.bias", "output.bias"},
    },
}


def by_module(found):
    """Module -> the patterns in it; every pattern is in one."""
    assert all(found.values())
    table = {module: {pattern for pattern, modules in found.items() if module in modules} for module in MODULES}
    return {module: patterns for module, patterns in table.items() if patterns}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples(name):
    assert by_module(modules_of(program(example(*name.split(":"))))) == EXAMPLES[name]


@pytest.mark.parametrize("name", ["gpt_deep", "gpt_moe_deep"])
@pytest.mark.parametrize("scales", [{"depth": (2, 3)}, {"width": WIDTHS, "depth": (2, 4, 8)}])
def test_along_other_scales(name, scales):
    """The same as along the width, also where nothing grows."""
    gpt = example("gpt.py", "build").__globals__

    def gpt_moe_deep(width, depth=2):
        return gpt["build"](gpt["Config"](width, heads=width // 16, kv_heads=width // 16, layers=depth, experts=4))

    factory = gpt["gpt_deep"] if name == "gpt_deep" else gpt_moe_deep
    widths = {} if "width" in scales else {"widths": WIDTHS}
    found = by_module(modules_of(tpcalc.trace(factory, scales=scales, **widths)))
    assert found == EXAMPLES["gpt.py:gpt" if name == "gpt_deep" else "gpt.py:gpt_moe"]


class Stacked(nn.Module):
    """A residual block of stacked experts, 32 features wide."""

    def __init__(self, experts, ffn):
        super().__init__()
        self.i, self.o, self.router = nn.Linear(8, 32), nn.Linear(32, 4), nn.Linear(32, experts)
        self.up = nn.Parameter(torch.randn(experts, 32, ffn) / 6)
        self.down = nn.Parameter(torch.randn(experts, ffn, 32) / 6)

    def forward(self, x):
        x = self.i(x)
        hidden = torch.einsum("td,edf->tef", x, self.up).relu()
        return self.o(x + torch.einsum("te,tef,efd->td", self.router(x).softmax(dim=-1), hidden, self.down))


def stacked(experts=4, ffn=32):
    return Stacked(experts, ffn), (torch.linspace(-1, 1, 24).reshape(3, 8),)


@pytest.mark.parametrize("scales", [{"ffn": (16, 32, 64)}, {"experts": (4, 8, 16)}])
def test_where_the_width_stays(scales):
    """A router then is what has fewer outputs than inputs."""
    found = by_module(modules_of(tpcalc.trace(stacked, scales=scales)))
    assert found == {
        "embedding": {"i.weight"},
        "hidden": {"up", "down"},
        "projection": {"down"},
        "readout": {"o.weight"},
        "router": {"router.weight"},
        "bias": {"i.bias", "router.bias", "o.bias"},
    }


def listed(n, count=4):
    """Layers of one list: the input's, the hidden ones, the output's."""
    sizes = [8, *[n] * (count - 1), 4]
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])))
    return model, (torch.linspace(-1, 1, 24).reshape(3, 8),)


def test_copies_that_differ_keep_their_indices():
    modules = modules_of(program(listed))
    assert {name: set(found) for name, found in modules.items()} == {
        "0.weight": {"embedding"},
        "1.weight": {"hidden"},
        "2.weight": {"hidden"},
        "3.weight": {"readout"},
        "*.weight": {"hidden"},
        "*.bias": {"bias"},
    }
    assert [modules_at(f"{i}.weight", modules) for i in (0, 3, 7)] == [{"embedding"}, {"readout"}, {"hidden"}]
    assert [i for i in range(5) if selected("hidden", f"{i}.weight", modules)] == [1, 2, 4]
    assert modules_at("else", modules) == frozenset()


def test_a_layer_of_a_block_serves_any_depth():
    """``nn.Sequential`` in a block: the index of the block goes, that of the layer stays."""
    modules = modules_of(program(ZOO["dense_mixture"]))
    assert {name: set(found) for name, found in modules.items() if "experts" in name} == {
        "experts.*.0.weight": {"hidden"},
        "experts.*.2.weight": {"hidden", "projection"},
        "experts.*.*.weight": {"hidden"},
        "experts.*.*.bias": {"bias"},
    }
    assert selected("projection", "experts.17.2.weight", modules)
    assert not selected("projection", "experts.17.0.weight", modules)


def test_selectors():
    modules = modules_of(program(example("gpt.py", "gpt_tied")))
    assert selected("embedding", "token.weight", modules) and selected("readout", "token.weight", modules)
    assert selected("projection", "blocks.31.mlp.proj.weight", modules)
    assert not selected("projection", "blocks.31.mlp.fc.weight", modules)
    assert selected("blocks.*.attn.proj.weight", "blocks.31.attn.proj.weight", modules)
    assert selected("*.attn.*", "blocks.0.attn.q.weight", modules)
    assert not selected("*.attn.*", "blocks.0.mlp.fc.weight", modules)
    assert not selected("*.ATTN.*", "blocks.0.attn.q.weight", modules)


THERE = "the modules embedding, positions, hidden, projection, readout, norm, bias and patterns such as token.weight"
BAD = {
    "hiden": f"the model has no weights of a module or parameter 'hiden'; did you mean hidden? There are {THERE}",
    "router": f"the model has no weights of the module router; there are {THERE}",
    "blocks.*.atn.q.weight": (
        "the model has no weights of a module or parameter 'blocks.*.atn.q.weight'; did you mean "
        f"blocks.*.attn.q.weight or blocks.*.attn.v.weight or blocks.*.attn.k.weight? There are {THERE}"
    ),
    "xyz": f"the model has no weights of a module or parameter 'xyz'; there are {THERE}",
}


@pytest.mark.parametrize("selector", BAD)
def test_selectors_that_select_nothing(selector):
    traced = program(example("gpt.py", "gpt"))
    names, modules = [weight.name for weight in traced.weights], modules_of(traced)
    with pytest.raises(TpcalcError) as caught:
        check_selector(selector, names, modules)
    assert str(caught.value) == BAD[selector]
    for good in ("norm", "*.attn.*", "head.weight"):
        check_selector(good, names, modules)
