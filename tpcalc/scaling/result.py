"""The multipliers of one model between two widths: saved, loaded, printed and applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from tpcalc.algebra.scales import place_text, scales_text
from tpcalc.derive.result import Parametrization
from tpcalc.document import json_text
from tpcalc.document.assumed import assumed_json
from tpcalc.document.multipliers import check, read
from tpcalc.errors import ScalingError
from tpcalc.files import write_atomic
from tpcalc.horizon import Horizon
from tpcalc.optimizers import UpdateLaw
from tpcalc.scaling.runtime import Assumed, Multipliers, Weight
from tpcalc.show import Shown


class Scaling(Shown, Multipliers, Mapping[str, Weight]):
    """A mapping from parameter name to :class:`~tpcalc.scaling.runtime.Weight`; a tied weight stands under each name.

    Its ``init``, ``lr``, ``weight_decay``, ``eps``, ``clip`` and ``forward`` are the multipliers.  The blocks of a
    packed weight that need different ones have each their own init in ``slices``, which ``init_`` applies; the rest
    they share.

    ``document`` is the content of ``multipliers.json``, exponents included.  Treat it as read-only.
    """

    error = ScalingError

    def __init__(self, document: dict[str, Any]) -> None:
        check(document)
        self.document = document
        super().__init__(weights(document), assumed(document))

    def under(self, horizon: Horizon, laws: Mapping[str, UpdateLaw]) -> "Scaling":
        """With a rule for batch size and length on top; ``laws``: the update laws by name.

        Raises ScalingError where its source says nothing of one that trains a weight here.
        """
        used = [laws[name] for name in dict.fromkeys(weight.optimizer for weight in self.values())]
        for law in used:
            horizon.check_law(law)
        return Scaling({**self.document, "assumed": assumed_json(horizon, used)})

    @property
    def assumed(self) -> Optional[Mapping[str, Any]]:
        """A stated rule for batch size and length (:mod:`tpcalc.horizon`), apart from what is derived; else None."""
        return self.document.get("assumed")

    @property
    def optimizer(self) -> str:
        return self.document["optimizer"]

    @property
    def gauge(self) -> str:
        """Where the sizes stand (:mod:`tpcalc.derive.gauge`); in any but ``init`` the model needs :meth:`forward_`."""
        return self.document.get("gauge", "init")

    @property
    def base(self) -> Any:
        """The width at which hyperparameters were tuned; of several scales the value of each, by name."""
        return self._end("base")

    @property
    def target(self) -> Any:
        """That which the multipliers are for."""
        return self._end("target")

    def _end(self, which: str) -> Any:
        return self.document["scale"][which] if "scale" in self.document else self.document[which]

    @property
    def ends(self) -> tuple[str, str]:
        """Both in words: ``width 64``, or ``width=64, depth=2``."""
        return _words(self.base), _words(self.target)

    @property
    def way(self) -> str:
        """``width 64 -> 256``, or ``width=64, depth=2 -> width=256, depth=8``."""
        base, target = self.ends
        return f"{base} -> {target.removeprefix('width ')}"

    @property
    def sites(self) -> tuple[str, ...]:
        """Places that need a forward multiplier in the model's own code, one sentence each."""
        return tuple(site["message"] for site in self.document["sites"])

    def __getitem__(self, name: str) -> Weight:
        return self._table[name][0]

    def __iter__(self) -> Iterator[str]:
        return (entry["name"] for entry in self.document["weights"])

    def __len__(self) -> int:
        return len(self.document["weights"])

    def save(self, path: Union[str, Path]) -> None:
        """Write ``multipliers.json``, whole or not at all."""
        write_atomic(path, json_text(self.document))

    @classmethod
    def load(cls, path: Union[str, Path]) -> "Scaling":
        """Read ``multipliers.json``, executing nothing; a file of another kind or version raises ScalingError."""
        return cls(read(path))

    def __repr__(self) -> str:
        return f"<Scaling {self.optimizer}, {self.way}, {len(self)} parameters>"


def _words(end: Any) -> str:
    return scales_text(end) if isinstance(end, dict) else place_text(end)


class Unscaled(Multipliers):
    """Every multiplier 1: the code's own init, and one learning rate for all weights at every width."""

    error = ScalingError

    def __init__(self, weights: Iterable[Weight]) -> None:
        super().__init__(weights)

    @classmethod
    def of(cls, rules: Parametrization, width: int) -> "Unscaled":
        """For the weights of ``rules`` at a width."""
        return cls(
            one(rule.name, [size.at(width) for size in rule.shape], rule, rule.aliases)
            for name, rule in rules.items()
            if name == rule.name
        )


def one(name: str, shape: Sequence[int], rule: Any, aliases: Sequence[str]) -> Weight:
    """A weight that has a ``rule`` and is multiplied by nothing."""
    return Weight(
        name=name,
        blocks=(),
        shape=tuple(shape),
        init=1.0,
        lr=1.0,
        weight_decay=1.0,
        eps=None if rule.eps is None else 1.0,
        clip=1.0,
        draw=("other", 0.0, 0.0),
        optimizer=rule.optimizer,
        aliases=tuple(aliases),
    )


def assumed(document: Mapping[str, Any]) -> dict[str, Assumed]:
    """The factors of a stated rule for each optimizer; empty where nothing is assumed."""
    laws = (document.get("assumed") or {}).get("laws", {})
    return {
        law: Assumed(**{key: float(own["factor"]) for key, own in quantities.items() if own is not None})
        for law, quantities in laws.items()
    }


def weights(document: Mapping[str, Any]) -> list[Weight]:
    """One Weight for each parameter of the document; a tied one once, with its other names as aliases."""
    return [_weight(entry) for entry in document["weights"] if entry["tied_to"] is None]


def _weight(entry: Mapping[str, Any]) -> Weight:
    numbers = entry["multipliers"]
    slices = tuple(_block(piece) for piece in entry["slices"] if "multipliers" in piece)
    return Weight(
        name=entry["name"],
        blocks=(),
        shape=tuple(entry["shape_at"]["target"]),
        init=float(numbers["init"]),
        lr=float(numbers["lr"]),
        weight_decay=float(numbers["weight_decay"]),
        eps=None if numbers["eps"] is None else float(numbers["eps"]),
        clip=float(numbers["clip"]),
        draw=(entry["init_law"], float(entry["init_mean"]["target"]), float(entry["init_std"]["target"])),
        optimizer=entry["optimizer"],
        aliases=tuple(entry["aliases"]),
        forward=float(numbers.get("forward", 1.0)),
        slices=slices if any(init != numbers["init"] for *_, init in slices) else (),
    )


def _block(piece: Mapping[str, Any]) -> tuple[int, int, int, float]:
    return piece["dim"], piece["start_at"]["target"], piece["length_at"]["target"], float(piece["multipliers"]["init"])
