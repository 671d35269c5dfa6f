"""Models of public packages, each of one width: what the coverage page derives and measures beside Hugging Face's.

    pip install torch && pip install -e .[zoo]
    python -m benchmarks.zoo_packages                  # names, and which packages are not installed
    python -m benchmarks.zoo_packages timm einops      # derives the models of some packages

A line of the table (``zoo_packages.txt``) is a class, its arguments as functions of the width ``n``, and example
inputs.  Models are small: few layers, heads of 16, images of 32 by 32.  What no width has to do with (a vocabulary, an
image, a state) stays fixed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

TABLE = Path(__file__).with_suffix(".txt")


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def image(size: int = 32) -> torch.Tensor:
    return floats(2, 3, size, size)


def tokens(length: int = 16) -> torch.Tensor:
    return torch.randint(1, 64, (2, length))


def at(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def config(path: str, **values: Any) -> Any:
    return at(path)(**values)


def shared(n: int) -> dict[str, Any]:
    """What the arguments of several models have in common."""
    heads, dims = n // 16, (n, n, 2 * n, 2 * n)
    layers = dict(dim=n, depth=2, heads=heads, attn_dim_head=16)
    simple = dict(image_size=32, patch_size=8, num_classes=10, dim=n, depth=2, heads=heads, mlp_dim=2 * n)
    source = torch.arange(6)
    return (
        {
            "n": n,
            "DIMS": dims,
            "HEADS": tuple(dim // 16 for dim in dims),
            "STAGES": dict(depths=(1, 1, 1, 1), dims=dims, num_classes=10),
            "RESNET": dict(layers=[1, 1, 1, 1], channels=dims, stem_type="deep", stem_width=n // 2, num_classes=10),
            "VIT": dict(img_size=32, patch_size=8, embed_dim=n, depth=2, num_heads=heads, num_classes=10),
            "MIXER": dict(img_size=32, patch_size=8, embed_dim=n, num_blocks=2, num_classes=10),
            "SWIN": dict(
                img_size=32,
                patch_size=4,
                embed_dim=n,
                depths=(1, 1),
                num_heads=(heads, 2 * heads),
                window_size=4,
                num_classes=10,
            ),
            "SIMPLE": simple,
            "LVIT": dict(simple, dim_head=16),
            "XT": dict(num_tokens=64, max_seq_len=16),
            "XTL": layers,
            "decoder": lambda n, **more: at("x_transformers:Decoder")(**{**layers, **more}),
            "SMP": dict(encoder_name="resnet18", encoder_weights=None, in_channels=3, classes=4),
            "GNN": dict(in_channels=8, hidden_channels=n, num_layers=2, out_channels=4),
            "GRAPH": (floats(6, 8), torch.cat([torch.stack([source, (source + k) % 6]) for k in (1, 2)], 1)),
            "LIT": dict(block_size=16, n_layer=2, n_embd=n, n_head=heads, padded_vocab_size=64, vocab_size=64),
        }
        | {f.__name__: f for f in (floats, image, tokens, at, config)}
        | {"torch": torch}
    )


@dataclass(frozen=True)
class Entry:
    """A model of a package: where its class is, and its arguments and inputs as text."""

    package: str
    path: str
    arguments: str
    inputs: str
    name: str

    def __call__(self, n: int) -> tuple[torch.nn.Module, Any]:
        names = shared(n)
        model = eval(f"made({self.arguments})", {**names, "made": at(self.path)})  # noqa: S307
        given = eval(f"given({self.inputs or 'image()'})", {**names, "given": lambda *args, **kwargs: kwargs or args})
        return model, given

    @property
    def __name__(self) -> str:
        return f"{self.package} {self.name}"

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.path.split(":")[0].split(".")[0]) is not None


@functools.cache
def entries() -> tuple[Entry, ...]:
    found, package, root = [], "", ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            package, _, root = line[1:].partition("] ")
        elif line and not line.startswith("#"):
            place, arguments, inputs, name = (*(part.strip() for part in line.split(" | ")), "", "")[:4]
            module, _, cls = place.partition(":")
            path = f"{root}:{cls}" if module == "." else f"{root}.{module}:{cls}"
            found.append(Entry(package, path, arguments, inputs, name or cls))
    return tuple(found)


def main(packages: list[str]) -> None:
    from benchmarks.coverage import SMALL, measure, table

    chosen = [each for each in entries() if each.package in packages]
    if chosen:
        print(table([measure(each.__name__, lambda factory=each: factory, SMALL) for each in chosen if each.installed]))
        return
    for package in dict.fromkeys(each.package for each in entries()):
        own = [each for each in entries() if each.package == package]
        print(f"{package}{'' if own[0].installed else ' (not installed)'}: {', '.join(each.name for each in own)}")


if __name__ == "__main__":
    main(sys.argv[1:])
