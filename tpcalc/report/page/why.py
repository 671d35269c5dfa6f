"""Why each weight has its exponents, for a page: sentences once, values on the ways as places in its drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Union

from tpcalc.derive.explain import Explanation, ScaledExplanation, Waypoint
from tpcalc.document.page import ReasonRow, Way, WhyColumns, WhyRow
from tpcalc.report.explain import NOTHING, Told, ToldInPowers, cone_text

__all__ = ["why_columns"]

AnyExplanation = Union[Explanation, ScaledExplanation]


def why_columns(explanations: Iterable[AnyExplanation], places: Mapping[int, int]) -> WhyColumns:
    """``places``: id of a value of the program -> its place in the drawing."""
    texts: dict[str, int] = {}

    def text(line: str) -> int:
        return texts.setdefault(line, len(texts))

    def noted(lines: Iterable[str]) -> list[int]:
        return [text(line.strip()) for line in lines]

    def way(told: Told, step: Waypoint) -> Way:
        place = -1 if step.shown is None else places[step.shown]
        budget = -1 if step.budget is None else text(told.size(step.budget))
        return (place, text(step.value), text(step.how), text(told.size(step.order)), budget, text(step.where))

    def reason(told: Told, holds: str) -> ReasonRow:
        own = told.explanation
        derived = own.path is not None
        return ReasonRow(
            holds=holds,
            init=noted(told.init() if derived else [NOTHING]),
            update=noted(told.update() if derived and own.rule.trainable else []),
            path=[way(told, step) for step in own.path or ()],
            gradient=noted([told.gradient()] if derived and own.rule.trainable else []),
            back=[way(told, step) for step in own.gradient],
            law=noted([f"{told.law.name} ({told.law.source})"] if derived and own.rule.trainable else []),
            training=noted(told.training() if derived and own.rule.trainable else []),
        )

    def row(explanation: AnyExplanation) -> WhyRow:
        if isinstance(explanation, Explanation):
            return WhyRow(names=list(explanation.names), reasons=[reason(Told(explanation), "")])
        cones = explanation.cones
        shown = [cone_text(explanation.scales, walls) if len(cones) > 1 else "" for walls, _ in cones]
        reasons = [reason(ToldInPowers(own), text) for text, (_, own) in zip(shown, cones, strict=True)]
        return WhyRow(names=list(cones[0][1].names), reasons=reasons)

    rows = [row(explanation) for explanation in explanations]
    return WhyColumns(texts=list(texts), weights=rows)
