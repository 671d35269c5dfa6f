"""Recipes: which law trains which weight.

``adamw`` trains everything.  ``muon+adamw`` is Muon for the hidden matrices and AdamW for the rest, as Muon is used
(Jordan et al. 2024): a matrix of two axes that both grow, met by values that grow.  A function that makes an optimizer
is read by running what it makes (:mod:`tpcalc.probe`), for each kind of weight.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

from tpcalc.algebra.order import Order
from tpcalc.errors import DeriveError
from tpcalc.late import late
from tpcalc.optimizers.law import LAWS, UpdateLaw, plain_name

#: Other names -> the name of a law.
ALIASES = {
    "momentum": "sgd",
    "nesterov": "sgd",
    "sgdm": "sgd",
    "signsgd": "sign",
    "signum": "sign",
    "atan2": "adam_atan2",
    "adamatan2": "adam_atan2",
    "muon_original": "muon",
    "moonlight": "muon_match_rms_adamw",
    "muon_moonlight": "muon_match_rms_adamw",
    "muon_match_rms": "muon_match_rms_adamw",
    "scion": "muon_spectral",
    "k_fac": "kfac",
    "adafactor_relative": "adafactor",
    "adafactor_hf": "adafactor_transformers",
}
#: What trains the rest beside a law that takes matrices only.
BESIDE_MUON = "adamw"


@dataclass(frozen=True)
class Recipe:
    """``rest`` trains every weight that ``matrices`` does not; ``matrices`` None: one law trains all."""

    rest: UpdateLaw
    matrices: Optional[UpdateLaw] = None

    @property
    def name(self) -> str:
        return self.rest.name if self.matrices is None else f"{self.matrices.name}+{self.rest.name}"

    @property
    def laws(self) -> tuple[UpdateLaw, ...]:
        return (self.rest,) if self.matrices is None else (self.matrices, self.rest)

    @property
    def by_name(self) -> dict[str, UpdateLaw]:
        return {law.name: law for law in self.laws}

    def law_for(self, role: str, axes: Sequence[Order], lengths: Sequence[int] = ()) -> UpdateLaw:
        """The law of a weight with this role and these growths of its axes; ``lengths``: at the smallest width."""
        hidden_matrix = role == "hidden" and len(axes) == 2 and all(growth > 0 for growth in axes)
        return self.matrices if self.matrices is not None and hidden_matrix else self.rest


@dataclass(frozen=True)
class LiveRecipe(Recipe):
    """The laws that the optimizer of a function called ``made_by`` shows.  ``law_of``: growths and lengths -> law."""

    made_by: str = ""
    law_of: Optional[Callable[[tuple[Order, ...], tuple[int, ...]], UpdateLaw]] = None
    found: dict[tuple[tuple[Order, ...], tuple[int, ...]], UpdateLaw] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.made_by

    @property
    def laws(self) -> tuple[UpdateLaw, ...]:
        """Those of the weights that were asked for, with all that is to be noted of each."""
        notes: dict[str, dict[str, None]] = {}
        for law in self.found.values():
            notes.setdefault(law.name, {})[law.note] = None
        named = {law.name: law for law in self.found.values()}
        return tuple(replace(law, note="; ".join(filter(None, notes[name]))) for name, law in named.items())

    def law_for(self, role: str, axes: Sequence[Order], lengths: Sequence[int] = ()) -> UpdateLaw:
        key = tuple(axes), tuple(lengths)
        if key not in self.found:
            assert self.law_of is not None
            self.found[key] = self._told_apart(self.law_of(*key))
        return self.found[key]

    def _told_apart(self, law: UpdateLaw) -> UpdateLaw:
        """Two laws have two names."""
        names = {other.name: other for other in self.found.values()}
        number, name = 1, law.name
        while name in names and names[name] != replace(law, name=name, note=names[name].note):
            number, name = number + 1, f"{law.name}_{number + 1}"
        return replace(law, name=name)


#: What needs torch: imported when a live optimizer is given.
_live = late("tpcalc.verify", dict.fromkeys(("of_factory", "of_target"), "tpcalc.verify.factory"))


def update_law(name: str) -> UpdateLaw:
    """The law called ``name`` (or one of its other names); raises DeriveError for an unknown one."""
    plain = plain_name(name)
    law = LAWS.get(ALIASES.get(plain, plain))
    if law is None:
        close = difflib.get_close_matches(plain, [*LAWS, *ALIASES], n=2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise DeriveError(
            f"optimizer {name!r} has no update law here; {hint}choose one of {', '.join(sorted(LAWS))}, a recipe such "
            f"as muon+adamw, or declare your own with tpcalc.optimizer"
        )
    return law


def recipe(optimizer: Union[str, UpdateLaw, Recipe, Callable[..., Any]]) -> Recipe:
    """Read ``"adamw"`` or ``"muon+adamw"`` (hidden matrices + the rest), or a function from parameters to an optimizer
    (as such, or as ``file.py:function``).

    ``"muon"`` alone means ``"muon+adamw"``: it takes matrices only.  Raises DeriveError for what is no recipe.
    """
    if isinstance(optimizer, Recipe):
        return optimizer
    if isinstance(optimizer, UpdateLaw):
        return Recipe(optimizer)
    if callable(optimizer) or (isinstance(optimizer, str) and ":" in optimizer):
        made: Recipe = _live("of_factory" if callable(optimizer) else "of_target")(optimizer)
        return made
    if not isinstance(optimizer, str):
        raise DeriveError(f"optimizer {optimizer!r} is no name and no UpdateLaw; give a name such as 'adamw'")
    first, plus, second = optimizer.partition("+")
    if plus and ("+" in second or not first.strip() or not second.strip()):
        raise DeriveError(
            f"optimizer {optimizer!r} is no recipe; write two names, the one for hidden matrices first: muon+adamw"
        )
    law = update_law(first)
    if plus:
        rest = update_law(second)
        if rest.name.startswith("muon"):
            mended = f"{rest.name}+{BESIDE_MUON if law.name.startswith('muon') else law.name}"
            raise DeriveError(f"{rest.name} trains matrices only, and so can't be the second; write {mended}")
        return Recipe(rest, law)
    return Recipe(update_law(BESIDE_MUON), law) if law.name.startswith("muon") else Recipe(law)


__all__ = ["ALIASES", "LiveRecipe", "Recipe", "recipe", "update_law"]
