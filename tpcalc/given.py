"""What is given on the command line, as the library takes it: targets, widths, scales, fields of configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from tpcalc.errors import TpcalcError

if TYPE_CHECKING:
    from tpcalc.program.ir import Program


def traced(
    target: str, widths: Optional[str], overrides: Optional[list[str]], scale: Optional[list[str]], loss: Optional[str]
) -> Program:
    """The program of a target given on the command line."""
    from tpcalc.trace import trace
    from tpcalc.trace.target import factory_of, parse_widths

    scales, growing = parse_scales(scale or ())
    if scales:
        if growing is not None:
            raise TpcalcError(f"--scale {growing} beside other scales says nothing; write --scale {growing}=VALUES")
        if target.startswith("hf:") and scales.keys() != {"width"}:
            raise TpcalcError(
                f"{target} grows with its width alone for now; write a factory that takes {' and '.join(scales)} by "
                f"name and builds the model from its config"
            )
        if widths is not None:
            scales = {"width": parse_widths(widths), **scales}
        made = factory_of(target, None, parse_overrides(overrides or ()))
        return trace(made, scales=scales, loss=loaded(loss))
    made, parsed = factory(target, widths, overrides, scale)
    return trace(made, parsed, loss=loaded(loss))


def parse_scales(given: Sequence[str]) -> tuple[dict[str, Any], Optional[str]]:
    """``["ffn=256,512,1024"]`` as scales by name, and the word ``heads`` or ``head-dim``."""
    scales: dict[str, Any] = {}
    word = None
    for text in given:
        name, equals, values = text.partition("=")
        if not equals and name in ("heads", "head-dim") and word is None:
            word = name
        elif not equals or not values:
            raise TpcalcError(f"--scale {text} gives no values; write --scale {name or 'ffn'}=64,128,256")
        elif name in scales:
            raise TpcalcError(f"--scale {name} is given twice; give all its values at once")
        else:
            scales[name] = values
    return scales, word


def loaded(target: Optional[str]) -> Any:
    """The callable of a target, None of none."""
    from tpcalc.trace.target import load_target

    return None if target is None else load_target(target)


def factory(
    target: str, widths: Union[str, Sequence[int], None], overrides: Optional[list[str]], scale: Optional[list[str]]
) -> tuple[Callable[[int], Any], tuple[int, ...]]:
    """The factory of a target and the widths to trace it at."""
    from tpcalc.trace.target import DEFAULT_WIDTHS, factory_of, parse_widths

    parsed = None if widths is None else parse_widths(widths)
    scales, word = parse_scales(scale or ())
    if scales:
        raise TpcalcError(
            f"--scale {next(iter(scales))}=... is understood by table and trace; this command takes one scale, the "
            f"width: give --widths"
        )
    growing = None if word is None else word.replace("-", "_")
    made = factory_of(target, parsed, parse_overrides(overrides or ()), growing)
    chosen: Any = getattr(made, "widths", None) if target.startswith("hf:") else None
    return made, parsed or chosen or DEFAULT_WIDTHS


def parse_overrides(assignments: Sequence[str]) -> dict[str, str]:
    """``["num_layers=2", "act=relu"]`` -> ``{"num_layers": "2", "act": "relu"}``."""
    for assignment in assignments:
        if assignment.find("=") < 1:
            raise TpcalcError(f"--set {assignment} is no assignment; write --set field=value")
    return dict(assignment.split("=", 1) for assignment in assignments)
