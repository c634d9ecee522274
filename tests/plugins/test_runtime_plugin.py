"""A runtime from outside (tests/plugins/runtime): a build with it; what it has no part for is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from plugin_packages import HEAD, MODEL, installed
from warm_server import in_process, warm_stages

from pocketforge.devices import adb
from pocketforge.devices.emulator.native_runners import native_runner
from pocketforge.errors import DeviceError, ModelError, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.outcomes.files import read
from pocketforge.outcomes.why import Explained
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.why import with_why
from pocketforge.recipe.toml import load_recipe, parse_recipe
from pocketforge.registries import RUNTIMES
from pocketforge.run.part import run_part
from pocketforge.runtimes.traffic import traffic_of

RECIPE = f"""{HEAD}\
[[target]]
name = "tiny"
runtime = "numpy_net"
[[device]]
name = "host"
processes = 3
min_samples = 5
min_seconds = 0.01
[[budget]]
metric = "accuracy_drop"
limit = 0.0
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    with installed("runtime", tmp_path / "site", monkeypatch):
        yield tmp_path / "recipe.toml"


def test_a_build_with_a_runtime_from_outside(recipe: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = in_process("build", recipe, "--out", tmp_path / "out", cache=cache, cwd=tmp_path)
    assert done.code == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    (target,) = report["targets"]
    assert target["status"] == "built" and list(target["facts"]["runtimes"]) == [f"numpy {np.__version__}"]
    values = {each["metric"]: each["value"] for each in report["measurements"]}
    assert values["accuracy_drop"] == 0 and values["latency_ms"] > 0
    file = tmp_path / "out" / "release" / "tiny.npnet"

    told = in_process("inspect", file, "--json", cache=cache, cwd=tmp_path)
    about = json.loads(told.stdout)
    assert (about["format"], about["ops"]) == ("npnet", {"linear": 2, "flatten": 1, "relu": 1})
    assert about["parameters"] == 64 * 16 + 16 + 16 * 10 + 10 and about["weights"][0]["layer"] == "linear_1"
    with pytest.raises(ModelError, match=r"operators of tiny\.npnet move is known for .*, not for \.npnet"):
        traffic_of(file)

    loaded = load_recipe(recipe)
    facts = gather(loaded, cache)
    plan, keys = with_why(make_plan(loaded, facts), loaded, facts, ("tiny",), samples=10)
    with warm_stages():
        explained = read(run_part(plan, (keys["tiny"],), cache, "why").entries[keys["tiny"]].files, Explained)
    missing = {form.name: form.missing for form in explained.stages if form.missing}
    assert missing["lowered"] == "runtime numpy_net has no plain form: its row has no `why`"
    assert explained.first_bad_stage == "" and explained.stages[-1].name == "runtime"


def test_arm_cores_and_schemes_are_refused_by_its_name(recipe: Path) -> None:
    name = "numpy_net"
    emulated = '[[device]]\nname = "pixel"\nvia = "emulator"\nprofile = "pixel4"\n'
    with pytest.raises(RecipeError) as cores:
        parse_recipe(RECIPE + emulated, folder=str(recipe.parent))
    (fault,) = cores.value.faults
    assert fault.startswith(
        f"target[0].runtime: {name} has no program for ARM cores, so it cannot run on device 'pixel'"
    )
    with pytest.raises(RecipeError) as scheme:
        parse_recipe(RECIPE.replace(f'"{name}"', f'"{name}"\nquantize = {{ scheme = "static_int8" }}'))
    (fault,) = scheme.value.faults
    assert f"scheme static_int8 is refused for runtime {name}" in fault and "nearest: fp32" in fault
    session = RUNTIMES[name].session
    with pytest.raises(DeviceError, match=f"the emulator has no runner for {name}"):
        native_runner(session)
    with pytest.raises(DeviceError, match=f"there is no runner of {name} for phones"):
        adb.bundle_of(session)
    with pytest.raises(RecipeError, match="layout NHWC is for runtime tflite; numpy_net files keep the model's NCHW"):
        parse_recipe(RECIPE.replace(f'"{name}"', f'"{name}"\nlayout = "NHWC"'))


def test_without_its_package_the_word_is_unknown() -> None:
    with pytest.raises(RecipeError, match="unknown value 'numpy_net'; known: executorch, onnx, tflite"):
        parse_recipe(RECIPE)
