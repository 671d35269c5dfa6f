"""Packed weights whose blocks need different rules: an init for each block, one learning rate for all."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

BASE, TARGET = 32, 128
KINDS = ("reshape and unbind", "split", "MultiheadAttention")


class Packed(nn.Module):
    """Attention with q, k and v in one matrix; growing heads and logits divided by sqrt(d)."""

    def __init__(self, width: int, kind: str = "split", heads: int = 4, layers: int = 1, power: float = 0.5):
        super().__init__()
        self.kind, self.heads, self.scale = kind, heads, (width // heads) ** -power
        self.embed, self.norm = nn.Embedding(32, width), nn.LayerNorm(width)
        if kind == "MultiheadAttention":
            self.layers = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(layers))
        else:
            self.layers = nn.ModuleList(
                nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
                for _ in range(layers)
            )
        self.head = nn.Linear(width, 32, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + self.attention(layer, self.norm(x))
        return self.head(x)

    def attention(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.kind == "MultiheadAttention":
            return layer(x, x, x, need_weights=False)[0]
        batch, time, width = x.shape
        heads = (self.heads, width // self.heads)
        if self.kind == "split":
            parts = layer["qkv"](x).split(width, dim=-1)
            q, k, v = (part.unflatten(-1, heads).transpose(1, 2) for part in parts)
        else:  # as timm does
            q, k, v = layer["qkv"](x).reshape(batch, time, 3, *heads).permute(2, 0, 3, 1, 4).unbind(0)
        return layer["proj"](F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2))


def factory(kind: str = "split", **options):
    return lambda width: (Packed(width, kind, **options), (torch.arange(16).reshape(2, 8),))


def name_of(kind: str, layer: int = 0) -> str:
    return f"layers.{layer}." + ("in_proj_weight" if kind == "MultiheadAttention" else "qkv.weight")


def fresh(kind: str, width: int = TARGET, **options) -> Packed:
    torch.manual_seed(0)
    return Packed(width, kind, **options)


# -- two processes ----------------------------------------------------------------------------------


def worker(folder: Path) -> None:
    """q, k and v lie on shards cut elsewhere than between them, along either axis."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    from tpcalc.scaling import Scaling

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    scaling = Scaling.load(folder / "multipliers.json")
    mesh = init_device_mesh("cpu", (2,))
    results = {}
    for case, axis in (("rows", 0), ("columns", 1)):
        model = fresh("split")
        fully_shard(model, mesh=mesh, shard_placement_fn=lambda p, axis=axis: Shard(min(axis, p.dim() - 1)))
        scaling.init_(model)
        results[case] = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
        scaling.init_(model, from_scratch=True)
        results[case + " from scratch"] = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
    if dist.get_rank() == 0:
        torch.save(results, folder / "results.pt")
    dist.barrier()
    time.sleep(0.5)  # the other process leaves the barrier too


import jsonschema  # noqa: E402
import pytest  # noqa: E402

import tpcalc  # noqa: E402
from tests.scaling.test_codegen import run  # noqa: E402
from tests.support.forked import ranks  # noqa: E402
from tpcalc.document import schema  # noqa: E402
from tpcalc.document.table import table_json  # noqa: E402
from tpcalc.scaling import Scaling, ScalingError  # noqa: E402
from tpcalc.scaling.codegen import codegen  # noqa: E402
from tpcalc.scaling.shards import _indices_here  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded_once")


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def scaling(kind) -> Scaling:
    return tpcalc.scale(factory(kind), BASE, TARGET)


@pytest.fixture(scope="module")
def split() -> Scaling:
    return tpcalc.scale(factory(), BASE, TARGET)


def entry_of(scaling: Scaling, name: str) -> dict:
    return next(entry for entry in scaling.document["weights"] if entry["name"] == name)


# -- numbers ----------------------------------------------------------------------------------------


def test_each_block_gets_its_own_init(kind, scaling):
    """q ~ 1/n, k and v ~ 1/sqrt(n): with the safe common init v would start a factor sqrt(n) too small."""
    name = name_of(kind)
    inits = [
        lambda model: scaling.init_(model),
        lambda model: run(codegen(scaling))["init_"](model),
        lambda model: Scaling(json.loads(json.dumps(scaling.document))).init_(model),
    ]
    base = fresh(kind, BASE).get_parameter(name).detach().chunk(3)
    for init_ in inits:
        model = fresh(kind)
        before = copy.deepcopy(model.state_dict())
        init_(model)
        blocks = model.get_parameter(name).detach().chunk(3)
        for block, old, exponent in zip(blocks, base, (1, 0.5, 0.5), strict=True):
            assert block.std().item() == pytest.approx(old.std().item() * 4**-exponent, rel=0.05)
        for block, old, init in zip(blocks, before[name].chunk(3), (0.5, 1.0, 1.0), strict=True):
            assert torch.equal(block, old * init)
        bias = name.replace("weight", "bias")
        q, k, v = model.get_parameter(bias).detach().chunk(3)
        old = before[bias].chunk(3)
        ratios = (1.0, 2.0, 2.0)  # torch's bias is uniform within 1/sqrt(n): right for q; k and v need a constant
        assert all(torch.equal(x, y * r) for x, y, r in zip((q, k, v), old, ratios, strict=True))


def test_the_learning_rate_is_common_and_safe(kind, scaling):
    weight = scaling[name_of(kind)]
    assert (weight.lr, weight.weight_decay, weight.init) == (1 / 8, 8.0, 0.5)
    model = fresh(kind)
    groups = scaling.param_groups(model, lr=1.0, weight_decay=0.1)
    held = [group["lr"] for group in groups if any(p is model.get_parameter(name_of(kind)) for p in group["params"])]
    assert held == [1 / 8]


def test_at_base_width_everything_is_one(kind):
    scaling = tpcalc.scale(factory(kind), BASE, BASE)
    for entry in scaling.document["weights"]:
        assert all(piece["multipliers"]["init"] == 1.0 for piece in entry["slices"])
        assert all(value in (1.0, None) for value in entry["multipliers"].values())
    model = fresh(kind, BASE)
    before = copy.deepcopy(model.state_dict())
    scaling.init_(model)
    run(codegen(scaling))["init_"](model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_json(kind, scaling):
    jsonschema.validate(scaling.document, schema("table"))
    std = {"base": 0.125, "code": 0.0625}  # xavier on [3n, n]
    if kind != "MultiheadAttention":
        std = {"base": 1 / math.sqrt(3 * BASE), "code": 1 / math.sqrt(3 * TARGET)}
    zero = {"base": 0.0, "target": 0.0, "code_at_target": 0.0}
    expected = []
    for index, (A, C, init) in enumerate((("1", "3/2", 0.5), ("1/2", "1", 1.0), ("1/2", "1", 1.0))):
        expected.append(
            {
                "dim": 0, "start": ("0", "n", "2*n")[index], "length": "n", "role": "hidden",
                "A": A, "C": C, "b": A, "c": C,
                "start_at": {"base": index * BASE, "target": index * TARGET},
                "length_at": {"base": BASE, "target": TARGET},
                "init_std": pytest.approx(
                    {"base": std["base"], "target": std["code"] * init, "code_at_target": std["code"]}
                ),
                "init_mean": zero,
                "multipliers": {"init": init},
            }
        )  # fmt: skip
    entry = entry_of(scaling, name_of(kind))
    assert entry["slices"] == expected
    assert list(entry["slices"][0]) == list(expected[0])
    assert (entry["A"], entry["C"], entry["c"], entry["multipliers"]["lr"]) == ("1", "3/2", "3/2", 0.125)


def test_a_table_has_no_numbers():
    table = table_json(tpcalc.derive(tpcalc.trace(factory(), (32, 64, 128))))
    jsonschema.validate(table, schema("table"))
    pieces = next(entry["slices"] for entry in table["weights"] if entry["name"] == name_of("split"))
    assert all(piece["multipliers"]["init"] is piece["start_at"]["base"] is None for piece in pieces)


def test_generated_code(kind, scaling, tmp_path):
    text = codegen(scaling)
    assert text == codegen(Scaling(copy.deepcopy(scaling.document)))
    assert "slices=((0, 0, 128, 0.5), (0, 128, 128, 1.0), (0, 256, 128, 1.0))" in text
    assert "share one learning rate" in text
    scaling.save(tmp_path / "multipliers.json")
    assert codegen(Scaling.load(tmp_path / "multipliers.json")) == text
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    path = tmp_path / "scaling.py"
    path.write_text(text)
    for command in (["format", "--check"], ["check", "--select", "E4,E7,E9,F,I,B,UP"]):
        result = subprocess.run([ruff, *command, "--isolated", str(path)], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def test_from_scratch(kind, scaling):
    model = fresh(kind)
    generator = torch.Generator().manual_seed(0)
    scaling.init_(model, from_scratch=True, generator=generator)
    entry = entry_of(scaling, name_of(kind))
    for block, piece in zip(model.get_parameter(name_of(kind)).detach().chunk(3), entry["slices"], strict=True):
        assert block.std().item() == pytest.approx(piece["init_std"]["target"], rel=0.05)
        assert block.abs().max() <= math.sqrt(3) * piece["init_std"]["target"] * 1.0001


def test_the_attention_branch_stays(split):
    """The size of what attention adds to the residual stream, at init, does not shrink with width."""
    sizes = {}
    for width in (BASE, 512):
        model = fresh("split", width)
        tpcalc.scale(factory(), BASE, width).init_(model)
        x = model.norm(model.embed(torch.arange(16).reshape(2, 8)))
        sizes[width] = model.attention(model.layers[0], x).std().item()
    assert sizes[512] == pytest.approx(sizes[BASE], rel=0.25)


def test_low_precision_and_double(split):
    for dtype in (torch.bfloat16, torch.float64):
        model = fresh("split").to(dtype)
        before = model.layers[0]["qkv"].weight.detach().clone()
        split.init_(model)
        after = model.layers[0]["qkv"].weight.detach()
        assert after.dtype == dtype
        assert torch.equal(after[:128], before[:128] / 2) and torch.equal(after[128:], before[128:])


def test_tied_packed_weights_are_scaled_once():
    def tied(width):
        model = Packed(width, layers=2)
        model.layers[1]["qkv"].weight = model.layers[0]["qkv"].weight
        return model, (torch.arange(16).reshape(2, 8),)

    scaling = tpcalc.scale(tied, BASE, TARGET)
    assert entry_of(scaling, name_of("split", 1))["tied_to"] == name_of("split")
    for init_ in (scaling.init_, run(codegen(scaling))["init_"]):
        model = tied(TARGET)[0]
        before = model.layers[0]["qkv"].weight.detach().clone()
        init_(model)
        after = model.layers[1]["qkv"].weight.detach()
        assert torch.equal(after[:128], before[:128] / 2) and torch.equal(after[128:], before[128:])


def test_repeated_blocks_fold_and_the_last_axis_works():
    """Three layers are one line, one note; packed along the columns (as GPT-2's Conv1D) as along the rows."""
    scaling = tpcalc.scale(factory(layers=3), BASE, TARGET)
    assert codegen(scaling).count("slices=((") == 2  # weight and bias
    (note,) = scaling.document["notes"]
    assert note.startswith("layers.0.qkv.weight, layers.0.qkv.bias, layers.1.qkv.weight and 3 more: the blocks [0:n]")

    class Columns(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed, self.head = nn.Embedding(32, width), nn.Linear(width, 32)
            self.qkv = nn.Parameter(torch.randn(width, 3 * width) * 0.02)

        def forward(self, tokens):
            q, k, v = (self.embed(tokens) @ self.qkv).chunk(3, -1)
            return self.head(F.scaled_dot_product_attention(q, k, v))

    scaling = tpcalc.scale(lambda width: (Columns(width), (torch.arange(16).reshape(2, 8),)), BASE, TARGET)
    assert scaling["qkv"].slices == ((1, 0, 128, 0.25), (1, 128, 128, 0.5), (1, 256, 128, 0.5))
    model = Columns(TARGET)
    before = model.qkv.detach().clone()
    scaling.init_(model)
    assert torch.equal(model.qkv, before * torch.tensor([0.25, 0.5, 0.5]).repeat_interleave(128))


def test_blocks_that_the_code_draws_differently():
    """q of a fixed std, k and v by their fan-in: each multiplier is that of the block's own law."""

    def uneven(width):
        model, inputs = factory()(width)
        with torch.no_grad():
            nn.init.normal_(model.layers[0]["qkv"].weight[:width], std=0.02)
            nn.init.normal_(model.layers[0]["qkv"].weight[width:], std=width**-0.5)
        return model, inputs

    scaling = tpcalc.scale(uneven, BASE, TARGET)
    pieces = entry_of(scaling, name_of("split"))["slices"]
    assert [piece["multipliers"]["init"] for piece in pieces] == [0.25, 1.0, 1.0]
    assert [piece["init_std"]["base"] for piece in pieces] == pytest.approx([0.02, BASE**-0.5, BASE**-0.5])
    same = tpcalc.scale(uneven, BASE, BASE)
    assert same[name_of("split")].slices == ()
    with pytest.raises(ScalingError, match="not a plain distribution"):
        scaling.init_(uneven(TARGET)[0], from_scratch=True)


class StateSpace(nn.Module):
    """As Mamba's x_proj: a growing step and two blocks of fixed size in one matrix."""

    def __init__(self, width: int, state: int = 8):
        super().__init__()
        self.sizes = [width // 8, state, state]
        self.embed, self.head = nn.Embedding(16, width), nn.Linear(width, 16)
        self.x_proj, self.dt = nn.Linear(width, sum(self.sizes), bias=False), nn.Linear(width // 8, width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        dt, b, c = self.x_proj(x).split(self.sizes, -1)
        return self.head(F.softplus(self.dt(dt)) * x * (b * c).sum(-1, keepdim=True))


def state_space(width: int):
    return StateSpace(width), (torch.arange(16).reshape(2, 8),)


def test_blocks_of_fixed_size():
    """The step is hidden, b and c are readouts; the sizes that count are those of the block."""
    scaling = tpcalc.scale(state_space, 64, 256)
    assert scaling["x_proj.weight"].slices == ((0, 0, 32, 1.0), (0, 32, 8, 0.5), (0, 40, 8, 0.5))
    assert scaling["x_proj.weight"].lr == 0.25
    assert scaling.document["notes"] == [], "one learning rate is maximal for all"
    model, _ = state_space(256)
    before = model.x_proj.weight.detach().clone()
    scaling.init_(model)
    assert torch.equal(model.x_proj.weight[:32], before[:32]) and torch.equal(model.x_proj.weight[32:], before[32:] / 2)


def test_multipliers_compose():
    made = (tpcalc.scale(state_space, *widths) for widths in ((64, 128), (128, 256), (64, 256), (256, 64)))
    for pieces in zip(*(scaling["x_proj.weight"].slices for scaling in made), strict=True):
        first, second, all_, inverse = (piece[-1] for piece in pieces)
        assert first * second == pytest.approx(all_, rel=1e-14) and all_ * inverse == pytest.approx(1, rel=1e-14)


# -- the common learning rate -----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adafactor", "lamb", "muon"])
def test_the_common_rate_is_safe_for_every_block(optimizer):
    """No block is updated by more than its own rule allows, and the neediest by just as much."""
    scaling = tpcalc.scale(factory(), BASE, TARGET, optimizer)
    entry = entry_of(scaling, name_of("split"))
    C = [{"1": 1, "3/2": 1.5}[piece["C"]] for piece in entry["slices"]]
    # order of one unit-lr update of q, k and v: their gradients; 1; an orthogonal matrix; the size of the whole weight
    units = {"sgd": (-0.5, -1, -1), "adam": (0, 0, 0), "adamw": (0, 0, 0), "muon": (-1, -1, -1)}
    units = units.get(optimizer, (-0.5, -0.5, -0.5))
    c = -math.log(entry["multipliers"]["lr"], 4)
    slack = [c - unit - own for unit, own in zip(units, C, strict=True)]
    assert min(slack) == pytest.approx(0, abs=1e-12)
    assert max(slack) > 0.4
    if optimizer == "adam":  # coupled: the decay wd * W must not drown the gradient of k and v, n^-1 for W ~ n^-1/2
        assert entry["weight_decay"] == "-1/2"


def test_the_note():
    rules = tpcalc.derive(tpcalc.trace(factory(), (32, 64, 128)))
    (note,) = rules.notes
    assert note == (
        "layers.0.qkv.weight, layers.0.qkv.bias: the blocks [0:n], [n:2*n] and [2*n:3*n] have each their own init but "
        "share one learning rate, the smallest (and eps and weight decay), so that [n:2*n] and [2*n:3*n] learn slower "
        "than maximal; split the parameter to give each its own, or multiply the result of bmm by n^(-1/2) in the "
        "forward pass (attention logits: 1/d for 1/sqrt(d))"
    )
    assert note in str(rules) and note in table_json(rules)["notes"] and note in str(tpcalc.scale(factory(), 32, 64))
    assert "(and weight decay)" in tpcalc.derive(tpcalc.trace(factory(), (32, 64, 128)), "sgd").notes[0]


def test_the_remedy_of_the_note():
    """With logits divided by d the three blocks have one rule."""
    rules = tpcalc.derive(tpcalc.trace(factory(power=1), (32, 64, 128)))
    rule = rules[name_of("split")]
    assert (rule.A, rule.C, rule.slices, rules.notes) == (0.5, 1, (), ())


def test_the_printed_multipliers(split):
    text = str(split)
    assert "init of each block:\n  - layers.0.qkv.weight[0 : 128]: 0.5\n  - layers.0.qkv.weight[128 : 256]: 1\n" in text


# -- the file ---------------------------------------------------------------------------------------


def test_a_file_without_numbers_of_blocks_still_loads(split):
    """One of an earlier tpcalc: the safe common init."""
    document = copy.deepcopy(split.document)
    for entry in document["weights"]:
        for piece in entry["slices"]:
            for key in ("start_at", "length_at", "init_std", "init_mean", "multipliers"):
                del piece[key]
    old = Scaling(document)
    assert old[name_of("split")].slices == ()
    model = fresh("split")
    before = model.layers[0]["qkv"].weight.detach().clone()
    old.init_(model)
    assert torch.equal(model.layers[0]["qkv"].weight, before / 2)


@pytest.mark.parametrize(
    "keys, value, message",
    [
        (("multipliers", "init"), None, "missing or no positive number"),
        (("multipliers", "init"), -1.0, "missing or no positive number"),
        (("multipliers",), None, "breaks the schema"),
        (("multipliers",), KeyError, "lacks what the others have"),
        (("dim",), 1, "lacks what the others have"),
        (("dim",), -1, "breaks the schema"),
        (("start_at",), KeyError, "lacks its place"),
        (("start_at", "target"), 127, "overlaps another or lies outside"),
        (("start_at", "target"), 128.0, r"at weights\[\d+\].slices\[1\].start_at.target: 128.0 is no whole number"),
        (("length_at", "target"), 300, "overlaps another or lies outside"),
        (("length_at", "target"), -1, "breaks the schema"),
        (("length_at", "target"), None, "lacks its place"),
    ],
)
def test_blocks_that_are_not_in_order_are_refused(split, keys, value, message):
    document = copy.deepcopy(split.document)
    place = next(entry for entry in document["weights"] if entry["name"] == name_of("split"))["slices"][1]
    for key in keys[:-1]:
        place = place[key]
    if value is KeyError:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    with pytest.raises(ScalingError, match=message):
        Scaling(document)


# -- shards -----------------------------------------------------------------------------------------


def test_the_indices_of_a_shard():
    """As torch cuts: evenly, unevenly, over more ranks than rows, along another axis, on two mesh axes."""
    from torch.distributed.tensor.placement_types import Replicate, Shard, _StridedShard

    def here(length, placements, sizes, ranks, dim=0):
        return _indices_here(dim, length, placements, sizes, ranks).tolist()

    assert [here(6, [Shard(0)], [2], [r]) for r in range(2)] == [[0, 1, 2], [3, 4, 5]]
    assert [here(5, [Shard(0)], [4], [r]) for r in range(4)] == [[0, 1], [2, 3], [4], []]
    assert here(4, [Shard(1)], [2], [1]) == here(4, [Replicate()], [2], [1]) == [0, 1, 2, 3]
    assert here(4, [Shard(1)], [2], [1], dim=1) == [2, 3]
    assert here(8, [Shard(0), Shard(0)], [2, 2], [1, 0]) == [4, 5]
    assert here(8, [Replicate(), Shard(0)], [3, 2], [2, 1]) == [4, 5, 6, 7]
    # FSDP2 over tensor parallelism: the table in the docstring of _StridedShard
    strided = [_StridedShard(0, split_factor=2), Shard(0)]
    found = [here(8, strided, [2, 2], [i, j]) for i in range(2) for j in range(2)]
    assert found == [[0, 1], [4, 5], [2, 3], [6, 7]]
    for size in range(1, 6):
        parts = [here(7, [Shard(0)], [size], [rank]) for rank in range(size)]
        assert sum(parts, []) == list(range(7)) and all(len(x) >= len(y) for x, y in pairwise(parts))


def test_two_processes(split, tmp_path):
    split.save(tmp_path / "multipliers.json")
    for result in ranks(lambda: worker(tmp_path), 2, tmp_path):
        assert result.returncode == 0, result.stderr[-6000:]
    results = torch.load(tmp_path / "results.pt")
    model = fresh("split")
    split.init_(model)
    for case in ("rows", "columns"):
        for name, value in model.state_dict().items():
            assert torch.equal(results[case][name], value), (case, name)
        blocks = results[f"{case} from scratch"][name_of("split")].chunk(3)
        for block, piece in zip(blocks, entry_of(split, name_of("split"))["slices"], strict=True):
            assert block.std().item() == pytest.approx(piece["init_std"]["target"], rel=0.05)
