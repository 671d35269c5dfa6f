"""Which of a model's outputs a loss would read."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch

from tpcalc.trace.record import find_loss, primary_outputs
from tpcalc.trace.record.outputs import flatten

X, Y = (torch.ones(2, requires_grad=True) for _ in range(2))
SCALAR = X.sum()


@dataclass
class Fields:
    loss: Any
    more: Any


class ModelOutput(dict):
    """Stands for that of transformers, which is known by its name."""


Pair = namedtuple("Pair", "a b")


def paths(found):
    return [path for path, _ in found]


def test_nested_outputs_have_paths():
    assert paths(flatten({"a": [X, (Y,)], "b": Pair(X, 3), "c": Fields(None, Y)})) == ["a.0", "a.1.0", "b.a", "c.more"]
    assert paths(flatten(X)) == [""] and paths(flatten(3)) == []


def test_a_loss_is_a_scalar_that_can_be_differentiated():
    assert find_loss(SCALAR) is find_loss({"loss": SCALAR}) is find_loss(Fields(SCALAR, X)) is SCALAR
    assert find_loss(X) is find_loss({"loss": X}) is find_loss(torch.tensor(1.0)) is None


def test_what_a_loss_reads():
    assert paths(primary_outputs((X, torch.ones(2), torch.ones(2).long()))) == ["0"]
    assert paths(primary_outputs(ModelOutput(logits=X, hidden_states=(Y,)))) == ["logits"]
    assert paths(primary_outputs(ModelOutput(last_hidden_state=X, pooler_output=Y, other=X))) == [
        "last_hidden_state", "pooler_output", "other"
    ]  # fmt: skip
    boxes = ModelOutput(logits=X, pred_boxes=Y, last_hidden_state=X, past_key_values=((X,),), decoder_attentions=(Y,))
    assert paths(primary_outputs(boxes)) == ["logits", "pred_boxes"]
    assert paths(primary_outputs(ModelOutput(loss=SCALAR, logits=X, mc_logits=Y, hidden_states=X))) == [
        "logits", "mc_logits"
    ]  # fmt: skip
    assert paths(primary_outputs(ModelOutput(state_preds=X, action_preds=Y, image_hidden_states=X))) == [
        "state_preds", "action_preds"
    ]  # fmt: skip
    assert paths(primary_outputs(ModelOutput(mine=X, attentions=(Y,), inner=ModelOutput(a=X)))) == ["mine"]
