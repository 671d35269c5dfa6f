"""Pages of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import tpcalc
from tests.report.made import checked, verified
from tests.support.models import example
from tests.support.once import once
from tpcalc.derive.explained import explain_all
from tpcalc.document.page import PageDocument
from tpcalc.report.page import page_document, page_html

#: What names may be, where nobody looks: markup, quotes, ends of elements and of comments, placeholders, line ends of
#: JavaScript, letters of other scripts, 300 characters.
HOSTILE = (
    "<script>hacked=1</script>",
    '"><img src=x onerror="hacked=2">',
    "</script><!--<script>",
    "${title} {{7*7}} `${1}`",
    "'\"&lt;&amp;\\u003c\\",
    "line\u2028end\u2029",
    "Wichtigkeit-重量-وزن-\U0001f9ee",
    "w" * 300,
)


class Hostile(nn.Module):
    """Two layers whose modules and parameters have such names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = [f"<b>{name}</b>" for name in HOSTILE]
        for layer, name in zip(self.layers, HOSTILE, strict=True):
            module = nn.Module()
            module.register_parameter(name, nn.Parameter(torch.randn(width, width) / width**0.5))
            self.add_module(layer.replace(".", "_"), module)
        self.first = nn.Linear(8, width)
        self.last = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer, name in zip(self.layers, HOSTILE, strict=True):
            x = torch.relu(x @ getattr(getattr(self, layer.replace(".", "_")), name))
        return self.last(x)


def hostile(width: int) -> tuple[nn.Module, tuple[torch.Tensor]]:
    return Hostile(width), (torch.randn(2, 8),)


FACTORIES: dict[str, Callable[[int], Any]] = {
    "mlp": example("mlp.py", "mlp"),
    "gpt": example("gpt.py", "gpt"),
    "hostile": hostile,
}


@once
def parts(name: str) -> tuple[Any, ...]:
    """Program and explanations."""
    program = tpcalc.trace(FACTORIES[name], (64, 128, 256))
    return program, explain_all(program)


def document(name: str, **more: Any) -> PageDocument:
    return page_document(f"model.py:{name}", *parts(name), **{"version": "0", **more})


def page(name: str, **more: Any) -> str:
    return page_html(document(name, **more))


def found() -> dict[str, Any]:
    """A finding on the hidden weight of the MLP, one without a place, and a check that fails."""
    told = json.loads(json.dumps(verified().to_json()))
    told["findings"][0] |= {"weights": ["hidden.weight"], "subject": "hidden.weight"}
    return {"verify": told, "setup": "setup.py:setup", "check": checked().json()}
