"""Init laws, read while a model is built under fake tensors, against the entries of the same model really built."""

import copy
import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.init import trunc_normal_ as imported_trunc_normal_

from tpcalc.program.ir import InitLaw
from tpcalc.trace.init import InitRecorder, measured_law
from tpcalc.trace.record import record

P = nn.Parameter
E = torch.empty


class Weight(nn.Module):
    """One parameter, made by ``make``."""

    def __init__(self, make):
        super().__init__()
        self.w = make()

    def forward(self):
        return self.w.float().sum()


def filled(shape, write):
    weight = P(E(*shape))
    with torch.no_grad():
        write(weight)
    return weight


def replaced_data():
    weight = P(E(60, 60))
    weight.data = torch.randn(60, 60) * 0.1
    return weight


def scaled_in_place(weight):
    weight.normal_()
    weight *= 0.5
    weight /= 4
    weight.mul_(2).div_(10)


def thirds(weight):
    weight[:64].normal_(0, 0.1)
    weight[64:128].normal_(0, 0.1)
    weight[128:] = torch.randn(64, 48) * 0.1


def columns(weight):
    weight[:, :60].normal_(0, 0.1)
    weight[:, 60:].uniform_(-1, 1)


def forget_gate(weight):
    weight.zero_()
    weight[16:32].fill_(1.0)


def mamba_time_step_bias():
    low, high = math.log(0.001), math.log(0.1)
    step = torch.exp(torch.rand(4000) * (high - low) + low).clamp(min=1e-4)
    return P(step + torch.log(-torch.expm1(-step)))


def timm_trunc_normal(weight):
    weight.uniform_(-0.9545, 0.9545).erfinv_().mul_(0.02 * math.sqrt(2)).add_(0.0).clamp_(-0.04, 0.04)


MADE = {
    "normal_": lambda: nn.init.normal_(P(E(80, 80)), std=0.02),
    "normal_ of nonzero mean": lambda: nn.init.normal_(P(E(80, 80)), 1.0, 0.02),
    "uniform_": lambda: nn.init.uniform_(P(E(80, 80)), -0.3, 0.1),
    "trunc_normal_": lambda: nn.init.trunc_normal_(P(E(80, 80))),
    "trunc_normal_ off centre": lambda: nn.init.trunc_normal_(P(E(80, 80)), 0.5, 1.0, 0.0, 1.0),
    "trunc_normal_ too wide to matter": lambda: nn.init.trunc_normal_(P(E(80, 80)), std=0.02),
    "trunc_normal_ imported by name": lambda: imported_trunc_normal_(P(E(80, 80)), std=1.0, a=-1.0, b=1.0),
    "timm's trunc_normal_": lambda: filled((80, 80), timm_trunc_normal),
    "kaiming_uniform_": lambda: nn.init.kaiming_uniform_(P(E(80, 50)), a=math.sqrt(5)),
    "kaiming_normal_": lambda: nn.init.kaiming_normal_(P(E(80, 50)), mode="fan_out", nonlinearity="relu"),
    "xavier_uniform_": lambda: nn.init.xavier_uniform_(P(E(80, 50)), gain=2.0),
    "xavier_normal_": lambda: nn.init.xavier_normal_(P(E(80, 50))),
    "orthogonal_ tall": lambda: nn.init.orthogonal_(P(E(80, 50)), gain=2.0),
    "orthogonal_ wide": lambda: nn.init.orthogonal_(P(E(50, 80))),
    "eye_": lambda: nn.init.eye_(P(E(50, 80))),
    "dirac_": lambda: nn.init.dirac_(P(E(16, 16, 3, 3))),
    "sparse_": lambda: nn.init.sparse_(P(E(100, 80)), 0.4, 0.1),
    "constant_": lambda: nn.init.constant_(P(E(7)), 0.3),
    "zeros_": lambda: nn.init.zeros_(P(E(7))),
    "ones_": lambda: nn.init.ones_(P(E(7))),
    "a later call wins": lambda: nn.init.normal_(nn.init.ones_(P(E(80, 80))), std=0.5),
    "randn over sqrt": lambda: P(torch.randn(64, 80) / math.sqrt(64)),
    "rand": lambda: P(torch.rand(80, 80) - 0.5),
    "torch.normal": lambda: P(torch.normal(0.0, 0.3, (80, 80))),
    "empty().normal_()": lambda: P(torch.empty(80, 80).normal_(std=3.0)),
    "randn_like": lambda: P(torch.randn_like(torch.zeros(80, 80)) * 0.1),
    "scaled in place": lambda: filled((80, 80), scaled_in_place),
    "copy_": lambda: filled((80, 80), lambda w: w.copy_(torch.randn(80, 80) * 0.1)),
    ".data.copy_": lambda: filled((80, 80), lambda w: w.data.copy_(0.1 * torch.randn(80, 80))),
    ".data =": replaced_data,
    "deepcopy": lambda: copy.deepcopy(P(torch.randn(80, 80) * 0.2)),
    "slices of one law": lambda: filled((192, 48), thirds),
    "slices along columns": lambda: filled((80, 120), columns),
    "forget gate": lambda: filled((64,), forget_gate),
    "sum": lambda: P(torch.randn(80, 80) + 0.5 * torch.rand(80, 80)),
    "sum with itself": lambda: (lambda a: P(a + a))(torch.randn(80, 80)),
    "symmetrised": lambda: (lambda a: P((a + a.T) / 2))(torch.randn(120, 120)),
    "product": lambda: P(torch.randn(80, 80) * torch.rand(80, 80)),
    "matrix product": lambda: P(torch.randn(80, 50) @ torch.randn(50, 80)),
    "cat": lambda: P(torch.cat([torch.randn(60, 60), torch.randn(60, 60) * 0.1])),
    "tril": lambda: P(torch.randn(80, 80).tril()),
    "masked": lambda: P(torch.where(torch.rand(120, 120) < 0.25, torch.randn(120, 120), torch.zeros(120, 120))),
    "normalised rows": lambda: P(nn.functional.normalize(torch.randn(80, 80), dim=1)),
    "data": lambda: P(torch.tensor([1.0, 2.0, 3.0])),
    "full": lambda: P(torch.full((8,), 2.0) * 3),
    "layer scale": lambda: P(torch.ones(8) * 1e-6),
    "log of arange": lambda: P(torch.log(torch.arange(1, 17, dtype=torch.float32)).repeat(32, 1)),
    "linspace": lambda: P(torch.linspace(0, 1, 11)),
    "time step bias": mamba_time_step_bias,
    "bfloat16": lambda: P(torch.randn(80, 80, dtype=torch.bfloat16) * 0.5),
    "padded": lambda: P(nn.functional.pad(torch.ones(30), (0, 10), value=3.0)),
}

MODULES = {
    "Linear": lambda: nn.Linear(80, 50),
    "Embedding": lambda: nn.Embedding(80, 50),
    "Conv2d": lambda: nn.Conv2d(16, 24, 3),
    "LSTM": lambda: nn.LSTM(48, 48),
    "BatchNorm2d": lambda: nn.BatchNorm2d(7),
    "MultiheadAttention": lambda: nn.MultiheadAttention(48, 4),
    "MultiheadAttention, split": lambda: nn.MultiheadAttention(48, 4, kdim=40, vdim=40),
    "TransformerEncoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(48, 4, 96, batch_first=True), 2, enable_nested_tensor=False
    ),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(80, 60)),
    "tied": lambda: tied(),
}


def tied():
    model = nn.Sequential(nn.Embedding(80, 50), nn.Linear(50, 80, bias=False))
    model[1].weight = model[0].weight
    return model


def laws_of(make, fake=True):
    if fake:
        with FakeTensorMode():
            return laws_of(make, fake=False)
    with InitRecorder() as recorder:
        model = make()
    return recorder.laws(model)


def agree(law: InitLaw, weight: torch.Tensor) -> None:
    """Kind, mean and std within the sampling error of the entries (6 standard errors, and some for dependence)."""
    found = measured_law(weight)
    assert law.kind == found.kind, law
    if law.kind == "constant":
        assert law.mean == pytest.approx(found.mean)
        return
    error = 6 * found.std / math.sqrt(weight.numel())
    assert law.std == pytest.approx(found.std, rel=0.02, abs=error)
    assert law.mean == pytest.approx(found.mean, rel=0.01, abs=2 * error)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "make", [*(lambda m=m: Weight(m) for m in MADE.values()), *MODULES.values()], ids=[*MADE, *MODULES]
)
def test_the_law_is_that_of_the_entries(make):
    torch.manual_seed(0)
    real = make()
    laws = laws_of(make)
    names = [name for name, _ in real.named_parameters(remove_duplicate=False)]
    assert list(laws) == names
    for name, weight in real.named_parameters(remove_duplicate=False):
        agree(laws[name], weight)


@pytest.mark.parametrize("make", [*MADE.values()], ids=[*MADE])
def test_real_tensors_give_the_same_law(make):
    real, fake = (laws_of(lambda: Weight(make), fake)["w"] for fake in (False, True))
    assert (real.kind, real.std, real.mean) == (fake.kind, fake.std, fake.mean)


@pytest.mark.parametrize("make", [*MADE.values()], ids=[*MADE])
def test_the_recorder_gives_the_same_law(make):
    recorded = record(lambda: (Weight(make), ()), 1, building=InitRecorder()).init["w"]
    fake = laws_of(lambda: Weight(make))["w"]
    assert (recorded.kind, recorded.std, recorded.mean) == (fake.kind, fake.std, fake.mean)


@pytest.mark.parametrize(
    "make, call",
    [
        (lambda: nn.init.normal_(P(E(8, 8)), std=0.02), "normal_(std=0.02)"),
        (lambda: nn.init.normal_(P(E(8, 8)), 1.0, 0.02), "normal_(mean=1, std=0.02)"),
        (lambda: nn.init.uniform_(P(E(8, 8)), -0.5, 0.5), "uniform_(a=-0.5, b=0.5)"),
        (lambda: nn.init.kaiming_normal_(P(E(8, 9)), nonlinearity="linear"), "kaiming_normal_(std=0.333333)"),
        (lambda: nn.init.trunc_normal_(P(E(8, 8)), std=0.02), "trunc_normal_(std=0.02)"),
        (
            lambda: nn.init.trunc_normal_(P(E(8, 8)), std=0.02, a=-0.04, b=0.04),
            "trunc_normal_(std=0.02, a=-0.04, b=0.04)",
        ),
        (lambda: P(torch.randn(8, 8) / 4), "randn() / 4"),
        (lambda: nn.init.zeros_(P(E(8))), "zeros_()"),
        (lambda: nn.init.constant_(P(E(8)), 0.5), "constant_(0.5)"),
        (lambda: P(torch.empty(8, 8)), "uninitialised memory"),
        (lambda: P(torch.randn(8, 8).cumsum(0)), "cumsum has no law"),
        (lambda: P(torch.randn(8, 8).cumsum(0) * 0.5), "cumsum has no law"),
    ],
)
def test_the_call_says_where_it_was_read(make, call):
    law = laws_of(lambda: Weight(make))["w"]
    assert law.call == call
    assert (law.kind == "unknown") == call.endswith(("memory", "law"))


def test_a_padding_row_is_left_out():
    assert laws_of(lambda: nn.Embedding(40, 16, padding_idx=3))["weight"] == InitLaw(
        "random", 1.0, 0.0, "normal_(std=1)"
    )


def few_rows_smaller(weight):
    weight.normal_()
    weight[64:].mul_(0.1)


def joined(weight):
    weight.data = torch.cat([torch.randn(64, 48), torch.randn(8, 48) * 0.1])


def gain_of_each_row(weight):
    gain = torch.ones(72)
    gain[64:] = 0.1
    weight.normal_().mul_(gain[:, None])


#: What is done to a whole weight afterwards -> the factor by which it changes the size.
LATER = {
    "times one": (lambda w: w.mul_(1.0), 1),
    "in place": (lambda w: w.mul_(4).div_(2), 2),
    "anew": (lambda w: setattr(w, "data", w.data * 3), 3),
    "clamped": (lambda w: w.clamp_(-9, 9), 1),
    "negated and cast": (lambda w: setattr(w, "data", (-w).double().float()), 1),
    "tanh of small": (lambda w: w.mul_(1e-3).tanh_(), 1e-3),
    "a row of zeros, then a product": (lambda w: (w[3].zero_(), w.mul_(2)), 2),
    "copied in another layout": (lambda w: setattr(w, "data", (w.t().contiguous() * 2).t()), 2),
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("made", [few_rows_smaller, joined, gain_of_each_row])
def test_rows_keep_their_own_init(made, later):
    """Whatever is then done to the whole weight entry by entry is done to each block of its rows."""
    change, factor = LATER[later]
    with FakeTensorMode(), InitRecorder() as recorder, torch.no_grad():
        weight = P(E(72, 48))
        made(weight)
        change(weight)
    many, few = (recorder.law_of_block(weight, 0, *rows) for rows in ((4, 60), (64, 8)))
    assert many.kind == few.kind == "random"
    assert (many.std, few.std) == (pytest.approx(factor, 1e-3), pytest.approx(0.1 * factor, 1e-3))
    assert recorder.law_of(weight).std == pytest.approx(factor * math.sqrt((64 + 0.08) / 72), 1e-2)


def test_columns_of_rows_keep_their_own_init():
    with InitRecorder() as recorder, torch.no_grad():
        weight = P(E(72, 48))
        weight.normal_()
        weight[:64, :16].mul_(0.1)
        weight.mul_(2)
    assert recorder.law_of(weight[:64, :16]).std == pytest.approx(0.2)
    assert recorder.law_of(weight[:64, 16:]).std == recorder.law_of(weight[64:]).std == pytest.approx(2)


def test_a_draw_of_the_whole_leaves_no_rows_of_their_own():
    with InitRecorder() as recorder, torch.no_grad():
        weight = P(E(72, 48))
        few_rows_smaller(weight)
        nn.init.normal_(weight.mul_(2), std=0.5)
    assert recorder.law_of_block(weight, 0, 64, 8) == InitLaw("random", 0.5, 0.0, "normal_(std=0.5)", True)


def test_tensors_from_outside_are_read_if_they_are_real():
    outside = torch.full((4,), 2.0)
    assert laws_of(lambda: Weight(lambda: P(outside)), fake=False)["w"] == InitLaw("constant", 0.0, 2.0, "data")


def test_every_patch_is_undone():
    original = torch.nn.init._no_grad_trunc_normal_
    with pytest.raises(ZeroDivisionError):
        with InitRecorder():
            raise ZeroDivisionError
    assert torch.nn.init._no_grad_trunc_normal_ is original


def test_nothing_is_drawn_under_fake_tensors():
    state = torch.get_rng_state()
    laws = laws_of(lambda: nn.Linear(1 << 20, 1 << 20))
    assert laws["weight"].std == pytest.approx(1 / math.sqrt(3 << 20))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cut", [lambda w: w.chunk(3), lambda w: w.split(8), lambda w: w.view(3, 8, 8).unbind()])
def test_chunks_initialised_one_by_one(cut):
    """Writes through the list of views that chunk, split and unbind return."""

    def make():
        weight = P(E(24, 8))
        with torch.no_grad():
            for std, rows in zip((1.0, 2.0, 3.0), cut(weight), strict=True):
                rows.normal_(std=std)
        return weight

    recorder = InitRecorder()
    built = []

    def call():
        built.append(Weight(make))
        return built[0], ()

    law = record(call, 8, building=recorder).init["w"]
    assert law.std == pytest.approx(math.sqrt(14 / 3))
    blocks = [recorder.law_of_block(built[0].w, 0, 8 * index, 8).std for index in range(3)]
    assert blocks == [1.0, 2.0, 3.0]


def replaced(weight):
    weight.data = weight.data * 2


AFTERWARDS = {
    "multiplied": (lambda w: w.mul_(2), (2.0, 0.5)),
    "by one": (lambda w: w.mul_(1.0), (1.0, 0.25)),
    "divided, twice": (lambda w: w.div_(2).div_(2), (0.25, 0.0625)),
    "by a tensor": (lambda w: w.mul_(torch.full((), 3.0)), (3.0, 0.75)),
    "replaced": (replaced, (2.0, 0.5)),
    "negated": (lambda w: w.neg_(), (1.0, 0.25)),
    "with noise": (lambda w: w.add_(torch.randn(96, 64)), (math.sqrt(2), math.sqrt(1.0625))),
    "doubled by itself": (lambda w: w.add_(w), (2.0, 0.5)),
    "copied": (lambda w: w.copy_(w.clone() * 2), (2.0, 0.5)),
}


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("after, wanted", AFTERWARDS.values(), ids=AFTERWARDS)
def test_rows_keep_a_law_of_their_own_when_all_are_changed(after, wanted, columns):
    built = []

    def write(weight):
        weight.normal_()
        (weight[:, 32:] if columns else weight[64:]).mul_(0.25)
        after(weight)
        built.append(weight)

    recorder = InitRecorder()
    record(lambda: (Weight(lambda: filled((96, 64), write)), ()), 8, building=recorder)
    dim, cut, length = (1, 32, 64) if columns else (0, 64, 96)
    found = [recorder.law_of_block(built[0], dim, *block).std for block in ((0, cut), (cut, length - cut))]
    assert found == pytest.approx(list(wanted), rel=1e-3)


@pytest.mark.parametrize(
    "make, std",
    [
        (lambda: nn.init.kaiming_uniform_(P(E(80, 50)), a=math.sqrt(5)), 1 / math.sqrt(3 * 50)),
        (lambda: nn.init.xavier_normal_(P(E(80, 50))), math.sqrt(2 / 130)),
        (lambda: nn.init.orthogonal_(P(E(80, 50)), gain=2.0), 2 / math.sqrt(80)),
        (lambda: nn.init.trunc_normal_(P(E(80, 80)), std=0.02, a=-0.04, b=0.04), 0.02 * 0.8796256610342398),
        (lambda: nn.init.trunc_normal_(P(E(80, 80)), std=0.02), 0.02),
        (lambda: filled((80, 80), timm_trunc_normal), 0.02 * 0.8796256610342398),
        (lambda: P(torch.randn(64, 80) / math.sqrt(64)), 1 / 8),
        (lambda: filled((192, 48), thirds), 0.1),
    ],
)
def test_exact_standard_deviations(make, std):
    assert laws_of(lambda: Weight(make))["w"].std == pytest.approx(
        std, rel=1e-4 if make.__code__.co_names[0] == "filled" else 1e-12
    )
