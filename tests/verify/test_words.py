"""The sentences of findings: exponents stand as powers of n, every part is given, every sentence is used."""

from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import pytest

from tpcalc.algebra.order import MINUS_INFINITY, order
from tpcalc.verify import words
from tpcalc.verify.words import say


@pytest.mark.parametrize(
    "exponent, text",
    [("0", "n^0"), ("1", "n^1"), ("1/2", "n^(1/2)"), ("-1", "n^(-1)"), ("-3/2", "n^(-3/2)"), ("-oo", "0")],
)
def test_powers(exponent, text):
    assert say("{power}", power=order(exponent)) == text


def test_exponents_stand_as_powers_and_the_rest_as_it_is():
    sentence = say("{name} ~ {found}, {number} of {none}", name="lr", found=Fraction(-1), number=3, none=MINUS_INFINITY)
    assert sentence == "lr ~ n^(-1), 3 of 0"


def test_a_part_that_is_not_given_is_an_error():
    with pytest.raises(KeyError, match="by"):
        say(words.MOVES_LITTLE, value="h1")


def test_every_sentence_is_used():
    sources = [path.read_text() for path in Path(words.__file__).parent.glob("*.py")]
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load)
    }
    assert {name for name in vars(words) if name.isupper() and name not in used} <= {"MINUS_INFINITY"}
