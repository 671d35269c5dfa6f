"""The page of ``tpcalc report``: the table, the program as a drawing, why, findings and plots, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from tpcalc.algebra.scales import Point
from tpcalc.derive.explained import Explained
from tpcalc.derive.result import Parametrization
from tpcalc.derive.several import ScaledParametrization
from tpcalc.document.drawing import drawing, places_of
from tpcalc.document.page import SCHEMA, CellRow, ListRow, PageDocument, PrintedRow, PrintedTable, TransferOf
from tpcalc.document.scaled import ScaledTableDocument, scaled_json
from tpcalc.document.table import TableDocument, table_json
from tpcalc.program.ir import Program
from tpcalc.report.page.formulas import formula_row
from tpcalc.report.page.html import page_html
from tpcalc.report.page.why import why_columns
from tpcalc.report.table.rows import Cell, Code, Power, table_of

__all__ = ["page_document", "page_html"]

AnyRules = Union[Parametrization, ScaledParametrization]


def page_document(
    target: str,
    program: Program,
    explained: Explained,
    *,
    version: str,
    opened: Sequence[str] = (),
    setup: str = "",
    verify: Optional[Any] = None,
    check: Optional[Any] = None,
    transfers: Mapping[str, Any] = {},
) -> PageDocument:
    """What the page of a model holds.

    ``explained`` is of ``program``.  ``version``: of the package.  ``opened``: weights to explain first.  ``verify``
    (of ``setup``), ``check`` and ``transfers`` (by name) are documents, as plain data.
    """
    rules, places = explained.rules, places_of(program)
    return PageDocument(
        schema=SCHEMA,
        tpcalc=version,
        target=target,
        optimizer=rules.optimizer,
        weights=len(program.weights),
        operations=len(program.nodes),
        scales=_scales(program),
        opened=list(opened),
        printed=_printed(rules),
        table=_table(rules),
        drawing=drawing(program, explained.values),
        why=why_columns((explained.weights[weight.name] for weight in program.weights), places),
        setup=setup,
        verify=verify,
        check=check,
        transfers=[TransferOf.model_validate({"name": name, "transfer": own}) for name, own in transfers.items()],
    )


def _table(rules: AnyRules) -> Union[TableDocument, ScaledTableDocument]:
    if isinstance(rules, ScaledParametrization):
        return ScaledTableDocument.model_validate(scaled_json(rules))
    return TableDocument.model_validate(table_json(rules))


def _scales(program: Program) -> dict[str, list[int]]:
    if program.compass is None:
        return {"width": list(program.widths)}
    found: dict[str, set[int]] = {scale.name: set() for scale in program.scales}
    for point in program.widths:
        assert isinstance(point, Point)
        for name, value in point.by_name.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}


def _printed(rules: AnyRules) -> PrintedTable:
    table = table_of(rules)
    return PrintedTable(
        title=table.title,
        columns=list(table.columns),
        rows=[
            PrintedRow(names=list(names), cells=list(map(_cell, row)))
            for names, row in zip(table.names, table.rows, strict=True)
        ],
        lists=[ListRow(heading=heading, sentences=list(sentences)) for heading, sentences in table.lists],
    )


def _cell(cell: Cell) -> CellRow:
    if isinstance(cell, Code):
        return CellRow(code=cell.text)
    return CellRow(formula=formula_row(cell)) if isinstance(cell, Power) else CellRow(text=cell)
