"""Tests that need more than the oldest versions the package runs with: what each needs, and why.

Read by ``tests/conftest.py``; listed in docs/versions.md.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: Library, version, reason -> the parts of test ids that it is about.
NEEDS = {
    ("torch", (2, 5), "torch 2.4 itself imports its compiler where attention is dispatched"): (
        "test_dynamo.py::test_it_is_imported_by_those_alone_who_ask_for_it_and_whole_after[trace]",
    ),
    ("torch", (2, 6), "before torch 2.6 what is compiled can't be left out: set_stance is missing"): (
        "test_dynamo.py::test_it_is_imported_by_those_alone_who_ask_for_it_and_whole_after[compile]",
    ),
    ("torch", (2, 5), "under torch 2.4 a mean that is expanded by a size is not seen to be one: weaker, not wrong"): (
        "test_propagate.py::test_what_is_less_its_own_mean_is_seen[<lambda>-1_4]",
    ),
    ("torch", (2, 5), "torch 2.4 takes traced parameters for lazy ones in its older weight_norm and spectral_norm"): (
        "test_forward.py::test_norms_that_are_hooks_are_right",
    ),
    ("torch", (2, 6), "FSDP2 is public, and in accelerate, from torch 2.6 on"): (
        "test_accelerate.py::test_sharded_on_two_processes_then_one",
        "test_distributed.py::test_",
        "test_scaling_slices.py::test_two_processes",
        "test_scaling_slices.py::test_the_indices_of_a_shard",
    ),
    ("transformers", (5, 0), "transformers 4.50 does not have this model type"): (
        "test_slices.py::test_packed_weights_of_hugging_face[minicpm3",
        "test_depth.py::test_hugging_face_types_in_any_depth[granitemoehybrid]",
        "test_depth.py::test_hugging_face_types_in_any_depth[qwen3_next]",
        "test_scales.py::test_each_scale_sets_its_fields[deepseek_v3",
        "test_scales.py::test_each_scale_sets_its_fields[qwen3_moe",
        "test_scales.py::test_what_is_refused[deepseek_v3",
        "test_scales.py::test_every_scale_is_known_to_some_model",
        "test_scales.py::test_a_scale_that_changes_nothing",
        "test_scales.py::test_layers_of_a_saved_config_take_turns_as_in_the_model[qwen3]",
        "test_written.py::test_widths_are_chosen_to_fit[glm4]",
    ),
    ("transformers", (5, 0), "transformers 4.50 has other fields and defaults in this config"): (
        "test_scales.py::test_layers_of_a_saved_config_take_turns_as_in_the_model[gemma",
        "test_factory.py::test_every_family_traces[gemma3]",
        "test_factory.py::test_head_counts_grow_and_ratios_are_kept",
        "test_written.py::test_a_saved_config_is_the_base",
    ),
    ("transformers", (5, 0), "transformers 4.50 writes this model otherwise, and the test is about how it is since"): (
        "test_recorder.py::test_replay_is_eager_for_hugging_face[mamba]",
        "test_recorder.py::test_mixture_of_experts",
        "test_scales.py::test_experts_and_their_size",
    ),
    ("transformers", (5, 0), "transformers 4.50 splits off blocks of length 0, which are no blocks here yet"): (
        "test_slices.py::test_packed_weights_of_hugging_face[mamba2",
    ),
    ("transformers", (5, 0), "transformers 4.50 does not export this schedule"): (
        "test_schedules.py::test_right[transformers, to a part]",
    ),
}


def unmet(test: str) -> str:
    """Why a test can't run with the versions that are here; empty if it can."""
    for (library, least, reason), parts in NEEDS.items():
        if any(part in test for part in parts) and _version(library) < least:
            return f"needs {library} {'.'.join(map(str, least))}: {reason}"
    return ""


def _version(library: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version(library).split("+")[0].split(".")[:2])
    except PackageNotFoundError:
        return ()
