"""Which weights are tuned together, and how a user says so."""

import pytest

import tpcalc
from tests.support.models import WIDTHS, example, program
from tpcalc.transfer.modules import MODULES, modules_of

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
