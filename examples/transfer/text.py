"""Characters of a text that comes with Python: its language reference, as ``help()`` shows it.

About 370,000 characters of English prose and code (Python 3.11; other versions differ a little).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pydoc_data.topics import topics

import torch
from torch import Tensor

#: A newline and what ASCII prints; anything else becomes a question mark.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
#: One character of so many is held out, from the end.
HELD_OUT = 10


@cache
def corpus() -> tuple[Tensor, Tensor]:
    """Indices into the alphabet, to train on and held out.

    The topics quote each other, so each paragraph is taken once: what is held out is nowhere in the rest.
    """
    paragraphs = dict.fromkeys("\n\n".join(topics[name] for name in sorted(topics)).split("\n\n"))
    place = {character: index for index, character in enumerate(ALPHABET)}
    indices = torch.tensor([place.get(character, place["?"]) for character in "\n\n".join(paragraphs)])
    split = len(indices) - len(indices) // HELD_OUT
    return indices[:split], indices[split:]


def sequences(source: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """[batch, length] of characters from each start on, and those that come next."""
    places = starts.unsqueeze(1) + torch.arange(length)
    return source[places], source[places + 1]


def batches(generator: torch.Generator, batch: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random places of the text to train on, without end."""
    source, _ = corpus()
    while True:
        yield sequences(source, torch.randint(len(source) - length, (batch,), generator=generator), length)


def held_out_batches(count: int, batch: int, length: int) -> list[tuple[Tensor, Tensor]]:
    """Always the same, evenly spread over the text held out."""
    _, source = corpus()
    starts = torch.linspace(0, len(source) - length - 1, count * batch).long()
    return [sequences(source, some, length) for some in starts.split(batch)]
