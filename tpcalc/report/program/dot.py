"""A program as a Graphviz DOT graph: ``tpcalc trace gpt.py:gpt --format dot | dot -Tsvg``."""

from __future__ import annotations

from typing import Any, Union

from tpcalc.program.ir import Node, Program
from tpcalc.report.program.text import value_text

_PHASE_STYLE = {"forward": "solid", "backward": "dashed"}


def program_dot(program: Program) -> str:
    """Data flow: boxes are ops, ellipses are leaves (bold: weights), edges carry value and type."""
    graph = program.graph()
    lines = ["digraph program {", "  rankdir=TB;", "  node [shape=box];"]
    lines += [f"  {_id(key)} [{_attributes(_node(program, key, data))}];" for key, data in graph.nodes(data=True)]
    outputs = {vid: path for path, vid in program.outputs}
    for source, target, data in graph.edges(data=True):
        lines.append(
            f"  {_id(source)} -> {_id(target)} [{_attributes({'label': value_text(program, data['value'])})}];"
        )
    for number, (vid, path) in enumerate(outputs.items()):
        producer = program.producers.get(vid)
        source = _id(producer.index if producer else ("value", vid))
        if producer is None and ("value", vid) not in graph:
            continue
        label = {"label": f"return {path}".rstrip(), "shape": "plaintext"}
        lines.append(f"  out{number} [{_attributes(label)}];")
        lines.append(f"  {source} -> out{number} [{_attributes({'label': value_text(program, vid)})}];")
    return "\n".join([*lines, "}"]) + "\n"


def _id(key: Union[int, tuple[str, int]]) -> str:
    return f"v{key[1]}" if isinstance(key, tuple) else f"n{key}"


def _node(program: Program, key: Union[int, tuple[str, int]], data: dict[str, Any]) -> dict[str, str]:
    if isinstance(key, tuple):
        style = "bold" if key[1] in program.weight_of_value else "solid"
        return {"label": value_text(program, key[1]), "shape": "ellipse", "style": style}
    node: Node = data["node"]
    return {
        "label": f"{node.short_op}\n{node.where}" if node.where else node.short_op,
        "style": _PHASE_STYLE.get(node.phase, "solid"),
    }


def _attributes(attributes: dict[str, str]) -> str:
    return ", ".join(f"{key}={quote(value)}" for key, value in attributes.items())


def quote(text: str) -> str:
    """A DOT string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n") + '"'
