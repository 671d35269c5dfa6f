"""What an optimizer does, read by running it: a copy of the live one on small real tensors with made gradients.

:mod:`copy` puts a stand-in into a copy of it, :mod:`key` tells which are stepped alike, :mod:`samples` makes gradients
and weights, :mod:`bench` takes the steps, :mod:`slopes` reads exponents off them, :mod:`measure` tells what they are
of, :mod:`epsilon` and :mod:`decay` what stands in them, :mod:`late` what comes after many steps, :mod:`law` finds the
update law that says the same; :mod:`apart` asks whether groups may have rates of their own.  Names are hypotheses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, Union

from tpcalc.probe.apart import one_rate
from tpcalc.probe.bench import Bench, Slow
from tpcalc.probe.copy import Subject, Unprobable, number
from tpcalc.probe.key import options
from tpcalc.probe.law import Found, exponent, law_of_measured
from tpcalc.probe.measure import Measured, measure, settled
from tpcalc.probe.samples import Kind
from tpcalc.probe.slopes import by_width

#: Readings of this process, by all that decides them; the oldest half goes where there are MOST.
_READ: dict[object, Union[Measured, float, Unprobable]] = {}
T = TypeVar("T")
MOST = 512


def probe(subject: Subject, kind: Kind, decay: bool = True) -> Measured:
    """Read a parameter's optimizer on shapes of one kind; ``decay``: also how decay enters where it is 0.

    Raises Unprobable where its step can't be taken, or follows no power law.
    """
    bench = Bench(subject, kind)
    return _kept((*_key(subject, kind), decay or bench.decays), lambda: measure(bench, decay))


def strength(subject: Subject, kind: Kind) -> float:
    """Of its update once momentum has settled; raises Unprobable where its step can't be taken."""
    return _kept((*_key(subject, kind), "strength"), lambda: settled(Bench(subject, kind)))


def _key(subject: Subject, kind: Kind) -> tuple[object, ...]:
    return options(subject), kind.growths, kind.base


def _kept(key: object, read: Callable[[], T]) -> T:
    found: Any = _READ.get(key)
    if found is None:
        try:
            found = read()
        except (Unprobable, Slow) as error:
            found = Unprobable(*error.args)
        for old in list(_READ)[: MOST // 2] if len(_READ) >= MOST else ():
            del _READ[old]
        _READ[key] = found
    if isinstance(found, Unprobable):
        raise Unprobable(*found.args)
    return found


__all__ = [
    "Found", "Kind", "Measured", "Subject", "Unprobable", "by_width", "exponent", "law_of_measured", "number",
    "one_rate", "options", "probe", "strength",
]  # fmt: skip
