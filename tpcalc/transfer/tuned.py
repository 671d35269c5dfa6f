"""Numbers of modules on top of the powers: constants, tuned at the base, that are the same at every size.

The theory fixes how each weight follows the sizes and leaves a constant free, for its learning rate, its init and its
decay (TP5, section 6: lr, init and multipliers of input, hidden and output weights are tuned on the proxy).  A model
brings some constants with it, and multipliers that are 1 at the base keep them for ever; these here change them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tpcalc.errors import TpcalcError
from tpcalc.scaling.result import Scaling
from tpcalc.transfer.modules import selected

__all__ = ["KINDS", "Constants", "check_constants", "tuned", "unscaled"]

#: What a module has a constant of: the learning rate, the init, the weight decay as the optimizer is given it.
KINDS = ("lr", "init", "weight_decay")
#: A module, or a pattern of names -> kind -> constant.  Of several that select a weight, all apply.
Constants = Mapping[str, Mapping[str, float]]


def check_constants(constants: Constants) -> None:
    """Raise TpcalcError unless each is a positive number of a known kind."""
    for selector, numbers in constants.items():
        if not isinstance(numbers, Mapping):
            raise TpcalcError(f"the constants of {selector} are {numbers!r}; give each by its kind, as {{'lr': 2.0}}")
        for kind, number in numbers.items():
            if kind not in KINDS:
                raise TpcalcError(f"{selector}.{kind} is nothing that is tuned; choose one of {', '.join(KINDS)}")
            whole = isinstance(number, (int, float)) and not isinstance(number, bool)
            if not (whole and math.isfinite(number) and number > 0):
                raise TpcalcError(f"{selector}.{kind} = {number} is no constant; give a positive number")


def tuned(scaling: Scaling, constants: Constants, modules: Mapping[str, frozenset[str]]) -> Scaling:
    """The multipliers of ``scaling`` times the constants of the modules that each weight is in."""
    check_constants(constants)

    def change(names: tuple[str, ...], numbers: dict[str, Any]) -> None:
        found = dict.fromkeys(KINDS, 1.0)
        for selector, own in constants.items():
            if any(selected(selector, name, modules) for name in names):
                found.update({kind: found[kind] * number for kind, number in own.items()})
        for kind in numbers.keys() & found:
            numbers[kind] *= found[kind]

    return _changed(scaling, change)


def unscaled(scaling: Scaling) -> Scaling:
    """Standard parametrization at the target of ``scaling``: every multiplier 1, the code's own init."""

    def change(names: tuple[str, ...], numbers: dict[str, Any]) -> None:
        numbers.update({key: None if number is None else 1.0 for key, number in numbers.items()})

    return _changed(scaling, change)


def _changed(scaling: Scaling, change: Callable[[tuple[str, ...], dict[str, Any]], None]) -> Scaling:
    """``change``: changes the numbers of a weight, or the init of a block of a packed one, given all its names."""
    document = json.loads(json.dumps(scaling.document))  # and not a copy, in which entries share what they share
    for entry in document["weights"]:
        names = (entry["name"], *entry["aliases"])
        for numbers in (entry, *(piece for piece in entry["slices"] if "multipliers" in piece)):
            change(names, numbers["multipliers"])
            for size in (numbers["init_std"], numbers["init_mean"]):
                size["target"] = size["code_at_target"] * numbers["multipliers"]["init"]
    if document.get("patterns") is not None:
        document.update(patterns=None, no_patterns="the numbers of modules were changed for one target")
    return Scaling(document)
