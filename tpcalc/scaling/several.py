"""``scale`` of several scales by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from tpcalc.calculus.alignment import FULL
from tpcalc.derive.api import alpha_of, depth_exponent, made, solve_along
from tpcalc.derive.experts import sized
from tpcalc.derive.gauge import EXPERTS
from tpcalc.derive.several import in_every_direction
from tpcalc.errors import ScalingError
from tpcalc.optimizers import Recipe
from tpcalc.program.ir import Program
from tpcalc.scaling.many import ManyScales
from tpcalc.scaling.numbers import Derived, derived
from tpcalc.scaling.patterns import NoPattern, patterns
from tpcalc.scaling.reached import check_reached
from tpcalc.scaling.result import Scaling
from tpcalc.trace import trace
from tpcalc.trace.depth import check_alike
from tpcalc.trace.target import parse_scales

__all__ = ["between", "many_scales", "numbers_alone", "scale_several"]

_NO_PATTERNS: dict[str, Any] = {"periods": {}, "patterns": None, "no_patterns": "not asked for"}


def scale_several(
    factory: Callable[..., Any],
    base: Any,
    target: Any,
    how: Recipe,
    scales: Optional[Mapping[str, Sequence[int]]],
    gauge: str,
    depth_alpha: Any,
    experts: str,
    loss: Optional[Callable[..., Any]],
) -> Scaling:
    """:func:`tpcalc.scale` of several scales by name."""
    tried = scales or multiples(base)
    model = many_scales(factory, tried, how, gauge, depth_alpha, loss, (base, target), experts)
    if gauge != "init":
        shallow = {**target, **{name: model.program.widths[0].by_name[name] for name in model.periods.steps}}
        check_reached(numbers_alone(model, base, shallow), factory, model.point(shallow), loss)
    for end in (base, target):
        check_alike(factory, model.periods, model.point(end), loss)
    return between(model, base, target)


def many_scales(
    factory: Callable[..., Any],
    scales: Mapping[str, Sequence[int]],
    how: Recipe,
    gauge: str,
    depth_alpha: Any,
    loss: Optional[Callable[..., Any]],
    also: Sequence[Mapping[str, int]] = (),
    experts: str = EXPERTS[0],
) -> ManyScales:
    """The multipliers of a model between any two places, traced as :func:`tpcalc.trace` traces several ``scales``.

    Raises what tracing and deriving raise.
    """
    depth_exponent(depth_alpha)  # before anything slow
    program = trace(factory, scales=scales, also=also, loss=loss)
    alpha = alpha_of(program, depth_alpha)

    def run(p: Program) -> Derived:
        solution = sized(solve_along(p, FULL.name, alpha), experts)
        return derived(solution, how, made(solution, how, gauge, experts))

    return ManyScales(factory, program, in_every_direction(program, run))


def numbers_alone(model: ManyScales, base: Mapping[str, int], target: Mapping[str, int]) -> Scaling:
    """The multipliers between two places, without the formulas of others.

    Raises what :meth:`~tpcalc.scaling.many.ManyScales.document` raises.
    """
    return Scaling({**model.document(base, target), **_NO_PATTERNS})


def between(model: ManyScales, base: Mapping[str, int], target: Mapping[str, int]) -> Scaling:
    """The multipliers between two places, with the formulas of every other place where there are any.

    Raises what :meth:`~tpcalc.scaling.many.ManyScales.document` raises.
    """
    document = model.document(base, target)
    traced, steps = model.program.widths[0].by_name, model.periods.steps
    # where all have moved, so that all formulas show
    moved = {**model.program.widths[-1].by_name, **{name: traced[name] + step for name, step in steps.items()}}
    try:
        found = patterns(model, model.point(base), (document, model.document(base, moved)))
        rows: dict[str, Any] = {"patterns": [row.data() for row in found], "no_patterns": ""}
    except NoPattern as reason:
        rows = {"patterns": None, "no_patterns": str(reason)}
    periods = {name: {"traced": traced[name], "step": step} for name, step in steps.items()}
    return Scaling({**document, "periods": periods, **rows})


def multiples(base: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Each scale of a place once, twice and four times."""
    return {name: (value, 2 * value, 4 * value) for name, value in base.items()}


def values_between(base: Any, target: Any, scales: Optional[Mapping[str, Sequence[int]]]) -> dict[str, tuple[int, ...]]:
    """All values of each scale at which the model is traced or built, for a target that has to fit them.

    Raises ScalingError where one end is no place.
    """
    check_places(base, target, scales)
    tried = parse_scales(scales or multiples(base))
    return {name: tuple(sorted({*values, base[name], target[name]})) for name, values in tried.items()}


def check_places(base: Any, target: Any, scales: Optional[Mapping[str, Sequence[int]]]) -> None:
    """Raise ScalingError unless both ends give each scale a positive whole number."""
    for what, place in (("base", base), ("target", target)):
        if not isinstance(place, Mapping):
            raise ScalingError(f"{what} {place!r} is one number; give each scale by name, as width=64,depth=2")
        for name, value in place.items():
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ScalingError(f"{what} {name}={value!r} is not a positive whole number; give one, as {name}=64")
    names = {"the base": set(base), "the target": set(target)}
    if scales is not None:
        names["what is traced"] = set(scales)
    for what, own in names.items():
        for other, theirs in names.items():
            if own - theirs:
                raise ScalingError(f"{what} has {', '.join(sorted(own - theirs))} and {other} has not; give both")
