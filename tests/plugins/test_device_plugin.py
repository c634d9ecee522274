"""A kind of device from outside (tests/plugins/device): a build that it gates, its table, `bench` on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_packages import HEAD, MODEL, installed
from warm_server import in_process

from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.shipped_names import sidecar_name
from pocketforge.recipe.toml import load_recipe, parse_recipe

RECIPE = f"""{HEAD}\
[[target]]
name = "tiny"
runtime = "onnx"
[[device]]
name = "box"
via = "sandbox"
samples = 5
[[budget]]
metric = "latency_ms"
limit = 10_000
device = "box"
[[budget]]
metric = "latency_ms"
limit = 0.000_001
device = "box"
severity = "warning"
[[budget]]
metric = "accuracy_drop"
limit = 0.5
device = "box"
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    with installed("device", tmp_path / "site", monkeypatch):
        yield tmp_path / "recipe.toml"


def test_a_build_with_a_device_from_outside(recipe: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = in_process("build", recipe, "--out", tmp_path / "out", cache=cache, cwd=tmp_path)
    assert done.code == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    (target,) = report["targets"]
    assert [step["stage"] for step in report["steps"]][-2:] == ["verify_device", "time_sandbox"]
    assert "kernel" in target["facts"]["sandboxes"]["box"]["where"]
    assert any(check["name"].endswith("on box, against the host") for check in target["checks"])
    verdicts = [(gate["budget"]["metric"], gate["device"], gate["verdict"]) for gate in report["gates"]]
    assert verdicts == [("latency_ms", "box", "PASS"), ("latency_ms", "box", "FAIL"), ("accuracy_drop", "box", "PASS")]
    assert {m["via"] for m in report["measurements"] if m["device"] == "box"} == {"sandbox"}
    assert "tiny: box is this machine" in report["warnings"]
    sidecar = tmp_path / "out" / "release" / sidecar_name("tiny", "model")
    (latency,) = json.loads(sidecar.read_text(encoding="utf-8"))["latency_ms"]
    assert (latency["device"], latency["via"], latency["samples"]) == ("box", "sandbox", 15)

    shown = in_process("report", tmp_path / "out", cache=cache, cwd=tmp_path)
    assert "in sandboxes" in shown.stdout, "its own table"

    for words in ((), ("--device", "sandbox")):
        benched = in_process("bench", recipe, "--json", *words, cache=cache, cwd=tmp_path)
        (row,) = json.loads(benched.stdout)
        assert (row["via"], row["samples"], row["device"]) == (
            "sandbox",
            30 if words else 15,
            words[-1] if words else "box",
        )
    wrong = in_process("bench", recipe, "--rounds", 5, cache=cache, cwd=tmp_path)
    assert wrong.code == 2 and "--rounds is for phones" in wrong.stderr


def test_its_package_and_what_it_looked_up_are_in_its_keys_alone(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> dict[str, str]:
        loaded = load_recipe(recipe)
        return {step.stage: step.key for step in make_plan(loaded, gather(loaded)).steps}

    first = keys()
    with installed("device", tmp_path / "newer", monkeypatch, version="2.2"):
        newer = keys()
    assert {stage for stage in first if first[stage] != newer[stage]} == {"verify_device", "time_sandbox"}


def test_its_rules_are_those_of_its_table(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.replace("samples = 5", "samples = 0"), folder=str(recipe.parent))
    assert caught.value.faults == ("device[0]: samples must be 1 to 10,000,000, found 0",)


def test_without_its_package_the_word_is_unknown() -> None:
    with pytest.raises(RecipeError, match=r"device\[0\]\.via: unknown value 'sandbox'"):
        parse_recipe(RECIPE)
