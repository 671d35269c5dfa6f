"""What an op does to laws: draws make them, constants too, affine ops move them, joins mix them.

The ops are told by name in this one table, as those of the rules are in theirs: that one stands above the tracer and
says how sizes grow, this one gives distributions, and only of what code does to initialise weights.  Anything pointwise
that is not here is applied to the quantiles of its operands; ops that make tensors from numbers alone are run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Optional

import torch
from torch.utils._python_dispatch import _disable_current_modes

from tpcalc.trace.init.law import (
    GRID,
    Law,
    Norm,
    Uniform,
    blend,
    constant,
    independent,
    mixture,
    normal,
    of_entries,
    of_moments,
    probabilities,
    truncated_normal,
    uniform,
    unknown,
)
from tpcalc.trace.init.samples import evaluate
from tpcalc.trace.record.ops import Op

__all__ = ["LARGEST_DATA", "Call", "law_of_call", "said"]

#: Largest tensor made of plain data (``arange``, ``torch.tensor([...])``) whose entries are looked at.
LARGEST_DATA = 1 << 20
#: Label of a tensor of random signs, which change no zero-mean law.
_SIGNS = "signs"


@dataclass
class Call:
    """One call of an op; ``law_of`` tells the laws of its tensors, each of ``seeds`` is used once."""

    op: Op
    name: str
    args: tuple
    kwargs: dict[str, Any]
    law_of: Callable[[torch.Tensor], Law]
    seeds: Iterator[int]

    @cached_property
    def named(self) -> dict[str, Any]:
        """Arguments by their schema name, as given."""
        return {**{spec.name: arg for spec, arg in zip(self.op.func._schema.arguments, self.args)}, **self.kwargs}

    def operand(self, arg: Any) -> Law:
        if isinstance(arg, torch.Tensor):
            return self.law_of(arg)
        if isinstance(arg, (bool, int, float)):
            return constant(arg, f"{arg:g}" if not isinstance(arg, bool) else str(arg))
        return unknown(f"an operand of type {type(arg).__name__}")

    def moments(self, mean: float, square: float, call: str) -> Law:
        """A law of known moments whose quantiles are worked out only if asked for."""
        laws = [self.operand(arg) for arg in self.args[:2]]
        seed = next(self.seeds)

        def quantiles() -> Optional[torch.Tensor]:
            return evaluate(self.op.func, laws, self.args, self.kwargs, seed)

        has = all(law.is_constant or law.quantiles is not None for law in laws)
        return of_moments(mean, square, call, quantiles if has else None, any(law.drawn for law in laws))

    def pointwise(self) -> Law:
        """Any pointwise op, applied to the quantiles of its operands."""
        laws = [self.law_of(arg) for arg in self.args if isinstance(arg, torch.Tensor)]
        for law in laws:
            if not law.known:
                return law
        values = evaluate(self.op.func, laws, self.args, self.kwargs, next(self.seeds))
        if values is None:
            return unknown(f"{self.name} of {laws[0].call if laws else 'numbers'}")
        varying = [law for law in laws if not law.is_constant]
        sources = {id(law.source): law.source for law in varying}
        call = f"{self.name} of {laws[0].call}"
        call = call if len(sources) < 2 else f"about {call}"
        with _disable_current_modes():
            before = varying[0].sample() if len(varying) == 1 else None
            if before is not None and before.shape == values.shape and torch.equal(before, values):
                return varying[0]  # a clamp that clamps nothing
            law = of_entries(values, call if len(call) < 120 else self.name)
            law = replace(law, drawn=any(operand.drawn for operand in varying))
        return replace(law, source=next(iter(sources.values()))) if len(sources) == 1 and law.std else law

    def computed(self) -> Law:
        """Entries that depend on numbers only: computed for real."""
        real = {key: value for key, value in self.kwargs.items() if key not in ("device", "pin_memory", "layout")}
        with _disable_current_modes():
            values = self.op.func(*self.args, **real)
            if values.numel() > LARGEST_DATA:
                return unknown(f"{self.name} of {values.numel()} entries")
            return of_entries(values, self.name)


_LAWS: dict[str, Callable[[Call], Law]] = {
    **dict.fromkeys(("zeros", "zero", "zeros_like", "new_zeros"), lambda call: constant(0.0, "zeros_()")),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), lambda call: constant(1.0, "ones_()")),
    **dict.fromkeys(("rand", "rand_like"), lambda call: uniform(0.0, 1.0, "rand()")),
    **dict.fromkeys(("randn", "randn_like"), lambda call: normal(0.0, 1.0, "randn()")),
    **dict.fromkeys(("cat", "stack"), lambda call: mixture((part.numel(), call.law_of(part)) for part in call.args[0])),
    **dict.fromkeys(("index_put", "_index_put_impl"), lambda call: call.operand(call.args[2])),
    "copy": lambda call: call.operand(call.args[1]),
}


def _law(*names: str) -> Callable[[Callable[[Call], Law]], Callable[[Call], Law]]:
    """The law of what the ops of these names make or write."""

    def register(law: Callable[[Call], Law]) -> Callable[[Call], Law]:
        _LAWS.update(dict.fromkeys(names, law))
        return law

    return register


def law_of_call(call: Call) -> Law:
    """The law of what ``call`` makes or writes."""
    op, own = call.op, _LAWS.get(call.name)
    if own is not None:
        return own(call)
    if op.empty:
        return unknown("uninitialised memory")
    if op.constructs and not op.random:
        return call.computed()
    if torch.Tag.view_copy in op.func.tags:
        return _carried(call)
    if torch.Tag.pointwise in op.func.tags:
        return call.pointwise()
    return unknown(f"{call.name} has no law")


@_law(
    "clone", "_to_copy", "lift_fresh", "lift", "repeat", "repeat_interleave", "flip", "roll", "rot90", "sort", "index",
    "index_select", "gather", "take", "embedding", "_reshape_copy", "_conj_physical",
)  # fmt: skip
def _carried(call: Call) -> Law:
    """The entries of the first operand, possibly some of them, or several times."""
    return call.operand(call.args[0])


# -- draws: the name of the torch.nn.init function that called, if any, is the better label --------


@_law("normal", "normal_functional")
def _normal(call: Call) -> Law:
    mean, std = call.named.get("mean", 0.0), call.named.get("std", 1.0)
    if not isinstance(mean, torch.Tensor) and not isinstance(std, torch.Tensor):
        return normal(mean, std, _label("normal_", std, mean=mean, std=std))
    middle, spread = call.operand(mean), call.operand(std)
    if not middle.known or not spread.known:
        return unknown("normal with unknown mean or std")
    total = math.sqrt(middle.std**2 + spread.std**2 + spread.mean**2)
    return Law(middle.mean, total, f"normal({said(mean=middle.mean, std=total)})", drawn=True)


@_law("uniform")
def _uniform(call: Call) -> Law:
    low, high = call.named.get("from", 0.0), call.named.get("to", 1.0)
    law = uniform(low, high, "")
    return replace(law, call=_label("uniform_", law.std, a=low, b=high))


@_law("randint")
def _integers(call: Call) -> Law:
    low, high = call.named.get("low", 0), call.named["high"]
    spread = math.sqrt(((high - low) ** 2 - 1) / 12)
    said_as = f"randint({low}, {high})"
    entries = lambda: (probabilities() * (high - low) + low).floor()  # noqa: E731
    return Law((low + high - 1) / 2, spread, said_as, entries, drawn=True)


@_law("bernoulli")
def _bernoulli(call: Call) -> Law:
    given = call.named.get("p")
    law = call.operand(call.args[0] if given is None else given)
    if not law.is_constant:
        return unknown("bernoulli with unequal probabilities")
    p = law.mean
    return Law(p, math.sqrt(p * (1 - p)), f"bernoulli({p:g})", lambda: (probabilities() < p).double(), drawn=True)


@_law("exponential")
def _exponential(call: Call) -> Law:
    rate = call.named.get("lambd", 1.0)
    return Law(1 / rate, 1 / rate, f"exponential_({rate:g})", lambda: -torch.log1p(-probabilities()) / rate)


@_law("log_normal")
def _log_normal(call: Call) -> Law:
    mean, std = call.named.get("mean", 1.0), call.named.get("std", 2.0)
    middle = math.exp(mean + std * std / 2)
    return Law(middle, middle * math.sqrt(math.expm1(std * std)), f"log_normal_({said(mean=mean, std=std)})")


@_law("randperm")
def _permutation(call: Call) -> Law:
    size = call.args[0]
    return Law((size - 1) / 2, math.sqrt((size * size - 1) / 12), f"randperm({size})")


# -- constants -------------------------------------------------------------------------------------


@_law("full", "fill", "full_like", "new_full")
def _full(call: Call) -> Law:
    law = call.operand(call.named["fill_value"] if "fill_value" in call.named else call.named["value"])
    if not law.is_constant:
        return law
    return constant(law.mean, {0.0: "zeros_()", 1.0: "ones_()"}.get(law.mean, f"constant_({law.mean:g})"))


@_law("eye")
def _eye(call: Call) -> Law:
    """Ones on the diagonal; ``std`` is the rms entry, ``1/sqrt(longer side)``, as of an orthogonal matrix."""
    longer = max(int(call.named["n"]), int(call.named.get("m", call.named["n"])))
    return Law(0.0, 1 / math.sqrt(longer), "eye_()")


# -- parts ----------------------------------------------------------------------------------------


@_law("constant_pad_nd")
def _padded(call: Call) -> Law:
    tensor, pad = call.args[0], call.args[1]
    value = call.args[2] if len(call.args) > 2 else 0
    grown = list(tensor.shape)
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2]), start=1):
        grown[-axis] += before + after
    law, added = call.law_of(tensor), math.prod(grown) - tensor.numel()
    return law if added <= 0 else mixture([(tensor.numel(), law), (added, constant(value, f"constant_({value})"))])


@_law("tril", "triu")
def _triangle(call: Call) -> Law:
    law, diagonal = call.law_of(call.args[0]), call.named.get("diagonal", 0)
    if not law.known:
        return law
    rows, columns = call.args[0].shape[-2:]
    upper = call.name == "triu"
    lower = sum(min(max(row + diagonal + (not upper), 0), columns) for row in range(rows))
    share = ((rows * columns - lower) if upper else lower) / (rows * columns)
    return of_moments(share * law.mean, share * law.square, f"{call.name} of {law.call}", drawn=law.drawn)


# -- linear algebra --------------------------------------------------------------------------------


@_law("linalg_qr", "qr")
def _qr(call: Call) -> Law:
    """The Q of a Gaussian matrix (``orthogonal_``): entries of rms ``1/sqrt(longer side)``."""
    rows, columns = call.args[0].shape[-2:]
    law = call.law_of(call.args[0])
    if not law.known or law.mean != 0 or rows < columns:
        return unknown("QR of a matrix that is not a tall zero-mean draw")
    return Law(0.0, 1 / math.sqrt(rows), _label("qr", 1 / math.sqrt(rows)), drawn=law.drawn)


@_law("mm", "bmm", "mv")
def _product(call: Call) -> Law:
    x, y = call.law_of(call.args[0]), call.law_of(call.args[1])
    if not (x.known and y.known and independent(x, y)):
        return unknown("product of matrices whose laws are unknown or dependent")
    if x.mean and y.mean:
        return unknown("product of matrices of nonzero mean")
    total = math.sqrt(call.args[0].shape[-1] * (x.square * y.square))
    return replace(normal(0.0, total, f"({x.call}) @ ({y.call})"), drawn=x.drawn or y.drawn)  # by the central limit


@_law("linalg_vector_norm", "norm")
def _norm(call: Call) -> Law:
    """Euclidean norms of rows of ``k`` zero-mean draws: ``std * sqrt(k)``; the spread is from the fourth moment."""
    tensor, dims = call.args[0], call.named.get("dim")
    law = call.law_of(tensor)
    sample = law.sample() if law.known else None
    power = call.named.get("ord", 2) if call.name != "norm" else call.named.get("p") or 2
    if sample is None or law.mean != 0 or law.is_constant or power != 2:
        return unknown("norm")
    with _disable_current_modes():
        kurtosis = float((sample**4).mean()) / float((sample**2).mean()) ** 2
    count = math.prod(tensor.shape if dims is None else [tensor.shape[dim] for dim in dims])
    variance = law.std**2 * (kurtosis - 1) / 4
    middle = math.sqrt(max(law.std**2 * count - variance, 0.0))
    return replace(normal(middle, math.sqrt(variance), f"norm of {law.call}"), source=Norm(law.source, count))


@_law("sign", "sgn")
def _sign(call: Call) -> Law:
    """Signs, needed by ``orthogonal_``, of whatever it is."""
    law = call.law_of(call.args[0])
    return call.pointwise() if law.known and law.sample() is not None else Law(0.0, 1.0, _SIGNS)


# -- pointwise ops ---------------------------------------------------------------------------------


@_law("mul")
def _mul(call: Call) -> Law:
    x, y = call.operand(call.args[0]), call.operand(call.args[1])
    if y.is_constant or x.is_constant:
        law, factor = (x, y) if y.is_constant else (y, x)
        return law.scaled(factor.mean)
    if y.call == _SIGNS and x.known and x.mean == 0:
        return x
    if x.known and y.known and independent(x, y):
        return call.moments(x.mean * y.mean, x.square * y.square, f"({x.call}) * ({y.call})")
    return call.pointwise()


@_law("div")
def _div(call: Call) -> Law:
    law, divisor = call.operand(call.args[0]), call.operand(call.args[1])
    if divisor.is_constant and divisor.mean != 0 and call.kwargs.get("rounding_mode") is None:
        return law.scaled(1.0 / divisor.mean, f" / {divisor.mean:.6g}")
    if law.known and isinstance(divisor.source, Norm) and divisor.source.of is law.source and law.mean == 0:
        return Law(0.0, 1 / math.sqrt(divisor.source.count), f"normalised {law.call}", drawn=law.drawn)
    return call.pointwise()


@_law("add", "sub")
def _add(call: Call) -> Law:
    x, y = call.operand(call.args[0]), call.operand(call.args[1])
    alpha = call.named.get("alpha", 1) * (-1.0 if call.name == "sub" else 1.0)
    if not (x.known and y.known):
        return x if not x.known else y
    sign = "-" if alpha < 0 else "+"
    if y.is_constant:
        shift = alpha * y.mean
        return x if shift == 0 else x.affine(1.0, shift, f"{x.call} {'-' if shift < 0 else '+'} {abs(shift):.6g}")
    if x.is_constant:
        prefix = f"{x.mean:.6g} + " if x.mean else ""
        return y.affine(alpha, x.mean, prefix + (y.call if alpha == 1 else f"{alpha:.6g} * {y.call}"))
    if independent(x, y):
        mean = x.mean + alpha * y.mean
        return call.moments(mean, x.std**2 + (alpha * y.std) ** 2 + mean**2, f"{x.call} {sign} {y.call}")
    return call.pointwise()


@_law("neg")
def _neg(call: Call) -> Law:
    law = call.operand(call.args[0])
    return law.affine(-1.0, 0.0, f"-{law.call}" if " " not in law.call else f"-({law.call})")


@_law("erfinv")
def _erfinv(call: Call) -> Law:
    """``erfinv`` of a uniform draw is a truncated normal of variance 1/2: the classical recipe."""
    law = call.operand(call.args[0])
    if isinstance(law.source, Uniform) and law.call.startswith("uniform_"):
        with _disable_current_modes():
            bounds = torch.tensor([law.source.low, law.source.high], dtype=torch.float64)
            low, high = torch.erfinv(bounds.clamp(-1, 1)).tolist()
        return truncated_normal(0.0, math.sqrt(0.5), low, high, "truncated normal")
    return call.pointwise()


@_law("where", "masked_fill")
def _where(call: Call) -> Law:
    """Entries of two laws picked by an independent mask: their mixture."""
    args = call.args if call.name == "where" else (call.args[1], call.args[2], call.args[0])
    if len(args) == 3:
        mask, x, y = (call.operand(arg) for arg in args)
        if mask.known and x.known and y.known and independent(mask, x) and independent(mask, y):
            share = round(mask.mean * GRID)
            return blend([(share, x), (GRID - share, y)])
    return call.pointwise()


# -- labels ----------------------------------------------------------------------------------------


def said(**named: float) -> str:
    """``std=0.02``: the arguments worth saying; defaults and bounds too far out to matter are left out."""
    mean, std = named.get("mean", 0.0), named.get("std")
    if mean == 0:
        named.pop("mean", None)
    if "a" in named and std is not None and min(abs(named["a"] - mean), abs(named["b"] - mean)) > 8 * std:
        del named["a"], named["b"]
    return ", ".join(f"{key}={value:.6g}" for key, value in named.items())


def _label(primitive: str, spread: float, /, **named: float) -> str:
    """``normal_(std=0.02)``, or ``kaiming_uniform_(std=0.0722)`` when a function of torch.nn.init made the draw."""
    frame: Any = sys._getframe(2)
    depth, name = 0, ""
    while frame is not None and depth < 24:
        if frame.f_globals.get("__name__") == "torch.nn.init":
            if not frame.f_code.co_name.startswith("_"):
                name = frame.f_code.co_name
        elif name:
            break
        frame, depth = frame.f_back, depth + 1
    if name and name not in (primitive, primitive.rstrip("_")):
        return f"{name}(std={spread:.6g})"
    return f"{primitive}({said(**named)})"
