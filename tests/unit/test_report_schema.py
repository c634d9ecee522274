"""schema.json is what docs/report_schema.py makes of the types in records/, and says what a report may hold."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from pocketforge.records import Empty, Report, Verdict
from pocketforge.registries import DEVICES, RUNTIMES, STAGES
from pocketforge.report.terminal import show_report
from pocketforge.report.validity import SCHEMA, first_fault

ROOT = Path(__file__).resolve().parents[2]
WRITTEN: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_schema", ROOT / "docs" / "report_schema.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_schema_is_of_these_types(script: ModuleType) -> None:
    assert SCHEMA.read_text(encoding="utf-8") == script.schema(), "run: python docs/report_schema.py"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(WRITTEN)


def test_every_object_is_closed_and_every_field_has_its_word() -> None:
    """A key that nobody knows is a fault of ours; a phone says of itself what it likes."""
    for name, kind in {"Report": WRITTEN, **WRITTEN["$defs"]}.items():
        for each in kind.get("anyOf", [kind]):
            assert each.get("additionalProperties") is (name == "PhoneIs") or each.get("maxProperties") == 0, name
            assert all(field["description"] for field in each.get("properties", {}).values()), name


def test_names_are_those_of_the_registries() -> None:
    fields = {name: kind.get("properties", {}) for name, kind in WRITTEN["$defs"].items()}
    assert fields["Measurement"]["metric"] == fields["Measurement"]["target"] | {
        "description": fields["Measurement"]["metric"]["description"]
    }, "any name: a recipe may bring metrics of its own"
    assert fields["Measurement"]["via"]["enum"] == [*DEVICES.ours, "pytorch"]
    assert fields["TargetRecord"]["runtime"]["enum"] == list(RUNTIMES.ours)
    assert fields["StepRecord"]["stage"]["enum"] == list(STAGES)
    assert fields["GateResult"]["verdict"]["enum"] == list(typing.get_args(Verdict))


def test_what_is_always_written_is_required(script: ModuleType) -> None:
    assert set(WRITTEN["required"]) == {field.name for field in dataclasses.fields(Report)}
    facts = WRITTEN["$defs"]["TargetFacts"]
    assert facts["required"] == [] and "more" not in facts["properties"]

    @dataclasses.dataclass(frozen=True)
    class Part:
        """A part.

        Attributes:
            size_bytes: Of it.
            share: Of all, where it is known.
        """

        OMIT_UNSET: typing.ClassVar[bool] = True

        size_bytes: int
        share: float | None = None

    part = script._Writer().of_class(Part)
    assert part["required"] == ["size_bytes"]
    assert part["properties"]["size_bytes"] == {"type": "integer", "minimum": 0, "description": "Of it."}
    assert part["properties"]["share"]["type"] == "number", "it is left out, and never null"


@pytest.mark.parametrize(
    ("measured", "verdict", "fits"),
    [(None, "MISSING", True), (None, "PASS", False), ({}, "MISSING", False)],
)
def test_a_verdict_without_a_value_is_missing(measured: Any, verdict: str, fits: bool) -> None:
    gate = {"verdict": verdict, "measurement": measured, "value": None if measured is None else 1.0}
    rule = {key: WRITTEN["$defs"]["GateResult"][key] for key in ("if", "then", "else")}
    assert jsonschema.Draft202012Validator(rule).is_valid(gate) == fits


def test_the_first_fault_has_its_place() -> None:
    assert first_fault({"schema_version": 1}) == "report.agreement is missing"


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "reports").glob("*.json")), ids=lambda path: path.stem)
def test_reports_written_before_are_valid_and_read(path: Path) -> None:
    """What an earlier version wrote under this schema version, each file of one form that there was; long lists cut."""
    written = json.loads(path.read_text(encoding="utf-8"))
    assert [fault.json_path for fault in jsonschema.Draft202012Validator(WRITTEN).iter_errors(written)] == []
    assert first_fault(written) == ""
    report = Report.from_json(written)
    show_report(report)
    assert report.compression != Empty(), "finetuned: its settings had no type then"
