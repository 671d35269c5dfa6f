"""What makes tests with many gauges, optimizers and widths of the same few models affordable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest import mock

import torch

import tpcalc.trace


@contextmanager
def quick() -> Iterator[None]:
    """One thread, as tensors are small; and one trace of a factory serves every gauge and optimizer of its scaling."""
    threads, cached = torch.get_num_threads(), lru_cache(maxsize=None)(tpcalc.trace.trace)
    torch.set_num_threads(1)
    with mock.patch("tpcalc.trace.trace", lambda factory, widths, loss=None: cached(factory, widths, loss=loss)):
        yield
    torch.set_num_threads(threads)
