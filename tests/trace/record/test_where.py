"""Places in the user's code."""

import sys
from functools import partial

import pytest
import torch
from torch import nn

from tpcalc.trace.record import recorder, run
from tpcalc.trace.record.where import Modules, SourceLines


def compiled(filename):
    space = {}
    exec(compile("def ask(look):\n    return look()\n", filename, "exec"), space)
    return space["ask"]


@pytest.mark.parametrize(
    "files, place",
    [
        (("/home/me/net.py",), "net.py:2"),
        (("/home/me/net.py", torch.__file__), "net.py:2"),
        (("/home/me/net.py", "/usr/lib/python3/site-packages/timm/layers.py"), "layers.py:2"),
        (("/home/me/net.py", run.__file__, "<string>"), ""),
        (("/home/me/net.py", recorder.__file__), ""),
        (("/home/me/net.py", recorder.__file__, "/home/me/loss.py"), "loss.py:2"),
    ],
)
def test_the_innermost_line_of_the_user(files, place):
    look = partial(lambda: SourceLines().current(sys._getframe(1)))
    for file in reversed(files):
        look = partial(compiled(file), look)
    assert look() == place


def test_running_modules_and_the_one_that_fails():
    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(3, 3)))
    stack, seen = [""], []
    modules = Modules(model, stack)
    model[1][0].register_forward_pre_hook(lambda *args: seen.append(list(stack)))
    before = dict(vars(nn.Module))
    with modules.following(), pytest.raises(RuntimeError):
        model(torch.ones(2, 4))
    assert seen == [["", "", "1", "1.0"]] and stack == [""]
    assert modules.failed == "1.0" and dict(vars(nn.Module)) == before


def test_what_is_compiled_runs_as_written_and_is_named():
    model, stack, seen = nn.Sequential(nn.Identity()), [""], []
    model[0].register_forward_pre_hook(lambda *args: seen.append(list(stack)))
    compiled = model[0]._compiled_call_impl = lambda x: 1 / 0
    with Modules(model, stack).following():
        model(torch.ones(2))
    assert seen == [["", "", "0"]] and vars(model[0])["_compiled_call_impl"] is compiled
