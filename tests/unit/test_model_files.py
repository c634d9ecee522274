"""The files of a definition are found without importing torch, and without running them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pocketforge.errors import ModelError
from pocketforge.model.files import definition_files


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__slash__", "/")
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(root: Path, definition: str = "model.py") -> list[str]:
    return [path.relative_to(root).as_posix() for path in definition_files(definition, lambda p: root / p)]


def test_siblings_recursively(tmp_path):
    write(
        tmp_path,
        model="import torch\nimport layers\nfrom blocks.inner import Block\ndef build():\n    import late",
        layers="from helpers import *\nraise RuntimeError('never run')",
        helpers="import layers",
        late="",
        unused="",
        blocks__slash____init__="",
        blocks__slash__inner="from . import sister\nfrom ..helpers import x\nfrom .deep import y",
        blocks__slash__sister="",
        blocks__slash__deep="",
        blocks__slash__unused="",
    )
    assert names(tmp_path) == [
        "blocks/__init__.py",
        "blocks/deep.py",
        "blocks/inner.py",
        "blocks/sister.py",
        "helpers.py",
        "late.py",
        "layers.py",
        "model.py",
    ]


def test_from_package_import_module(tmp_path):
    write(tmp_path, model="from parts import head, NAME", parts__slash____init__="NAME = 1", parts__slash__head="")
    assert names(tmp_path) == ["model.py", "parts/__init__.py", "parts/head.py"]


def test_a_namespace_folder(tmp_path):
    write(tmp_path, model="import parts.head", parts__slash__head="")
    assert names(tmp_path) == ["model.py", "parts/head.py"]


def test_nothing_outside_the_folder(tmp_path):
    write(tmp_path, outside="", inner__slash__model="from .. import outside\nimport json, os.path")
    assert names(tmp_path, "inner/model.py") == ["inner/model.py"]


def test_other_kinds(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"x")
    folder = tmp_path / "bert"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "vocab.txt").write_text("")
    assert names(tmp_path, "a.pt2") == ["a.pt2"]
    assert names(tmp_path, "transformers:bert") == ["bert/config.json", "bert/sub/vocab.txt"]
    assert names(tmp_path, "torchvision:resnet18") == names(tmp_path, "timm:resnet18") == []


@pytest.mark.parametrize(
    ("definition", "words"),
    [("no.py", "there is no file"), ("no.pt2", "there is no file"), ("transformers:no", "there is no folder")],
)
def test_missing(tmp_path, definition, words):
    with pytest.raises(ModelError, match=words):
        names(tmp_path, definition)


def test_not_python(tmp_path):
    write(tmp_path, model="import layers", layers="def f(:\n")
    with pytest.raises(ModelError, match=r"layers\.py:1 is not valid Python"):
        names(tmp_path)


def test_light(tmp_path):
    code = (
        "import sys, pocketforge.model.files, pocketforge.data.files, pocketforge.data\n"
        "from pathlib import Path\n"
        "pocketforge.data.fingerprint_files('digits', Path)\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
