"""From exponents to numbers: the multipliers of a model between two widths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.order import Order, fraction
from tpcalc.algebra.roots import Factor, power_product
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization, Rule
from tpcalc.derive.solve import Need, Solution, solve
from tpcalc.document.table import table_json
from tpcalc.errors import ScalingError
from tpcalc.lower.lowered import Leaf
from tpcalc.optimizers import Recipe, UpdateLaw, finite, recipe
from tpcalc.scaling.fans import Fan, fan_of
from tpcalc.scaling.initial import Initial, Inits
from tpcalc.scaling.reached import check_reached
from tpcalc.scaling.result import Scaling
from tpcalc.trace import trace
from tpcalc.trace.target import factory_of


class SiteWarning(UserWarning):
    """The model itself has to be edited: a place needs a forward multiplier that no weight can absorb."""


def scale(
    factory: Union[str, Callable[[int], Any]],
    base: int,
    target: int,
    optimizer: Union[str, UpdateLaw, Recipe] = "adamw",
    widths: Optional[Sequence[int]] = None,
    *,
    gauge: str = "init",
    loss: Optional[Callable[..., Any]] = None,
) -> Scaling:
    """Exact multipliers that carry hyperparameters tuned at width ``base`` to width ``target``.

    ``factory(width)``, or a target of the command line such as ``"hf:llama"``, is traced under fake tensors at
    ``base``, at ``target`` and at other ``widths`` (by default twice and four times ``base``).  ``optimizer`` and
    ``gauge`` are those of :func:`tpcalc.derive.derive`; in any gauge but ``init`` the model also needs
    :meth:`~tpcalc.scaling.runtime.Multipliers.forward_`, which puts multipliers on its weights.

    Warns with SiteWarning of places that need a forward multiplier.  Raises ScalingError where the code's own init
    can't be read or measured exactly, or where the forward pass reads a weight past the multiplier that the gauge puts
    on it; and what :func:`tpcalc.trace` and :func:`tpcalc.derive` raise.
    """
    traced = traced_widths(base, target, widths)
    factory = factory_of(factory, traced)
    solution = solve(trace(factory, traced, loss=loss))
    how = recipe(optimizer)
    rules = parametrize(solution, how, gauge)
    scaling = Scalings(factory, solution, rules, how).between(base, target)
    for site in rules.sites:
        warnings.warn(f"{site.message} (no multiplier of a weight replaces this)", SiteWarning, stacklevel=2)
    check_reached(scaling, factory, loss)
    return scaling


def traced_widths(base: int, target: int, widths: Optional[Sequence[int]] = None) -> tuple[int, ...]:
    """The widths to trace at: always ``base`` and ``target``, whose sizes and init calls are needed as they are."""
    for name, width in (("base", base), ("target", target)):
        if isinstance(width, bool) or not isinstance(width, int) or width <= 0:
            raise ScalingError(f"{name} width {width!r} is not a positive whole number")
    others = (2 * base, 4 * base) if widths is None else tuple(widths)
    return tuple(sorted({base, target, *others}))


class Scalings:
    """The multipliers of one model under derived ``rules``, between any two of the widths at which it was traced."""

    def __init__(self, factory: Callable[[int], Any], solution: Solution, rules: Parametrization, how: Recipe) -> None:
        weights = solution.lowered.program.weights
        self._solution, self._rules, self._how = solution, rules, how
        self._blocks = {weight.name: solution.needs_of(weight) for weight in weights}
        cut = [leaf for weight in weights if rules[weight.name].slices for leaf, _ in self._blocks[weight.name]]
        self._inits = Inits(factory, solution.lowered.program, cut)
        self._clips = clip_orders(rules, parametrize(solution, how, CLIPPED_AS))

    def between(self, base: int, target: int) -> Scaling:
        """Raises ScalingError where the code's own init is not known exactly."""
        return Scaling(self._document(self._inits.between(base, target), base, target))

    def _document(self, laws: dict[str, Initial], base: int, target: int) -> dict[str, Any]:
        """The document of :func:`tpcalc.document.table.table_json` with its numbers filled in."""
        document = table_json(self._rules)
        document["scale"].update(base=base, target=target)
        for entry in document["weights"]:
            rule = self._rules[entry["name"]]
            found, law = self._blocks[rule.name], laws[rule.name]
            shapes = [[size.at(width) for size in rule.shape] for width in (base, target)]
            fans = _fans(self._solution, found, base, target)
            numbers = _numbers(rule, fans, law, self._how.by_name[rule.optimizer], shapes, self._clips[rule.name])
            entry["shape_at"] = {"base": shapes[0], "target": shapes[1]}
            entry["init_law"] = law.draw
            entry.update(_init_sizes(law, numbers["init"]))
            entry["multipliers"] = numbers
            for piece, shown in zip(rule.slices, entry["slices"], strict=True):
                name = next(leaf.name for leaf, _ in found if leaf.start == piece.start)
                init = _init(name, laws[name], fan_of(self._solution, name, base, target), piece.A, rule.a)
                shown["start_at"] = {"base": piece.start.at(base), "target": piece.start.at(target)}
                shown["length_at"] = {"base": piece.length.at(base), "target": piece.length.at(target)}
                shown.update(_init_sizes(laws[name], init))
                shown["multipliers"] = {"init": init}
        return document


def _init_sizes(law: Initial, init: float) -> dict[str, Any]:
    return {
        "init_std": {"base": law.base.std, "target": law.target.std * init, "code_at_target": law.target.std},
        "init_mean": {"base": law.base.mean, "target": law.target.mean * init, "code_at_target": law.target.mean},
    }


@dataclass(frozen=True)
class _Fans:
    """The fans that bind a weight: its init, its update, and its size, that of the largest of its blocks."""

    init: Fan
    update: Fan
    size: Fan
    least: Order


def _fans(solution: Solution, found: Sequence[tuple[Leaf, Need]], base: int, target: int) -> Optional[_Fans]:
    """From the blocks of a weight and their needs; None for a weight without a path to an output."""
    if not found:
        return None
    fastest, largest = max(found, key=lambda pair: pair[1].C), min(found, key=lambda pair: pair[1].A)
    init, update, size = (leaf.name for leaf, _ in (found[0], fastest, largest))
    fans = {name: fan_of(solution, name, base, target) for name in {init, update, size}}
    return _Fans(fans[init], fans[update], fans[size], largest[1].A)


def _numbers(
    rule: Rule,
    fans: Optional[_Fans],
    law: Initial,
    trained_by: UpdateLaw,
    shapes: Sequence[Sequence[int]],
    clip: Fraction,
) -> dict[str, Any]:
    """The multipliers of one weight (eps: None where its optimizer has none), each evaluated once from exact ratios."""
    if fans is None:
        ones = dict.fromkeys(("init", "lr", "weight_decay", "eps", "clip", "forward"), 1.0)
        return {**ones, "eps": None if rule.eps is None else 1.0}
    width = fans.update.ratios.width
    lr = [*fans.update.update_factors(Order(rule.C))]
    if trained_by.shape is not None:  # true lengths of the matrix
        base, target = (trained_by.shape(shape[0], math.prod(shape[1:])) for shape in shapes)
        lr += [(there / here, -exponent) for (here, exponent), (there, _) in zip(base, target, strict=True)]
        lr += [(width, trained_by.shift * rule.a)]
    elif trained_by.relative:  # the size of the weight, in true lengths
        lr += [(ratio, -exponent) for ratio, exponent in fans.size.init_factors(fans.least)]
    else:
        lr += [(width, -(rule.c - rule.C))]
    inverse: list[Factor] = [(ratio, -exponent) for ratio, exponent in lr]
    return {
        "init": _init(rule.name, law, fans.init, rule.A, rule.a),
        "lr": power_product(lr),
        "weight_decay": power_product([*inverse, (width, rule.weight_decay - rule.c)]),
        "eps": None if rule.eps is None else power_product([(width, rule.eps)]),
        "clip": power_product([(width, -clip)]),
        "forward": power_product([(width, -rule.a)]),
    }


def _init(name: str, law: Initial, fan: Fan, A: Fraction, a: Fraction) -> float:
    """On the code's own init, of the parameter behind a multiplier ``n^-a``."""
    init = 1.0 if law.is_zero else power_product([law.ratio, *fan.init_factors(Order(A)), (fan.ratios.width, a)])
    if not math.isfinite(init) or init <= 0:
        raise ScalingError(f"the init multiplier of {name} comes out as {init}; check its init at both widths")
    return init


#: The gauge whose global gradient norm multipliers clip by.
CLIPPED_AS = "mup"


def clip_orders(rules: Parametrization, standard: Parametrization) -> dict[str, Fraction]:
    """x in "a gradient counts n^-x in the global norm", for each weight.

    The norm is measured as in the gauge of TP5, Table 8 (``standard``; a readout multiplied by 1/n in the forward pass,
    attention by 1/d), where no weight outgrows the others: the parameter there is ``n^theta`` times the one here with
    ``theta = a_standard - a``, its gradient ``n^-theta`` times.  What all of them have in common (a net without hidden
    layers: n^-1/2) is divided out, so that one threshold clips alike at all widths.
    """
    common = fraction(finite(standard.clipping.norm))
    return {rule.name: standard[rule.name].a - rule.a + common for rule in rules.values()}
