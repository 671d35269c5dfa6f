"""The listing of a tensor program: one line a node, every value typed by its growing axes."""

from __future__ import annotations

from typing import Any

from tpcalc.program.ir import Node, Program, Ref


def program_text(program: Program) -> str:
    head = f"widths {', '.join(map(str, program.widths))}; {len(program.weights)} weights, {len(program.nodes)} nodes"
    lines = [f"# {head}"]
    for weight in program.weights:
        lines.append(f"{value_text(program, weight.value, weight.name)} = weight[{', '.join(map(str, weight.shape))}]")
    phase = ""
    for node in program.nodes:
        if node.phase != phase:
            phase = node.phase
            lines.append(f"# {phase}")
        lines.append(node_text(program, node))
    lines += [f"# return {path} {program.value_name(vid)}".rstrip() for path, vid in program.outputs]
    return "\n".join([*lines, *(f"# assumption: {text}" for text in program.assumptions)])


def node_text(program: Program, node: Node) -> str:
    """``h3 : V[n] = mm(x2 : V[n], blocks.0.q.weight : M[n, n])   # blocks.0.q, gpt.py:41``."""
    outs = ", ".join("_" if out is None else value_text(program, out) for out in node.outputs)
    args = [_argument(program, arg) for arg in node.args]
    args += [f"{key}={_argument(program, value)}" for key, value in node.kwargs]
    line = f"{outs} = {node.short_op}({', '.join(args)})"
    return f"{line}   # {node.where}" if node.where else line


def value_text(program: Program, vid: int, name: str = "") -> str:
    """``h3 : V[n]``."""
    return f"{name or program.value_name(vid)} : {program.values[vid].type_text}"


def _argument(program: Program, arg: Any) -> str:
    if isinstance(arg, Ref):
        return value_text(program, arg.id)
    if isinstance(arg, tuple):
        return "[" + ", ".join(_argument(program, item) for item in arg) + "]"
    return f"{arg:g}" if isinstance(arg, float) else str(arg)
