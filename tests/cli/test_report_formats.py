"""`report --format`: each row of FORMATS writes a report, also into a file; a new one needs nothing but its row."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from xml.etree import ElementTree

import pytest

from pocketforge.recipe import Budget
from pocketforge.records import Artifact, Check, GateResult, Measurement, Report, StepRecord, TargetRecord
from pocketforge.report.formats import FORMATS, ReportFormat

HASH = "a" * 64
EVIL = "a|b\x1b[2J <b>\x00 `x` ]]>&\nverdict  PASS"
PLUGIN = Path(__file__).resolve().parents[1] / "plugins" / "report_format"
SIZE = Measurement("size_bytes", 1_234_567.0, "bytes", "good", HASH, "host")
DROP = Measurement("accuracy_drop", 0.0123, "", "bad", HASH, "host")
REPORT = Report(
    "digits",
    HASH,
    "FAIL",
    (
        TargetRecord(
            "good", "onnx", "fp32", "built", (Artifact(HASH, "model", "good.onnx", HASH, 1_234_567, 1_000_000),),
            (Check("loads", "yes", "yes", True),),
        ),
        TargetRecord("bad", "tflite", "static_int8", "wrong", (), (Check("SQNR", "20 dB", "3 dB", False),)),
        TargetRecord("none", "onnx", "fp16", "failed", error=EVIL),
    ),
    (StepRecord("data", "trunk", HASH, "run", 1.0),),
    (SIZE, DROP),
    (
        GateResult(Budget("size_bytes", 2_000_000.0), "good", "", SIZE, 1_234_567.0, "PASS"),
        GateResult(Budget("accuracy_drop", 0.01), "bad", "", DROP, 0.0123, "FAIL", "0.0023 over the maximum"),
        GateResult(Budget("latency_ms", 5.0, severity="warning"), "bad", "host", None, None, "MISSING", "not measured"),
    ),
    environment={"host": "here"},
    warnings=(EVIL,),
    wall_s=42.0,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT.to_json()), encoding="utf-8")
    return file


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The format of tests/plugins/report_format, of which nothing else in the tree knows."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    # As its entry point would.
    monkeypatch.setattr(FORMATS, "_added", {"csv": resolve_name("csv_format:FORMAT")})
    yield
    sys.modules.pop("csv_format", None)


@pytest.mark.parametrize("name", sorted(FORMATS.ours))
def test_a_file_holds_what_stdout_shows_and_its_ending_says_the_format(cli, path, tmp_path, name):
    shown = cli("report", path, "--format", name)
    assert (shown.code, shown.stderr) == (0, "")
    file = tmp_path / f"written{FORMATS[name].ending}"
    done = cli("report", path, "--output", file)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert file.read_text(encoding="utf-8") == shown.stdout
    assert "digits" in shown.stdout
    # What holds values alone has no checks.
    assert name in ("openmetrics", "benchmark") or ("20 dB" in shown.stdout and "3 dB" in shown.stdout)


def test_json_is_the_report_itself(cli, path):
    done = cli("report", "show", path, "--format", "json")
    assert done.json() == json.loads(path.read_text()) and done.stdout == cli("report", path, "--json").stdout


def test_markdown_has_the_verdict_every_budget_and_what_went_wrong(cli, path):
    lines = cli("report", path, "--format", "markdown").stdout.splitlines()
    assert lines[0] == "# digits: FAIL"
    assert "| good | onnx | fp32 | built | 1,234,567 |" in lines
    assert r"| FAIL | bad | accuracy\_drop | ≤ 0.01 | 0.0123 |" in lines
    assert r"| MISSING \(warning\) | bad | latency\_ms p50 on host | ≤ 5 |  |" in lines
    assert r"- FAIL bad: accuracy\_drop ≤ 0.01: 0.0023 over the maximum" in lines
    assert r"- wrong bad: SQNR: wanted 20 dB, found 3 dB" in lines
    (evil,) = [line for line in lines if line.startswith("- warning")]
    assert evil == r"- warning: a\|b\\x1b\[2J \<b\>\\x00 \`x\` \]\]\>\&\\nverdict  PASS"


def test_junit_has_a_case_for_each_check_and_each_budget(cli, path):
    suites = ElementTree.fromstring(cli("report", path, "--format", "junit").stdout)
    assert [suites.get(name) for name in ("name", "tests", "failures", "errors")] == ["digits", "8", "2", "1"]
    assert [(suite.get("name"), len(suite)) for suite in suites] == [("good", 3), ("bad", 4), ("none", 1)]
    failures = {case.get("name"): case[0].get("message") for case in suites.iter("testcase") if len(case)}
    assert failures["verify: SQNR"] == "wanted 20 dB, found 3 dB"
    assert failures["budget: accuracy_drop ≤ 0.01"] == "FAIL: 0.0023 over the maximum"
    assert failures["built"] == "a|b\\x1b[2J <b>\\x00 `x` ]]>&\\nverdict  PASS"
    (warning,) = suites.iter("system-out")
    assert warning.text == "warning: MISSING: not measured"


def test_a_format_from_outside_is_written(cli, path, plugin, tmp_path):
    done = cli("report", path, "--format", "csv")
    assert done.stdout.splitlines()[2] == "bad,accuracy_drop,0.01,0.0123,FAIL"
    assert cli("report", path, "-o", tmp_path / "x.csv").code == 0
    assert (tmp_path / "x.csv").read_text() == done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "jsn"], "no report format is named 'jsn'; did you mean 'json'?"),
        (["--format", "text", "--json"], "--json is --format json, found --format text too"),
        (
            ["--output", "x.pdf"],
            "x.pdf has the ending of no report format (.txt, .json, .md, .comment.md, .html, .xml, ",
        ),
        (["--format", "text", "--output", "no/such/folder/x.txt"], "no/such/folder"),
    ],
)
def test_what_cannot_be_written_is_said(cli, path, options, said):
    done = cli("report", path, *options)
    assert done.code in (2, 3) and done.stdout == "" and said in done.stderr


def test_a_row_that_lacks_something_is_none():
    row: dict[str, Any] = {"module": "m", "title": "t", "ending": ".m"}
    for change, said in (({"module": ""}, "a module"), ({"title": ""}, "a title"), ({"ending": "m"}, "with a dot")):
        with pytest.raises(ValueError, match=said):
            ReportFormat(**{**row, **change})
    for field in dataclasses.fields(ReportFormat):
        if field.default is not dataclasses.MISSING:
            continue
        with pytest.raises(TypeError, match=field.name):
            ReportFormat(**{name: value for name, value in row.items() if name != field.name})
