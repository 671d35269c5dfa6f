"""Which parameter of a shallow model each parameter of a deeper one repeats.

A model is traced with a few periods of each stack, and a rule found there is that of all periods.  Where they stand in
the model of another depth follows from the order of its parameters, as loops follow from the order of ops
(:mod:`tpcalc.trace.depth.insertion`): a name says which block it is of by whole numbers in its path, and but for these
a deeper model has the same names with those of whole periods put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tpcalc.algebra.scales import Point
from tpcalc.errors import AlignError
from tpcalc.program.names import starred
from tpcalc.trace.built import Built
from tpcalc.trace.depth.insertion import Stretch, inserted, resized

__all__ = ["Periods"]

_NUMBER = re.compile(r"\d+")


class Periods:
    """The periods of parameters in the model at the place ``traced``, which is a period deeper by ``steps``.

    They are found in a model one period deeper, so that two stand behind one another also where the first of those that
    were traced holds more than the others.  ``loops``: where they are there, by the scale they grow with; ``names``:
    for each parameter there the traced one whose rule it has.
    """

    def __init__(self, factory: Callable[..., Any], traced: Point, steps: Mapping[str, int]) -> None:
        self.traced, self.steps = traced, dict(steps)
        self.built = Built.at(factory, traced)
        depths = traced.by_name
        self.deeper = traced.with_(**{scale: depths[scale] + step for scale, step in steps.items()})
        deep = Built.at(factory, self.deeper) if steps else self.built
        self._mask: Callable[[str], str] = starred
        self._deep = list(deep.parameters)
        self.loops: dict[str, tuple[Stretch, ...]] = {}
        for scale in self.steps:
            at = self.deeper.with_(**{scale: depths[scale]})
            self.loops[scale] = self._loops(self.built if at == traced else Built.at(factory, at), deep, scale)
        by_index = dict(zip(self._indices(self.built), self.built.parameters))
        for first, period, end in sorted(stretch for stretches in self.loops.values() for stretch in stretches):
            for index in range(first, end):
                if index not in by_index:
                    by_index[index] = by_index[index - period if index - period >= first else index + period]
        self.names = [by_index[index] for index in range(len(self._deep))]

    def _loops(self, shallow: Built, deep: Built, scale: str) -> tuple[Stretch, ...]:
        """First by whole numbers in paths (``layers.0``); where those tell nothing, by all digits (``block0``)."""
        for mask in (starred, _without_digits):
            tokens = ([(mask(name), built.shape(name)) for name in built.parameters] for built in (shallow, deep))
            found = inserted(*tokens)
            if found is not None:
                self._mask = mask if mask is _without_digits else self._mask
                return found
        raise AlignError(
            f"the parameters of the model with one period more along {scale} are not those of the shallower one with "
            f"whole blocks put in ({len(shallow.parameters)} and {len(deep.parameters)} of them); register blocks one "
            f"behind the other, as nn.ModuleList does"
        )

    def sources(self, built: Built) -> dict[str, str]:
        """Each name of the model at other depths -> that of the traced model whose rule it has.

        Raises AlignError where the model there is not the traced one with whole periods more or less.
        """
        return dict(zip(built.parameters, (self.names[index] for index in self._indices(built))))

    def _indices(self, built: Built) -> list[int]:
        """For each parameter of a model the one of the deeper model that it is, or repeats."""
        assert isinstance(built.place, Point)
        stretches: list[tuple[Stretch, int]] = []
        for scale, step in self.steps.items():
            depth = built.place.by_name[scale]
            more, rest = divmod(depth - self.deeper.by_name[scale], step)
            if rest:
                raise AlignError(
                    f"{scale}={depth} is no whole number of periods: the model repeats itself every {step} blocks; "
                    f"choose {scale}={depth - rest} or {depth - rest + step}"
                )
            stretches += [(stretch, more) for stretch in self.loops[scale]]
        try:
            found = resized(range(len(self._deep)), stretches)
        except AlignError:
            raise AlignError(f"the model at {built.place} has less than one period of its blocks; go deeper") from None
        expected = [self._mask(self._deep[index]) for index in found]
        if expected != [self._mask(name) for name in built.parameters]:
            name = next((n for n, e in zip(built.parameters, expected) if self._mask(n) != e), "their number")
            raise AlignError(
                f"the model at {built.place} is not the one at {self.traced} with more of the same blocks ({name} "
                f"differs); blocks must be alike at all depths"
            )
        return found

    def alike(self) -> dict[str, str]:
        """Each traced name -> the one at the same place of the first period."""
        found = {name: name for name in self.built.parameters}
        for stretches in self.loops.values():
            for first, period, end in stretches:
                for index in range(first, end):
                    found[self.names[index]] = self.names[first + (index - first) % period]
        return found


def _without_digits(name: str) -> str:
    return _NUMBER.sub("*", name)
