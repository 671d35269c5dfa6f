"""How large the code's own initialisation is at the base and at the target width."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tpcalc.algebra.roots import Factor, power_product, tidy
from tpcalc.errors import ScalingError
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import InitLaw, Program, Weight

#: Entries of the largest model that is built for real to measure an init that can't be read.
LARGEST_MEASURED = 1 << 26
#: Standard errors a measured std may be off the power law it is snapped to.
SIGMAS = 6.0

_PLAIN = re.compile(r"(?P<name>[a-z_]+)\([^()]*\)(?: \* [-+.0-9e]+)?")


@dataclass(frozen=True)
class Initial:
    """The law of a weight's entries as the code itself makes them, at both widths, and the ratio of their sizes.

    ``ratio`` is rms(base) / rms(target code), as a factor; 1 where they are equal.
    """

    base: InitLaw
    target: InitLaw
    ratio: Factor = (Fraction(1), Fraction(1))

    @property
    def is_zero(self) -> bool:
        return _rms(self.base) == 0

    @property
    def draw(self) -> str:
        """``normal``, ``uniform`` or ``constant``; ``other`` for anything that a draw would not reproduce."""
        if self.target.kind == "constant":
            return "constant"
        plain = _PLAIN.fullmatch(self.target.call)
        name = plain["name"] if plain else ""
        if "uniform" in name or name in ("rand", "rand_like"):
            return "uniform"
        return "normal" if "normal" in name or name in ("randn", "randn_like", "orthogonal_") else "other"


def initials(factory: Callable[[int], Any], program: Program, base: int, target: int) -> dict[str, Initial]:
    """The Initial of every weight, by its first name.

    Read from the init calls recorded while tracing; where these say ``unknown``, measured on small real instances.
    Raises ScalingError, naming the weight, where neither gives an exact answer.
    """
    known, unknown = {}, []
    for weight in program.weights:
        laws = dict(weight.init)
        at_base, at_target = laws.get(base), laws.get(target)
        if at_base is None or at_target is None or "unknown" in (at_base.kind, at_target.kind):
            unknown.append(weight)
        else:
            known[weight.name] = _exact(weight, at_base, at_target, base, target)
    if unknown:
        known.update(_measured(factory, program, unknown, base, target))
    return known


def block_initials(
    factory: Callable[[int], Any], blocks: Sequence[Leaf], whole: dict[str, Initial], base: int, target: int
) -> dict[str, Initial]:
    """The Initial of each block of the packed weights, by its name: the code may draw q otherwise than k and v.

    Read from the init calls of the construction; where they don't say, that of the whole weight.
    """
    laws = {width: _block_laws(factory, blocks, width) for width in (base, target)} if blocks else {}
    found = {}
    for leaf in blocks:
        at_base, at_target = laws[base].get(leaf.name), laws[target].get(leaf.name)
        if at_base is None or at_target is None or "unknown" in (at_base.kind, at_target.kind):
            found[leaf.name] = whole[leaf.weight.name]
        else:
            named = replace(leaf.weight, name=leaf.name, shape=leaf.shape)
            found[leaf.name] = _exact(named, at_base, at_target, base, target)
    return found


def _block_laws(factory: Callable[[int], Any], blocks: Sequence[Leaf], width: int) -> dict[str, InitLaw]:
    from tpcalc.trace.init import InitRecorder
    from tpcalc.trace.record import build
    from tpcalc.trace.target import call_factory

    recorder = InitRecorder()
    model, _ = build(lambda: call_factory(factory, width), recorder)
    weights = dict(model.named_parameters(remove_duplicate=False))
    return {
        leaf.name: recorder.law_of_block(
            weights[leaf.weight.name], leaf.dim, leaf.start.at(width), leaf.length.at(width)
        )
        for leaf in blocks
    }


def _rms(law: InitLaw) -> float:
    return math.hypot(law.std, law.mean) if law.mean else law.std


def _exact(weight: Weight, base: InitLaw, target: InitLaw, base_width: int, target_width: int) -> Initial:
    at_base, at_target = _rms(base), _rms(target)
    if at_base == at_target:
        return Initial(base, target)
    if at_base == 0 or at_target == 0:
        zero, width = (base, "base") if at_base == 0 else (target, "target")
        raise ScalingError(
            f"{weight.name} is initialised to zero at the {width} width ({zero.call}) and not at the other, so no "
            f"multiplier turns one into the other; make the init the same kind at all widths"
        )
    ratio = at_base / at_target
    if "data" in base.call and "data" in target.call and "random" in (base.kind, target.kind):
        return Initial(base, target, _without_noise(ratio, weight, base_width, target_width))
    return Initial(base, target, tidy(ratio))


def _without_noise(ratio: float, weight: Weight, base: int, target: int) -> Factor:
    """Entries drawn elsewhere (numpy) and read as data: their std is a sample's, and within its noise a power of n."""
    width = Fraction(base, target)
    power = Fraction(round(2 * math.log(ratio) / math.log(width)), 2)
    snapped = power_product([(width, power)])
    entries = (math.prod(size.at(n) for size in weight.shape) for n in (base, target))
    noise = math.sqrt(sum(1 / (2 * count) for count in entries))
    return (width, power) if abs(ratio / snapped - 1) <= SIGMAS * noise < 0.2 else tidy(ratio)


def _measured(
    factory: Callable[[int], Any], program: Program, weights: Sequence[Weight], base: int, target: int
) -> dict[str, Initial]:
    widths = _small_widths(program, base)
    names = ", ".join(weight.name for weight in weights[:3])
    samples = {}
    for width in widths:
        samples[width] = _measure(factory, width)
        if len(samples) == 4:
            break
    if len(samples) < 3:
        raise ScalingError(
            f"the init of {names} can't be read from the code ({_why(weights[0])}) and the model is too large to "
            f"measure it; initialise it with torch.nn.init, or give smaller --widths"
        )
    return {weight.name: _snapped(weight, samples, base, target) for weight in weights}


def _why(weight: Weight) -> str:
    return next((law.call for _, law in weight.init if law.kind == "unknown"), "") or "no init call was seen"


def _small_widths(program: Program, base: int) -> list[int]:
    """The largest traced widths at which a real model is small."""
    fitting = []
    for width in sorted(program.widths, reverse=True):
        entries = sum(math.prod(size.at(width) for size in weight.shape) for weight in program.weights)
        if entries <= LARGEST_MEASURED:
            fitting.append(width)
    return fitting


def _measure(factory: Callable[[int], Any], width: int) -> dict[str, tuple[InitLaw, int]]:
    import torch

    from tpcalc.trace.init import measured_law
    from tpcalc.trace.target import call_factory

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, _ = call_factory(factory, width)
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.is_meta:
            raise ScalingError(f"the init of {name} can't be measured on the meta device; build the model on the cpu")
        found[name] = measured_law(parameter), parameter.numel()
    return found


def _snapped(weight: Weight, samples: dict[int, dict[str, tuple[InitLaw, int]]], base: int, target: int) -> Initial:
    """Snap the measured sizes to ``k * n^p`` with ``p`` a multiple of 1/2; refuse what does not lie on it."""
    points = sorted((width, *laws[weight.name]) for width, laws in samples.items())
    sizes = [(width, _rms(law), entries) for width, law, entries in points]
    zero = [size == 0 for _, size, _ in sizes]
    first = points[0][1]
    if all(zero):
        return Initial(first, first)
    if not any(zero) and all(law.kind != "unknown" for _, law, _ in points):
        (n0, s0, e0), (n1, s1, e1) = sizes[0], sizes[-1]
        p = Fraction(round(2 * math.log(s1 / s0) / math.log(n1 / n0)), 2)
        error = 0.0 if first.kind == "constant" else 1 / math.sqrt(2 * min(e0, e1)) * SIGMAS
        # every size must lie on the power within its noise, and the noise must tell neighbouring powers apart
        decided = math.log(n1 / n0) / 4 > 2 * error
        straight = all(abs(math.log(s / s0) - float(p) * math.log(n / n0)) <= 2 * error + 1e-6 for n, s, _ in sizes)
        if decided and straight:
            k = math.exp(sum(math.log(s) - float(p) * math.log(n) for n, s, _ in sizes) / len(sizes))

            def law(width: int) -> InitLaw:
                size = k * float(width) ** float(p)
                call = f"measured, ~ n^({p})"
                if first.kind == "constant":
                    return InitLaw("constant", 0.0, math.copysign(size, first.mean), call)
                return InitLaw("random", size, 0.0, call)

            return Initial(law(base), law(target), (Fraction(target, base), -p))
    shown = ", ".join(f"{size:.4g} at {width}" for width, size, _ in sizes)
    raise ScalingError(
        f"the init of {weight.name} can't be read from the code ({_why(weight)}), and measured it is {shown}, which is "
        f"no clear power of the width; initialise it with torch.nn.init"
    )
