"""What is told of a rule: from a document with its numbers, and from the rule itself without any."""

from __future__ import annotations

from tpcalc.document.assumed import assumed_json
from tpcalc.horizon import assume, chosen
from tpcalc.horizon.words import assumed_lines, formula_lines
from tpcalc.optimizers import ADAMW, LAWS


def test_from_a_document():
    row = assumed_json(assume("completed-p", "64:1024", "1e9:2e11").at(1000, 20_000_000), [ADAMW])
    head, factors, *others = assumed_lines(row)
    assert head.startswith("completed-p (Mlodozeniec et al. 2025")
    assert head.endswith(
        "batch 64 -> 1024 (kappa_B), tokens 1e+09 -> 2e+11 (kappa_D), parameters 1000 -> 2e+07 (kappa_N)"
    )
    assert factors == (
        "adamw, every parameter alike: lr x sqrt(kappa_B)/sqrt(kappa_D) = 0.282843, weight decay x "
        "sqrt(kappa_B)/sqrt(kappa_D) = 0.282843, eps x sqrt(kappa_D)/sqrt(kappa_B) = 3.53553, 1 - beta x "
        "kappa_B/kappa_D = 0.08; steps x kappa_D/kappa_B = 12.5"
    )
    assert sum(line.startswith("contradicted: ") for line in others) == 3
    assert assumed_lines({}) == []


def test_without_an_epsilon():
    head, factors, *_ = assumed_lines(assumed_json(assume("malladi", "1:4"), [LAWS["sgd"]]))
    assert head.endswith(": batch 1 -> 4 (kappa_B), tokens unchanged")
    assert factors == (
        "sgd, every parameter alike: lr x kappa_B = 4, weight decay x 1, 1 - beta x 1; steps x kappa_D/kappa_B = 0.25"
    )


def test_of_the_rule_itself():
    lines = [*formula_lines(chosen("power-lines"), ADAMW)]
    assert lines[1] == (
        "on top of what is derived, every parameter alike: lr x 1, weight decay x "
        "kappa_B/(kappa_D**(473/1000)*kappa_N**(527/1000)), eps x 1, 1 - beta x 1"
    )
    lines = [*formula_lines(assume("completed-p", "1:4"), ADAMW)]
    assert "lr x sqrt(kappa_B)/sqrt(kappa_D) = 2, " in lines[1]
    assert not any(" = " in line for line in [*formula_lines(assume("power-lines", "1:4"), ADAMW)][1:2])
