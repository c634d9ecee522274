"""Rows of packages that would mean nothing, or pass what nobody looked at: refused with the package's name."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import pytest
from plugin_site import METRIC, RUNTIME, Site, site

from pocketforge import plugins
from pocketforge.data.guess import guess_source
from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.plugins import Registry
from pocketforge.recipe import METRICS, Data
from pocketforge.recipe.columns import Columns
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import HowCompared, Measurement, Report
from pocketforge.registries import DEVICES, RUNTIMES, SOURCES, stage_info
from pocketforge.report.budget_words import output_of
from pocketforge.report.formats import FORMATS, format_of, written
from pocketforge.results.devices import about_of
from pocketforge.row_types import type_fault
from pocketforge.runtimes.base import ExportResult, checked_result
from pocketforge.runtimes.describe import format_of as format_of_file

__all__ = ["site"]
REGISTRIES: dict[str, Registry[Any]] = {
    each.group: each for each in (METRICS, SCHEMES, DEVICES, RUNTIMES, SOURCES, FORMATS)
}
DEVICE = """\
from pocketforge.registries import DeviceInfo, StageInfo
ROW = DeviceInfo("m:entry", "m", "m:steps", "m:results", True, MORE)
"""
BOX = """\
from dataclasses import dataclass
@dataclass(frozen=True)
class Box:
    name: str = "box"
    via: str = "box"
    gives = frozenset()
    budget_names = ("box",)
    def named_files(self):
        return {}
"""
ON_A_BOX = """\
name = "x"
data = {source = "digits"}
target = [{name = "a", runtime = "mine"}]
model = {definition = "m.py"}
device = [{via = "box"}]
"""
SCHEME = """\
import dataclasses
from pocketforge.recipe.schemes import SCHEMES
ROW = dataclasses.replace(SCHEMES["BASE"], MORE)
"""
FORMAT = """\
from pocketforge.report.formats import ReportFormat
ROW = ReportFormat("m", "tables", "ENDING")
"""


def scheme(base: str, more: str) -> str:
    return SCHEME.replace("BASE", base).replace("MORE", more)


@pytest.mark.parametrize(
    ("group", "row", "code", "said"),
    [
        ("metrics", "metric", METRIC, "cannot have this name: a budget on it is on the metric of the recipe's own"),
        ("devices", "pytorch", DEVICE.replace("MORE", ""), "cannot have this name: it is what measurements of the PyT"),
        (
            "metrics", "mine", METRIC.replace('"file"', '"outputs"').replace(
                'taken_by="MODULE:take"', 'task="regression", of_task=True'
            ),
            "of_task is for metrics of Pocketforge's own: no step would take it",
        ),
        (
            "metrics", "mine", METRIC.replace('"file"', '"model"').replace(', taken_by="MODULE:take"', ""),
            'place = "model" is for metrics of Pocketforge',
        ),
        ("metrics", "mine", METRIC.replace(', taken_by="MODULE:take"', ""), "says in taken_by which function takes it"),
        (
            "devices", "mine", DEVICE.replace("MORE", 'stages={"export": StageInfo("m", 1, ())}'),
            "Pocketforge has a stage 'export' itself",
        ),
        ("devices", "mine", DEVICE.replace("MORE", 'about="phones"'), "is where Pocketforge's own devices are told of"),
        (
            "runtimes", "mine", RUNTIME.replace('"mine",\n', '"mine", target_keys=("tflite_runtime",),\n'),
            "target_keys: 'tflite_runtime' is about LiteRT's files alone; known: opset",
        ),
        (
            "runtimes", "mine", RUNTIME.replace('"mine",\n', '"mine", target_keys=("onnx_weights",),\n'),
            "target_keys: 'onnx_weights' is about ONNX Runtime's files alone; known: opset",
        ),
        (
            "runtimes", "mine", RUNTIME.replace('"mine",\n', '"mine", target_keys=("speed",),\n'),
            "target_keys: 'speed' is no key that a runtime may take; known: opset",
        ),
        ("runtimes", "mine", RUNTIME.replace('".mine"', '".onnx"'), ".onnx files are of runtime onnx"),
        ("runtimes", "mine", RUNTIME.replace('"mine.session"', '"onnx"'), "session must be a module of the package"),
        ("runtimes", "mine", RUNTIME.replace('(".mine")', '(".mine", start=b"(")'), "start must be a pattern of bytes"),
        ("report_formats", "mine", FORMAT.replace("ENDING", ".md"), "ending .md is that of format markdown"),
        (
            "schemes", "mine", scheme("codebook", 'numerics="few values"'),
            'weights = "codebook" of family "stored": a file of any weights would pass',
        ),
        (
            "schemes", "mine", scheme("weight_only_int8", 'weights="float32", stored_as=(), bits=32'),
            'weights = "float32" of family "stored": a file of any weights would pass',
        ),
        ("schemes", "mine", scheme("static_int8", 'stored_as=("float32",)'), "'float32' holds no int8 weights"),
        ("schemes", "mine", scheme("weight_only_int8", "bits=0"), "bits: wanted 1 to 8 for levels weights, found 0"),
        ("schemes", "mine", scheme("fp16", "limits={}"), "limits must also have max_accuracy_drop, max_dead_channels"),
        ("schemes", "mine", scheme("fp16", "on_device={}"), "on_device must also have min_argmax_agreement"),
        ("schemes", "mine", scheme("codebook", "trained_limits={}"), "a file of any weights would pass"),
        ("schemes", "mine", scheme("fp16", 'limits={"min_sqnr": 9.0}'), "limits: 'min_sqnr' is no limit; known: "),
        (
            "schemes", "mine", scheme("fp16", 'limits={**SCHEMES["fp16"].limits, "min_sqnr_db": float("-inf")}'),
            "limits: min_sqnr_db must be finite, found -inf",
        ),
        ("schemes", "mine", scheme("fp16", 'numerics="{accuracy}"'), "numerics: wanted words with backend, bits,"),
    ],
)  # fmt: skip
def test_a_row_that_would_mean_nothing_is_refused(site: Site, group: str, row: str, code: str, said: str) -> None:
    site.install("pf-mine", code, group, row)
    if "cannot have this name" in said:
        assert row not in REGISTRIES[group] and row not in list(REGISTRIES[group])
    else:
        with pytest.raises(PluginFailed, match=r"plug-in pf-mine 1\.2: ") as failed:
            REGISTRIES[group][row]
        assert said in failed.value.message
    ((_, fault),) = plugins.examine()
    assert said in fault


def test_rows_like_these_that_mean_something_are_taken(site: Site) -> None:
    site.install("pf-metric", METRIC, "metrics")
    site.install("pf-device", DEVICE.replace("MORE", 'about="mine"'), "devices")
    site.install("pf-format", FORMAT.replace("ENDING", ".mine"), "report_formats")
    site.install("pf-scheme", scheme("weight_only_int8", "bits=6"), "schemes")
    site.install("pf-floats", scheme("fp16", 'stored_as=("bfloat16",)'), "schemes", "bf16")
    site.install("pf-same", scheme("fp32", 'numerics="as trained"'), "schemes", "same")
    site.install("pf-runtime", RUNTIME.replace('"mine",\n', '"mine", target_keys=("opset",),\n'))
    assert [fault for _, fault in plugins.examine()] == [""] * 7


def test_two_formats_of_one_ending_must_be_told_apart_by_name(site: Site) -> None:
    site.install("pf-mine", FORMAT.replace("ENDING", ".csv"), "report_formats", "csv")
    assert format_of(PurePath("x.csv")) == "csv"
    site.install("pf-other", FORMAT.replace("ENDING", ".csv"), "report_formats", "table")
    with pytest.raises(PluginFailed, match=r"\.csv is the ending of report formats csv and table\n  hint: say which"):
        format_of(PurePath("x.csv"))
    assert format_of(PurePath("x.md")) == "markdown" and FORMATS["table"].ending == ".csv"
    site.install("pf-broken", "1 / 0", "report_formats", "broken")
    with pytest.raises(RecipeError, match=r"x\.pdf has the ending of no report format \(.*\.csv, \.csv\)"):
        format_of(PurePath("x.pdf"))


def test_two_stages_of_one_name(site: Site) -> None:
    stage = 'stages={"time_it": StageInfo("MODULE_stage", 1, ())}'
    site.install("pf-mine", DEVICE.replace("MORE", stage), "devices", "mine")
    site.install("pf-other", DEVICE.replace("MORE", stage), "devices", "other")
    assert DEVICES["mine"].stages["time_it"] is stage_info("time_it"), "of the one that is used"
    assert DEVICES["other"]
    with pytest.raises(PluginFailed, match="stage 'time_it' is of the kinds of device mine and other"):
        stage_info("time_it")
    with pytest.raises(KeyError):
        stage_info("nobody")


def test_a_file_of_ours_is_described_whatever_is_installed(site: Site, tmp_path: Path) -> None:
    site.install("pf-mine", "1 / 0")
    site.install("pf-other", RUNTIME, row="other")
    file = tmp_path / "a.tflite"
    file.write_bytes(b"\0\0\0\0TFL3" + bytes(20))
    assert format_of_file(file) == "tflite" and "pf_other" not in __import__("sys").modules
    theirs = tmp_path / "a.mine"
    theirs.write_bytes(b"what is mine")
    assert format_of_file(theirs) == "mine"


def test_a_runtime_from_outside_may_run_on_a_device_from_outside(site: Site) -> None:
    """It was taken for one with ARM cores, for which such a runtime has no program."""
    site.install("pf-mine", RUNTIME)
    site.install(
        "pf-device", BOX + DEVICE.replace("MORE", "").replace('"m:entry"', '"pf_device:Box"'), "devices", "box"
    )
    recipe = parse_recipe(ON_A_BOX)
    assert [(device.name, device.via) for device in recipe.devices] == [("box", "box")]
    assert DEVICES["adb"].native and DEVICES["emulator"].native and not DEVICES["host"].native


@pytest.mark.parametrize(
    ("group", "code", "said"),
    [
        ("runtimes", RUNTIME.replace('("lib",)', '("lib")'), "export_libraries: wanted tuple[str, ...], found 'lib'"),
        (
            "runtimes",
            RUNTIME.replace('(), "mine"', '(1,), "mine"'),
            "run_libraries: wanted tuple[str, ...], found (1,)",
        ),
        ("devices", DEVICE.replace("True, MORE", '"yes"'), "keeps_time: wanted bool, found 'yes'"),
        ("devices", DEVICE.replace("MORE", 'stages={"a": "m"}'), "stages: wanted Mapping[str, "),
        ("metrics", METRIC.replace("Range(0, 1e9)", "(0, 1e9)"), "limits: wanted Range, found (0, 1000000000.0)"),
        ("metrics", METRIC.replace("Range(0, 1e9)", "Range(0, 1e9), column=1"), "column: wanted bool, found 1"),
        ("schemes", scheme("static_int8", "keys=['backend']"), "keys: wanted frozenset[str], found ['backend']"),
        ("schemes", scheme("static_int8", "bits=True"), "bits: wanted "),
    ],
)
def test_a_row_whose_fields_are_of_other_types_is_refused(site: Site, group: str, code: str, said: str) -> None:
    """A text in a tuple's place was letters, each a library that is not installed: no key saw the real one."""
    site.install("pf-mine", code, group)
    with pytest.raises(PluginFailed) as failed:
        REGISTRIES[group]["mine"]
    assert said in failed.value.message and "plug-in pf-mine 1.2" in failed.value.message


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=str)
def test_our_own_rows_are_of_their_types(registry: Registry[Any]) -> None:
    assert {name: type_fault(row) for name, row in registry.ours.items() if type_fault(row)} == {}


def test_a_table_whose_own_rules_end_the_program_names_its_package(site: Site) -> None:
    rules = "    def __post_init__(self):\n        print('rules')\n        raise SystemExit(0)\n"
    code = BOX + rules + DEVICE.replace("MORE", "").replace("m:entry", "pf_device:Box")
    site.install("pf-mine", RUNTIME)
    site.install("pf-device", code, "devices", "box")
    with pytest.raises(PluginFailed, match=r"plug-in pf-device 1\.2: .* \(pf_device:Box\) failed: SystemExit: 0"):
        parse_recipe(ON_A_BOX)
    site.install("pf-other", DEVICE.replace("MORE", "").replace("m:entry", "pf_other:ROW"), "devices", "odd")
    with pytest.raises(PluginFailed, match=r"kind of device odd: entry pf_other:ROW must be a dataclass"):
        parse_recipe(ON_A_BOX.replace('"box"', '"odd"'))


def test_what_is_known_of_devices_from_outside_has_a_place_of_its_own(site: Site) -> None:
    site.install("pf-mine", DEVICE.replace("MORE", 'about="boxes"'), "devices")
    site.install("pf-other", DEVICE.replace("MORE", 'about="runtimes"'), "devices", "other")
    assert (about_of("mine"), about_of("adb"), about_of("host")) == ("boxes", "phones", "")
    with pytest.raises(PluginFailed, match="kind of device other: about = 'runtimes' is a fact of every target"):
        about_of("other")


def test_a_broken_source_that_nobody_names_stops_no_recipe_and_no_guess(site: Site, tmp_path: Path) -> None:
    """It is left out of what might be meant, and is said where nothing was found."""
    site.install("broken", "raise ImportError('gone')", group="sources")
    with pytest.raises(ValueError, match=r"columns is for source .*csv:PATH"):
        Data("digits", columns=Columns(inputs=("x",)))
    with pytest.raises(ValueError, match=r"mask_values is for source .*masks:DIR"):
        Data("digits", mask_values=(0, 255))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError) as nothing:
        guess_source(tmp_path / "empty")
    assert "plug-in broken 1.2" in nothing.value.hint


def test_a_report_of_a_metric_whose_package_is_broken_is_shown(site: Site) -> None:
    site.install("broken", "raise ImportError('gone')", group="metrics")
    found = Measurement("mine", 1.0, "", "a", "0" * 64, "host", how=HowCompared(60, "r 1", "y"))
    assert output_of(found) == "y"


def test_a_format_that_gives_no_text_names_its_package(site: Site) -> None:
    code = "def write(report):\n    return 3\n" + FORMAT.replace('"m"', '"pf_mine"').replace("ENDING", ".mine")
    site.install("pf-mine", code, "report_formats")
    with pytest.raises(PluginFailed, match=r"plug-in pf-mine 1\.2: .*: pf_mine:write must give a str, found a int"):
        written("mine", Report("small", "0" * 64, "PASS", (), (), (), ()))


@pytest.mark.parametrize(
    ("result", "found"),
    [(None, "a NoneType"), ({"model": "a"}, "a dict"), (ExportResult({"x": "a"}, [], []), "one without a model")],
)
def test_an_exporter_that_gives_no_file_names_its_package(site: Site, result: object, found: str) -> None:
    site.install("pf-mine")
    with pytest.raises(PluginFailed, match=rf"plug-in pf-mine 1\.2: .*: mine:export must give .* found {found}"):
        checked_result(result, "mine")
    right = ExportResult({"model": "a.mine"}, [], [])
    assert checked_result(right, "mine") is right
