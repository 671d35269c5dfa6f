"""Dialects that are Python: a module that makes what the trainer takes from the lr, decay and eps of the base.

Where the trainer matches names by itself it is given patterns; where it takes a function, names are matched by one
text of code, which refuses a parameter that no pattern matches.
"""

from __future__ import annotations

import re

from tpcalc.scaling.codegen import literal
from tpcalc.scaling.dialects.averages import applied, imported
from tpcalc.scaling.dialects.table import Table, wrapped
from tpcalc.scaling.weight import _WRAPPERS

_PLAIN = re.compile(r"[ !#-&(-~]*")  # printable, without quotes

_GROUPS_HEAD = """
# fmt: off
# Multipliers of lr, weight_decay and eps, and which parameters have them: {what}.
GROUPS = (
"""

_MATCHED = '''
_PATTERNS = [re.compile("|".join(names)) for *_, names in GROUPS]
_WRAPPERS = ({wrappers})


def group_of(name: str) -> int:
    """The place in GROUPS of a parameter, by its name without what wrappers (torch.compile, DDP ...) put into it."""
    plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    while True:
        for place, pattern in enumerate(_PATTERNS):
            if pattern.fullmatch(plain):
                return place
        if not plain.startswith("module."):
            raise ValueError(f"{{name}} has no multipliers; {{HINT}}")
        plain = plain.removeprefix("module.")


HINT = "export them for this very model, or map names with --rename"
'''


def groups(table: Table, globs: bool = False) -> str:
    """The table as Python."""
    what = "shell patterns" if globs else "regular expressions of their whole names"
    lines = [_GROUPS_HEAD.format(what=what)]
    for numbers, rows in table.groups.items():
        lines.append(f"    ({numbers.lr!r}, {numbers.weight_decay!r}, {numbers.eps!r}, (\n")
        lines += [f"        {_text(pattern)},\n" for row in rows for pattern in row.patterns]
        lines.append("    )),\n")
    return "".join((*lines, ")\n# fmt: on\n"))


def _text(pattern: str) -> str:
    """A literal of Python: raw where that is readable, escaped where a name has anything else."""
    raw = "\\" in pattern and _PLAIN.fullmatch(pattern) and not pattern.endswith("\\")
    return f'r"{pattern}"' if raw else literal(pattern)


def matched(table: Table) -> str:
    return groups(table) + _MATCHED.format(wrappers=", ".join(map(literal, _WRAPPERS)))


_TORCHTITAN = '''
# what DDP, torch.compile and activation checkpointing may put into a name
_LEAD, _GAP = r"{lead}", r"{gap}"


def optimizer(lr, weight_decay=0.0, eps=1e-8, implementation="fused", **options):
    """The optimizer's config.  ``lr``, ``weight_decay``, ``eps`` as at the base; ``options`` (betas) for all groups."""
    groups = []
    for lr_multiplier, decay_multiplier, eps_multiplier, names in GROUPS:
        either = "|".join(name.replace(r"\\.", r"\\." + _GAP) for name in names)
        kwargs = {{
            "lr": lr * lr_multiplier,
            "weight_decay": weight_decay * decay_multiplier,
            "eps": eps * eps_multiplier,
            **options,
        }}
        pattern = f"^{{_LEAD}}(?:{{either}})$"
        groups.append(ParamGroupConfig(pattern=pattern, optimizer_name="{cls}", optimizer_kwargs=kwargs))
    return OptimizersContainer.Config(param_groups=groups, implementation=implementation)
'''


def torchtitan(table: Table) -> str:
    lead, gap = wrapped(name for row in table.rows for name in row.names)
    cls = {"adam": "Adam", "adamw": "AdamW"}[table.law]
    first = "from torchtitan.components.optimizer import OptimizersContainer, ParamGroupConfig\n"
    body = _TORCHTITAN.format(lead=lead, gap=gap, cls=cls)
    changes = {"    groups = []\n": "{}    groups = []\n"}
    return imported(table, first) + groups(table) + applied(table, body, changes)


_OLMO_CORE = '''

def group_overrides(lr, weight_decay=0.0, eps=1e-8):
    """For the optimizer's config.  ``lr``, ``weight_decay``, ``eps`` as at the base."""
    return [
        OptimGroupOverride(
            params=list(names),
            opts={
                "lr": lr * lr_multiplier,
                "weight_decay": weight_decay * decay_multiplier,
                "eps": eps * eps_multiplier,
            },
        )
        for lr_multiplier, decay_multiplier, eps_multiplier, names in GROUPS
    ]


def check_(model):
    """Raise ValueError for a parameter that no pattern matches: OLMo-core would train it without multipliers."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(fnmatch(name, glob) for *_, names in GROUPS for glob in names):
            raise ValueError(f"{name} has no multipliers; export them for this very model, or map names with --rename")
'''


def olmo_core(table: Table) -> str:
    first = "from fnmatch import fnmatch\n\nfrom olmo_core.optim import OptimGroupOverride\n"
    changes = {
        "weight_decay=0.0, eps=1e-8):": "weight_decay=0.0, eps=1e-8, **options):",
        "    return [\n": "{}    return [\n",
        '"eps": eps * eps_multiplier,\n': '"eps": eps * eps_multiplier,\n                **options,\n',
    }
    return imported(table, first) + groups(table, globs=True) + applied(table, _OLMO_CORE, changes)


_MEGATRON = '''

def not_decayed(parameter, name):
    """Megatron's own rule: biases and vectors have no weight decay."""
    return parameter.dim() == 1 or name.endswith(".bias")


def config_overrides(config, no_decay=not_decayed):
    """For get_megatron_optimizer, in place of get_standard_config_overrides(config).

    ``config``: the OptimizerConfig, its numbers as at the base; ``no_decay(parameter, name)``: who has no decay.
    """
    if config.optimizer != "{optimizer}"{condition}:
        raise ValueError("these multipliers are for {law}: set {settings}")
    if config.decoupled_lr is not None:
        raise ValueError("decoupled_lr gives embedding and readout a rate without multipliers; leave it out")
    overrides = {{}}
    for place, (lr, weight_decay, eps, _) in enumerate(GROUPS):
        for decays in (True, False):

            def theirs(parameter, name, place=place, decays=decays):
                exempt = no_decay is not None and bool(no_decay(parameter, name))
                return group_of(name) == place and decays is not exempt

            # the scheduler takes a rate and a floor of each group, and one start of the warm-up for all
            override = {{"max_lr": config.lr * lr, "min_lr": (config.min_lr or 0.0) * lr}}
            override["wd_mult"] = weight_decay if decays else 0.0
            # read by no scheduler: tells groups apart when a checkpoint is loaded, which max_lr and eps do not
            override["lr_mult"] = lr * (1 + 1e-9 * place)
{eps}            key = ParamWithNamePredicate(name=f"tpcalc {{place}}{{'' if decays else ' no decay'}}", fn=theirs)
            overrides[ParamKey(with_name_predicate=key)] = override
    return overrides
'''

#: Law -> Megatron's optimizer, a condition that its config is not for this law, settings that are, whether it has eps.
_OF_MEGATRON = {
    "adamw": ("adam", " or not config.decoupled_weight_decay", "optimizer='adam', decoupled_weight_decay=True", True),
    "adam": ("adam", " or config.decoupled_weight_decay", "optimizer='adam', decoupled_weight_decay=False", True),
    "sgd": ("sgd", "", "optimizer='sgd'", False),
}


def megatron(table: Table) -> str:
    optimizer, condition, settings, has_eps = _OF_MEGATRON[table.law]
    eps = '            override["eps"] = config.adam_eps * eps\n' if has_eps else ""
    body = _MEGATRON.format(optimizer=optimizer, condition=condition, law=table.law, settings=settings, eps=eps)
    first = "import re\n\nfrom megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate\n"
    if table.partial:
        first = first.replace("\n\n", "\n\nfrom megatron.core import parallel_state\n", 1)
        body = body.replace("    overrides = {}\n", _PIPELINE + "    overrides = {}\n")
    return first + matched(table) + body


_PIPELINE = """    in_stages = parallel_state.model_parallel_is_initialized()
    if in_stages and parallel_state.get_pipeline_model_parallel_world_size() > 1:
        raise ValueError("blocks of one name differ in their multipliers, and a pipeline stage counts its blocks anew")
"""

_PARAM_GROUPS = '''

def param_groups(model, lr, weight_decay=0.0, eps=1e-8, no_decay=None, **options):
    """Groups of an optimizer.  ``lr``, ``weight_decay``, ``eps`` as at the base.

    ``no_decay(name, parameter)``: who has no weight decay; ``options`` (betas) go into every group.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    places = {name: group_of(name) for name in named}
    idle = set(range(len(GROUPS))) - set(places.values())
    if idle:
        raise ValueError(f"the model has no {' and no '.join(GROUPS[place][-1][0] for place in sorted(idle))}; {HINT}")
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = not (no_decay and no_decay(name, parameter))
            groups.setdefault((places[name], decays), []).append(parameter)
    found = []
    for (place, decays), parameters in groups.items():
        lr_multiplier, decay_multiplier, eps_multiplier, _ = GROUPS[place]
        group = {"params": parameters, "lr": lr * lr_multiplier, "lr_multiplier": lr_multiplier, **options}
        group["weight_decay"] = weight_decay * decay_multiplier if decays else 0.0
        if eps_multiplier is not None:
            group["eps"] = eps * eps_multiplier
        found.append(group)
    return found
'''


#: In which line the options of all groups are made those of the target.
_AT = {"    named = dict(": "{}    named = dict("}


def deepspeed(table: Table) -> str:
    return imported(table, "import re\n") + matched(table) + applied(table, _PARAM_GROUPS, _AT)


_AXOLOTL = '''

class Plugin(BasePlugin):
    """Makes the groups of axolotl's own optimizer; who has weight decay is the trainer's own rule."""

    def post_trainer_create(self, cfg, trainer):
        chosen = trainer.optimizer_cls_and_kwargs or trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        if not chosen[0].__name__.startswith("AdamW"):
            raise ValueError(f"these multipliers are for adamw, not {chosen[0].__name__}; set optimizer: adamw_torch")
        for key in ("lr_groups", "embedding_lr", "embedding_lr_scale", "loraplus_lr_ratio"):
            if cfg.get(key):
                raise ValueError(f"{key} gives rates without multipliers; leave it out")
        decayed = set(trainer.get_decay_parameter_names(trainer.model))

        def grouped(model, kwargs):
            return param_groups(
                model,
                lr=kwargs["lr"],
                weight_decay=trainer.args.weight_decay,
                eps=kwargs.get("eps", 1e-8),
                no_decay=lambda name, parameter: name not in decayed,
            )

        trainer.optimizer_cls_and_kwargs = chosen
        trainer.create_optimizer_grouped_parameters = grouped
'''


def axolotl(table: Table) -> str:
    first = "import re\n\nfrom axolotl.integrations.base import BasePlugin\n"
    eps = 'eps=kwargs.get("eps", 1e-8),\n'
    changes = {**_AT, eps: f'{eps}                betas=kwargs["betas"],\n'}
    return imported(table, first) + matched(table) + applied(table, _PARAM_GROUPS + _AXOLOTL, changes)
