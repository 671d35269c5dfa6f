"""The garbage collector is left off, and as it was after."""

from __future__ import annotations

import gc

import pytest

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
