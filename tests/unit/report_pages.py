"""Reports for the tests of pages: one as it was written, and the same with names that mean harm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pocketforge.records import Report
from pocketforge.report.comparison import Change, Compared
from pocketforge.report.page import comparison
from pocketforge.report.target_comparison import compare_targets

REPORTS = Path(__file__).with_name("reports")
# Each for another reader: HTML, its attributes, style sheets, templates, terminals, writing direction, XML.
EVIL = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "a\u202egpj.\x1b[31m{{ 7 * 7 }}{% raw %}</style>]]>&amp;\udcff\x00",
)
RIGHT_TO_LEFT = "דגם קטן"


def as_written(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    return data


def report_of(name: str) -> Report:
    return Report.from_json(as_written(name))


def with_times(data: dict[str, Any]) -> dict[str, Any]:
    """The same with the times that reports have since: two steps at once, what was reused has none."""
    began = 0.0
    for at, step in enumerate(data["steps"]):
        step["cpu_s"] = None if at == 5 else round(1.3 * step["wall_s"], 3)
        if step["status"] != "reused":
            step["began_s"], step["ended_s"] = round(began, 3), round(began + step["wall_s"], 3)
            began += step["wall_s"] / 2
    return data


def with_ranges(data: dict[str, Any], name: str = "") -> dict[str, Any]:
    """The same with ranges of its static targets. name: of every tensor; by default each its own."""
    for target in data["targets"]:
        if target["scheme"] in ("static_int8", "mixed"):
            rows = [
                {"tensor": name or f"features.{at}.0 (output of conv2d)", "low": -0.1 * at, "high": 1.0 + at * at}
                for at in range(40)
            ]
            rows[0] |= {"scale": 0.00392, "zero_point": -128}
            target["facts"]["calibration"] = {"ranges": rows, "left_out": 7}
    return data


def hostile() -> Report:
    """Of scheme mixed, a codebook and plain int8, whose targets, files, checks, layers and words are EVIL."""
    data = as_written("quantized")
    names = dict(zip([target["name"] for target in data["targets"]], EVIL, strict=True))
    data["recipe"], data["verdict"] = f"{EVIL[0]}{RIGHT_TO_LEFT}", "FAIL"
    for target in data["targets"]:
        target["name"] = names[target["name"]]
        for artifact in target["artifacts"]:
            artifact["path"] = artifact["kind"] = EVIL[1]
        for check in target["checks"]:
            check.update(name=EVIL[0], wanted=EVIL[1], found=EVIL[2])
        for layer in target["facts"].get("mixed", {}).get("study", {}).get("layers", ()):
            layer["name"] = EVIL[1]
    data["targets"][0].update(status="failed", error=f"{EVIL[2]}\n{EVIL[0]}", hint=EVIL[1])
    data["targets"][1]["checks"][0]["passed"] = False
    for each in (*data["measurements"], *data["gates"]):
        each["target"] = names[each["target"]]
        each["device"] = each["device"] and EVIL[0]
    for each in data["agreement"]:
        each["targets"] = [names[name] for name in each["targets"]]
    for step in data["steps"]:
        step["lane"] = "+".join(names.get(name, name) for name in step["lane"].split("+"))
        step["message"] = EVIL[2]
    with_ranges(with_times(data), EVIL[1])
    data["warnings"] = data["data"] = list(EVIL)
    data["environment"] = {"host": EVIL[2], EVIL[0]: EVIL[1]}
    return Report.from_json(data)


def hostile_comparison() -> str:
    """The page that compares it with itself of another day."""
    report = hostile()
    other = dataclasses.replace(report, measurements=report.measurements[:3], verdict="FAIL")
    compared = compare_targets(report, other, lambda one, two: EVIL[1], target=None, other=None, device=None)
    counted = Compared("a", "b", EVIL[0], (1, 2), (Change(EVIL[1], 1, 2),), (Change(EVIL[2], 0, 2),))
    compared[0] = dataclasses.replace(compared[0], counts=(counted,), unread=EVIL[2], layers=EVIL)
    return comparison.write(report, other, compared, 5)
