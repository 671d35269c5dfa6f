"""Check: train for real at several widths, and compare every measured slope with the order that the calculus predicts.

::

    result = tpcalc.check(factory, widths=(64, 128, 256, 512))
    print(result); result.ok; result.failures

A coordinate check with a verdict.  Predictions are worst case over alignment: a slope above its prediction fails, one
below is fine, except that each weight's own update must move what the weight makes by as much as predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

from tpcalc.check.result import Entry, Result
from tpcalc.optimizers import Recipe, UpdateLaw, recipe

__all__ = ["Entry", "Result", "check"]

WIDTHS = (64, 128, 256, 512)
TOLERANCE = 0.15
PARAMETRIZATIONS = ("derived", "standard")


def check(
    factory: Callable[[int], Any],
    widths: Sequence[int] = WIDTHS,
    optimizer: Union[str, UpdateLaw, Recipe] = "adamw",
    *,
    steps: int = 5,
    seeds: Union[int, Sequence[int]] = 3,
    parametrization: str = "derived",
    tolerance: float = TOLERANCE,
    lr: Optional[float] = None,
    weight_decay: float = 0.0,
    eps: Optional[float] = None,
    batch: Optional[Any] = None,
    loss: Optional[Callable[..., Any]] = None,
    build: Optional[Callable[..., Any]] = None,
    progress: bool = False,
) -> Result:
    """Train ``factory(width)`` for ``steps`` steps at each width and seed, and compare slopes with predictions.

    ``parametrization``: ``derived`` applies the derived rules, relative to the smallest width; ``standard`` keeps the
    code's own init and one learning rate, and is judged by what the derived rules promise.  ``lr``, ``weight_decay``
    and ``eps`` are those at the smallest width; by default lr and eps are each optimizer's.  ``batch``:
    ``batch(width)`` gives the inputs, or an iterable of inputs, cycled through; by default the factory's own.
    ``loss(output)``: by default the model's own, or cross-entropy against fixed random classes (on an output that
    grows, the squared distance to random numbers, averaged).  ``optimizer`` is one of :func:`tpcalc.derive.solve`;
    ``build(groups)`` makes it from param groups with lr, weight_decay and eps, by default torch's or a small one of
    ours (:mod:`tpcalc.check.reference`).  ``progress``: a bar on stderr, if that is a terminal.

    Raises TpcalcError where the model can't be traced or trained, or an argument is wrong.
    """
    from tpcalc.check.compare import Settings, run_check

    settings = Settings(
        tuple(widths),
        recipe(optimizer),
        steps,
        tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        parametrization,
        tolerance,
        lr,
        weight_decay,
        eps,
    )
    return run_check(factory, settings, batch=batch, loss=loss, build=build, progress=progress)
