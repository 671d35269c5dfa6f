"""Commands that train at several sizes: does a learning rate carry over, and tune small to train big."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tpcalc.algebra.scales import scales_of
from tpcalc.cli.given import loaded, parse_overrides, parse_place, values_of_scales, whole_numbers
from tpcalc.cli.options import (
    Batch,
    Debug,
    DepthAlpha,
    Horizon,
    HorizonExponent,
    Optimizer,
    Overrides,
    Target,
    Tokens,
    choice,
)
from tpcalc.cli.workers import LEDGER, Workers, directory_for, ledger_in
from tpcalc.console import EXIT_FINDINGS, columns, emit, library
from tpcalc.errors import TpcalcError
from tpcalc.files import check_own, write_atomic
from tpcalc.progress import tell
from tpcalc.report import FORMATS, render
from tpcalc.show import draw

if TYPE_CHECKING:
    from tpcalc.transfer.run import Trainer

#: Those of this module, in the order of ``tpcalc --help``.
commands = typer.Typer()

Train = Annotated[
    Optional[str],
    typer.Option(
        "--train",
        metavar="FILE.PY:CALLABLE",
        help="The loop, train(model, optimizer, context) -> loss [default: on the target's inputs].",
    ),
]
Directory = Annotated[
    Optional[str],
    typer.Option("--output", "-o", metavar="DIR", help="A directory for results, and runs to go on from after a kill."),
]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes that share the runs (needs -o).")]
Storage = Annotated[
    Optional[str],
    typer.Option("--storage", metavar="URL", help="Where runs are noted [default: DIR/runs.log]; any Optuna storage."),
]
Ray = Annotated[
    Optional[str], typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: its address, auto, or local.")
]
Device = Annotated[str, typer.Option("--device", help="Where models are trained: cpu, cuda, ...")]
Helper = Annotated[bool, typer.Option("--helper", hidden=True, help="Do runs alone, for another process.")]


@commands.command()
def transfer(
    context: typer.Context,
    target: Target,
    scale: Annotated[
        list[str],
        typer.Option(
            "--scale",
            metavar="NAME=VALUES",
            help=(
                "Sizes, the base first: width=64,128,256,512. May be repeated: scales with several values grow "
                "together, one value keeps a scale where it is."
            ),
        ),
    ],
    lr: Annotated[str, typer.Option("--lr", metavar="LOW:HIGH", help="Learning rates.")] = "1e-4:1e-1",
    points: Annotated[int, typer.Option("--points", help="How many, evenly spaced in the logarithm.")] = 7,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of every run.")] = 200,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of every point.")] = 3,
    train: Train = None,
    optimizer: Optimizer = "adamw",
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="As at the base.")] = 0.0,
    recipe: Annotated[
        Optional[str],
        typer.Option("--recipe", metavar="DIR", help="Of tpcalc tune: try its constants too, with and without powers."),
    ] = None,
    max_drift: Annotated[
        Optional[float],
        typer.Option(
            "--max-drift",
            help="Exit with 1 where the derived optimum drifts by more, in log2, or is at an end of the grid.",
        ),
    ] = None,
    format: Annotated[str, choice(FORMATS["transfer"], "--format", "How to print the result.")] = "text",
    directory: Directory = None,
    processes: Processes = 1,
    storage: Storage = None,
    ray: Ray = None,
    depth_alpha: DepthAlpha = "1",
    device: Device = "cpu",
    overrides: Overrides = None,
    helper: Helper = False,
    debug: Debug = False,
) -> int:
    """Sweep the learning rate at several sizes, under standard parametrization and the derived rules."""
    with library(None):
        values = {name: whole_numbers(name, text, positive=True) for name, text in values_of_scales(scale).items()}
        ends = _ends(lr)
        if max_drift is not None and not 0 <= max_drift < math.inf:  # which no drift is more than
            raise TpcalcError(
                f"--max-drift {max_drift:g} is no bound; give a finite number, 0 or more, in log2 of rates"
            )
        from tpcalc.transfer.sweep import Sweep

        constants: Any = {}
        eps = 1e-8
        found = None
        if recipe is not None:
            from tpcalc.tune.recipe import load_recipe

            found = load_recipe(recipe)
            if weight_decay not in (0.0, found.base.weight_decay):
                raise TpcalcError(f"{recipe} has weight_decay={found.base.weight_decay:g}; leave --weight-decay out")
            constants, weight_decay, eps = found.constants, found.base.weight_decay, found.base.eps
        sweep = Sweep.of(values, ends, points, steps, seeds, weight_decay, eps, constants)
        make = partial(_sweeping, target, sweep, optimizer, train, device, depth_alpha, overrides)
        workers = Workers(context.obj or (), processes, ray, partial(_runner, make), helper, device)
        folder = directory_for(directory, storage, processes, _check_own, plots=True)
        sweeping = make()
        if found is not None:
            found.check(sweep.places[0], sweeping.how.how.name)
        ledger = ledger_in(folder, storage, sweeping)
        with workers.started():
            result = sweeping.result(ledger, workers.executor, partial(tell, "training"), workers.wait)
        if helper:
            return 0
        if folder is not None:
            write_atomic(folder / "transfer.json", render("transfer", "json", result))
            write_atomic(folder / "transfer.txt", render("transfer", "text", result))
            draw(result, folder / "transfer.png")
        astray = max_drift is not None and not result.drifts_within("derived", max_drift)
    emit(render("transfer", format, result, **columns(format, None)), None, colours=format == "text")
    return EXIT_FINDINGS if astray else 0


@commands.command()
def tune(
    context: typer.Context,
    target: Target,
    base: Annotated[str, typer.Option("--base", metavar="PLACE", help="Where to search: 64, or width=64,depth=2.")],
    target_place: Annotated[
        str, typer.Option("--target", metavar="PLACE", help="Where to train at the end: 512, or width=512,depth=8.")
    ],
    train: Train = None,
    space: Annotated[
        Optional[str],
        typer.Option(
            "--space",
            metavar="RANGES",
            help=(
                "lr=1e-4:1e-1,embedding.lr=0.1:10,readout.init=0.1:1,weight_decay=0.1: of the base, and constants of "
                "modules or name patterns; default,... adds to the default ones."
            ),
        ),
    ] = None,
    trials: Annotated[
        Optional[int], typer.Option("--trials", min=1, help="Short runs [default: what --share pays for].")
    ] = None,
    share: Annotated[float, typer.Option("--share", help="What tuning may cost, of one target run.")] = 0.07,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the longest runs at the base.")] = 200,
    target_steps: Annotated[
        Optional[int], typer.Option("--target-steps", min=1, help="Steps of the target run [default: --steps].")
    ] = None,
    optimizer: Optimizer = "adamw",
    seed: Annotated[int, typer.Option("--seed", help="Of the models, the data and the search.")] = 0,
    sampler: Annotated[str, typer.Option("--sampler", help="Of Optuna: tpe or random.")] = "tpe",
    format: Annotated[str, choice(FORMATS["tune"], "--format", "How to print the result.")] = "text",
    directory: Directory = None,
    processes: Processes = 1,
    storage: Storage = None,
    ray: Ray = None,
    depth_alpha: DepthAlpha = "1",
    device: Device = "cpu",
    scale: Annotated[
        Optional[list[str]],
        typer.Option("--scale", metavar="NAME=VALUES", help="Values to trace at [default: 1, 2 and 4 times the base]."),
    ] = None,
    batch: Batch = None,
    tokens: Tokens = None,
    horizon: Horizon = None,
    horizon_exponent: HorizonExponent = None,
    overrides: Overrides = None,
    helper: Helper = False,
    debug: Debug = False,
) -> None:
    """Search hyperparameters and constants of modules at a small size, and write the recipe of a large one."""
    with library(None):
        ends = [parse_place(text, option) for text, option in ((base, "--base"), (target_place, "--target"))]
        make = partial(_tuning, target, ends[0], ends[1], train, scale, overrides)
        make = partial(make, space=space, trials=trials, share=share, steps=steps, target_steps=target_steps)
        make = partial(make, optimizer=optimizer, seed=seed, sampler=sampler, depth_alpha=depth_alpha, device=device)
        make = partial(make, batch=batch, tokens=tokens, horizon=horizon, horizon_exponent=horizon_exponent)
        workers = Workers(context.obj or (), processes, ray, partial(_runner, make), helper, device)
        from tpcalc.tune.recipe import check_directory, write_recipe

        folder = directory_for(directory, storage, processes, check_directory)
        tuning = make()
        ledger = ledger_in(folder, storage, tuning)
        with workers.started():
            result = tuning.result(ledger, workers.executor, partial(tell, "tuning"), workers.wait)
        if helper:
            return
        if folder is not None:
            write_recipe(result, folder)
    text = render("tune", format, result, **columns(format, None))
    emit(text, None, result.scaling.sites, colours=format == "text")


def _check_own(folder: Path) -> None:
    marks = {"transfer.json": '"schema": "tpcalc.transfer/', "transfer.txt": "Transfer of the learning rate"}
    check_own(folder, marks, ("transfer.png", *marks, LEDGER))


def _sweeping(
    target: str,
    sweep: Any,
    optimizer: str,
    train: Optional[str],
    device: str,
    depth_alpha: str,
    overrides: Optional[list[str]],
) -> Any:
    from tpcalc.transfer.sweep import Sweeping

    values = {name: tuple(place[name] for place in sweep.places) for name in sweep.places[0]}
    return Sweeping(sweep, _trainer(target, values, optimizer, train, device, overrides), depth_alpha)


def _tuning(
    target: str,
    base: Any,
    to: Any,
    train: Optional[str],
    scale: Optional[list[str]],
    overrides: Optional[list[str]],
    **options: Any,
) -> Any:
    from tpcalc.scaling.several import values_between
    from tpcalc.trace.target import parse_scales
    from tpcalc.tune.search import Tuning

    ends = [scales_of(end) for end in (base, to)]
    traced = parse_scales(values_of_scales(scale)) if scale else None
    values = values_between(ends[0], ends[1], traced)
    made = _factory(target, values, overrides)
    return Tuning.of(made, ends[0], ends[1], loaded(train), **options, traced=traced)


def _trainer(
    target: str,
    values: dict[str, tuple[int, ...]],
    optimizer: str,
    train: Optional[str],
    device: str,
    overrides: Optional[list[str]],
) -> Trainer:
    """How a target is trained at places of these ``values``, the base first."""
    from tpcalc.transfer.run import trainer

    known = {name: tuple(sorted({*own, 2 * own[0], 4 * own[0]})) for name, own in values.items()}
    return trainer(_factory(target, known, overrides), optimizer, loaded(train), device)


def _factory(target: str, values: dict[str, tuple[int, ...]], overrides: Optional[list[str]]) -> Any:
    """That of a target which has to fit these ``values`` of its scales; of the width alone it takes no names."""
    from tpcalc.trace.target import factory_of

    given = parse_overrides(overrides or ())
    if set(values) == {"width"}:
        return factory_of(target, values["width"], given)
    return factory_of(target, None, given, values)


def _runner(make: Any) -> Any:
    """What does a job, in a process of its own."""
    with library(None):
        return make().run()


def _ends(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise TpcalcError(f"--lr {text} is no range; write two learning rates, as 1e-4:1e-1") from None
