"""How head counts and head dimensions follow the hidden size."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from tpcalc.trace.hf.heads import FEWEST_HEADS, Heads


def config(**fields):
    """A config whose constructor takes ``fields`` with these defaults."""
    space = {}
    exec(f"def __init__(self, {', '.join(f'{name}={value!r}' for name, value in fields.items())}): pass", space)
    made = type("Config", (), {"__init__": space["__init__"]})()
    vars(made).update(fields)
    return made


PLAIN = {"num_attention_heads": 12, "num_key_value_heads": 4}


@pytest.mark.parametrize("sizes", [(128, 256, 512), (192, 384, 768), (64, 128, 256)])
@pytest.mark.parametrize("fields", [PLAIN, {**PLAIN, "head_dim": 64}, {"num_attention_heads": 12}])
def test_a_choice_is_whole_and_keeps_the_ratios(fields, sizes):
    heads = Heads(config(**fields), 768, {})
    choice = heads.choose([Fraction(size) for size in sizes])
    fits = not ("num_key_value_heads" in fields and sizes[0] % 3)  # three query heads to each shared one
    assert (choice is not None) == fits
    if choice is not None:
        assert not choice.dims_grow and all(value.denominator == 1 for value in choice.dims.values())
        assert all((value * size).denominator == 1 for value in choice.counts.values() for size in sizes)
        if "num_key_value_heads" in choice.counts:
            assert choice.counts["num_attention_heads"] == 3 * choice.counts["num_key_value_heads"]
        assert min(choice.counts.values()) * min(sizes) >= FEWEST_HEADS


def test_the_own_head_dimension_is_kept_where_it_fits():
    heads = Heads(config(**PLAIN), 768, {})
    kept = heads.choose([Fraction(size) for size in (384, 768, 1536)])
    assert kept.note == "" and kept.counts["num_attention_heads"] == Fraction(1, 64)
    smaller = heads.choose([Fraction(size) for size in (96, 192, 384)])
    assert smaller.note == "head dimension is 16 at every width (the config's own is 64)"
    assert heads.choose([Fraction(size) for size in (97, 101, 103)]) is None


def test_fields_set_by_hand_are_left_alone():
    own = {"num_attention_heads": 8}
    choice = Heads(config(**PLAIN), 768, own).choose([Fraction(size) for size in (128, 256, 512)])
    assert choice is None or "num_attention_heads" not in choice.counts
    assert Heads(config(other=3), 768, {}).main == ""
    assert not Heads(SimpleNamespace(), 768, {}).counts
