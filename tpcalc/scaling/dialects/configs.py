"""Dialects that are YAML: a piece of the trainer's config.

Where a trainer would quietly train what no pattern matches without multipliers, the last entry matches all of it and
gives it a learning rate that is no number, so that the loss is none, either, from the second step on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from tpcalc.errors import ScalingError
from tpcalc.scaling.dialects.table import Numbers, Row, Table, anchored, wrapped

_LAST = "what no pattern above matches has no multipliers, and makes the loss nan; export them for this very model"


def automodel(table: Table, given: Mapping[str, float]) -> str:
    lines = [
        "optimizer:",
        "  # beside _target_, lr, weight_decay, betas and eps of your own",
        "  param_group_overrides:",
    ]
    for row, pattern in _each(table):
        lines.append(f"    - pattern: {quoted(pattern)}")
        lines.append(f"      lr_mult: {number(row.numbers.lr)}")
        lines.append(f"      wd_mult: {number(row.numbers.weight_decay)}")
    lines += [f"    # {_LAST}", "    - pattern: '.'", "      lr_mult: .nan"]
    return "\n".join(lines) + "\n"


def fairseq2(table: Table, given: Mapping[str, float]) -> str:
    lines = ["optimizer:", "  name: adamw", "  config:"]
    lines += [f"    {key}: {number(value)}" for key, value in given.items()]
    lines.append("    groups:")
    lead, gap = _gaps(table)
    for numbers, rows in table.groups.items():
        lines.append("      - params:")
        lines += [f"          - {quoted(anchored(one, lead, gap))}" for row in rows for one in row.patterns]
        lines += [f"        {key}: {number(value)}" for key, value in _values(numbers, given).items()]
    lines += [f"      # {_LAST}", "      - params: '.*'", "        lr: .nan"]
    return "\n".join(lines) + "\n"


def llm_foundry(table: Table, given: Mapping[str, float]) -> str:
    lines = ["optimizer:", "  name: decoupled_adamw"]
    lines += [f"  {key}: {number(value)}" for key, value in given.items()]
    lines.append("  param_groups:")
    for row, pattern in _each(table):
        values = _values(row.numbers, given)
        # its decay is not multiplied by the learning rate, so the product of both multipliers is due
        values["weight_decay"] = given["weight_decay"] * (row.numbers.lr * row.numbers.weight_decay)
        lines.append(f"    - param_str_match: {quoted(pattern)}")
        lines += [f"      {key}: {number(value)}" for key, value in values.items()]
    lines += [f"    # {_LAST}", "    - param_str_match: '.'", "      lr: .nan"]
    return "\n".join(lines) + "\n"


def _values(numbers: Numbers, given: Mapping[str, float]) -> dict[str, float]:
    return {key: given[key] * getattr(numbers, key) for key in ("lr", "weight_decay", "eps")}


def _gaps(table: Table) -> tuple[str, str]:
    return wrapped(name for row in table.rows for name in row.names)


def _each(table: Table) -> Iterator[tuple[Row, str]]:
    lead, gap = _gaps(table)
    for row in table.rows:
        for pattern in row.patterns:
            yield row, anchored(pattern, lead, gap)


def number(value: float) -> str:
    """A float of YAML 1.1, which wants a point in the mantissa: 1e-08 would be read as text."""
    if not math.isfinite(value):
        raise ScalingError(
            f"a number of the file would be {value}: a multiplier takes one that was given out of the range of floats; "
            f"give a smaller --lr, --weight-decay or --eps"
        )
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{exponent}{power}" if exponent else text


def quoted(text: str) -> str:
    """A string of YAML: in single quotes where all of it is printable, or else escaped."""
    if text.isascii() and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    escaped = (c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(escaped) + '"'
