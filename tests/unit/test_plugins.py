"""Rows that installed packages add to the registries: found by their metadata, refused with the package's name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketforge import plugins
from pocketforge.commands.doctor import examine
from pocketforge.errors import PluginFailed
from pocketforge.plugins import Registry
from pocketforge.recipe.toml import parse_recipe
from pocketforge.registries import RUNTIMES, RuntimeInfo

RECIPE = """\
name = "x"
data = {source = "digits"}
target = [{name = "a", runtime = "RUNTIME"}]
model = {definition = "m.py"}
"""
ROW = (
    'from pocketforge.registries import RuntimeInfo\nROW = RuntimeInfo("mine", "mine", ".mine", ("lib",), (), "mine")\n'
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a package as pip would: its module and its metadata on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(RUNTIMES, "_added", None)

    def lay_out(name: str, code: str = ROW, group: str = "runtimes", row: str = "mine", version: str = "1.2") -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[pocketforge.{group}]\n{row} = {module}:ROW\n", encoding="utf-8")

    return lay_out


@pytest.fixture(autouse=True)
def forget() -> None:
    for module in ("pf_mine", "pf_other"):
        sys.modules.pop(module, None)


def test_a_row_of_an_installed_package_is_one_of_ours_and_names_its_package_for_keys(install: Install) -> None:
    ours = list(RUNTIMES)
    RUNTIMES._added = None
    install("pf-mine")
    assert list(RUNTIMES) == [*ours, "mine"] and len(RUNTIMES) == len(ours) + 1
    assert RUNTIMES["mine"].export_libraries == ("lib", "pf-mine")
    assert RUNTIMES["mine"].run_libraries == ("pf-mine",)
    assert "mine" in RUNTIMES and "pf_mine" in sys.modules
    with pytest.raises(KeyError):
        RUNTIMES["theirs"]


def test_a_row_of_ours_is_given_without_a_look_at_others(install: Install) -> None:
    install("pf-mine", "raise RuntimeError('looked at')")
    assert RUNTIMES["onnx"].suffix == ".onnx" and "tflite" in RUNTIMES


@pytest.mark.parametrize(
    ("code", "more", "fault"),
    [
        ("import no_such_module", {}, "(pf_mine:ROW) cannot be imported: ModuleNotFoundError: No module named 'no_"),
        ("raise SystemExit(3)", {}, "(pf_mine:ROW) cannot be imported: SystemExit: 3"),
        ("x = 1", {}, "(pf_mine:ROW) cannot be imported: AttributeError: module 'pf_mine' has no attribute 'ROW'"),
        ("ROW = 'x'", {}, "(pf_mine:ROW) must be a RuntimeInfo, found a str"),
        (ROW, {"row": "onnx"}, "is a row of Pocketforge itself too: two rows of one name"),
        (ROW, {"row": "../x"}, "must be named in small letters, digits and '_'"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_error_that_names_its_package(
    install: Install, code: str, more: dict[str, str], fault: str
) -> None:
    install("pf-mine", code, **more)
    for _ in range(2):  # never remembered as not there
        with pytest.raises(PluginFailed) as failed:
            list(RUNTIMES)
        name = more.get("row", "mine")
        assert failed.value.message.startswith(f"plug-in pf-mine 1.2: pocketforge.runtimes {name!r} {fault}")
        assert failed.value.hint == "pip install --upgrade pf-mine, or pip uninstall pf-mine"
    with pytest.raises(PluginFailed):
        parse_recipe(RECIPE.replace("RUNTIME", "onx"))


def test_two_packages_with_one_row(install: Install) -> None:
    install("pf-mine")
    install("pf-other")
    with pytest.raises(PluginFailed, match=r"plug-in pf-other 1.2: .* 'mine' is a row of pf-mine too: two rows"):
        len(RUNTIMES)


def test_a_recipe_s_word_is_checked_against_the_rows(install: Install) -> None:
    install("pf-mine")
    with pytest.raises(Exception, match=r"unknown value 'mime'; did you mean 'mine'\?"):
        parse_recipe(RECIPE.replace("RUNTIME", "mime"))


def test_doctor_lists_packages_with_versions_and_what_is_wrong(install: Install, tmp_path: Path) -> None:
    install("pf-mine")
    install("pf-other", "1 / 0", row="other", version="2")
    install("pf-third", group="runtime")
    rows = {row.name: row for row in examine(tmp_path / "cache", imports=False)}
    assert "mine" not in rows and "onnx" in rows  # as long as one is broken, none can be used
    told = {name.removeprefix("plug-in "): row for name, row in rows.items() if name.startswith("plug-in ")}
    assert (told["pf-mine"].state, told["pf-mine"].found) == ("ok", "1.2: runtimes mine")
    assert told["pf-other"].state == "missing"
    assert "(pf_other:ROW) cannot be imported: ZeroDivisionError: division by zero" in told["pf-other"].found
    assert "pocketforge.runtime 'mine' adds to nothing: known are pocketforge.runtimes" in told["pf-third"].found


def test_help_looks_for_no_package(install: Install, tmp_path: Path, repo_root: Path) -> None:
    install("pf-mine", "raise RuntimeError('looked at')")
    path = f"{tmp_path}:{repo_root / 'pipeline'}:{repo_root}"
    argv = [sys.executable, "-X", "importtime", "-m", "pocketforge", "--help"]
    done = subprocess.run(argv, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert "importlib.metadata" not in done.stderr


def test_a_registry_is_of_a_known_group() -> None:
    with pytest.raises(ValueError, match=r"group must be one of runtimes, .* found 'runtime'"):
        Registry("runtime", RuntimeInfo, {})
    assert set(plugins.GROUPS) >= {"runtimes", "devices", "sources", "metrics"}
