"""What a run looks at: values and uses of weights, by the ids that they have in the model that is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Optional, TypeVar

from tpcalc.algebra.scales import Place
from tpcalc.check.effects import Use
from tpcalc.check.sizes import arrangements
from tpcalc.lower.lowered import Lowered
from tpcalc.program.ir import Program

Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class Seen:
    """What is looked at in the model of one place, whose blocks may be more than the program has.

    ``values``: id in the model -> the value of the program under which it is counted.  ``weights``: name in the model
    -> that of the program's weight.  ``uses``: those of a weight of the program, each by a weight of the model.
    ``dims``: number of axes of each value in the model.  ``arranged``, ``centred``: as in
    :class:`tpcalc.check.sizes.Sizes`.
    """

    values: Mapping[int, int]
    weights: Mapping[str, str]
    uses: Mapping[str, Sequence[Use]]
    dims: Mapping[int, int]
    arranged: Mapping[int, int]
    centred: frozenset[int]

    @cached_property
    def needed(self) -> frozenset[int]:
        """What measuring the effects of weights takes."""
        return frozenset(vid for found in self.uses.values() for use in found for vid in use.needed)


@dataclass(frozen=True)
class Probe:
    """What to look at: forward ``values`` by id, and the ``uses`` of each weight's own effect.

    ``repeated``: what that is in the model of a place where blocks repeat more often than in the program.
    """

    lowered: Lowered
    values: frozenset[int]
    uses: Mapping[str, list[Use]]
    repeated: Optional[Callable[[Place], Seen]] = None

    @property
    def program(self) -> Program:
        return self.lowered.program

    def at(self, place: Place) -> Seen:
        return self._as_traced if self.repeated is None else self.repeated(place)

    @cached_property
    def _as_traced(self) -> Seen:
        program = self.program
        return Seen(
            values={vid: vid for vid in self.values},
            weights={weight.name: weight.name for weight in program.weights},
            uses=self.uses,
            dims={vid: len(value.shape) for vid, value in program.values.items()},
            arranged=arrangements(program.nodes, program.values, self.values),
            centred=self.lowered.centred_inside,
        )


def together(sizes: Mapping[Key, float], counted: Mapping[Key, Key]) -> dict[Key, float]:
    """The root mean square of the sizes of all that is counted as one."""
    found: dict[Key, list[float]] = {}
    for own, size in sizes.items():
        found.setdefault(counted[own], []).append(size)
    return {key: root_mean_square(each) for key, each in found.items()}


def root_mean_square(sizes: Sequence[float]) -> float:
    return sizes[0] if len(sizes) == 1 else math.sqrt(sum(size**2 for size in sizes) / len(sizes))


__all__ = ["Probe", "Seen", "root_mean_square", "together"]
