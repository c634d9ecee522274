"""What `import pocketforge` promises (docs/python_api.md): its names and signatures, and what a report is to a program.

Builds by it are in tests/e2e/test_python_programs.py.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import multiprocessing
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
import yaml
from made_files import linear_onnx
from report_pages import EVIL, REPORTS, as_written, hostile
from test_light_imports import HEAVY, imported_by

import pocketforge
from pocketforge import errors, events
from pocketforge.recipe.part import left_out, with_targets
from pocketforge.recipe.toml import parse_recipe

# A name that goes, an argument that goes or moves, a new one that must be given: a new major version.
FUNCTIONS = {
    "build": "(recipe: 'PathLike', *, targets: 'str | Sequence[str]' = (), out: 'PathLike | None' = None, "
    "cache: 'PathLike | None' = None, jobs: 'int' = 1, refresh: 'bool' = False, keep_failed: 'bool' = False, "
    "phones: 'str | Sequence[str]' = (), history: 'str | None' = None, remote_store: 'str | None' = None, "
    "engine: 'str' = 'local', scheduler: 'str' = '', certificates: 'PathLike | None' = None, insecure: 'bool' = False, "
    "progress: 'bool | Callable[[events.Event], None]' = False) -> 'Report'",
    "load_report": "(path: 'PathLike') -> 'Report'",
    "gate": "(report: 'Report | PathLike', recipe: 'PathLike | None' = None, *, "
    "runs: 'Report | PathLike | Sequence[Report | PathLike]' = ()) -> 'Gated'",
    "bench": "(what: 'PathLike', *, targets: 'str | Sequence[str]' = (), inputs: 'PathLike | Sequence[PathLike]' = (), "
    "devices: 'str | Sequence[str]' = (), profiles: 'str | Sequence[str]' = (), cores: 'str' = '', "
    "calibration: 'PathLike | None' = None, explain: 'bool' = False, what_if: 'str' = '', "
    "clock_ghz: 'float | None' = None, against: 'str' = '', tolerance: 'float' = 0.05, "
    "noise_floor: 'bool' = False, runner: 'PathLike | None' = None, runner_library: 'PathLike | None' = None, "
    "rounds: 'int | None' = None, processes: 'int | None' = None, threads: 'int | None' = None, "
    "samples: 'int | None' = None, seconds: 'float | None' = None, cache: 'PathLike | None' = None, "
    "progress: 'bool | Callable[[str], None]' = False) -> 'Benched'",
    "inspect": "(file: 'PathLike') -> 'Description'",
}
CLASSES = {
    "Report": {
        *("record", "path", "page", "release", "checkpoint", "errors", "recipe", "verdict", "passed", "exit_code"),
        *("history", "not_kept"),
        *("targets", "measurements", "budgets", "steps", "warnings", "environment"),
        *("from_json", "to_json", "save", "show", "to_pandas"),
    },
    "Gated": {"budgets", "wrong", "finished", "verdict", "passed", "exit_code"},
    "Benched": {"rows", "compared", "passed", "to_json"},
    "Description": {
        *("format", "name", "sha256", "size_bytes", "gzip_bytes", "inputs", "outputs", "ops", "dtypes", "weights"),
        *("parameters", "delegation", "undelegated_ops", "metadata"),
    },
    "TargetRecord": {
        *("name", "runtime", "scheme", "status", "artifacts", "checks", "warnings", "facts", "error", "hint")
    },
    "Measurement": {"metric", "value", "unit", "target", "artifact_sha256", "via", "device", "samples", "how"},
    "GateResult": {
        "budget",
        "target",
        "device",
        "measurement",
        "value",
        "verdict",
        "reason",
        "metric",
        "waiver",
        "blocks",
    },
    "StepRecord": {
        "stage",
        "lane",
        "key",
        "status",
        "wall_s",
        "message",
        "log",
        "peak_rss_bytes",
        "cpu_s",
        "began_s",
        "ended_s",
    },
}
ERRORS = {
    *("PocketforgeError", "RecipeError", "ModelError", "ChangedInput", "ReleaseError", "StoreError", "DamagedEntry"),
    *("RefusedEntry", "RemoteStoreError"),
    *("PluginFailed", "StageFailed", "ToolFailed", "ToolMissing", "DeviceError", "DeviceUnavailable", "DeviceTimeout"),
}


def finetuned() -> pocketforge.Report:
    return pocketforge.load_report(REPORTS / "finetuned.json")


def test_the_public_names_are_these() -> None:
    assert {*pocketforge.__all__} == {*FUNCTIONS, *CLASSES, "errors", "events", "__version__"}
    assert {*pocketforge.__all__} <= {*dir(pocketforge)}
    assert sorted(pocketforge.__all__) == pocketforge.__all__
    for name, signature in FUNCTIONS.items():
        function: Any = getattr(pocketforge, name)
        assert str(inspect.signature(function)) == signature, name
        given = {*inspect.signature(function).parameters}
        arguments = (inspect.getdoc(function) or "").partition("Args:")[2].partition("Raises:")[0]
        told = {*re.findall(r"^    +(\w+): ", arguments, re.MULTILINE)}
        assert told == given or (len(given) == 1 and not told), f"{name}: its docstring is of {told ^ given}"
    for name, attributes in CLASSES.items():
        public = {each for each in dir(getattr(pocketforge, name)) if not each.startswith("_")}
        assert public - {"ALWAYS"} == attributes, name
    ours = {
        name for name, each in vars(errors).items() if isinstance(each, type) and each.__module__ == errors.__name__
    }
    assert ours - {"Interrupted"} == ERRORS
    assert re.match(r"\d+\.\d+\.\d+", pocketforge.__version__)
    with pytest.raises(AttributeError, match="module 'pocketforge' has no attribute 'biuld'"):
        pocketforge.biuld  # type: ignore[attr-defined] # noqa: B018


def test_importing_it_imports_nothing(repo_root: Path) -> None:
    modules = imported_by(repo_root, "-c", "import pocketforge, sys; assert 'pocketforge.errors' not in sys.modules")
    assert modules & (HEAVY | {"click", "rich", "cattrs", "jinja2", "pandas"}) == set()
    reading = f"import pocketforge; assert pocketforge.load_report({str(REPORTS / 'finetuned.json')!r}).targets"
    assert imported_by(repo_root, "-c", reading) & (HEAVY | {"click", "pandas"}) == set()


def test_types_are_told_to_checkers(repo_root: Path) -> None:
    assert (repo_root / "pipeline" / "pocketforge" / "py.typed").is_file()
    report = finetuned()
    # `nox -s types` reads these.
    assert_type(report, pocketforge.Report)
    assert_type(pocketforge.gate(report), pocketforge.Gated)
    assert_type(report.measurements, tuple[pocketforge.Measurement, ...])
    assert_type(report.budgets, tuple[pocketforge.GateResult, ...])
    assert_type(report.path, Path | None)


def test_a_report_is_its_json(tmp_path: Path) -> None:
    report = finetuned()
    content: Any = report.to_json()
    assert pocketforge.Report.from_json(content) == report == finetuned()
    assert report != pocketforge.load_report(REPORTS / "quantized.json")
    assert (report.recipe, report.verdict, report.passed, bool(report), report.exit_code) == (
        content["recipe"], "PASS", True, True, 0,
    )  # fmt: skip
    assert [target.name for target in report.targets] == [target["name"] for target in content["targets"]]
    assert [each.value for each in report.measurements] == [each["value"] for each in content["measurements"]]
    assert [each.verdict for each in report.budgets] == [each["verdict"] for each in content["gates"]]
    assert [each.key for each in report.steps] == [each["key"] for each in content["steps"]]
    assert dict(report.environment) == content["environment"] and list(report.warnings) == content["warnings"]
    kept = sum(each["verdict"] == "PASS" for each in content["gates"])
    assert repr(report) == (
        f"<pocketforge.Report {content['recipe']!r}: PASS, {len(content['targets'])} targets, "
        f"{kept} of {len(content['gates'])} budgets kept>"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.path = None  # type: ignore[misc]
    saved = report.save(tmp_path / "report.json")
    assert json.loads(saved.read_text(encoding="utf-8")) == content
    # What lies beside a report.json is found with it.
    (tmp_path / "release").mkdir()
    (tmp_path / "report.html").touch()
    beside = pocketforge.load_report(tmp_path)
    assert beside == report
    assert (beside.path, beside.page, beside.release, beside.checkpoint) == (
        saved, tmp_path / "report.html", tmp_path / "release", None,
    )  # fmt: skip


def test_it_is_saved_and_shown_as_the_command_line_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketforge.report.formats import written

    report = finetuned()
    assert capsys.readouterr() == ("", "")
    assert report.save(tmp_path / "r.md").read_text("utf-8") == written("markdown", report.record) + "\n"
    assert report.save(tmp_path / "r.txt", "junit").read_text("utf-8").startswith("<?xml")
    for path, form, words in (("r.docx", None, "ending of no report format"), ("r.md", "wrod", "no report format")):
        with pytest.raises(errors.RecipeError, match=words):
            report.save(tmp_path / path, form)
    with pytest.raises(errors.StoreError, match="nowhere"):
        report.save(tmp_path / "nowhere" / "r.md")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.md", "r.txt"]
    assert capsys.readouterr() == ("", "")
    report.show(verbose=True)
    shown = capsys.readouterr()
    assert shown.err == "" and "verdict  PASS" in shown.out and "all budgets" in shown.out
    # In a notebook rich would show it as a picture of a terminal, line by line, and write nothing into a file.
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    report.show(verbose=True)
    assert capsys.readouterr() == shown
    assert "verdict  PASS" in report.save(tmp_path / "r.txt").read_text("utf-8")


def test_a_notebook_shows_a_row_for_each_target_and_hostile_text_as_text() -> None:
    html = finetuned()._repr_html_()
    assert html.count("<tr>") == 1 + len(finetuned().targets) and "<strong>PASS</strong>" in html
    quantized = pocketforge.load_report(REPORTS / "quantized.json")
    assert all(f"<td>{target.name}</td>" in quantized._repr_html_() for target in quantized.targets)
    evil = pocketforge.Report(hostile())._repr_html_()
    assert "&lt;script&gt;" in evil and "\\x1b[31m" in evil
    assert not re.search(r"<(script|img)|\x1b|\u202e|\x00|\udcff", evil)
    assert len(evil) < 40_000
    failed = pocketforge.Report(hostile())
    assert EVIL[2] not in repr(failed)


def test_rows_as_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    report, content = finetuned(), as_written("finetuned")
    frame: Any = report.to_pandas()
    assert list(frame["value"]) == [each["value"] for each in content["measurements"]]
    latency = frame[frame["metric"] == "latency_ms"]
    assert len(latency) and (latency["low"] <= latency["high"]).all() and (latency["samples"] > 0).all()
    assert set(frame["runtime"]) == {target["runtime"] for target in content["targets"]}
    for rows, key in (("budgets", "gates"), ("targets", "targets"), ("steps", "steps")):
        assert len(report.to_pandas(rows)) == len(content[key])  # type: ignore[arg-type]
    empty = pocketforge.Report(dataclasses.replace(report.record, gates=()))
    assert list(empty.to_pandas("budgets").columns) == list(report.to_pandas("budgets").columns)
    with pytest.raises(errors.RecipeError, match="a report has no rows 'budget'; did you mean 'budgets'"):
        report.to_pandas("budget")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(errors.ToolMissing, match="to_pandas needs pandas"):
        report.to_pandas()


def test_what_is_no_pass_is_not_taken_for_one(tmp_path: Path) -> None:
    content = as_written("finetuned")
    assert pocketforge.gate(REPORTS / "finetuned.json")
    wrong = {**content, "verdict": "FAIL", "targets": [{**each, "status": "wrong"} for each in content["targets"]]}
    failed = pocketforge.Report.from_json(wrong)
    gated = pocketforge.gate(failed)
    assert (bool(failed), failed.exit_code, bool(gated), gated.verdict, gated.exit_code) == (False, 1, False, "FAIL", 1)
    assert gated.wrong == tuple(target["name"] for target in content["targets"])
    stopped = pocketforge.Report.from_json({**content, "verdict": "ERROR"})
    gated = pocketforge.gate(stopped)
    assert (bool(stopped), stopped.exit_code, bool(gated), gated.verdict, gated.exit_code) == (
        False,
        3,
        False,
        "ERROR",
        3,
    )
    device = dataclasses.replace(stopped, errors=(errors.DeviceUnavailable("gone"),))
    assert device.exit_code == 4 and device == stopped


def test_a_report_that_says_pass_over_rows_that_do_not_is_none(tmp_path: Path) -> None:
    def passed() -> dict[str, Any]:
        return {**as_written("finetuned"), "verdict": "PASS"}

    wrong, missed, empty = passed(), passed(), {**passed(), "targets": [], "gates": []}
    wrong["targets"][0]["status"] = "wrong"
    missed["gates"][0]["verdict"] = "MISSING"
    for words, content in {
        "report.verdict is PASS, and target .* is wrong": wrong,
        f"report.verdict is PASS, and {missed['gates'][0]['budget']['metric']} of .* is MISSING": missed,
        "report.targets: wanted 1 or more, found 0": empty,
    }.items():
        (tmp_path / "report.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(errors.RecipeError, match=words):
            pocketforge.load_report(tmp_path)
    # What lies beside a report that did not pass is no release of its.
    (tmp_path / "release").mkdir()
    for verdict, release in {"PASS": tmp_path / "release", "FAIL": None}.items():
        (tmp_path / "report.json").write_text(json.dumps({**passed(), "verdict": verdict}), encoding="utf-8")
        assert pocketforge.load_report(tmp_path).release == release
    missed["gates"][0]["budget"]["severity"] = "warning"
    assert pocketforge.Report.from_json(missed).passed


def test_what_is_wrong_is_said_by_our_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = functools.partial(pocketforge.build, "shipped:digits_cnn")
    model = linear_onnx(tmp_path / "net.onnx", np.ones((1024, 10), np.float32), np.ones(10, np.float32))
    calls: dict[str, Callable[[], object]] = {
        "no report at": lambda: pocketforge.load_report(tmp_path),
        "no recipe is shipped under 'digit'; did you mean ": lambda: pocketforge.build("shipped:digit"),
        "wanted jobs of 1 to 64, whole, found 0": lambda: shipped(jobs=0),
        "wanted jobs of 1 to 64, whole, found True": lambda: shipped(jobs=True),
        "no target is named 'digits_onx'; did you mean": lambda: shipped(targets="digits_onx"),
        "runs are for the budgets of a recipe": lambda: pocketforge.gate(finetuned(), runs=[finetuned()]),
        "wanted jobs of 1 to 64, whole, found 1.5": lambda: shipped(jobs=1.5),  # type: ignore[arg-type]
        f"no report at .*{tmp_path.name}": lambda: pocketforge.gate(finetuned(), "shipped:digits_cnn", runs=tmp_path),
        "found nope.npy": lambda: pocketforge.bench(model, inputs="nope.npy"),
        "wanted rounds of 3 to 1,000, whole, found 2": lambda: pocketforge.bench("a.onnx", rounds=2),
        "wanted seconds of 0 to 86,400, found nan": lambda: pocketforge.bench("a.onnx", seconds=float("nan")),
        "no model file at": lambda: pocketforge.bench(tmp_path / "a.onnx"),
    }
    for words, call in calls.items():
        with pytest.raises(errors.RecipeError, match=words):
            call()
    with pytest.raises(errors.ModelError, match=r"a\.onnx"):
        pocketforge.inspect(tmp_path / "a.onnx")
    this: Any = multiprocessing.current_process()
    monkeypatch.setitem(this._config, "daemon", True)
    with pytest.raises(errors.StageFailed, match="this one is daemonic"):
        shipped()


MORE = """
[[target]]
name = "second"
runtime = "onnx"

[[target]]
name = "third"
runtime = "onnx"

[[budget]]
metric = "size_bytes"
limit = 9

[[budget]]
metric = "gzip_bytes"
limit = 9
target = "second"

[[budget]]
metric = "load_ms"
limit = 9
target = "third"
"""
WAIVER = '\n[[waiver]]\nmetric = "{}"\ntarget = "{}"\nowner = "me"\nreason = "known"\nexpires = "2099-01-01"\n'


def test_a_part_of_a_recipe_has_what_is_asked_of_its_targets(small_recipe_text: str) -> None:
    waivers = "".join(WAIVER.format(*of) for of in (("size_bytes", "third"), ("gzip_bytes", ""), ("size_bytes", "")))
    recipe = parse_recipe(small_recipe_text + MORE + waivers)
    first = recipe.targets[0].name
    assert with_targets(recipe, ()) is recipe and left_out(recipe, recipe) == ()
    part = with_targets(recipe, [first, "second"])
    assert [target.name for target in part.targets] == [first, "second"]
    assert [budget.metric for budget in part.budgets] == ["size_bytes", "gzip_bytes"]
    assert [(waiver.metric, waiver.target) for waiver in part.waivers] == [("gzip_bytes", ""), ("size_bytes", "")]
    (words,) = left_out(recipe, part)
    assert words.endswith("are not asked for, and are not built, nor judged by the budgets of theirs (1): third")
    # A waiver of budgets that go with their target would be of none.
    assert [waiver.metric for waiver in with_targets(recipe, ["third"]).waivers] == ["size_bytes", "size_bytes"]
    with pytest.raises(errors.RecipeError, match="no target is named 'thrid'; did you mean 'third'"):
        with_targets(recipe, ["thrid"])


def test_the_guides_program_runs(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (repo_root / "docs" / "python_api.md").read_text("utf-8"), re.DOTALL
    )
    asked: dict[str, object] = {}

    def build(recipe: str, **more: object) -> pocketforge.Report:
        inspect.signature(real).bind(recipe, **more)
        asked.update(more, recipe=recipe)
        return finetuned()

    real = pocketforge.build
    monkeypatch.setattr(pocketforge, "build", build)
    exec(program, {})
    assert asked == {"recipe": "recipe.toml", "jobs": 2, "progress": True}
    out = capsys.readouterr().out
    assert all(target.name in out for target in finetuned().targets) and "host" in out


def test_the_site_has_every_page_and_every_public_name(repo_root: Path) -> None:
    """`nox -s docs` builds it; what it would not miss is here."""
    menu = yaml.safe_load((repo_root / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [
        page for part in menu for group in part.values() for page in ([group] if isinstance(group, str) else group)
    ]
    site_pages = runpy.run_path(str(repo_root / "docs" / "site_pages.py"))
    docs = repo_root / "docs"
    there = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    assert sorted(pages) == sorted([*there, *site_pages["FROM_ROOT"]])
    reference = (docs / "reference" / "python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: pocketforge\.(\w+)$", reference, re.MULTILINE)
    assert sorted([*named, "__version__"]) == pocketforge.__all__
    members = [set(each.split(", ")) for each in re.findall(r"members: \[(.*)\]", reference)]
    news = {name for name, each in vars(events).items() if dataclasses.is_dataclass(each)}
    assert members == [ERRORS, news]
    guide = (docs / "python_api.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in guide for name in pocketforge.__all__)
    assert all(f"`{name}" in guide for name in CLASSES["Report"])
    linked = site_pages["linked"](
        "[a](../README.md) [b](recipe.md#x) [c](../noxfile.py) [d](gone.md)", Path("docs/why.md")
    )
    assert linked == "[a](index.md) [b](recipe.md#x) c (`noxfile.py`) [d](gone.md)"
