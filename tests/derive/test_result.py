"""A parametrization as a mapping, and the text of its parts."""

from __future__ import annotations

import pytest

from tests.support.models import derived
from tpcalc.derive.result import Bound


def test_a_mapping_from_every_name():
    found = derived("gpt_tied")
    assert len(found) == len(list(found)) == len(found.rules) and {"token.weight", "head.weight"} <= set(found)
    assert found["head.weight"] is found["token.weight"] is found.get("head.weight")
    with pytest.raises(KeyError):
        found["nonsense"]


def test_shapes_are_text_of_exact_sizes():
    assert derived("mlp")["hidden.weight"].shape_text == "[n, n]"
    assert derived("mlp")["output.weight"].shape_text == "[10, n]"


def test_a_bound_says_where_it_knows():
    assert str(Bound("h4", "law 1")) == "law 1 at h4"
    assert str(Bound("h4", "law 1", "hidden, mlp.py:3")) == "law 1 at h4 (hidden, mlp.py:3)"
