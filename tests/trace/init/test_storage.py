"""Regions of storages, and which law a view reads after writes through others."""

import pytest
import torch

from tpcalc.trace.init.law import constant, normal
from tpcalc.trace.init.storage import Region, Storage, storage_key

W = torch.empty(6, 8)


@pytest.mark.parametrize(
    "view, start, count, interval",
    [
        (W, 0, 48, True),
        (W.t(), 0, 48, True),
        (W[2:4], 16, 16, True),
        (W[:, 3:5], 3, 12, False),
        (W[1], 8, 8, True),
        (W[:, 0], 0, 6, False),
        (W[2:3, 1:2].expand(5, 7), 17, 1, True),
    ],
)
def test_regions(view, start, count, interval):
    region = Region.of(view)
    assert (region.start, region.count, region.is_interval) == (start, count, interval)


def entries_of(view):
    """The places of the entries of a view in its storage, one by one."""
    whole = torch.arange(48).as_strided(view.shape, view.stride(), view.storage_offset())
    return set(whole.flatten().tolist())


VIEWS = [
    W,
    W[:2],
    W[2:],
    W[1:3],
    W[:, :4],
    W[:, 4:],
    W[:, 3:5],
    W[:3, :4],
    W[::2],
    W[1::2],
    W[3],
    W[:, 0],
    W[:, 2:4].t(),
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: f"{list(v.shape)}+{v.storage_offset()}")
def test_what_is_said_of_two_regions_is_so(view):
    """Entry by entry; where nothing is said, nothing need be so."""
    one = entries_of(view)
    assert Region.of(view).count == len(one)
    for other in VIEWS:
        if Region.of(view).within(Region.of(other)):
            assert one <= entries_of(other)
        if Region.of(view).apart(Region.of(other)):
            assert not one & entries_of(other)
    assert Region.of(view).within(Region.of(W))


def test_a_block_is_the_region_of_its_view():
    assert Region.of(W, (0, 2, 3)) == Region.of(W[2:5])
    assert Region.of(W.t(), (0, 2, 3)) == Region.of(W.t()[2:5]) == Region.of(W[:, 2:5])


A, B, C = normal(0, 1, "a"), normal(0, 2, "b"), constant(3, "c")


def test_reads_after_writes():
    storage = Storage(W, A)
    storage.write(Region.of(W[2:4]), B)
    assert storage.read(Region.of(W[:2])) is A and storage.read(Region.of(W[3])) is B
    assert storage.read(Region.of(W)).square == pytest.approx((32 * 1 + 16 * 4) / 48)
    storage.write(Region.of(W[3:5]), C)
    assert storage.read(Region.of(W[2])) is B and storage.read(Region.of(W[4])) is C
    storage.write(Region.of(W[:, :2]), B)
    assert not storage.read(Region.of(W)).known
    storage.write(Region.of(W), C)
    assert storage.read(Region.of(W[1])) is C


def test_entries_at_unknown_places_are_mixed_in():
    storage = Storage(W, A)
    storage.scattered.append((12, C))
    assert storage.read(Region.of(W)).mean == pytest.approx(3 / 4)


def test_views_share_a_storage():
    assert storage_key(W) == storage_key(W.t()) != storage_key(torch.empty(3))
