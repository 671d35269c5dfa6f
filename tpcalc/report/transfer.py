"""A sweep of the learning rate as text: optima by size, their drift, losses at the largest size, cost and advice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Optional

from tpcalc.algebra.scales import scales_text
from tpcalc.report.grid import fitted, itemized, within
from tpcalc.transfer.cost import Cost
from tpcalc.transfer.result import DERIVED, STANDARD, TUNED, UNSCALED, Behind, Curve, Transfer

__all__ = ["cost_text", "counted", "digits", "transfer_text"]

#: What is carried to the largest size -> what it is held against there.
_AGAINST = ((DERIVED, STANDARD), (TUNED, STANDARD), (TUNED, UNSCALED))
_MEANING = {
    STANDARD: "standard: the code's own init, one learning rate",
    DERIVED: "derived: the multipliers of tpcalc",
    TUNED: "tuned: these, with the constants of the recipe",
    UNSCALED: "unscaled: those constants alone",
}


def transfer_text(result: Transfer, width: Optional[int] = None) -> str:
    """``width`` is that of a terminal, in which every number stays whole."""
    sizes = " up to ".join(dict.fromkeys(scales_text(result.places[end]) for end in (0, -1)))
    rows = list(_optima(result))
    lines = [
        f"Transfer of the learning rate of {result.name} with {result.optimizer}: {sizes}, "
        f"{counted(result.seeds, 'seed')}, {counted(result.steps, 'step')}",
        "",
        *fitted(("scales", "parametrization", "optimum", "error", "least loss"), rows, width),
        "",
        "optimum: of the learning rate as at the base, by a parabola; error: over seeds, in log2; least loss: at the "
        "best rate that was tried",
        "; ".join(_MEANING[name] for name in result.parametrizations),
        *_at_largest(result, width),
        *itemized(("remarks", _remarks(result)), ("advice", list(_advice(result))), ("notes", list(result.notes))),
        *_cost(result),
    ]
    return "\n".join(within(lines, width)) + "\n"


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _optima(result: Transfer) -> Iterator[tuple[str, ...]]:
    for place in result.places:
        for name in result.parametrizations:
            curve = result.find(name, place)
            if curve is None:
                continue
            found = curve.optimum
            if found is None:
                yield scales_text(place), name, "all diverged", "", ""
                continue
            rate = f"{found.rate:.3g}{' (end of grid)' if found.edge else ''}"
            yield scales_text(place), name, rate, _error(found.error), _best(curve)[1]


def _error(error: Optional[float]) -> str:
    return "-" if error is None else f"+-{error:.2f}"


def _loss(mean: float, error: float) -> str:
    if not math.isfinite(mean):
        return "diverged"
    return digits(mean) + _give_or_take(error)


def _give_or_take(error: float) -> str:
    return f" +-{error:.1g}" if error else ""


def digits(loss: float) -> str:
    return f"{loss:#.4g}".rstrip(".")


_ENDING = ("at the largest", "drift in log2", "rate carried", "loss with it", "best rate there", "loss with it")


def _endings(result: Transfer) -> Iterator[tuple[str, ...]]:
    """Drift of the optimum, and the loss with the rate of the smallest size beside the best one there."""
    for name in result.parametrizations:
        drift, ending = result.drift(name), result.ending(name)
        moved = "-" if drift is None else f"{drift:+.2f} {_error(result.drift_error(name)).removeprefix('-')}".rstrip()
        carried = ("-", "-") if ending is None else (f"{ending.rate:.3g}", _loss(ending.carried, ending.carried_error))
        yield name, moved, *carried, *_best(result.find(name, result.places[-1]))


def _best(curve: Optional[Curve]) -> tuple[str, str]:
    if curve is None or curve.optimum is None:
        return "-", "-" if curve is None else "diverged"
    rate = curve.rates[curve.best]
    return f"{rate:.3g}", _loss(*curve.at(rate))


def _at_largest(result: Transfer, width: Optional[int]) -> list[str]:
    if len(result.places) == 1:
        return []
    smallest, largest = (scales_text(result.places[end]) for end in (0, -1))
    behind = [found for pair in _AGAINST if (found := result.behind(*pair)) is not None]
    verdicts = [f"{found.ours}, with the best rate of {smallest}, {_held_against(found, largest)}" for found in behind]
    return ["", *fitted(_ENDING, list(_endings(result)), width), *([""] if verdicts else []), *verdicts]


def _held_against(behind: Behind, largest: str) -> str:
    if math.isinf(behind.difference):
        if behind.difference > 0:
            return f"diverges at {largest}"
        return f"trains at {largest}, where {behind.other} diverges at every rate"
    other, error = f"{behind.other} at its own best", _give_or_take(behind.error)
    if behind.no_worse and behind.difference >= -behind.error:
        return f"is as good at {largest} as {other}, within one standard error ({behind.difference:+.2g}{error})"
    word = "better" if behind.no_worse else "worse"
    return f"is {word} at {largest} than {other}, by {abs(behind.difference):.3g}{error}"


def _remarks(result: Transfer) -> list[str]:
    """Ends of the grid, and divergence, in words; what is the same at several sizes once."""
    where: dict[tuple[str, str], list[str]] = {}
    for name in result.parametrizations:
        for curve in (curve for curve in result.curves if curve.parametrization == name):
            for words in _remarks_on(curve):
                where.setdefault((name, words), []).append(scales_text(curve.scales))
    return [f"{name} at {'; '.join(places)}: {words}" for (name, words), places in where.items()]


def _remarks_on(curve: Curve) -> Iterator[str]:
    optimum, runs = curve.optimum, len(curve.rates) * len(curve.losses)
    if optimum is None:
        how = "every run diverged" if curve.diverged == runs else "a run diverged at every learning rate"
        yield f"{how}; try smaller ones than {curve.rates[0]:.3g}"
        return
    if optimum.edge:
        end, beyond = ("smallest", "smaller") if optimum.rate == curve.rates[0] else ("largest", "larger")
        yield (
            f"the optimum is the {end} rate of the grid, {optimum.rate:.3g}, so the true one may be {beyond}, and the "
            f"drift another; extend the grid"
        )
    if curve.diverged:
        yield _divergence(curve, runs)


def _divergence(curve: Curve, runs: int) -> str:
    wild = [rate for rate, mean in zip(curve.rates, curve.means, strict=True) if math.isinf(mean)]
    above = wild[0] > curve.rates[curve.best] and curve.rates[-len(wild) :] == tuple(wild)
    at = f"{wild[0]:.3g}" if len(wild) == 1 else ", ".join(f"{rate:.3g}" for rate in wild)
    at = f"{wild[0]:.3g} and above" if above and len(wild) > 1 else at
    return f"{curve.diverged} of {counted(runs, 'run')} diverged, at {at}"


def _advice(result: Transfer) -> Iterator[str]:
    """Advice is given where the derived rules lose."""
    place = scales_text(result.places[0])
    for advice in result.advice:
        yield (
            f"{advice.module}.{advice.kind} times {advice.factor:.3g} lowers the loss at {place} from "
            f"{digits(advice.before)} by {advice.before - advice.loss:.3g}{_give_or_take(advice.error)}"
        )
    behind = result.behind()
    if result.advice or (behind is not None and not behind.no_worse):
        yield (
            "multipliers keep the ratios between modules that the base has, and one learning rate does not tune these; "
            f"tpcalc tune searches for all of them at {place}"
        )


def _cost(result: Transfer) -> Iterator[str]:
    if result.cost is not None:
        yield ""
        yield cost_text(result.cost, *(scales_text(result.places[end]) for end in (0, -1)))


def cost_text(cost: Cost, base: str, target: str) -> str:
    steps = counted(cost.steps, "step")
    whole = f"{cost.target * cost.steps:.2g}"
    return f"cost: {cost} ({cost.spent:.2g} FLOPs at {base}; {steps} at {target} are {whole})"
