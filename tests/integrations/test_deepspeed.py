"""DeepSpeed with multipliers, on one process without a GPU: its groups and its training, under ZeRO, too."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from tests.support import trained
from tests.support.forked import ranks
from tpcalc.errors import ScalingError
from tpcalc.integrations.deepspeed import initialize
from tpcalc.scaling.runtime import RatioWarning

os.environ.setdefault("DS_ACCELERATOR", "cpu")
BATCH = 4


def engine_of(model, optimizer=None, fresh=True, **config):
    groups = [{"params": model.parameters()}]
    optimizer = optimizer or torch.optim.AdamW(groups, lr=trained.LR, weight_decay=trained.DECAY, eps=trained.EPS)
    settings = {"train_batch_size": BATCH, "gradient_clipping": 0.0, "zero_allow_untested_optimizer": True, **config}
    return initialize(trained.scaling(), fresh=fresh, model=model, optimizer=optimizer, config=settings)


def batches():
    rows = trained.examples(BATCH * trained.STEPS)
    return [[trained.batched(rows[at : at + BATCH])] for at in range(0, len(rows), BATCH)]


def worker(stage: int) -> None:
    torch.set_num_threads(1)
    for name, config in REFUSED.items():
        with pytest.raises(ScalingError, match=name):
            engine_of(trained.Held(), **config)
    with pytest.raises(ScalingError, match="needs the optimizer itself"):
        initialize(trained.scaling(), fresh=True, model=trained.Held(), optimizer=None, config={})
    model = trained.Held().float()
    shares = trained.said(torch.optim.AdamW(trained.scaling().param_groups(model, lr=trained.LR)), model)
    engine, optimizer, *_ = engine_of(model, zero_optimization={"stage": stage})
    rates = sorted({settings["lr"] for settings in shares.values()})
    assert sorted({group["lr"] for group in optimizer.param_groups}) == rates
    if stage == 0:
        wanted = trained.wanted(model, no_decay=None)
        assert trained.said(optimizer, model) == wanted
    for parts in batches():
        engine.backward(engine(**parts[0])["loss"])
        engine.step()
    expected = trained.by_hand(batches(), no_decay=lambda name, p: False, clipped=False)
    for name, p in model.net.named_parameters():
        torch.testing.assert_close(p.detach().double(), expected[name], rtol=1e-4, atol=1e-5, msg=name)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    engine.backward(engine(**batches()[0][0])["loss"])
    with pytest.warns(RatioWarning, match="something sets every group to one value"):
        engine.step()


REFUSED = {
    "DeepSpeed clips by the plain global norm": {"gradient_clipping": 1.0},
    "WarmupLR gives the groups max_lr": {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-2}}},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_ten_steps_are_those_of_plain_torch(tmp_path, stage):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install tpcalc[deepspeed]")
    (result,) = ranks(lambda: worker(stage), 1, tmp_path)
    assert result.returncode == 0, result.stderr[-6000:]


def test_without_deepspeed_nothing_is_imported():
    with pytest.raises(ScalingError, match="needs the optimizer itself"):
        initialize(trained.scaling(), fresh=True, model=trained.Held(), optimizer=None)
