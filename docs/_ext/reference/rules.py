"""Every rule of the registry, by module."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from importlib import import_module
from typing import Any

from .words import cell, first, prose


def rules() -> str:
    import tpcalc
    from tpcalc.rules import REGISTRY

    tpcalc.rule  # noqa: B018  # all rules are registered
    functions: dict[Any, list[str]] = defaultdict(list)
    for name, rule in REGISTRY.rules.items():
        functions[rule.function].append(name)
    modules: dict[str, list[tuple[Any, list[str]]]] = defaultdict(list)
    for function, names in functions.items():
        modules[function.__module__].append((function, names))
    parts = [
        f"# Rules\n\n{len(REGISTRY.rules)} names of ops in {len(functions)} rules, by the module that has them. A name "
        "without an overload stands for all and for the in-place form. How to "
        "[add one](../how-to/custom-op.md), and [structures](../rules.md)."
    ]
    for module, found in sorted(modules.items()):
        said = (import_module(module).__doc__ or "").strip().splitlines()
        parts.append(
            f"## {module.rpartition('.')[2].strip('_')}\n\n{prose(said[0].replace('``', '`') if said else '')}"
        )
        rows = ["| ops | structure | |", "|---|---|---|"]
        for function, names in found:
            structures = sorted(_structures(function))
            ops = " ".join(f"`{name}`" for name in names)
            rows.append(f"| {ops} | {', '.join(f'`{s}`' for s in structures)} | {first(inspect.getdoc(function))} |")
        parts.append("\n".join(rows))
    rows = [f"| `{name}` | {cell(reason)} |" for name, reason in REGISTRY.ignored.items()]
    parts.append("## Ignored\n\nOps that carry no order.\n\n| op | because |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _structures(function: Any) -> set[str]:
    """Structures that the source of a rule names, its helpers, or else the functions that it calls."""
    from tpcalc.rules import structures

    known = {
        name
        for name, found in vars(structures).items()
        if inspect.isclass(found) and issubclass(found, structures.Structure) and found is not structures.Structure
    }
    names = _names(function)
    called = {name: _names(function.__globals__.get(name)) for name in names}
    names |= {each for name, words in called.items() if name.startswith("_") for each in words}
    return names & known or {each for words in called.values() for each in words} & known


def _names(function: Any) -> set[str]:
    """Words in the source of a function of the rules."""
    is_ours = inspect.isfunction(function) and function.__module__.startswith("tpcalc.rules.")
    return set(re.findall(r"\b[A-Za-z_]\w+", inspect.getsource(function))) if is_ours else set()
