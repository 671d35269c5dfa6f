"""Rules in several scales at once: the same derivation along every direction, put together to formulas.

The derivation itself (:mod:`tpcalc.derive.parametrize`) does not know that there are several: along one direction its
orders are linear forms, and what it gives holds in a cone (:mod:`tpcalc.algebra.form`).  Here it is run until cones
cover all directions (:mod:`tpcalc.algebra.fan`), and each exponent becomes one formula (:mod:`tpcalc.algebra.formula`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from tpcalc.algebra.fan import Cell, Walls, fan
from tpcalc.algebra.form import Compass, coordinates
from tpcalc.algebra.formula import Formula, formula
from tpcalc.algebra.order import MINUS_INFINITY, Exact
from tpcalc.algebra.scales import Point, Scale
from tpcalc.algebra.size import Size
from tpcalc.derive.experts import note
from tpcalc.derive.result import Parametrization, Rule, Rules
from tpcalc.lower.domain import domain
from tpcalc.program.ir import Program

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class ScaledSlice:
    """One contiguous block of a weight whose blocks need different exponents: ``start <= index < start + length`` along
    axis ``dim``.  ``formulas``: ``init_std`` and ``lr``."""

    dim: int
    start: Size
    length: Size
    role: str
    formulas: Mapping[str, Formula]


@dataclass(frozen=True)
class ScaledRule:
    """How one weight scales with several scales.

    ``formulas``: the columns of :attr:`~tpcalc.derive.result.Rule.formulas`, each as x in "quantity ~ x" (``eps`` None
    without one).  ``lr``, ``init_std``, ``weight_decay``, ``eps`` and ``multiplier`` are sympy expressions in the
    symbols of the scales.  ``a``, ``b``, ``c``, ``A`` and ``C`` follow the conventions of
    :class:`~tpcalc.derive.result.Rule` (x in "quantity ~ n^-x"): symbol -> exact exponent, None where a formula is no
    single product of powers.  ``role``, ``reason``: as along a direction in which all scales grow about alike.
    """

    name: str
    shape: tuple[Size, ...]
    role: str
    formulas: Mapping[str, Optional[Formula]]
    reason: str = ""
    aliases: tuple[str, ...] = ()
    slices: tuple[ScaledSlice, ...] = ()
    trainable: bool = True
    optimizer: str = ""

    def _expr(self, quantity: str) -> Any:
        found = self.formulas[quantity]
        return None if found is None else found.expr

    def _exponents(self, quantity: str) -> Optional[dict[str, Fraction]]:
        found = self.formulas[quantity]
        powers = None if found is None else found.monomial
        return None if powers is None else {symbol: -x for symbol, x in powers.items()}

    @property
    def multiplier(self) -> sympy.Expr:
        return self._expr("multiplier")

    @property
    def init_std(self) -> sympy.Expr:
        return self._expr("init_std")

    @property
    def lr(self) -> sympy.Expr:
        return self._expr("lr")

    @property
    def weight_decay(self) -> sympy.Expr:
        return self._expr("weight_decay")

    @property
    def eps(self) -> Optional[sympy.Expr]:
        return self._expr("eps")

    @property
    def a(self) -> Optional[dict[str, Fraction]]:
        return self._exponents("multiplier")

    @property
    def b(self) -> Optional[dict[str, Fraction]]:
        return self._exponents("init_std")

    @property
    def c(self) -> Optional[dict[str, Fraction]]:
        return self._exponents("lr")

    @property
    def A(self) -> Optional[dict[str, Fraction]]:
        return self._exponents("effective_init")

    @property
    def C(self) -> Optional[dict[str, Fraction]]:
        return self._exponents("effective_update")

    @property
    def shape_text(self) -> str:
        return "[" + ", ".join(str(size) for size in self.shape) + "]"


@dataclass(frozen=True)
class ScaledSite:
    """A place that needs a forward multiplier ``~ needed / found``, in some cones at least."""

    op: str
    module: str
    source: str
    multiplier: Formula
    message: str


@dataclass(frozen=True, repr=False)
class ScaledParametrization(Rules[ScaledRule]):
    """A mapping from weight name to :class:`ScaledRule`; every parameter stands under its own full name.
    ``print(rules)`` is the scaling table.

    ``cones``: walls ``v.log x > 0`` of the cones in which the derivation was run, which cover all directions in which
    the model can be built (:mod:`tpcalc.lower.domain`).
    """

    scales: tuple[Scale, ...]
    optimizer: str
    points: tuple[Point, ...]
    cones: tuple[Walls, ...]
    sites: tuple[ScaledSite, ...] = ()
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    conventions: tuple[str, ...] = field(default=())
    gauge: str = "init"
    alignment: str = "full"
    experts: str = "mup"
    clipping: Optional[Formula] = None
    """The global norm of the gradient ~ this; None where it is zero in some cone."""


Found = Sequence[Cell[Parametrization]]


T = TypeVar("T")


def in_every_direction(program: Program, derived: Callable[[Program], T]) -> tuple[Cell[T], ...]:
    """What ``derived`` gives of a program of several scales along one direction after another, until all are covered.

    Raises DeriveError where that takes too many, and what ``derived`` raises.
    """

    def run(compass: Compass) -> T:
        return derived(program.along(compass))

    return fan(program.scales, run, domain=domain(program))


def together(program: Program, cells: Found) -> ScaledParametrization:
    """The rules found in the cones of a fan, as formulas.  Raises DeriveError where exponents jump between cones."""
    first = cells[0].found
    return ScaledParametrization(
        rules={name: _rule(program, cells, name) for name in first},
        scales=program.scales,
        optimizer=first.optimizer,
        points=program.widths,
        cones=tuple(cell.walls for cell in cells),
        sites=_sites(program, cells),
        assumptions=first.assumptions,
        notes=(*dict.fromkeys(text for cell in cells for text in cell.found.notes), *_terms(program, cells)),
        conventions=first.conventions,
        gauge=first.gauge,
        alignment=first.alignment,
        experts=first.experts,
        clipping=_clipping(program, cells),
    )


def _rule(program: Program, cells: Found, name: str) -> ScaledRule:
    rules = [(cell.walls, cell.found[name]) for cell in cells]
    first = rules[0][1]
    return ScaledRule(
        name=first.name,
        shape=first.shape,
        role=first.role,
        formulas=formulas_of(program, rules),
        reason=first.reason,
        aliases=first.aliases,
        slices=_slices(program, rules, name),
        trainable=first.trainable,
        optimizer=first.optimizer,
    )


def formulas_of(program: Program, rules: Sequence[tuple[Walls, Rule]]) -> dict[str, Optional[Formula]]:
    """The formulas of one weight, from its rule in each cone; raises DeriveError where exponents jump between cones."""
    found, first = {}, rules[0][1]
    for quantity in first.formulas:
        orders = [(walls, rule.formulas[quantity]) for walls, rule in rules]
        found[quantity] = _formula(program, orders, f"the {quantity.replace('_', ' ')} of {first.name}")
    return found


def _slices(program: Program, rules: Sequence[tuple[Walls, Rule]], name: str) -> tuple[ScaledSlice, ...]:
    """The blocks of a packed weight, in all cones if they differ in any; else none."""
    most = max((rule for _, rule in rules), key=lambda rule: len(rule.slices))
    result = []
    for index, piece in enumerate(most.slices):
        inits, rates = [], []
        for walls, rule in rules:
            # where blocks do not differ, each has what the weight has
            own = rule.slices[index].formulas if rule.slices else rule.formulas
            inits.append((walls, own["init_std"]))
            rates.append((walls, own["lr"]))
        what = f"a block of {name}"
        init, lr = _formula(program, inits, f"the init of {what}"), _formula(program, rates, f"the rate of {what}")
        assert init is not None and lr is not None
        result.append(ScaledSlice(piece.dim, piece.start, piece.length, piece.role, {"init_std": init, "lr": lr}))
    return tuple(result)


def _sites(program: Program, cells: Found) -> tuple[ScaledSite, ...]:
    keys = {(s.op, s.module, s.source): s for cell in cells for s in cell.found.sites}
    found = []
    for key, site in keys.items():
        orders: list[tuple[Walls, Optional[Exact]]] = []
        for cell in cells:
            own = [s.needed - s.found for s in cell.found.sites if (s.op, s.module, s.source) == key]
            orders.append((cell.walls, min(own, default=0)))
        multiplier = _formula(program, orders, f"the multiplier needed at {site.op} ({site.source})")
        assert multiplier is not None
        found.append(ScaledSite(*key, multiplier, site.message))
    return tuple(found)


def _terms(program: Program, cells: Found) -> Iterator[str]:
    """What each order-1 term of experts becomes, where it is not 1 everywhere."""
    told: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(name for found in cells[0].found.terms for name in found.weights):
        own = [(cell.walls, next(x for x in cell.found.terms if name in x.weights)) for cell in cells]
        what = f"what the init of {name} does"
        through = _formula(program, [(walls, found.through) for walls, found in own], what)
        initial = _formula(program, [(walls, found.initial) for walls, found in own], what)
        if any(any(map(any, way)) for found in (through, initial) if found is not None for way in found.ways):
            told.setdefault((str(through), str(initial)), []).append(name)
    yield from (note(names, *text) for text, names in told.items())


def _clipping(program: Program, cells: Found) -> Optional[Formula]:
    norms = [(cell.walls, cell.found.clipping.norm) for cell in cells]
    return _formula(program, norms, "the global norm of the gradient")


def _formula(program: Program, orders: Sequence[tuple[Walls, Any]], what: str) -> Optional[Formula]:
    """One formula of orders along the compass of each cone; None where there are none."""
    if any(order is None or order is MINUS_INFINITY for _, order in orders):
        return None
    count = len(program.scales)
    return formula(program.scales, [(walls, coordinates(order, count)) for walls, order in orders], what)


__all__ = [
    "ScaledParametrization",
    "ScaledRule",
    "ScaledSite",
    "ScaledSlice",
    "formulas_of",
    "in_every_direction",
    "together",
]
