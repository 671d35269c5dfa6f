"""How fast is a trace?  The recorder, and the whole derivation, against one plain recorder pass.

    python benchmarks/trace_speed.py [--layers 80] [--hidden 8192] [--rounds 3] [--sequence 64]

``plain`` is a straightforward recorder: a dispatch mode over ``FakeTensorMode`` that notes op,
arguments, shapes, module path and source line of every call while a Hugging Face Llama is built, run
forward and differentiated, once.  ``record`` is ours at the same width; ``derive`` is the whole of
``tpcalc.derive(tpcalc.trace(...))`` at three widths.  Each run is a process of its own, and the
contenders alternate, so that a busy machine slows all of them.  Imports and a first tiny trace are not timed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

CONTENDERS = ("plain", "record", "derive")


def llama(layers: int, hidden: int, sequence: int):
    """A Llama of the 70B shape: heads of 128, 8 key heads, feed-forward 3.5 wide."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=hidden * 7 // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 128,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 1000, (1, sequence))}


def plain(layers: int, hidden: int, sequence: int) -> int:
    """One pass of a plain recorder; returns the number of calls seen."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    calls = []
    modules = [""]

    def described(arg):
        if isinstance(arg, torch.Tensor):
            return id(arg), tuple(arg.shape), arg.dtype
        return arg

    def line() -> str:
        frame = sys._getframe(2)
        while frame is not None and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
            frame = frame.f_back
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""

    class Plain(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            noted = tree_map(described, (args, kwargs, result))
            calls.append((str(func), noted, modules[-1], line()))
            return result

    attention = torch.nn.attention
    with FakeTensorMode(), attention.sdpa_kernel(attention.SDPBackend.MATH), Plain():
        model, inputs = llama(layers, hidden, sequence)
        names = {module: name for name, module in model.named_modules()}
        enter = torch.nn.modules.module.register_module_forward_pre_hook(lambda m, a: modules.append(names.get(m, "")))
        leave = torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: modules.__delitem__(-1))
        logits = model(**inputs).logits
        torch.autograd.grad(logits, list(model.parameters()), torch.empty_like(logits))
        enter.remove()
        leave.remove()
    return len(calls)


def record(layers: int, hidden: int, sequence: int) -> int:
    """One pass of our recorder."""
    from tpcalc.trace.init import InitRecorder
    from tpcalc.trace.record import record

    return len(record(lambda: llama(layers, hidden, sequence), hidden, building=InitRecorder()).nodes)


def derive(layers: int, hidden: int, sequence: int) -> int:
    """Three traces, their alignment, and the derivation of every exponent."""
    import tpcalc

    widths = (hidden // 4, hidden // 2, hidden)
    return len(tpcalc.derive(tpcalc.trace(lambda width: llama(layers, width, sequence), widths=widths)))


def timed(contender: str, layers: int, hidden: int, sequence: int) -> dict:
    """Run one contender in this process."""
    run = globals()[contender]
    run(1, 8192, 16)
    start = time.perf_counter()
    count = run(layers, hidden, sequence)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "count": count, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=80)
    parser.add_argument("--hidden", type=int, default=8192)
    parser.add_argument("--sequence", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, help="run one contender in this process and print JSON")
    options = parser.parse_args()
    shape = (options.layers, options.hidden, options.sequence)
    if options.only:
        print(json.dumps(timed(options.only, *shape)))
        return
    results: dict[str, list[dict]] = {}
    for round_ in range(options.rounds):
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--only", contender]
            for name, value in zip(("layers", "hidden", "sequence"), shape, strict=True):
                command += [f"--{name}", str(value)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"round {round_ + 1}  {contender:7} failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            results.setdefault(contender, []).append(result)
            unit = "weights" if contender == "derive" else "calls"
            numbers = f"{result['seconds']:7.2f} s  {result['mb']:6.0f} MB  {result['count']} {unit}"
            print(f"round {round_ + 1}  {contender:7} {numbers}")
    base = statistics.median(result["seconds"] for result in results["plain"])
    for contender, runs in results.items():
        seconds = statistics.median(result["seconds"] for result in runs)
        peak = max(result["mb"] for result in runs)
        print(f"{contender:7} median {seconds:6.2f} s, {seconds / base:5.2f} x plain, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
