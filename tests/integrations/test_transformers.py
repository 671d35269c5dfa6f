"""The Trainer of transformers with multipliers: its groups, its training and its checkpoints, through its own API."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import SequentialSampler

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install tpcalc[transformers]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tpcalc[transformers]"
)

from tests.support import trained  # noqa: E402
from tests.support.forked import ranks  # noqa: E402
from tpcalc.errors import ScalingError  # noqa: E402
from tpcalc.integrations.transformers import Scaled, optimizer_cls_and_kwargs, scaled  # noqa: E402
from tpcalc.scaling.runtime import RatioWarning  # noqa: E402

BATCH, PARTS = 4, 2


class Trainer(transformers.Trainer):
    """In the order of the data, which it notes."""

    def _get_train_sampler(self, *args):
        return SequentialSampler(self.train_dataset)


def arguments(folder, **more):
    given = {
        "output_dir": str(folder),
        "max_steps": trained.STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": trained.LR,
        "weight_decay": trained.DECAY,
        "adam_epsilon": trained.EPS,
        "max_grad_norm": trained.MAX_NORM,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "lr_scheduler_type": "constant",
        "save_safetensors": False,
    }
    known = transformers.TrainingArguments.__dataclass_fields__
    return transformers.TrainingArguments(**{key: value for key, value in (given | more).items() if key in known})


def trainer(folder, *, model=None, fresh=True, kind=None, rows=64, given=None, **more):
    kind = kind or scaled(Trainer, given or trained.scaling(), fresh=fresh)
    data = trained.examples(rows)
    return kind(model=model or trained.Held(), args=arguments(folder, **more), train_dataset=data)


def batches(steps=trained.STEPS, parts=1):
    rows = trained.examples(BATCH * parts * steps)
    found = [trained.batched(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]
    return [found[at : at + parts] for at in range(0, len(found), parts)]


@pytest.mark.parametrize("parts", [1, PARTS], ids=["", "accumulated"])
def test_ten_steps_are_those_of_plain_torch(tmp_path, parts):
    schedule = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": trained.LR / 10}}
    rows = BATCH * parts * trained.STEPS
    ours = trainer(tmp_path, rows=rows, gradient_accumulation_steps=parts, warmup_steps=3, **schedule)
    ours.train()
    shadow = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    course = transformers.get_scheduler("cosine_with_min_lr", shadow, 3, trained.STEPS, {"min_lr_rate": 0.1})
    (lambdas,) = course.lr_lambdas
    trained.assert_same(ours.model, trained.by_hand(batches(parts=parts), lambdas))
    assert trained.said(ours.optimizer, ours.model)["token.weight"]["lr"] == pytest.approx(trained.LR / 10)


def test_the_groups_are_those_of_param_groups(tmp_path):
    ours = trainer(tmp_path)
    ours.create_optimizer()
    wanted = trained.wanted(ours.model)
    assert trained.said(ours.optimizer, ours.model) == wanted
    assert len({tuple(group.values()) for group in wanted.values()}) == len(ours.optimizer.param_groups) > 4


def test_the_init_is_multiplied_once(tmp_path):
    plain, weights = trained.Held(), trained.scaling()
    ours = trainer(tmp_path)
    for name, parameter in ours.model.net.named_parameters():
        torch.testing.assert_close(parameter, plain.net.get_parameter(name) * weights[name].init)
    kind = scaled(Trainer, weights, fresh=True)
    made = kind(model_init=lambda: trained.Held(), args=arguments(tmp_path))
    torch.testing.assert_close(made.model.net.head.weight, ours.model.net.head.weight)


def test_a_model_without_its_init_is_told(tmp_path):
    with pytest.warns(UserWarning, match="is as its code initialises it.*give fresh=True"):
        trainer(tmp_path, fresh=False)
    ready = trained.Held()
    trained.scaling().init_(ready)
    before = ready.net.head.weight.clone()
    assert torch.equal(trainer(tmp_path, model=ready, fresh=False).model.net.head.weight, before)


def test_a_mixin_says_whether_it_is_fresh(tmp_path):
    class Mine(Scaled, Trainer):
        tpcalc_scaling = trained.scaling()

    with pytest.raises(ScalingError, match="say whether the model is as its code initialises it"):
        trainer(tmp_path, kind=Mine)
    Mine.tpcalc_fresh = True
    ours = trainer(tmp_path, kind=Mine)
    assert trained.said(ours.create_optimizer(), ours.model) == trained.wanted(ours.model)


def test_multipliers_of_a_file(tmp_path):
    trained.scaling().save(tmp_path / "multipliers.json")
    ours = trainer(tmp_path, given=tmp_path / "multipliers.json")
    assert trained.said(ours.create_optimizer(), ours.model) == trained.wanted(ours.model)


def test_without_a_class_of_its_own(tmp_path):
    model, args = trained.Held(), arguments(tmp_path)
    with pytest.warns(UserWarning, match="max_grad_norm=0.2 clips by the plain global norm"):
        made = optimizer_cls_and_kwargs(trained.scaling(), model, args)
    plain = Trainer(model=model, args=args, optimizer_cls_and_kwargs=made)
    assert trained.said(plain.create_optimizer(), model) == trained.wanted(model)


def test_what_is_refused(tmp_path):
    kind = scaled(Trainer, trained.scaling(), fresh=True)
    with pytest.raises(ScalingError, match="the multipliers are for adamw, and SGD follows the law of sgd"):
        trainer(tmp_path, optim="sgd").create_optimizer()
    floor = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"min_lr": 1e-5}}
    with pytest.raises(ScalingError, match="ReduceLROnPlateau gives the groups min_lr = 1e-05, which is not in the"):
        given = arguments(tmp_path, eval_strategy="epoch", **floor)
        data = trained.examples()
        kind(model=trained.Held(), args=given, train_dataset=data, eval_dataset=data).create_optimizer_and_scheduler(10)
    other = torch.nn.Module()
    other.net = trained.build(trained.BASE)[0]
    with pytest.raises(ScalingError, match="has shape .* build the model at the target width"):
        trainer(tmp_path, model=other)
    mup = trained.scaling(gauge="mup")
    with pytest.raises(ScalingError, match="'head.weight'.* call forward_"):
        trainer(tmp_path, given=mup)
    ready = trained.Held()
    mup.forward_(ready)
    assert trainer(tmp_path, model=ready, given=mup).create_optimizer().param_groups


class Flat(transformers.TrainerCallback):
    """One rate for all groups, as many callbacks write it."""

    def on_step_begin(self, args, state, control, optimizer=None, **rest):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3


@pytest.mark.parametrize("most", [0.0, 1.0], ids=["unclipped", "clipped"])
def test_a_callback_that_writes_one_rate_is_told(tmp_path, most):
    ours = trainer(tmp_path, max_steps=2, max_grad_norm=most)
    ours.add_callback(Flat())
    with pytest.warns(RatioWarning, match="something sets every group to one value"):
        ours.train()


# -- saved and resumed ------------------------------------------------------------------------------


def test_a_run_goes_on_as_if_uninterrupted(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    save = {"save_strategy": "steps", "save_steps": 4}
    first = trainer(tmp_path, **save)
    first.add_callback(StopAt(4))
    first.train()
    again = trainer(tmp_path, **save)
    again.train(resume_from_checkpoint=True)
    trained.assert_same(again.model, {name: p.detach() for name, p in whole.model.net.named_parameters()})
    assert trained.said(again.optimizer, again.model) == trained.wanted(again.model)


class StopAt(transformers.TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **rest):
        control.should_training_stop = state.global_step >= self.step


def test_a_checkpoint_of_other_multipliers_is_refused(tmp_path):
    plain = Trainer(model=trained.Held(), args=arguments(tmp_path, max_steps=1), train_dataset=trained.examples())
    plain.train()
    ours = trainer(tmp_path)
    ours.create_optimizer()
    state = ours.optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr_multiplier"] = 1.0
    with pytest.raises(ScalingError, match="the checkpoint's optimizer has the multipliers 1, .* saved with"):
        ours.optimizer.load_state_dict(state)
    with pytest.raises(ScalingError, match="has taken steps without multipliers"):
        kind = scaled(Trainer, trained.scaling(), fresh=False)
        optimizers = (plain.optimizer.optimizer, None)
        with pytest.warns(UserWarning, match="multipliers of the init"):
            kind(model=plain.model, args=arguments(tmp_path), optimizers=optimizers).create_optimizer()


def worker(folder) -> None:
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True), PartialState._reset_state()
    torch.set_num_threads(1)
    save = {"save_strategy": "steps", "save_steps": 4, "ddp_backend": "gloo"}
    ours = trainer(folder, max_steps=4, per_device_train_batch_size=BATCH // 2, **save)
    ours.train()
    assert type(ours.model_wrapped).__name__ == "DistributedDataParallel"
    assert trained.said(ours.optimizer, ours.model) == trained.wanted(ours.model)


def test_two_processes_then_one(tmp_path):
    for result in ranks(lambda: worker(tmp_path), 2, tmp_path):
        assert result.returncode == 0, result.stderr[-6000:]
    again = trainer(tmp_path, per_device_train_batch_size=BATCH // 2, gradient_accumulation_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert trained.said(again.optimizer, again.model) == trained.wanted(again.model)
    trained.assert_same(again.model, trained.by_hand(batches()))
