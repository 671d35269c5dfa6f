"""The recorder: every ATen call of a forward and a backward pass, at one width.

:func:`record` traces what a factory builds, on tensors without memory; :func:`record_real` traces a model that stands
already; :func:`observe` shows the numbers of a real model under the ids of its trace; :func:`build` only builds.
:func:`decomposed` and :func:`seeded` are what these set around a run, :func:`op_of` tells the facts about an ATen op.
:func:`flops_of` counts the operations of a trace.
"""

from tpcalc.trace.record.caches import Attributes, Files
from tpcalc.trace.record.dynamo import as_written, without_dynamo
from tpcalc.trace.record.flex import flex_decomposed
from tpcalc.trace.record.flops import flops_of
from tpcalc.trace.record.isolation import decomposed, seeded
from tpcalc.trace.record.ops import Op, op_of
from tpcalc.trace.record.outputs import find_loss, primary_outputs
from tpcalc.trace.record.phantom import REAL, Phantom, unwritten_numbers
from tpcalc.trace.record.recorder import Observation, build, observe, record, record_real
from tpcalc.trace.record.run import described

__all__ = [
    "REAL", "Attributes", "Files", "Observation", "Op", "Phantom", "as_written", "build", "decomposed", "described",
    "find_loss", "flex_decomposed", "flops_of", "observe", "op_of", "primary_outputs", "record", "record_real",
    "seeded", "unwritten_numbers", "without_dynamo",
]  # fmt: skip
