"""Tests that need more than the oldest versions the package runs with: what each needs, and why.

Read by ``tests/conftest.py``; listed in docs/versions.md.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_TYPES = "transformers 4.50 does not have this model type"
_WRITTEN = "transformers 4.50 writes this model otherwise, and the test is about how it is written since"
#: Part of a test's id -> the library and version that it needs, and the reason.
NEEDS = {
    "test_isolation.py::test_a_trace_does_not_import_the_compiler": (
        "torch",
        (2, 5),
        "torch 2.4 itself imports its compiler where attention is dispatched",
    ),
    "test_propagate.py::test_what_is_less_its_own_mean_is_seen[<lambda>-1_4]": (
        "torch",
        (2, 5),
        "under torch 2.4 a mean that is expanded by a size is not seen to be one (facts are weaker, not wrong)",
    ),
    "test_accelerate.py::test_sharded_on_two_processes_then_one": (
        "torch",
        (2, 6),
        "accelerate has FSDP2 from torch 2.6 on",
    ),
    "test_recorder.py::test_replay_is_eager_for_hugging_face[mamba]": ("transformers", (5, 0), _WRITTEN),
    "test_recorder.py::test_mixture_of_experts": ("transformers", (5, 0), _WRITTEN),
    "test_slices.py::test_packed_weights_of_hugging_face[mamba2": (
        "transformers",
        (5, 0),
        "transformers 4.50 splits off blocks of length 0, which are no blocks here yet",
    ),
    "test_slices.py::test_packed_weights_of_hugging_face[minicpm3": ("transformers", (5, 0), _TYPES),
    "test_depth.py::test_hugging_face_types_in_any_depth[granitemoehybrid]": ("transformers", (5, 0), _TYPES),
    "test_depth.py::test_hugging_face_types_in_any_depth[qwen3_next]": ("transformers", (5, 0), _TYPES),
    "test_schedules.py::test_right[transformers, to a part]": (
        "transformers",
        (5, 0),
        "transformers 4.50 does not export this schedule",
    ),
}


def unmet(test: str) -> str:
    """Why a test can't run with the versions that are here; empty if it can."""
    for part, (library, least, reason) in NEEDS.items():
        if part in test and _version(library) < least:
            return f"needs {library} {'.'.join(map(str, least))}: {reason}"
    return ""


def _version(library: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version(library).split("+")[0].split(".")[:2])
    except PackageNotFoundError:
        return ()
