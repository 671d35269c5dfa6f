"""One structure, many readings: a reading is one question, asked of every structure.

What comes out (:mod:`~tpcalc.calculus.laws`), what is asked of the operands (:mod:`~tpcalc.calculus.demands`), by how
much they may change (:mod:`~tpcalc.calculus.allowed`), which of them is at fault (:mod:`~tpcalc.calculus.causes`): each
reading is a module, and a table with one law for each structure of :mod:`tpcalc.rules.structures`.  A structure that a
reading has nothing to say of is silent in it, with the reason in words.  The table is complete when its module has been
imported; a structure that it does not know is an error, never a default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Optional, Protocol, TypeVar

from tpcalc.lower.lowered import Lowered
from tpcalc.rules import structures as module
from tpcalc.rules.structures import Atom, Structure

#: A value id.  Operands are ids once a program is lowered to atoms; only in rules may they be structures.
Id = Any

#: Every structure that an atom may have.
STRUCTURES: tuple[type[Structure], ...] = tuple(
    kind
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Structure) and kind is not Structure
)

L = TypeVar("L", bound=Callable[..., Any])


class Reading(dict[type[Structure], L]):
    """A question asked of every structure: structure -> its law.

    ``silent_on``: structure -> why there is nothing to say.  ``unasked``: structures whose law also speaks where
    nothing is asked of the result (:meth:`pass_on`).
    """

    def __init__(self, name: str, question: str) -> None:
        super().__init__()
        self.name, self.question = name, question
        self.silent_on: dict[type[Structure], str] = {}
        self.unasked: set[type[Structure]] = set()

    def law(self, *kinds: type[Structure], unasked: bool = False) -> Callable[[L], L]:
        """Register the decorated function as the law of these structures; one each."""

        def register(function: L) -> L:
            for kind in kinds:
                self._refuse(kind)
                self[kind] = function
                if unasked:
                    self.unasked.add(kind)
            return function

        return register

    def silent(self, *kinds: type[Structure], why: str) -> None:
        """There is nothing to say of these structures."""
        for kind in kinds:
            self._refuse(kind)
            self.silent_on[kind] = why

    def _refuse(self, kind: type[Structure]) -> None:
        if kind not in STRUCTURES:
            raise ValueError(f"{kind.__name__} is no structure of {module.__name__}")
        if kind in self:
            raise ValueError(f"{kind.__name__} already has a law in the reading {self.name!r}")
        if kind in self.silent_on:
            raise ValueError(f"{kind.__name__} is silent in the reading {self.name!r}: {self.silent_on[kind]}")

    def complete(self) -> None:
        """Raise LookupError unless every structure has a law or a reason for silence."""
        missing = [kind.__name__ for kind in STRUCTURES if kind not in self and kind not in self.silent_on]
        if missing:
            raise LookupError(
                f"the reading {self.name!r} ({self.question}) has neither a law nor a reason for silence for "
                f"{', '.join(missing)}"
            )

    def __missing__(self, kind: type[Structure]) -> L:
        why = self.silent_on.get(kind, "it does not know this structure")
        raise LookupError(f"the reading {self.name!r} ({self.question}) has no law for {kind.__name__}: {why}")

    def of(self, structure: Structure) -> Optional[L]:
        """The law of a structure, None where the reading is silent on it."""
        kind = type(structure)
        law = self.get(kind)
        return self[kind] if law is None and kind not in self.silent_on else law

    def pass_on(self, atom: Atom, asked: Any, state: Any) -> None:
        """Let the law of an atom turn what is ``asked`` of its result (None: nothing) into what it asks of operands."""
        law = self.of(atom.structure)
        if law is not None and (asked is not None or type(atom.structure) in self.unasked):
            law(atom.structure, asked, state, atom)


class Backward(Protocol):
    """What :func:`back` needs of the state of a pass."""

    def asked_of(self, atom: Atom) -> Iterable[Any]:
        """All that is asked of the result of ``atom``."""


def forth(
    reading: Reading[L], atoms: Iterable[Atom], known: tuple[Any, ...], keep: Callable[[Atom, Any], None]
) -> None:
    """Read atoms in order of execution: ``keep`` gets what the law of each says, from what is ``known``.

    None where the reading is silent.
    """
    for atom in atoms:
        law = reading.of(atom.structure)
        keep(atom, None if law is None else law(atom.structure, *known))


def back(reading: Reading[L], lowered: Lowered, state: Backward) -> None:
    """Read the atoms of the forward pass from the last to the first, each once all that use its result have spoken."""
    for atom in reversed(lowered.atoms[: lowered.forward]):
        for asked in state.asked_of(atom):
            reading.pass_on(atom, asked, state)


__all__ = ["STRUCTURES", "Backward", "Id", "Reading", "back", "forth"]
