"""The totals of random networks: no network is counted twice, and the document has the recorded figures."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_random_graphs", ROOT / "tests/tools/run_random_graphs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(*seeds: int, code: str = "abc", status: str = "ok") -> list[dict[str, object]]:
    return [{"seed": n, "lane": lane, "status": status, "code": code} for n in seeds for lane in ("fold", "onnx fp32")]


def test_runs_are_added_by_their_code_and_no_network_twice(tool: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tool, "TOOLCHAINS", ("pytest",))
    path = tmp_path / "totals.json"
    tool.record([*lines(3, 1, 2), *lines(9, code="abd", status="wrong")], path)
    tool.record(lines(4), path)
    runs = json.loads(path.read_text())
    assert [(run["code"], run["seeds"]) for run in runs] == [("abc", "1:4"), ("abd", "9"), ("abc", "4")]
    assert "| fold | 5 | 4 | 0 | 0 | 1 | 0 | 0 |" in tool.totals(runs)
    before = path.read_text()
    with pytest.raises(SystemExit, match="network 2 was counted in fold before: give other --seeds"):
        tool.record(lines(2, code="other"), path)
    assert path.read_text() == before


def test_the_document_s_table_is_that_of_the_recorded_runs(tool: ModuleType) -> None:
    runs = json.loads((ROOT / "docs/random_graphs.json").read_text("utf-8"))
    assert tool.totals(runs) in (ROOT / "docs/random_graphs.md").read_text("utf-8")
