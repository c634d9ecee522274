"""A folder of the user's whose files have the names of libraries, of the standard library and of our own folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from release_build import ROOT, SOURCES

from pocketforge.commands.doctor import import_trouble

MODEL = ROOT / "models" / "mlp_digits"
# What people call their files. Each ends the process that imports it in place of the library.
NAMES = ("pipeline", "onnx", "torch", "numpy", "types", "click", "onnxruntime", "copy", "json")
RECIPE = """\
name = "mine"

[model]
definition = "model.py"
weights = "weights.safetensors"

[data]
source = "digits"

[data.preprocess]
resize = [28, 28]
scale = 16.0
mean = [0.5]
std = [0.5]

[[target]]
name = "mine_onnx"
runtime = "onnx"
quantize = { scheme = "static_int8" }

[[budget]]
metric = "accuracy_top1"
limit = 0.5
"""
# Without what imports the quantizer too.
FLOAT = RECIPE.replace('quantize = { scheme = "static_int8" }\n', "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that imports its neighbour data.py, among files with taken names."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"import os\nos.write(2, b'the user\\'s own {name}.py ran\\n')\nos._exit(77)\n"
        )
    shutil.copy(MODEL / "weights.safetensors", folder)
    (folder / "data.py").write_text("WIDTH = 1\n")
    source = (MODEL / "model.py").read_text(encoding="utf-8")
    (folder / "model.py").write_text(
        source.replace("import torch\n", "import data\nimport torch\n\nassert data.WIDTH\n", 1)
    )
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def command(tmp_path: Path) -> str:
    """The console script, as pip writes it: -P would go on to our own processes, and hide what they look for."""
    script = tmp_path / "bin" / "pocketforge"
    script.parent.mkdir()
    script.write_text("from pocketforge.__main__ import run\n\nif __name__ == '__main__':\n    run()\n")
    return str(script)


def run(folder: Path, *argv: str, path: str = SOURCES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(folder.parent / "cache"), "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_build_among_files_with_the_names_of_libraries(folder: Path, command: str) -> None:
    done = run(folder, command, "build", "recipe.toml", "--progress", "plain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict  PASS" in done.stdout and "the user's own" not in done.stdout + done.stderr
    # What is printed is the whole command's time; the report's own ends before its page is drawn and written.
    (printed,) = re.findall(r"^verdict  PASS  \((\S+) s\)$", done.stdout, re.MULTILINE)
    (report,) = folder.glob("build/*/report.json")
    assert float(printed) > json.loads(report.read_text("utf-8"))["wall_s"]


@pytest.mark.parametrize(("entry", "recipe"), [("", FLOAT), (".", RECIPE)], ids=["", "."])
def test_a_working_folder_on_pythonpath_gives_its_modules_to_the_users_code_only(
    folder: Path, entry: str, recipe: str
) -> None:
    # Python itself does not start where its own modules are replaced: that is between the user and Python.
    for name in ("types", "copy", "json"):
        (folder / f"{name}.py").unlink()
    (folder / "nets").mkdir()
    (folder / "model.py").rename(folder / "nets" / "model.py")  # data.py is found by PYTHONPATH alone
    (folder / "recipe.toml").write_text(recipe.replace('"model.py"', '"nets/model.py"'))
    path = os.pathsep.join((entry, SOURCES))
    done = run(folder, "-m", "pocketforge", "check", "recipe.toml", path=path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctor_imports_what_a_stage_would(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "absent_elsewhere.py").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((".", SOURCES)))
    for name in ("types", "copy", "json"):
        (folder / f"{name}.py").unlink()
    assert import_trouble(["onnx", "click"]) == ""
    assert "No module named 'absent_elsewhere'" in import_trouble(["absent_elsewhere"])
