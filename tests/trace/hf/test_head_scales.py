"""Heads, head dimension and width as scales: one equation, whatever two of them are given."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest

from tests.trace.hf.test_heads import PLAIN, config
from tpcalc.algebra.scales import star
from tpcalc.errors import TargetError
from tpcalc.trace.hf.formula import Formula
from tpcalc.trace.hf.head_scales import HeadScales
from tpcalc.trace.hf.heads import Heads

#: Twelve heads of 64 in a width of 768, and of 96: heads x head dimension is 3/2 of the width.
EQUAL, WIDE = {**PLAIN, "head_dim": 64}, {**PLAIN, "head_dim": 96}
VALUES = {"heads": (6, 12, 24), "head_dim": (32, 64, 128), "width": (768, 1536, 3072)}


def made(fields, roles, own=None):
    own, places = own or {}, [point.by_name for point in star({role: VALUES[role] for role in roles})]
    heads = Heads(config(**fields), 768, {})
    found = HeadScales(config(**fields), heads, own, {role: role for role in roles}, 768, places, "it")
    return found, places


@pytest.mark.parametrize("fields", [EQUAL, WIDE])
@pytest.mark.parametrize("roles", [roles for k in (1, 2) for roles in combinations(VALUES, k) if roles != ("width",)])
def test_heads_times_head_dimension_is_the_width_times_a_constant(fields, roles):
    found, places = made(fields, roles)
    set_ = {field: value for field, (_, value) in found.fields().items()}
    ratio = Fraction(12 * fields["head_dim"], 768)
    for place in places:
        values = {**place, "n": found.n.at(place, "width")}
        heads, shared, dim = (set_[f].at(values, f) for f in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        assert heads * dim == ratio * values["n"] and heads == 3 * shared
        assert all({"heads": heads, "head_dim": dim, "width": values["n"]}[role] == place[role] for role in roles)
    found.check(set_)
    assert not found.notes


def test_all_three_need_a_field_for_each():
    found, _ = made(EQUAL, tuple(VALUES))
    assert found.fields()["head_dim"] == ("head_dim", Formula("head_dim")) and str(found.n) == "width"
    found, _ = made(PLAIN, tuple(VALUES))
    with pytest.raises(TargetError, match="it has no field for the size of a head"):
        found.fields()


def test_numbers_set_by_hand_are_kept():
    found, _ = made(EQUAL, ("heads",), {"head_dim": 32})
    assert str(found.n) == "32*heads"
    with pytest.raises(TargetError, match="head_dim=n/8 of it has no value where the width follows from heads"):
        made(EQUAL, ("heads",), {"head_dim": Formula("n/8")})


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ("4", "num_attention_heads=6 of it is no multiple of num_key_value_heads=4 at heads=6"),
        ("6", "num_key_value_heads of it equals num_attention_heads at some of these values and not at others"),
        ("heads/6", "num_key_value_heads of it would be 1 at heads=6, and an axis of one is no axis that grows"),
        ("heads/4", "num_key_value_heads=heads/4 would be 1.5 at heads=6"),
    ],
)
def test_counts_that_do_not_fit(shared, message):
    found, _ = made(EQUAL, ("heads",))
    with pytest.raises(TargetError, match=message):
        found.check({"num_attention_heads": Formula("heads"), "num_key_value_heads": Formula(shared)})
