"""Set-ups that end in a trainer: found by what they have, judged as the model and optimizer that they hold."""

from __future__ import annotations

import pytest
import torch

from tests.support.models import example
from tests.support.once import once
from tpcalc.errors import SetupError
from tpcalc.scaling import scale
from tpcalc.verify import verify

WIDTHS = (32, 64, 128)
build = example("mlp.py", "mlp")


@once
def multipliers(width):
    return scale(build, 32, width)


class Trainer:
    """As much of a ``Trainer`` as is asked."""

    def __init__(self, model):
        self.model, self.optimizer, self.lr_scheduler = model, None, None

    def create_optimizer_and_scheduler(self, num_training_steps):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, num_training_steps)


class Module(torch.nn.Module):
    """As much of a Lightning module as is asked."""

    def __init__(self, width):
        super().__init__()
        self.net, self.example_input_array = build(width)[0], build(width)[1][0]

    def forward(self, x):
        return self.net(x)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5)}}


def by_hand(width):
    model, inputs = build(width)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3), inputs


def found(setup):
    return [
        (f.kind, [w.removeprefix("net.") for w in f.weights], f.found, f.needed) for f in verify(setup, WIDTHS).findings
    ]


def test_a_trainer_is_judged_as_what_it_holds():
    wanted = found(by_hand)
    assert wanted and found(lambda width: (Trainer(build(width)[0]), build(width)[1])) == wanted
    assert found(Module) == wanted


def test_optimizers_beside_a_module_are_its_optimizers():
    """However they are wrapped; the module's own hook is then not asked."""

    class Mine(Module):
        def configure_optimizers(self):
            raise AssertionError("not asked")

    def listed(width):
        module = Mine(width)
        return module, [{"optimizer": torch.optim.AdamW(module.parameters(), lr=1e-3)}], build(width)[1]

    assert found(listed) == found(Module)


def test_what_is_refused():
    class Nothing(Module):
        def configure_optimizers(self):
            return None

    class Asking(Module):
        def configure_optimizers(self):
            raise RuntimeError("Asking is not attached to a `Trainer`.")

    with pytest.raises(SetupError, match=r"configure_optimizers of what .*\(32\) returned makes no optimizer"):
        verify(lambda width: Nothing(width), WIDTHS)
    with pytest.raises(SetupError, match="asks for its Trainer, which is not there yet; attach one"):
        verify(lambda width: Asking(width), WIDTHS)


def test_the_trainer_of_transformers(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install tpcalc[transformers]")
    from transformers import Trainer, TrainingArguments

    from tpcalc.integrations.transformers import scaled

    def setup(width, kind=Trainer):
        args = TrainingArguments(str(tmp_path), max_steps=10, weight_decay=0.1, use_cpu=True, report_to=[])
        model, inputs = build(width)
        return kind(model=model, args=args), inputs

    def ours(width):
        return setup(width, scaled(Trainer, multipliers(width), fresh=True))

    assert {finding.kind for finding in verify(setup, WIDTHS).findings} == {"explodes", "eps drift"}
    report = verify(ours, WIDTHS)
    assert report.regime == "maximal" and not report.findings


def test_a_module_of_lightning():
    L = pytest.importorskip("lightning", reason="lightning is not installed: pip install tpcalc[lightning]")
    from tpcalc.integrations.lightning import scaled

    class Mine(Module, L.LightningModule):
        pass

    assert found(Mine) == found(by_hand)
    report = verify(lambda width: scaled(Mine, multipliers(width), fresh=True)(width), WIDTHS)
    assert report.regime == "maximal" and not report.findings
