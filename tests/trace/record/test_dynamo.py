"""Torch's compiler is not imported for what only wants to be left alone by it, and is itself for everything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each script runs in a fork")

#: A process that has not imported it, and a fork of that for each script.
EACH = """
import json, os, sys, torch, traceback
from torch import nn
import tpcalc, tpcalc.verify, tpcalc.trace
for name, script in json.load(sys.stdin).items():
    sys.stdout.flush()
    if not os.fork():
        try:
            exec(script, globals())
            print(name, "went well", flush=True)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.wait()
"""

AFTER = """
assert "torch._dynamo" not in sys.modules
import torch._refs
f = torch.compile(lambda x: torch._refs.add(x, 1).sum(), backend="eager")
assert f(torch.zeros(3)) == 3
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo.config is not None
weight = nn.Parameter(torch.zeros(3))
torch.optim.Adam([weight])
made = torch.optim.Optimizer.add_param_group.__wrapped__
assert made.__dynamo_disable is not made and hasattr(made.__dynamo_disable, "_torchdynamo_disable")
"""

TRACED = """
from examples.gpt import gpt
from examples.mlp import mlp
for target in (mlp, gpt):
    tpcalc.trace.trace(target, (64, 128, 256))
"""

JUDGED = """
def setup(n):
    model = nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.1)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 10), torch.randn(2, 8)
tpcalc.verify(setup, widths=(64, 128, 256))
"""


ASKED = """
class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        import torch._dynamo
        from torch._dynamo import config
        import torch._dynamo.utils
        assert config is sys.modules["torch._dynamo.config"] and torch._dynamo.config is config
        self.inner, self.out = nn.Linear(8, n), nn.Linear(n, 4)
        left_alone.append(torch.compiler.disable(lambda x: x + 1))
    def forward(self, x):
        return self.out(torch.compile(nn.ReLU())(self.inner(x)))

left_alone = []
tpcalc.trace.trace(lambda n: (Model(n), torch.zeros(2, 8)), (64, 128, 256))
assert len(sys.modules["torch._dynamo"].__file__) and all(hasattr(f, "_torchdynamo_disable") for f in left_alone)
"""

#: One that the user's own function asks, first of all.
DISABLED = """
def disabled(n):
    left_alone.append(torch.compiler.disable(lambda x: x + 1))
    return nn.Linear(n, 4), torch.zeros(2, n)

left_alone = []
tpcalc.trace.trace(disabled, (64, 128, 256))
assert "torch._dynamo.config" in sys.modules and all(hasattr(f, "_torchdynamo_disable") for f in left_alone)
"""

#: Looking through all modules is no wish to have this one; whoever has kept what stood in its place has the real one.
SEARCHED = """
import inspect
from tpcalc.trace.record.dynamo import without_dynamo
with without_dynamo():
    import torch._dynamo as kept
    for module in list(sys.modules.values()):
        hasattr(module, "__file__") and hasattr(module, "__loader__")
    inspect.getmodule(torch.nn.Linear.forward)
    assert sys.modules["torch._dynamo"] is kept
    assert kept.disable(torch.optim.Adam.step) is torch.optim.Adam.step
assert "torch._dynamo" not in sys.modules
assert kept.disable(torch.optim.Adam.step) is not torch.optim.Adam.step and sys.modules["torch._dynamo"] is not kept
"""

#: In a process where nothing is compiled the first step compiles: as written, too, as it would run else.
COMPILES = """
class Compiled(torch.optim.SGD):
    def step(self, closure=None):
        if not hasattr(Compiled, "compiled"):
            Compiled.compiled = staticmethod(torch.compile(update, backend=refuse))
        for group in self.param_groups:
            for p in group["params"]:
                Compiled.compiled(p.data, p.grad, group["lr"])

def refuse(*args):
    raise AssertionError("compiled")

def update(p, grad, lr):
    p.sub_(lr * grad.sign())

def setup(n):
    model = nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, 4))
    return model, Compiled(model.parameters(), lr=1e-3), torch.randn(2, 8)

report = tpcalc.verify(setup, widths=(64, 128, 256))
assert "torch._dynamo.config" in sys.modules and "its update for a learning rate of 1 is ~ n^0" in str(report)
"""


SCRIPTS = {
    "trace": TRACED + AFTER, "verify": JUDGED + AFTER, "config": ASKED, "disable": DISABLED, "search": SEARCHED,
    "compile": COMPILES,
}  # fmt: skip


@pytest.fixture(scope="module")
def ran() -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", EACH], input=json.dumps(SCRIPTS), capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_imported_by_those_alone_who_ask_for_it_and_whole_after(ran, name):
    """Traces and verdicts do not import it; whoever asks for more than to be left alone has the real one."""
    assert f"{name} went well" in ran.stdout, ran.stderr
