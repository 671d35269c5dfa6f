"""What a trace switches, it switches back, also after an error."""

import random
import subprocess
import sys

import pytest
import torch
from torch import nn

from tpcalc.errors import TraceError
from tpcalc.trace.record import decomposed, record, seeded


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)), (torch.randn(4, 8),)


def test_globals_are_restored():
    def state():
        return (
            random.getstate()[1][:3], torch.get_rng_state().tolist(), torch.backends.mha.get_fastpath_enabled(),
            torch._C._get_mkldnn_enabled(), torch.backends.opt_einsum.enabled, dict(vars(torch.nn.Module)),
            torch.backends.cuda.flash_sdp_enabled(), torch.backends.nnpack.flags, torch.cuda._lazy_init, torch.compile,
        )  # fmt: skip

    before = state()
    record(mlp, 16)
    with pytest.raises(TraceError):
        record(lambda: (nn.Linear(8, 8), (torch.ones(2, 7),)), 8)
    assert state() == before


def test_a_default_device_that_is_not_there_is_left_aside():
    """Of a file, or set anew by the factory at each width; the code's own tensors are those of a trace."""
    code = (
        "import torch\nfrom torch import nn\nfrom tpcalc.trace import trace\n"
        "def mlp(width):\n"
        "    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3)), (torch.ones(2, 8),)\n"
        "def sets(width):\n    torch.set_default_device('cuda')\n    return mlp(width)\n"
        "plain = str(trace(mlp, (16, 32, 64)).nodes)\n"
        "assert str(trace(sets, (16, 32, 64)).nodes) == plain\n"
        "torch.set_default_device('cuda')\n"
        "assert str(trace(mlp, (16, 32, 64)).nodes) == plain\n"
        "assert torch.utils._device.CURRENT_DEVICE == torch.device('cuda')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_seeds_reach_python_and_torch_alike():
    def drawn():
        return random.random(), torch.rand(2).tolist()

    with seeded():
        first = drawn()
    outside = drawn()
    with seeded():
        assert drawn() == first != outside
    with seeded(1):
        assert drawn() != first


def test_only_the_taken_branch_of_a_condition_runs():
    with decomposed():
        assert torch.cond(torch.tensor(True), lambda x: x + 1, lambda x: x / 0, (1,)) == 2
        assert torch.compile(mlp) is mlp and torch.compile(fullgraph=True)(mlp) is mlp
