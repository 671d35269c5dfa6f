"""tpcalc: a symbolic calculator for Tensor Programs.

::

    program = tpcalc.trace(factory, widths=(128, 256, 512))    # Program; print(program) is the listing
    rules   = tpcalc.derive(program, optimizer="adamw")        # a mapping name -> Rule; print(rules) is the table
    rules["blocks.0.attn.q.weight"]                            # Rule(a, b, c, weight_decay, eps, ...)

Importing this package is quick: public names are imported on first use (PEP 562), torch only to trace.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from tpcalc.late import late as _late
from tpcalc.show import draw as _draw
from tpcalc.show import show as _show

__version__ = "0.1.0"

#: Public name -> the module that defines it.
_PUBLIC = {
    "trace": "tpcalc.trace",
    "derive": "tpcalc.derive",
    "explain": "tpcalc.derive.explain",
    "scale": "tpcalc.scaling",
    "Scaling": "tpcalc.scaling",
    "ScalingError": "tpcalc.scaling",
    "codegen": "tpcalc.scaling.codegen",
    "check": "tpcalc.check",
    "transfer": "tpcalc.transfer",
    "tune": "tpcalc.tune",
    "verify": "tpcalc.verify",
    "declare_optimizer": "tpcalc.verify",
    "optimizer": "tpcalc.optimizers",
    "UpdateLaw": "tpcalc.optimizers",
    "WeightView": "tpcalc.optimizers",
    "SetupError": "tpcalc.verify",
    "rule": "tpcalc.rules",
    "ignore": "tpcalc.rules",
    "Program": "tpcalc.program.ir",
    "Parametrization": "tpcalc.derive.result",
    "Rule": "tpcalc.derive.result",
    "SliceRule": "tpcalc.derive.result",
    "Site": "tpcalc.derive.result",
    "Bound": "tpcalc.derive.result",
    "TpcalcError": "tpcalc.errors",
    "TargetError": "tpcalc.errors",
    "TraceError": "tpcalc.errors",
    "AlignError": "tpcalc.errors",
    "FitError": "tpcalc.errors",
    "UnsupportedOpError": "tpcalc.errors",
    "ProgramError": "tpcalc.errors",
    "DeriveError": "tpcalc.errors",
}

__all__ = ["__version__", *_PUBLIC]


class _CallableModule(ModuleType):
    """A submodule that holds the public function of its own name: calling it calls that function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)


class _Package(ModuleType):
    """This package.  ``tpcalc.trace`` is a function in the public API and also a subpackage.

    Importing any part of the subpackage makes the import system set the attribute ``tpcalc.trace`` to the
    module, over whatever stood there.  So both meanings live in one object: a submodule that gives
    its name to a public function becomes callable when it is set.  Then ``tpcalc.trace(factory)``,
    ``tpcalc.trace.target`` and ``import tpcalc.trace`` all work, in any order.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) is ModuleType and _PUBLIC.get(name) == value.__name__:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


__getattr__ = _late(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@_show.register(object)
def _first_shown(result: object, **options: Any) -> str:
    """Have the report on ``result`` imported: by name and late, since a result may not know it and few are printed."""
    importlib.import_module("tpcalc.report").register(type(result))
    return _show(result, **options)


@_draw.register(object)
def _first_drawn(result: object, path: Any) -> None:
    importlib.import_module("tpcalc.report").register(type(result))
    _draw(result, path)
