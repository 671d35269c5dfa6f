"""What the page of ``tpcalc report`` holds: other documents, and what it shows of them.

Formulas are products of powers in a form that a browser can set: ``common`` times the largest of ``ways``, each the
smallest of some products.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Optional, Union

from pydantic import Field

from tpcalc.document.check import CheckDocument, ScaledCheckDocument
from tpcalc.document.drawing import DrawingDocument
from tpcalc.document.model import Count, Exponent, Row
from tpcalc.document.scaled import ScaledTableDocument
from tpcalc.document.table import TableDocument
from tpcalc.document.transfer import TransferDocument
from tpcalc.document.verify import VerifyDocument

SCHEMA: Final = "tpcalc.page/1"

#: A product of powers: symbol of a scale -> exponent; nothing: 1.
Product = dict[str, Exponent]


class FormulaRow(Row):
    text: str
    """as tables print it"""
    at: Optional[float]
    """its exponent where all scales but depths grow alike (of depths alone theirs); null: the quantity is zero"""
    common: Product = {}
    ways: list[list[Product]] = [[{}]]


class CellRow(Row):
    """one of these"""

    code: Optional[str] = None
    text: Optional[str] = None
    formula: Optional[FormulaRow] = None


class PrintedRow(Row):
    """weights whose rules agree"""

    names: list[str]
    """every weight by its full name"""
    cells: list[CellRow]


class ListRow(Row):
    heading: str
    sentences: list[str]


class PrintedTable(Row):
    title: str
    columns: list[str]
    rows: list[PrintedRow]
    lists: list[ListRow]


#: A value on a way: its place in the drawing (-1: it has none), then as places in ``texts`` its name, how it comes
#: about, its order, the order that its change may have (-1: nothing asks for one), and where it stands in the code.
Way = Annotated[tuple[int, Count, Count, Count, int, Count], Field(strict=False)]


class ReasonRow(Row):
    """why a weight has its exponents, of several scales in one cone"""

    holds: str
    """where, of several scales; else empty"""
    init: list[Count]
    """sentences, as places in ``texts``: what binds the size of the weight"""
    update: list[Count]
    """that of its updates"""
    path: list[Way]
    """from the use that binds to where the budget stands"""
    gradient: list[Count]
    back: list[Way]
    """along what decides the order of the gradient"""
    law: list[Count]
    training: list[Count]
    """learning rate, weight decay and epsilon under that law"""


class WhyRow(Row):
    names: list[str]
    reasons: list[ReasonRow]


class WhyColumns(Row):
    """why each weight has its exponents, in the order of the drawing's weights"""

    texts: list[str]
    weights: list[WhyRow]


class TransferOf(Row):
    name: str
    """the directory, as it was given"""
    transfer: TransferDocument


class PageDocument(Row):
    """Held by the page that `tpcalc report` writes."""

    version: Literal["tpcalc.page/1"] = Field(alias="schema")
    tpcalc: str
    """version of the package"""
    target: str
    optimizer: str
    weights: Count
    operations: Count
    """how many there are"""
    scales: dict[str, list[Count]]
    """where the model was traced, by the name of each scale"""
    opened: list[str]
    """weights that are explained first"""
    printed: PrintedTable
    table: Union[TableDocument, ScaledTableDocument]
    drawing: DrawingDocument
    why: WhyColumns
    setup: str
    """what was verified, empty if nothing was"""
    verify: Optional[VerifyDocument]
    check: Optional[Union[CheckDocument, ScaledCheckDocument]]
    transfers: list[TransferOf]
