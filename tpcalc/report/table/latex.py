"""The scaling table as LaTeX; needs ``\\usepackage{booktabs}``."""

from __future__ import annotations

from tpcalc.report.table.rows import AnyParametrization, Cell, Code, Power, table_of

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_"},
}


def table_latex(parametrization: AnyParametrization) -> str:
    """A ``tabular`` with booktabs rules, and an ``itemize`` for each thing noted under it."""
    table = table_of(parametrization)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\noindent {escape(table.title)}\par\medskip",
        rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
        r"\toprule",
        _row(map(escape, table.columns)),
        r"\midrule",
        *(_row(map(_cell, row)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    for heading, sentences in table.lists:
        items = (rf"\item {{}}{escape(sentence)}" for sentence in sentences)
        lines += [rf"\par\medskip {escape(heading)}", r"\begin{itemize}", *items, r"\end{itemize}"]
    return "\n".join(lines) + "\n"


def _row(cells) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Code):
        return rf"\texttt{{{escape(cell.text)}}}"
    if isinstance(cell, Power):
        return _power(cell)
    return escape(cell)


def _power(power: Power) -> str:
    return f"${power.text('latex')}$"


def escape(text: str) -> str:
    """Text in which no character is markup."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))
