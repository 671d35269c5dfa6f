"""What a check is asked for has to make sense."""

from __future__ import annotations

import math

import pytest

import tpcalc
from tests.support.models import example

MLP = example("mlp.py", "mlp")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": -1.0}, "lr -1 tells nothing about training; give a finite number, more than 0"),
        ({"lr": 0.0}, "lr 0 tells nothing"),
        ({"lr": math.inf}, "lr inf tells nothing"),
        ({"weight_decay": -0.1}, "weight decay -0.1 tells nothing about training; give a finite number, 0 or more"),
        ({"eps": math.nan}, "eps nan tells nothing"),
        ({"tolerance": 0.0}, "tolerance 0 tells nothing"),
        ({"steps": 0}, "at least one step"),
        ({"parametrization": "mup"}, "parametrization 'mup' is unknown; choose one of derived, standard"),
    ],
    ids=str,
)
def test_nonsense_is_refused_before_training(options, message):
    with pytest.raises(tpcalc.TpcalcError, match=message):
        tpcalc.check(MLP, (32, 64, 128), **options)
