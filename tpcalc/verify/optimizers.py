"""Which update law an optimizer follows: what its steps show (:mod:`tpcalc.probe`).

What its class is called, what its groups say and what a user declared are hypotheses.  They stand where it can't be
probed (its steps need a model, a device or a process group), and then a note says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from tpcalc.algebra.order import Order
from tpcalc.errors import DeriveError, SetupError
from tpcalc.optimizers import INSIDE_ROOT, LAWS, UpdateLaw, muon_law, update_law
from tpcalc.probe import Found, Kind, Measured, Subject, Unprobable, law_of_measured, one_rate, probe

#: ``law(group, growths of the weight's axes) -> UpdateLaw``, a law, or the name of one.
LawOf = Union[str, UpdateLaw, Callable[[Mapping[str, Any], tuple[Order, ...]], UpdateLaw]]


def _by(key: str, yes: str, no: str, default: bool = True) -> LawOf:
    """The law by what a group says."""
    return lambda group, growths: LAWS[yes if group.get(key, default) else no]


def _muon(group: Mapping[str, Any], growths: tuple[Order, ...]) -> UpdateLaw:
    return muon_law(group.get("adjust_lr_fn"))


def _rmsprop_tf(group: Mapping[str, Any], growths: tuple[Order, ...]) -> UpdateLaw:
    """TensorFlow's: as the other laws but for epsilon."""
    return replace(LAWS["adamw" if group.get("decoupled_decay") else "rmsprop"], eps=INSIDE_ROOT)


#: transformers' Adafactor: relative only with scale_parameter.
_RELATIVE_OR_NOT = _by("scale_parameter", "adafactor_transformers", "adafactor_absolute")
#: Keller Jordan's: original factor; MuonWithAuxAdam's groups say ``use_muon``, the others are AdamW's.
_KELLER_JORDAN = _by("use_muon", "muon", "adamw")
#: Moonlight's: matched to AdamW's rms; it says of each parameter whether ``use_muon``, the others are AdamW's.
_MOONLIGHT = _by("use_muon", "muon_match_rms_adamw", "adamw")


def _by_what_it_says(optimizer: Any, name: str) -> Optional[LawOf]:
    """The law of a class of which there are several kinds under one name, where it or its groups tell which."""
    groups = optimizer.param_groups
    if name == "Muon" and callable(getattr(optimizer, "adjust_lr_for_muon", None)):
        return _MOONLIGHT
    if name == "Muon" and all("adjust_lr_fn" in group for group in groups):
        return lambda group, growths: _muon(group, growths) if group.get("use_muon", True) else LAWS["adamw"]
    if name == "Adafactor" and all("scale_parameter" in group for group in groups):
        return _RELATIVE_OR_NOT
    return None


#: Names that stand for several laws -> which ones.
_AMBIGUOUS = {
    "Muon": "its shape factor can't be told; declare 'muon' for sqrt(max(1, rows/columns)), 'muon_match_rms_adamw' for "
    "sqrt(max(rows, columns)), 'muon_spectral' for sqrt(rows/columns)",
    "Shampoo": "the power of its factors can't be told; declare 'shampoo' for -1/(2k), k the number of axes (Gupta, "
    "Koren & Singer 2018), and an UpdateLaw of its own for another power or with grafting",
    "Adafactor": "whether it scales updates to rms(W) can't be told; declare 'adafactor' if so and decay is "
    "decoupled, 'adafactor_transformers' if it also scales the decay, 'adafactor_absolute' if not",
}


#: Full name of a class (torch's without the file) -> its law.  Subclasses that keep ``step`` count as their parents.
_KNOWN: dict[str, LawOf] = {
    "torch.optim.SGD": "sgd",
    "torch.optim.ASGD": "asgd",
    "torch.optim.Adam": _by("decoupled_weight_decay", "adamw", "adam", False),
    "torch.optim.AdamW": "adamw",
    "torch.optim.SparseAdam": "adam",
    "torch.optim.Adamax": "adamax",
    "torch.optim.NAdam": _by("decoupled_weight_decay", "nadamw", "nadam", False),
    "torch.optim.RAdam": _by("decoupled_weight_decay", "radamw", "radam", False),
    "torch.optim.RMSprop": "rmsprop",
    "torch.optim.Adagrad": "adagrad",
    "torch.optim.Adadelta": "adadelta",
    "torch.optim.Rprop": "rprop",
    "torch.optim.Adafactor": "adafactor",
    "torch.optim.Muon": _muon,
    "transformers.optimization.Adafactor": _RELATIVE_OR_NOT,
    "transformers.optimization.AdamW": "adamw",
    "apex.optimizers.fused_sgd.FusedSGD": "sgd",
    "bitsandbytes.optim.adamw.AdamW8bit": "adamw",
    "bitsandbytes.optim.lion.Lion8bit": "lion",
    # Keller Jordan's package, https://github.com/KellerJordan/Muon
    "muon.Muon": _KELLER_JORDAN,
    "tpcalc.check.reference.MuonSpectral": "muon_spectral",
    "tpcalc.check.reference.Shampoo": "shampoo",
    "tpcalc.check.reference.KFAC": "kfac",
    "tpcalc.check.reference.FOOF": "foof",
    "tpcalc.check.reference.Sign": "sign",
}
#: Bare names of classes that everybody writes alike.
_NAMED: dict[str, LawOf] = {
    "Lion": "lion",
    "SignSGD": "sign",
    "Signum": "sign",
    "LAMB": "lamb",
    "Lamb": "lamb",
    "LARS": "lars",
    "Lars": "lars",
    "AdamAtan2": "adam_atan2",
    "SOAP": "soap",
    "RMSpropTF": _rmsprop_tf,
    "SingleDeviceMuon": _KELLER_JORDAN,
    "MuonWithAuxAdam": _KELLER_JORDAN,
    "SingleDeviceMuonWithAuxAdam": _KELLER_JORDAN,
}
#: Classes that users declared.
DECLARED: dict[type, LawOf] = {}


def declare_optimizer(law: LawOf) -> Callable[[type], type]:
    """Class decorator that declares the update law of an optimizer class, for :func:`tpcalc.verify`.

    ``law``: the name of a law (``"adamw"``, ``"lion"``, ``"sgd"``, ...: the keys of ``tpcalc.optimizers.LAWS``), an
    :class:`tpcalc.optimizers.UpdateLaw`, or a function ``(param_group, growths of the weight's axes) -> UpdateLaw``.

    ::

        @tpcalc.declare_optimizer("lion")
        class MyLion(torch.optim.Optimizer): ...

        tpcalc.declare_optimizer("adamw")(somebody.Optimizer)     # a class that is not yours
    """
    if isinstance(law, str):
        try:
            update_law(law)
        except DeriveError as error:
            raise SetupError(f"{law!r} is no update law: {error}") from None

    def register(cls: type) -> type:
        DECLARED[cls] = law
        return cls

    return register


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def law_of(optimizer: Any) -> LawOf:
    """The update law that the name of a live optimizer, its groups or its user stand for.

    Raises SetupError for a class without one.
    """
    cls = type(optimizer)
    for ancestor in cls.__mro__:
        if ancestor in DECLARED:
            return DECLARED[ancestor]
        if _full_name(ancestor) == "apex.optimizers.fused_adam.FusedAdam":
            return "adamw" if getattr(optimizer, "adam_w_mode", True) else "adam"
        module = "torch.optim" if ancestor.__module__.startswith("torch.optim.") else ancestor.__module__
        law = _KNOWN.get(f"{module}.{ancestor.__qualname__}") or _NAMED.get(ancestor.__name__)
        if law is not None:
            return law
        if ancestor.__name__ in _AMBIGUOUS:
            told = _by_what_it_says(optimizer, ancestor.__name__)
            if told is not None:
                return told
            raise SetupError(
                f"optimizer {_full_name(cls)} goes by a name of several laws: {_AMBIGUOUS[ancestor.__name__]}: "
                f'tpcalc.declare_optimizer("...")({cls.__name__})'
            )
        if "step" in vars(ancestor):
            break  # it steps in a way of its own
    raise SetupError(
        f"optimizer {_full_name(cls)} has no update law here; declare the law it follows, with "
        f'tpcalc.declare_optimizer("...")({cls.__name__}), or give an UpdateLaw of its own'
    )


# -- what is so ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """How an optimizer trains one parameter: its law, what was measured (None: it can't be probed), and notes, in
    which ``{shapes}`` stands for the kinds of weights that they are about, of which this is of ``shape``.
    ``one_rate``: what it raises where its groups have rates of their own; empty where they may."""

    law: UpdateLaw
    seen: Optional[Measured] = None
    notes: tuple[str, ...] = ()
    shape: str = ""
    one_rate: str = ""


def trained_by(subject: Subject, told: Mapping[str, Any], kind: Kind, decays: bool, all_decay: bool = False) -> Trained:
    """Probe the optimizer of a parameter, and compare with what its name says.

    ``told``: what its group says.  ``decays``: whether its decay is more than 0.  ``all_decay``: read decay all the
    same.  Raises SetupError for one that can't be probed and has no law by name.
    """
    named, refusal = _named(subject, told, kind.growths)
    who = _full_name(type(subject.optimizer))
    try:
        seen = probe(subject, kind, all_decay)
    except Unprobable as why:
        if named is None:
            raise SetupError(f"{refusal} (its steps can't be probed: {why})") from None
        taken = f"{who} could not be probed ({_plain(why)}): {named.name} is what it is taken for"
        return Trained(named, None, (taken,))
    found = law_of_measured(seen, kind.growths, named, type(subject.optimizer).__name__, decays or seen.taken > 0)
    shape = ", ".join("n" if x == 1 else f"n^({x})" if x > 0 else "1" for x in kind.growths)
    notes = _notes(who, _declared(subject.optimizer), named, found, seen)
    if seen.unhooked:
        fails = _plain(seen.unhooked)
        notes.append(f"step hooks of {who} are not run ({fails}); what they change in gradients or weights is left out")
    return Trained(found.law, seen, tuple(notes), f"[{shape}]", one_rate(subject, kind))


def with_rates_apart(who: str, why: str) -> SetupError:
    """For groups with several rates, which their optimizer does not take."""
    return SetupError(
        f"{who} does not take groups with several learning rates, as training would find at its first step ({why}); "
        f"give all groups one, and scale by multipliers in the forward pass what needs another"
    )


def _plain(why: object) -> str:
    """Without what a note is filled in by."""
    return str(why).replace("{", "(").replace("}", ")")


def _notes(who: str, declared: bool, named: Optional[UpdateLaw], found: Found, seen: Measured) -> list[str]:
    """Where what was measured is not what the name says, or there is no name."""
    law = found.law
    started = f", after first steps that go as gradient^{seen.first.gradient}" if seen.first is not None else ""
    measured = f"measured on weights {{shapes}}, its update for a learning rate of 1 is ~ {found.said}{started}"
    taken = f"the law of {law.name}" if law.name in LAWS else "a law of its own"
    how = "declared as" if declared else "taken by its name for"
    notes = []
    if found.differs and named is None:
        notes.append(f"{who} is known by no name; {measured}: {taken}")
    elif found.differs == "update" and named is not None:
        notes.append(f"{who} is not the {named.name} that it is {how}; {measured}: {taken}")
    elif found.differs and named is not None:
        other = law.decay.convention if found.differs == "decay" else "" if law.eps is None else law.eps.convention
        notes.append(f"{who} is not quite the {named.name} that it is {how}; as measured, {other}")
    if seen.eps is None and seen.eps_key is not None:
        notes.append(f"what {seen.eps_key} of {who} stands beside could not be measured; see that it stays small there")
    if seen.shared:
        notes.append(
            f"{who} has a factor that is common to all weights (a global norm, a step size that it estimates): rates "
            f"are judged without it; a global norm changes with the width as the table's line on gradient clipping says"
        )
    if seen.taken:
        notes.append(
            f"{who} decays weights by a number in its code, or under a key that is not weight_decay; that is judged as "
            f"weight decay"
        )
    if seen.hidden is not None:
        notes.append(
            f"a small number in the code of {who}, or under an option that is no eps, stands beside what it divides "
            f"by: on weights {{shapes}}, the update {'fades' if seen.hidden.fades else 'becomes another one'} where "
            f"gradients have entries below about 1e{round(math.log10(seen.hidden.at))}"
        )
    if seen.beyond:
        notes.append(f"{who} clips or clamps: on weights {{shapes}}, {seen.beyond}")
    return notes


def _named(subject: Subject, told: Mapping[str, Any], growths: tuple[Order, ...]) -> tuple[Optional[UpdateLaw], str]:
    """The law that it goes by, or why there is none."""
    try:
        law = law_of(subject.optimizer)
        if isinstance(law, str):
            return update_law(law), ""
        return (law if isinstance(law, UpdateLaw) else law(told, growths)), ""
    except (SetupError, DeriveError) as error:
        return None, str(error)


def _declared(optimizer: Any) -> bool:
    return any(ancestor in DECLARED for ancestor in type(optimizer).__mro__)


__all__ = ["DECLARED", "LawOf", "Trained", "declare_optimizer", "law_of", "trained_by", "with_rates_apart"]
