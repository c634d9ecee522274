"""[[compress]] through the command line: the checkpoint it leaves, the report, reuse, and a kill in mid-training."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import RELEASE, ROOT, Done, in_process
from release_build import SOURCES
from safetensors.numpy import load_file

from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.toml import load_recipe
from pocketforge.results.report import make_report
from pocketforge.run.build_inputs import BEGAN
from pocketforge.run.opened import NOTES
from pocketforge.run.store import Store
from pocketforge.run.walk import run_plan

ENTRIES = """
[[compress]]
type = "prune_channels"
goal = { metric = "macs", removed = 0.4 }

[[compress]]
type = "finetune"
epochs = 1
lr = 1e-3
distill = { temperature = 2.0 }

[[compress]]
type = "prune_unstructured"
amount = 0.5

[[compress]]
type = "drop_layers"
blocks = ["inverted"]
count = 1

[[compress]]
type = "finetune"
epochs = 3
lr = 1e-3
ema_decay = 0.9
"""


def write_recipe(folder: Path, entries: str) -> Path:
    shutil.copytree(RELEASE.parent, folder)
    text = RELEASE.read_text(encoding="utf-8")
    head = text[: text.index("[[target]]")]
    path = folder / "compress.toml"
    target = '[[target]]\nname = "small"\nruntime = "onnx"\n[[budget]]\nmetric = "macs"\nlimit = 6_500_000\n'
    path.write_text(head + entries + target, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Compressed:
    recipe: Path
    cache: Path
    out: Path
    done: Done

    @property
    def report(self) -> Any:
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    folder = tmp_path_factory.mktemp("compress")
    recipe = write_recipe(folder / "digits", ENTRIES)
    done = in_process("build", recipe, "--out", folder / "out", cache=folder / "cache", cwd=folder)
    return Compressed(recipe, folder / "cache", folder / "out", done)


def test_the_build_passes_and_says_what_each_step_bought(built: Compressed) -> None:
    assert built.done.code == 0, built.done.stdout + built.done.stderr
    for title in ("compression: the PyTorch model", "its weights file", "timed in turns"):
        assert title in built.done.stdout
    report = built.report
    schema = json.loads((ROOT / "pipeline" / "pocketforge" / "report" / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, schema)
    labels = [s["label"] for s in report["compression"]["states"]]
    assert labels == [
        "as given", "prune_channels", "finetune + distill", "prune_unstructured", "drop_layers", "finetune"
    ]  # fmt: skip
    given, channels, tuned, sparse, dropped, last = report["compression"]["states"]
    assert channels["macs"] <= 0.6 * given["macs"] and channels["macs"] == tuned["macs"] == sparse["macs"]
    assert dropped["macs"] < sparse["macs"] and dropped["parameters"] < sparse["parameters"]
    assert sparse["zeros"] == pytest.approx(0.5 * sparse["weights"], abs=1)
    # Dropping a block drops its zeros; training keeps the others.
    assert last["zeros"] == dropped["zeros"] > 0
    assert (
        sparse["sparse_bytes"] < 0.8 * sparse["weights_bytes"]
        and sparse["weights_gzip_bytes"] < tuned["weights_gzip_bytes"]
    )
    assert tuned["accuracy_top1"] > channels["accuracy_top1"] and last["accuracy_top1"] > dropped["accuracy_top1"] + 0.1
    # Shapes changed: timed and of another size. Training alone: not exported again.
    assert [s["timed"] for s in report["compression"]["states"]] == [True, True, False, True, True, False]
    sizes = [s["runtimes"]["onnx"]["size_bytes"] for s in report["compression"]["states"]]
    assert sizes[0] > sizes[1] == sizes[2] > sizes[4] == sizes[5]
    assert abs(sizes[3] - sizes[2]) < 64, "zeros in a dense file make it no smaller"
    steps = report["compression"]["steps"]
    assert steps[1]["train"]["teacher"]["accuracy_top1"] > 0.95
    assert steps[0]["prune"]["goal"]["reached"] <= steps[0]["prune"]["goal"]["limit"]
    (macs,) = [m["value"] for m in report["measurements"] if m["metric"] == "macs"]
    assert macs == last["macs"], "the file that ships is of the last state"


def test_a_flag_is_a_warning_in_words(built: Compressed, tmp_path: Path) -> None:
    recipe = load_recipe(built.recipe)
    facts = gather(recipe, built.cache)
    plan = make_plan(recipe, facts)
    outcome = run_plan(plan, Store(built.cache), logs=tmp_path / "logs")
    entry = outcome.entries[plan.gains]
    # Whether this machine's timer flags a step is chance: here is one.
    gains = json.loads((entry.files / "gains.json").read_text(encoding="utf-8"))
    flag = {"label": "drop_layers", "runtime": "onnx", "verdict": "no_gain", "layers": []}
    gains["flags"] = [{**flag, "macs": [100, 50], "ratio": [1.0, 0.9, 1.1]}]
    (tmp_path / "gains.json").write_text(json.dumps(gains), encoding="utf-8")
    outcome.entries[plan.gains] = dataclasses.replace(entry, files=tmp_path)
    report = make_report(recipe, facts, plan, outcome, wall_s=0.0)
    assert "drop_layers: 50% fewer MACs, but no less time in onnx: × 1.00 (95 % 0.90 to 1.10)" in report.warnings


@pytest.fixture(scope="module")
def elsewhere(built: Compressed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The checkpoint in a program of its own: loaded as the guide says, then saved again in this folder's `again`.
    And what the program says."""
    folder = tmp_path_factory.mktemp("elsewhere")
    moved = shutil.copytree(built.out / "checkpoint", folder / "anywhere")
    data = next(p for p in (built.cache / "v1" / "entries").rglob("eval_0.npy"))
    np.save(folder / "x.npy", np.load(data)[:32])
    guide = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 3
    script = f"""
import numpy, sys, torch
x = torch.from_numpy(numpy.load({str(folder / "x.npy")!r}))
{lines.replace("build/digits/checkpoint", str(moved))}
print(answer.argmax(1).tolist())
assert "torch_pruning" not in sys.modules

from pocketforge.files import resolver
from pathlib import Path
from pocketforge.model.surgery import load_checkpoint, save_checkpoint
checkpoint = Path({str(built.out / "checkpoint")!r})
save_checkpoint(load_checkpoint(checkpoint), Path({str(folder / "again")!r}), resolver(checkpoint))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_three_lines_of_python_load_the_model(built: Compressed, elsewhere: tuple[Path, str]) -> None:
    outputs = next(
        p for p in (built.cache / "v1" / "entries").rglob("outputs_0.npy") if (p.parent / "model.pt2").exists()
    )
    assert json.loads(elsewhere[1]) == np.load(outputs)[:32].argmax(1).tolist()


def test_saved_again_it_is_the_same_bytes(built: Compressed, elsewhere: tuple[Path, str]) -> None:
    again = elsewhere[0] / "again"
    names = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    wanted = built.out / "checkpoint"
    assert names == sorted(p.relative_to(wanted) for p in wanted.rglob("*") if p.is_file())
    assert {"checkpoint.json", "model.safetensors", "masks.safetensors", "definition/model.py"} == set(map(str, names))
    for name in names:
        assert (wanted / name).read_bytes() == (again / name).read_bytes(), name


def test_model_show_reads_a_checkpoint(built: Compressed) -> None:
    done = in_process("model", "show", built.out / "checkpoint", "--json", cache=built.cache, cwd=built.out)
    assert done.code == 0, done.stderr
    shown = done.json()
    last = built.report["compression"]["states"][-1]
    assert (shown["parameters"], shown["macs"]) == (last["parameters"], last["macs"])
    assert [e["edit"] for e in shown["edits"]] == ["keep_channels", "replace"]
    assert sum(shown["masked_weights"].values()) == last["zeros"]
    words = in_process("model", "show", built.out / "checkpoint", cache=built.cache, cwd=built.out).stdout
    assert "inverted replaced by skip" in words and "weights stay zero" in words
    empty = in_process("model", "show", built.out / "logs", cache=built.cache, cwd=built.out)
    assert empty.code == 2 and "is not a checkpoint: there is no checkpoint.json" in empty.stderr


def test_the_same_recipe_again_runs_nothing(built: Compressed) -> None:
    again = in_process(
        "build", built.recipe, "--out", built.out.parent / "again", "--json", cache=built.cache, cwd=built.out
    )
    assert again.code == 0
    assert {s["status"] for s in again.json()["steps"]} == {"reused"}
    for name in ("checkpoint.json", "model.safetensors"):
        one, two = (built.out.parent / o / "checkpoint" / name for o in ("out", "again"))
        assert one.read_bytes() == two.read_bytes()


def test_a_finetune_killed_in_mid_training_ends_with_the_same_weights(built: Compressed, tmp_path: Path) -> None:
    """The last step of the same recipe, forgotten and trained again: killed once, it ends as it did in one go."""
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    key = [s["key"] for s in built.report["steps"] if s["stage"] == "finetune"][-1]
    shutil.rmtree(cache / "v1" / "entries" / key[:2] / key)
    killed = subprocess.Popen(
        [sys.executable, "-m", "pocketforge", "build", str(built.recipe), "--out", "out", "--progress", "none"],
        cwd=tmp_path,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": SOURCES},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    partial = cache / "v1" / "partial"
    deadline = time.monotonic() + 300
    # A draft is no state yet, nor are the notes of what it began with and of what the user's code opened.
    while not any(
        p.is_file() and not p.name.startswith(".") and p.name not in (NOTES, BEGAN) for p in partial.rglob("*")
    ):
        assert killed.poll() is None and time.monotonic() < deadline, "no epoch was saved before the training ended"
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert any(partial.iterdir()), "half-done work outlives the kill"
    done = in_process("build", built.recipe, "--out", "out", "--progress", "json", cache=cache, cwd=tmp_path)
    assert done.code == 0, done.stderr
    news = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [n["key"] for n in news if n["event"] == "StepFinished"] == [key]
    first = next(n for n in news if n["event"] == "StepProgress" and n["fraction"] > 0)
    assert first["fraction"] > 0.15, f"it began again from the start: {first}"
    for name in ("model.safetensors", "checkpoint.json"):
        one, two = (folder / "checkpoint" / name for folder in (built.out, tmp_path / "out"))
        assert one.read_bytes() == two.read_bytes()
    assert not any(partial.iterdir()), "done work leaves nothing half-done"
    assert load_file(tmp_path / "out" / "checkpoint" / "model.safetensors")
