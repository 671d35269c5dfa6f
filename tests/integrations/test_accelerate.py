"""Loops on accelerate with multipliers: groups, training, clipping, and FSDP2 on two processes, then one."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: pip install tpcalc[accelerate]")

import tpcalc  # noqa: E402
from tests.support import trained  # noqa: E402
from tests.support.forked import ranks  # noqa: E402
from tpcalc.errors import ScalingError  # noqa: E402
from tpcalc.integrations.accelerate import scaled  # noqa: E402

BATCH, MIDDLE = 4, 5
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def accelerator(**more):
    return accelerate.Accelerator(cpu=True, **more)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=trained.LR, weight_decay=trained.DECAY, eps=trained.EPS)


def batches(parts):
    rows = trained.examples(BATCH * parts * trained.STEPS)
    found = [trained.batched(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]
    return [found[at : at + parts] for at in range(0, len(found), parts)]


def everything(name, parameter):
    return False


def train(anyway, model, optimizer, steps, scheduler=None):
    for parts in steps:
        for part in parts:
            with anyway.accumulate(model):
                anyway.backward(model(**part)["loss"])
                if anyway.sync_gradients:
                    anyway.clip_grad_norm_(model.parameters(), trained.MAX_NORM)
                optimizer.step()
                optimizer.zero_grad()


@pytest.mark.parametrize("parts", [1, 2], ids=["", "accumulated"])
def test_ten_steps_are_those_of_plain_torch(parts):
    ours = scaled(accelerator(gradient_accumulation_steps=parts), trained.scaling(), fresh=True)
    model = trained.Held()
    model, optimizer = ours.prepare(model, adamw(model))
    assert trained.said(optimizer, model) == trained.wanted(model, no_decay=None)
    train(ours, model, optimizer, batches(parts))
    trained.assert_same(model, trained.by_hand(batches(parts), no_decay=everything))


def test_groups_of_our_own_are_left(tmp_path):
    model = trained.Held()
    weights = trained.scaling()
    optimizer = torch.optim.AdamW(weights.param_groups(model, lr=trained.LR, weight_decay=trained.DECAY))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    before = [dict(group) for group in optimizer.param_groups]
    scaled(accelerator(), weights, fresh=True).prepare(model, optimizer, scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in before]


def test_what_is_refused():
    model = trained.Held()
    weights = trained.scaling()
    ours = scaled(accelerator(), weights, fresh=True)
    optimizer = adamw(model)
    with pytest.raises(ScalingError, match="1 optimizers and 0 models"):
        ours.prepare(optimizer)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    with pytest.raises(ScalingError, match="a scheduler was made for AdamW before .* scaling.param_groups"):
        ours.prepare(model, optimizer, scheduler)
    optimizer = torch.optim.AdamW(weights.param_groups(model, lr=trained.LR))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=1e-5)
    with pytest.raises(ScalingError, match="eta_min = 1e-05, .* use tpcalc.scaling.schedules.cosine_annealing"):
        ours.prepare(model, optimizer, scheduler)
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=1e-5)  # one floor for groups to come
    with pytest.raises(ScalingError, match="min_lr = 1e-05, .*per_group"):
        ours.prepare(model, optimizer, scheduler)
    model, optimizer = ours.prepare(model, torch.optim.AdamW(weights.param_groups(model, lr=trained.LR)))
    with pytest.raises(ScalingError, match="parameters that are not those of a model"):
        ours.clip_grad_norm_(list(model.parameters())[1:], 1.0)
    with pytest.raises(ScalingError, match="clipping by value has one threshold for all weights"):
        ours.clip_grad_value_(model.parameters(), 1.0)
    with pytest.raises(ScalingError, match="prepare_optimizer sees no model"):
        ours.prepare_optimizer(adamw(model))
    for wrong in (accelerate.Accelerator, model):
        with pytest.raises(ScalingError, match=r"takes an accelerator that is made, .* write scaled\(Accelerator"):
            scaled(wrong, weights, fresh=True)


def test_what_is_trained_may_be_clipped():
    """Frozen weights have no gradient, so who leaves them out means the same norm."""
    norms = []
    for pick in (lambda model: model.parameters(), lambda model: (p for p in model.parameters() if p.requires_grad)):
        ours, model = scaled(accelerator(), trained.scaling(), fresh=True), trained.Held()
        model.net.token.requires_grad_(False)
        model, optimizer = ours.prepare(model, adamw(model))
        ours.backward(model(**batches(1)[0][0])["loss"])
        norms.append(ours.clip_grad_norm_(pick(model), trained.MAX_NORM))
    assert norms[0] == norms[1] > trained.MAX_NORM


def test_where_no_multiplier_matters_values_may_be_clipped():
    same = tpcalc.scale(trained.build, trained.TARGET, trained.TARGET)
    ours, model = scaled(accelerator(), same, fresh=True), trained.Held()
    model, optimizer = ours.prepare(model, adamw(model))
    ours.backward(model(**batches(1)[0][0])["loss"])
    ours.clip_grad_value_(model.parameters(), 1e-6)
    assert max(p.grad.abs().max() for p in model.parameters()) <= 1e-6


def worker(folder) -> None:
    from accelerate import FullyShardedDataParallelPlugin as Plugin
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True), PartialState._reset_state()
    torch.set_num_threads(1)
    plugin = Plugin(fsdp_version=2, auto_wrap_policy="NO_WRAP", state_dict_type="SHARDED_STATE_DICT")
    ours = scaled(accelerator(), trained.scaling(), fresh=True)
    # on CPUs accelerate does not choose FSDP, but its own path through it runs
    ours.state.distributed_type, ours.state.fsdp_plugin = accelerate.DistributedType.FSDP, plugin
    model = trained.Held()
    model, optimizer = ours.prepare(model, adamw(model))
    sharded = type(next(model.parameters()).data).__name__
    assert sharded == "DTensor", sharded
    rank = ours.process_index
    half = BATCH // 2
    steps = [[{key: rows[rank * half : (rank + 1) * half] for key, rows in step[0].items()}] for step in batches(1)]
    train(ours, model, optimizer, steps[:MIDDLE])
    assert trained.said(optimizer, model) == trained.wanted(model, no_decay=None)
    state = deepcopy(get_state_dict(model, optimizer.optimizer, options=WHOLE))
    train(ours, model, optimizer, steps[MIDDLE:])
    whole = {name: p.full_tensor() for name, p in model.named_parameters()}
    if rank == 0:
        torch.save((state, whole), folder / "saved.pt")


def test_sharded_on_two_processes_then_one(tmp_path):
    for result in ranks(lambda: worker(tmp_path), 2, tmp_path):
        assert result.returncode == 0, result.stdout + result.stderr[-6000:]
    (weights, state), whole = torch.load(tmp_path / "saved.pt")
    expected = trained.by_hand(batches(1), no_decay=everything)
    for name, p in whole.items():
        torch.testing.assert_close(p, expected[name.split("net.")[-1]], rtol=1e-9, atol=1e-11)

    ours = scaled(accelerator(), trained.scaling(), fresh=True)
    model = trained.Held()
    model, optimizer = ours.prepare(model, adamw(model))
    set_state_dict(model, optimizer.optimizer, model_state_dict=weights, optim_state_dict=state, options=WHOLE)
    assert trained.said(optimizer, model) == trained.wanted(model, no_decay=None)
    train(ours, model, optimizer, batches(1)[MIDDLE:])
    trained.assert_same(model, expected)
