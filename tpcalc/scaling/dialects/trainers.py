"""The dialects: what each trainer's table of parameter groups can carry, how it is written, and what is said of it.

Each was read from the source of the version named here; what it does with a table is in docs/trainers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional

from tpcalc.scaling.dialects import configs, modules
from tpcalc.scaling.dialects.said import Traps
from tpcalc.scaling.dialects.table import Table

#: Hyperparameters of the base, which a dialect that takes no multipliers needs.
Given = Mapping[str, float]


@dataclass(frozen=True)
class Dialect:
    """How multipliers are said to one trainer.

    ``source`` is the version that was read; ``use`` how the file is used.  ``laws``: update laws whose decay and
    epsilon mean the same there (None: any one).  ``eps``: whether a group has an epsilon.  ``rates``: it takes learning
    rates, not multipliers.  ``globs``: its patterns are those of a shell.  ``tied``: a pattern may match nothing, so
    that a tied weight is matched under each of its names.  ``peft``: it trains models of PEFT under PEFT's names.
    ``roots``: how the names of its own models begin.
    """

    name: str
    source: str
    use: tuple[str, ...]
    body: Callable[[Table, Given], str]
    laws: Optional[tuple[str, ...]]
    traps: Traps
    eps: bool = True
    rates: bool = False
    globs: bool = False
    tied: bool = True
    peft: bool = False
    roots: tuple[str, ...] = ()


def _of_table(body: Callable[[Table], str]) -> Callable[[Table, Given], str]:
    return lambda table, given: body(table)


TORCHTITAN = Dialect(
    name="torchtitan",
    source="torchtitan 0.3.0",
    use=(
        "from FILE import optimizer",
        "config.optimizer = optimizer(lr=3e-3, weight_decay=0.1, betas=(0.9, 0.95))",
    ),
    body=_of_table(modules.torchtitan),
    laws=("adamw", "adam"),
    traps=Traps(
        clipping="training.max_norm (1.0 where it is left out; off: inf)",
        schedule="its schedules are factors of each group's own rate (warmup_steps, min_lr_factor): nothing to set",
        safe=True,
        notes=(
            "the first pattern that matches decides; a parameter without one, and a group without a parameter, are "
            "errors, so that each pipeline stage must hold a parameter of every group",
        ),
        averages="optimizer(...) takes the betas of the base, and does it",
    ),
)

MEGATRON = Dialect(
    name="megatron",
    source="megatron-core 0.16.1",
    use=(
        "from FILE import config_overrides",
        "optimizer = get_megatron_optimizer(config, model, config_overrides=config_overrides(config))",
    ),
    body=_of_table(modules.megatron),
    laws=("adamw", "adam", "sgd"),
    roots=("embedding.", "decoder.", "encoder.", "output_layer.", "mtp."),
    traps=Traps(
        clipping="clip_grad (1.0 where it is left out; off: 0)",
        schedule=(
            "init_lr (--lr-warmup-init) is one start of the warm-up for all groups: leave it at 0; min_lr is scaled "
            "for each group here, decoupled_lr and decoupled_min_lr are not: leave them out; "
            "--override-opt-param-scheduler writes one max_lr and min_lr into every group when a checkpoint is loaded: "
            "leave it out"
        ),
        notes=(
            "rates are set by OptimizerParamScheduler from max_lr and min_lr of a group, so one has to run",
            "the overrides take the place of Megatron's standard ones, and of its own muP, which must not come on top",
        ),
        betas="adam_beta1 and adam_beta2",
    ),
)

AUTOMODEL = Dialect(
    name="automodel",
    source="nemo-automodel 0.7.0",
    use=("Put param_group_overrides into the optimizer section of the recipe.",),
    body=configs.automodel,
    laws=("adamw", "adam"),
    eps=False,
    traps=Traps(
        clipping="clip_grad_norm.max_norm (1.0 where it is left out; off: .inf)",
        schedule=(
            "lr_mult and wd_mult are read by the schedule alone, which multiplies floor and warm-up start alike: a "
            "recipe without an lr_scheduler section trains all parameters at one rate; give one, with lr_decay_style: "
            "constant if none is wanted"
        ),
        notes=("the first pattern that matches decides",),
        betas="betas of the optimizer section",
    ),
)

OLMO_CORE = Dialect(
    name="olmo-core",
    source="ai2-olmo-core 3.0.0",
    use=(
        "from FILE import check_, group_overrides",
        "optim = AdamWConfig(lr=3e-3, group_overrides=group_overrides(lr=3e-3, weight_decay=0.1))",
        "check_(model)  # before the train module is built",
    ),
    body=_of_table(modules.olmo_core),
    laws=("adamw",),
    globs=True,
    tied=False,
    traps=Traps(
        clipping="max_grad_norm (off: leave it out)",
        schedule=(
            "warmup_min_lr, decay_min_lr and end_lr are one rate for all groups: leave them at 0, and use alpha_f or "
            "end_lr_fraction for a floor"
        ),
        notes=(
            "a pattern that matches no parameter is an error, and a parameter that none matches has the config's own "
            "rate, unless check_(model) refuses it; matrix-aware optimizers (Muon, Dion) take no group_overrides",
        ),
        averages="group_overrides(...) takes the betas of the base (betas=(0.9, 0.95)), and does it",
    ),
)

LLM_FOUNDRY = Dialect(
    name="llm-foundry",
    source="llm-foundry 0.22.0 with composer 0.32.1",
    use=(
        "Put it in the place of the optimizer section; models that llm-foundry wraps have names that begin with",
        "model., which --rename '^=model.' gives.  With FSDP, use_orig_params: true.",
    ),
    body=configs.llm_foundry,
    laws=("adamw",),
    rates=True,
    peft=True,
    traps=Traps(
        clipping="algorithms.gradient_clipping (off: leave it out)",
        schedule="composer's schedules are factors of each group's own rate (alpha_f): nothing to set",
        safe=True,
        notes=(
            "decoupled_adamw does not multiply weight decay by the learning rate: its weight_decay is what a step "
            "takes off at the peak, lr times that of AdamW",
            "a parameter belongs to the first entry that matches",
        ),
        betas="betas of the optimizer section",
    ),
)

FAIRSEQ2 = Dialect(
    name="fairseq2",
    source="fairseq2 0.8.1",
    use=("Put it in the place of the optimizer section of the recipe.",),
    body=configs.fairseq2,
    laws=("adamw",),
    rates=True,
    traps=Traps(
        clipping="trainer.max_grad_norm (off: null)",
        schedule=(
            "start_lr and final_lr are one rate for all groups, or a list with one for each: leave them at 0 and null, "
            "and use final_lr_scale for a floor; polynomial_decay has only final_lr"
        ),
        notes=("the first group that matches decides",),
        betas="betas in the optimizer's config",
    ),
)

DEEPSPEED = Dialect(
    name="deepspeed",
    source="deepspeed 0.19.8",
    use=(
        "from FILE import param_groups",
        "groups = param_groups(model, lr=3e-3, weight_decay=0.1)",
        "engine, optimizer, *_ = deepspeed.initialize(model=model, model_parameters=groups, config=config)",
    ),
    body=_of_table(modules.deepspeed),
    laws=None,
    peft=True,
    traps=Traps(
        clipping="gradient_clipping (1.0 where it is left out; off: 0)",
        schedule=(
            "WarmupDecayLR, OneCycle and LRRangeTest, and WarmupLR if it is given warmup_max_lr, put one rate into "
            "every group, and warmup_min_lr is one start for all: use WarmupCosineLR, whose numbers are ratios, or "
            "WarmupLR with neither"
        ),
        notes=("deepspeed's optimizer type Adam is AdamW unless its params have adam_w_mode: false",),
        averages="param_groups(...) takes the betas of the base (betas=(0.9, 0.95)), and does it",
    ),
)

AXOLOTL = Dialect(
    name="axolotl",
    source="axolotl 0.19.0",
    use=(
        "Put the file on the path and its plugin into the config, beside optimizer: adamw_torch:",
        "plugins:",
        "  - FILE.Plugin",
        "lr_groups would carry rates only, and none of biases, norms, embeddings and readout.",
    ),
    body=_of_table(modules.axolotl),
    laws=("adamw",),
    peft=True,
    traps=Traps(
        clipping="max_grad_norm (1.0 where it is left out; off: 0)",
        schedule=(
            "lr_scheduler: one_cycle puts one peak into every group, rex ends at one rate for all, and min_lr in "
            "lr_scheduler_kwargs is one floor: use cosine with cosine_min_lr_ratio, or min_lr_rate"
        ),
        averages="the plugin does it to adam_beta1 and adam_beta2 of the config, which are those of the base",
    ),
)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (TORCHTITAN, MEGATRON, AUTOMODEL, OLMO_CORE, LLM_FOUNDRY, FAIRSEQ2, DEEPSPEED, AXOLOTL)
}
