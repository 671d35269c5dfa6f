"""What a verification finds: findings, the exponents behind them, and the report that holds both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Optional, Union

from tpcalc.algebra.form import exact
from tpcalc.algebra.order import Order, order
from tpcalc.algebra.text import powers_text
from tpcalc.show import Shown

ERROR, WARNING = "error", "warning"

EXPLODES, VANISHES, FROZEN, NOT_MAXIMAL = "explodes", "vanishes", "frozen", "not maximal"
ATTENTION, ABSORBED, UNMATCHED = "attention scale", "absorbed multiplier", "unmatched"
SCHEDULE, DECAY, EPS = "schedule", "decay drift", "eps drift"

#: Quantities that are found and needed.
INIT_STD, RATE, MULTIPLIER, WEIGHT_DECAY, EPSILON = "init std", "lr", "multiplier", "weight_decay", "eps"
#: By which a schedule multiplies the rates of all groups.
FACTOR = "lr factor"

KINDS = (EXPLODES, ATTENTION, ABSORBED, UNMATCHED, VANISHES, FROZEN, NOT_MAXIMAL, SCHEDULE, DECAY, EPS)
SEVERITY = {kind: WARNING if kind in (NOT_MAXIMAL, SCHEDULE, DECAY, EPS) else ERROR for kind in KINDS}


#: An exponent as users get it: of one scale a number, of several one by the symbol of each.
Powers = Union[Fraction, Mapping[str, Fraction]]
#: An exponent inside (an order) or as users get it.
Exponent = Union[Order, Fraction]


def plain(exponent: Optional[Exponent]) -> Any:
    """An exponent as users get it, of several scales still a form; None stays None."""
    return None if exponent is None else exact(order(exponent))


@dataclass(frozen=True)
class Fix:
    """One change that mends: ``quantity`` of ``target`` times n^``by``; ``to``: where nothing is there to multiply, it
    is made ~ n^``to``.  Both None: how large it should be is not known.

    ``target``: a weight, one block of a packed weight, or for a multiplier in the forward pass its site.  ``values``:
    the ids of the values behind which that multiplier stands.
    """

    target: str
    quantity: str
    by: Optional[Any] = None
    to: Optional[Any] = None
    values: tuple[int, ...] = field(default=(), repr=False)

    @property
    def key(self) -> tuple[str, str, tuple[int, ...]]:
        """What it changes."""
        return self.target, self.quantity, self.values

    def plain(self) -> Fix:
        """With exponents as users get them."""
        return replace(self, by=plain(self.by), to=plain(self.to))


@dataclass(frozen=True)
class Finding:
    """One cause.  ``found`` and ``needed`` are each x in "``quantity`` ~ n^x"; None where there is no power (a
    learning rate of 0).  Along several scales each exponent is a mapping, symbol of a scale -> x.

    ``subject``: the weights, repeated blocks folded, or the site; ``weights``: every parameter by its full name.
    ``effect``: order of what breaks (of an update too small: how much it moves its result).  ``where``: module and
    source line.  ``trained_by``: the group whose numbers it is about, and the line that made its optimizer, where both
    are known.  ``fixes``: what to change, each tried together with those of all other findings before it is given.
    """

    kind: str
    severity: str
    subject: str
    quantity: str
    found: Optional[Powers]
    needed: Optional[Powers]
    where: str
    message: str
    weights: tuple[str, ...] = ()
    effect: Optional[Union[Order, Powers]] = None
    fixes: tuple[Fix, ...] = ()
    trained_by: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.kind}: {self.subject}: {self.message}"


@dataclass(frozen=True)
class Checked:
    """The exponents of one weight: std ~ n^-b, lr ~ n^-c, weight_decay ~ n^weight_decay, eps ~ n^eps, and what they
    come to: entries ~ n^-A at init, updates ~ n^-C.  ``needed``: the largest that are stable, as (A, C), None for a
    weight no output depends on.  ``blocks``: name and b of each block of a packed weight whose blocks have inits of
    their own; its ``b`` is then that of the largest.
    """

    name: str
    shape: str
    role: str
    optimizer: str
    b: Optional[Powers]
    c: Optional[Powers]
    weight_decay: Optional[Powers]
    eps: Optional[Powers]
    A: Optional[Powers]
    C: Optional[Powers]
    gradient: Union[Order, Powers]
    needed: Optional[tuple[Powers, Powers]]
    kinds: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    blocks: tuple[tuple[str, Optional[Powers]], ...] = ()

    def data(self) -> dict[str, Any]:
        """What its entry in the document holds."""
        return {
            **vars(self),
            "optimizer": self.optimizer or None,
            "needed": None if self.needed is None else dict(zip("AC", self.needed, strict=True)),
            "findings": self.kinds,
            "blocks": [{"name": name, "b": b} for name, b in self.blocks],
        }


_LIMITS = {
    "unstable": "some values grow without bound with the width",
    "trivial": "the outputs do not move",
    "kernel": "the outputs move, the features do not",
    "feature learning": "stable, features move; not every weight moves as much as it could",
    "maximal": "stable, and every weight moves as much as it can",
}


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """The outcome of :func:`tpcalc.verify`.  ``ok``: no errors, and if ``strict`` no warnings.  ``print(report)`` is
    the report.

    ``regime``: what the infinite-width limit does.  ``weights``: a mapping from parameter name (every tied one) to
    Checked.  ``scales``: of several, the values of each; then ``widths`` is empty.  ``how``: whether the setup ran on
    fake tensors or on real small instances (``why`` says what kept it from the former).
    """

    findings: tuple[Finding, ...]
    weights: Mapping[str, Checked]
    regime: str
    widths: tuple[int, ...]
    how: str
    why: str = ""
    r: Optional[Powers] = None
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    name: str = "setup"
    strict: bool = False
    scales: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == WARNING)

    @property
    def ok(self) -> bool:
        return not (self.findings if self.strict else self.errors)

    def exit_code(self, strict: bool = False) -> int:
        """0 clean or warnings only, 1 errors (with ``strict``, of this or of the report, warnings too)."""
        return int(bool(self.findings) if strict or self.strict else not self.ok)

    @property
    def summary(self) -> str:
        """``FAIL, unstable: some values grow without bound with the width; 2 errors, 1 warning``."""
        verdict = "FAIL" if not self.ok else "ok with warnings" if self.findings else "ok"
        drift = ""
        if self.regime == "kernel" and self.r is not None:
            moves = (
                f"n^-{self.r}" if not isinstance(self.r, Mapping) else powers_text({s: -x for s, x in self.r.items()})
            )
            drift = f" (features move by {moves})"
        drift += ", at the peak of its schedule" if any(f.kind == SCHEDULE for f in self.findings) else ""
        counts = (
            f"{len(found)} {word}{'' if len(found) == 1 else 's'}"
            for found, word in ((self.errors, "error"), (self.warnings, "warning"))
        )
        limit = _LIMITS[self.regime].replace("the width", " or ".join(self.scales) or "the width")
        return f"{verdict}, {self.regime}: {limit}{drift}; {', '.join(counts)}"

    def to_json(self) -> dict[str, Any]:
        """The document of ``tpcalc verify --format json``."""
        from tpcalc.document.verify import VerifyDocument

        return VerifyDocument.of(
            self,
            schema="tpcalc.verify/2" if self.scales else "tpcalc.verify/1",
            ok=self.ok,
            summary=self.summary,
            ran_on=self.how,
            ran_on_reason=self.why,
            weights=[row.data() for row in self.weights.values()],
        ).data()
