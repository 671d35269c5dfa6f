"""Measure what the coverage page lists: the check of ``benchmarks/coordinates.py``, which knows no calculus, of each.

    python -m benchmarks.coverage_measured                  # all that isn't in the data yet (hours)
    python -m benchmarks.coverage_measured hf:llama timm    # some types, or all models of a package, anew
    python -m benchmarks.coverage_measured --again [...]    # with more seeds and a larger width, by default what is off

Writes docs/coverage.json, from which ``python -m benchmarks.coverage`` writes its page.  Models of packages are derived
here, too: only who has installed the extra ``[zoo]`` can.  Each model runs in a process of its own, with a time limit.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.coordinates import Coordinates, call, judged, slopes
from benchmarks.coverage import (
    AT,
    LISTED,
    OTHERS,
    SMALL,
    _quiet,
    _short,
    plain_factories,
    read,
    traced,
    two_layers,
    write,
)
from benchmarks.zoo_packages import Entry, entries
from tpcalc.trace.hf import default_config, hf_factory, settable, sub_configs

#: Every model is looked at with few seeds, and one that is off again with more and with one more width.
SEEDS, AGAIN = 2, 4
RATE = 2**-8  # at a base of 64: at 192 it is too large, and starcoder2 is far from the steps that the rules are about
SECONDS = 120  # a model may take so long, of a processor: others may share the machine
TOKENS = "pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id decoder_start_token_id".split()


def models() -> dict[str, Callable[[bool], Iterator[dict]]]:
    """By name, what derives and measures each; True: once more."""
    found: dict[str, Callable[[bool], Iterator[dict]]] = {}
    for each in entries():
        if each.installed:
            found[f"{each.package}:{each.name}"] = partial(package_model, each)
    for name in [*(name for text in LISTED.values() for name in text.split()), *OTHERS]:
        found[f"hf:{name}"] = partial(hugging_face, name)
    for name, factory in plain_factories().items():
        found[f"plain:{name}"] = partial(plain_model, factory)
    return found


def package_model(entry: Entry, again: bool) -> Iterator[dict]:
    row, program = traced(entry.name, lambda: entry, SMALL)
    yield {"row": asdict(row), "version": version(entry.package)}
    if row.result == "derived":
        yield {"measured": coordinates(entry, SMALL, again, program)}


def plain_model(factory: Callable[[int], Any], again: bool) -> Iterator[dict]:
    yield {"measured": coordinates(factory, SMALL, again)}


def hugging_face(model_type: str, again: bool) -> Iterator[dict]:
    """With a small vocabulary, small images and small widths, where the type can be built so."""
    widths, overrides, refused = AT.get(model_type, SMALL), two_layers(model_type), ""
    tokens = {**overrides, **few_tokens(model_type)}
    for more in (*({**tokens, **small_images(model_type, size)} for size in (32, 64)), tokens, overrides):
        for sizes in dict.fromkeys((widths, tuple(2 * width for width in widths))):
            try:
                with _quiet():
                    factory = hf_factory(model_type, overrides=more, widths=sizes)
                    call(*factory(sizes[0]))
            except Exception as error:  # of sizes that do not fit, the code of a type may raise anything
                refused = _short(str(error))
                continue
            yield {"measured": coordinates(factory, sizes, again)}
            return
    yield {"measured": {"why": refused}}


def small_images(model_type: str, size: int) -> dict[str, str]:
    config = default_config(model_type)
    owners = {"": config, **{f"{name}.": sub for name, sub in sub_configs(config).items()}}
    return {f"{owner}image_size": str(size) for owner, each in owners.items() if "image_size" in settable(each)}


def few_tokens(model_type: str) -> dict[str, str]:
    config, found = default_config(model_type), {}
    for owner, each in {"": config, **{f"{name}.": sub for name, sub in sub_configs(config).items()}}.items():
        fields = settable(each)
        if "vocab_size" in fields:
            found[f"{owner}vocab_size"] = "256"
            found |= {f"{owner}{f}": "1" for f in TOKENS if f in fields and isinstance(getattr(each, f, None), int)}
    return found


def coordinates(factory: Callable[[int], Any], widths: tuple[int, ...], again: bool, program: Any = None) -> dict:
    """How many slopes there are, the worst of them, and all that are off."""
    seeds, lr = AGAIN if again else SEEDS, RATE * min(1, SMALL[0] / widths[0])
    if again:
        widths, program = (*widths, 2 * widths[-1]), None
    try:
        with _quiet():
            found = slopes(Coordinates(factory, list(widths), lr=lr, program=program, few=True), seeds)
    except Exception as error:  # a model of any package may raise anything; the page says what
        return {"why": _short(f"{type(error).__name__}: {error}")}
    effects = {name: slope for (quantity, name), slope in found.items() if quantity == "effect"}
    if not effects:
        return {"why": "no parameter has an effect on what a module gives"}
    worst = max(effects, key=lambda name: abs(effects[name]))
    return {
        "slopes": len(found),
        "effects": len(effects),
        "worst": round(effects[worst], 2),
        "of": worst,
        "widths": list(widths),
        "seeds": seeds,
        "few": True,
        "off": [[each.quantity, each.name, round(each.slope, 2)] for each in judged(found)],
    }


def limited(work: Callable[[], Iterable[dict]], seconds: float) -> dict:
    """All that ``work`` says, in a process of its own, until it ends or its time is up, of a processor."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def send() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
        try:
            for said in work():
                theirs.send(said)
        except Exception as error:  # of any package, before there is anything to measure
            theirs.send({"measured": {"why": _short(f"{type(error).__name__}: {error}")}})

    child = context.Process(target=send)
    child.start()
    theirs.close()
    found: dict = {}
    end = time.monotonic() + 10 * seconds  # of the clock: one that waits for nothing
    with contextlib.suppress(EOFError):  # it is at its end, or was ended
        while ours.poll(max(0.0, end - time.monotonic())):
            found.update(ours.recv())
        child.kill()
    child.join()
    return {"measured": {"why": f"not done in {seconds:g} seconds"}, **found} if child.exitcode else found


def chosen(names: list[str], known: list[str], data: dict[str, dict], again: bool) -> list[str]:
    if not names:
        return [
            name for name in known if (data.get(name, {}).get("measured", {}).get("off") if again else name not in data)
        ]
    return [name for name in known if name in names or name.partition(":")[0] in names]


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    made, again = models(), "--again" in names
    coordinates(
        plain_factories()["gpt"], SMALL, False
    )  # what the first trace of a process loads, all others find there
    for name in chosen([name for name in names if name != "--again"], list(made), read(), again):
        start = time.perf_counter()
        found = limited(partial(made[name], again), SECONDS)
        write({name: found})
        print(f"{time.perf_counter() - start:5.0f} s  {name}: {found}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
