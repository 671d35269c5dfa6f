"""A coordinate check that knows no calculus: does each weight's own update move what it makes alike at all widths?

    python -m benchmarks.coordinates examples/gpt.py:gpt hf:llama ... [--widths 64,128,256,512] [--steps 4] [--seeds 2]

Trains with the exported multipliers, in plain PyTorch.  Hooks on modules see the size of each output at init, and of
its change.  A parameter's own effect is seen where it meets the data: the result of that operation, with all
parameters as trained, less the result with this one as at init, for the trained data (:class:`Effects`).  Rules that
are right give slopes in log n of 0 for effects, and of 0 or less for the other two.  Exit code 1 if any is off.
``tpcalc check`` compares with predictions; this does not, so that it can contradict them.

A change or an effect has its size, and its size over that of the result.  They differ where results are not O(1) by
right: a readout is n^-1/2 at init, the result of a gain that makes up for a readout is n^-1.  A slope is the kinder of
the two: growth must be seen in the change and in the change over the result at init, fading in the change and in the
change over the trained result.  An effect counts as if all steps had gone the same way: those of a scalar may cancel,
in one seed and not in the next.  What a module gives may grow where what the one around it gives does not: a constant
or a norm follows.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

import tpcalc
from tpcalc.derive.api import made as rules
from tpcalc.derive.experts import sized as sized_experts
from tpcalc.derive.gauge import EXPERTS
from tpcalc.derive.solve import solve
from tpcalc.optimizers import recipe
from tpcalc.scaling import Scaling
from tpcalc.scaling.compute import Scalings, traced_widths
from tpcalc.trace.hf import hf_factory
from tpcalc.trace.target import load_target

SMALLEST = 1e-9  # what is smaller than this is rounding
CALLS = 3  # of a module that is called several times, and uses of a parameter: so many are looked at
#: What grows or fades by more is off.  A wrong exponent is off by 1/2 at least; sums of 64 to 512 terms that are not
#: all aligned, and normalised, read up to 0.2 beside theirs, rather below than above.
GROWS, FADES = 0.25, -0.3


@dataclass(frozen=True)
class Off:
    """A slope that is not what it should be: the quantity, of which module or parameter, and the slope."""

    quantity: str
    name: str
    slope: float


def rms(*several: Tensor) -> float:
    squares = sum(float(x.detach().to(torch.complex128).abs().pow(2).sum()) for x in several)
    return math.sqrt(squares / sum(x.numel() for x in several))


def floats(output: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(output) if hasattr(output, "keys") else output)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point() and x.numel()]


def loss_of(output: Any, finite: set[int], seed: int) -> Tensor:
    """The output itself if it is a loss; else classes on last axes of the same length at all widths, and distances."""
    found = floats(output)
    if found and found[0].dim() == 0:
        return found[0]
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(())
    for index, x in enumerate(found):
        if index in finite and x.dim() > 1 and x.shape[-1] > 1:
            total = total + F.cross_entropy(
                x.flatten(0, -2), torch.randint(x.shape[-1], (x[..., 0].numel(),), generator=generator)
            )
        else:
            total = total + F.mse_loss(x, torch.randn(x.shape, generator=generator))
    return total


class Coordinates:
    """Trains one model at several widths and keeps the sizes that it saw."""

    def __init__(
        self,
        factory: Callable[[int], Any],
        widths: list[int],
        steps: int = 4,
        lr: float = 2**-8,
        scaled: bool = True,
        program: tpcalc.Program | None = None,
        few: bool = False,
    ) -> None:
        self.widths, self.steps, self.lr = widths, steps, lr
        self.factory = with_few_data(factory, widths[0]) if few else factory
        self.scalings = exported(factory, widths, program) if scaled else {}
        self.finite = self.same_ends()
        self.inputs: Any = None

    def same_ends(self) -> set[int]:
        """Outputs whose last axis does not grow."""
        ends = []
        for width in self.widths[:2]:
            model, inputs = made(self.factory, width)
            with torch.no_grad():
                ends.append([x.shape[-1:] for x in floats(call(model, inputs))])
        return {index for index, (a, b) in enumerate(zip(*ends)) if a == b}

    def run(self, width: int, seed: int) -> Iterator[tuple[str, str, float, float, float]]:
        """``(quantity, name, size, over the output at init, over the trained one)`` of one training."""
        torch.manual_seed(seed)
        model, inputs = made(self.factory, width)
        if self.inputs is None:
            self.inputs = inputs
        inputs = self.inputs if shapes(self.inputs) == shapes(inputs) else inputs
        groups: Any = [{"params": list(model.parameters()), "lr": self.lr}]
        if width in self.scalings:
            scaling = self.scalings[width]
            scaling.init_(model)
            groups = scaling.param_groups(model, lr=self.lr, eps=1e-12)
        optimizer = torch.optim.AdamW(groups, lr=self.lr, eps=1e-12, weight_decay=0.0)
        parameters = dict(model.named_parameters())
        start = {name: p.detach().clone() for name, p in parameters.items()}
        with torch.no_grad(), drawn(seed), Effects(parameters, start, inputs) as used:
            first = seen(model, inputs)
        for _ in range(self.steps):
            optimizer.zero_grad()
            with drawn(seed):
                loss = loss_of(call(model, inputs), self.finite, seed)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at width {width}")
            loss.backward()
            optimizer.step()
        with torch.no_grad(), drawn(seed), Effects(parameters, start, inputs) as uses:
            last = seen(model, inputs)
        for name in first.keys() & last.keys():
            pairs = list(zip(first[name], last[name]))
            if all(a.shape == b.shape for a, b in pairs):
                before, after = (rms(*side) for side in zip(*pairs))
                yield "init", name, before, 1.0, 1.0
                yield from sized("change", name, rms(*(b - a for a, b in pairs)), before, after)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, p in parameters.items():
            moved = (p.detach() - start[name])[p.detach() != start[name]]  # a mask holds the others
            if not moved.numel():
                continue
            same_way = rates[id(p)] * self.steps / rms(moved)
            for use, ((before, _), (after, effect)) in enumerate(zip(used.seen[name], uses.seen[name])):
                yield from sized("effect", f"{name} (use {use + 1})" if use else name, effect * same_way, before, after)


def with_few_data(factory: Callable[[int], Any], width: int) -> Callable[[int], Any]:
    """With one sample of a few tokens, or with one sample, where the model takes it.

    What one row of the data does to a weight is aligned with that row; what S rows do together is with each of them
    only as far as sums over the fan-in outgrow those over the rows, as the square root of its ratio to S.
    """

    def cut(x: Any, length: int | None) -> Any:
        if not isinstance(x, Tensor) or not x.dim():
            return x
        tokens = x.dim() == 3 or x.dim() == 2 and not x.is_floating_point()
        return x[:1, :length] if tokens else x[:1]

    for length in (3, None):

        def few(n: int, length: int | None = length) -> Any:
            model, inputs = factory(n)
            return model, tree_map(lambda x: cut(x, length), inputs)

        with contextlib.suppress(Exception):
            for n in (width, 2 * width):
                model, inputs = made(few, n)
                loss_of(call(model, inputs), set(), 0).backward()
            return few
    return factory


def exported(factory: Callable[[int], Any], widths: list[int], program: tpcalc.Program | None) -> dict[int, Scaling]:
    """What ``tpcalc.scale`` gives from the first width to each other one, of one trace for all."""
    traced = sorted({width for target in widths[1:] for width in traced_widths(widths[0], target)})
    how, solution = recipe("adamw"), sized_experts(solve(program or tpcalc.trace(factory, traced)), EXPERTS[0])
    scalings = Scalings(factory, solution, rules(solution, how, "init", EXPERTS[0]), how)
    return {width: scalings.between(widths[0], width) for width in widths[1:]}


class Effects(TorchDispatchMode):
    """By parameter, in the order of its uses: the size of each result, and of what the parameter's update makes of it.

    What is computed of parameters alone (a transposed weight, the exponential of one) is computed with each of them as
    at init, too, until it meets what comes from the inputs.  Rows that these pick out by number are still of the
    parameter alone: of an embedding, or the weights of an expert.
    """

    def __init__(self, parameters: dict[str, Tensor], start: dict[str, Tensor], inputs: Any) -> None:
        super().__init__()
        self.seen: dict[str, list[tuple[float, float]]] = {name: [] for name in parameters}
        self.data, self.others = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        for x in tensors(inputs):
            self.data[x] = True
        for name, p in parameters.items():
            self.others[p] = {name: start[name]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        data = [x for x in given if x in self.data]
        names = dict.fromkeys(name for x in given for name in self.others.get(x, ()))
        held = {id(x): x.clone() for x in given} if names and func._schema.is_mutable else {}
        asked = {name: self.at_init(name, (args, kwargs), held) for name in names}
        results = func(*args, **kwargs)
        made = tensors(results)
        for x in made if data else ():
            self.data[x] = True
        others = {name: tensors(func(*own, **named)) for name, (own, named) in asked.items()}
        alone = len(given) == 1 or not any(numbers(x) for x in data)
        if others and alone:
            for index, x in enumerate(made):
                self.others[x] = {name: other[index] for name, other in others.items()}
        elif made and numbers(made[0]):
            for name, other in others.items():
                if len(self.seen[name]) < CALLS:
                    self.seen[name].append((rms(made[0]), rms(made[0] - other[0])))
        return results

    def at_init(self, name: str, given: Any, held: dict[int, Tensor]) -> Any:
        def other(x: Any) -> Any:
            return self.others.get(x, {}).get(name, held.get(id(x), x)) if isinstance(x, Tensor) else x

        return tree_map(other, given)


def tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def numbers(x: Tensor) -> bool:
    return (x.is_floating_point() or x.is_complex()) and x.numel() > 0


def made(factory: Callable[[int], Any], width: int) -> tuple[nn.Module, Any]:
    """The model, without dropout, and its inputs."""
    model, inputs = factory(width)
    for module in model.modules():
        for name, value in vars(module).items():
            rate = isinstance(value, float) and ("drop" in name or isinstance(module, nn.modules.dropout._DropoutNd))
            if rate and 0 < value < 1:
                setattr(module, name, 0.0)
    return model, inputs


@contextlib.contextmanager
def drawn(seed: int) -> Iterator[None]:
    """What a model draws in its forward pass, it draws alike each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def sized(quantity: str, name: str, size: float, before: float, after: float) -> Iterator[tuple]:
    if before and after:
        yield quantity, name, size, size / before, size / after


def seen(model: nn.Module, inputs: Any) -> dict[str, list[Tensor]]:
    """The (first floating) outputs of each module's first calls."""
    found: dict[str, list[Tensor]] = defaultdict(list)

    def hook(name: str) -> Callable:
        def see(module: nn.Module, args: Any, output: Any) -> None:
            if floats(output) and len(found[name]) < CALLS:
                found[name].append(floats(output)[0].clone())

        return see

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    call(model, inputs)
    for handle in handles:
        handle.remove()
    return {name: outputs for name, outputs in found.items() if outputs}


def call(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def shapes(inputs: Any) -> list:
    return [tuple(x.shape) if isinstance(x, Tensor) else x for x in tree_leaves(inputs)]


def slopes(coordinates: Coordinates, seeds: int) -> dict[tuple[str, str], float]:
    """The slope of the geometric mean over seeds, of everything that is not zero."""
    logs: dict = defaultdict(lambda: defaultdict(list))
    for width in coordinates.widths:
        for seed in range(seeds):
            for quantity, name, size, *over in coordinates.run(width, seed):
                each = [math.log(x) if size > SMALLEST else -math.inf for x in (size, *over)]
                logs[quantity, name][width].append(each)
    found = {}
    for key, by_width in logs.items():
        if any(len(by_width[width]) != seeds for width in coordinates.widths):
            continue
        means = numpy.array([by_width[width] for width in coordinates.widths]).mean(1)
        if numpy.isfinite(means).all():
            size, over_init, over_trained = numpy.polyfit(numpy.log(coordinates.widths), means, 1)[0]
            grows = size if key[0] == "init" else min(size, over_init)
            found[key] = float(grows if grows > 0 else min(max(size, over_trained), 0.0))
    return found


def judged(found: dict[tuple[str, str], float], grows: float = GROWS, fades: float = FADES) -> list[Off]:
    def around(quantity: str, name: str) -> float:
        while name:
            name = name.rpartition(".")[0]
            if (quantity, name) in found:
                return found[quantity, name]
        return math.inf

    return [
        Off(quantity, name, slope)
        for (quantity, name), slope in found.items()
        if (quantity == "effect" and not fades <= slope <= grows)
        or (quantity != "effect" and slope > grows and around(quantity, name) > grows)
    ]


def factory_of(target: str, widths: list[int]) -> Callable[[int], Any]:
    return hf_factory(target[3:], widths=widths) if target.startswith("hf:") else load_target(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--widths", default="64,128,256,512")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2**-8)
    parser.add_argument("--unscaled", action="store_true", help="train as if nothing had to be scaled")
    parser.add_argument("--all", action="store_true", help="print every slope")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    widths, failed = [int(width) for width in arguments.widths.split(",")], 0
    for target in arguments.targets:
        try:
            factory = factory_of(target, widths)
            coordinates = Coordinates(factory, widths, arguments.steps, arguments.lr, not arguments.unscaled)
        except tpcalc.TpcalcError as error:
            print(f"{target}: refused: {error}")
            continue
        found = slopes(coordinates, arguments.seeds)
        off = judged(found)
        failed += bool(off)
        print(f"{target}: {len(found)} slopes, {len(off)} off", flush=True)
        for (quantity, name), slope in found.items():
            if arguments.all or Off(quantity, name, slope) in off:
                print(f"    {quantity:6} {slope:+.2f}  {name}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
