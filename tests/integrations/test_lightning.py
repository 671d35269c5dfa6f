"""Modules of Lightning with multipliers, through its Trainer: groups, training, clipping, checkpoints."""

from __future__ import annotations

import logging
import os
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

L = pytest.importorskip("lightning", reason="lightning is not installed: pip install tpcalc[lightning]")

from lightning.pytorch.plugins.environments import TorchElasticEnvironment  # noqa: E402

from tests.support import trained  # noqa: E402
from tests.support.forked import ranks  # noqa: E402
from tpcalc.errors import ScalingError  # noqa: E402
from tpcalc.integrations.lightning import scaled  # noqa: E402
from tpcalc.scaling.runtime import RatioWarning  # noqa: E402
from tpcalc.scaling.schedules import one_cycle  # noqa: E402

BATCH = 4


class Module(L.LightningModule):
    """Written without a thought of multipliers."""

    def __init__(self, width: int, schedule: str = "cosine") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = trained.Held(width).net
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append(batch)
        return torch.nn.functional.cross_entropy(self.net(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())

    def configure_optimizers(self):
        by_rule = [[p for p in self.parameters() if p.dim() > 1], [p for p in self.parameters() if p.dim() < 2]]
        groups = [{"params": ps, "weight_decay": decay} for ps, decay in zip(by_rule, (trained.DECAY, 0.0))]
        optimizer = torch.optim.AdamW(groups, lr=trained.LR, eps=trained.EPS)
        made = {
            "": lambda: None,
            "cosine": lambda: CosineAnnealingLR(optimizer, 2 * trained.STEPS),
            "floor": lambda: CosineAnnealingLR(optimizer, 10, eta_min=1e-5),
            "one": lambda: OneCycleLR(optimizer, trained.LR, total_steps=10),
            "each": lambda: one_cycle(optimizer, trained.LR, total_steps=10),
        }[self.hparams.schedule]()
        return optimizer if made is None else ([optimizer], [{"scheduler": made, "interval": "step"}])


def trainer(folder, **more):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    given = {"max_steps": trained.STEPS, "accelerator": "cpu", "gradient_clip_val": trained.MAX_NORM, **off, **more}
    return L.Trainer(default_root_dir=folder, **given)


def data(batch=BATCH, parts=1):
    return torch.utils.data.DataLoader(trained.examples(BATCH * parts * trained.STEPS), batch_size=batch)


def fit(folder, module, parts=1, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = trainer(folder, accumulate_grad_batches=parts, **more)
        ours.fit(module, data(parts=parts))
    return ours


def batches(parts=1):
    found = list(data(parts=parts))
    return [found[at : at + parts] for at in range(0, len(found), parts)]


def cosine(step):
    return (1 + torch.tensor(step * torch.pi / (2 * trained.STEPS), dtype=torch.float64).cos().item()) / 2


def ours(schedule="cosine", fresh=True):
    return scaled(Module, trained.scaling(), fresh=fresh)(trained.TARGET, schedule)


@pytest.mark.parametrize("parts", [1, 2], ids=["", "accumulated"])
def test_ten_steps_are_those_of_plain_torch(tmp_path, parts):
    module = ours()
    fit(tmp_path, module, parts)
    trained.assert_same(module, trained.by_hand(batches(parts), cosine))


@pytest.mark.parametrize("schedule", ["", "cosine", "each"])
def test_the_groups_are_those_of_param_groups(schedule):
    module = ours(schedule)
    made = module.configure_optimizers()
    optimizer = made[0][0] if schedule else made
    found = trained.said(optimizer, module)
    first = 25.0 if schedule == "each" else 1.0  # where OneCycleLR starts
    for name, settings in trained.wanted(module).items():
        assert found[name]["lr"] == pytest.approx(settings["lr"] / first)
        same = ("weight_decay", "eps", "lr_multiplier")
        assert {key: found[name][key] for key in same} == {key: settings[key] for key in same}


def test_what_is_refused(tmp_path):
    with pytest.raises(ScalingError, match="eta_min = 1e-05, .* use tpcalc.scaling.schedules.cosine_annealing"):
        ours("floor").configure_optimizers()
    with pytest.raises(ScalingError, match="OneCycleLR gives .* use tpcalc.scaling.schedules.one_cycle"):
        ours("one").configure_optimizers()
    with pytest.raises(ScalingError, match="'value': clipping by value has one threshold for all weights"):
        fit(tmp_path, ours(), gradient_clip_algorithm="value")
    for wrong in (L.Trainer, torch.nn.Linear):
        with pytest.raises(ScalingError, match="takes the class of a LightningModule, and .* is none"):
            scaled(wrong, trained.scaling(), fresh=True)
    module = ours()
    module.other = torch.nn.Linear(2, 2)
    with pytest.raises(ScalingError, match="made for: it also has 'other.weight', 'other.bias'; make"):
        fit(tmp_path, module)


class Layers(Module):
    """The embedding has a rate of its own; what is added later has that of the rest."""

    def configure_optimizers(self):
        first, last, *rest = self.parameters()
        groups = [{"params": [first], "lr": trained.LR / 3}, {"params": rest}]
        optimizer = torch.optim.AdamW(groups, lr=trained.LR, weight_decay=trained.DECAY, eps=trained.EPS)
        optimizer.add_param_group({"params": [last]})
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def test_groups_of_the_users_own(tmp_path):
    module = scaled(Layers, trained.scaling(), fresh=True)(trained.TARGET)
    fit(tmp_path, module, max_steps=2)
    found = trained.said(module.trainer.optimizers[0], module)
    for name, settings in trained.wanted(module, no_decay=None).items():
        own = 3 if name == "token.weight" else 1
        assert found[name] == settings | {"lr": pytest.approx(settings["lr"] / own)}


class Thawed(L.pytorch.callbacks.BaseFinetuning):
    def freeze_before_training(self, module):
        self.freeze(module.net.token)

    def finetune_function(self, module, epoch, optimizer):
        self.unfreeze_and_add_param_group(module.net.token, optimizer)


def test_what_is_added_in_training_has_no_multipliers(tmp_path):
    class Trainable(Module):
        def configure_optimizers(self):
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=trained.LR)

    module = scaled(Trainable, trained.scaling(), fresh=True)(trained.TARGET)
    with pytest.raises(ScalingError, match="was given 1 more tensors after its groups had their multipliers"):
        fit(tmp_path, module, callbacks=[Thawed()])


def test_a_hook_that_writes_one_rate_is_told(tmp_path):
    class Flat(Module):
        def on_train_batch_start(self, batch, index):
            for group in self.optimizers().param_groups:
                group["lr"] = 1e-3

    for most in (None, 1.0):
        with pytest.warns(RatioWarning, match="something sets every group to one value"):
            trainer(tmp_path, max_steps=2, gradient_clip_val=most).fit(
                scaled(Flat, trained.scaling(), fresh=True)(trained.TARGET, ""), data()
            )


def test_a_checkpoint_is_not_multiplied_again(tmp_path):
    epoch = {"limit_train_batches": trained.STEPS // 2}
    half = ours()
    first = fit(tmp_path, half, max_epochs=1, max_steps=-1, **epoch)
    first.save_checkpoint(tmp_path / "half.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = type(half).load_from_checkpoint(tmp_path / "half.ckpt")
    again = ours()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(tmp_path, **epoch).fit(again, data(), ckpt_path=tmp_path / "half.ckpt")
        trainer(tmp_path, max_steps=0).fit(loaded, data())
    assert all(torch.equal(p, q) for p, q in zip(half.parameters(), loaded.parameters(), strict=True))
    trained.assert_same(again, trained.by_hand([[batch] for batch in half.seen + again.seen], cosine))


def test_a_model_without_its_init_is_told(tmp_path):
    module = ours(fresh=False)
    with pytest.warns(UserWarning, match="is as its code initialises it.*give fresh=True"):
        trainer(tmp_path, max_steps=0).fit(module, data())


def worker(folder) -> None:
    torch.set_num_threads(1)
    module = ours("")
    cluster = {"plugins": [TorchElasticEnvironment()], "devices": 2, "use_distributed_sampler": False}
    runs = trainer(folder, max_steps=5, limit_train_batches=5, strategy="ddp", **cluster)
    half = BATCH // 2
    rows = [row for at, row in enumerate(trained.examples()) if at % BATCH // half == int(os.environ["RANK"])]
    runs.fit(module, torch.utils.data.DataLoader(rows, batch_size=half))
    assert runs.world_size == 2
    runs.save_checkpoint(folder / "two.ckpt")


def test_two_processes_then_one(tmp_path):
    for result in ranks(lambda: worker(tmp_path), 2, tmp_path):
        assert result.returncode == 0, result.stderr[-6000:]
    module = ours("")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = trainer(tmp_path, limit_train_batches=5)
        runs.fit(module, data(), ckpt_path=tmp_path / "two.ckpt")
    assert trained.said(module.optimizers(), module) == trained.wanted(module)
    trained.assert_same(module, trained.by_hand(batches()[:5] + [[batch] for batch in module.seen]))
