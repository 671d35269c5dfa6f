"""Check of a set-up: somebody's own model, init and optimizers, trained as they are, against what they ought to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.scales import Place, Point
from tpcalc.check.effects import Use, predicted
from tpcalc.check.inputs import as_inputs
from tpcalc.check.predict import Prediction, greatest
from tpcalc.check.training import Start
from tpcalc.optimizers import SGD, UpdateLaw
from tpcalc.trace.record import build
from tpcalc.verify.built import holds_optimizer
from tpcalc.verify.case import Case
from tpcalc.verify.findings import Report
from tpcalc.verify.gather import built_by, gather
from tpcalc.verify.report import report_of


def is_setup(factory: Callable[..., Any], place: Place) -> bool:
    """Whether a target returns an optimizer, and not a model alone.  False where it can't be called: its trace says
    why.
    """
    try:
        call = partial(factory, **place.by_name) if isinstance(place, Point) else partial(factory, place)
        return holds_optimizer(build(call, nullcontext()))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False


@dataclass(frozen=True)
class Own:
    """Training by the optimizers of a set-up, at the peak of their schedules; every rate times ``slower``."""

    steps: int
    slower: float = 1.0
    warm_up: int = 0

    def slowed(self, slower: float) -> Own:
        return replace(self, slower=slower)

    def start(self, setup: Callable[..., Any], width: Any) -> Start:
        """A model, its inputs and its optimizers as they are."""
        built = built_by(setup, width)[0]
        for group in built.groups:
            if group["lr"] is not None:
                group["lr"] = group["lr"] * self.slower
        return built.model, as_inputs(built.inputs), lambda: built.optimizers


@dataclass(frozen=True)
class Ought:
    """What a set-up ought to do, what its own numbers do in the limit, and what its verification found.

    ``wanted``: under the maximal parametrization.  ``expected``: as given.  ``chosen``: the uses at which the effect
    of each weight is measured.  ``eps``: the largest epsilon, None where there is none.
    """

    case: Case
    report: Report
    wanted: Prediction
    expected: Prediction
    chosen: dict[str, list[Use]]
    eps: Optional[float]

    @property
    def laws(self) -> dict[str, UpdateLaw]:
        return {weight.name: self.case.given[weight.name].law or SGD for weight in self.case.program.weights}

    @property
    def optimizers(self) -> str:
        """Names of those that train a weight."""
        return " and ".join(dict.fromkeys(own.optimizer for own in self.case.given.values() if own.optimizer))

    @property
    def scheduled(self) -> tuple[str, ...]:
        live = next(iter(self.case.gathered.live.values()))
        return tuple(scheduler.name for scheduler in live.schedulers)


def ought(setup: Callable[[int], Any], name: str, widths: Sequence[int], loss: Optional[Callable[..., Any]]) -> Ought:
    """Verify a set-up, and predict with and without its faults.

    Raises TpcalcError where it can't be run, traced or read.
    """
    case = Case.of(gather(setup, widths, loss))
    lowered = case.lowered
    wanted, chosen = greatest(lowered, case.maximal)
    facts = case.followed
    effects = {name: max(predicted(lowered, facts, use) for use in found) for name, found in chosen.items()}
    held = [own.eps for live in case.gathered.live.values() for own in live.settings.values() if own.eps is not None]
    return Ought(case, report_of(case, name), wanted, Prediction(facts, effects), chosen, max(held, default=None))


__all__ = ["Ought", "Own", "is_setup", "ought"]
