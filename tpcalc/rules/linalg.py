"""Linear algebra of small matrices: inverses, factorisations, solves over axes of a fixed size.

Over axes that grow, the size of a result follows from the spectrum, which the calculus does not track: refused.
"""

from __future__ import annotations

from tpcalc.algebra.order import HALF, ONE, ZERO
from tpcalc.errors import UnsupportedOpError
from tpcalc.rules.axes import MIXED
from tpcalc.rules.call import Call
from tpcalc.rules.registry import rule
from tpcalc.rules.structures import Bounded, Discrete, Log, Normalise, Power, Product, Structure, Structures


def _small(call: Call, *indices: int) -> None:
    """Refuse a matrix with a growing axis."""
    for index in indices:
        if any(size.growth > 0 for size in call.shape(index)[-2:]):
            node = call.node
            raise UnsupportedOpError(
                f"op {node.op} acts on a matrix that grows with width (module {node.module or '(top)'}, "
                f"line {node.source or 'unknown'}), and its size depends on the spectrum, which is not tracked; keep "
                f"the matrix at a fixed size, or give the op a structure of your own with "
                f'@tpcalc.rule("{node.op}")'
            )


def _first(call: Call, *structures: Structure, matrix: int = 0) -> Structures:
    """The structures of the first results; the others are factors of the matrix, or pivots and flags, and move with
    it."""
    rest: Structures = (Power(call[matrix], ONE),) * len(call.node.outputs)
    return (structures + rest)[: len(call.node.outputs)]


@rule("aten.triangular_solve", axes=MIXED)
def old_solve_triangular(call: Call) -> Structures:
    """(B, A) -> A^-1 B, and A itself."""
    _small(call, 1)
    return _first(call, Product(call[0], Bounded(call[1], zero=False)), matrix=1)


@rule("aten.linalg_solve_triangular", axes=MIXED)
def solve_triangular(call: Call) -> Structures:
    """A^-1 B with ones (or entries of order 0) on the diagonal: a polynomial in A, of the order of B."""
    _small(call, 0)
    return _first(call, Product(call[1], Bounded(call[0], zero=False)))


@rule("aten._linalg_solve_ex", axes=MIXED)
def solve(call: Call) -> Structures:
    _small(call, 0)
    return _first(call, Product(call[1], Power(call[0], -ONE, "odd")))


@rule("aten.linalg_lu_solve", axes=MIXED)
def lu_solve(call: Call) -> Structure:
    """The solve of a matrix given by its factors, in one tensor of the matrix's size."""
    _small(call, 0)
    return Product(call[2], Power(call[0], -ONE, "odd"))


@rule("aten.linalg_inv_ex", "aten.linalg_pinv", axes=MIXED)
def inverse(call: Call) -> Structures:
    _small(call, 0)
    return _first(call, Power(call[0], -ONE, "odd"))


@rule("aten.linalg_cholesky_ex", axes=MIXED)
def cholesky(call: Call) -> Structures:
    _small(call, 0)
    return _first(call, Power(call[0], HALF))


@rule("aten.linalg_qr", axes=MIXED)
def qr(call: Call) -> Structures:
    """Q has unit columns, R the size."""
    _small(call, 0)
    return (Normalise(call[0], ZERO), Power(call[0], ONE))


@rule("aten._linalg_svd", axes=MIXED)
def svd(call: Call) -> Structures:
    _small(call, 0)
    return (Normalise(call[0], ZERO), Power(call[0], ONE), Normalise(call[0], ZERO))


@rule("aten._linalg_eigh", axes=MIXED)
def eigh(call: Call) -> Structures:
    _small(call, 0)
    return (Power(call[0], ONE), Normalise(call[0], ZERO))


@rule("aten._linalg_slogdet", axes=MIXED)
def slogdet(call: Call) -> Structures:
    _small(call, 0)
    return _first(call, Discrete(), Log(call[0]), Power(call[0], ONE))


@rule("aten.linalg_matrix_exp", "aten.matrix_exp", axes=MIXED)
def matrix_exp(call: Call) -> Structure:
    """Of order 0 where its argument is."""
    _small(call, 0)
    return Bounded(call[0], zero=False)
