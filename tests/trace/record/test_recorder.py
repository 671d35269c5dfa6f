"""The recorder: replaying what it recorded on real numbers gives what eager PyTorch gives.

``replay`` executes a trace node by node, each value written once.  If a view, an in-place write, a
constant or a gradient were recorded wrongly, some output or weight gradient would differ.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tpcalc.errors import TraceError
from tpcalc.program.raw import RawTrace, Ref
from tpcalc.trace.record import decomposed, find_loss, observe, primary_outputs, record

# -- replay ----------------------------------------------------------------------------------------


def _operator(name: str):
    namespace, op, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), op), overload)


def _argument(arg, values):
    if isinstance(arg, Ref):
        return values[arg.id]
    if isinstance(arg, tuple):
        return [_argument(item, values) for item in arg]
    if isinstance(arg, str) and arg.startswith("torch."):
        return getattr(torch, arg.removeprefix("torch."))
    return arg


def _own_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The same view of a copy of the whole storage, so that a write touches no other value."""
    storage = tensor.untyped_storage().clone()
    return torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def _look(base: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The memory of ``base`` seen with the geometry of ``like``."""
    return torch.empty(0, dtype=like.dtype).set_(
        base.untyped_storage(), like.storage_offset(), like.shape, like.stride()
    )


def replay(trace: RawTrace, values: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """All values of the trace, from those of its leaves."""
    values = dict(values)
    for node in trace.nodes:
        if node.op == "tpcalc.write.default":
            base, written = (values[ref.id] for ref in node.args)
            results = [_look(written, base)]
        elif node.op == "tpcalc.reread.default":
            base, stale = (values[ref.id] for ref in node.args)
            results = [_look(base, stale)]
        else:
            results = _call(node, values)
        assert len(results) >= len([vid for vid in node.outputs if vid is not None]), node
        for vid, result in zip(node.outputs, results, strict=False):
            if vid is not None:
                assert vid not in values, node
                assert tuple(result.shape) == trace.values[vid].shape, node
                assert str(result.dtype) == trace.values[vid].dtype, node
                values[vid] = result
    return values


def _call(node, values):
    op = _operator(node.op)
    args = [_argument(arg, values) for arg in node.args]
    kwargs = {name: _argument(arg, values) for name, arg in node.kwargs}
    written = []
    for position, spec in enumerate(op._schema.arguments):
        if spec.alias_info is not None and spec.alias_info.is_write:
            slot = (kwargs, spec.name) if spec.name in kwargs else (args, position)
            slot[0][slot[1]] = _own_memory(slot[0][slot[1]])
            written.append(slot[0][slot[1]])
    if node.op == "aten.native_batch_norm.default" and args[5]:
        args[3:5] = [None if arg is None else arg.clone() for arg in args[3:5]]
    result = op(*args, **kwargs)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(results) != len(op._schema.returns):  # a list of tensors is one return
        return results + written
    rewritten = [spec.alias_info is not None and spec.alias_info.is_write for spec in op._schema.returns]
    return [result for result, old in zip(results, rewritten, strict=True) if not old] + written


def check_against_eager(factory, *, tolerance: float = 1e-5) -> RawTrace:
    """Record, replay and observe one model; compare all of them with eager."""
    trace = record(factory, 16)
    torch.manual_seed(0)
    model, inputs = factory()
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    seeds = {}

    def seed(path: str, output: torch.Tensor) -> torch.Tensor:
        seeds[path] = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
        return seeds[path]

    leaves, seen = {}, {}

    def collect(vid: int, tensor: torch.Tensor) -> None:
        seen[vid] = tensor.detach().clone(memory_format=torch.preserve_format)
        if trace.values[vid].kind != "op":
            leaves[vid] = tensor.detach().clone(memory_format=torch.preserve_format)

    observed = observe(model, inputs, collect, backward=True, seed=seed)
    assert set(seen) == set(trace.values)
    values = replay(trace, leaves)
    uninitialised = {vid for node in trace.nodes if "empty" in node.op for vid in node.outputs}
    for vid, tensor in seen.items():
        if vid in uninitialised:
            continue
        _close(values[vid], tensor, tolerance, f"value {vid} of {[n for n in trace.nodes if vid in n.outputs]}")

    model.load_state_dict(state)
    with decomposed():
        output = model(*args, **kwargs)
        loss = find_loss(output)
        chosen = [("loss", loss)] if loss is not None else primary_outputs(output)
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad(
            [tensor for _, tensor in chosen], list(named.values()),
            [seeds.get(path, torch.ones_like(tensor)) for path, tensor in chosen], allow_unused=True,
        )  # fmt: skip
    assert [path for path, _ in chosen] == [path for path, _ in trace.outputs]
    for (_, tensor), (_, vid) in zip(chosen, trace.outputs, strict=True):
        _close(values[vid], tensor.detach(), tolerance, "output")
    weights = {weight.names[0]: weight for weight in trace.weights}
    assert {name for weight in trace.weights for name in weight.names} == {
        name for name, _ in model.named_parameters(remove_duplicate=False)
    }
    for (name, parameter), grad in zip(named.items(), grads, strict=True):
        weight = weights[name]
        assert (weight.grad is None) == (grad is None), name
        assert weight.shape == tuple(parameter.shape)
        if grad is not None:
            _close(values[weight.grad], grad, tolerance, f"gradient of {name}")
            _close(observed.grads[name], grad, tolerance, f"observed gradient of {name}")
    return trace


def _close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float, what: str) -> None:
    assert ours.shape == theirs.shape, what
    if not ours.dtype.is_floating_point and not ours.dtype.is_complex:
        assert torch.equal(ours, theirs), what
        return
    finite = torch.isfinite(theirs)
    assert torch.equal(finite, torch.isfinite(ours)), what
    scale = theirs[finite].abs().max().item() if finite.any() else 0.0
    torch.testing.assert_close(ours[finite], theirs[finite], atol=tolerance * max(scale, 0.1), rtol=1e-2, msg=what)


# -- models ----------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, n: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.qkv, self.out = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x):
        batch, time, n = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm(x)).split(n, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, n))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, n: int, checkpoint=None) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, n), nn.Embedding(16, n)
        self.blocks = nn.ModuleList(Block(n) for _ in range(2))
        self.norm = nn.LayerNorm(n)
        self.head = nn.Linear(n, 50, bias=False)
        self.head.weight = self.tokens.weight
        self.checkpoint = checkpoint

    def forward(self, tokens):
        h = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            if self.checkpoint is None:
                h = block(h)
            else:
                h = torch.utils.checkpoint.checkpoint(block, h, use_reentrant=self.checkpoint)
        return self.head(self.norm(h))


class ResNet(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv, self.conv2 = nn.Conv2d(3, n, 3, padding=1, stride=2), nn.Conv2d(n, n, 3, padding=1)
        self.bn, self.bn2 = nn.BatchNorm2d(n), nn.BatchNorm2d(n)
        self.fc = nn.Linear(n, 10)

    def forward(self, x):
        h = F.relu(self.bn(self.conv(x)), inplace=True)
        h = F.max_pool2d(F.relu_(self.bn2(self.conv2(h)) + h), 2)
        return self.fc(h.mean((2, 3)))


class Writes(nn.Module):
    """In-place ops through views, views that outlive a write, buffers that count, branches on masks."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, n), nn.Linear(n, 4)
        self.register_buffer("count", torch.zeros(3))
        self.constant = torch.arange(n) / n

    def forward(self, x):
        h = self.first(x)
        z = torch.zeros_like(h)
        tail, front = z[:, 1:], z[:, :2]
        tail += h[:, 1:] * 2
        early = front * 3
        z.mul_(2)
        z[:, 0] = h[:, 0] + self.constant[1]
        rows = [z[0], z.diagonal(), z.t()[2]]
        z[1:].neg_()
        flat = z.view(-1)
        flat[::3] *= 0.5
        self.count.add_(1)
        if torch.ones(4, dtype=torch.bool).all():
            h = h.clone().transpose_(0, 1).t() + self.constant
        steps = torch.zeros(4)
        torch.arange(4, out=steps)
        return self.last(z * z + h) * steps + early.sum() + tail.sum() + sum(row.sum() for row in rows) + self.count[0]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad + 0 * x


class Odds(nn.Module):
    """Custom autograd functions, complex numbers, autocast, gather and scatter, a frozen weight, an unused one."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, n), nn.Linear(n, n)
        self.frozen = nn.Parameter(torch.randn(n), requires_grad=False)
        self.unused = nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = Double.apply(self.a(x)) * self.frozen
        z = torch.view_as_complex(h.float().reshape(*h.shape[:-1], -1, 2).contiguous())
        turn = torch.polar(torch.ones(z.shape[-1]), torch.arange(z.shape[-1]).float())
        h = torch.view_as_real(z * turn).flatten(-2).to(h.dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = h + self.b(h.float()).to(h.dtype)
        best = h.topk(2, dim=-1)
        mixed = torch.zeros_like(h).scatter_add(-1, best.indices, best.values.tanh())
        picked = h[torch.tensor([True, False, False, False])]
        return torch.einsum("bi,bj->ij", mixed, h), {"picked": picked.cumsum(0), "where": torch.where(h > 0, h, -h)}


class Recurrent(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(8, n, 2, batch_first=True), nn.GRU(n, n, batch_first=True)

    def forward(self, x):
        return self.gru(self.lstm(x)[0])[0]


def _normed():
    weight_norm, spectral_norm = nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm
    return nn.Sequential(weight_norm(nn.Linear(8, 8)), spectral_norm(nn.Linear(8, 8))), (torch.randn(2, 8),)


def _tokens(size: int = 50):
    return torch.randint(0, size, (2, 8))


PLAIN = {
    "mlp": lambda: (nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)), (torch.randn(4, 8),)),
    "gpt": lambda: (GPT(16), (_tokens(),)),
    "checkpointed": lambda: (GPT(16, checkpoint=True), (_tokens(),)),
    "checkpointed, not reentrant": lambda: (GPT(16, checkpoint=False), (_tokens(),)),
    "resnet": lambda: (ResNet(16), (torch.randn(2, 3, 8, 8),)),
    "resnet, evaluating": lambda: (ResNet(16).eval(), (torch.randn(2, 3, 8, 8),)),
    "writes": lambda: (Writes(16), (torch.randn(4, 8),)),
    "odds": lambda: (Odds(16), (torch.randn(4, 8),)),
    "recurrent": lambda: (Recurrent(16), (torch.randn(2, 5, 8),)),
    "encoder": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True), 2),
        (torch.randn(2, 5, 16),),
    ),
    "encoder, evaluating": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval(),
        (torch.randn(2, 5, 16),),
    ),
    "parametrizations": _normed,
}


@pytest.mark.parametrize("name", PLAIN)
def test_replay_is_eager(name):
    check_against_eager(PLAIN[name], tolerance=1e-2 if name == "odds" else 1e-5)


def _hugging_face(name: str, **options):
    """Factory of a tiny Hugging Face model of this type."""
    transformers = pytest.importorskip("transformers")
    common = dict(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4)
    t5 = dict(vocab_size=64, d_model=16, d_kv=4, num_layers=2, num_heads=4)
    config, model, sizes = {
        "gpt2": ("GPT2Config", "GPT2LMHeadModel", dict(vocab_size=64, n_embd=16, n_layer=2, n_head=4, n_positions=32)),
        "llama": ("LlamaConfig", "LlamaForCausalLM", dict(common, num_key_value_heads=2)),
        "mixtral": ("MixtralConfig", "MixtralForCausalLM", dict(common, num_key_value_heads=2, num_local_experts=4)),
        "bert": ("BertConfig", "BertForMaskedLM", common),
        "vit": ("ViTConfig", "ViTForImageClassification", dict(common, image_size=16, patch_size=8)),
        "t5": ("T5Config", "T5ForConditionalGeneration", dict(t5, d_ff=32)),
        "mamba": ("MambaConfig", "MambaForCausalLM", dict(common, state_size=4)),
    }[name]  # fmt: skip
    unknown = {"vit": ("vocab_size",), "mamba": ("num_attention_heads", "intermediate_size")}.get(name, ())
    sizes = {key: value for key, value in sizes.items() if key not in unknown}

    def factory():
        settings = getattr(transformers, config)(**sizes)
        for key, value in options.items():
            setattr(settings, key, value)
        built = getattr(transformers, model)(settings).eval()
        if name == "vit":
            return built, {"pixel_values": torch.randn(2, 3, 16, 16)}
        inputs = {"input_ids": _tokens(64)}
        if name == "t5":
            inputs["decoder_input_ids"] = _tokens(64)
        if name in ("llama", "bert"):
            inputs["attention_mask"] = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
        return built, inputs

    return factory


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit", "t5", "mamba"])
def test_replay_is_eager_for_hugging_face(name):
    trace = check_against_eager(_hugging_face(name), tolerance=1e-4)
    assert all(weight.grad is not None for weight in trace.weights)
    assert [path for path, _ in trace.outputs] == ["logits"]


def test_mixture_of_experts():
    trace = check_against_eager(_hugging_face("mixtral", _experts_implementation="batched_mm"), tolerance=1e-4)
    assert not trace.assumptions
    looped = record(_hugging_face("mixtral", _experts_implementation="eager"), 16)
    assert any("nonzero" in text and "experts" in text for text in looped.assumptions)
    assert looped.nodes == record(_hugging_face("mixtral", _experts_implementation="eager"), 16).nodes
    assert all(weight.grad is not None for weight in looped.weights)


# -- what a trace says -----------------------------------------------------------------------------


def _ops(trace: RawTrace, phase: str = "forward") -> Counter:
    return Counter(node.op for node in trace.nodes if node.phase == phase)


def test_same_trace_each_time():
    first, second = (record(PLAIN["gpt"], 16) for _ in range(2))
    assert first == second


def test_tied_weights_are_one():
    trace = record(PLAIN["gpt"], 16)
    assert [weight.names for weight in trace.weights if len(weight.names) > 1] == [("tokens.weight", "head.weight")]
    assert trace.weights[0].module_type == "Embedding"


def test_places():
    trace = record(PLAIN["gpt"], 16)
    softmax = [node for node in trace.nodes if "softmax" in node.op]
    assert {(node.module, node.phase) for node in softmax} == {
        (f"blocks.{block}", phase) for block in (0, 1) for phase in ("forward", "backward")
    }
    assert all(re.fullmatch(r"test_recorder\.py:\d+", node.source) for node in trace.nodes)


def test_attention_is_decomposed():
    ops = _ops(record(PLAIN["gpt"], 16))
    assert ops["aten.bmm.default"] == 4 and not any("attention" in op for op in ops)


def test_checkpointing_leaves_no_mark():
    plain = record(PLAIN["gpt"], 16, sources=False)
    for name in ("checkpointed", "checkpointed, not reentrant"):
        trace = record(PLAIN[name], 16, sources=False)
        assert [node.op for node in trace.nodes] == [node.op for node in plain.nodes]


def test_gradients_of_activations():
    trace = record(PLAIN["mlp"], 16)
    shapes = {vid: value.shape for vid, value in trace.values.items()}
    assert all(shapes[vid] == shapes[grad] for vid, grad in trace.grads.items())
    (tanh,) = (node.outputs[0] for node in trace.nodes if node.op == "aten.tanh.default")
    assert tanh in trace.grads
    bare = record(PLAIN["mlp"], 16, activation_grads=False)
    assert bare.nodes == trace.nodes
    assert set(bare.grads) == {weight.value for weight in bare.weights}


def test_numbers_of_constants():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.register_buffer("table", torch.tensor([-3.0, 4.0]))

        def forward(self, x):
            mask = torch.full((4, 4), float("-inf")).triu(1)
            return self.linear(x) @ x.t() + mask + torch.arange(4) * self.table[1]

    trace = record(lambda: (Model(), (torch.ones(4, 8),)), 8)
    by_op = {node.op: trace.values[node.outputs[0]] for node in trace.nodes if node.phase == "forward"}
    assert by_op["aten.arange.default"].magnitude == 3.0
    assert by_op["aten.full.default"].magnitude == 0.0
    assert by_op["aten.addmm.default"].magnitude is None
    (table,) = (value for value in trace.values.values() if value.kind == "buffer")
    assert (table.name, table.magnitude, table.rms) == ("table", 4.0, pytest.approx(12.5**0.5))
    (given,) = trace.inputs
    assert (trace.values[given].name, trace.values[given].magnitude) == ("x", 1.0)


def test_outputs_and_losses():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return {"loss": self.linear(x).sum(), "other": self.linear(x)}

    trace = record(lambda: (Two(), (torch.ones(2, 8),)), 8)
    assert [path for path, _ in trace.outputs] == ["loss"] and trace.loss == trace.outputs[0][1]
    assert trace.values[trace.seeds[0][1]].magnitude == 1.0
    own = record(lambda: (Two(), (torch.ones(2, 8),)), 8, loss=lambda out: out["other"].square().mean())
    assert _ops(own)["aten.mean.default"] == 1
    forward_only = record(PLAIN["mlp"], 16, backward=False)
    assert not _ops(forward_only, "backward") and forward_only.weights[0].grad is None


def test_unused_and_frozen_weights_are_listed():
    weights = {weight.names[0]: weight for weight in record(PLAIN["odds"], 16).weights}
    assert weights["unused"].grad is None and weights["unused"].trainable
    assert weights["frozen"].grad is None and not weights["frozen"].trainable


def test_no_memory_is_used():
    trace = record(lambda: (nn.Sequential(nn.Linear(10**6, 10**6), nn.ReLU()), (torch.empty(10**5, 10**6),)), 10**6)
    assert trace.weights[0].shape == (10**6, 10**6)


def test_models_made_for_a_gpu_and_kept_models():
    kept = nn.Linear(8, 8)
    on_gpu = record(lambda: (nn.Linear(8, 8, device="cuda").to("cuda"), (torch.ones(2, 8).cuda(),)), 8)
    assert on_gpu.nodes == record(lambda: (kept, (torch.ones(2, 8),)), 8).nodes
    assert type(kept.weight) is nn.Parameter and kept.weight.grad is None


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        h = self.inner(x)
        return h if h.sum() > 0 else -h


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: nn.Bilinear(8, 8, 8), "without example inputs at width 8; return (model, inputs)"),
        (lambda: 3, "returned an int at width 8"),
        (lambda: (Branching(), (torch.ones(2, 8),)), "(test_recorder.py:"),
        (lambda: (nn.Sequential(nn.Linear(8, 8), nn.Linear(9, 9)), (torch.ones(2, 8),)), "at width 8 in 1; check"),
        (lambda: (nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(9)), (torch.ones(2, 8),)), "at width 8 in 1; check"),
        (
            lambda: (nn.Linear(8, 8).requires_grad_(False), (torch.ones(2, 8),)),
            "at width 8 is trained: requires",
        ),
        (lambda: (nn.Identity(), (torch.ones(2, 8),)), "no output of Identity at width 8 is differentiable"),
    ],
)
def test_errors_name_the_place(factory, words):
    with pytest.raises(TraceError, match=re.escape(words)):
        record(factory, 8)


# -- observing real models -------------------------------------------------------------------------


def test_observing_trains_like_eager():
    """Steps with the gradients that ``observe`` gives are steps of ordinary training."""

    def build():
        torch.manual_seed(0)
        model = ResNet(16)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(4, 3, 8, 8)

    def loss_of(output):
        return output.square().mean()

    model, optimizer, x = build()
    watched, watched_optimizer, _ = build()
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(model(x))
        loss.backward()
        optimizer.step()
        seen = observe(watched, (x,), lambda vid, tensor: None, loss=loss_of, backward=True)
        for name, parameter in watched.named_parameters():
            parameter.grad = seen.grads[name]
        watched_optimizer.step()
        torch.testing.assert_close(seen.loss, loss.detach(), rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(watched.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=name)
    assert all(type(p) is nn.Parameter for p in watched.parameters())
