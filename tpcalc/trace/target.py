"""Targets: where the user's factory is found, how it is called, and what it may return.

A target is ``file.py:callable`` or ``package.module:callable``.  The callable takes the width (an int) and returns
``model``, ``(model, inputs)`` (a tuple of arguments or a dict of keyword arguments) or ``(model, args, kwargs)``.
Everything that can go wrong here is the user's to mend, so every message names the place in *their* code.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from tpcalc.algebra.scales import SYMBOLS, Place, Point
from tpcalc.errors import TargetError, TpcalcError
from tpcalc.trace.arguments import without_arguments
from tpcalc.trace.quoted import error_text, exit_place

__all__ = [
    "DEFAULT_WIDTHS", "by_depth", "call_factory", "check_takes", "described", "factory_of", "load_plugin",
    "load_target", "name_of", "parse_scales", "parse_widths", "saved_base",
]  # fmt: skip

DEFAULT_WIDTHS = (128, 256, 512)

Factory = Callable[..., Any]
_GUARD = "put what it runs and the arguments that it reads under if __name__ == '__main__'"
_HUGGING_FACE = "hf:"
#: Names of a module that are listed where none of them is near.
_MOST_LISTED = 10


def parse_widths(text: "str | Sequence[int]") -> tuple[int, ...]:
    """``"128,256,512"`` (or a sequence of ints) as an ascending tuple.

    Raises TargetError unless it holds three or more different positive whole numbers: two widths
    always lie on some power, only a third one can refute it.
    """
    return _parse_numbers(text, 3, "--widths 128,256,512")


def _parse_numbers(text: "str | Sequence[int]", few: int, example: str) -> tuple[int, ...]:
    """Ascending whole numbers, ``few`` of them or more."""
    count = {2: "two", 3: "three"}[few]
    remedy = f"give {count} or more different positive whole numbers, such as {example}"
    if isinstance(text, str):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        given: list[Any] = [int(part) if part.isdecimal() else part for part in parts]
    else:
        given = list(text)
    wrong = [width for width in given if isinstance(width, bool) or not isinstance(width, int)]
    if wrong:
        raise TargetError(f"width {wrong[0]!r} is not a positive whole number; {remedy}")
    widths: list[int] = given
    if any(width <= 0 for width in widths):
        raise TargetError(f"width {min(widths)} is not a positive whole number; {remedy}")
    twice = sorted({width for width in widths if widths.count(width) > 1})
    if twice:
        raise TargetError(f"width {twice[0]} is given twice; {remedy}")
    if len(widths) < few:
        counted = "one width is" if len(widths) == 1 else f"{len(widths) or 'no'} widths are"
        raise TargetError(f"{counted} too few to fit exponents; {remedy}")
    return tuple(sorted(widths))


def parse_scales(scales: "Mapping[str, str | Sequence[int]]") -> dict[str, tuple[int, ...]]:
    """``{"width": "64,128,256"}`` (or sequences of ints) with ascending tuples: what each scale is at, the base first.

    Raises TargetError unless each has three or more different positive whole numbers, as widths do, or two or more of a
    scale named ``depth`` or ending in ``depth``: blocks are counted, not fitted.
    """
    found = {}
    for name, values in scales.items():
        if not name.isidentifier():
            raise TargetError(
                f"scale {name!r} is no name of an argument; write one that the factory has, as width=64,128,256"
            )
        few, example = (2, "2,3") if name.endswith("depth") else (3, "64,128,256")
        counts = "" if few == 2 or name in SYMBOLS else "; or, if it counts blocks, end its name with depth"
        try:
            found[name] = _parse_numbers(values, few, f"{name}={example}")
        except TargetError as error:
            raise TargetError(f"scale {name}: {error}{counts}") from None
    return found


def load_target(target: str) -> Callable[..., Any]:
    """The callable that ``"file.py:callable"`` or ``"package.module:callable"`` names.

    Raises TargetError where the text is malformed, the file or module is missing or raises when
    imported, or holds no such callable.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TargetError(
            f"target {target!r} names no callable; write it as file.py:callable or package.module:callable"
        )
    module = _load_file(Path(place)) if place.endswith(".py") or "/" in place else _import_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{place} has no callable {name!r}; {_alternatives(name, module)}")
        found = getattr(found, part)
    if not callable(found):
        raise TargetError(
            f"{name!r} in {place} is of type {type(found).__name__}, not a callable; {_alternatives(name, module)}"
        )
    return found


def factory_of(
    target: "str | Factory",
    widths: Optional[Sequence[int]] = None,
    overrides: Optional[Mapping[str, str]] = None,
    scales: Optional[Mapping[str, Sequence[int]]] = None,
) -> Factory:
    """The factory of a target: what :func:`load_target` finds, or one of a Hugging Face config (``hf:llama``).

    ``widths`` (None: any that fit), ``overrides`` of config fields and ``scales`` by name, with their values, are for
    the latter.  A factory is itself.  Raises TargetError.
    """
    if not isinstance(target, str):
        return target
    if target.startswith(_HUGGING_FACE):
        from tpcalc.trace.hf import hf_factory

        name = target.removeprefix(_HUGGING_FACE)
        return hf_factory(name, overrides=overrides, widths=widths, scales=scales)
    if overrides:
        raise TargetError(f"--set works only with hf: targets, not with {target}; drop it or change the factory")
    return load_target(target)


def by_depth(
    target: "str | Factory", widths: Sequence[int], overrides: Optional[Mapping[str, str]] = None
) -> Optional[tuple[Factory, int]]:
    """The factory of a target by width and depth, and the depth that it has by itself.

    That is one of a Hugging Face config, or a function with an argument ``depth`` that has a default.  None of others.
    """
    if isinstance(target, str) and target.startswith(_HUGGING_FACE):
        from tpcalc.trace.hf import by_depth as of_config

        return of_config(target.removeprefix(_HUGGING_FACE), overrides, widths)
    factory = factory_of(target)
    try:
        depth = inspect.signature(factory).parameters["depth"].default
        inspect.signature(factory).bind(width=0, depth=0)
    except (KeyError, TypeError, ValueError):
        return None
    return (factory, depth) if isinstance(depth, int) and not isinstance(depth, bool) else None


def saved_base(target: str) -> Optional[int]:
    """The width of a config that was saved (``hf:./config.json``); None for any other target."""
    if not target.startswith(_HUGGING_FACE):
        return None
    from tpcalc.trace.hf import hf_factory

    return hf_factory(target.removeprefix(_HUGGING_FACE)).base


def name_of(function: Any) -> str:
    """What a callable is called by: its own name, that of what a partial calls, that of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def described(factory: Factory) -> str:
    """What tells a target from others of its name, too: with the fields that were set of a Hugging Face config."""
    fields = getattr(factory, "overrides", {})
    return " ".join([name_of(factory), *(f"{name}={value}" for name, value in sorted(fields.items()))])


def load_plugin(path: str) -> None:
    """Import the file ``path``, for the rules it adds.  Raises TargetError where it is missing or raises."""
    _load_file(Path(path))


def call_factory(factory: Factory, width: Place, expects: str = "model or (model, inputs)") -> tuple[Any, Any]:
    """``factory(width)`` as ``(model, inputs)``; ``inputs`` is a tuple, a dict, or None where it gave none.

    Raises TargetError if the factory raises or returns something else.
    """
    name = name_of(factory)
    if isinstance(width, Point):
        check_takes(factory, width.names)
    else:
        _check_takes_width(factory)
    try:
        with without_arguments():
            result = factory(**width.by_name) if isinstance(width, Point) else factory(width)
    except (TpcalcError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise TargetError(
            f"{name}({width}) {exit_place(error)}; make it return {expects} at this width, and read no arguments there"
        ) from error
    except BaseException as error:
        raise TargetError(
            f"{name}({width}) raised {error_text(error)}; make it return {expects} at this width"
        ) from error
    return _model_and_inputs(result, f"{name}({width})", expects)


def check_takes(factory: Callable[..., Any], names: Sequence[str]) -> None:
    """Raise TargetError unless the factory takes these scales by name, and needs no other argument."""
    try:
        signature = inspect.signature(factory)
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise TargetError(
            f"{name_of(factory)} is to be called with {', '.join(f'{name}=...' for name in names)}, and {error}; "
            f"give it an argument of the name of each scale"
        ) from None
    except ValueError:
        return  # it has no signature that can be read


def _check_takes_width(factory: Callable[..., Any]) -> None:
    """Raise TargetError unless the factory can be called with the width alone."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # it has none that can be read
    try:
        signature.bind(0)
    except TypeError as error:
        name = name_of(factory)
        raise TargetError(
            f"{name} is called with the width alone ({error}); write a function of the width that calls it: "
            f"def target(width): return {name}(...)"
        ) from None


def _model_and_inputs(result: Any, call: str, expects: str) -> tuple[Any, Any]:
    import torch

    model, inputs = result, None
    if isinstance(result, (tuple, list)):
        result = _by_name(call, *result) if len(result) == 3 else result
        if len(result) != 2:
            raise TargetError(f"{call} returned {len(result)} things; return {expects}")
        model, inputs = result
    if not isinstance(model, torch.nn.Module):
        raise TargetError(f"{call} returned {_no_module(model, expects)}")
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, list):
        inputs = tuple(inputs)
    if inputs is not None and hasattr(inputs, "keys") and not isinstance(inputs, dict):
        inputs = dict(inputs)
    if inputs is not None and not isinstance(inputs, (tuple, dict)):
        raise TargetError(
            f"{call} returned inputs of type {type(inputs).__name__}; return a tuple of arguments or a dict of keyword "
            f"arguments"
        )
    if isinstance(inputs, dict) and not all(isinstance(key, str) for key in inputs):
        raise TargetError(f"{call} returned inputs with keys that are not text; return a dict of keyword arguments")
    if inputs is not None and any(torch.nn.parameter.is_lazy(weight) for weight in model.parameters()):
        modes = [(module, module.training) for module in model.modules()]
        with torch.no_grad():  # a lazy module learns its sizes from a first run, which leaves no statistics behind
            model.eval()
            model(**inputs) if isinstance(inputs, dict) else model(*inputs)
        for module, mode in modes:
            module.training = mode
    return model, inputs


def _no_module(model: Any, expects: str) -> str:
    """What stands where a model belongs, and what to do about it."""
    if inspect.iscoroutine(model):
        model.close()  # never awaited, which Python would tell by a warning of its own
        return f"a coroutine, as an async function does; write def without async, and return {expects}"
    if inspect.isgenerator(model):
        return f"a generator, as a function with yield does; write return for yield, and return {expects}"
    if model is None:
        return f"None; end it by return {expects}"
    if isinstance(model, type):
        return f"the class {model.__name__} where a torch.nn.Module belongs; call the class, and return {expects}"
    return f"a {type(model).__name__} where a torch.nn.Module belongs; return {expects}"


def _by_name(call: str, model: Any, args: Any, kwargs: Any) -> tuple:
    """``(model, args, kwargs)`` as model and inputs by name, where that is what it is."""
    if not isinstance(kwargs, dict) or not callable(model):
        return model, args, kwargs
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if not kwargs:
        return model, args
    if len(args) > len(names):
        raise TargetError(
            f"{call} returned {len(args)} arguments and keyword arguments for a forward that names {len(names)}; give "
            "forward a name for each argument, or return (model, inputs)"
        )
    return model, {**dict(zip(names, args)), **kwargs}


def _load_file(path: Path) -> ModuleType:
    """Import a file under its own stem, with its folder importable, as ``python file.py`` would have it.

    It runs once, as what is imported does, until its text changes: where it registers ops
    (``torch.library.custom_op``), a second run would take those of the first from under models that have them.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in _listing(path.parent)], n=3)
        hint = f"did you mean {_either([str(path.parent / name) for name in near])}?" if near else "check the path"
        if path.is_dir():
            raise TargetError(f"{path} is a directory, no Python file; {hint}")
        if path.is_symlink():
            raise TargetError(f"{path} is a link to {path.readlink()}, which is no file; {hint}")
        raise TargetError(f"no file {path}; {hint}")
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is no Python file; give a file that ends in .py")
    text = spec.loader_state = path.read_bytes()
    for name in (path.stem, str(path)):
        known = getattr(sys.modules.get(name), "__spec__", None)
        if known is not None and (known.origin, known.loader_state) == (spec.origin, spec.loader_state):
            return sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    previous = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        with without_arguments():
            if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                # of this very text: bytecode that was kept goes by the second in which a file was written
                exec(spec.loader.source_to_code(text, str(path)), vars(module))
            else:
                spec.loader.exec_module(module)
    except TpcalcError:
        raise
    except BaseException as error:
        _restore(path.stem, previous)
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, SystemExit):
            raise TargetError(f"importing {path.name} {exit_place(error)}; {_GUARD}") from error
        remedy = "mend it first"
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            remedy = f"name it as part of its package, from the folder above: {path.parent.name}.{path.stem}:callable"
        raise TargetError(f"importing {path.name} raised {error_text(error, path)}; {remedy}") from error
    if previous is not None and getattr(previous, "__file__", None) != str(path):
        sys.modules[str(path)] = module  # a file called like an imported module must not replace it
        _restore(path.stem, previous)
    return module


def _restore(name: str, module: Optional[ModuleType]) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


def _listing(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.is_file()) if folder.is_dir() else []


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with without_arguments():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            if Path(name).is_file():
                raise TargetError(f"{name} is no Python file; give a file that ends in .py") from error
            raise TargetError(
                f"no module {name!r}; check the name, or write the path of a file: path/to/file.py:callable"
            ) from error
        raise TargetError(f"importing {name} raised {error_text(error)}; mend it first") from error
    except (TpcalcError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise TargetError(f"importing {name} {exit_place(error)}; {_GUARD}") from error
    except BaseException as error:
        raise TargetError(f"importing {name} raised {error_text(error)}; mend it first") from error


def _alternatives(name: str, module: ModuleType) -> str:
    """``did you mean 'make_model'?`` or the list of what the module itself defines."""
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    near = difflib.get_close_matches(name, own, n=3)
    if near:
        return f"did you mean {_either([repr(item) for item in near])}?"
    more = f" and {len(own) - _MOST_LISTED} more" if len(own) > _MOST_LISTED else ""
    return f"it defines {', '.join(own[:_MOST_LISTED])}{more}" if own else "it defines no callables"


def _either(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " or " + items[-1]
