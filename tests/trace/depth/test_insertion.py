"""What a deeper trace has more: on sequences of letters, and on traces."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.stacks import pre
from tpcalc.trace.depth import grown, inserted, tokens
from tpcalc.trace.record import record


@pytest.mark.parametrize(
    "shallow, deep, loops",
    [
        ("abz", "ababz", [(0, 2, 4)]),
        ("xabz", "xababz", [(1, 2, 5)]),
        ("xabababz", "xababababz", [(1, 2, 9)]),
        ("xabaz", "xababaz", [(1, 2, 6)]),  # what follows begins as a period does
        ("bxaby", "bxababy", [(2, 2, 6)]),
        ("aabz", "aabaabz", [(0, 3, 6)]),
        ("uabvcdw", "uababvcdcdw", [(1, 2, 5), (6, 2, 10)]),  # an encoder and a decoder
        ("uabvabw", "uababvababw", [(1, 2, 5), (6, 2, 10)]),
        ("uaabw", "uaabaabw", [(1, 3, 7)]),
        ("abc", "abc", []),
    ],
)
def test_loops_are_found_around_what_is_put_in(shallow, deep, loops):
    found = inserted(shallow, deep)
    assert found == tuple(loops)
    assert grown(deep, found, 1)[: len(deep) + 1][0] == deep[0]
    assert inserted(deep, "".join(grown(deep, found, 1))) is not None


@pytest.mark.parametrize(
    "shallow, deep",
    [
        ("xaz", "xabz"),  # something else is put in
        ("xabz", "xaz"),  # less
        ("xabz", "xabaabz"),
        ("abcd", "abdc"),
        ("xaz", "yaaz"),
    ],
)
def test_other_differences_are_no_loop(shallow, deep):
    assert inserted(shallow, deep) is None


def test_more_periods_are_put_at_the_end_of_each_loop():
    assert "".join(grown("uababvcdcdw", inserted("uabvcdw", "uababvcdcdw"), 2)) == "uababababvcdcdcdcdw"


def test_tokens_hold_ops_sizes_and_whole_numbers():
    traces = {(n, d): record(partial(pre, n, d), n) for n, d in ((16, 1), (16, 2), (32, 2))}
    one, two, wider = (tokens(traces[key]) for key in ((16, 1), (16, 2), (32, 2)))
    assert [token[0] for token in two] == [token[0] for token in wider] and two != wider
    ((start, period, end),) = inserted(one, two)
    assert period == len(two) - len(one) == 8 and end - start >= 16
    assert inserted(one, wider) is None  # blocks of another size
    back = [tokens(traces[key], "backward") for key in ((16, 1), (16, 2))]
    assert inserted(*back) is not None
