"""``tpcalc transfer`` and ``tpcalc tune`` from the command line: to the end, through a kill, by several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tpcalc
from tests.support.once import once

TARGET = """
import os, time
import torch
import torch.nn.functional as F
from torch import nn

TEACHER = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def mlp(width, ffn=None):
    layers = nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
    return nn.Sequential(*layers), (torch.randn(16, 8),)


def fixed(width):
    return mlp(16)


def train(model, optimizer, context):
    generator = context.generator()
    with open(os.environ.get("RUNS", os.devnull), "a") as runs:
        runs.write(f"{context.scales} {context.steps} {[g['lr'] for g in optimizer.param_groups]} {context.seed}\\n")
    time.sleep(float(os.environ.get("SLOW", 0)))
    for step in range(context.steps):
        x = torch.randn(32, 8, generator=generator)
        loss = F.mse_loss(model(x), torch.tanh(x @ TEACHER))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        context.report(step, loss)
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(2))
    return F.mse_loss(model(x), torch.tanh(x @ TEACHER)).item()


def diverges(model, optimizer, context):
    context.report(0, torch.tensor(float("nan")))


def pair(model, optimizer):
    return 0.0


def vector(model, optimizer, context):
    return torch.ones(3)
"""
SWEEP = "--scale width=16,64 --lr 1e-3:1e-1 --points 3 --steps 8 --seeds 2".split()
SEARCH = "--base 16 --target 128 --steps 32 --trials 8".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("training")
    (made / "model.py").write_text(TARGET)
    return made


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpcalc", *arguments]
    root = str(Path(tpcalc.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def transfer(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "transfer", "model.py:mlp", "--train", "model.py:train", *SWEEP, *more, **environment)


def tune(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "tune", "model.py:mlp", "--train", "model.py:train", *SEARCH, *more, **environment)


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> None:
    """In this process, as nothing is trained."""
    from tpcalc.cli import main

    monkeypatch.chdir(folder)
    loop = () if "--train" in arguments else ("--train", "model.py:train")
    with pytest.raises(SystemExit) as exit:
        main([command, "model.py:mlp", *loop, *arguments])
    assert exit.value.code == 2


@once
def one_process(folder: Path) -> dict:
    """The recipe, as one process finds it."""
    done = tune(folder, "-o", "one", RUNS="one.txt")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "one/recipe.json").read_text())


def found(recipe: dict) -> tuple:
    return recipe["constants"], recipe["base"], recipe["search"]["trials"]


def test_a_sweep_is_printed_and_written(folder):
    done = transfer(folder, "--format", "json", "-o", "sweep")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "sweep/transfer.json").read_text())
    assert [size["scales"] for size in document["sizes"]] == [{"width": 16}, {"width": 64}]
    assert {"optimum", "loss"} <= document["sizes"][0]["standard"].keys() & document["sizes"][0]["derived"].keys()
    assert {"standard", "derived"} <= document["drift"].keys()
    assert (folder / "sweep/transfer.png").stat().st_size > 1000
    assert transfer(folder, "-o", "sweep", RUNS="again.txt").returncode == 0
    assert not (folder / "again.txt").exists()  # every run was noted


@pytest.mark.slow
def test_a_drift_that_is_too_large_is_exit_code_one(folder):
    inside = "--lr 1e-3:1e1 -o drift --max-drift".split()
    strict, lax = (transfer(folder, *inside, most) for most in ("0", "20"))
    drift = json.loads((folder / "drift/transfer.json").read_text())["drift"]["derived"]
    assert strict.returncode == (1 if drift else 0) and lax.returncode == 0
    assert strict.stdout == lax.stdout
    edge = transfer(folder, "--lr", "1e-7:1e-6", "--max-drift", "20")
    assert edge.returncode == 1 and "end of grid" in edge.stdout  # at both sizes: the true drift is not known


@pytest.mark.slow
def test_a_recipe_is_written_and_tried_at_the_target(folder):
    recipe = one_process(folder)
    assert recipe["base"]["scales"] == {"width": 16} and recipe["target"]["scales"] == {"width": 128}
    files = {path.name for path in (folder / "one").iterdir()}
    assert {"recipe.json", "multipliers.json", "scaling.py", "README.md", "search.png", "runs.log"} <= files
    sweep = "--scale width=16,128 --lr 1e-3:1e-1 --points 3 --steps 8 --seeds 1 --format json".split()
    done = run(folder, "transfer", "model.py:mlp", "--train", "model.py:train", *sweep, "--recipe", "one")
    assert done.returncode == 0, done.stderr
    assert {"tuned", "unscaled"} <= json.loads(done.stdout)["sizes"][1].keys()


@pytest.mark.parametrize(
    "more, words",
    [
        ("--scale width=32,128", "was found at width 16, and this base is width 32"),
        ("--scale width=16,128 --optimizer sgd", "was found with adamw, and this is sgd"),
        ("--scale width=16,128 --weight-decay 0.5", "has weight_decay=0; leave --weight-decay out"),
    ],
)
def test_a_recipe_of_something_else(folder, more, words, capsys, monkeypatch):
    one_process(folder)
    refused(folder, monkeypatch, "transfer", "--recipe", "one", *more.split())
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out


@pytest.mark.slow
def test_two_processes_find_what_one_does(folder):
    done = tune(folder, "-o", "two", "--processes", "2", RUNS="two.txt")
    assert done.returncode == 0, done.stderr
    assert found(json.loads((folder / "two/recipe.json").read_text())) == found(one_process(folder))
    runs = [sorted((folder / f"{name}.txt").read_text().splitlines()) for name in ("one", "two")]
    assert runs[0] == runs[1]  # the same ones, none twice


@pytest.mark.slow
def test_a_search_goes_on_after_a_kill(folder):
    """What was finished is not run again; what was interrupted is."""
    wanted = found(one_process(folder))
    command = [sys.executable, "-m", "tpcalc", "tune", "model.py:mlp", "--train", "model.py:train", *SEARCH]
    environment = {**os.environ, "PYTHONPATH": str(Path(tpcalc.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment |= {"RUNS": "kill.txt", "SLOW": "0.4"}
    search = subprocess.Popen([*command, "-o", "kill"], cwd=folder, env=environment)
    ledger, begun = folder / "kill/runs.log", folder / "kill.txt"
    deadline = time.monotonic() + 120
    while not (begun.exists() and len(begun.read_text().splitlines()) >= 3):
        assert search.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    search.send_signal(signal.SIGKILL)
    search.wait()
    assert ledger.exists() and not (folder / "kill/recipe.json").exists()
    done = tune(folder, "-o", "kill", RUNS="kill.txt")
    assert done.returncode == 0, done.stderr
    assert found(json.loads((folder / "kill/recipe.json").read_text())) == wanted
    runs, all_of_them = begun.read_text().splitlines(), (folder / "one.txt").read_text().splitlines()
    assert sorted({*runs}) == sorted({*all_of_them}) and len(runs) <= len(all_of_them) + 1


@pytest.mark.slow
def test_a_local_ray_cluster_finds_what_one_process_does(folder):
    pytest.importorskip("ray")
    done = tune(folder, "-o", "ray", "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert found(json.loads((folder / "ray/recipe.json").read_text())) == found(one_process(folder))


BAD = [
    (("--train", "model.py:diverges"), ("every run diverged", "give smaller ones")),
    (("--train", "model.py:pair"), ("pair(model, optimizer)", "train(model, optimizer, context)")),
    (("--train", "model.py:vector"), ("shape [3]", "one number")),
    (("--train", "model.py:nothing"), ("no callable 'nothing'",)),
    (("--target", "16"), ("base and target are both at width=16",)),
    (("--space", "lr=1"), ("nothing",)),
    (("--space", "lr=1e-3:1e-1,hidden.nothing=1:2"), ("hidden.nothing", "lr, init, weight_decay")),
    (("--space", "lr=1e-3:1e-1,nowhere.lr=1:2"), ("'nowhere'", "modules")),
    (("--space", "lr=1e-1:1e-3"), ("no range",)),
    (("--sampler", "magic"), ("choose one of tpe, random",)),
    (("--share", "1e-9", "--trials", "1"), ("is no search",)),
    (("--share", "0"), ("is no budget",)),
    (("--share", "inf"), ("is no budget",)),
    (("--seed", "-1"), ("seed -1",)),
    (("-o", ""), ("-o names no directory",)),
    (("--processes", "2", "--ray", "local", "-o", "x"), ("drop --processes",)),
    (("--processes", "2"), ("needs -o",)),
    (("-o", "model.py"), ("cannot make the directory model.py",)),
    (("--storage", "model.py"), ("the storage model.py", "give another")),
    (("--scale", "width=8,16"), ("width",)),
]


@pytest.mark.parametrize("arguments, words", BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_sentence(folder, arguments, words, capsys, monkeypatch):
    given = {"--train": "model.py:train", "--base": "16", "--target": "32", "--steps": "32", "--trials": "4"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    before = (folder / "model.py").read_bytes()
    refused(folder, monkeypatch, "tune", *(part for pair in given.items() for part in pair))
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not list(folder.glob("**/*.tmp")) and (folder / "model.py").read_bytes() == before


@pytest.mark.parametrize("command", ["tune", "transfer"])
def test_a_directory_of_somebody_else(folder, command, capsys, monkeypatch):
    """That of a project, with a file by one of our names: nothing of it is written over."""
    name = {"tune": "README.md", "transfer": "transfer.json"}[command]
    place = folder / f"project of {command}"
    place.mkdir()
    (place / name).write_text("{}")
    refused(folder, monkeypatch, command, *(SEARCH if command == "tune" else SWEEP), "-o", place.name)
    assert f"has a {name} that is not of this command" in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == [name] and (place / name).read_text() == "{}"


def test_no_directory_is_left_by_what_is_refused(folder, capsys, monkeypatch):
    refused(folder, monkeypatch, "tune", *SEARCH, "--train", "model.py:pair", "-o", "new/recipe")
    refused(folder, monkeypatch, "transfer", *SWEEP, "--train", "model.py:pair", "-o", "new/figure")
    refused(folder, monkeypatch, "tune", *SEARCH, "-o", "model.py/recipe")
    assert "cannot make the directory model.py/recipe" in capsys.readouterr().err
    assert not (folder / "new").exists()


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_one_sentence(folder):
    pytest.importorskip("ray")
    done = tune(folder, "--ray", "127.0.0.1:1")
    assert done.returncode == 2 and done.stdout == ""
    assert "no Ray cluster can be reached at 127.0.0.1:1" in done.stderr.strip().splitlines()[-1]
