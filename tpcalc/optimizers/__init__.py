"""Update laws of optimizers, by kind: :mod:`linear`, :mod:`entrywise`, :mod:`relative`, :mod:`matrix`; and recipes.

The rules of a model do not depend on its optimizer up to this point: ``A`` and ``C`` of every weight are those of the
forward pass.  An :class:`UpdateLaw` turns them into learning rate, weight decay and epsilon.
"""

from tpcalc.optimizers.entrywise import ADAM, ADAMW
from tpcalc.optimizers.law import (
    AFTER_NORMALISING,
    COUPLED,
    DECOUPLED,
    INDEPENDENT,
    INSIDE_ROOT,
    LAWS,
    LINEAR,
    SCALED_WITH_THE_RATE,
    Decay,
    Epsilon,
    UpdateLaw,
    WeightView,
    finite,
    optimizer,
    plain_name,
)
from tpcalc.optimizers.linear import SGD
from tpcalc.optimizers.matrix import muon_law
from tpcalc.optimizers.recipe import LiveRecipe, Recipe, recipe, update_law
from tpcalc.optimizers.relative import ADAFACTOR

__all__ = [
    "ADAFACTOR",
    "ADAM",
    "ADAMW",
    "AFTER_NORMALISING",
    "COUPLED",
    "DECOUPLED",
    "INDEPENDENT",
    "INSIDE_ROOT",
    "LAWS",
    "LINEAR",
    "LiveRecipe",
    "SCALED_WITH_THE_RATE",
    "SGD",
    "Decay",
    "Epsilon",
    "Recipe",
    "UpdateLaw",
    "WeightView",
    "finite",
    "muon_law",
    "optimizer",
    "plain_name",
    "recipe",
    "update_law",
]
