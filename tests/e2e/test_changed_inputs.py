"""Real models whose files change between builds and under one: what is checked is what there is, or the check fails."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from warm_server import in_process

RECIPE = """\
name = "changed"
[model]
definition = "model.py"
{weights}
[data]
source = "data.py:samples"
calibration_samples = 16
[[target]]
name = "t"
runtime = "onnx"
"""

# Where its second layer comes from is for files beside it to say.
MODEL = """\
import json
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).resolve().parent


def build():
    settings = json.loads((HERE / "settings.json").read_text())
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, settings["width"]), nn.ReLU(), nn.Linear(settings["width"], 3))
    nn.init.ones_(model[1].weight), nn.init.zeros_(model[1].bias)
    if (HERE / "best.pth").exists():
        model[3].load_state_dict(torch.load(HERE / "best.pth"))
    if (HERE / "best.safetensors").exists():
        model[3].load_state_dict(load_file(HERE / "best.safetensors"))
    if (HERE / "swap").exists():  # another program at work, while the build runs
        subprocess.run(["sh", "-c", (HERE / "swap").read_text()], cwd=HERE, check=True)
    return model
"""

DATA = """\
import numpy as np


def samples():
    x = np.load(__file__.replace("data.py", "eval.npy"), mmap_mode="r")
    return x, np.arange(len(x)) % 3
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "model.py").write_text(MODEL)
        (folder / "data.py").write_text(DATA)
        self.settings(4)
        self.weights(folder / "weights.safetensors", 0)
        self.samples(0)
        self.recipe('weights = "weights.safetensors"')

    def recipe(self, weights: str) -> None:
        (self.folder / "recipe.toml").write_text(RECIPE.format(weights=weights))

    def settings(self, width: int) -> None:
        (self.folder / "settings.json").write_text(json.dumps({"width": width}))

    def layer(self, best: int) -> dict[str, torch.Tensor]:
        """A last layer that always answers `best`."""
        return {"weight": torch.zeros(3, 4), "bias": torch.eye(3)[best]}

    def weights(self, path: Path, best: int) -> Path:
        first = {"1.weight": torch.ones(4, 4), "1.bias": torch.zeros(4)}
        save_file(first | {f"3.{name}": value for name, value in self.layer(best).items()}, path)
        os.utime(path, (0, 0))
        return path

    def samples(self, first: int) -> None:
        np.save(self.folder / "eval.npy", np.arange(first, first + 240, dtype=np.float32).reshape(60, 4) / 100)

    def check(self) -> str:
        """The classes that the model of the stored trunk answers; or the error."""
        cache = self.folder / "cache"
        done = in_process("check", self.folder / "recipe.toml", "--json", cache=cache, cwd=self.folder)
        if done.code:
            return f"{done.code} {done.stderr}"
        newest = max(cache.glob("v1/entries/*/*/files/outputs_0.npy"), key=lambda path: path.stat().st_ctime_ns)
        found = json.loads(done.stdout)
        answers = np.load(newest).argmax(1)
        return f"answers {'/'.join(map(str, sorted({*answers})))}, {found['parameters']} parameters"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_other_weights_of_the_same_size_and_time_are_other_weights(project: Project, tmp_path: Path) -> None:
    assert project.check() == "answers 0, 35 parameters"
    weights, other = tmp_path / "weights.safetensors", project.weights(tmp_path / "other", 1)
    time.sleep(2.1)  # the hash of a file so young is not remembered
    assert project.check() == "answers 0, 35 parameters"
    inode = weights.stat().st_ino
    with weights.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(weights, (0, 0))
    assert (weights.stat().st_ino, weights.stat().st_mtime) == (inode, 0)
    assert project.check() == "answers 1, 35 parameters"
    shutil.copy2(project.weights(tmp_path / "third", 2), weights)
    assert project.check() == "answers 2, 35 parameters"


def test_weights_that_are_swapped_under_a_build_spoil_nothing(project: Project, tmp_path: Path) -> None:
    project.weights(tmp_path / "other", 1)
    # build() runs before the weights are read: they are the other's then.
    (tmp_path / "swap").write_text("cp -p weights.safetensors kept && cp -p other weights.safetensors")
    said = project.check()
    assert said.startswith("2 ") and f"{tmp_path / 'weights.safetensors'} changed while the build ran" in said
    assert "nothing that was made of it is stored; run again" in said
    (tmp_path / "swap").unlink()
    shutil.copy2(tmp_path / "kept", tmp_path / "weights.safetensors")
    assert project.check() == "answers 0, 35 parameters"


def test_what_build_and_the_data_function_open_by_themselves_is_part_of_the_result(
    project: Project, tmp_path: Path
) -> None:
    project.recipe("")
    torch.save(project.layer(0), tmp_path / "best.pth")
    assert project.check() == "answers 0, 35 parameters"
    torch.save(project.layer(1), tmp_path / "best.pth")
    assert project.check() == "answers 1, 35 parameters"
    save_file(project.layer(2), tmp_path / "best.safetensors")  # asked for, and not there before
    assert project.check() == "answers 2, 35 parameters"
    save_file(project.layer(1), tmp_path / "best.safetensors")
    project.samples(5)
    assert project.check() == "answers 1, 35 parameters"
    stages = sorted(json.loads(p.read_text())["meta"]["stage"] for p in tmp_path.glob("cache/v1/entries/*/*/*.json"))
    assert stages == ["data", "reference"]  # each has replaced the one before
    for name in ("best.pth", "best.safetensors"):
        (tmp_path / name).unlink()
    project.settings(5)
    assert project.check().endswith("43 parameters")
