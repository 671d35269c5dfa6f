"""The numbers of one parameter in the document of its multipliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tpcalc.scaling.initial import Initial
from tpcalc.scaling.numbers import Stretch, block_init, numbers

__all__ = ["filled"]


def filled(
    entry: dict[str, Any],
    way: Stretch,
    name: str,
    laws: Mapping[str, Initial],
    shapes: Sequence[Sequence[int]],
) -> None:
    """Fill in all that is null in the ``entry`` of a parameter that has the rule of ``name``.

    ``laws``: how the code initialises it, and each of its blocks, by their names; ``shapes``: true ones at both ends.
    """
    rule, before, law = way.at_target.rules[name], way.at_base.rules[name], laws[name]
    found = numbers(way, name, law, shapes)
    entry["shape_at"] = {"base": list(shapes[0]), "target": list(shapes[1])}
    entry["init_law"] = law.draw
    entry.update(_init_sizes(law, found["init"]))
    entry["multipliers"] = found
    blocks = way.at_target.blocks(rule.name) if entry["slices"] else ()
    for index, (shown, (leaf, _)) in enumerate(zip(entry["slices"], blocks, strict=True)):
        # where blocks do not differ in a cone, each has what the weight has
        at_target, at_base = (each.slices[index] if each.slices else each for each in (rule, before))
        init = block_init(way, leaf.name, laws[leaf.name], (at_base.A, before.a), (at_target.A, rule.a))
        assert leaf.start is not None and leaf.length is not None
        shown["start_at"] = {"base": leaf.start.at(way.sized[0]), "target": leaf.start.at(way.sized[1])}
        shown["length_at"] = {"base": leaf.length.at(way.sized[0]), "target": leaf.length.at(way.sized[1])}
        shown.update(_init_sizes(laws[leaf.name], init))
        shown["multipliers"] = {"init": init}


def _init_sizes(law: Initial, init: float) -> dict[str, Any]:
    return {
        "init_std": {"base": law.base.std, "target": law.target.std * init, "code_at_target": law.target.std},
        "init_mean": {"base": law.base.mean, "target": law.target.mean * init, "code_at_target": law.target.mean},
    }
