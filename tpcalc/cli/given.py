"""What is given on the command line, as the library takes it: targets, widths, scales, fields of configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, Union

from tpcalc.errors import TpcalcError

if TYPE_CHECKING:
    from tpcalc.program.ir import Program


def traced(
    target: str,
    widths: Optional[str],
    overrides: Optional[list[str]],
    scale: Optional[list[str]],
    loss: Optional[str],
    fold: bool = False,
) -> Program:
    """The program of a target given on the command line; ``fold``: with few of its blocks where these stand for all."""
    made, parsed, scales = scaled_factory(target, widths, overrides, scale)  # before torch is imported
    from tpcalc.trace import trace
    from tpcalc.trace.depth import WORTH, folded
    from tpcalc.trace.target import by_depth

    deep = by_depth(target, parsed, parse_overrides(overrides or ())) if fold and not scales else None
    if deep is not None and deep[1] > WORTH:
        program = folded(deep[0], parsed, deep[1], trace, loss=loaded(loss), told=target.startswith("hf:"))
        if program is not None:
            return program
    return trace(made, parsed, scales=scales or None, loss=loaded(loss))


def scaled_factory(
    target: str, widths: Union[str, Sequence[int], None], overrides: Optional[list[str]], scale: Optional[list[str]]
) -> tuple[Callable[..., Any], tuple[int, ...], dict[str, Any]]:
    """The factory of a target, the widths to trace it at, and the scales where there are others."""
    from tpcalc.trace.target import DEFAULT_WIDTHS, factory_of, parse_scales, parse_widths

    parsed = None if widths is None else parse_widths(widths)
    scales = parse_scales(values_of_scales(scale or ()))
    if scales and parsed is not None:
        if "width" in scales:
            raise TpcalcError("--widths and --scale width say the same; drop one of them")
        scales = {"width": parsed, **scales}
    made = factory_of(target, parsed, parse_overrides(overrides or ()), scales)
    chosen: Any = made if target.startswith("hf:") else None
    scales = dict(chosen.scales) if scales and chosen is not None else scales
    return made, parsed or getattr(chosen, "widths", None) or DEFAULT_WIDTHS, scales


def checked(
    target: str, widths: Optional[str], overrides: Optional[list[str]], scale: Optional[list[str]]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The factory of a target to be checked, and what :func:`tpcalc.check` takes of ``widths`` or ``scales``."""
    from tpcalc.trace.target import factory_of

    texts = values_of_scales(scale or ())
    if texts:
        if widths is not None:
            texts = {"width": widths, **texts}
        scales = {name: whole_numbers(name, values) for name, values in texts.items()}
        # one that stays where it is, too, is traced as it grows
        known = {
            name: values if len(values) > 1 else tuple(values[0] * k for k in (1, 2, 4))
            for name, values in scales.items()
        }
        return factory_of(target, None, parse_overrides(overrides or ()), known), {"scales": scales}
    made, parsed = factory(target, widths, overrides, scale)
    return made, {"widths": parsed}


def whole_numbers(name: str, text: str, positive: bool = False) -> tuple[int, ...]:
    """The values of a scale.  Raises TpcalcError for what are no whole numbers, or not ``positive`` ones."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) >= positive for part in parts):
        what, example = ("positive whole numbers", "64,128,256") if positive else ("whole numbers", "2,4,8")
        raise TpcalcError(f"--scale {name}={text} holds no {what}; write --scale {name}={example}")
    return tuple(map(int, parts))


def values_of_scales(given: Sequence[str]) -> dict[str, str]:
    """``["ffn=256,512,1024"]`` as scales by name."""
    scales: dict[str, str] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals and name in ("heads", "head-dim"):
            grows = "their number as --widths does" if name == "heads" else "their size"
            example = "heads=2,4,8" if name == "heads" else "head_dim=32,64,128"
            raise TpcalcError(f"--scale {name} gives no values; to grow {grows}, write --scale {example}")
        if not equals or not values:
            example = "2,3" if name.endswith("depth") else "64,128,256"
            raise TpcalcError(f"--scale {text} gives no values; write --scale {name or 'ffn'}={example}")
        if name in scales:
            raise TpcalcError(f"--scale {name} is given twice; give all its values at once")
        scales[name] = values
    return scales


def verify_scales(widths: Optional[str], scale: Optional[list[str]]) -> tuple[Sequence[int], Optional[dict[str, Any]]]:
    """The widths and the scales along which a setup is verified."""
    from tpcalc.trace.target import DEFAULT_WIDTHS, parse_widths

    parsed = DEFAULT_WIDTHS if widths is None else parse_widths(widths)
    scales: dict[str, Any] = {**values_of_scales(scale or ())}
    if scales and widths is not None:
        scales = {"width": parsed, **scales}
    return parsed, scales or None


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
    from tpcalc.trace.target import factory_of, parse_scales, parse_widths, saved_base

    end = parse_place(to, "--target")
    start = saved_base(target) if base is None else parse_place(base, "--base")
    if start is None:
        raise TpcalcError("--base is missing: give the width at which the hyperparameters were tuned")
    scales: Any = parse_scales(values_of_scales(scale or ()))
    along = None if widths is None else parse_widths(widths)
    from tpcalc.scaling import scale as scaled  # torch comes after all that can be wrong in these texts
    from tpcalc.scaling.compute import traced_widths
    from tpcalc.scaling.several import values_between

    if isinstance(start, int) and isinstance(end, int) and not scales:
        places = traced_widths(start, end, along)
        made, _ = factory(target, places, overrides, scale)
        return partial(scaled, made, start, end, widths=places)
    if along is not None:
        scales = {"width": along, **scales}
    values = values_between(start, end, scales or None)
    made = factory_of(target, None, parse_overrides(overrides or ()), values)
    return partial(scaled, made, start, end, scales=scales or None)


def loaded(target: Optional[str]) -> Any:
    """The callable of a target, None of none."""
    from tpcalc.trace.target import load_target

    return None if target is None else load_target(target)


def factory(
    target: str, widths: Union[str, Sequence[int], None], overrides: Optional[list[str]], scale: Optional[list[str]]
) -> tuple[Callable[[int], Any], tuple[int, ...]]:
    """The factory of a target and the widths to trace it at, for a command that knows the width alone."""
    if scales := values_of_scales(scale or ()):
        raise TpcalcError(
            f"--scale {next(iter(scales))}=... is not understood here, where there is one scale, the width: give "
            f"--widths"
        )
    made, parsed, _ = scaled_factory(target, widths, overrides, None)
    return made, parsed


def parse_overrides(assignments: Sequence[str]) -> dict[str, str]:
    """``["num_layers=2", "act=relu"]`` -> ``{"num_layers": "2", "act": "relu"}``."""
    for assignment in assignments:
        if assignment.find("=") < 1:
            raise TpcalcError(f"--set {assignment} is no assignment; write --set field=value")
    return dict(assignment.split("=", 1) for assignment in assignments)
