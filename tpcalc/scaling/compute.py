"""``scale``: the multipliers of a model between two places, one width to another or several scales at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

from tpcalc.algebra.scales import place_of, scales_of
from tpcalc.derive.api import made
from tpcalc.derive.experts import sized
from tpcalc.derive.gauge import EXPERTS
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import Solution, solve
from tpcalc.document.table import table_json
from tpcalc.errors import ScalingError
from tpcalc.horizon import assume
from tpcalc.optimizers import Recipe, UpdateLaw, recipe
from tpcalc.scaling.entries import filled
from tpcalc.scaling.initial import Inits
from tpcalc.scaling.numbers import Stretch, derived
from tpcalc.scaling.reached import check_reached
from tpcalc.scaling.result import Scaling
from tpcalc.scaling.several import scale_several, values_between
from tpcalc.trace import trace
from tpcalc.trace.built import Built
from tpcalc.trace.target import factory_of


class SiteWarning(UserWarning):
    """The model itself has to be edited: a place needs a forward multiplier that no weight can absorb."""


#: A width, or several scales by name.
At = Union[int, Mapping[str, int]]


def scale(
    factory: Union[str, Callable[..., Any]],
    base: At,
    target: At,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    widths: Optional[Sequence[int]] = None,
    *,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
    gauge: str = "init",
    depth_alpha: Any = 1,
    experts: str = EXPERTS[0],
    loss: Optional[Callable[..., Any]] = None,
    batch: Optional[Sequence[float]] = None,
    tokens: Optional[Sequence[float]] = None,
    horizon: Optional[str] = None,
    horizon_exponent: Any = None,
) -> Scaling:
    """Exact multipliers that carry hyperparameters tuned at ``base`` to ``target``: two widths, or several scales.

    ``factory(width)``, or a target of the command line such as ``"hf:llama"``, is traced under fake tensors at
    ``base``, at ``target`` and at other ``widths`` (by default twice and four times ``base``).  Of several scales both
    are mappings, ``{"width": 64, "depth": 2}``, and the factory takes them by name; ``scales`` are values to trace at
    (:func:`tpcalc.trace`; by default twice and four times the base).  A model is not traced at the depth of either end:
    there it is built, under fake tensors, for its names and its own init.  ``optimizer``, ``gauge``, ``depth_alpha``
    and ``experts`` are those of :func:`tpcalc.derive.derive`; in any gauge but ``init`` the model also needs
    :meth:`~tpcalc.scaling.runtime.Multipliers.forward_`, which puts multipliers on its weights.

    ``horizon``: a published rule for the batch size and the tokens of the run (:data:`tpcalc.horizon.RULES`), each
    given at the base and at the target, ``batch=(64, 1024)``; ``horizon_exponent``: p of a rule in which the rate falls
    as the length^-p.  Its factors are no part of the derived multipliers: they stand apart, in ``scaling.assumed``.

    Warns with SiteWarning of places that need a forward multiplier.  Raises ScalingError where the code's own init
    can't be read or measured exactly, or where the forward pass reads a weight past the multiplier that the gauge puts
    on it; where the rule's source says nothing of the optimizer; and what :func:`tpcalc.trace` and
    :func:`tpcalc.derive` raise.
    """
    how = recipe(optimizer)
    assumed = assume(horizon, batch, tokens, horizon_exponent, how)
    if isinstance(base, Mapping) and isinstance(target, Mapping) and {*base, *target} == {"width"}:
        widths, scales = (scales or {}).get("width", widths), None
        base, target = base["width"], target["width"]
    if isinstance(base, Mapping) or isinstance(target, Mapping) or scales is not None:
        factory = factory_of(factory, scales=values_between(base, target, scales))
        scaling = scale_several(factory, base, target, how, scales, gauge, depth_alpha, experts, loss)
    else:
        traced = traced_widths(base, target, widths)
        factory = factory_of(factory, traced)
        solution = sized(solve(trace(factory, traced, loss=loss)), experts)
        scaling = Scalings(factory, solution, made(solution, how, gauge, experts), how).between(base, target)
        check_reached(scaling, factory, target, loss)
    if assumed is not None:
        scaling = scaling.under(assumed.at(parameters(factory, base), parameters(factory, target)), how.by_name)
    for site in scaling.sites:
        warnings.warn(f"{site} (no multiplier of a weight replaces this)", SiteWarning, stacklevel=2)
    return scaling


def parameters(factory: Callable[..., Any], at: At) -> int:
    """How many the model has, a tied one once."""
    built = Built.at(factory, place_of(scales_of(at)))
    return sum({id(parameter): parameter.numel() for parameter in built.parameters.values()}.values())


def traced_widths(base: int, target: int, widths: Optional[Sequence[int]] = None) -> tuple[int, ...]:
    """The widths to trace at: always ``base`` and ``target``, whose sizes and init calls are needed as they are."""
    for name, width in (("base", base), ("target", target)):
        if isinstance(width, bool) or not isinstance(width, int) or width <= 0:
            raise ScalingError(f"{name} width {width!r} is not a positive whole number; give one, as 64")
    others = (2 * base, 4 * base) if widths is None else tuple(widths)
    return tuple(sorted({base, target, *others}))


class Scalings:
    """The multipliers of one model under derived ``rules``, between any two of the widths at which it was traced."""

    def __init__(self, factory: Callable[[int], Any], solution: Solution, rules: Parametrization, how: Recipe) -> None:
        weights = solution.lowered.program.weights
        self._derived = derived(solution, how, rules)
        cut = [leaf for weight in weights if rules[weight.name].slices for leaf, _ in solution.needs_of(weight)]
        self._inits = Inits(factory, solution.lowered.program, cut)

    def between(self, base: int, target: int) -> Scaling:
        """Raises ScalingError where the code's own init is not known exactly."""
        laws, rules = self._inits.between(base, target), self._derived.rules
        way = Stretch(base, target, (base, target), self._derived, self._derived)
        document = table_json(rules)
        document["scale"].update(base=base, target=target)
        for entry in document["weights"]:
            rule = rules[entry["name"]]
            shapes = [[size.at(width) for size in rule.shape] for width in (base, target)]
            filled(entry, way, rule.name, laws, shapes)
        return Scaling(document)
