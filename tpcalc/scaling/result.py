"""The multipliers of one model between two places, applied to real training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tpcalc.derive.result import Parametrization
from tpcalc.document.assumed import assumed_json
from tpcalc.errors import ScalingError
from tpcalc.horizon import Horizon
from tpcalc.optimizers import UpdateLaw
from tpcalc.scaling.exported import Exported, assumed
from tpcalc.scaling.runtime import Multipliers
from tpcalc.scaling.weight import Weight


class Scaling(Exported, Multipliers):
    """What was exported (:class:`~tpcalc.scaling.exported.Exported`) with what puts it to use: ``init_``,
    ``param_groups``, ``clip_grad_norm_``, ``forward_``, ``set_lr`` and ``check_``."""

    error = ScalingError

    def __init__(self, document: dict[str, Any]) -> None:
        Exported.__init__(self, document)
        Multipliers.__init__(self, self._weights.values(), assumed(document))

    def under(self, horizon: Horizon, laws: Mapping[str, UpdateLaw]) -> "Scaling":
        """With a rule for batch size and length on top; ``laws``: the update laws by name.

        Raises ScalingError where its source says nothing of one that trains a weight here.
        """
        used = [laws[name] for name in dict.fromkeys(weight.optimizer for weight in self.values())]
        for law in used:
            horizon.check_law(law)
        return Scaling({**self.document, "assumed": assumed_json(horizon, used)})


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
