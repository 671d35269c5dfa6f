"""The rules of a deep model, of which few blocks were traced (:mod:`tpcalc.trace.depth.folded`), told of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tpcalc.derive.result import Parametrization, Rule, Site
from tpcalc.errors import DeriveError
from tpcalc.program.names import starred
from tpcalc.program.repeat import Copies


def unfolded(rules: Parametrization, copies: Copies) -> Parametrization:
    """The same rules under every name of the deep model; weights and sites that are named, too.

    Raises DeriveError where blocks in the middle are like neither the first nor the last: what follows their index
    does not stand for others.
    """
    _check_middle(rules, copies)
    found: dict[str, Rule] = {}
    for names, source in copies.weights:
        found.update(dict.fromkeys(names, replace(rules[source], name=names[0], aliases=names[1:])))
    dominating = set(rules.clipping.dominated_by)
    clipping = replace(
        rules.clipping, dominated_by=tuple(names[0] for names, source in copies.weights if source in dominating)
    )
    sites = tuple(site for each in rules.sites for site in _everywhere(each, copies))
    return replace(rules, rules=found, clipping=clipping, sites=sites)


def _check_middle(rules: Parametrization, copies: Copies) -> None:
    count = Counter(source for _, source in copies.weights)
    alike: dict[str, list[str]] = {}
    for source in count:
        alike.setdefault(starred(source), []).append(source)
    for names in alike.values():
        for name in names:
            others = [rules[other].formulas for other in names if other != name]
            if count[name] > 1 and others and rules[name].formulas not in others:
                raise DeriveError(
                    f"the rule of {name} is neither that of {names[0]} nor of {names[-1]}, so it does not stand for "
                    f"other blocks; trace the model with all of them"
                )


def _everywhere(site: Site, copies: Copies) -> Iterator[Site]:
    """A site in each block that is a copy of its own."""
    own = [(deep, traced) for deep, traced in copies.blocks.items() if f"{site.module}.".startswith(f"{traced}.")]
    yield site
    for deep, traced in own:
        module = deep + site.module[len(traced) :]
        yield replace(site, module=module, message=site.message.replace(site.module, module))


__all__ = ["unfolded"]
