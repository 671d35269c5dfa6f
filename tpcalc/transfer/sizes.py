"""The multipliers of one model from a base to each size at which it is trained, under each parametrization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, Optional

from tpcalc.algebra.scales import place_of
from tpcalc.derive.api import OF_A_DEPTH, depth_exponent, made
from tpcalc.derive.experts import sized
from tpcalc.derive.result import site_notes
from tpcalc.derive.solve import solve
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import Recipe
from tpcalc.program.ir import Program
from tpcalc.scaling.compute import Scalings
from tpcalc.scaling.result import Scaling
from tpcalc.scaling.several import many_scales, multiples, numbers_alone
from tpcalc.trace import trace
from tpcalc.trace.depth import check_alike
from tpcalc.transfer.jobs import Job
from tpcalc.transfer.modules import MODULES, check_selector, modules_of, selected
from tpcalc.transfer.result import STANDARD, UNSCALED
from tpcalc.transfer.run import Trainer
from tpcalc.transfer.training import Outcome, with_a_batch
from tpcalc.transfer.tuned import check_constants, tuned, unscaled

__all__ = ["Sizes"]


class Sizes:
    """Multipliers from ``base`` to each of ``others``, places by name; ``traced``: values of each scale to trace at, by
    default twice and four times the base.

    Raises what :func:`tpcalc.scale` raises, at once: nothing is trained before.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        base: Mapping[str, int],
        others: Sequence[Mapping[str, int]],
        how: Recipe,
        depth_alpha: Any = 1,
        experts: str = "mup",
        traced: Optional[Mapping[str, Sequence[int]]] = None,
    ) -> None:
        self.base = dict(base)
        places = [dict(place) for place in (base, *others)]
        for place in places:
            _check(place, self.base)
        alone = set(base) == {"width"}
        if alone and depth_exponent(depth_alpha) != 1:
            raise TpcalcError(OF_A_DEPTH)
        factory = with_a_batch(factory)
        along = partial(_along_the_width, factory, places, how, experts, traced)
        if not alone:
            along = partial(_along_several, factory, places, how, depth_alpha, experts, traced)
        self.program, at = along()
        self._scalings = {frozenset(place.items()): at(place) for place in places}

    @cached_property
    def modules(self) -> Mapping[str, frozenset[str]]:
        """Those of each weight, by its name with whole numbers folded."""
        return modules_of(self.program)

    def members(self) -> dict[str, frozenset[str]]:
        """Module -> the first names of its weights at the base, in the order of :data:`MODULES`."""
        names = list(self.scaling(self.base))
        first = [name for name in names if self.scaling(self.base)[name].name == name]
        found = {module: frozenset(n for n in first if selected(module, n, self.modules)) for module in MODULES}
        return {module: own for module, own in found.items() if own}

    @property
    def notes(self) -> tuple[str, ...]:
        """Places in the code that need a multiplier of their own, a sentence each."""
        return site_notes(next(reversed(self._scalings.values())).sites)

    def scaling(self, scales: Mapping[str, int]) -> Scaling:
        """The derived multipliers from the base to one of the places."""
        return self._scalings[frozenset(scales.items())]

    def multipliers(self, parametrization: str, scales: Mapping[str, int], constants: Mapping[str, Any]) -> Scaling:
        """Those of a parametrization at one of the places; ``constants`` of modules where there are any."""
        found = self.scaling(scales)
        if parametrization in (STANDARD, UNSCALED):
            found = unscaled(found)
        return tuned(found, constants, self.modules) if constants else found

    def check(self, constants: Mapping[str, Mapping[str, float]]) -> None:
        """Raise TpcalcError where one is no number, or of what is no module and no weight."""
        check_constants(constants)
        names = [name for weight in self.program.weights for name in weight.names]
        for selector in constants:
            check_selector(selector, names, self.modules)

    def runner(self, trainer: Trainer) -> Callable[[Job], Outcome]:
        """What does a job."""
        multipliers = lru_cache(maxsize=64)(self._of_job)

        def run(job: Job) -> Outcome:
            dotted = tuple((name, number) for name, number in job.numbers if "." in name)
            own = multipliers(job.parametrization, job.scales, dotted)
            return trainer.run(place_of(dict(job.scales)), own, job.base, job.seed, job.steps)

        return run

    def _of_job(self, parametrization: str, scales: tuple[tuple[str, int], ...], numbers: tuple[Any, ...]) -> Scaling:
        constants = Job(parametrization, scales, numbers, 0, 0).constants
        return self.multipliers(parametrization, dict(scales), constants)


def _check(place: Mapping[str, int], base: Mapping[str, int]) -> None:
    if set(place) != set(base):
        raise TpcalcError(
            f"one size gives {', '.join(place)} and another {', '.join(base)}; give the same scales in both"
        )
    for name, value in place.items():
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise TpcalcError(f"{name}={value!r} is no size; give a positive whole number")


#: From the base to a place.
At = Callable[[Mapping[str, int]], Scaling]


def _along_the_width(
    factory: Callable[..., Any],
    places: Sequence[Mapping[str, int]],
    how: Recipe,
    experts: str,
    traced: Optional[Mapping[str, Sequence[int]]],
) -> tuple[Program, At]:
    widths = [place["width"] for place in places]
    others = multiples(places[0]) if traced is None else traced
    program = trace(factory, sorted({*widths, *others["width"]}))
    solution = sized(solve(program), experts)
    scalings = Scalings(factory, solution, made(solution, how, "init", experts), how)
    return program, lambda place: scalings.between(widths[0], place["width"])


def _along_several(
    factory: Callable[..., Any],
    places: Sequence[Mapping[str, int]],
    how: Recipe,
    depth_alpha: Any,
    experts: str,
    traced: Optional[Mapping[str, Sequence[int]]],
) -> tuple[Program, At]:
    base = places[0]
    model = many_scales(factory, traced or multiples(base), how, "init", depth_alpha, None, places, experts)
    for place in places:
        check_alike(factory, model.periods, model.point(place), None)
    return model.program, lambda place: numbers_alone(model, base, place)
