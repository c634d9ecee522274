"""Toolchains as a range: the table, what `nox -s compat` installs of it, and a file that answers otherwise."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT

from pocketforge.facts import pins
from pocketforge.facts.tested import TESTED, Range


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"compat_{name}", ROOT / "tests" / "compat" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_of_each_range_is_the_pinned_one() -> None:
    wanted = pins.required()
    assert {name: f"=={known.newest}" for name, known in TESTED.items()} == {name: wanted[name] for name in TESTED}
    assert not any(pins.standing(known.oldest, f"<={known.newest}") for known in TESTED.values())


def test_all_of_the_table_is_installed() -> None:
    ends = program("versions").ends_of(ROOT)
    assert ends["names"] == [name for name in TESTED if name != "torch"]
    assert ends["oldest"] == [f"{name}=={TESTED[name].oldest}" for name in ends["names"]]
    assert ends["newest"] == [f"{name}=={TESTED[name].newest}" for name in ends["names"]]


@pytest.mark.parametrize(
    ("version", "standing"),
    [("1.0", "older"), ("1.1", "tested"), ("1.1.5", "tested"), ("1.2", "recommended"), ("1.2+cpu", "recommended"),
     ("1.3", "newer"), ("main", "another")],
)  # fmt: skip
def test_a_version_is_recommended_tested_or_not_known(version: str, standing: str) -> None:
    assert Range("1.1", "1.2").standing(version) == standing


@pytest.mark.parametrize(("apart", "code"), [(0.0, 0), (0.5, 0), (0.6, 1)])
def test_files_that_answer_otherwise_in_the_other_versions_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], apart: float, code: int
) -> None:
    compat = program("run")
    wanted = np.array([[0.0, 0.5, 2.0]])
    (tmp_path / "onnx_static_int8.onnx").touch()
    np.save(tmp_path / "onnx_static_int8.onnx.npy", wanted)
    (tmp_path / "versions.json").write_text(json.dumps({**compat.versions(), "onnx": "1.0"}))
    monkeypatch.setattr(compat, "answers", lambda *_: wanted + apart)
    assert compat.cross(tmp_path) == code
    said = capsys.readouterr().out
    assert f"onnx 1.0 → {compat.versions()['onnx']}" in said and ("WRONG onnx_static_int8.onnx" in said) == bool(code)


def test_no_file_at_all_is_not_taken_for_a_success(tmp_path: Path) -> None:
    compat = program("run")
    (tmp_path / "versions.json").write_text(json.dumps(compat.versions()))
    assert compat.cross(tmp_path) == 1


def test_the_page_has_the_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"| | {' | '.join(TESTED)} |" in text
    assert f"| oldest | {' | '.join(known.oldest for known in TESTED.values())} |" in text
    assert f"| newest, pinned | {' | '.join(known.newest for known in TESTED.values())} |" in text
