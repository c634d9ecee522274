"""Code of packages in our own process: what it prints, what it raises, and values that are no numbers."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from how_measured import in_processes
from plugin_site import METRIC, Site, site

from pocketforge.devices.outputs import Output, check_complete
from pocketforge.errors import EXIT_STAGE, Interrupted, PluginFailed, RecipeError, StageFailed
from pocketforge.facts.parts import Info, fault_of_part, parts_of
from pocketforge.facts.plugged import check_parts
from pocketforge.outcomes import files
from pocketforge.plan.steps import Lane, OnDevice
from pocketforge.plugin_code import calling, stdout_to_stderr
from pocketforge.plugins import Registry
from pocketforge.recipe import METRICS, Budget, Target
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import Artifact, GateResult, Measurement, Report, TargetRecord
from pocketforge.registries import DEVICES, RUNTIMES, SOURCES
from pocketforge.report.budget_words import limit
from pocketforge.report.terminal import show_report
from pocketforge.results.devices import DeviceResult, Value, results_of
from pocketforge.results.file_metrics import asked_of_files, file_values
from pocketforge.results.gate import judge
from pocketforge.results.measurements import of_devices

__all__ = ["site"]
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
metric = "METRIC"
limit = 0.5
"""


@pytest.mark.parametrize(
    "raised",
    ["SystemExit(3)", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "BaseException('odd')", "MemoryError"],
)
def test_whatever_is_raised_at_import_is_one_error_with_the_package_s_name(
    site: Site, monkeypatch: pytest.MonkeyPatch, raised: str
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: lambda *_: None)  # as the command line has set it
    site.install("pf-mine", f"raise {raised}")
    with pytest.raises(PluginFailed) as failed:
        RUNTIMES["mine"]
    kind = raised.partition("(")[0]
    start = f"plug-in pf-mine 1.2: pocketforge.runtimes 'mine' (pf_mine:ROW) cannot be imported: {kind}: "
    assert failed.value.message.startswith(start) and failed.value.exit_code == EXIT_STAGE


def test_a_ctrl_c_is_the_user_s(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("pf-mine", "from pocketforge.errors import Interrupted\nraise Interrupted")
    with pytest.raises(Interrupted):
        RUNTIMES["mine"]
    site.install("pf-other", "raise KeyboardInterrupt", row="other")
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):  # in Python's own handling nothing tells one from the other
        RUNTIMES["other"]


def test_errors_on_purpose_pass_and_others_do_not() -> None:
    with pytest.raises(RecipeError), calling("what", "hint"):
        raise RecipeError("meant")
    with pytest.raises(OSError, match="full"), calling("what", "hint", ours=(OSError,)):
        raise OSError("full")
    with pytest.raises(PluginFailed, match=r"^what: OSError: full"), calling("what", "hint"):
        raise OSError("full")


def test_what_writes_to_stdout_writes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_to_stderr():
        print("printed", flush=True)
        os.write(1, b"written\n")
    print("after", flush=True)
    os.write(1, b"later\n")
    out, err = capfd.readouterr()
    assert (out, err) == ("after\nlater\n", "printed\nwritten\n")


def test_a_closed_stdout_stays_closed(capfd: pytest.CaptureFixture[str]) -> None:
    kept = os.dup(1)
    os.close(1)
    try:
        with stdout_to_stderr():
            print("printed", flush=True)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(1)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().err == "printed\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"0123")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("float('nan')", "nan"), ("float('inf')", "inf"), ("10 ** 400", "1000"), ("None", "None"), ("'12'", "'12'"),
        ("True", "True"), ("1j", "1j"), ("__import__('numpy').ones(1)", "a ndarray"), ("[1]", "a list"),
        ("__import__('decimal').Decimal(1)", "a Decimal"),
    ],
)  # fmt: skip
def test_what_a_metric_gives_must_be_a_finite_number(site: Site, model: Path, given: str, found: str) -> None:
    site.install("pf-mine", METRIC.replace("float(path.stat().st_size)", given), "metrics")
    with pytest.raises(PluginFailed) as failed:
        list(file_values(model, ["mine"]))
    assert failed.value.message.startswith(
        "plug-in pf-mine 1.2: pocketforge.metrics 'mine': what pf_mine:take gives for model.onnx must be a finite "
        f"number, found {found}"
    )


@pytest.mark.parametrize("raised", ["1 / 0", "raise SystemExit(0)", "raise KeyError('x')", "raise GeneratorExit"])
def test_what_a_metric_raises_names_it(site: Site, model: Path, raised: str) -> None:
    site.install("pf-mine", METRIC.replace("return float(path.stat().st_size)", raised), "metrics")
    with pytest.raises(
        PluginFailed, match=r"plug-in pf-mine 1\.2: pocketforge\.metrics 'mine' \(pf_mine:take\) failed: "
    ):
        list(file_values(model, ["mine"]))


@pytest.mark.parametrize("given", ["4", "4.0", "__import__('numpy').float32(4)", "__import__('numpy').int64(4)"])
def test_numbers_of_any_kind_are_taken(site: Site, model: Path, given: str) -> None:
    site.install("pf-mine", METRIC.replace("float(path.stat().st_size)", given), "metrics")
    ((name, value),) = file_values(model, ["mine"])
    assert (name, value, type(value)) == ("mine", 4.0, float)


def test_a_metric_is_taken_where_a_budget_names_it_and_prints_beside_stdout(
    site: Site, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site.install("pf-mine", METRIC.replace("    return", "    print('looking')\n    return"), "metrics")
    site.install("pf-broken", "1 / 0", "metrics", "broken")
    recipe = parse_recipe(RECIPE.replace("METRIC", "mine"))
    assert asked_of_files(recipe) == ["mine"]
    assert list(file_values(model, asked_of_files(recipe))) == [("mine", 4.0)]
    assert asked_of_files(parse_recipe(RECIPE.replace("METRIC", "size_bytes").replace("0.5", "5"))) == []
    assert capfd.readouterr() == ("", "looking\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("MODULE:take", "MODULE_gone:take"), "its taken_by is pf_mine_gone:take, and there is no such module"),
        (
            ("MODULE:take", "MODULE:gone"),
            "(taken_by pf_mine:gone) failed: AttributeError: module 'pf_mine' has no attr",
        ),
        (("MODULE:take", "MODULE:__name__"), "its taken_by is pf_mine:__name__, which cannot be called"),
    ],
)
def test_a_build_looks_for_the_parts_at_its_start(site: Site, change: tuple[str, str], said: str) -> None:
    site.install("pf-mine", METRIC.replace(*change), "metrics")
    recipe = parse_recipe(RECIPE.replace("METRIC", "mine"))
    with pytest.raises(PluginFailed) as failed:
        check_parts(recipe)
    assert said in failed.value.message and "plug-in pf-mine 1.2: pocketforge.metrics 'mine'" in failed.value.message


@pytest.mark.parametrize("registry", [RUNTIMES, SCHEMES, DEVICES, SOURCES], ids=str)
def test_every_part_of_ours_is_there(registry: Registry[Info]) -> None:
    for name, row in registry.ours.items():
        faults = {part: fault_of_part(part, place) for part, place in parts_of(row).items()}
        assert set(faults.values()) <= {""}, (name, faults)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def make(run): ...", ""),
        ("from elsewhere import one as make", ""),
        ("if 1:\n    make = print", ""),
        ("from elsewhere import *", ""),
        ("def __getattr__(name): ...", ""),
        ("def made(run): ...\nmaking = make", "and pf_heavy has no make"),
    ],
)
def test_a_heavy_part_is_read_and_not_imported(site: Site, source: str, said: str) -> None:
    (site.folder / "pf_heavy.py").write_text(f"import no_such_toolchain\n{source}\n", encoding="utf-8")
    importlib.invalidate_caches()
    assert fault_of_part("make", "pf_heavy:make") == said
    assert fault_of_part("exporter", "pf_heavy").startswith("and pf_heavy has no export") or said == ""
    assert fault_of_part("runner", "pf_lost.runner") == "and there is no such module"


def test_a_missing_budget_on_the_task_s_metric_says_which_way_it_goes() -> None:
    (missing,) = judge(parse_recipe(RECIPE.replace("METRIC", "metric")), [])
    assert (missing.verdict, missing.metric, limit(missing)) == ("MISSING", "accuracy_top1", "≥ 0.5")
    (named,) = judge(parse_recipe(RECIPE.replace("METRIC", "accuracy_top1")), [])
    assert (named.metric, limit(named)) == ("", "≥ 0.5")


def test_a_time_of_a_kind_of_device_that_is_not_here_keeps_no_budget() -> None:
    """Whether it keeps time only its row says, and its package is gone."""
    recipe = parse_recipe(RECIPE.replace("METRIC", "latency_ms"))
    (host,) = recipe.devices
    found = Measurement("latency_ms", 0.1, "ms", "a", "0" * 64, "sandbox", host.name)
    assert [gate.verdict for gate in judge(recipe, [found])] == ["MISSING"]


ARTIFACT = Artifact("k", "model", "a.onnx", "1" * 64, 4000, 40)
LANE = Lane(Target("a", "onnx"), "", "e", "v", {"box": OnDevice("host", "k")}, "d", "r")
PROCESSES = files.to_json(in_processes([2, 1]))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Value("latency_ms", float("nan"), "box", PROCESSES, (1.0, 2.0, 3.0)), "must be a finite number, found nan"),
        (Value("latency_ms", 1.0, "box", PROCESSES, (1.0, float("inf"), 3.0)), "a sample must be a finite number"),
        (Value("latency_ms", 1.0, "box", PROCESSES, (1.0, 2.0)), "wanted 3 samples, as its parts say, found 2"),
        (Value("latency_ms", 1.0, "box"), "latency_ms on box has no samples"),
        (
            Value("latency_ms", 1.0, "box", PROCESSES, (1.0, 2.0, 3.0), "2" * 64),
            "is of another file than that of a: wan",
        ),
        (Value("latency", 1.0, "box"), "that is no metric; did you mean 'latency_ms'"),
        (Value("load_ms", 1.0, "bax"), "load_ms on box is said to be on 'bax'"),
        (Value("load_ms", np.ones(1), "box"), "must be a finite number, found a ndarray"),  # type: ignore[arg-type]
    ],
)
def test_what_a_device_gives_must_be_what_a_budget_can_be_judged_by(value: Value, said: str) -> None:
    with pytest.raises(PluginFailed) as failed:
        list(of_devices(LANE, ARTIFACT, {"box": DeviceResult(values=(value,))}))
    assert said in failed.value.message


def test_a_metric_of_the_user_s_is_taken_on_a_device_too() -> None:
    how = {"samples": 60, "runtime": "r 1", "better": "higher"}
    (taken,) = of_devices(LANE, ARTIFACT, {"box": DeviceResult(values=(Value("my_score", 0.5, "box", how),))})
    assert (taken.metric, taken.value, taken.device) == ("my_score", 0.5, "box")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (DeviceResult(values=(Value(3, 1.0, "box"),)), "Value of other types: metric: wanted str, found 3"),  # type: ignore[arg-type]
        (DeviceResult(values=(Value("load_ms", 1.0, "box", samples=3),)), "samples must be numbers, found 3"),  # type: ignore[arg-type]
        (DeviceResult(values=(Value("load_ms", 1.0, "box", how=None),)), "how: wanted"),  # type: ignore[arg-type]
        (
            DeviceResult(values=(Value("load_ms", 9.0, "box"), Value("load_ms", 0.1, "box"))),
            "load_ms on box is given twice",
        ),
    ],
)
def test_what_a_device_gives_is_of_its_types_and_given_once(result: DeviceResult, said: str) -> None:
    """Of two values the last one was judged."""
    with pytest.raises(PluginFailed, match=said):
        list(of_devices(LANE, ARTIFACT, {"box": result}))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (DeviceResult(values=("x",)), "values: wanted tuple"),  # type: ignore[arg-type]
        (DeviceResult(warnings="careful"), "warnings: wanted tuple"),  # type: ignore[arg-type]
        (DeviceResult(about=None), "about: wanted"),  # type: ignore[arg-type]
    ],
)
def test_what_a_device_found_is_of_its_types(monkeypatch: pytest.MonkeyPatch, result: DeviceResult, said: str) -> None:
    monkeypatch.setattr("pocketforge.results.devices.resolve_name", lambda _place: lambda *_: result)
    with pytest.raises(PluginFailed, match=f"devices of kind host: .* gives {said}"):
        results_of(LANE, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 10), (39, 10), (41, 10), (40, 9), (40, 10, 1), (40,)])
def test_a_device_that_answers_other_samples_than_it_was_given_fails(shape: tuple[int, ...]) -> None:
    """Outputs of other shapes are not paired, and so were compared with nothing, and passed."""
    host, there = Output("scores", np.zeros((60, 10))), Output("scores", np.zeros(shape))
    with pytest.raises(
        StageFailed, match=r"a box was given 40 samples: wanted output scores of shape \[40, 10\], found"
    ):
        check_complete([there], [host], 40, "a box")
    check_complete([host.first(40)], [host], 40, "a box")


def test_a_report_of_devices_that_are_not_here_says_so_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    latency = Measurement("latency_ms", 2.0, "ms", "a", "1" * 64, "sandbox", "box", (1.0, 2.0, 3.0))
    energy = Measurement("energy_mj", 2.0, "mJ", "a", "1" * 64, "sandbox", "box")
    target = TargetRecord("a", "onnx", "fp32", "built", (ARTIFACT,))
    missing = GateResult(Budget("energy_mj", 5.0), "a", "box", energy, 2.0, "PASS")
    show_report(Report("small", "0" * 64, "PASS", (target,), (), (latency, energy), (missing,)), verbose=True)
    shown = " ".join(capsys.readouterr().out.split())
    assert "the package that brings devices of kind sandbox is not here" in shown
    assert "a 1 of 1" in shown and "PASS a energy_mj on box 5 2" in shown


def test_what_a_device_gives_is_taken_as_it_is() -> None:
    value = Value("latency_ms", 2.0, "box", PROCESSES, (1.0, 2.0, 3.0), "1" * 64)
    (taken,) = of_devices(LANE, ARTIFACT, {"box": DeviceResult(values=(value,))})
    assert (taken.value, taken.samples, taken.via) == (2.0, (1.0, 2.0, 3.0), "host")
    assert METRICS["latency_ms"].place == "timed"
