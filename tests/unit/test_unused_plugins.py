"""Packages that nobody asked for stop nobody, and do not stand in the way of the error that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_site import RUNTIME, Site, site

from pocketforge import plugins
from pocketforge.commands.bench_files import given_file
from pocketforge.data.guess import guess_source
from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.facts.plugged import check_parts
from pocketforge.recipe import Budget
from pocketforge.recipe.budget import place_of
from pocketforge.recipe.data import Data
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import GateResult, HowCompared, Measurement, Report
from pocketforge.registries import RUNTIMES, file_formats
from pocketforge.report.budget_words import output_of
from pocketforge.report.terminal import show_report
from pocketforge.results.file_metrics import asked_of_files
from pocketforge.results.gate import judge
from pocketforge.runtimes.traffic import traffic_of

__all__ = ["site"]
BROKEN = "raise RuntimeError('looked at')"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"columns": {}}, r"columns is for source csv:PATH or .*, found 'digits'"),
        ({"mask_values": (0, 255)}, r"mask_values is for source coco:PATH or .*, found 'digits'"),
        ({"split_folders": {}}, r"split_folders is for source imagefolder:DIR or .*, found 'digits'"),
    ],
)
def test_what_is_for_other_sources_is_said_beside_a_broken_one(site: Site, more: dict[str, object], said: str) -> None:
    site.install("pf-broken", BROKEN, "sources", "broken")
    with pytest.raises(ValueError, match=said):
        Data("digits", **more)  # type: ignore[arg-type]


def test_a_folder_s_source_is_guessed_beside_a_broken_one(site: Site, tmp_path: Path) -> None:
    site.install("pf-broken", BROKEN, "sources", "broken")
    table = tmp_path / "samples.csv"
    table.write_text("text,label\na,0\nb,1\n", encoding="utf-8")
    assert guess_source(table) == f"csv:{table}"
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="no data source reads") as refused:
        guess_source(tmp_path / "empty")
    assert "plug-in pf-broken 1.2: pocketforge.sources 'broken'" in refused.value.hint, "it might have read it"


def test_a_package_whose_folder_is_called_otherwise_is_read(site: Site) -> None:
    """importlib.metadata finds it in a list of all, and not by its name."""
    info = site.install("pf-mine")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pf-renamed\nVersion: 1.2\n", encoding="utf-8")
    assert [(each.distribution, each.version) for each in plugins.look()[0]] == [("pf-renamed", "1.2")]
    assert "mine" in RUNTIMES and "theirs" not in RUNTIMES


def test_two_packages_with_one_ending_stop_no_file_of_ours(site: Site, tmp_path: Path) -> None:
    site.install("pf-mine")
    site.install("pf-other", RUNTIME, row="other")
    with pytest.raises(PluginFailed, match=r"\.mine files are of runtime"):
        file_formats()
    file = tmp_path / "a.onnx"
    with pytest.raises(RecipeError, match="no model file at"):
        given_file(file, [])
    file.write_bytes(b"\x08\x09")
    assert traffic_of(file) == {"operators": []}


def test_a_report_is_shown_beside_a_kind_of_device_whose_tables_fail(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from pocketforge.registries import DeviceInfo\ndef tables(targets):\n    raise SystemExit(1)\n"
    code += 'ROW = DeviceInfo("m:e", "m", "m:s", "m:r", True, tables="MODULE:tables")\n'
    site.install("pf-box", code, "devices", "box")
    show_report(Report("small", "0" * 64, "PASS", (), (), (), ()))
    assert "PASS" in capsys.readouterr().out
    measured = Measurement("latency_ms", 2.0, "ms", "a", "1" * 64, "box", "box")
    with pytest.raises(PluginFailed, match=r"plug-in pf-box 1\.2: .* \(pf_box:tables\) failed: SystemExit: 1"):
        show_report(Report("small", "0" * 64, "PASS", (), (), (measured,), ()))


OWN_METRIC = """\
name = "x"
data = { source = "digits" }
target = [{ name = "a", runtime = "onnx" }]
model = { definition = "m.py" }
output = [{ role = "logits", metrics = ["own.py:crossed:higher", "accuracy_top1"] }]
budget = [{ metric = "crossed", limit = 0.5 }]
"""


def test_a_user_s_own_metric_is_no_row_of_a_package_that_cannot_be_read(site: Site) -> None:
    torn = site.install("pf-torn", group="metrics") / "entry_points.txt"
    torn.write_text("[pocketforge.metrics]\nmine\n", encoding="utf-8")
    recipe = parse_recipe(OWN_METRIC)
    check_parts(recipe)
    assert asked_of_files(recipe) == [] and place_of("crossed") == "outputs"
    measured = Measurement("crossed", 0.75, "", "a", "1" * 64, "host", "", how=HowCompared(4, "ort", None, "higher"))
    assert output_of(measured) == ""
    assert [gate.verdict for gate in judge(recipe, [measured])] == ["PASS"]


def test_a_report_of_a_metric_whose_package_is_broken_by_now_is_shown(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("pf-mine", BROKEN, "metrics")
    measured = Measurement("mine", 4.0, "bytes", "a", "1" * 64, "host")
    gate = GateResult(Budget("mine", 5.0), "a", "", measured, 4.0, "PASS")
    show_report(Report("small", "0" * 64, "PASS", (), (), (measured,), (gate,)))
    assert "mine" in capsys.readouterr().out
