"""What is given on the command line, as the library takes it: targets, widths, scales, fields of configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, Union

from tpcalc.errors import TpcalcError

if TYPE_CHECKING:
    from tpcalc.program.ir import Program


def traced(
    target: str, widths: Optional[str], overrides: Optional[list[str]], scale: Optional[list[str]], loss: Optional[str]
) -> Program:
    """The program of a target given on the command line."""
    from tpcalc.trace import trace
    from tpcalc.trace.target import factory_of

    scales = several(target, widths, scale)
    if scales:
        made = factory_of(target, None, parse_overrides(overrides or ()))
        return trace(made, scales=scales, loss=loaded(loss))
    made, parsed = factory(target, widths, overrides, scale)
    return trace(made, parsed, loss=loaded(loss))


def several(target: str, widths: Optional[str], scale: Optional[list[str]]) -> dict[str, Any]:
    """The scales of a target by name, with their values as text, those of ``--widths`` among them; none: the width."""
    scales, growing = parse_scales(scale or ())
    if not scales:
        return {}
    if growing is not None:
        raise TpcalcError(f"--scale {growing} beside other scales says nothing; write --scale {growing}=VALUES")
    if target.startswith("hf:") and scales.keys() != {"width"}:
        raise TpcalcError(
            f"{target} grows with its width alone for now; write a factory that takes {' and '.join(scales)} by "
            f"name and builds the model from its config"
        )
    return scales if widths is None else {"width": widths, **scales}


def checked(
    target: str, widths: Optional[str], overrides: Optional[list[str]], scale: Optional[list[str]]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The factory of a target to be checked, and what :func:`tpcalc.check` takes of ``widths`` or ``scales``."""
    from tpcalc.trace.target import factory_of

    scales = several(target, widths, scale)
    if scales:
        made = factory_of(target, None, parse_overrides(overrides or ()))
        return made, {"scales": {name: _numbers(name, values) for name, values in scales.items()}}
    made, parsed = factory(target, widths, overrides, scale)
    return made, {"widths": parsed}


def _numbers(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise TpcalcError(f"--scale {name}={text} holds no whole numbers; write --scale {name}=2,4,8")
    return tuple(map(int, parts))


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


def parse_place(text: str, option: str) -> Union[int, dict[str, int]]:
    """``"256"`` as a width, ``"width=256,depth=8"`` as several scales by name."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) == 1 and parts[0].isdecimal():
        return int(parts[0])
    found: dict[str, int] = {}
    for part in parts:
        name, _, value = (each.strip() for each in part.partition("="))
        if not name.isidentifier() or not value.isdecimal():
            raise TpcalcError(f"{option} {text} is no place; write a width, 256, or scales by name: width=256,depth=8")
        if name in found:
            raise TpcalcError(f"{option} gives {name} twice")
        found[name] = int(value)
    if not found:
        raise TpcalcError(f"{option} is empty; write a width, 256, or scales by name: width=256,depth=8")
    return found


def between(
    target: str,
    base: Optional[str],
    to: str,
    widths: Optional[str],
    overrides: Optional[list[str]],
    scale: Optional[list[str]],
) -> Callable[..., Any]:
    """:func:`tpcalc.scale` of a target given on the command line, from one place to another."""
    from tpcalc.scaling import scale as scaled
    from tpcalc.scaling.compute import traced_widths
    from tpcalc.trace.target import factory_of, parse_widths, saved_base

    end = parse_place(to, "--target")
    start = saved_base(target) if base is None else parse_place(base, "--base")
    if start is None:
        raise TpcalcError("--base is missing: give the width at which the hyperparameters were tuned")
    scales, _ = parse_scales(scale or ())
    if isinstance(start, int) and isinstance(end, int) and not scales:
        places = traced_widths(start, end, None if widths is None else parse_widths(widths))
        made, _ = factory(target, places, overrides, scale)
        return partial(scaled, made, start, end, widths=places)
    if widths is not None:
        scales = {"width": parse_widths(widths), **scales}
    made = factory_of(target, None, parse_overrides(overrides or ()))
    return partial(scaled, made, start, end, scales=scales or None)


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
            f"--scale {next(iter(scales))}=... is not understood here, where there is one scale, the width: give "
            f"--widths"
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
