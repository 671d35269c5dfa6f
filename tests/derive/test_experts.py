"""Experts, how many of them are picked, and their width as scales: one rule however a model is written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tpcalc
from tests.support import experts as ex
from tests.support.models import MODELS, program
from tests.support.once import once
from tpcalc.errors import AlignError, DeriveError
from tpcalc.lower.flatten import lower

UP, ROUTER = ("n^-1/2 Min(1, sqrt(f/n))", "n^-1"), ("n^-1", "n^-1")
#: Init and rate of what an expert gives, where its gates are 1/k each, 1/E each, or of order 0.
DOWN = {
    "1/k": ("f^-1/2 Min(1, sqrt(n/f))", "f^-1"),
    "1/E": ("E k^-1 f^-1/2 Min(1, sqrt(n/f))", "E k^-1 f^-1"),
    "1": ("k^-1 f^-1/2 Min(1, sqrt(n/f))", "k^-1 f^-1"),
}


def found(factory: Any, *names: str, optimizer: str = "adamw") -> dict[str, tuple[str, str]]:
    rules = tpcalc.derive(tpcalc.trace(factory, scales=ex.scales(*names)), optimizer)
    assert not rules.sites
    return {name: (str(rule.formulas["init_std"]), str(rule.formulas["lr"])) for name, rule in rules.items()}


FORMS = [
    (ex.einsums, ex.of_all, "1/E"),
    (ex.masked, ex.normed, "1/k"),
    (ex.batched, ex.gathered_sigmoids, "1/k"),
]
if hasattr(torch, "_grouped_mm"):
    FORMS.append((ex.grouped, ex.averaged, "1/k"))


@pytest.mark.parametrize(("form", "gates", "size"), FORMS)
def test_each_expert_is_a_feed_forward_layer_behind_its_gate(form: Any, gates: Any, size: str) -> None:
    rules = found(ex.layer(form, gates, top_k=2), "width", "experts", "ffn")
    down = tuple(text.replace("k^-1 ", "") for text in DOWN[size])
    assert (rules["up"], rules["down"], rules["router.weight"]) == (UP, down, ROUTER)


@pytest.mark.slow
def test_four_scales_at_once() -> None:
    rules = found(ex.layer(ex.batched, ex.of_all), *ex.SCALES)
    assert (rules["up"], rules["down"], rules["router.weight"]) == (UP, DOWN["1/E"], ROUTER)


@pytest.mark.parametrize(
    ("form", "gates", "lr"),
    [(ex.fused, ex.of_picked, "1"), (ex.einsums, ex.sigmoids, "k^-1"), (ex.masked, ex.of_all, "E k^-1")],
)
def test_the_size_of_gates_is_read_from_the_code(form: Any, gates: Any, lr: str) -> None:
    rules = found(ex.layer(form, gates, width=16, ffn=24), "experts", "top_k")
    assert (rules["down"][1], rules["up"][1], rules["router.weight"][1]) == (lr, "1", "1")


@pytest.mark.parametrize("form", [ex.soft, ex.weighed])
def test_gates_over_all_experts_are_a_mean(form: Any) -> None:
    rules = found(ex.layer(form), "width", "experts", "ffn")
    assert (rules["up"], rules["down"], rules["router.weight"]) == (UP, DOWN["1/k"], ROUTER)


def test_a_list_of_experts_and_one_that_all_tokens_share() -> None:
    rules = found(ex.layer(ex.looped, ex.of_picked, shared=True, experts=3, top_k=2), "width", "ffn")
    for name in ("each.0", "each.2", "beside"):
        assert (rules[f"{name}.0.weight"], rules[f"{name}.2.weight"]) == (UP, DOWN["1/k"])
    assert rules["router.weight"] == ROUTER


@pytest.mark.slow
def test_experts_of_transformers() -> None:
    """Unedited, its experts sorted into groups; the first of its blocks."""
    transformers = pytest.importorskip("transformers", minversion="5")

    def mixtral(width: int, experts: int, ffn: int) -> Any:
        config = transformers.MixtralConfig(
            hidden_size=width, intermediate_size=ffn, num_local_experts=experts, num_experts_per_tok=2, vocab_size=32,
            num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, head_dim=width // 4,
        )  # fmt: skip
        return transformers.MixtralForCausalLM(config), (torch.zeros(2, 5, dtype=torch.long),)

    rules = found(mixtral, "width", "experts", "ffn")
    names = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight")
    assert tuple(rules[f"model.layers.0.{name}"] for name in names) == (UP, DOWN["1/k"], ROUTER)


def test_what_can_be_picked_bounds_the_directions() -> None:
    """More picked than there are is no model, so that no cone needs to cover it; each of the others is covered."""
    rules = tpcalc.derive(
        tpcalc.trace(ex.layer(ex.batched, ex.of_all, width=16), scales=ex.scales("experts", "top_k", "ffn"))
    )
    for direction, possible in (((3, 2, 5), True), ((2, 3, 5), False)):
        inside = [c for c in rules.cones if all(sum(a * b for a, b in zip(wall, direction)) > 0 for wall in c)]
        assert bool(inside) is possible


def test_more_picked_than_there_are_is_refused() -> None:
    program = tpcalc.trace(ex.layer(ex.batched, ex.of_picked, width=16, experts=8), scales=ex.scales("top_k", "ffn"))
    with pytest.raises(DeriveError, match=r"topk .* takes k of 8 entries, which do not grow with it"):
        tpcalc.derive(program)


def test_a_growing_list_of_experts_is_refused() -> None:
    with pytest.raises(AlignError, match="modules that stand beside one another .* in one tensor"):
        tpcalc.trace(ex.layer(ex.looped, ex.of_picked, top_k=2), scales=ex.scales("width", "experts", "ffn"))


# --- what vanishes, and what others choose ----------------------------------------------------------------------------

#: Name -> init of the last weight; how updates before it go through that init, and what comes of it at init.
CHOICES = {
    "mup": ("f^-1", "1", "k^-1/2 f^-1/2"),
    "stein": ("f^-1", "1", "k^-1/2 f^-1/2"),
    "balanced": ("k^1/2 f^-1/2", "k^1/2 f^1/2", "1"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_names_its_init_and_says_what_it_leaves_out(name: str) -> None:
    """At a width that does not grow, so that only experts may be wide."""
    rules = tpcalc.derive(_picked(), experts=name)
    init, through, initial = CHOICES[name]
    assert (str(rules["down"].formulas["init_std"]), str(rules["down"].formulas["lr"])) == (init, "f^-1")
    (note,) = (text for text in rules.notes if text.startswith("experts (down)"))
    assert f"through their init goes as {through}, and" in note and note.endswith(f"as {initial}")
    assert ("experts " + name in str(rules).split("n = ")[0].split("\n")[0]) is (name != "mup")


@once
def _picked() -> tpcalc.Program:
    return tpcalc.trace(ex.layer(ex.batched, ex.of_picked, width=16), scales=ex.scales("experts", "top_k", "ffn"))


def test_along_one_width_the_note_has_its_power() -> None:
    """n experts of 8 neurons each, of which a token uses n/8; with 8 experts of 2 n neurons nothing vanishes."""
    fine = tpcalc.trace(
        lambda n: ex.layer(ex.batched, ex.of_picked, ffn=8)(width=n, experts=n, top_k=n // 8), (16, 32, 64)
    )
    for name, b, through, initial in (("mup", 0, "n^(-1/2)", "n^(-1/2)"), ("stein", -1 / 2, "1", "1")):
        rules = tpcalc.derive(fine, experts=name)
        notes = [text for text in rules.notes if text.startswith("experts (down)")]
        assert rules["down"].b == b
        assert bool(notes) is (name == "mup")
        if notes:
            assert f"goes as {through}, and" in notes[0] and notes[0].endswith(f"as {initial}")
    few = tpcalc.trace(
        lambda n: ex.layer(ex.looped, ex.of_picked, experts=3, top_k=2)(width=n, ffn=2 * n), (16, 32, 64)
    )
    assert not tpcalc.derive(few).notes


def test_experts_are_found_by_what_is_done_with_them_and_attention_is_none() -> None:
    found = lower(program(MODELS["gpt_moe"])).experts
    assert {e.weight for e in found} == {f"blocks.{i}.mlp.experts.{j}.proj.weight" for i in (0, 1) for j in range(4)}
    assert not lower(program(MODELS["gpt_mqa"])).experts


REFUSED = {
    "unknown": (dict(experts="mssp"), "experts 'mssp' are unknown; choose one of mup, stein, balanced"),
    "none": (dict(experts="stein"), "the model has none: no softmax or top-k weighs"),
    "given": (dict(experts="stein", parametrization="sp"), "the init of the parametrization sp is given"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_choices_that_are_refused(name: str) -> None:
    options, message = REFUSED[name]
    with pytest.raises(DeriveError, match=message):
        tpcalc.derive(program(MODELS["mlp"]), **options)
