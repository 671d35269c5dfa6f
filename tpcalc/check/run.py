"""A check: derive, predict, train at every width and seed with the exported multipliers, measure, judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Optional, Union

from tpcalc.algebra.scales import Point, place_text
from tpcalc.check.optimizers import Build, Built, built
from tpcalc.check.own import Own, is_setup, ought
from tpcalc.check.plan import Plan, along_the_width
from tpcalc.check.predict import compared
from tpcalc.check.rates import BENT, STRAIGHT, bearable
from tpcalc.check.result import FADES, Result, ScaledResult
from tpcalc.check.seen import Probe
from tpcalc.check.settings import OWN, TOLERANCE, WIDTHS, Settings
from tpcalc.check.several import along_rays, moving
from tpcalc.check.training import Batch, Loss, Run, Trainer, Training
from tpcalc.check.verdicts import Judge
from tpcalc.derive.api import OF_A_DEPTH, depth_exponent
from tpcalc.derive.result import site_notes
from tpcalc.errors import SetupError, TpcalcError
from tpcalc.optimizers import LiveRecipe, Recipe, UpdateLaw, recipe
from tpcalc.progress import shown, steps
from tpcalc.trace.target import name_of, parse_widths


def check(
    factory: Callable[..., Any],
    widths: Sequence[int] = WIDTHS,
    optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]] = "adamw",
    *,
    steps: int = 5,
    seeds: Union[int, Sequence[int]] = 3,
    parametrization: str = "derived",
    tolerance: float = TOLERANCE,
    lr: Optional[float] = None,
    weight_decay: float = 0.0,
    eps: Optional[float] = None,
    batch: Optional[Batch] = None,
    loss: Optional[Loss] = None,
    build: Optional[Build] = None,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
    depth_alpha: Any = 1,
    progress: bool = False,
) -> Any:
    """Train ``factory(width)`` for ``steps`` steps at each width and seed, and compare slopes with predictions.

    ``parametrization``: ``derived`` trains with the multipliers that :func:`tpcalc.scale` gives from the smallest width
    to each; ``standard`` keeps the code's own init and one learning rate, and is judged by what the derived rules
    promise.  ``lr``, ``weight_decay`` and ``eps`` are those at the smallest width; by default lr and eps are each
    optimizer's.  ``batch``: ``batch(width)`` gives the inputs, or an iterable of inputs, cycled through; by default the
    factory's own.  ``loss(output)``: by default the model's own, or cross-entropy against fixed random classes (on an
    output that grows, the squared distance to random numbers, averaged).  ``optimizer`` is one of
    :func:`tpcalc.derive`; ``build(groups)`` makes it from param groups with lr, weight_decay and eps, by default
    torch's or a small one of ours (:mod:`tpcalc.check.reference`).  ``progress``: a bar on stderr, if that is a
    terminal.

    A ``factory`` that returns an optimizer is a set-up (:func:`tpcalc.verify`), and trained as it is.

    ``scales``: several by name, ``{"width": 64, "depth": (2, 4, 8, 16)}``, which the factory and ``batch`` take by name
    (:func:`tpcalc.trace`).  Each scale with three or more values is checked along them, everything else at its first
    one.  The result is then a :class:`~tpcalc.check.result.ScaledResult`, with one Result a scale that moves, else a
    :class:`~tpcalc.check.result.Result`.  ``depth_alpha`` is that of :func:`tpcalc.derive`.

    Raises TpcalcError where the model can't be traced or trained, or an argument is wrong.
    """
    each = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    several = None if scales is None else moving(scales)
    if several is not None and set(several) == {"width"}:
        widths, several = several["width"], None
    if several is not None:
        if is_setup(factory, Point(tuple(several), (values[0] for values in several.values()))):
            raise TpcalcError("a set-up is checked along its width alone; check its model along other scales")
    elif is_setup(factory, min(parse_widths(widths))):
        for word, given in (("lr", lr), ("eps", eps), ("build", build), ("weight_decay", weight_decay or None)):
            if given is not None:
                raise TpcalcError(f"a set-up is trained by its own optimizer; drop {word}, or change the set-up")
        if parametrization != "derived":
            raise TpcalcError("a set-up has a parametrization of its own; check its model alone for another one")
        return check_setup(factory, widths, steps, each, tolerance, batch, loss, progress)
    how = recipe(optimizer)
    settings = Settings(tuple(widths), how, steps, each, parametrization, tolerance, lr, weight_decay, eps)
    if isinstance(how, LiveRecipe):
        raise TpcalcError(
            f"tpcalc check trains by update laws and not by {how.name}; name the law, and give the optimizer as build="
        )
    makers = {law.name: built(law.name, build) for law in how.laws}  # before anything slow
    run = partial(_run, factory, makers=makers, batch=batch, loss=loss, progress=progress)
    if several is None:
        if depth_exponent(depth_alpha) != 1:
            raise TpcalcError(OF_A_DEPTH)
        return run(along_the_width(factory, settings, loss))
    plans = list(along_rays(factory, several, settings, depth_alpha, loss))
    return ScaledResult(tuple(map(run, plans)))


def _run(
    factory: Callable[..., Any],
    plan: Plan,
    makers: Mapping[str, Built],
    batch: Optional[Batch],
    loss: Optional[Loss],
    progress: bool,
) -> Result:
    """Train at every place and seed of a plan, and judge."""
    settings, probe = plan.settings, plan.probe
    base, last = settings.places[0], settings.places[-1]
    training = Training(plan.multipliers, {name: makers[name] for name in plan.used}, settings)
    trainer = Trainer(factory, probe, training, batch, loss)
    if settings.lr is None:
        # under the derived rules the base model speaks for all; one rate for all places is hardest on the largest, as
        # are sizes that have not settled
        settled = settings.derived and plan.fading is None
        tried, astray = ((base,), BENT) if settled else ((base, last), STRAIGHT)
        slower = bearable(trainer, tried, settings.seeds[0], astray)
        trainer.training = training = replace(training, slower=slower)
    runs = _run_all(trainer, settings, progress)
    fall = None if plan.fading is None else plan.fading.measured(runs, settings)
    judge = Judge(
        probe.lowered,
        plan.laws,
        settings,
        plan.promised,
        plan.expected,
        probe.uses,
        runs,
        trainer.rounding,
        faded=None if plan.fading is None or fall is None else plan.fading.predict(fall),
    )
    notes = [*site_notes(plan.sites)]
    notes += [law.note for law in plan.used.values() if law.note]
    if training.warm_up:
        notes.append(
            f"steps before those asked for: {training.warm_up}; the first ones of {settings.optimizers.name} do not "
            f"follow its law"
        )
    entries = tuple(judge.entries())
    if fall is not None and any(entry.reason == FADES for entry in entries):
        notes.append(
            f"at init streams fall as {settings.scale}^-{float(fall):g} over these values: what branches add, of "
            f"random signs, fades beside what they start from; slopes are held to what follows from that while it lasts"
        )
    if training.slower != 1:
        notes.append(
            f"learning rates are 1/{1 / training.slower:g} of the usual ones: at larger ones the loss leaves its "
            f"gradient"
        )
    return Result(
        entries=entries,
        parametrization=settings.parametrization,
        optimizer=settings.optimizers.name,
        widths=settings.widths,
        seeds=settings.seeds,
        steps=training.steps,
        tolerance=settings.tolerance,
        slower=training.slower,
        losses=_losses(runs, settings),
        notes=tuple(notes),
        trouble=_trouble(runs),
        base=base.by_name if settings.ray is not None and isinstance(base, Point) else {},
        scale=settings.scale,
    )


def check_setup(
    setup: Callable[[int], Any],
    widths: Sequence[int],
    steps: int,
    each: tuple[int, ...],
    tolerance: float,
    batch: Optional[Batch],
    loss: Optional[Loss],
    progress: bool,
) -> Result:
    """Train what ``setup(width)`` returns by its own optimizer, and compare with what it ought to do: every weight's
    own effect, and every value, as under the maximal parametrization.  ``each``: seeds.

    The causes come from its verification (:func:`tpcalc.verify`).  Raises TpcalcError where it can't be run.
    """
    name = name_of(setup)
    want = ought(setup, name, widths, loss)
    case = want.case
    how = recipe(next(iter(want.laws.values())))
    settings = Settings(case.program.widths, how, steps, each, OWN, tolerance, None, 0.0, want.eps)
    values = frozenset(compared(case.lowered, want.wanted.facts))
    trainer = Trainer(setup, Probe(case.lowered, values, want.chosen), Own(steps), batch, loss, split=True)
    try:
        ends = settings.widths[:: len(settings.widths) - 1]
        slower = bearable(trainer, ends, each[0], BENT)
        as_they_are = {(width, each[0]): trainer.run(width, each[0]) for width in ends} if slower != 1 else {}
        trainer.training = Own(steps, slower)
        runs = _run_all(trainer, settings, progress)
    except TpcalcError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise SetupError(
            f"training what {name} returns raised {type(error).__name__}: {said}; mend it first"
        ) from error
    judge = Judge(
        case.lowered, want.laws, settings, want.wanted, want.expected, want.chosen, runs, trainer.rounding, split=True
    )
    notes = list(want.report.notes)
    if want.scheduled:
        notes.append(f"trained at the peak of the schedule of {want.scheduled[-1]}")
    if slower != 1:
        notes.append(f"learning rates are 1/{1 / slower:g} of its own: at larger ones the loss leaves its gradient")
    return Result(
        entries=tuple(judge.entries()),
        parametrization=OWN,
        optimizer=want.optimizers,
        widths=settings.widths,
        seeds=each,
        steps=steps,
        tolerance=tolerance,
        slower=slower,
        losses=_losses(runs, settings),
        notes=tuple(notes),
        trouble=_trouble({**runs, **as_they_are}),
        name=name,
        findings=want.report.findings,
    )


def _trouble(runs: Mapping[Any, Run]) -> str:
    """What makes any of the runs no training."""
    for (place, seed), run in runs.items():
        if run.trouble:
            return f"at {place_text(place)}, seed {seed}: {run.trouble}"
    return ""


def _losses(runs: Mapping[Any, Run], settings: Settings) -> dict[int, tuple[float, ...]]:
    """Loss at each step, averaged over the seeds."""
    table = {}
    for width, place in zip(settings.widths, settings.places):
        rows = [run.losses for (at, _), run in runs.items() if at == place]
        table[width] = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
    return table


def _run_all(trainer: Trainer, settings: Settings, progress: bool) -> dict[Any, Run]:
    runs = list(product(settings.places, settings.seeds))
    with shown() if progress else nullcontext():
        return {each: trainer.run(*each) for each in steps("training", runs)}
