"""What holds for every test: one thread, and no other test file in sight."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torch.utils._device

from tests.support.versions import unmet


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are faster so, and two workers share two cores.  No default device is left to other files, either:
    with any, even the CPU, each call of torch goes through Python."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    assert torch.utils._device.CURRENT_DEVICE is None, "a default device was set and stays"


@pytest.fixture(scope="module")
def recorded_once() -> Iterator[None]:
    """For files that trace a few factories again and again: each pass is recorded once."""
    from tests.support import recorded

    with recorded.recorded_once():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the versions that are here cannot do is skipped, with the reason."""
    for item in items:
        if reason := unmet(item.nodeid):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Every trace looks into all files of the user's that are loaded, and test files are such: of those that were
    collected, only the one whose tests run stays.

    What collection has made lives as long as the tests do, so that the garbage collector need not walk it.  Programs
    are made of many small objects that do live: it looks for garbage less often than it would.
    """
    for module in {_module(item) for item in session.items}:
        sys.modules.pop(module.__name__, None)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    module = _module(item)
    sys.modules[module.__name__] = module
    try:
        return (yield)
    finally:
        sys.modules.pop(module.__name__)


def _module(item: pytest.Item) -> ModuleType:
    return item.getparent(pytest.Module).obj
