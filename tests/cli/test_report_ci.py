"""`report --format`: what CI systems read, by their own readers, with names that would be markup there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pocketforge.outcomes.bench import ProcessTimes
from pocketforge.recipe import Budget
from pocketforge.records import Artifact, Check, GateResult, HowHere, Measurement, Report, StepRecord, TargetRecord
from pocketforge.report import comment, markdown
from pocketforge.report.code_quality import write as code_quality
from pocketforge.report.difference import verdict_changes
from pocketforge.report.junit import write as junit
from pocketforge.report.open_metrics import write as open_metrics

HASH = "a" * 64
EVIL = 'x|"<script>alert(1)</script>\\\u202e\x1b[2J\n@someone #1 `--> ]]>&amp;{}\x00'
# What Jenkins' xUnit plug-in takes (its junit-10.xsd): element → attributes it may have, those it must, its children.
RULES = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {
            "name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package",
            "file", "log", "url",
        },
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "time", "classname", "group"}, {"name"}, {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip


def sitting(centre: float) -> Measurement:
    """A latency as the host gives it: five processes of 40 samples."""
    samples = tuple(centre * (1 + 0.001 * (i % 7)) for i in range(200))
    how = HowHere(1, (0,), 5, "onnxruntime 1", 0.0, (ProcessTimes(40, centre, 1.0, 1000),) * 5, "cpu")
    return Measurement("latency_ms", centre * 1.003, "ms", "good", HASH, "host", "host", samples, how)


def make(name: str = "digits", latency: float = 1.0) -> Report:
    size = Measurement("size_bytes", 1234.0, "bytes", "good", HASH, "host")
    drop = Measurement("accuracy_drop", 0.02, "", "bad", HASH, "host")
    fast = sitting(latency)
    top1 = Measurement("accuracy_top1", 0.98, "", "good", HASH, "host")
    targets = (
        TargetRecord("good", "onnx", "fp32", "built", (Artifact(HASH, "model", "good.onnx", HASH, 1234, 1000),)),
        TargetRecord("bad", "tflite", "static_int8", "wrong", (), (Check(name, "20 dB", name, False),)),
        TargetRecord(name, "onnx", "fp16", "failed", error=EVIL, hint="mend it"),
    )
    gates = (
        GateResult(Budget("size_bytes", 2000.0), "good", "", size, 1234.0, "PASS"),
        GateResult(Budget("size_bytes", 2000.0), "good", "", size, 1234.0, "PASS"),
        GateResult(
            Budget("size_bytes", 1000.0, severity="warning"), "good", "", size, 1234.0, "FAIL", "234 bytes over"
        ),
        GateResult(Budget("accuracy_drop", 0.01), "bad", "", drop, 0.02, "FAIL", "0.01 over the maximum"),
        GateResult(Budget("latency_ms", 1.0), "good", "host", fast, 1.0, "INCONCLUSIVE", "the interval holds it"),
        GateResult(Budget("latency_ms", 1.0), "bad", name, None, None, "MISSING", "not measured"),
    )
    return Report(
        name, HASH, "ERROR", targets, (StepRecord("data", "trunk", HASH, "run", 1.0),), (size, drop, fast, top1), gates,
        environment={"host": "here"}, warnings=(EVIL,), wall_s=1234.5,
    )  # fmt: skip


@pytest.fixture
def shown(cli, tmp_path):
    def shown(form: str, report: Report, *options: object) -> str:
        path = tmp_path / "report.json"
        path.write_text(json.dumps(report.to_json()), encoding="utf-8")
        done = cli("report", path, "--format", form, *options)
        assert (done.code, done.stderr) == (0, "")
        again = cli("report", path, "--format", form, *options)
        assert again.stdout == done.stdout, "the same report gives the same bytes"
        return done.stdout

    return shown


def test_junit_is_what_jenkins_takes_and_each_budget_has_a_case_of_its_own(shown):
    for name in ("digits", EVIL):
        text = shown("junit", make(name))
        root = ElementTree.fromstring(text)
        for element in root.iter():
            allowed, needed, children = RULES[element.tag]
            assert needed <= set(element.attrib) <= allowed and {child.tag for child in element} <= children
        for suite in root:
            names = [case.get("name") for case in suite]
            assert len(set(names)) == len(names), "GitLab shows one of two cases of one name"
        assert "\x1b" not in text and "\u202e" not in text


def test_junitparser_reads_missing_and_inconclusive_as_failures_and_warnings_as_none(shown):
    suites = {suite.name: suite for suite in JUnitXml.fromstring(shown("junit", make()).encode())}
    assert [(s.tests, s.failures, s.errors) for s in suites.values()] == [(5, 1, 0), (4, 3, 0), (1, 0, 1)]
    found = {case.name: case.result for suite in suites.values() for case in suite}
    for case, kind, message in (
        ("budget: latency_ms p50 on host ≤ 1", "INCONCLUSIVE", "INCONCLUSIVE: the interval holds it"),
        ("budget: latency_ms p50 on digits ≤ 1", "MISSING", "MISSING: not measured"),
        ("budget: accuracy_drop ≤ 0.01", "FAIL", "FAIL: 0.01 over the maximum"),
    ):
        (failure,) = found[case]
        assert isinstance(failure, Failure) and (failure.type, failure.message) == (kind, message)
    assert found["budget: size_bytes ≤ 2,000"] == found["budget: size_bytes ≤ 2,000 (2)"] == []
    (warned,) = [c for c in suites["good"] if c.name == "budget: size_bytes ≤ 1,000 (warning)"]
    assert warned.is_passed and warned.system_out == "warning: FAIL: 234 bytes over"
    (error,) = next(iter(suites["digits"])).result
    assert isinstance(error, Error)


def test_gitlab_finds_every_problem_with_a_fingerprint_that_stays(shown):
    issues = json.loads(shown("code-quality", make(EVIL)))
    assert [issue["severity"] for issue in issues] == ["minor", "major", "major", "major", "critical", "blocker"]
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["location"]["lines"]["begin"] == 1 and not Path(issue["location"]["path"]).is_absolute()
        assert "\x1b" not in issue["description"]
    # The same problem with another value is no new one.
    other = make(EVIL)
    worse = dataclasses.replace(other.gates[3], value=0.5, reason="0.49 over the maximum")
    moved = dataclasses.replace(other, gates=(*other.gates[:3], worse, *other.gates[4:]))
    assert [i["fingerprint"] for i in json.loads(code_quality(moved))] == [i["fingerprint"] for i in issues]


def test_openmetrics_is_read_by_prometheus_own_parser(shown):
    for name in ("digits", EVIL):
        families = {f.name: f for f in text_string_to_metric_families(shown("openmetrics", make(name)))}
        (size,) = families["pocketforge_size_bytes"].samples
        assert size.value == 1234.0 and size.labels["target"] == "good" and size.labels["recipe"].startswith(name[:2])
        counts = {s.labels["verdict"]: s.value for s in families["pocketforge_budgets"].samples}
        assert counts == {"PASS": 2, "FAIL": 2, "MISSING": 1, "INCONCLUSIVE": 1}
        assert families["pocketforge_passes"].samples[0].value == 0 and "pocketforge_waived" not in families
    report = make(EVIL)
    bad = next(gate for gate in report.gates if gate.verdict == "FAIL")
    waived = dataclasses.replace(bad, waiver='until 2099-01-01 by "me": known\nfor a while')
    text = open_metrics(dataclasses.replace(report, gates=(waived,)))
    (sample,) = next(f for f in text_string_to_metric_families(f"{text}\n") if f.name == "pocketforge_waived").samples
    assert sample.value == 1 and sample.labels["verdict"] == "FAIL" and sample.labels["target"]
    assert sample.labels["waiver"].startswith('until 2099-01-01 by "me": known') and sample.labels["budget"]


def test_the_benchmark_has_what_is_better_when_smaller(shown):
    entries = {entry["name"]: entry for entry in json.loads(shown("benchmark", make()))}
    assert set(entries) == {"digits/good: size_bytes", "digits/bad: accuracy_drop", "digits/good: latency_ms on host"}
    assert entries["digits/good: size_bytes"]["unit"] == "bytes" and entries["digits/bad: accuracy_drop"]["unit"] == "1"
    assert entries["digits/good: latency_ms on host"]["range"] == "± 0.01003"


def test_a_comment_says_what_is_wrong_first_and_nothing_in_it_is_markup(shown):
    text = shown("comment", make(EVIL))
    lines = text.splitlines()
    assert lines[0].startswith("<!-- pocketforge:") and lines[0].endswith(" -->") and lines[3] == "**Fails the build**"
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render("\n".join(lines[1:]))
    assert "<script" not in rendered and "@someone" not in rendered and "<!--" not in rendered
    assert "&lt;script" in rendered and "| MISSING |" in text


def test_a_comment_shows_what_changed_since_a_baseline(shown, tmp_path):
    before = make(latency=1.0)
    passed = dataclasses.replace(before.gates[3], verdict="PASS", reason="")
    size = dataclasses.replace(before.measurements[0], value=1000.0)
    gone = Measurement("macs", 5.0, "", "good", HASH, "pytorch")
    old = dataclasses.replace(
        before,
        gates=(*before.gates[:3], passed, *before.gates[4:]),
        measurements=(size, *before.measurements[1:3], gone),
    )
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old.to_json()), encoding="utf-8")
    for form in ("comment", "markdown"):
        lines = shown(form, make(latency=1.005), "--baseline", path).splitlines()
        assert r"- accuracy\_drop ≤ 0.01 of bad: PASS, now FAIL" in lines
        assert r"| good | size\_bytes | 1,000 | 1,234 | \+23.40% |" in lines
        assert r"| good | latency\_ms on host | 1.003 | 1.00801 | \+0.50%, within what two runs differ by |" in lines
        assert r"| good | accuracy\_top1 |  | 0.98 | new |" in lines
        assert r"| good | macs | 5 |  | not measured |" in lines
    slower = shown("comment", make(latency=1.1), "--baseline", path)
    assert r"| good | latency\_ms on host | 1.003 | 1.1033 | \+10.00% |" in slower


def test_a_format_without_a_comparison_says_which_have_one(cli, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(make().to_json()), encoding="utf-8")
    done = cli("report", path, "--format", "junit", "--baseline", path)
    assert done.code == 2 and "markdown, comment" in done.stderr and done.stdout == ""


def test_what_is_too_long_is_cut_with_a_sentence_that_says_so():
    gate = make().gates[3]
    many = dataclasses.replace(make(), gates=tuple(dataclasses.replace(gate, reason="𝒳" * 300) for _ in range(500)))
    text = comment.write(many)
    assert 60_000 < len(text.encode("utf-16-le")) // 2 <= comment.MOST_CHARACTERS
    assert text.splitlines()[-1].startswith("… ") and "a comment may have 65,000 characters" in text
    left = int(text.splitlines()[-1].split()[1].replace(",", ""))
    whole = len(markdown.bounded(list(comment_lines(many)), 10**9, "x").splitlines())
    assert len(text.splitlines()) - 2 + left == whole
    long = dataclasses.replace(make(), warnings=("\\" * 5_000_000,))
    assert len(markdown.write(long)) < 20_000
    assert "left out" not in comment.write(make())


def comment_lines(report: Report) -> list[str]:
    """All of them, without the limit."""
    most, comment.MOST_CHARACTERS = comment.MOST_CHARACTERS, 10**9
    try:
        return comment.write(report).splitlines()
    finally:
        comment.MOST_CHARACTERS = most


def test_of_two_budgets_that_differ_in_their_limits_alone_each_is_held_against_its_own():
    made = make()
    strict, loose = (dataclasses.replace(made.gates[0], budget=Budget("size_bytes", limit)) for limit in (1500.0, 2e3))
    before = dataclasses.replace(made, gates=(strict, dataclasses.replace(loose, verdict="FAIL")))
    after = dataclasses.replace(made, gates=(dataclasses.replace(strict, verdict="FAIL"), loose))
    assert verdict_changes(before, after) == [
        "size_bytes ≤ 1,500 of good: PASS, now FAIL",
        "size_bytes ≤ 2,000 of good: FAIL, now PASS",
    ]


def test_a_step_of_no_target_that_failed_is_a_failure_in_every_format():
    made = make()
    steps = (dataclasses.replace(made.steps[0], status="failed", message="disk full"),)
    report = dataclasses.replace(made, targets=made.targets[:1], gates=(), steps=steps)
    suites = {suite.name: suite for suite in JUnitXml.fromstring(junit(report).encode())}
    assert [(s.tests, s.failures, s.errors) for s in suites.values()] == [(1, 0, 0), (1, 0, 1)]
    (issue,) = json.loads(code_quality(report))
    assert issue["severity"] == "blocker" and "disk full" in issue["description"]
    assert "**Fails the build**" in comment.write(report) and "disk full" in markdown.write(report)
