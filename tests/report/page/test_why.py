"""Explanations for a page: the sentences that ``tpcalc explain`` prints, and the places of values."""

from __future__ import annotations

import re

import pytest

import tpcalc
from tests.support.models import MODELS, program
from tests.support.stacks import pre
from tpcalc.derive.explained import explain_all
from tpcalc.report.explain import NOTHING, explanation_text
from tpcalc.report.page.why import why_columns


def told(name: str):
    traced = program(MODELS[name])
    explained = explain_all(traced).weights
    places = {vid: place for place, vid in enumerate(traced.values)}
    return traced, explained, why_columns(explained.values(), places)


@pytest.mark.parametrize("name", ["mlp", "gpt_growing_heads"])
def test_every_sentence_is_one_that_is_printed(name):
    traced, explained, found = told(name)
    names = [traced.value_name(vid) for vid in traced.values]
    for own, row in zip(explained.values(), found.weights, strict=True):
        printed = explanation_text(own)
        (reason,) = row.reasons
        sentences = [found.texts[at] for at in (*reason.init, *reason.update, *reason.gradient, *reason.training)]
        assert len(sentences) > 6 and all(sentence in printed for sentence in sentences)
        steps = re.findall(r"^  (.+?) = (\w+): order", printed, re.MULTILINE)
        assert [(found.texts[way[1]], found.texts[way[2]]) for way in reason.path] == steps
        for place, text, *_ in (*reason.path, *reason.back):
            assert found.texts[text].endswith(names[place])
        assert row.names == list(own.names) and reason.holds == ""


def test_of_an_unused_weight_nothing_is_said():
    _, explained, found = told("unused_and_frozen")
    row = found.weights[list(explained).index("unused.weight")]
    (reason,) = row.reasons
    assert [found.texts[at] for at in reason.init] == [NOTHING]
    assert not (reason.update or reason.path or reason.back or reason.law or reason.training)


def test_of_a_frozen_weight_nothing_is_said_of_training():
    traced, explained, found = told("unused_and_frozen")
    frozen = [place for place, own in enumerate(explained.values()) if not own.rule.trainable and own.path]
    assert frozen and all(not found.weights[place].reasons[0].training for place in frozen)
    assert all(found.weights[place].reasons[0].init for place in frozen)


def test_of_several_scales_each_cone():
    traced = tpcalc.trace(pre, scales={"width": (16, 32, 64), "depth": (2, 3)})
    explained = explain_all(traced).weights
    found = why_columns(explained.values(), {vid: place for place, vid in enumerate(traced.values)})
    for own, row in zip(explained.values(), found.weights, strict=True):
        assert len(row.reasons) == len(own.cones)
        printed = explanation_text(own)
        assert all(found.texts[at] in printed for at in row.reasons[0].init)
        assert all((reason.holds != "") == (len(own.cones) > 1) for reason in row.reasons)
