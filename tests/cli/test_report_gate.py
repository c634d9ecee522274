"""`report` and `gate`: reading a report back, and what it says about its budgets."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from release_build import SOURCES

from pocketforge.recipe import Budget
from pocketforge.records import Artifact, Check, GateResult, Measurement, Report, StepRecord, TargetRecord
from pocketforge.report.validity import first_fault

HASH = "a" * 64
FAST = tuple(1.0 + 0.001 * (i % 7) for i in range(200))


def measured(metric, value, target, **more):
    return Measurement(metric, value, more.pop("unit", ""), target, HASH, "host", **more)


def make(**changes) -> Report:
    names = ("digits_first_long_name_fp32", "digits_second_long_name_int8")
    targets = tuple(
        TargetRecord(
            name, "onnx", scheme, "built", (Artifact(HASH, "model", f"{name}.onnx", HASH, 1_234_567, 1_000_001),)
        )
        for name, scheme in zip(names, ("fp32", "static_int8"), strict=True)
    )
    measurements = []
    for name in names:
        measurements += [
            measured("size_bytes", 1_234_567.0, name),
            measured("gzip_bytes", 1_000_001.0, name),
            measured("accuracy_top1", 0.9812, name),
            measured("accuracy_drop", 0.0123, name),
            measured("parity_sqnr_db", 31.26, name),
            measured("latency_ms", 1.003, name, device="host", samples=FAST, unit="ms"),
            measured("load_ms", 12.5, name, device="host", unit="ms"),
        ]
    kept = Budget("accuracy_top1", 0.98)
    gates = tuple(GateResult(kept, name, "", measurements[2], 0.9812, "PASS") for name in names)
    steps = (
        StepRecord("data", "trunk", HASH, "reused", 3.2),
        StepRecord("quantize", "+".join(names), HASH, "run", 12.34),
    )
    report = Report(
        "digits", HASH, "PASS", targets, steps, tuple(measurements), gates, environment={"host": "here"}, wall_s=42.0
    )
    return dataclasses.replace(report, **changes)


@pytest.fixture
def write(tmp_path):
    def write(report: Report) -> Path:
        path = tmp_path / "out" / "report.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(report.to_json()))
        return path

    return write


def failing(verdict="FAIL", severity="error"):
    good = make()
    budget = Budget("latency_ms", 1.0, severity=severity, percentile="p90")
    gate = GateResult(budget, good.targets[0].name, "host", good.measurements[5], 1.006, verdict, "0.006 ms over it")
    return dataclasses.replace(good, gates=(*good.gates, gate), verdict="PASS" if severity == "warning" else "FAIL")


def test_report_shows_files_measurements_budgets_steps_and_the_verdict(cli, write):
    done = cli("report", write(make()))
    assert (done.code, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    first, second = "digits_first_long_name_fp32", "digits_second_long_name_int8"
    assert [first, "onnx", "fp32", "built", "1,234,567", "1,000,001"] in rows
    assert [second, "onnx", "static_int8", "built", "1,234,567", "1,000,001"] in rows
    assert [first, "0.9812", "+0.0123", "31.3", "12.5", "1.003", "0.001", "1.006"] in rows
    assert [second, "1", "of", "1", "accuracy_top1", "≥", "0.98:", "6", "%"] in rows
    assert not [row for row in rows if row[:1] == ["PASS"]]
    assert ["quantize", first, "(+1", "more)", "run", "12.3"] in rows
    assert rows[-1] == ["verdict", "PASS", "(42.0", "s)"]


def test_a_budget_is_told_that_is_kept_with_little_room_and_all_of_them_when_asked(cli, write, tmp_path):
    good = make()
    (size, near) = (
        GateResult(Budget("size_bytes", limit), good.targets[0].name, "", good.measurements[0], 1_234_567.0, "PASS")
        for limit in (2_000_000, 1_250_000)
    )
    path = write(make(gates=(*good.gates, size, near)))
    for command in (["report", path], ["gate", path]):
        rows = [line.split() for line in cli(*command).stdout.splitlines()]
        told = [row for row in rows if row[:1] == ["PASS"]]
        assert told == [["PASS", good.targets[0].name, "size_bytes", "≤", "1,250,000", "1,234,567", "1", "%"]]
        assert [good.targets[0].name, "3", "of", "3", "size_bytes", "≤", "1,250,000:", "1", "%"] in rows
        rows = [line.split() for line in cli(*command, "--verbose").stdout.splitlines()]
        assert len([row for row in rows if row[:1] == ["PASS"]]) == 4
        assert ["PASS", good.targets[1].name, "accuracy_top1", "≥", "0.98", "0.9812", "6", "%"] in rows
    assert cli("report", path, "--verbose", "-o", tmp_path / "x.txt").code == 0
    assert (tmp_path / "x.txt").read_text().count("\nPASS ") == 4
    done = cli("report", path, "--verbose", "--format", "json")
    assert done.code == 2 and "--verbose is for tables, found --format json" in done.stderr


def test_report_takes_the_folder_too_and_gives_json_back_unchanged(cli, write):
    report = make()
    path = write(report)
    done = cli("report", path.parent, "--json")
    assert done.json() == json.loads(json.dumps(report.to_json()))


def test_a_regressions_error_is_shown_where_there_is_no_accuracy(cli, write):
    error = measured("mean_absolute_error", 0.0421, "digits_first_long_name_fp32")
    done = cli("report", write(make(measurements=(error,))))
    assert "MAE" in done.stdout and "0.0421" in done.stdout
    assert "top-1" not in done.stdout and "p50" not in done.stdout


def test_too_few_samples_for_an_interval_are_shown_as_not_known(cli, write):
    few = measured("latency_ms", 2.0, "digits_first_long_name_fp32", device="host", samples=(1.0, 2.0, 3.0), unit="ms")
    done = cli("report", write(make(measurements=(few,))))
    assert ["digits_first_long_name_fp32", "2.000", "?", "2.800"] in [line.split() for line in done.stdout.splitlines()]
    assert "inf" not in done.stdout and "nan" not in done.stdout


def test_what_went_wrong_is_said_with_its_target(cli, write):
    good = make()
    checks = (Check("sqnr", "at least 20 dB", "3 dB", False), Check("io", "a", "a", True))
    wrong = dataclasses.replace(good.targets[0], status="wrong", checks=checks)
    failed = dataclasses.replace(good.targets[1], status="failed", error="onnx [x86] ended with SIGSEGV")
    report = dataclasses.replace(good, targets=(wrong, failed), verdict="ERROR", warnings=("stayed float: [conv]",))
    text = cli("report", write(report)).stdout
    assert "wrong    digits_first_long_name_fp32: sqnr: wanted at least 20 dB, found 3 dB\n" in text
    assert "failed   digits_second_long_name_int8: onnx [x86] ended with SIGSEGV\n" in text
    assert "warning  stayed float: [conv]\n" in text
    assert "verdict  ERROR" in text and ": io:" not in text


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (make(), 0),
        (failing("FAIL"), 1),
        (failing("MISSING"), 1),
        (failing("INCONCLUSIVE"), 1),
        (failing("FAIL", "warning"), 0),
        (make(verdict="ERROR"), 3),
        (make(gates=()), 0),
    ],
    ids=["kept", "FAIL", "MISSING", "INCONCLUSIVE", "only a warning", "build failed", "no budgets"],
)
def test_the_gates_exit_code(cli, write, report, code):
    path = write(report)
    before = path.read_bytes()
    assert cli("gate", path).code == code
    assert cli("gate", path.parent, "--json").code == code
    assert path.read_bytes() == before


def test_the_gate_says_what_was_not_kept_and_why(cli, write):
    done = cli("gate", write(failing()))
    rows = [line.split() for line in done.stdout.splitlines()]
    name = "digits_first_long_name_fp32"
    assert ["FAIL", name, "latency_ms", "p90", "on", "host", "≤", "1", "1.006", "-1", "%"] in rows
    assert f"FAIL {name}: latency_ms p90 on host: 0.006 ms over it\n" in done.stdout
    warned = cli("gate", write(failing("FAIL", "warning"))).stdout
    assert "FAIL (warning)" in warned
    found = cli("gate", write(failing()), "--json").json()
    assert [(g["verdict"], g["budget"]["limit"]) for g in found] == [("PASS", 0.98), ("PASS", 0.98), ("FAIL", 1.0)]


def test_the_gate_says_whose_verdicts_it_gives_and_a_waiver_ends(cli, write):
    (wrong,) = (gate for gate in failing().gates if gate.verdict == "FAIL")
    for day, code in (("2099-01-01", 0), ("2020-01-01", 1)):
        waived = dataclasses.replace(wrong, waiver=f"until {day} by ana: known")
        done = cli("gate", write(dataclasses.replace(make(), gates=(waived,))))
        assert done.code == code, done.stdout
        assert ("the waiver has expired since" in done.stdout) == (code == 1)
        assert "the verdicts of the build that wrote it: --recipe RECIPE judges by" in done.stderr


def test_a_target_that_failed_verify_fails_the_gate(cli, write):
    good = make()
    wrong = dataclasses.replace(good.targets[0], status="wrong")
    done = cli("gate", write(dataclasses.replace(good, targets=(wrong, good.targets[1]), verdict="FAIL")))
    assert done.code == 1
    assert "targets that failed verify: digits_first_long_name_fp32" in done.stderr


def test_a_build_that_did_not_finish_is_said(cli, write):
    done = cli("gate", write(make(verdict="ERROR")))
    assert done.code == 3 and "did not finish" in done.stderr


RECIPE = """\
name = "digits"
[model]
definition = "m.py"
[data]
source = "digits"
[[target]]
name = "digits_first_long_name_fp32"
runtime = "onnx"
[[budget]]
metric = "{metric}"
limit = {limit}
"""


@pytest.mark.parametrize(
    ("metric", "limit", "code", "verdict"),
    [
        ("accuracy_top1", 0.5, 0, "PASS"),
        ("accuracy_top1", 0.99, 1, "FAIL"),
        ("latency_ms", 5, 0, "PASS"),
        ("latency_ms", 0.5, 1, "FAIL"),
        ("latency_ms", 1.003, 1, "INCONCLUSIVE"),
        ("macs", 10, 1, "MISSING"),
    ],
)
def test_the_gate_judges_by_another_recipes_budgets(cli, write, tmp_path, metric, limit, code, verdict):
    recipe = tmp_path / "strict.toml"
    recipe.write_text(RECIPE.format(metric=metric, limit=limit))
    done = cli("gate", write(make()), "--recipe", recipe, "--json")
    assert done.code == code
    (found,) = done.json()
    assert (found["verdict"], found["budget"]["metric"]) == (verdict, metric)


def test_the_gate_takes_shipped_recipes_and_says_when_there_is_none(cli, write):
    path = write(make())
    found = cli("gate", path, "--recipe", "shipped:digits_cnn", "--json")
    assert found.code == 1 and {g["verdict"] for g in found.json()} == {"MISSING"}
    done = cli("gate", path, "--recipe", "gone.toml")
    assert (done.code, done.stdout) == (2, "") and "no recipe file at gone.toml" in done.stderr


def broken(**changes):
    return json.dumps({**make().to_json(), **changes})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("not json", "Expecting value"),
        ("[]", "schema version 1, found none"),
        ("{}", "schema version 1, found none"),
        ('{"schema_version": 99}', "schema version 1, found 99"),
        ('{"schema_version": 1}', "not a whole report"),
        (broken(targets="abc"), "not a whole report"),
        (broken(gates=[{}]), "not a whole report"),
        (broken(surprise=1), "not a whole report: keys that this version does not know (surprise) @ $\n  hint: "),
        (broken(wall_s=math.nan), "report.wall_s: wanted a finite number, found NaN"),
        (broken(wall_s=-math.inf), "report.wall_s: wanted a finite number, found -Infinity"),
        (broken(wall_s=12.625).replace("12.625", "1e999"), "report.wall_s: wanted a finite number, found Infinity"),
        (broken(verdict="GREAT"), 'report.verdict: wanted ["PASS", "FAIL", "ERROR"], found "GREAT"'),
        (broken(wall_s="long"), 'report.wall_s: wanted number, found "long"'),
        ("\udcff", "can't decode"),
    ],
)
@pytest.mark.parametrize("command", ["report", "gate"])
def test_what_is_no_report_exits_2(cli, tmp_path, command, text, said):
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = cli(command, path)
    assert (done.code, done.stdout) == (2, "")
    assert f"cannot read the report {path}" in done.stderr and said in done.stderr


@pytest.mark.parametrize("command", ["report", "gate"])
def test_no_report_says_what_writes_one(cli, tmp_path, command):
    done = cli(command, tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert f"no report at {tmp_path / 'report.json'}\n  hint: pocketforge build writes one" in done.stderr


@pytest.mark.parametrize("columns", [80, 58])
def test_every_number_can_be_read_in_a_terminal(write, columns):
    """Names may be folded, numbers and verdicts never."""
    ours, theirs = pty.openpty()
    path = write(failing())
    # Too long a name for its row: something has to give way.
    path.write_text(path.read_text().replace("second_long_name", "second_" + "long_" * 8 + "name"))
    command = [sys.executable, "-m", "pocketforge", "report", str(path)]
    env = {
        **os.environ,
        "PYTHONPATH": SOURCES,
        "COLUMNS": str(columns),
        "LINES": "50",
        "TERM": "xterm",
        "NO_COLOR": "1",
    }
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(ours)
    assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode()).splitlines()
    tables = [line for line in lines if not line.startswith("FAIL digits")]
    assert [line for line in tables if len(line) > columns] == []
    words = {word for line in lines for word in line.split()}
    assert {"1,234,567", "1,000,001", "0.9812", "+0.0123", "31.3", "12.5", "1.003", "0.001", "1.006"} <= words
    assert {"FAIL", "run"} <= words
    if columns == 80:
        assert {"static_int8", "accuracy_top1", "built", "quantize"} <= words


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("targets.0.facts", {"runtimes": 3}, "report.targets[0].facts.runtimes: wanted object, found 3"),
        ("targets.0.runtime", 3, 'report.targets[0].runtime: wanted ["executorch"'),
        ("steps.0.lane", {}, "report.steps[0].lane: wanted string, found {}"),
        ("steps.0.status", ["x"], 'found ["x"]'),
        ("agreement", [{}], "report.agreement[0]."),
        ("warnings.0", 7, "report.warnings[0]: wanted string, found 7"),
    ],
)
def test_what_is_no_whole_report_is_said_to_be_none(cli, write, path, value, said):
    file = write(make(warnings=("one",)))
    spoilt = json.loads(file.read_text())
    assert first_fault(spoilt) == ""
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = spoilt
    for key in parents:
        place = place[key]
    place[last] = value
    file.write_text(json.dumps(spoilt))
    done = cli("report", file)
    assert done.code == 2 and said in done.stderr, done


def test_control_characters_of_a_report_are_shown_and_its_json_stays_json(cli, write):
    evil = "a\x1b[2J\x07\u202eb\nverdict  PASS\x7f[red]"
    report = make(verdict="FAIL", warnings=(evil,))
    targets = (dataclasses.replace(report.targets[0], name=evil, status="failed", error=evil), *report.targets[1:])
    file = write(dataclasses.replace(report, targets=targets, recipe=evil))
    for args in (("report", file), ("gate", file), ("report", "compare", file, file)):
        done = cli(*args)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout + done.stderr), done
        assert not re.search("^verdict  PASS", done.stdout + done.stderr, re.MULTILINE)
    shown = cli("report", file).stdout
    assert r"a\x1b[2J\x07\u202eb" in shown and r"\x7f[red]" in shown
    found = cli("report", file, "--json")
    assert found.json()["recipe"] == evil and "\x7f" not in found.stdout and "\x1b" not in found.stdout
