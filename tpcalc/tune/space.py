"""What is searched: a range of each hyperparameter of the base, and of each constant of a module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from tpcalc.check.optimizers import BUILT
from tpcalc.errors import TpcalcError
from tpcalc.optimizers import Recipe
from tpcalc.transfer.run import Base
from tpcalc.transfer.sizes import Sizes
from tpcalc.transfer.tuned import KINDS

__all__ = ["DEFAULT", "Space", "default_space", "parse_space"]

#: The word for the default space, to which more can be added.
DEFAULT = "default"
PLAIN = tuple(field.name for field in fields(Base))
#: Of a learning rate, around the usual one of its optimizer; of the constants of modules.  Inits that are too small
#: cost little, those that are too large much (a readout may start at zero: TP5, appendix D.2), so they reach further
#: down.
AROUND = (0.1, 100.0)
RATES, INITS, OF_HIDDEN = (1 / 4, 4.0), (1 / 16, 2.0), (1 / 4, 4.0)


@dataclass(frozen=True)
class Space:
    """``ranges``: name -> the ends between which it is log-uniform; equal ends: a number that stays."""

    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            selector, _, kind = name.rpartition(".")
            if kind not in (KINDS if selector else PLAIN):
                known = ", ".join(KINDS if selector else PLAIN)
                what = f"{selector}.{kind}" if selector else name
                raise TpcalcError(
                    f"{what} is nothing that is tuned; choose one of {known}, or of a module, as embedding.lr"
                )
            stays = low == high and not selector and name != "lr"
            if not (math.isfinite(high) and low <= high and (low > 0 or (stays and low == 0))):
                raise TpcalcError(
                    f"{name}={low:g}:{high:g} is no range; give two positive numbers, the smaller first, or one to keep"
                )
        if "lr" not in self.ranges:
            raise TpcalcError("the space has no lr; give its range, as lr=1e-4:1e-1")
        if not self.free:
            raise TpcalcError("the space has one number for everything, and nothing to search; give a range of one")

    @property
    def free(self) -> tuple[str, ...]:
        """What is searched, not what stays."""
        return tuple(name for name, (low, high) in self.ranges.items() if low < high)

    @property
    def selectors(self) -> tuple[str, ...]:
        """The modules, and patterns of names, that have constants."""
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.ranges if "." in name))

    def own(self, lr: float) -> dict[str, float]:
        """The numbers of the model as it is, at a learning rate: constants 1, or as near as their ranges have it."""
        plain = {"lr": lr, "weight_decay": 0.0, "eps": Base(lr).eps}
        return self.within({name: plain.get(name, 1.0) for name in self.ranges})

    def within(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The nearest numbers that lie in their ranges, to six digits: what is written is what was run."""
        return {name: min(max(float(f"{numbers[name]:.6g}"), low), high) for name, (low, high) in self.ranges.items()}


def parse_space(text: str, default: Space) -> Space:
    """``lr=1e-4:1e-1,embedding.lr=0.1:10,weight_decay=0.1``; with ``default`` among them these on top of it."""
    ranges: dict[str, tuple[float, float]] = {}
    more: Mapping[str, tuple[float, float]] = {}
    for part in (part.strip() for part in text.split(",")):
        if part == DEFAULT:
            more = default.ranges
            continue
        name, equals, values = (each.strip() for each in part.partition("="))
        ends = values.split(":")
        try:
            numbers = [float(end) for end in ends]
        except ValueError:
            numbers = []
        if not name or not equals or len(numbers) not in (1, 2):
            raise TpcalcError(
                f"{part!r} is no part of a space; write lr=1e-4:1e-1,embedding.init=0.1:10,weight_decay=0.1"
            )
        if name in ranges:
            raise TpcalcError(f"the space gives {name} twice; give it once")
        ranges[name] = (numbers[0], numbers[-1])
    return Space({**more, **ranges})


def default_space(sizes: Sizes, how: Recipe) -> Space:
    """The learning rate, and of each module that the model has the constants of lr and init.

    Left out are those that another one stands for: the learning rate of hidden matrices beside the plain one, a module
    of the very weights of another (a tied readout), the init of what starts at zero, or at one for a norm to have.
    """
    usual = min((BUILT[law.name].rate for law in how.laws if law.name in BUILT), default=1e-3)
    ranges: dict[str, tuple[float, float]] = {"lr": (usual * AROUND[0], usual * AROUND[1])}
    base = sizes.scaling(sizes.base)
    seen: set[frozenset[str]] = set()
    for module, names in sizes.members().items():
        if names in seen or module == "bias":
            continue
        seen.add(names)
        if module != "hidden":
            ranges[f"{module}.lr"] = RATES
        drawn = any(base[name].draw[0] != "constant" for name in names)
        if drawn and module != "router":
            ranges[f"{module}.init"] = OF_HIDDEN if module == "hidden" else INITS
    return Space(ranges)
