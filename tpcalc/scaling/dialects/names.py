"""Names of parameters: from those of the traced model to those that a trainer's own model has."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from tpcalc.errors import ScalingError
from tpcalc.scaling.weight import _plain

#: What PEFT puts into names.
_PEFT = re.compile(r"(?:^|\.)(?:base_model\.model|base_layer|modules_to_save|lora_\w+)(?:\.|$)")
#: FSDP1 without use_orig_params: many parameters in one, under no name of their own.
_FLAT = re.compile(r"(?:^|\.)_flat_param(?:_\d+)?$")
#: What to do about a pattern that can't be read.
_MEND = "mend it, and put \\ before what stands for itself"


@dataclass(frozen=True)
class Rename:
    """``PATTERN=REPLACEMENT``: what :func:`re.sub` does to each name, with groups as ``\\1``."""

    text: str
    pattern: re.Pattern[str]
    replacement: str

    @classmethod
    def read(cls, text: str) -> "Rename":
        """From the command line.  The last ``=`` divides, so a pattern may hold others.  Raises ScalingError."""
        pattern, divides, replacement = text.rpartition("=")
        if not divides:
            raise ScalingError(f"--rename {text!r} has no '='; write PATTERN=REPLACEMENT, as '^model\\.=module.'")
        try:
            compiled = re.compile(pattern)
            compiled.sub(replacement, "")  # which reads the replacement, match or none
        except (re.error, IndexError) as error:
            raise ScalingError(f"--rename {text!r} is no substitution of Python's re: {error}; {_MEND}") from None
        return cls(text, compiled, replacement)


def read_patterns(option: str, texts: Iterable[str]) -> list[re.Pattern[str]]:
    """Regular expressions from the command line.  Raises ScalingError."""
    found = []
    for text in texts:
        try:
            found.append(re.compile(text))
        except re.error as error:
            raise ScalingError(f"{option} {text!r} is no regular expression: {error}; {_MEND}") from None
    return found


def renamed(names: Sequence[str], rules: Sequence[Rename]) -> tuple[dict[str, str], set[str]]:
    """Each name of the traced model -> the trainer's: without what wrappers put into it, then rule by rule; and those
    of the trainer's names that a rule has made, or has said to stay.

    Raises ScalingError for a parameter that has no name of its own, and for a rule that matches no name.
    """
    plain = {name: _plain(name) for name in names}
    flat = [name for name in plain.values() if _FLAT.search(name)]
    if flat:
        raise ScalingError(
            f"{flat[0]} is many parameters flattened into one by FSDP; trace the model without FSDP, "
            f"and train with FSDP2 or use_orig_params=True"
        )
    while plain and all(name.startswith("module.") for name in plain.values()):  # of DDP
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    mapped: set[str] = set()
    for rule in rules:
        matched = {name for name, short in plain.items() if rule.pattern.search(short)}
        if not matched:
            raise ScalingError(f"--rename {rule.text!r} matches no name; they are {some(plain.values())}")
        mapped |= matched
        plain = {name: rule.pattern.sub(rule.replacement, short) for name, short in plain.items()}
    empty = [name for name, short in plain.items() if not short or any(not part for part in short.split("."))]
    if empty:
        raise ScalingError(f"{empty[0]} is renamed to {plain[empty[0]]!r}, which is no parameter's name")
    return plain, {plain[name] for name in mapped}


def check_names(names: Sequence[str], trainer: str, peft: bool, roots: Sequence[str], mapped: Container[str]) -> None:
    """Raise ScalingError for names that a trainer's model does not have.

    ``peft``: whether it trains models of PEFT under PEFT's names; ``roots``: how names of its own models begin, if
    they are always the same; ``mapped``: the names that the user's rules made or kept.
    """
    wrapped = [name for name in names if _PEFT.search(name)]
    if wrapped and not peft:
        raise ScalingError(
            f"{wrapped[0]} is a name that PEFT gives and {trainer} does not; map it with --rename PATTERN=REPLACEMENT"
        )
    foreign = [name for name in names if roots and name not in mapped and not name.startswith(tuple(roots))]
    if foreign:
        raise ScalingError(
            f"names of {trainer}'s own models begin with {', '.join(roots)}, not as {some(foreign)}; map them with "
            f"--rename PATTERN=REPLACEMENT (several weights may become one), or say --rename '(.*)=\\1' if they stay"
        )


def some(names: Iterable[str], count: int = 3) -> str:
    """A few names in a sentence."""
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
