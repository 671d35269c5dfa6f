"""How large the code's own initialisation is at the base and at the target width."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, Optional

import torch

from tpcalc.algebra.fit import half_power
from tpcalc.algebra.roots import Factor, power_product, tidy
from tpcalc.document.table import Drawn
from tpcalc.errors import ScalingError
from tpcalc.lower.lowered import Leaf
from tpcalc.program.ir import InitLaw, Program, Weight
from tpcalc.trace.init import InitRecorder, measured_law
from tpcalc.trace.record import build
from tpcalc.trace.target import call_factory

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
    def draw(self) -> Drawn:
        """``normal``, ``uniform`` or ``constant``; ``other`` for anything that a draw would not reproduce."""
        if self.target.kind == "constant":
            return "constant"
        plain = _PLAIN.fullmatch(self.target.call)
        name = plain["name"] if plain else ""
        if "uniform" in name or name in ("rand", "rand_like"):
            return "uniform"
        return "normal" if "normal" in name or name in ("randn", "randn_like", "orthogonal_") else "other"


class Inits:
    """The code's own init of every weight, and of the ``blocks`` of packed ones: it may draw q otherwise than k and v.

    Read from the init calls: of weights as they were recorded while tracing, of blocks in a construction of their own.
    Weights whose calls say ``unknown`` are measured on small real instances, and such a block starts as its weight.
    What has to be built is built once, for whatever widths are asked for.
    """

    def __init__(self, factory: Callable[[int], Any], program: Program, blocks: Sequence[Leaf] = ()) -> None:
        self._factory, self._program, self._blocks = factory, program, blocks
        self._block_laws: dict[int, dict[str, InitLaw]] = {}
        self._samples: dict[int, dict[str, tuple[InitLaw, int]]] = {}

    def between(self, base: int, target: int) -> dict[str, Initial]:
        """By the first name of a weight and the name of a block.

        Raises ScalingError, naming the weight, where there is no exact answer.
        """
        found, unknown = {}, []
        for weight in self._program.weights:
            laws = dict(weight.init)
            own = read(weight.name, laws.get(base), laws.get(target), partial(_without_noise, weight, base, target))
            if own is None:
                unknown.append(weight)
            else:
                found[weight.name] = own
        found.update((weight.name, _snapped(weight, self._measured(unknown), base, target)) for weight in unknown)
        for leaf in self._blocks:
            at_base, at_target = (self._laws_at(width)[leaf.name] for width in (base, target))
            named = replace(leaf.weight, name=leaf.name, shape=leaf.shape)
            own = read(leaf.name, at_base, at_target, partial(_without_noise, named, base, target))
            found[leaf.name] = own or found[leaf.weight.name]
        return found

    def _laws_at(self, width: int) -> dict[str, InitLaw]:
        """The laws of the blocks at ``width``."""
        if width not in self._block_laws:
            recorder, laws = InitRecorder(), self._block_laws.setdefault(width, {})
            model, _ = build(lambda: call_factory(self._factory, width), recorder)
            parameters = dict(model.named_parameters(remove_duplicate=False))
            for leaf in self._blocks:
                assert leaf.dim is not None and leaf.start is not None and leaf.length is not None
                place = leaf.dim, leaf.start.at(width), leaf.length.at(width)
                laws[leaf.name] = recorder.law_of_block(parameters[leaf.weight.name], *place)
        return self._block_laws[width]

    def _measured(self, unknown: Sequence[Weight]) -> dict[int, dict[str, tuple[InitLaw, int]]]:
        """By width, of small real instances: the law of each weight and how many entries say so."""
        if not self._samples:
            widths = _small_widths(self._program)
            if len(widths) < 3:
                raise ScalingError(
                    f"the init of {', '.join(weight.name for weight in unknown[:3])} can't be read from the code "
                    f"({_why(unknown[0])}) and the model is too large to measure it; initialise it with torch.nn.init, "
                    f"or give smaller --widths"
                )
            self._samples = {width: _measure(self._factory, width) for width in widths[:4]}
        return self._samples


def _rms(law: InitLaw) -> float:
    return math.hypot(law.std, law.mean) if law.mean else law.std


def read(
    name: str,
    base: Optional[InitLaw],
    target: Optional[InitLaw],
    without_noise: Optional[Callable[[float], Factor]] = None,
) -> Optional[Initial]:
    """From what the init calls say at both ends; None where they say nothing.

    ``without_noise``: makes a factor of a ratio of entries that were drawn elsewhere, where that is possible.  Raises
    ScalingError where the weight ``name`` starts at zero at one end alone.
    """
    if base is None or target is None or "unknown" in (base.kind, target.kind):
        return None
    at_base, at_target = _rms(base), _rms(target)
    if at_base == at_target:
        return Initial(base, target)
    if at_base == 0 or at_target == 0:
        zero, end = (base, "base") if at_base == 0 else (target, "target")
        raise ScalingError(
            f"{name} is initialised to zero at the {end} ({zero.call}) and not at the other end, so no multiplier "
            f"turns one into the other; make the init the same kind at all sizes"
        )
    ratio = at_base / at_target
    if "data" in base.call and "data" in target.call and "random" in (base.kind, target.kind):
        return None if without_noise is None else Initial(base, target, without_noise(ratio))
    return Initial(base, target, tidy(ratio))


def _without_noise(weight: Weight, base: int, target: int, ratio: float) -> Factor:
    """Entries drawn elsewhere (numpy) and read as data: their std is a sample's, and within its noise a power of n."""
    width, power = Fraction(base, target), half_power((target, 1.0), (base, ratio))
    snapped = power_product([(width, power)])
    entries = (math.prod(size.at(n) for size in weight.shape) for n in (base, target))
    noise = math.sqrt(sum(1 / (2 * count) for count in entries))
    return (width, power) if abs(ratio / snapped - 1) <= SIGMAS * noise < 0.2 else tidy(ratio)


def _why(weight: Weight) -> str:
    return next((law.call for _, law in weight.init if law.kind == "unknown"), "") or "no init call was seen"


def _small_widths(program: Program) -> list[int]:
    """The traced widths at which a real model is small, the largest first."""

    def entries(width: int) -> int:
        return sum(math.prod(size.at(width) for size in weight.shape) for weight in program.weights)

    return [width for width in sorted(program.widths, reverse=True) if entries(width) <= LARGEST_MEASURED]


def _measure(factory: Callable[[int], Any], width: int) -> dict[str, tuple[InitLaw, int]]:
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
        p = half_power((n0, s0), (n1, s1))
        # the same numbers at every width (an identity, put in place by hand) are no estimate
        exact = first.kind == "constant" or len({size for _, size, _ in sizes}) == 1
        error = 0.0 if exact else 1 / math.sqrt(2 * min(e0, e1)) * SIGMAS
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
