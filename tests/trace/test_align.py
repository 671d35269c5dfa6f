"""Alignment of hand-made traces: what joins, and what is refused with which words."""

import dataclasses
import time

import pytest
import torch
from torch import nn

import tpcalc
from tpcalc.algebra.size import Scalar
from tpcalc.errors import AlignError, FitError
from tpcalc.program.ir import InitLaw, Ref
from tpcalc.program.raw import RawNode, RawTrace, RawValue, RawWeight
from tpcalc.trace.align import align

WIDTHS = (128, 256, 512)


def small(n: int) -> RawTrace:
    """``y = n^-1/2 * (x @ w).view(2, 4, n/4)`` with a loss gradient on ``y``; source lines at the first width only."""
    source = "net.py:7" if n == WIDTHS[0] else ""
    return RawTrace(
        width=n,
        values={
            0: RawValue((n, n), "torch.float32", "weight", "w"),
            1: RawValue((2, n), "torch.float32", "input", "x"),
            2: RawValue((2, n), "torch.float32"),
            3: RawValue((2, 4, n // 4), "torch.float32"),
            4: RawValue((2, 4, n // 4), "torch.float32"),
            5: RawValue((2, 4, n // 4), "torch.float32", "seed"),
        },
        nodes=[
            RawNode("aten.mm.default", (Ref(1), Ref(0)), (), (2,), "block", source),
            RawNode("aten.view.default", (Ref(2), (2, 4, n // 4)), (), (3,), "block", source),
            RawNode("aten.mul.Tensor", (Ref(3), n**-0.5), (("alpha", 1),), (4,), "", source),
        ],
        weights=[RawWeight(("w", "head.w"), 0, (n, n), True, None, "Linear")],
        inputs=[1],
        outputs=[("", 4)],
        seeds=[(4, 5)],
        grads={4: 5},
        init={"w": InitLaw("random", n**-0.5)},
    )


def traces(change=lambda trace: None, at=None):
    made = [small(n) for n in WIDTHS]
    for trace in made:
        if at is None or trace.width == at:
            change(trace)
    return made


def replaced(trace, index, **fields):
    trace.nodes[index] = dataclasses.replace(trace.nodes[index], **fields)


def revalued(trace, vid, **fields):
    trace.values[vid] = dataclasses.replace(trace.values[vid], **fields)


def test_one_program_of_all_widths():
    program = align(traces())
    assert program.widths == WIDTHS
    mm, view, mul = program.nodes
    assert mm.where == "block, net.py:7"
    assert str(view.args[1][2]) == "n/4"
    assert isinstance(mul.args[1], Scalar) and str(mul.args[1].order) == "-1/2"
    assert mul.kwargs == (("alpha", 1),)
    assert [str(size) for size in program.values[3].shape] == ["2", "4", "n/4"]
    (weight,) = program.weights
    assert (weight.name, weight.aliases, weight.module_type) == ("w", ("head.w",), "Linear")
    assert [law.std for _, law in weight.init] == [n**-0.5 for n in WIDTHS]
    assert program.seeds == ((4, 5),) and program.outputs == (("", 4),) and program.grads == {4: 5}


def test_what_does_not_depend_on_the_width_is_reused_as_recorded():
    made = traces()
    program = align(made)
    assert program.nodes[0].args is made[0].nodes[0].args
    assert program.values[2].shape is program.values[1].shape


def test_the_order_of_the_traces_does_not_matter():
    assert str(align(list(reversed(traces())))) == str(align(traces()))


def test_constants_and_special_numbers_stay():
    def arguments(trace):
        replaced(
            trace, 2, args=(Ref(3), float("-inf")), kwargs=(("x", float("nan")), ("b", True), ("s", "torch.int64"))
        )

    node = align(traces(arguments)).nodes[2]
    assert node.args == (Ref(3), float("-inf"))
    assert node.kwargs[1:] == (("b", True), ("s", "torch.int64"))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: replaced(t, 1, op="aten.clone.default"),
            "operation 1 is aten.view.default (block, net.py:7) at width 128 but aten.clone.default (block) at "
            "width 512: the "
            "model's graph depends on the width here (a branch, a loop over a size, a number that the factory drew at "
            "random anew for each, or a module that vanishes when two sizes "
            "agree); choose widths that take the same path, or make it independent of the width",
        ),
        (
            lambda t: t.nodes.pop(),
            "operation 2 is aten.mul.Tensor (net.py:7) at width 128 but the end of the trace at width 512",
        ),
        (
            lambda t: t.nodes.append(RawNode("aten.neg.default", (Ref(4),), (), (6,))),
            "operation 3 is the end of the trace at width 128 but aten.neg.default at width 512",
        ),
        (lambda t: replaced(t, 0, module="other"), "operation 0 is aten.mm.default (block, net.py:7) at width 128"),
        (
            lambda t: replaced(t, 1, args=(Ref(2), (2, 4, 4, t.width // 16))),
            "an argument differs in length between the widths [128, 256, 512] of operation 1, aten.view.default",
        ),
        (
            lambda t: replaced(t, 0, args=(Ref(0), Ref(1))),
            "an argument is value 1 / value 1 / value 0 at widths 128 / 256 / 512 of operation 0, aten.mm.default "
            "(block, net.py:7)",
        ),
        (lambda t: replaced(t, 2, kwargs=(("alpha", None),)), "an argument is 1 / 1 / None"),
        (lambda t: replaced(t, 2, kwargs=(("alpha", False),)), "an argument is 1 / 1 / False"),
        (
            lambda t: revalued(t, 2, dtype="torch.float16"),
            "tensor the result of aten.mm.default (block, net.py:7) is op torch.float32 of 2 axes at width 128 but op "
            "torch.float16 of 2 axes at width 512",
        ),
        (
            lambda t: t.values.update({9: RawValue((3,), "torch.float32", "buffer", "table")}),
            "tensor table (buffer) exists at width 512 only, of widths 128 and 512",
        ),
        (
            lambda t: t.weights.append(RawWeight(("extra",), 0, (3,), True)),
            "weight extra exists at width 512 but not at width 128",
        ),
        (
            lambda t: t.weights.__setitem__(0, RawWeight(("head.w", "w"), 0, (t.width, t.width), True)),
            "weights are tied or ordered differently: w = head.w at width 128 but head.w = w at width 512",
        ),
        (
            lambda t: t.weights.__setitem__(0, dataclasses.replace(t.weights[0], trainable=False)),
            "weight w is used or trained differently at widths 128 and 512",
        ),
        (lambda t: t.outputs.append(("aux", 3)), "the outputs of the model differ between widths 128 and 512"),
        (lambda t: t.seeds.clear(), "the seeds of the model differ"),
    ],
)
def test_a_different_graph_is_refused(change, message):
    with pytest.raises(AlignError) as error:
        align(traces(change, at=512))
    assert message in str(error.value)
    assert "the model's graph depends on the width here" in str(error.value)


def test_sizes_that_fit_nothing_name_the_tensor():
    def change(trace):
        revalued(trace, 2, shape=(2, {128: 7, 256: 8, 512: 9}[trace.width]))

    with pytest.raises(FitError) as error:
        align(traces(change))
    assert str(error.value).startswith(
        "axis 1 of the result of aten.mm.default (block, net.py:7) is 7, 8, 9 at widths 128, 256, 512, which "
        "is no power of n;"
    )


def test_constants_that_fit_nothing_name_the_op():
    def change(trace):
        replaced(trace, 2, args=(Ref(3), {128: 0.1, 256: 0.7, 512: 0.2}[trace.width]))

    with pytest.raises(FitError) as error:
        align(traces(change))
    assert str(error.value).startswith(
        "an argument of aten.mul.Tensor (net.py:7) is 0.1, 0.7, 0.2 at widths 128, 256, 512"
    )


def with_magnitudes(kind, magnitudes, rms=None, name="table", shape=(3,)):
    def change(trace):
        index = WIDTHS.index(trace.width)
        trace.values[9] = RawValue(shape, "torch.float32", kind, name, magnitudes[index], (rms or magnitudes)[index])

    return traces(change)


def test_magnitudes():
    power = [n**0.5 for n in WIDTHS]
    wild, flat = [1.0, 3.0, 1.0], [1.0, 1.001, 0.999]
    assert align(with_magnitudes("buffer", [2.0] * 3)).values[9].magnitude == Scalar.of(2.0)
    assert str(align(with_magnitudes("buffer", power)).values[9].magnitude.order) == "1/2"
    assert str(align(with_magnitudes("buffer", wild, power)).values[9].magnitude.order) == "1/2"
    part = align(with_magnitudes("buffer", [None, 1.0, 1.0]))
    assert part.values[9].magnitude.order == 0
    assert part.assumptions == ("the size of the entries of buffer table was measured at widths 256, 512 only",)

    taken = align(with_magnitudes("buffer", flat))
    assert taken.values[9].magnitude.order == 0 and not taken.assumptions
    assert align(with_magnitudes("input", wild, name="ids")).assumptions == (
        "order of input ids is taken as 0: its entries do not grow with the width",
    )
    many = align(with_magnitudes("buffer", wild, [1.0, 1.07, 1.05], shape=(400,)))  # as random as can be told
    assert many.values[9].magnitude.order == 0
    assert many.assumptions == ("the size of the entries of buffer table was measured, and grows as n^(0)",)
    for shape in ((3,), (4000,)):
        with pytest.raises(FitError, match="the size of the entries of buffer table is 1, 3, 1 at widths"):
            align(with_magnitudes("buffer", wild, wild, shape=shape))


def test_assumptions_are_merged_in_order():
    def assume(trace):
        trace.assumptions += ["both", f"at {trace.width}"]

    assert align(traces(assume)).assumptions == ("both", "at 128", "at 256", "at 512")


@pytest.mark.parametrize("widths", [(128, 256), (128, 128, 256)])
def test_three_different_widths_are_needed(widths):
    with pytest.raises(AlignError, match="three or more different widths"):
        align([small(n) for n in widths])


def test_ten_thousand_nodes_take_well_under_a_second():
    made = []
    for n in WIDTHS:
        trace = small(n)
        for vid in range(10, 10_010):
            trace.values[vid] = RawValue((2, n), "torch.float32")
            args = (Ref(2 if vid == 10 else vid - 1), (2, n)) if vid % 2 else (Ref(2), n**-0.5)
            trace.nodes.append(RawNode("aten.op.default", args, (), (vid,)))
        made.append(trace)
    start = time.perf_counter()
    assert len(align(made).nodes) == 10_003
    assert time.perf_counter() - start < 2  # about 0.15 s when the machine is free


def test_a_factory_that_ignores_its_width_is_refused():
    def factory(n):
        return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)), (torch.randn(3, 8),)

    with pytest.raises(AlignError, match="nothing in the model grows with the width: all its 4 weights"):
        tpcalc.trace(factory, (32, 64, 128))
