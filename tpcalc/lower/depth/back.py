"""The backward pass of a stack: which terms of a gradient come from the branches of every period."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Optional

from tpcalc.lower.depth.graph import Graph
from tpcalc.lower.lowered import Lowered
from tpcalc.program.queries import reach
from tpcalc.rules.structures import Atom, Contract, Gather, Scale, Sum, View, operands


class Back:
    """Gradients of one stack.

    ``stream``: gradients of the stream, ``inner``: of what the branches make.  A term of a gradient of the stream that
    is reached from later gradients of the stream only through inner ones comes from a branch.
    """

    def __init__(self, lowered: Lowered, values: Collection[int], inside: Collection[int]) -> None:
        grads = {**dict(lowered.program.seeds), **lowered.program.grads}
        self.stream = {grads[vid] for vid in values if vid in grads}
        self.inner = {grads[vid] for vid in inside if vid in grads} - self.stream
        self.made: Mapping[int, Atom] = {atom.out: atom for atom in lowered.atoms[lowered.forward :]}

    def branch_terms(self, gradient: int) -> Iterator[tuple[int, int]]:
        """Sum and operand of every term of a gradient of the stream that a branch gives."""
        for total, term in self.terms(gradient):
            carried, branch = self._comes_from(term, gradient)
            if branch and not carried:
                yield total, term

    def signed(self, term: int, matrices: Collection[int], graph: Graph) -> bool:
        """Whether all ways from gradients of the stream to a term lead through one of ``matrices``."""

        def onward(vid: int) -> tuple[int, ...]:
            atom = self.made.get(vid)
            if atom is None or (isinstance(atom.structure, Contract) and self._meets(atom, matrices, graph)):
                return ()
            return operands(atom.structure)

        met: Iterator[int] = reach([term], onward)
        return not any(vid in self.stream for vid in met)

    def _meets(self, atom: Atom, matrices: Collection[int], graph: Graph) -> bool:
        """Whether an operand is one of ``matrices``, or one that is picked of several."""
        for x in operands(atom.structure):
            vid: int = x
            while (made := graph.maker.get(vid)) is not None and isinstance(made.structure, (View, Gather, Scale)):
                vid = made.structure.x  # type: ignore[assignment]
            if vid in matrices:
                return True
        return False

    def from_behind(self) -> Iterator[int]:
        """The gradients of the stream that come from behind the stack alone."""
        for gradient in self.stream & self.made.keys():
            found = [self._comes_from(x, gradient) for x in operands(self.made[gradient].structure)]
            if not any(carried or branch for carried, branch in found):
                yield gradient

    def entries(self, owners: Mapping[int, int]) -> Iterator[tuple[int, int, int]]:
        """Where gradients of the stream enter a branch: the result of the reader, the gradient, the branch.

        ``owners``: gradient of what a branch makes, or of a weight in it -> the branch.
        """
        readers: dict[int, list[int]] = {}
        for atom in self.made.values():
            for x in dict.fromkeys(operands(atom.structure)):
                readers.setdefault(x, []).append(atom.out)
        for gradient in sorted(self.stream):
            for reader in readers.get(gradient, ()):
                # as far as the next gradient of the stream, or one of what a branch makes
                met = reach([reader], lambda vid: () if vid in self.stream or vid in owners else readers.get(vid, ()))
                ends = {vid for vid in met if vid in self.stream or vid in owners} - {gradient}
                found = {None if vid in self.stream else owners[vid] for vid in ends}
                if len(found) == 1 and (owner := found.pop()) is not None:
                    yield reader, gradient, owner

    def terms(self, gradient: int) -> Iterator[tuple[int, int]]:
        """Sum and operand of every term of a gradient that is added up."""
        atom = self.made.get(gradient)
        while atom is not None and isinstance(atom.structure, View):
            atom = self.made.get(atom.structure.x)  # type: ignore[arg-type]
        if atom is None or not isinstance(atom.structure, Sum):
            return
        stack = [atom]
        while stack:
            total = stack.pop()
            for x in operands(total.structure):
                inner: Optional[Atom] = self.made.get(x)
                if inner is not None and isinstance(inner.structure, Sum) and x not in self.stream | self.inner:
                    stack.append(inner)
                else:
                    yield total.out, x

    def _comes_from(self, term: int, gradient: int) -> tuple[bool, bool]:
        """Whether a term comes from a later gradient of the stream as it is, and whether from a branch."""

        def onward(vid: int) -> tuple[int, ...]:
            made = None if vid in self.stream or vid in self.inner else self.made.get(vid)
            return () if made is None else operands(made.structure)

        met = set(reach([term], onward)) - {gradient}
        return not met.isdisjoint(self.stream), not met.isdisjoint(self.inner)


__all__ = ["Back"]
