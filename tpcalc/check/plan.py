"""What one check trains and expects: along the width here, along a ray of several scales in
:mod:`tpcalc.check.several`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from tpcalc.check.fading import Fading
from tpcalc.check.predict import Prediction, compared, standard, wanted
from tpcalc.check.seen import Probe
from tpcalc.check.settings import Settings
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.solve import solve
from tpcalc.optimizers import UpdateLaw
from tpcalc.scaling.compute import Scalings
from tpcalc.scaling.result import Unscaled
from tpcalc.scaling.runtime import Multipliers
from tpcalc.trace import trace


@dataclass(frozen=True)
class Plan:
    """``laws``: of each weight.  ``multipliers``: by place.  ``promised``: by the derived rules; ``expected``: of what
    is trained.  ``sites``: places in the code that need a multiplier, a sentence each.  ``fading``: along a depth, what
    is promised while a part of the stream fades.
    """

    settings: Settings
    laws: Mapping[str, UpdateLaw]
    multipliers: Mapping[Any, Multipliers]
    promised: Prediction
    expected: Prediction
    probe: Probe
    sites: tuple[str, ...]
    fading: Optional[Fading] = None

    @property
    def used(self) -> dict[str, UpdateLaw]:
        """The laws that train a weight, by their names."""
        return {law.name: law for law in self.laws.values()}


def along_the_width(factory: Callable[[int], Any], settings: Settings, loss: Optional[Callable[..., Any]]) -> Plan:
    """The check of one width.  Raises TpcalcError where the model can't be traced or has no rules."""
    how = settings.optimizers
    program = trace(factory, settings.widths, loss=loss)
    settings = replace(settings, widths=program.widths)
    solution = solve(program)
    lowered, rules = solution.lowered, parametrize(solution, how)
    laws = {weight.name: how.by_name[rules[weight.name].optimizer] for weight in program.weights}
    promised, chosen = wanted(lowered, rules)
    multipliers: dict[int, Multipliers]
    if settings.derived:
        expected = promised
        scalings = Scalings(factory, solution, rules, how)
        multipliers = {width: scalings.between(program.widths[0], width) for width in program.widths}
    else:
        expected = standard(lowered, laws, chosen)
        multipliers = {width: Unscaled.of(rules, width) for width in program.widths}
    probe = Probe(lowered, frozenset(compared(lowered, promised.facts)), chosen)
    sites = tuple(site.message for site in rules.sites)
    return Plan(settings, laws, multipliers, promised, expected, probe, sites)


__all__ = ["Plan", "along_the_width"]
