"""Whatever can be plugged in is plugged in from one folder of this one, by its entry points, with no change of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
import pytest
from plugin_packages import HERE, Package, installed, package, packages

from pocketforge import plugins
from pocketforge.commands.init_text import Start, recipe_text
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Plan
from pocketforge.recipe import METRICS
from pocketforge.recipe.toml import load_recipe, parse_recipe
from pocketforge.records import Measurement, Report
from pocketforge.registries import SOURCES
from pocketforge.report.formats import FORMATS, format_of, writer
from pocketforge.results.file_metrics import file_values
from pocketforge.results.gate import judge
from pocketforge.run.part import run_part
from pocketforge.run.store import Store

# The most files that a plug-in may take: its pyproject.toml stands for the row in a registry of ours.
TARGETS = {"runtime": 10, "scheme": 6, "device": 8, "metric": 2, "report_format": 2, "source": 2}
RECIPE = """\
name = "outside"
[model]
definition = "model.py"
[data]
source = "lines:samples.txt"
eval_samples = 8
calibration_samples = 10
[[target]]
name = "a"
runtime = "onnx"
"""

Install = Callable[..., Package]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Install:
    """Install a package of this folder into a site of its own, until the test is over."""

    def run(kind: str, version: str = "") -> Package:
        context = installed(kind, tmp_path / f"site_{kind}_{version}", monkeypatch, version=version)
        request.addfinalizer(lambda: context.__exit__(None, None, None))
        return context.__enter__()

    return run


@pytest.mark.parametrize("one", packages(), ids=lambda one: one.kind)
def test_a_plug_in_is_as_few_files_as_promised_and_the_guide_lists_them(one: Package, repo_root: Path) -> None:
    assert len(one.files) <= TARGETS[one.kind], one.files
    guide = (repo_root / "docs" / "extending.md").read_text(encoding="utf-8")
    (group,) = one.entry_points
    line = f"| {', '.join(f'`{name}`' for name in one.files)} |"
    row = f"| [`{one.kind}`](../tests/plugins/{one.kind}) | `{group}` {line}"
    assert row in guide, f"docs/extending.md, Without a fork, has to have:\n{row}"
    assert group.removeprefix(plugins.PREFIX) in plugins.GROUPS


def test_each_folder_is_a_package() -> None:
    folders = {path.name for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {one.kind for one in packages()} == TARGETS.keys()


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A recipe with samples of the kind that tests/plugins/source reads."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "model.py").write_text("def build(): ...\n", encoding="utf-8")
    rows = [f"{index % 3} {index} {index / 2}" for index in range(30)]
    (folder / "samples.txt").write_text("\n".join(rows), encoding="utf-8")
    return folder / "recipe.toml"


def plan_of(recipe: Path) -> Plan:
    loaded = load_recipe(recipe)
    return make_plan(loaded, gather(loaded))


def test_a_source_from_outside_is_read_by_a_real_step(install: Install, lines: Path, tmp_path: Path) -> None:
    install("source")
    plan = plan_of(lines)
    run_part(plan, [plan.data], tmp_path / "cache", "test")
    entry = Store(tmp_path / "cache").get(plan.data)
    assert entry is not None
    found = json.loads((entry.files / "data.json").read_text(encoding="utf-8"))
    assert found["source"] == "lines:samples.txt" and found["counts"]["source"] == 30
    assert np.load(entry.files / "calibration_0.npy").shape == (10, 2)
    assert set(np.load(entry.files / "eval_targets.npy")) <= {0, 1, 2}


def test_its_files_and_its_package_s_version_are_part_of_the_keys(
    install: Install, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("source")
    first = plan_of(lines)
    samples = lines.with_name("samples.txt")
    samples.write_text(samples.read_text(encoding="utf-8") + "\n1 5 5\n", encoding="utf-8")
    changed = plan_of(lines)
    install("source", version="0.4")
    upgraded = plan_of(lines)
    assert len({first.data, changed.data, upgraded.data}) == 3
    assert len({first.reference, changed.reference, upgraded.reference}) == 3


def test_a_source_from_outside_is_known_to_rules_messages_and_init(install: Install, tmp_path: Path) -> None:
    unknown = RECIPE.replace("lines:", "nines:")
    with pytest.raises(RecipeError, match=r"npz:FILE or module\.py:function, found 'nines:samples\.txt'"):
        parse_recipe(unknown)
    install("source")
    with pytest.raises(RecipeError, match=r"npz:FILE, lines:FILE or module\.py:function, found 'nines:samples\.txt'"):
        parse_recipe(unknown)
    with pytest.raises(RecipeError, match="source 'lines' needs a place after a colon, as in lines:NAME"):
        parse_recipe(RECIPE.replace("lines:samples.txt", "lines"))
    (tmp_path / "model.py").touch()
    recipe = tmp_path / "recipe.toml"
    source = f"lines:{tmp_path / 'samples.txt'}"
    text = recipe_text(Start(str(tmp_path / "model.py"), None, source, "classification", recipe))
    with pytest.raises(RecipeError) as missing:
        gather(parse_recipe(text, folder=str(tmp_path)))
    assert 'source = "lines:samples.txt"' in text and "| lines:FILE | module.py:function" in text
    assert missing.value.faults == (f"data.source: no file {tmp_path / 'samples.txt'}",)


def test_without_it_nothing_is_left(lines: Path) -> None:
    assert "lines" not in SOURCES and "xz_bytes" not in METRICS
    with pytest.raises(RecipeError, match="source must be digits, "):
        load_recipe(lines)


def test_a_metric_from_outside_is_taken_of_a_file_and_gates(install: Install, tmp_path: Path) -> None:
    install("metric")
    file = tmp_path / "a.onnx"
    file.write_bytes(b"0123" * 1000)
    (measured,) = file_values(file, ["xz_bytes"])
    taken = Measurement(measured[0], measured[1], METRICS["xz_bytes"].unit, "a", "0" * 64, "host")
    budget = '[[budget]]\nmetric = "xz_bytes"\nlimit = LIMIT\n'
    digits = RECIPE.replace("lines:samples.txt", "digits")
    verdicts = [
        [gate.verdict for gate in judge(parse_recipe(digits + budget.replace("LIMIT", limit)), [taken])]
        for limit in ("10", "1000")
    ]
    assert verdicts == [["FAIL"], ["PASS"]]


def test_a_report_format_from_outside_is_found_by_its_name_and_its_ending(install: Install) -> None:
    install("report_format")
    assert FORMATS["csv"].ending == ".csv" and format_of(PurePath("x.csv")) == "csv"
    report = Report("digits", "0" * 64, "PASS", (), (), (), ())
    assert writer("csv").write(report) == "target,metric,limit,found,verdict"


def test_the_packages_are_of_their_own_names() -> None:
    assert package("source").name == "pocketforge-lines"
    assert len({one.name for one in packages()}) == len(packages())
