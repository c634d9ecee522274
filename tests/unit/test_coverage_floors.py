"""The floors of coverage: counted by room, compared as counts, and held."""

from __future__ import annotations

import json
import runpy
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = runpy.run_path(str(ROOT / "tests" / "tools" / "coverage_floors.py"))


def summary(lines: int, of: int, branches: int = 0, of_branches: int = 0) -> dict[str, object]:
    counted = {"covered_lines": lines, "num_statements": of}
    return {"summary": {**counted, "covered_branches": branches, "num_branches": of_branches}}


def test_statements_and_branches_are_counted_by_room(tmp_path: Path) -> None:
    files = {
        "pipeline/pocketforge/plan/steps.py": summary(8, 10, 1, 2),
        "pipeline/pocketforge/plan/roles.py": summary(2, 4),
        "android_bench/adb.py": summary(5, 5),
    }
    (tmp_path / "coverage.json").write_text(json.dumps({"files": files}))
    ran, there = FLOORS["counts_of"](tmp_path / "coverage.json")
    assert (ran, there) == (Counter(plan=11, android_bench=5), Counter(plan=16, android_bench=5))


def test_a_room_fails_below_its_floor_and_where_nothing_was_seen() -> None:
    ran, there = Counter(plan=57, run=56), Counter(plan=100, run=100)
    assert FLOORS["below"](ran, there, {"plan": 57, "run": 57, "cli": 0}) == ["cli", "run"]


def test_every_core_room_is_measured_and_has_a_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    measured = {source.rpartition("/")[2] for source in project["tool"]["coverage"]["run"]["source"]}
    floors = project["tool"]["pocketforge"]["coverage_floors"]
    core = {
        "recipe",
        "facts",
        "plan",
        "run",
        "results",
        "history",
        "release",
        "report",
        "commands",
        "cli",
        "android_bench",
    }
    assert measured == floors.keys() == core and all(floor > 50 for floor in floors.values())
