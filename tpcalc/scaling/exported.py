"""The multipliers of one model between two places as a document: saved, loaded, printed; without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from tpcalc.algebra.scales import place_text, scales_text
from tpcalc.document import json_text
from tpcalc.document.multipliers import check, read
from tpcalc.files import write_atomic
from tpcalc.scaling.assumed import Assumed
from tpcalc.scaling.weight import Weight
from tpcalc.show import Shown

_Self = TypeVar("_Self", bound="Exported")


class Exported(Shown, Mapping[str, Weight]):
    """A mapping from parameter name to :class:`~tpcalc.scaling.weight.Weight`; a tied weight stands under each name.

    Its ``init``, ``lr``, ``weight_decay``, ``eps``, ``clip`` and ``forward`` are the multipliers.  The blocks of a
    packed weight that need different ones have each their own init in ``slices``; the rest they share.

    ``document`` is the content of ``multipliers.json``, exponents included.  Treat it as read-only.  What applies it
    to a real model is :class:`~tpcalc.scaling.result.Scaling`.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        check(document)
        self.document = document
        self._weights = {name: weight for weight in weights(document) for name in (weight.name, *weight.aliases)}

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
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return (entry["name"] for entry in self.document["weights"])

    def __len__(self) -> int:
        return len(self.document["weights"])

    def save(self, path: Union[str, Path]) -> None:
        """Write ``multipliers.json``, whole or not at all."""
        write_atomic(path, json_text(self.document))

    @classmethod
    def load(cls: type[_Self], path: Union[str, Path]) -> _Self:
        """Read ``multipliers.json``, executing nothing; a file of another kind or version raises ScalingError."""
        return cls(read(path))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.optimizer}, {self.way}, {len(self)} parameters>"


def _words(end: Any) -> str:
    return scales_text(end) if isinstance(end, dict) else place_text(end)


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
