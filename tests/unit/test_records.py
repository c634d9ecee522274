"""A report goes to JSON and comes back the same; anything that is not a whole report of this version is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any

import pytest
from how_measured import in_processes
from hypothesis import given
from hypothesis import strategies as st

from pocketforge.files import indented_json
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.recipe import Budget
from pocketforge.records import (
    SCHEMA_VERSION,
    Artifact,
    Check,
    GateResult,
    Measurement,
    Report,
    StepRecord,
    TargetFacts,
    TargetRecord,
)

LATENCY = Measurement(
    "latency_ms", 1.25, "ms", "a", "ab" * 32, "host", "host", (1.25, 1.5, 1.0), in_processes([1, 1, 1])
)
SIZE = Measurement("size_bytes", 1000.0, "bytes", "a", "ab" * 32, "host")
REPORT = Report(
    recipe="r",
    recipe_sha256="cd" * 32,
    verdict="FAIL",
    targets=(
        TargetRecord(
            "a",
            "onnx",
            "fp32",
            "built",
            (Artifact("key", "model", "a.onnx", "ab" * 32, 1000, 600),),
            (Check("loads", "yes", "yes", True),),
            ("stayed float: fc",),
            TargetFacts(opset=18, runtimes={"ONNX Runtime 1": "works"}, more={"spoken_by_a_plug_in": [{"x": 1}]}),
        ),
        TargetRecord("b", "tflite", "static_int8", "failed", error="the process died"),
    ),
    steps=(StepRecord("export", "a", "key", "run", 1.5, log="logs/x.log"), StepRecord("verify", "a", "k2", "skipped")),
    measurements=(LATENCY, SIZE),
    gates=(
        GateResult(Budget("latency_ms", 1.0, percentile="p90"), "a", "host", LATENCY, 1.4, "FAIL", "over"),
        GateResult(Budget("size_bytes", 2000.0, severity="warning"), "a", "", SIZE, 1000.0, "PASS"),
        GateResult(Budget("macs", 5.0), "b", "", None, None, "MISSING", "not measured"),
    ),
    reference=Reference(10, 20, {"accuracy_top1": 0.9}, 50, (ModelTensor("x", (1, 3), "float32"),), ()),
    environment={"torch": "2.0", "host": "h"},
    warnings=("a: stayed float: fc",),
    wall_s=12.5,
)


def as_json() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    return data


def test_a_report_comes_back_from_json_the_same() -> None:
    assert Report.from_json(as_json()) == REPORT


def test_a_report_says_its_version() -> None:
    assert as_json()["schema_version"] == SCHEMA_VERSION == 1


def test_only_a_verdict_of_pass_or_a_mere_warning_does_not_block() -> None:
    def result(verdict: Any, severity: Any) -> GateResult:
        return GateResult(Budget("macs", 1.0, severity=severity), "a", "", None, None, verdict)

    verdicts = ["PASS", "FAIL", "MISSING", "INCONCLUSIVE"]
    assert [result(v, "error").blocks for v in verdicts] == [False, True, True, True]
    assert not any(result(v, "warning").blocks for v in verdicts)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_report_of_another_version_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match=f"^wanted a report of schema version 1, found {version}$"):
        Report.from_json(as_json() | {"schema_version": version})


@pytest.mark.parametrize("data", [{}, [], "report", 3, None, [1]])
def test_what_is_no_report_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"^wanted a report of schema version 1, found none$"):
        Report.from_json(data)


@pytest.mark.parametrize(
    "key", ["recipe", "recipe_sha256", "verdict", "targets", "steps", "measurements", "gates", "warnings"]
)
def test_a_report_without_a_part_is_refused(key: str) -> None:
    data = as_json()
    del data[key]
    with pytest.raises(ValueError, match="not a whole report"):
        Report.from_json(data)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (["targets", 0], "name"),
        (["targets", 0], "artifacts"),
        (["targets", 0, "artifacts", 0], "sha256"),
        (["targets", 0, "checks", 0], "passed"),
        (["steps", 0], "status"),
        (["measurements", 0], "artifact_sha256"),
        (["measurements", 0], "samples"),
        (["gates", 0], "budget"),
        (["gates", 0], "measurement"),
        (["gates", 0, "budget"], "limit"),
        (["gates", 0, "measurement"], "value"),
    ],
)
def test_a_report_that_lacks_something_inside_is_refused(path: list[Any], key: str) -> None:
    data = as_json()
    place: Any = data
    for part in path:
        place = place[part]
    del place[key]
    with pytest.raises(ValueError, match="not a whole report"):
        Report.from_json(data)


@pytest.mark.parametrize("path", [[], ["targets", 0], ["steps", 0], ["measurements", 0], ["gates", 0]])
def test_a_report_that_holds_something_unknown_is_refused(path: list[Any]) -> None:
    data = as_json()
    place: Any = data
    for part in path:
        place = place[part]
    place["surprise"] = 1
    with pytest.raises(ValueError, match="not a whole report"):
        Report.from_json(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part) | st.lists(st.floats(-1, 1)),
        max_leaves=20,
    ),
    st.integers(1, 3),
)
def test_json_of_a_report_is_pythons_own(value: object, indent: int) -> None:
    assert indented_json(value, indent) == json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)


NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_no_report_with_a_number_that_json_has_not_is_written(bad: float) -> None:
    spoilt = dataclasses.replace(REPORT, measurements=(dataclasses.replace(LATENCY, samples=(1.0, bad)), SIZE))
    with pytest.raises(ValueError, match=r"^report\.measurements\[0\]\.samples\[1\] is NaN or infinite"):
        spoilt.to_text()
    assert json.loads(REPORT.to_text()) == as_json()


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize(
    ("path", "key"),
    [
        (["measurements", 0], "value"),
        (["measurements", 0, "samples"], 1),
        (["measurements", 1, "how"], "of_a_plug_in"),
        (["targets", 0, "facts", "spoken_by_a_plug_in", 0], "x"),
        (["gates", 1, "budget"], "limit"),
        ([], "wall_s"),
    ],
)
def test_a_report_with_such_a_number_is_refused(path: list[Any], key: Any, bad: float) -> None:
    data = as_json()
    place: Any = data
    for part in path:
        place = place[part]
    place[key] = bad
    with pytest.raises(ValueError, match=r"not a whole report: .*wanted a finite number.* @ \$"):
        Report.from_json(data)


def test_a_budget_that_breaks_its_rules_is_refused() -> None:
    data = as_json()
    data["gates"][1]["budget"]["device"] = "host"
    with pytest.raises(ValueError, match="does not depend on a device"):
        Report.from_json(data)


@given(st.integers(0, len(json.dumps(as_json())) - 1))
def test_a_truncated_report_is_refused(length: int) -> None:
    text = json.dumps(as_json())[:length]
    with pytest.raises(ValueError):  # noqa: PT011 json's error or ours, both ValueErrors
        Report.from_json(json.loads(text))


junk = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)


@given(st.data(), junk)
def test_a_spoilt_report_is_read_or_refused_and_nothing_else(data: Any, value: Any) -> None:
    spoilt = copy.deepcopy(as_json())
    place: Any = spoilt
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
        else:
            break
    place[key] = value
    try:
        report = Report.from_json(spoilt)
    except ValueError:
        return
    assert isinstance(report, Report)
