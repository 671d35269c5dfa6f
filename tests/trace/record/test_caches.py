"""What code keeps of a trace is dropped, so that the next trace and real training find what they would without it."""

import runpy
import sys
import weakref
from functools import lru_cache
from types import ModuleType

import pytest
import torch
from torch import nn

from tpcalc.check import check
from tpcalc.errors import TraceError
from tpcalc.trace import trace
from tpcalc.trace.record import Attributes, Files
from tpcalc.trace.record.phantom import Phantom

X = torch.linspace(-1, 1, 48).reshape(2, 24)
CACHE: dict = {}
kept = None


@lru_cache
def table(count):
    return torch.arange(count).float().cos()


def by_function(module):
    return table(24)


def by_file(module):
    if 24 not in CACHE:
        CACHE[24] = torch.arange(24).float().cos()
    return CACHE[24]


def by_name(module):
    global kept
    if kept is None:
        kept = torch.arange(24).float().cos()
    return kept


def by_module(module):
    if module.kept is None:
        module.kept = torch.arange(24).float().cos()
    return module.kept


def by_list(module):
    if not module.list:
        module.list.append(torch.arange(24).float().cos())
    return module.list[0]


class Table:
    """An object of the file, and its class, that keep."""

    kept, of_class = None, {}

    def __call__(self, module):
        if self.kept is None:
            self.kept = torch.arange(24).float().cos()
        return self.kept


def by_class(module):
    if 24 not in Table.of_class:
        Table.of_class[24] = torch.arange(24).float().cos()
    return Table.of_class[24]


def by_attribute(module):
    if not hasattr(by_attribute, "kept"):
        by_attribute.kept = torch.arange(24).float().cos()
    return by_attribute.kept


def nested(module):
    inner = NESTED["cos"]
    if 24 not in inner:
        inner[24] = torch.arange(24).float().cos()
    return inner[24]


def by_helper(module):
    return module.helper(module)


NESTED: dict = {"cos": {}}
by_object = Table()


class Net(nn.Module):
    def __init__(self, n, cached):
        super().__init__()
        self.a, self.o, self.cached = nn.Linear(24, n), nn.Linear(n, 10), cached
        self.kept, self.list, self.helper = None, [], Table()

    def forward(self, x):
        return self.o(torch.relu(self.a(x * self.cached(self))))


WAYS = [
    by_function, by_file, by_name, by_module, by_list, by_class, by_attribute, by_object, by_helper, nested,
]  # fmt: skip


@pytest.mark.parametrize("cached", WAYS)
def test_each_trace_makes_its_own(cached):
    program = trace(lambda n: (Net(n, cached), (X,)), widths=(16, 32, 64))
    assert any(node.op.startswith("aten.cos") for node in program.nodes)
    nothing_kept()


def nothing_kept():
    assert not CACHE and kept is None and type(table(24)) is torch.Tensor
    assert not Table.of_class and Table.kept is None and not NESTED["cos"]
    assert not vars(by_object) and not vars(by_attribute)


@pytest.mark.parametrize("cached", WAYS)
def test_a_model_with_a_cache_is_checked(cached):
    found = check(lambda n: (Net(n, cached), (X,)), widths=(16, 32, 64), seeds=1, steps=2)
    assert len(found.widths) == 3
    nothing_kept()


def test_what_stood_before_stands_after():
    real = CACHE[24] = torch.arange(24).float().cos()
    try:
        trace(lambda n: (Net(n, by_file), (X,)), widths=(16, 32, 64))
        assert CACHE[24] is real
    finally:
        CACHE.clear()


def test_nothing_is_left_after_an_error():
    def failing(module):
        by_file(module)
        raise ValueError("no")

    with pytest.raises(TraceError):
        trace(lambda n: (Net(n, failing), (X,)), widths=(16, 32, 64))
    assert not CACHE


FILE = """
from functools import lru_cache
import torch
from torch import nn
@lru_cache
def table(count): return torch.arange(count).float().cos()
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.o = nn.Linear(24, n), nn.Linear(n, 10)
    def forward(self, x): return self.o(torch.relu(self.a(x * table(24))))
def net(n): return Net(n), (torch.ones(2, 24),)
"""


def test_a_file_that_is_no_module_is_looked_into(tmp_path):
    """As by a test runner that does not register what it imports."""
    (tmp_path / "kept_apart_net.py").write_text(FILE)
    net = runpy.run_path(str(tmp_path / "kept_apart_net.py"), run_name="kept_apart_net")["net"]
    assert "kept_apart_net" not in sys.modules
    net(16)[0](torch.ones(2, 24))  # it has kept a table before it is traced
    for _ in range(2):
        program = trace(net, widths=(16, 32, 64))
        assert any(node.op.startswith("aten.cos") for node in program.nodes)


class Pretender:
    """As a compiled library of cffi in sys.modules: it says that it is a module, and takes no weak reference."""

    __slots__ = ("__dict__",)
    __class__ = ModuleType


def test_what_only_says_that_it_is_a_module_is_left_alone(monkeypatch):
    pretender = Pretender()
    assert isinstance(pretender, ModuleType)
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(pretender)
    monkeypatch.setitem(sys.modules, "a_compiled_library", pretender)
    Files()


def test_what_was_kept_stands_again():
    model = Net(4, by_list)
    built = Attributes(model, Files())
    model(X)
    model.kept = real = model.list[0]
    with built.standing():
        assert model.kept is None and model.list == []
        model.list.append("else")
    assert model.kept is real and model.list[0] is real and not isinstance(real, Phantom)


def a_module() -> ModuleType:
    made = ModuleType("came_later")
    made.__file__ = __file__
    made.table = lru_cache(torch.arange)
    made.table(3)
    made.holder = {}
    return made


def test_what_has_come_since_is_looked_at_again(monkeypatch):
    files = Files()
    for _ in range(2):  # the second stands where the first stood, with as many names
        monkeypatch.setitem(sys.modules, "came_later", a_module())
        files.look()
        later = sys.modules["came_later"]
        assert later.table.cache_info().currsize == 0
        later.holder["inner"] = {}
        files.look()
        later.table(3)
        files.look()  # nothing else has changed
        assert later.table.cache_info().currsize == 0
        later.holder["inner"]["cos"] = later.kept = torch.ones(1)
        files.drop(torch.Tensor)
        assert later.holder == {"inner": {}} and not hasattr(later, "kept")
        del sys.modules["came_later"], later
