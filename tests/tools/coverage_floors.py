"""Prints what share of each core room's statements and branches the tests ran; fails where it is below its floor.

    python tests/tools/coverage_floors.py

Reads .coverage of the working folder. Floors are in pyproject.toml ([tool.pocketforge.coverage_floors], in per cent):
what was reached, rounded down. Counted is what runs in pytest's own processes: stages, and commands that tests start
as programs, are not seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "pipeline/pocketforge/"


def room_of(path: str) -> str:
    """`pipeline/pocketforge/plan/steps.py` → plan; `android_bench/adb.py` → android_bench."""
    return path.removeprefix(PACKAGE).partition("/")[0]


def counts_of(report: Path) -> tuple[Counter[str], Counter[str]]:
    """Room → statements and branches that ran, and all of them. report: what `coverage json` writes."""
    ran: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for path, about in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        summary = about["summary"]
        ran[room_of(path)] += summary["covered_lines"] + summary["covered_branches"]
        there[room_of(path)] += summary["num_statements"] + summary["num_branches"]
    return ran, there


def below(ran: Counter[str], there: Counter[str], floors: dict[str, int]) -> list[str]:
    """The rooms that ran less than their floor, or of which nothing was seen. Compared as counts: a float of a share
    would fail at its own floor."""
    return [room for room in sorted(floors) if not there[room] or 100 * ran[room] < floors[room] * there[room]]


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors: dict[str, int] = project["tool"]["pocketforge"]["coverage_floors"]
    coverage = Coverage(config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "coverage.json")
        coverage.json_report(outfile=str(report))
        ran, there = counts_of(report)
    for room, floor in sorted(floors.items()):
        share = f"{100 * ran[room] / there[room]:5.1f} %" if there[room] else "nothing"
        print(f"{room:<14} {share}  of {there[room]:>5} statements and branches, at least {floor} %")
    too_low = below(ran, there, floors)
    if too_low:
        print(f"coverage is below its floor in: {', '.join(too_low)}", file=sys.stderr)
    return 1 if too_low else 0


if __name__ == "__main__":
    sys.exit(main())
