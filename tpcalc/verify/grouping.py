"""One finding for all weights and sites that fail alike: repeated blocks, twins, all weights of one role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from tpcalc.algebra.order import Order
from tpcalc.program.names import fold_names, starred
from tpcalc.verify.findings import SEVERITY, Finding, Fix, plain
from tpcalc.verify.words import NUMBERS, say

#: Folded names listed at most in one subject.
LISTED = 5


@dataclass(frozen=True)
class Item:
    """A finding about one weight or one site, before those of one cause are put together.

    ``text``: what breaks; ``fix``: what to do.  ``site``: where it is about a site, with the ``weights`` that suffer.
    ``also``: what else must agree for two items to be one finding.  ``block``: the block of the weight that it is
    about, where they are judged apart.  ``fixes``: the same as ``fix``, to be applied.
    """

    kind: str
    quantity: str
    found: Optional[Order]
    needed: Optional[Order]
    effect: Optional[Order]
    where: str
    text: str
    fix: str
    weights: tuple[str, ...] = ()
    also: tuple[object, ...] = ()
    block: str = ""
    site: str = ""
    severity: str = ""
    fixes: tuple[Fix, ...] = ()

    @property
    def weight(self) -> str:
        """The weight that it is about; empty for a site."""
        return "" if self.site else self.weights[0]

    @property
    def key(self) -> tuple[object, ...]:
        fixes = tuple((fix.quantity, fix.by, fix.to) for fix in self.fixes)
        return self.kind, self.quantity, self.found, self.needed, self.also, self.severity, starred(self.site), fixes


def grouped(items: Iterable[Item], total: int) -> list[Finding]:
    """One finding for all items of one cause; the first speaks for it.  ``total``: number of weights of the program."""
    groups: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        groups.setdefault(item.key, []).append(item)
    return [_finding(group, total) for group in groups.values()]


def _finding(group: Sequence[Item], total: int) -> Finding:
    first = group[0]
    names = tuple(dict.fromkeys(name for item in group for name in item.weights))
    if first.site:
        sites = dict.fromkeys(item.site for item in group)
        subject = ", ".join(fold_names(sites)) if len(sites) > 1 else first.site
    elif any(item.block for item in group):
        subject = _subject(dict.fromkeys(item.block or item.weight for item in group))
    else:
        subject = f"all {total} weights" if len(names) == total > 1 else _subject(names)
    numbers = ""
    if first.found is not None and first.needed is not None:
        numbers = say(NUMBERS, quantity=first.quantity, found=first.found, needed=first.needed)
    message = f"{numbers}{first.text}; {first.fix}"
    severity = first.severity or SEVERITY[first.kind]
    exponents = first.quantity, plain(first.found), plain(first.needed)
    fixes = tuple(dict.fromkeys(fix.plain() for item in group for fix in item.fixes))
    return Finding(first.kind, severity, subject, *exponents, first.where, message, names, first.effect, fixes)


def _subject(names: Iterable[str]) -> str:
    """Names with repeated blocks folded, and siblings in braces: ``layers.{0,1}.attention.{wq,wk}.weight``."""
    siblings: dict[tuple[str, str], list[str]] = {}
    for name in fold_names(names):
        parts = re.split(r"\.(?![^{]*\})", name)  # not the dots of {0..3}
        *before, middle, last = parts if len(parts) > 1 else [name, ""]
        siblings.setdefault((".".join(before), last), []).append(middle)
    joined = [
        ".".join(filter(None, (before, middle[0] if len(middle) == 1 else "{" + ",".join(middle) + "}", last)))
        for (before, last), middle in siblings.items()
    ]
    more = f" and {len(joined) - LISTED} more" if len(joined) > LISTED else ""
    return ", ".join(joined[:LISTED]) + more


__all__ = ["Item", "grouped"]
