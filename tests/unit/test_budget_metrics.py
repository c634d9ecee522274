"""METRICS is the one place of a metric: one that lacks something is no row, and a new one needs nothing but its row."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from pocketforge.errors import RecipeError
from pocketforge.recipe import METRICS, Budget, Metric, device
from pocketforge.recipe.budget import THE_TASKS, Place, budget_metrics, task_metrics
from pocketforge.recipe.ranges import Range
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import Artifact, GateResult, Measurement, Report, TargetRecord
from pocketforge.records.measured import HowCompared
from pocketforge.report.terminal import show_report
from pocketforge.results.file_metrics import file_values
from pocketforge.results.gate import judge

PLUGIN = Path(__file__).resolve().parents[1] / "plugins" / "metric"
ROW: dict[str, typing.Any] = {
    "unit": "mJ", "better": "lower", "place": "timed", "title": "energy mJ", "form": ".1f", "limits": Range(0, 1e6),
}  # fmt: skip
RECIPE = """\
name = "small"
[model]
definition = "m.py"
[data]
source = "digits"
[[target]]
name = "a"
runtime = "onnx"
[[budget]]
metric = "{metric}"
limit = {limit}
"""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The metric of tests/plugins/metric, of which nothing else in the tree knows."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    # As its entry point would.
    monkeypatch.setattr(METRICS, "_added", {"xz_bytes": resolve_name("xz_metric:METRIC")})
    yield "xz_bytes"
    sys.modules.pop("xz_metric", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"better": "more"}, "better of a metric must be one of higher, lower, found 'more'"),
        ({"place": "phone"}, "place of a metric must be one of file, model, outputs, timed, emulated, found 'phone'"),
        ({"title": ""}, "title of a metric is empty"),
        ({"form": ""}, "form of a metric is empty"),
        ({"form": "%.1f"}, "form of a metric must be as format takes it"),
        ({"of_task": True}, "a metric of a task is of the outputs"),
        ({"taken_by": "energy:joules"}, "taken_by is `module:function` of a metric of the file"),
        ({"place": "file", "taken_by": "joules"}, "taken_by is `module:function`"),
    ],
)
def test_a_row_that_lacks_something_is_none(change: dict[str, typing.Any], said: str) -> None:
    assert Metric(**ROW).sign == "≤"
    with pytest.raises(ValueError, match=said):
        Metric(**{**ROW, **change})


def test_every_field_that_has_no_answer_of_its_own_has_to_be_given() -> None:
    for field in dataclasses.fields(Metric):
        if field.default is dataclasses.MISSING:
            with pytest.raises(TypeError, match=field.name):
                Metric(**{name: value for name, value in ROW.items() if name != field.name})


def test_each_metric_is_a_budgets_or_a_tasks_and_some_kind_of_device_gives_it() -> None:
    given = {place for kind in device.KINDS.values() for place in kind.GIVES}
    assert given == set(typing.get_args(Place)) - {"file", "model"}
    assert set(budget_metrics()) | set(task_metrics()) == {*METRICS, THE_TASKS}
    for name, metric in METRICS.items():
        for end, unit in (("_bytes", "bytes"), ("_ms", "ms"), ("_db", "dB")):
            assert name.endswith(end) == (metric.unit == unit), name


def test_a_budget_takes_the_name_and_the_range_from_the_row(plugin: str) -> None:
    assert parse_recipe(RECIPE.format(metric=plugin, limit=1000)).budgets == (Budget(plugin, 1000.0),)
    with pytest.raises(RecipeError) as refused:
        parse_recipe(RECIPE.format(metric=plugin, limit=0))
    assert refused.value.faults == (
        "budget[0]: limit of xz_bytes must be more than 0 and at most 1,125,899,906,842,624 bytes, found 0.0",
    )
    with pytest.raises(RecipeError) as unknown:
        parse_recipe(RECIPE.format(metric="xz_byte", limit=1))
    assert unknown.value.faults == ("budget[0].metric: unknown value 'xz_byte'; did you mean 'xz_bytes'?",)


def test_what_a_budget_is_on_has_a_column_also_where_it_is_the_users_own(capsys: pytest.CaptureFixture[str]) -> None:
    how = HowCompared(8, "onnxruntime", output="face")
    names = ("auroc", "auroc_drop", "binary_f1", "pitch_accuracy", "pitch_accuracy_drop", "told_only")
    found = [Measurement(name, 0.875, "", "a", "0" * 64, "host", how=how) for name in names]
    budgets = (Budget("face.auroc", 0.5), Budget("auroc_drop", 0.5), Budget("pitch_accuracy", 0.5))
    gates = tuple(GateResult(each, "a", "", None, 0.875, "PASS") for each in budgets)
    target = TargetRecord("a", "onnx", "fp32", "built", (Artifact("k", "model", "a.onnx", "0" * 64, 4000, 40),))
    show_report(Report("small", "0" * 64, "PASS", (target,), (), tuple(found), gates))
    shown = capsys.readouterr().out
    table = shown[shown.index("\nmeasured") :].partition("\n\n")[0]
    assert ["face", "face"] in [line.split() for line in table.splitlines()]
    assert ["target", "AUROC", "pitch_accuracy"] in [line.split() for line in table.splitlines()]
    assert ["a", "0.8750", "0.875"] in [line.split() for line in table.splitlines()]


def test_a_metric_from_outside_is_taken_gated_and_shown(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(b"0123" * 1000)
    (measured,) = file_values(file, ["xz_bytes"])
    assert measured[0] == plugin and 20 < measured[1] < 200
    found = Measurement(plugin, measured[1], METRICS[plugin].unit, "a", "0" * 64, "host")
    gates = judge(parse_recipe(RECIPE.format(metric=plugin, limit=10)), [found])
    assert [(gate.verdict, gate.value) for gate in gates] == [("FAIL", measured[1])]
    artifact = Artifact("k", "model", "a.onnx", "0" * 64, 4000, 40)
    target = TargetRecord("a", "onnx", "fp32", "built", (artifact,))
    show_report(Report("small", "0" * 64, "FAIL", (target,), (), (found,), gates))
    shown = capsys.readouterr().out
    rows = [line.split()[:6] for line in shown.splitlines()]
    assert ["FAIL", "a", "xz_bytes", "≤", "10", f"{measured[1]:g}"] in rows
    assert f"{measured[1] - 10:g} bytes over the maximum" in shown
    heads = [line.split() for line in shown.splitlines()]
    assert ["xz"] in heads and ["target", "bytes"] in heads
