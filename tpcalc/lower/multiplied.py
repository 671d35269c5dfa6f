"""A lowered program with multipliers written into it: constant powers of the width behind some of its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import count

from tpcalc.algebra.order import Order
from tpcalc.lower.lowered import Lowered
from tpcalc.rules.structures import Atom, Scale, operands, with_operands


def multiplied(lowered: Lowered, by: Mapping[int, Order]) -> Lowered:
    """``lowered`` with each value in ``by``, all of the forward pass, times that power of the width.

    A value keeps its id behind its multiplier; what is further back reads its gradient multiplied as well.  A gradient
    that several values share, as the terms of a sum do, is left as it is: the others are not multiplied.
    """
    program = lowered.program
    gradients = {**program.grads, **dict(program.seeds), **lowered.grads}
    shared = Counter(gradients.values())
    fresh = count(max(*program.values, *(atom.out for atom in lowered.atoms)) + 1)
    atoms: list[Atom] = []
    for atom in lowered.atoms[: lowered.forward]:
        s = atom.structure
        if atom.out in by and isinstance(s, Scale):
            atoms.append(replace(atom, structure=Scale(s.x, s.order + by[atom.out])))
        elif atom.out in by:
            before = next(fresh)
            atoms += [replace(atom, out=before), replace(atom, structure=Scale(before, by[atom.out]))]
        else:
            atoms.append(atom)
    forward, rest = len(atoms), lowered.atoms[lowered.forward :]
    alone = {vid: gradient for vid, gradient in gradients.items() if shared[gradient] < 2 and rest}
    scales = {alone[vid]: order for vid, order in by.items() if vid in alone}
    names: dict[int, int] = {}

    def scaled(gradient: int, node: int) -> None:
        names[gradient] = next(fresh)
        atoms.append(Atom(names[gradient], Scale(gradient, scales[gradient]), node))

    made = {atom.out for atom in rest}
    for gradient in scales:
        if gradient not in made:  # that of an output, which no atom makes
            scaled(gradient, rest[0].node)
    for atom in rest:
        xs = tuple(names.get(x, x) for x in operands(atom.structure))
        atoms.append(replace(atom, structure=with_operands(atom.structure, xs)))
        if atom.out in scales:
            scaled(atom.out, atom.node)
    return replace(lowered, atoms=tuple(atoms), forward=forward)


__all__ = ["multiplied"]
