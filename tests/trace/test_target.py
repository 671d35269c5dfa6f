"""Targets: loading and calling the user's factory, with errors that point at the user's own line."""

import os
import sys

import pytest
import torch

from tpcalc.errors import TargetError
from tpcalc.trace import trace
from tpcalc.trace.target import call_factory, load_target, parse_scales, parse_widths

SOURCE = """
import torch

CONSTANT = 3

def make_model(width):
    return torch.nn.Linear(width, 4)

class Zoo:
    @staticmethod
    def mlp(width):
        return torch.nn.Linear(width, width)

def broken(width):
    raise ValueError("width must be\\n a multiple of 3.")
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "nets.py").write_text(SOURCE)
    package = tmp_path / "zoo_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(SOURCE)
    (package / "bad.py").write_text("import a_module_that_is_missing\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("nets", "zoo_package", "raises", "wrong", "helper"):
            del sys.modules[name]


@pytest.mark.parametrize("target", ["nets.py:make_model", "./nets.py:Zoo.mlp", "zoo_package.nets:make_model"])
def test_good_targets(nets, target):
    assert isinstance(load_target(target)(8), torch.nn.Linear)


def test_a_file_imports_its_neighbours(nets):
    (nets / "helper.py").write_text("SIZE = 5\n")
    (nets / "raises.py").write_text("from helper import SIZE\ndef f(width): return SIZE\n")
    os.chdir("/")
    assert load_target(f"{nets}/raises.py:f")(1) == 5


def test_a_file_does_not_replace_an_imported_module(nets):
    (nets / "math.py").write_text("def f(width): return width\n")
    import math

    assert load_target("math.py:f")(3) == 3
    assert sys.modules["math"] is math


@pytest.mark.parametrize("stem", ["nets", "json"])  # its own name, and one that another module has
def test_a_file_runs_once_until_it_changes(nets, stem, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # bytecode of the same second and size is not run
    path = nets / f"{stem}.py"
    path.write_text("from pathlib import Path\nwith open('runs', 'a') as runs: runs.write('x')\n" + SOURCE)
    first = load_target(f"{path}:make_model")
    assert load_target(f"./{stem}.py:make_model") is first and load_target(f"{path}:Zoo.mlp")(8).out_features == 8
    assert (nets / "runs").read_text() == "x"
    path.write_text(path.read_text().replace("(width, 4)", "(width, 5)"))
    assert load_target(f"{path}:make_model")(8).out_features == 5
    assert (nets / "runs").read_text() == "xx"


def test_a_file_that_raised_runs_again(nets):
    (nets / "raises.py").write_text(
        "import torch\nif not hasattr(torch, 'mended'): raise ValueError\nf = torch.nn.Linear"
    )
    with pytest.raises(TargetError, match="ValueError"):
        load_target("raises.py:f")
    torch.mended = True
    try:
        assert load_target("raises.py:f") is torch.nn.Linear
    finally:
        del torch.mended


@pytest.mark.parametrize(
    "target, message",
    [
        ("nets.py", "target 'nets.py' names no callable; write it as file.py:callable or package.module:callable"),
        (":f", "names no callable"),
        ("nets.py:", "names no callable"),
        ("net.py:f", "no file net.py; did you mean nets.py?"),
        ("nowhere/at_all.py:f", "no file nowhere/at_all.py; check the path"),
        ("nets.py:make_modle", "nets.py has no callable 'make_modle'; did you mean 'make_model'?"),
        ("nets.py:xyz", "nets.py has no callable 'xyz'; it defines make_model, Zoo, broken"),
        ("nets.py:CONSTANT", "'CONSTANT' in nets.py is of type int, not a callable"),
        ("zoo_package.net:f", "no module 'zoo_package.net'; check the name, or write the path of a file"),
        (
            "zoo_package.bad:f",
            "importing zoo_package.bad raised ModuleNotFoundError: No module named 'a_module_that_is_missing' "
            "(bad.py:1)",
        ),
    ],
)
def test_bad_targets(nets, target, message):
    with pytest.raises(TargetError) as error:
        load_target(target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, message",
    [
        (
            "x = 1\nraise RuntimeError('no GPU here')\n",
            "importing raises.py raised RuntimeError: no GPU here (raises.py:2); mend it first",
        ),
        ("def f(:\n", "importing raises.py raised SyntaxError: invalid syntax (raises.py:1); mend it first"),
        ("exit(3)\n", "importing raises.py called sys.exit(3) (raises.py:1); put what it runs"),
        ("import torch\ntorch.zeros(2) @ torch.zeros(3)\n", "(raises.py:2)"),
    ],
)
def test_a_file_that_raises(nets, source, message):
    (nets / "raises.py").write_text(source)
    with pytest.raises(TargetError) as error:
        load_target("raises.py:f")
    assert message in str(error.value)
    assert "raises" not in sys.modules


def linear(width):
    return torch.nn.Linear(width, 2)


@pytest.mark.parametrize(
    "returned, inputs",
    [
        (lambda m: m, None),
        (lambda m: (m, (torch.ones(1),)), tuple),
        (lambda m: [m, [torch.ones(1)]], tuple),
        (lambda m: (m, torch.ones(1)), tuple),
        (lambda m: (m, {"x": torch.ones(1)}), dict),
        (lambda m: (m, None), None),
        (lambda m: (m, (torch.ones(1),), {}), tuple),
    ],
)
def test_good_returns(returned, inputs):
    model, found = call_factory(lambda width: returned(linear(width)), 8)
    assert isinstance(model, torch.nn.Linear)
    assert found is None if inputs is None else type(found) is inputs


def test_arguments_and_keyword_arguments_are_both_by_name():
    class Two(torch.nn.Module):
        def forward(self, x, y, *, scale=1):
            return x + y * scale

    model, inputs = call_factory(lambda width: (Two(), (1, 2), {"scale": 3}), 8)
    assert inputs == {"x": 1, "y": 2, "scale": 3} and model(**inputs) == 7
    with pytest.raises(TargetError, match="returned 4 arguments and keyword arguments for a forward that names 2"):
        call_factory(lambda width: (Two(), (1, 2, 3, 4), {"scale": 3}), 8)


@pytest.mark.parametrize(
    "factory, message",
    [
        (lambda width: None, "returned None; end it by return model or (model, inputs)"),
        (lambda width: (linear(width), 1, 2), "returned 3 things; return model or (model, inputs)"),
        (lambda width: (torch.ones(1), linear(width)), "returned a Tensor where a torch.nn.Module belongs"),
        (lambda width: (linear(width), "x"), "returned inputs of type str; return a tuple of arguments or a dict"),
        (lambda width: (linear(width), {1: 2}), "returned inputs with keys that are not text"),
    ],
)
def test_bad_returns(factory, message):
    with pytest.raises(TargetError) as error:
        call_factory(factory, 8)
    assert message in str(error.value)
    assert "<lambda>(8)" in str(error.value)


@pytest.mark.parametrize("factory, why", [(lambda: None, "too many"), (lambda width, heads: None, "missing a")])
def test_a_factory_takes_the_width_alone(factory, why):
    with pytest.raises(TargetError, match=rf"<lambda> is called with the width alone \({why}.*: def target\(width\)"):
        call_factory(factory, 8)


def test_a_factory_that_raises_is_blamed_on_its_line(nets):
    with pytest.raises(TargetError) as error:
        call_factory(load_target("nets.py:broken"), 128)
    assert str(error.value) == (
        "broken(128) raised ValueError: width must be a multiple of 3 (nets.py:15); make it return model or "
        "(model, inputs) "
        "at this width"
    )


@pytest.mark.parametrize("given", ["512,128, 256", "128,256,512,", (256, 512, 128), [128, 256, 512]])
def test_widths(given):
    assert parse_widths(given) == (128, 256, 512)


@pytest.mark.parametrize(
    "given, message",
    [
        ("128,256", "2 widths are too few to fit exponents"),
        ("", "no widths are too few"),
        ("128,256,256", "width 256 is given twice"),
        ("128,256,x", "width 'x' is not a positive whole number"),
        ("128,256,-512", "width '-512' is not a positive whole number"),
        ("128,256,5.5", "width '5.5' is not"),
        ((0, 1, 2), "width 0 is not"),
        ((1.0, 2, 3), "width 1.0 is not"),
        ((True, 2, 3), "width True is not"),
    ],
)
def test_bad_widths(given, message):
    with pytest.raises(TargetError) as error:
        parse_widths(given)
    assert message in str(error.value)
    assert str(error.value).endswith(
        "give three or more different positive whole numbers, such as --widths 128,256,512"
    )


def test_trace_checks_its_widths_first():
    with pytest.raises(TargetError, match="too few"):
        trace(linear, widths=(1, 2))


def test_two_values_do_for_what_counts_blocks():
    assert parse_scales({"width": "64,128,256", "encoder_depth": "2,3"})["encoder_depth"] == (2, 3)
    with pytest.raises(
        TargetError, match="such as layers=64,128,256; or, if it counts blocks, end its name with depth$"
    ):
        parse_scales({"layers": "2,3"})
    with pytest.raises(TargetError, match="such as width=64,128,256$"):
        parse_scales({"width": "2,3"})
