"""The garbage collector is left off, and as it was after."""

from __future__ import annotations

import gc

import pytest

import tpcalc
from tests.support.models import example
from tpcalc.collector import without_gc


@without_gc()
def made(fails: bool) -> bool:
    if fails:
        raise ValueError
    return gc.isenabled()


@pytest.mark.parametrize("on", (True, False))
def test_it_is_off_and_as_it_was_after(on):
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        assert not made(False) and gc.isenabled() == on
        with pytest.raises(ValueError):
            made(True)
        assert gc.isenabled() == on
    finally:
        (gc.enable if before else gc.disable)()


def test_what_a_trace_and_a_derivation_leave_goes_without_it():
    """Nothing that they made is in a cycle: memory is free at once, and there is nothing to collect."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        tpcalc.derive(tpcalc.trace(example("gpt.py", "gpt"), (32, 64, 128)))
        gc.collect()
        assert not {type(left) for left in gc.garbage if type(left).__module__.startswith("tpcalc")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
