"""Files for other people's trainers, read back as these trainers read them, from their documented semantics.

Each reader below is a few lines that do with a file what the trainer's own code does: which pattern decides, what is
done with the rest, what an empty match is.  What comes out is compared with ``scaling.param_groups`` parameter by
parameter.  Where a trainer is installed, ``test_dialects_live.py`` runs its own code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import tpcalc
from tests.support.command import ROOT, tpcalc_command
from tests.support.once import once
from tpcalc.errors import ScalingError
from tpcalc.scaling.dialects import DIALECTS, write

sys.path.insert(0, str(ROOT / "examples"))
import gpt as examples  # noqa: E402
import mlp as small  # noqa: E402

LR, DECAY, EPS = 3e-3, 0.1, 1e-8
ODD = ("a[0]", "it's", 'q"uote', "ünï", "1st", "x*y", "a+b(c)|d$", "back\\slash", "?", "_own", "😀", "#")


class Odd(nn.Module):
    """Names that mean something to a regular expression, a shell pattern, Python or YAML."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.each = nn.ModuleDict({name: nn.Linear(width, width) for name in ODD})
        self.x1y = nn.Linear(width, width)  # what "x*y" and "x.y" would match
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for layer in (*self.each.values(), self.x1y):
            x = torch.relu(layer(x))
        return self.head(x)


def odd(width: int) -> Any:
    return Odd(width), (torch.ones(2, 8),)


WIDE = {"mlp": small.mlp, "gpt": examples.gpt, "gpt_tied": examples.gpt_tied, "gpt_moe": examples.gpt_moe, "odd": odd}
MODELS = [*WIDE, "deep"]


@once
def scaling_of(model: str) -> tpcalc.Scaling:
    if model == "deep":
        return tpcalc.scale(examples.gpt_deep, {"width": 32, "depth": 2}, {"width": 128, "depth": 12})
    return tpcalc.scale(WIDE[model], 32, 128)


def built(model: str) -> nn.Module:
    with torch.device("meta"):
        return (examples.gpt_deep(128, 12) if model == "deep" else WIDE[model](128))[0]


Numbers = dict[str, tuple[float, float, float]]


def wanted(model: str, no_decay: Callable[..., bool] | None = None) -> Numbers:
    module = built(model)
    groups = scaling_of(model).param_groups(module, lr=LR, weight_decay=DECAY, eps=EPS, no_decay=no_decay)
    return by_name(module, groups)


def by_name(module: nn.Module, groups: list[dict[str, Any]]) -> Numbers:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["weight_decay"], g["eps"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found)), "a parameter in two groups"
    return dict(found)


# --- readers ----------------------------------------------------------------------------------------------------------


@dataclass
class Given:
    """Stands for the class of a trainer that the file makes: it keeps what it was given."""

    args: tuple = ()
    options: dict = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.options[name]


def keeping(*args: Any, **options: Any) -> Given:
    return Given(args, options)


def module_of(text: str, stubs: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a generated module, where modules of the trainer hold what ``stubs`` say."""
    for path, names in stubs.items():
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            stub = ModuleType(".".join(parts[:depth]))
            stub.__path__ = []
            if depth == len(parts):
                vars(stub).update(names)
            monkeypatch.setitem(sys.modules, stub.__name__, stub)
    found: dict[str, Any] = {}
    exec(compile(text, "generated.py", "exec"), found)
    return found


def read_torchtitan(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    container = SimpleNamespace(Config=keeping)
    stubs = {"torchtitan.components.optimizer": {"OptimizersContainer": container, "ParamGroupConfig": keeping}}
    config = module_of(text, stubs, monkeypatch)["optimizer"](lr=LR, weight_decay=DECAY, eps=EPS)
    found: Numbers = {}
    for group in config.param_groups:
        taken = [name for name, _ in model.named_parameters() if name not in found]
        taken = [name for name in taken if re.compile(group.pattern).search(name)]
        assert taken, f"{group.pattern} matches no parameter, which torchtitan refuses"
        assert group.optimizer_name == "AdamW"
        numbers = group.optimizer_kwargs
        found |= {name: (numbers["lr"], numbers["weight_decay"], numbers["eps"]) for name in taken}
    return found


@dataclass(frozen=True)
class Predicate:
    name: str
    fn: Callable[..., bool] = field(compare=False)


@dataclass(frozen=True)
class Key:
    with_name_predicate: Predicate


def megatrons(text: str, monkeypatch: pytest.MonkeyPatch, stages: int = 1) -> tuple[Callable, SimpleNamespace]:
    """``config_overrides`` of a file, and a config for it."""
    state = SimpleNamespace(
        model_parallel_is_initialized=lambda: True, get_pipeline_model_parallel_world_size=lambda: stages
    )
    stubs: dict[str, dict[str, Any]] = {
        "megatron.core.optimizer.optimizer_config": {"ParamKey": Key, "ParamWithNamePredicate": Predicate},
        "megatron.core": {"parallel_state": state},
    }
    config = SimpleNamespace(
        optimizer="adam", decoupled_weight_decay=True, decoupled_lr=None, lr=LR, min_lr=LR / 10, adam_eps=EPS
    )
    return module_of(text, stubs, monkeypatch)["config_overrides"], config


def read_megatron(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    config_overrides, config = megatrons(text, monkeypatch)
    overrides = config_overrides(config, no_decay=None)
    found: Numbers = {}
    for name, parameter in model.named_parameters():
        merged: dict[str, float] = {}
        for key, override in overrides.items():
            if key.with_name_predicate.fn(parameter, name):
                assert all(merged.get(what, value) == value for what, value in override.items()), "a conflict"
                merged |= override
        found[name] = (merged["max_lr"], DECAY * merged["wd_mult"], merged["eps"])
    return found


def read_automodel(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    found: Numbers = {}
    overrides = yaml.safe_load(text)["optimizer"]["param_group_overrides"]
    for name, _ in model.named_parameters():
        name = name.replace("_checkpoint_wrapped_module.", "")
        first = next((one for one in overrides if re.compile(one["pattern"]).search(name)), {})
        found[name] = (LR * first.get("lr_mult", 1.0), DECAY * first.get("wd_mult", 1.0), EPS)
    return found


def read_olmo_core(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    names = module_of(text, {"olmo_core.optim": {"OptimGroupOverride": keeping}}, monkeypatch)
    names["check_"](model)
    found: Numbers = {}
    for override in names["group_overrides"](lr=LR, weight_decay=DECAY, eps=EPS):
        for pattern in override.params:
            taken = [name for name, _ in model.named_parameters() if fnmatch(name, pattern)]
            assert taken, f"{pattern} matches no parameter, which OLMo-core refuses"
            assert not set(taken) & set(found), "a parameter in two groups, which torch refuses"
            numbers = override.opts
            found |= {name: (numbers["lr"], numbers["weight_decay"], numbers["eps"]) for name in taken}
    return found


def read_llm_foundry(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    config = yaml.safe_load(text)["optimizer"]
    assert config["name"] == "decoupled_adamw"
    left = [name for name, _ in model.named_parameters()]
    found: Numbers = {}
    for group in config["param_groups"]:
        taken = [name for name in left if re.search(group["param_str_match"], name)]
        left = [name for name in left if name not in taken]
        numbers = {**config, **group}
        # a step takes weight_decay off, which AdamW calls lr * weight_decay
        found |= {name: (numbers["lr"], numbers["weight_decay"] / numbers["lr"], numbers["eps"]) for name in taken}
    return found | {name: (config["lr"], config["weight_decay"] / config["lr"], config["eps"]) for name in left}


def read_fairseq2(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    section = yaml.safe_load(text)["optimizer"]
    assert section["name"] == "adamw"
    config = section["config"]
    found: Numbers = {}
    for name, _ in model.named_parameters():
        for group in (*config["groups"], {"params": [".*"]}):
            patterns = [group["params"]] if isinstance(group["params"], str) else group["params"]
            if any(name == pattern or re.match(pattern, name) for pattern in patterns):
                numbers = {**config, **group}
                found[name] = (numbers["lr"], numbers["weight_decay"], numbers["eps"])
                break
    return found


def read_deepspeed(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    groups = module_of(text, {}, monkeypatch)["param_groups"](model, lr=LR, weight_decay=DECAY, eps=EPS)
    return by_name(model, groups)


class AdamW8bit:
    """Stands for an optimizer that the trainer makes; its name is looked at."""


def trainer_of(model: nn.Module, decayed: list[str]) -> SimpleNamespace:
    return SimpleNamespace(
        model=model,
        args=SimpleNamespace(weight_decay=DECAY),
        optimizer_cls_and_kwargs=None,
        get_optimizer_cls_and_kwargs=lambda args, model: (AdamW8bit, {"lr": LR, "eps": EPS}),
        get_decay_parameter_names=lambda model: decayed,
    )


def read_axolotl(text: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    plugin = module_of(text, {"axolotl.integrations.base": {"BasePlugin": object}}, monkeypatch)["Plugin"]()
    trainer = trainer_of(model, [name for name, _ in model.named_parameters()])
    plugin.post_trainer_create({}, trainer)
    _, kwargs = trainer.optimizer_cls_and_kwargs  # as axolotl's create_optimizer goes on
    return by_name(model, trainer.create_optimizer_grouped_parameters(model, kwargs))


READERS = {
    "torchtitan": read_torchtitan,
    "megatron": read_megatron,
    "automodel": read_automodel,
    "olmo-core": read_olmo_core,
    "llm-foundry": read_llm_foundry,
    "fairseq2": read_fairseq2,
    "deepspeed": read_deepspeed,
    "axolotl": read_axolotl,
}
STAY = ("(.*)=\\1",)


def text_for(trainer: str, model: str, no_decay: tuple[str, ...] = (), rename: tuple[str, ...] = ()) -> str:
    given: dict[str, Any] = {}
    if DIALECTS[trainer].rates:
        given = {"lr": LR, "weight_decay": DECAY * (LR if trainer == "llm-foundry" else 1.0), "eps": EPS}
    rules = rename or (STAY if trainer == "megatron" else ())
    return write(scaling_of(model), trainer, rules, no_decay, given).text


def check_same(found: Numbers, right: Numbers, trainer: str) -> None:
    assert set(found) == set(right)
    for name, numbers in right.items():
        eps = numbers[2] if DIALECTS[trainer].eps else EPS
        assert found[name] == pytest.approx((*numbers[:2], eps), rel=1e-12), name


def test_every_dialect_has_a_reader():
    assert set(READERS) == set(DIALECTS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("trainer", READERS)
def test_a_trainer_reads_the_numbers_of_param_groups(trainer, model, monkeypatch):
    """Every parameter of the model, whole numbers, one group each."""
    right = wanted(model)
    assert len({numbers[0] for numbers in right.values()}) > 1, "a model whose multipliers differ"
    check_same(READERS[trainer](text_for(trainer, model), built(model), monkeypatch), right, trainer)


@pytest.mark.parametrize("trainer", READERS)
def test_what_has_no_decay_is_said_by_name(trainer, monkeypatch):
    text = text_for(trainer, "gpt", no_decay=(r"\.bias$", r"\bln\d|norm"))
    right = wanted("gpt", no_decay=lambda name, p: re.search(r"\.bias$|\bln\d|norm", name) is not None)
    assert {numbers[1] for numbers in right.values()} >= {0.0, DECAY}
    check_same(READERS[trainer](text, built("gpt"), monkeypatch), right, trainer)


@pytest.mark.parametrize("trainer", [name for name in READERS if name != "automodel"])
def test_the_order_of_patterns_is_of_no_consequence(trainer, monkeypatch):
    """No name is matched by two: first match, last match and all matches are one."""
    from tpcalc.scaling.dialects.table import matcher, table

    dialect = DIALECTS[trainer]
    found = table(scaling_of("deep"), [], [], dialect.tied, dialect.globs)
    names = [name for row in found.rows for name in row.names]
    match = matcher(dialect.globs, names)
    for name in names:
        own = [pattern for row in found.rows for pattern in row.patterns if match(pattern, name)]
        assert len(own) == 1 and name in next(row for row in found.rows if own[0] in row.patterns).names


WRAPPED = ("torchtitan", "megatron", "automodel", "llm-foundry", "fairseq2", "deepspeed", "axolotl")


class Ddp(nn.Module):
    """Names as DistributedDataParallel makes them, without processes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize("trainer", WRAPPED)
def test_wrappers_in_names(trainer, monkeypatch):
    """torch.compile, activation checkpointing and DDP put parts into names; the numbers are the same."""
    model = built("gpt")
    model.blocks[0] = checkpoint_wrapper(model.blocks[0])
    model.blocks[1].attn = torch.compile(model.blocks[1].attn)
    model = Ddp(torch.compile(model))
    names = [name for name, _ in model.named_parameters()]
    assert any("_checkpoint_wrapped_module" in name for name in names)
    assert sum(name.count("_orig_mod") for name in names) > len(names)
    found = READERS[trainer](text_for(trainer, "gpt"), model, monkeypatch)
    put = {"module", "_orig_mod", "_checkpoint_wrapped_module"}
    plain = {".".join(part for part in name.split(".") if part not in put): found[name] for name in found}
    check_same(plain, wanted("gpt"), trainer)


@pytest.mark.parametrize("trainer", READERS)
def test_a_parameter_that_no_pattern_matches_is_never_trained_quietly(trainer, monkeypatch):
    model = built("gpt")
    model.extra = nn.Linear(4, 4, bias=False)
    if DIALECTS[trainer].rates or trainer == "automodel":
        found = READERS[trainer](text_for(trainer, "gpt"), model, monkeypatch)
        assert found["extra.weight"][0] != found["extra.weight"][0], "a rate that is no number is not quiet"
        assert all(rate == rate for name, (rate, *_) in found.items() if name != "extra.weight")
    elif trainer == "torchtitan":  # its own check: every parameter has a group
        assert "extra.weight" not in read_torchtitan(text_for(trainer, "gpt"), model, monkeypatch)
    else:
        with pytest.raises(ValueError, match=r"extra\.weight has no multipliers"):
            READERS[trainer](text_for(trainer, "gpt"), model, monkeypatch)


@pytest.mark.parametrize("trainer", ["deepspeed", "axolotl"])
def test_a_model_without_a_group_of_parameters_is_refused(trainer, monkeypatch):
    model = built("gpt")
    del model.head
    with pytest.raises(ValueError, match=r"the model has no head"):
        READERS[trainer](text_for(trainer, "gpt"), model, monkeypatch)


# --- names ------------------------------------------------------------------------------------------------------------

#: From the example's names to those of a Megatron model with one matrix for q, k and v.
TO_MEGATRON = (
    r"^token\.=embedding.word_embeddings.",
    r"^position\.=embedding.position_embeddings.",
    r"^blocks\.(\d+)\.=decoder.layers.\1.",
    r"\.attn\.[qkv]\.=.self_attention.linear_qkv.",
    r"\.attn\.proj\.=.self_attention.linear_proj.",
    r"\.ln1\.=.input_layernorm.",
    r"\.ln2\.=.pre_mlp_layernorm.",
    r"\.mlp\.fc\.=.mlp.linear_fc1.",
    r"\.mlp\.proj\.=.mlp.linear_fc2.",
    r"^norm\.=decoder.final_layernorm.",
    r"^head\.=output_layer.",
)


class Nothing(nn.Module):
    """A model with given names and nothing else."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        for name in sorted(names):
            *path, last = name.split(".")
            inside: nn.Module = self
            for part in path:
                if part not in inside._modules:
                    inside.add_module(part, nn.Module())
                inside = inside._modules[part]
            inside.register_parameter(last, nn.Parameter(torch.zeros(2, 2)))


def in_megatron(name: str) -> str:
    for rule in TO_MEGATRON:
        pattern, _, replacement = rule.rpartition("=")
        name = re.sub(pattern, replacement, name)
    return name


def test_weights_that_become_one_under_megatrons_names(monkeypatch):
    """q, k and v have the same multipliers, so that one matrix may stand for all."""
    right = {in_megatron(name): numbers for name, numbers in wanted("gpt").items()}
    assert "decoder.layers.0.self_attention.linear_qkv.weight" in right and len(right) < len(wanted("gpt"))
    text = text_for("megatron", "gpt", rename=TO_MEGATRON)
    check_same(read_megatron(text, Nothing(set(right)), monkeypatch), right, "megatron")
    assert "numbers in the head of the file" in " ".join(text.split("\n# ")), "init_ of codegen has other names"


def test_a_rule_may_ignore_case():
    assert r'r"TOK\.weight"' in write(scaling_of("gpt"), "torchtitan", ("(?i)^TOKEN=TOK",)).text


def test_weights_that_become_one_must_agree():
    scaling = tpcalc.scale(examples.gpt_growing_heads, 32, 128)
    with pytest.raises(ScalingError, match=r"blocks\.0\.attn\.k\.weight is renamed to .*linear_qkv.* these differ"):
        write(scaling, "megatron", TO_MEGATRON)


def test_megatrons_own_rules(monkeypatch):
    """Biases and vectors have no decay there; groups are told apart in a checkpoint; what would undo it is refused."""
    config_overrides, config = megatrons(text_for("megatron", "gpt"), monkeypatch)
    overrides = config_overrides(config)
    model, matched = built("gpt"), {}
    for name, parameter in model.named_parameters():
        (matched[name],) = [one for key, one in overrides.items() if key.with_name_predicate.fn(parameter, name)]
    assert all((one["wd_mult"] == 0.0) is (model.get_parameter(name).dim() == 1) for name, one in matched.items())
    assert all(one["min_lr"] == pytest.approx(one["max_lr"] / 10) for one in matched.values()), "floors are scaled"
    told_apart = {(one["wd_mult"], one["lr_mult"]): one for one in matched.values()}
    assert all(told_apart[one["wd_mult"], one["lr_mult"]] == one for one in matched.values())
    for setting, message in (
        ({"decoupled_lr": 1e-3}, "decoupled_lr gives embedding and readout"),
        ({"optimizer": "sgd"}, "are for adamw"),
        ({"decoupled_weight_decay": False}, "are for adamw"),
    ):
        with pytest.raises(ValueError, match=message):
            config_overrides(SimpleNamespace(**{**vars(config), **setting}))


def edited(scaling: tpcalc.Scaling, change: Callable[[str], str]) -> tpcalc.Scaling:
    """The same multipliers under other names."""
    document = {**scaling.document, "weights": [dict(entry) for entry in scaling.document["weights"]]}
    for entry in document["weights"]:
        entry["name"] = change(entry["name"])
        entry["aliases"] = [change(name) for name in entry["aliases"]]
        entry["tied_to"] = entry["tied_to"] and change(entry["tied_to"])
    return tpcalc.Scaling(document)


def test_wrappers_of_the_traced_model_are_left_out(monkeypatch):
    scaling = edited(scaling_of("gpt"), lambda name: "module._orig_mod." + name)
    text = write(scaling, "deepspeed").text
    check_same(read_deepspeed(text, built("gpt"), monkeypatch), wanted("gpt"), "deepspeed")


def test_blocks_that_differ_are_refused_where_stages_count_them_anew(monkeypatch):
    """A block with multipliers of its own has its own pattern, and Megatron's pipeline stages count from 0."""
    scaling = scaling_of("gpt")
    document = {**scaling.document, "weights": [dict(entry) for entry in scaling.document["weights"]]}
    (entry,) = [one for one in document["weights"] if one["name"] == "blocks.1.attn.q.weight"]
    entry["multipliers"] = {**entry["multipliers"], "lr": 0.5}
    changed = tpcalc.Scaling(document)
    found = read_deepspeed(write(changed, "deepspeed").text, built("gpt"), monkeypatch)
    assert found["blocks.1.attn.q.weight"][0] == LR * 0.5 and found["blocks.0.attn.q.weight"][0] == LR * 0.25
    text = write(changed, "megatron", STAY).text
    assert read_megatron(text, built("gpt"), monkeypatch) == {
        name: pytest.approx(numbers) for name, numbers in found.items()
    }
    config_overrides, config = megatrons(text, monkeypatch, stages=2)
    with pytest.raises(ValueError, match="blocks of one name differ"):
        config_overrides(config)
    config_overrides, config = megatrons(write(scaling, "megatron", STAY).text, monkeypatch, stages=2)
    assert config_overrides(config), "blocks that are alike"


ERRORS = {
    "no-trainer": (("--for", "slimtrain"), "'slimtrain' is no trainer known here; choose one of torchtitan, "),
    "both": (("--for", "torchtitan", "--formulas"), "leave one of them out"),
    "alone": (("--rename", "a=b"), "--rename is for the file of a trainer"),
    "lr-alone": (("--lr", "1"), "--lr is for the file of a trainer"),
    "no-equals": (("--for", "torchtitan", "--rename", "abc"), "'abc' has no '='"),
    "no-regex": (("--for", "torchtitan", "--rename", "(=b"), "is no substitution of Python's re"),
    "no-group": (("--for", "torchtitan", "--rename", r"token=\1"), "is no substitution of Python's re"),
    "no-match": (("--for", "torchtitan", "--rename", "^model=b"), "matches no name; they are token.weight, "),
    "no-name": (("--for", "torchtitan", "--rename", "weight="), "which is no parameter's name"),
    "collision": (("--for", "torchtitan", "--rename", "^head|^token=x"), "these differ"),
    "roots": (
        (
            "--for",
            "megatron",
        ),
        "begin with embedding., decoder.",
    ),
    "some-roots": (
        ("--for", "megatron", "--rename", "^token=embedding", "--rename", "^blocks=decoder"),
        "not as position.weight, norm.weight, norm.bias and 1 more; map them",
    ),
    "too-much": (
        ("--for", "fairseq2", "--lr", "1e-3", "--weight-decay", "1e308"),
        "a number of the file would be inf: a multiplier takes one that was given out of the range of floats",
    ),
    "decay-regex": (("--for", "torchtitan", "--no-decay", "("), "--no-decay '(' is no regular expression"),
    "decay-match": (("--for", "torchtitan", "--no-decay", "biass"), "--no-decay 'biass' matches no name"),
    "rates": (
        (
            "--for",
            "fairseq2",
        ),
        "takes learning rates, not multipliers: give --lr and --weight-decay",
    ),
    "no-rates": (("--for", "olmo-core", "--lr", "1"), "takes multipliers, and the base's numbers elsewhere"),
    "negative": (("--for", "fairseq2", "--lr", "-1", "--weight-decay", "0"), "--lr -1.0 is not a number of 0 or more"),
    "nan": (("--for", "fairseq2", "--lr", "nan", "--weight-decay", "0"), "--lr nan is not a number of 0 or more"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("dialects") / "multipliers.json"
    scaling_of("gpt").save(path)
    return str(path)


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input_is_one_sentence(case, exported, tmp_path):
    options, message = ERRORS[case]
    result = tpcalc_command("codegen", exported, *options, "-o", str(tmp_path / "out"))
    assert result.returncode == 2 and not (tmp_path / "out").exists()
    assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr


def peft(name: str) -> str:
    return "base_model.model." + name


def flat(name: str) -> str:
    return "_fsdp_wrapped_module._flat_param" if name == "token.weight" else name


@pytest.mark.parametrize(
    "change, trainer, message",
    [
        (peft, "torchtitan", r"base_model\.model\.token\.weight is a name that PEFT gives and torchtitan does not"),
        (flat, "deepspeed", r"is many parameters flattened into one by FSDP"),
    ],
)
def test_names_that_a_trainer_can_not_have(change, trainer, message):
    with pytest.raises(ScalingError, match=message):
        write(edited(scaling_of("gpt"), change), trainer)


def test_names_of_peft_where_they_are_trained():
    scaling = edited(scaling_of("gpt"), peft)
    assert r"base_model\.model\.token\.weight" in write(scaling, "axolotl").text
    mapped = write(scaling, "torchtitan", (r"^base_model\.model\.=",)).text
    assert r'r"token\.weight"' in mapped and "base_model" not in mapped


@pytest.mark.parametrize(
    "optimizer, gauge, trainer, message",
    [
        ("muon+adamw", "init", "deepspeed", "are for 2 optimizers, muon and adamw, and a table of groups is for one"),
        ("sgd", "init", "torchtitan", "torchtitan can't be given multipliers for sgd"),
        ("adamw", "mup", "megatron", "the gauge mup has multipliers in the forward pass"),
    ],
)
def test_multipliers_that_a_table_can_not_carry(optimizer, gauge, trainer, message):
    with pytest.raises(ScalingError, match=re.escape(message)):
        write(tpcalc.scale(small.mlp, 32, 128, optimizer=optimizer, gauge=gauge), trainer)


def test_laws_without_an_epsilon():
    scaling = tpcalc.scale(small.mlp, 32, 128, optimizer="sgd")
    assert 'override["eps"]' not in write(scaling, "megatron", STAY).text
    module = small.mlp(128)[0]
    found: dict[str, Any] = {}
    exec(write(scaling, "deepspeed").text, found)
    groups = found["param_groups"](module, lr=LR)
    torch.optim.SGD(groups, lr=LR)
    assert all("eps" not in group for group in groups) and len({group["lr"] for group in groups}) > 1


# --- what is said -----------------------------------------------------------------------------------------------------

#: Words of what has to be heard of each, where the multipliers are those of an untied GPT under AdamW.
SAID = {
    "torchtitan": ["training.max_norm"],
    "megatron": ["clip_grad", "--lr-warmup-init", "min_lr", "decoupled_lr"],
    "automodel": ["eps", "0.25 times", "clip_grad_norm.max_norm", "lr_scheduler"],
    "olmo-core": ["max_grad_norm", "warmup_min_lr", "decay_min_lr"],
    "llm-foundry": ["gradient_clipping"],
    "fairseq2": ["max_grad_norm", "start_lr", "final_lr_scale"],
    "deepspeed": ["gradient_clipping", "WarmupDecayLR", "warmup_min_lr"],
    "axolotl": ["max_grad_norm", "one_cycle", "min_lr_rate"],
}


@pytest.mark.parametrize("trainer", READERS)
def test_what_is_not_carried_is_said_twice(trainer, exported, tmp_path):
    """On stderr and in the head of the file, with what to do."""
    options = ["--lr", "1", "--weight-decay", "0"] if DIALECTS[trainer].rates else []
    options += ["--rename", STAY[0]] if trainer == "megatron" else []
    out = tmp_path / "out"
    result = tpcalc_command("codegen", exported, "--for", trainer, *options, "-o", str(out))
    assert result.returncode == 0, result.stderr
    lines = out.read_text().splitlines()
    head = lines[: next(place for place, line in enumerate(lines) if not line.startswith("#"))]
    words = " ".join(line.removeprefix("#").strip() for line in head)
    warned = result.stderr.splitlines()
    assert all(line.startswith(f"warning: {trainer}: ") for line in warned)
    for line in warned:
        assert line.removeprefix(f"warning: {trainer}: ") + "." in words
    for word in ("init_(model)", *SAID[trainer]):
        assert word in result.stderr and word in words, word
    assert "head.weight: init x 0.5" in words and "head.weight: gradient, in the norm x 0.25" in words
    assert ("has no eps" in result.stderr) is (trainer == "automodel")


def test_nothing_is_said_where_nothing_differs():
    scaling = tpcalc.scale(examples.gpt, 64, 64)
    for trainer in set(READERS) - {"megatron", "llm-foundry", "fairseq2"}:
        assert write(scaling, trainer).warnings == ()


def test_names_can_not_end_a_comment_or_a_string(monkeypatch):
    """A name with a line break and quotes stays in its literal."""
    hostile = 'a\n"""\u2028\'; raise SystemExit #'
    scaling = edited(scaling_of("gpt"), lambda name: name.replace("token", hostile))
    names = {hostile + ".weight" if name == "token.weight" else name for name in wanted("gpt")}
    for trainer in ("torchtitan", "automodel", "olmo-core", "deepspeed", "fairseq2"):
        given = {"lr": LR, "weight_decay": DECAY} if DIALECTS[trainer].rates else {}
        found = READERS[trainer](write(scaling, trainer, given=given).text, Nothing(names), monkeypatch)
        assert set(found) == names and all(rate == rate for rate, *_ in found.values())


def test_the_same_multipliers_give_the_same_bytes(tmp_path):
    """Saved and loaded, of one scale and of several."""
    for model in ("gpt_moe", "deep"):
        scaling_of(model).save(tmp_path / "multipliers.json")
        loaded = tpcalc.Scaling.load(tmp_path / "multipliers.json")
        assert write(loaded, "automodel").text == text_for("automodel", model)


@pytest.mark.skipif(shutil.which("ruff", path=str(Path(sys.executable).parent)) is None, reason="ruff is not installed")
def test_python_is_formatted(tmp_path):
    for trainer in ("torchtitan", "megatron", "olmo-core", "deepspeed", "axolotl"):
        (tmp_path / f"{trainer}.py").write_text(text_for(trainer, "gpt_tied"))
    ruff = [str(Path(sys.executable).parent / "ruff")]
    options = ["--isolated", "--no-cache", "--line-length", "120"]
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,W,B"]):
        result = subprocess.run([*ruff, *command, *options, str(tmp_path)], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
