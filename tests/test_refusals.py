"""Bad input: one sentence that says what, where and the remedy, exit code 2, nothing half-written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tpcalc import cli

ROOT = Path(__file__).parents[1]
GPT = f"{ROOT / 'examples' / 'gpt.py'}:gpt"
MLP = f"{ROOT / 'examples' / 'mlp.py'}:mlp"
STACK = f"{ROOT / 'tests' / 'support' / 'stacks.py'}:pre"
WIDTHS = ("--widths", "64,128,256")

#: Files of a user's, in whose folder the commands run.
FILES = {
    "own.py": """\
import argparse
import sys

import torch

def exits(width):
    sys.exit(0)


def exits_text(width):
    sys.exit("bye")


def parses(width):
    argparse.ArgumentParser().parse_args(["table"])


class Exits(torch.nn.Linear):
    def forward(self, x):
        sys.exit(3)


def forward_exits(width):
    return Exits(8, width), (torch.ones(2, 8),)


def loss_exits(output):
    sys.exit(0)


def linear(width):
    return torch.nn.Linear(8, width), (torch.ones(2, 8),)


def two(width, heads):
    return torch.nn.Linear(width, heads)


def none():
    return torch.nn.Linear(4, 4)


def text(width):
    return "a model"


async def awaited(width):
    return linear(width)


def yields(width):
    yield linear(width)


def nothing(width):
    linear(width)


def a_class(width):
    return torch.nn.Linear


def frozen(width):
    return linear(width)[0].requires_grad_(False), (torch.ones(2, 8),)


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raises_odd(width):
    raise Odd


def raises_escapes(width):
    raise ValueError("\\x1b[31mred\\x00")


def no_batch(width):
    return 3


def other_batch(width):
    return torch.ones(2, 5)


number = 3
""",
    "exits.py": "import sys\nsys.exit(0)\n",
    "parses.py": "import argparse\nargparse.ArgumentParser().parse_args(['table'])\n",
    "broken.py": "def f(width:\n",
    "imports.py": "import no_such_package\n",
    "relative.py": "from .own import linear\n",
    "many.py": "\n".join(f"def f{i}(width): pass" for i in range(30)),
    "notes.txt": "no code\n",
    "foreign.json": '{"a": 1}\n',
    "corrupt.json": '{"a": \n',
}

#: What is wrong -> the command, and a part of the sentence that it gets.
REFUSALS = [
    ("no target", ("table",), "Missing argument 'TARGET'; see tpcalc table --help"),
    ("no weight", ("explain", GPT), "Missing argument 'WEIGHT'; see tpcalc explain --help"),
    ("unknown command", ("tabel", GPT), "No such command 'tabel'. Did you mean 'table'"),
    ("unknown option", ("table", GPT, "--width", "1"), "No such option: --width"),
    ("unknown format", ("table", GPT, "--format", "html"), "'html' is not one of 'text', 'markdown', 'latex'"),
    (
        "unknown schema",
        ("schema", "tabel"),
        "'tabel' is not one of 'table', 'scales', 'multipliers', 'scaled-multipliers', 'verify', 'check', 'scaled",
    ),
    ("scale without values", ("table", GPT, "--scale", "ffn"), "--scale ffn gives no values; write --scale ffn="),
    ("scale given twice", ("table", GPT, "--scale", "a=1,2,3", "--scale", "a=1,2,3"), "--scale a is given twice"),
    ("few values of a scale", ("table", GPT, "--scale", "a=8,16"), "scale a: 2 widths are too few to fit exponents"),
    ("no such scale", ("table", GPT, "--scale", "ffn=8,16,32"), "give it an argument of the name of each scale"),
    (
        "no scale of hf",
        ("table", "hf:mamba", "--scale", "ffn=8,16,32"),
        "hf:mamba has no scale 'ffn'; it has width, depth",
    ),
    ("heads as a word", ("table", "hf:llama", "--scale", "heads"), "write --scale heads=2,4,8"),
    (
        "head-dim as a word",
        ("check", "hf:llama", "--scale", "head-dim"),
        "their size, write --scale head_dim=32,64,128",
    ),
    ("width twice", ("table", GPT, *WIDTHS, "--scale", "width=8,16,32"), "--widths and --scale width say the same"),
    ("experts of a model without any", ("table", GPT, "--experts", "stein"), "but the model has none"),
    ("nothing moves", ("check", STACK, "--scale", "depth=2"), "no scale of this check moves; give one of them three"),
    (
        "two values",
        ("check", STACK, "--scale", "depth=2,4"),
        "scale depth has two values, through which any",
    ),
    ("no numbers", ("check", STACK, "--scale", "depth=two"), "--scale depth=two holds no whole numbers; write --scale"),
    ("one period", ("check", STACK, "--scale", "depth=1,2,4"), "begin at depth=2 or more"),
    ("alpha of the width", ("check", MLP, *WIDTHS, "--depth-alpha", "1/2"), "depth_alpha is about residual branches"),
    ("alpha of none", ("explain", MLP, "hidden.weight", *WIDTHS, "--depth-alpha", "1/2"), "depth_alpha is about"),
    (
        "plot of scales",
        ("check", STACK, "--scale", "depth=2,4,8", "--plot", "no.png"),
        "--plot draws a check of the width alone; drop it, or --scale",
    ),
    ("alpha without depth", ("table", GPT, "--depth-alpha", "1/2"), "trace the model along a scale depth"),
    ("unknown gauge", ("table", GPT, "--gauge", "own"), "'own' is not one of 'init', 'mup', 'symmetric', 'ntk'"),
    ("page of no weight", ("report", MLP, *WIDTHS, "--explain", "hiden.weight"), "did you mean hidden.weight"),
    ("page without a target", ("report",), "Missing argument 'TARGET'; see tpcalc report --help"),
    ("page in no directory", ("report", MLP, "-o", "no/such/r.html"), "the directory no/such does not exist"),
    ("page of no sweep", ("report", MLP, "--transfer", "none"), "cannot read none: No such file or directory; check"),
    (
        "page of another file",
        ("report", MLP, "--transfer", "foreign.json"),
        "foreign.json is no sweep of tpcalc; write",
    ),
    ("page of half a file", ("report", MLP, "--transfer", "corrupt.json"), "corrupt.json is corrupt"),
    ("page of no set-up", ("report", MLP, "--verify", "missing.py:setup"), "no file missing.py"),
    ("page of an odd optimizer", ("report", MLP, "--optimizer", "adamn"), "adamn"),
    (
        "page with a check of scales",
        ("report", STACK, "--scale", "width=16,32,64", "--scale", "depth=2,3", "--check"),
        "scale depth has two values, through which any power goes",
    ),
    ("schema in no directory", ("schema", "table", "-o", "no/such/s.json"), "the directory no/such does not exist"),
    ("dot is no table", ("table", GPT, "--format", "dot"), "'dot' is not one of"),
    ("no value", ("table", GPT, "--optimizer"), "requires an argument"),
    ("too many arguments", ("trace", GPT, "x"), "unexpected extra argument"),
    ("no callable", ("table", "gpt.py"), "write it as file.py:callable or package.module:callable"),
    ("no file", ("table", "missing.py:gpt"), "no file missing.py"),
    ("no such callable", ("table", GPT + "x"), "no callable 'gptx'"),
    ("no module", ("table", "no.such.module:f"), "no.such"),
    ("two widths", ("table", GPT, "--widths", "64,128"), "three or more different positive whole numbers"),
    ("a width in words", ("table", GPT, "--widths", "64,128,big"), "width 'big' is not a positive whole number"),
    ("a negative width", ("table", GPT, "--widths=-64,128,256"), "not a positive whole number"),
    ("a width twice", ("table", GPT, "--widths", "64,64,128"), "given twice"),
    ("a width that does not fit", ("table", GPT, "--widths", "64,128,200"), "at width 200 in blocks.0.attn"),
    ("unknown optimizer", ("table", MLP, *WIDTHS, "--optimizer", "adamx"), "adamx"),
    ("unknown weight", ("explain", MLP, "hiden.weight", *WIDTHS), "hidden.weight"),
    ("--set on a file", ("table", GPT, "--set", "n_layer=2"), "--set works only with hf: targets"),
    ("--set without value", ("table", "hf:gpt2", "--set", "n_layer"), "write --set field=value"),
    ("unknown hf type", ("table", "hf:gpt22"), "gpt22"),
    ("no loss", ("table", MLP, "--loss", "missing.py:f"), "no file missing.py"),
    ("output in no directory", ("table", MLP, "-o", "no/such/table.txt"), "the directory no/such does not exist"),
    ("output without a name", ("table", MLP, "-o", ""), "cannot write a file without a name; name one"),
    (
        "output is the target",
        ("table", "own.py:exits", "-o", "own.py"),
        "cannot write own.py: it is read, for own.py:exits",
    ),
    ("output is the exported file", ("codegen", "old.json", "-o", "./old.json"), "cannot write old.json: it is read"),
    ("output is a directory", ("table", MLP, "-o", "/"), "cannot write /: it is a directory"),
    (
        "output would be a directory",
        ("table", MLP, "-o", "made/"),
        "cannot write made/: it is a directory; name a fil",
    ),
    ("output in a file", ("table", MLP, "-o", "own.py/made"), "cannot write own.py/made: own.py is no directory; choo"),
    # code of the target that ends the process, reads its arguments, or is no function of the width
    ("exits", ("table", "own.py:exits"), "exits(128) called sys.exit(0) (own.py:7); make it return model or (model"),
    ("exits with text", ("check", "own.py:exits_text"), "exits_text(64) called sys.exit('bye') (own.py:11)"),
    ("a set-up exits", ("verify", "own.py:exits"), "called sys.exit(0) (own.py:7); make it return (model, optimizer)"),
    ("exits at a place", ("export", "own.py:exits", "--base", "8", "--target", "32"), "called sys.exit(0) (own.py:7)"),
    ("argparse", ("table", "own.py:parses"), "parses(128) reads the command line (argparse: unrecognized arguments"),
    ("forward exits", ("trace", "own.py:forward_exits"), "the forward pass of Exits raised SystemExit: 3 at width 128"),
    ("loss exits", ("table", "own.py:linear", "--loss", "own.py:loss_exits"), "raised SystemExit: 0 at width 128"),
    ("a module exits", ("table", "exits.py:f"), "importing exits.py called sys.exit(0) (exits.py:2); put what it runs"),
    ("a module has argparse", ("table", "parses.py:f"), "importing parses.py reads the command line (argparse: "),
    ("two arguments", ("table", "own.py:two"), "two is called with the width alone (missing a required argument: 'hea"),
    ("no argument", ("verify", "own.py:none"), "write a function of the width that calls it: def target(width): retur"),
    ("no model", ("table", "own.py:text"), "text(128) returned a str where a torch.nn.Module belongs; return model or"),
    ("no optimizer", ("verify", "own.py:linear"), "linear(128) returned no optimizer; return (model, optimizer)"),
    ("no callable thing", ("table", "own.py:number"), "'number' in own.py is of type int, not a callable; it defines "),
    ("a broken file", ("table", "broken.py:f"), "importing broken.py raised SyntaxError: "),
    ("an import that fails", ("table", "imports.py:f"), "importing imports.py raised ModuleNotFoundError: No module"),
    ("a file that is no Python", ("table", "notes.txt:f"), "notes.txt is no Python file; give a file that ends in .py"),
    ("a name that is long", ("table", "x" * 5000 + ".py:f"), "is too long for this system; give a shorter one"),
    ("an output that is long", ("table", MLP, "-o", "x" * 5000), "is too long for this system; give a shorter one"),
    ("a directory", ("table", f"{ROOT / 'examples'}/:f"), "examples is a directory, no Python file; check the path"),
    ("a relative import", ("table", "relative.py:f"), "name it as part of its package, from the folder above: "),
    ("many callables", ("table", "many.py:g"), "it defines f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 20 more"),
    ("async", ("table", "own.py:awaited"), "returned a coroutine, as an async function does; write def without async"),
    ("a generator", ("table", "own.py:yields"), "returned a generator, as a function with yield does; write return "),
    ("no return", ("table", "own.py:nothing"), "nothing(128) returned None; end it by return model or (model, inputs)"),
    ("a class", ("table", "own.py:a_class"), "returned the class Linear where a torch.nn.Module belongs; call the cla"),
    (
        "all frozen",
        ("table", "own.py:frozen"),
        "no weight of Linear at width 128 is trained: requires_grad is False of",
    ),
    ("an error without text", ("table", "own.py:raises_odd"), "raises_odd(128) raised Odd (own.py:"),
    ("control characters", ("table", "own.py:raises_escapes"), r"raised ValueError: \x1b[31mred\x00 (own.py:"),
    ("a config to verify", ("verify", "hf:llama"), "write a setup(width) that returns (model, optimizer, inputs), and"),
    (
        "no batch",
        ("check", "own.py:linear", "--batch", "own.py:no_batch"),
        "batch= (--batch) gives an int; let it g",
    ),
    (
        "a batch of another shape",
        ("check", "own.py:linear", "--steps", "1", "--batch", "own.py:other_batch"),
        "where it is trained for real; check that it runs on the inputs given, those of batch= (--batch)",
    ),
    # optimizers, weights, plots, documents
    ("muon twice", ("table", MLP, "--optimizer", "muon+muon"), "can't be the second; write muon+adamw"),
    ("three names", ("table", MLP, "--optimizer", "a+b+c"), "write two names, the one for hidden matrices first"),
    (
        "a printed name of none",
        ("explain", MLP, "blocks.*.weight", *WIDTHS),
        "has no parameter 'blocks.*.weight'",
    ),
    ("odd braces", ("explain", MLP, "hidden.{.weight", *WIDTHS), "the model has no parameter 'hidden.{.weight'"),
    ("one width", ("table", MLP, "--widths", "128"), "one width is too few to fit exponents; give three or more"),
    ("no width", ("check", MLP, "--widths", ","), "no widths are too few to fit exponents; give three or more"),
    (
        "an odd plot",
        ("check", MLP, "--plot", "x.xyz"),
        "x.xyz is no picture that can be written; end its name",
    ),
    (
        "a plot that no file can be",
        ("check", "own.py:linear", "--steps", "1", "--plot", "/proc/x.png"),
        "cannot write /pro",
    ),
    (
        "a plot in no directory",
        ("check", MLP, "--plot", "no/x.png"),
        "the directory no does not exist; create it",
    ),
    ("no plugin", ("table", MLP, "--plugin", "missing.py"), "no file missing.py; check the path"),
    ("a plugin without a name", ("table", MLP, "--plugin"), "Option '--plugin' requires an argument"),
    ("no multipliers", ("codegen", "missing.json"), "missing.json"),
    ("foreign multipliers", ("codegen", "foreign.json"), "foreign.json"),
    ("corrupt multipliers", ("codegen", "corrupt.json"), "corrupt.json"),
    ("a base of 0", ("export", MLP, "--base", "0", "--target", "64"), "base width 0 is not a positive whole number; g"),
    (
        "a place of 0",
        ("export", MLP, "--base", "width=0", "--target", "width=8"),
        "base width=0 is not a positive whole number; give one, as width=64",
    ),
    ("no base", ("export", MLP, "--target", "64"), "--base is missing: give the width at which"),
    (
        "a place in words",
        ("export", MLP, "--base", "small", "--target", "64"),
        "--base small is no place; write a",
    ),
    ("no steps", ("check", MLP, "--steps", "0"), "'--steps': "),
    ("a rate in words", ("check", MLP, "--lr", "fast"), "'--lr': "),
    # configs
    ("a hub's name", ("table", "hf:org/name"), "nothing is downloaded here; save its config.json and give hf:./config"),
    ("no config", ("table", "hf:./missing.json"), "missing.json"),
    ("a config that is none", ("table", "hf:./corrupt.json"), "corrupt.json"),
    ("a config of nobody", ("table", "hf:./foreign.json"), "foreign.json"),
    ("no name", ("table", "hf:"), "hf: names no model; give a model type such as hf:llama"),
    ("no field", ("table", "hf:gpt2", "--set", "n_layers=2"), "has no field 'n_layers'; did you mean n_layer"),
    ("a width that is set", ("table", "hf:gpt2", "--set", "n_embd=2"), "can't be set; give it with --widths"),
    ("a config of no config", ("table", MLP, "--explain-config"), "this one has no config; drop it"),
    # sweeps and searches
    ("no scale", ("transfer", MLP), "Missing option '--scale'"),
    ("one rate", ("transfer", MLP, "--scale", "width=8,16", "--points", "1"), "show no optimum; give three points or"),
    ("no range", ("transfer", MLP, "--scale", "width=8,16", "--lr", "1e-3"), "is no range; write two learning rates"),
    (
        "a bound that nothing passes",
        ("transfer", MLP, "--scale", "width=8,16", "--max-drift", "nan"),
        "--max-drift nan is no bound; give a finite number, 0 or more",
    ),
    ("many processes", ("tune", MLP, "--base", "8", "--target", "32", "--processes", "2"), "--processes needs -o DIR"),
    ("no recipe", ("transfer", MLP, "--scale", "width=8,16", "--recipe", "missing"), "missing"),
]


#: One of these stands in every sentence, before what to do.
REMEDY = re.compile(r"; | see tpcalc |did you mean|: give |is not one of")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's own, left as it was."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("arguments, sentence", [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_refuses_in_one_sentence(arguments, sentence, folder, capsys):
    if any(argument.startswith("hf:") for argument in arguments):
        pytest.importorskip("transformers")
    writes = arguments and arguments[0] in (
        "table",
        "trace",
        "explain",
        "export",
        "codegen",
        "check",
        "verify",
        "report",
    )
    given = (*arguments, "-o", "made.txt") if writes and "-o" not in arguments else arguments
    if arguments[-1].startswith("--"):  # its value is what is missing
        given = arguments
    with pytest.raises(SystemExit) as stopped:
        cli.main(given)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, ""), err
    assert err.startswith("error: ") and sentence in err
    assert err.count("\n") == 1 and "Traceback" not in err and "internal error" not in err
    assert REMEDY.search(err), err
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert written - {folder.name} == set(FILES)


def test_there_are_many():
    assert len({case[1] for case in REFUSALS}) == len(REFUSALS) >= 60
