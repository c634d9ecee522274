"""Rows that installed packages add to the registries: found by their metadata, refused with the package's name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_site import METRIC, RUNTIME, Site, site

from pocketforge import plugins
from pocketforge.cli.main import main
from pocketforge.commands.doctor import examine
from pocketforge.errors import PluginFailed, RecipeError
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.plugins import Registry
from pocketforge.recipe import METRICS
from pocketforge.recipe.toml import load_recipe, parse_recipe
from pocketforge.registries import RUNTIMES, RuntimeInfo

__all__ = ["site"]
RECIPE = """\
name = "x"
data = {source = "digits"}
target = [{name = "a", runtime = "RUNTIME"}]
model = {definition = "m.py"}
budget = [{metric = "size_bytes", limit = 1e6}, {metric = "metric", limit = 0.5}]
"""
# What nobody may look at who asks for none of it.
BROKEN = "raise RuntimeError('looked at')"
GROUPS = sorted(plugins.GROUPS)


def test_a_row_of_an_installed_package_is_one_of_ours_and_names_its_package_for_keys(site: Site) -> None:
    ours = list(RUNTIMES)
    site.install("pf-mine")
    assert list(RUNTIMES) == [*ours, "mine"] and len(RUNTIMES) == len(ours) + 1
    assert "pf_mine" not in sys.modules, "names are in the metadata"
    assert RUNTIMES["mine"].export_libraries == ("lib", "pf-mine")
    assert RUNTIMES["mine"].run_libraries == ("pf-mine",)
    assert "mine" in RUNTIMES and "pf_mine" in sys.modules
    assert RUNTIMES.brought_by("mine") == plugins.look("runtimes")[0][0]
    assert RUNTIMES.brought_by("onnx") is None
    with pytest.raises(KeyError):
        RUNTIMES["theirs"]


def test_rows_in_their_order_look_at_no_package(site: Site) -> None:
    site.install("pf-mine", BROKEN)
    assert RUNTIMES.in_order({"mine", "onnx", "executorch"}) == ["executorch", "onnx", "mine"]
    assert RUNTIMES.if_usable("mine") is None and RUNTIMES.if_usable("theirs") is None
    assert RUNTIMES.if_usable("onnx") is RUNTIMES["onnx"]


@pytest.mark.parametrize(
    ("code", "more", "fault"),
    [
        ("import no_such_module", {}, "(pf_mine:ROW) cannot be imported: ModuleNotFoundError: No module named 'no_"),
        ("x = 1", {}, "(pf_mine:ROW) cannot be imported: AttributeError: module 'pf_mine' has no attribute 'ROW'"),
        ("ROW = 'x'", {}, "(pf_mine:ROW) must be a RuntimeInfo, found a str"),
        (RUNTIME, {"row": "../x"}, "must be named in small letters, digits and '_'"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_error_that_names_its_package(
    site: Site, code: str, more: dict[str, str], fault: str
) -> None:
    site.install("pf-mine", code, **more)
    name = more.get("row", "mine")
    for _ in range(2):  # never remembered as not there
        with pytest.raises(PluginFailed) as failed:
            RUNTIMES[name]
        assert failed.value.message.startswith(f"plug-in pf-mine 1.2: pocketforge.runtimes {name!r} {fault}")
        assert failed.value.hint == "pip install --upgrade pf-mine, or pip uninstall pf-mine"
    with pytest.raises(PluginFailed):
        parse_recipe(RECIPE.replace("RUNTIME", name))
    with pytest.raises(RecipeError, match="unknown value 'onx'; did you mean 'onnx'"):
        parse_recipe(RECIPE.replace("RUNTIME", "onx"))


def test_two_packages_with_one_row(site: Site) -> None:
    site.install("pf-mine")
    site.install("pf-other")
    with pytest.raises(PluginFailed, match=r"plug-in pf-other 1.2: .* 'mine' is a row of pf-mine too: two rows"):
        RUNTIMES["mine"]
    assert list(RUNTIMES).count("mine") == 1


def test_a_recipe_s_word_is_checked_against_the_rows(site: Site) -> None:
    site.install("pf-mine")
    with pytest.raises(Exception, match=r"unknown value 'mime'; did you mean 'mine'\?"):
        parse_recipe(RECIPE.replace("RUNTIME", "mime"))


@pytest.fixture
def of_ours(tmp_path: Path) -> Path:
    """A recipe that names nothing but our rows."""
    (tmp_path / "m.py").write_text("def build(): ...\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("RUNTIME", "onnx"), encoding="utf-8")
    return tmp_path / "recipe.toml"


def keys_of(recipe: Path) -> list[str]:
    loaded = load_recipe(recipe)
    return [step.key for step in make_plan(loaded, gather(loaded)).steps]


def test_a_plan_of_our_rows_alone_looks_for_no_package(
    site: Site, of_ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys_of(of_ours)
    for group in GROUPS:
        site.install(f"pf-{group.replace('_', '-')}", BROKEN, group)
    monkeypatch.setattr(plugins, "look", lambda _group: pytest.fail("a package was looked for"))
    assert keys_of(of_ours) == before


@pytest.mark.parametrize("content", [b"no section\n[x\n= =\nbroken", b"[console_scripts]\na = \xff\xfe", b"[a]\n\x00"])
def test_what_is_wrong_with_a_package_of_others_is_nothing_of_ours(site: Site, content: bytes) -> None:
    (site.install("unrelated") / "entry_points.txt").write_bytes(content)
    site.install("pf-mine")
    assert [plugin.name for plugin in plugins.look()[0]] == ["mine"]
    assert "mine" in RUNTIMES and "theirs" not in RUNTIMES
    parse_recipe(RECIPE.replace("RUNTIME", "mine").replace('"metric"', '"size_bytes"'))


@pytest.mark.parametrize("content", [b"[pocketforge.runtimes]\nmine\n", b"[pocketforge.runtimes]\nmine = \xff:ROW\n"])
def test_a_package_of_ours_that_cannot_be_read_is_named(site: Site, of_ours: Path, content: bytes) -> None:
    (site.install("pf-mine") / "entry_points.txt").write_bytes(content)
    site.install("pf-other", row="other")
    for ask in (lambda: "mine" in RUNTIMES, lambda: RUNTIMES["theirs"]):
        with pytest.raises(PluginFailed, match=r"plug-in pf-mine: its entry_points\.txt cannot be read: \w+Error"):
            ask()
    assert "other" in RUNTIMES and {"mine", ""}.isdisjoint(RUNTIMES), "no other package is stopped by it"
    assert "other" in RUNTIMES.usable() and "cannot be read" in RUNTIMES.broken()[0]
    assert "mine" not in METRICS, "of another group it says nothing"
    keys_of(of_ours)
    assert [(who, "cannot be read" in fault) for who, fault in plugins.examine() if fault] == [("pf-mine", True)]


@pytest.mark.parametrize(
    "metadata", ["", "Metadata-Version: 2.1\nName: pf-mine\n", "Metadata-Version: 2.1\nVersion: 1\n"]
)
def test_a_package_without_a_version_cannot_be_told_from_another(site: Site, metadata: str) -> None:
    file = site.install("pf-mine") / "METADATA"
    file.write_text(metadata, encoding="utf-8") if metadata else file.unlink()
    name = "pf-mine" if "Name" in metadata else "pf_mine-1.2"
    with pytest.raises(PluginFailed, match=rf"plug-in {name} \(no version\): .* without METADATA, or with no Name or"):
        RUNTIMES["mine"]


def test_a_library_without_a_version_is_refused_by_the_step_that_uses_it(
    site: Site, of_ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = site.install("accelerate", "", version="9")
    (info / "METADATA").unlink()
    keys_of(of_ours)  # uses it not
    info = site.install("numpy", "", version="9")
    (info / "METADATA").unlink()
    with pytest.raises(Exception, match="numpy is installed and does not say its version") as refused:
        keys_of(of_ours)
    assert refused.type.__name__ == "ToolMissing"


def test_of_two_installs_of_one_package_the_first_counts(site: Site, tmp_path: Path) -> None:
    site.install("pf-mine", version="1.2")
    other = Site(tmp_path)
    other.install("pf-mine", version="1.1")
    sys.path.append(str(tmp_path))
    try:
        site.look_anew()
        assert [plugin.version for plugin in plugins.look("runtimes")[0]] == ["1.2"]
    finally:
        sys.path.remove(str(tmp_path))


def test_doctor_lists_packages_with_versions_and_what_is_wrong(site: Site, tmp_path: Path) -> None:
    site.install("pf-mine")
    site.install("pf-other", "1 / 0", row="other", version="2")
    site.install("pf-third", group="runtime")
    site.install("pf-ours", row="onnx")
    (site.install("pf-torn") / "entry_points.txt").write_text("[pocketforge.metrics]\nmine\n", encoding="utf-8")
    rows = {row.name: row for row in examine(tmp_path / "cache", imports=False)}
    # What can be read is used, whatever else is broken; of pf-torn nobody knows what it adds.
    assert "onnx" in rows and "cache" in rows
    told = {name.removeprefix("plug-in "): row for name, row in rows.items() if name.startswith("plug-in ")}
    assert (told["pf-mine"].state, told["pf-mine"].found) == ("ok", "1.2: runtimes mine")
    assert {name for name, row in told.items() if row.state == "missing"} == {
        "pf-other", "pf-third", "pf-ours", "pf-torn",
    }  # fmt: skip
    assert "(pf_other:ROW) cannot be imported: ZeroDivisionError: division by zero" in told["pf-other"].found
    assert "pocketforge.runtime 'mine' adds to nothing: known are pocketforge.runtimes" in told["pf-third"].found
    assert "'onnx' is a row of Pocketforge itself too: two rows of one name" in told["pf-ours"].found
    assert "its entry_points.txt cannot be read" in told["pf-torn"].found


@pytest.mark.parametrize("group", GROUPS)
def test_doctor_goes_on_after_a_broken_row_of_any_group(site: Site, tmp_path: Path, group: str) -> None:
    site.install("pf-broken", BROKEN, group)
    site.install("pf-wrong", "ROW = 3", group, row="wrong")
    rows = {row.name: row for row in examine(tmp_path / "cache", imports=False)}
    assert "cache" in rows
    assert rows["plug-in pf-broken"].state == rows["plug-in pf-wrong"].state == "missing"
    assert "cannot be imported: RuntimeError: looked at" in rows["plug-in pf-broken"].found
    assert "found a int" in rows["plug-in pf-wrong"].found


def run(site: Site, repo_root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = f"{site.folder}:{repo_root / 'pipeline'}:{repo_root}"
    argv = [sys.executable, "-P", "-m", "pocketforge", *words]
    env = {"PYTHONPATH": path, "HOME": str(site.folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_version_says_what_is_wrong_and_goes_on(site: Site, repo_root: Path) -> None:
    site.install("pf-broken", "raise SystemExit(7)", "schemes")
    site.install("pf-mine")
    done = run(site, repo_root, "--version")
    assert done.returncode == 0, done.stderr
    assert "  torch " in done.stdout and "  pf-mine 1.2\n" in done.stdout
    assert "plug-in pf-broken 1.2: pocketforge.schemes 'mine' (pf_broken:ROW) cannot be imported" in done.stdout


def test_prints_at_import_are_not_in_what_stdout_is_for(site: Site, of_ours: Path, repo_root: Path) -> None:
    loud = "import os, sys\nprint('printed')\nos.write(1, b'written')\nos.system('echo started')\n"
    loud += "sys.__stdout__.write('kept')\n"
    site.install("pf-loud", loud + METRIC, "metrics")
    text = of_ours.read_text(encoding="utf-8").replace("size_bytes", "mine")
    of_ours.write_text(text, encoding="utf-8")
    done = run(site, repo_root, "plan", str(of_ours), "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert all(word in done.stderr for word in ("printed", "written", "started", "kept"))


def test_help_looks_for_no_package(site: Site, repo_root: Path) -> None:
    site.install("pf-mine", BROKEN)
    path = f"{site.folder}:{repo_root / 'pipeline'}:{repo_root}"
    argv = [sys.executable, "-X", "importtime", "-m", "pocketforge", "--help"]
    done = subprocess.run(argv, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert "importlib.metadata" not in done.stderr


def test_a_registry_is_of_a_known_group() -> None:
    with pytest.raises(ValueError, match=r"group must be one of runtimes, .* found 'runtime'"):
        Registry("runtime", RuntimeInfo, {})
    assert set(plugins.GROUPS) >= {"runtimes", "devices", "sources", "metrics"}


def test_the_runtime_of_a_goal_is_one_that_the_recipe_uses(site: Site, of_ours: Path) -> None:
    site.install("pf-mine")
    goal = "compress = [{{type = 'prune_channels', goal = {{ metric = '{}', removed = 0.5, runtime = 'mine' }}}}]\n"
    text = of_ours.read_text(encoding="utf-8").replace("mine", "onnx")
    of_ours.write_text(goal.format("latency_ms") + text, encoding="utf-8")
    first = keys_of(of_ours)
    (site.folder / "pf_mine.py").write_text(RUNTIME + "# other numbers\n", encoding="utf-8")
    with pytest.raises(
        PluginFailed, match=r"plug-in pf-mine 1\.2: .* whose files changed since this process loaded it"
    ):
        keys_of(of_ours)  # its row is the one from before
    site.look_anew()
    changed = keys_of(of_ours)
    assert len(first) == len(changed) and first != changed, "its files are in the keys, without a new version"
    with pytest.raises(RecipeError, match=r"compress\[0\]\.goal\.runtime: mine has no program for ARM cores"):
        parse_recipe(goal.format("instructions").replace("'mine'", "'mine', device = 'x'") + text)


def test_all_files_of_a_package_are_in_its_keys_and_what_pip_wrote_beside_them_is_not(
    site: Site, of_ours: Path
) -> None:
    """An editable install has no list of them, and no new version when they are edited."""
    of_ours.write_text(RECIPE.replace("RUNTIME", "mine"), encoding="utf-8")
    info = site.install("pf-mine", RUNTIME.replace('"mine",', '"pf_parts.export",', 1))
    for name in ("pf_parts/export.py", "pf_parts/deep/data.bin", "pf_parts/__pycache__/export.pyc"):
        (site.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / name).write_bytes(b"# 1")
    (site.folder / "pf_parts" / "__init__.py").touch()
    (site.folder / "pf_more.txt").write_text("more", encoding="utf-8")
    record = "pf_more.txt,,\n__editable__.pf_mine.pth,,\n../../bin/pf,,\npf_mine-1.2.dist-info/RECORD,,\n"
    (info / "RECORD").write_text(record, encoding="utf-8")
    keys = [keys_of(of_ours)]
    for same in ("pf_parts/__pycache__/export.pyc", "__editable__.pf_mine.pth", "pf_mine-1.2.dist-info/INSTALLER"):
        (site.folder / same).write_bytes(b"# 2")
        assert keys_of(of_ours) == keys[0], same
    for changed in ("pf_mine.py", "pf_parts/export.py", "pf_parts/deep/data.bin", "pf_more.txt"):
        (site.folder / changed).write_bytes((site.folder / changed).read_bytes() + b"\n# 2")
        site.look_anew()
        keys.append(keys_of(of_ours))
    assert len({tuple(each) for each in keys}) == 5
    (info / "RECORD").write_bytes(b"\xff")
    with pytest.raises(PluginFailed, match=r"plug-in pf-mine 1\.2: .*: the package's files cannot be read: Unicode"):
        keys_of(of_ours)


def test_init_says_which_runtimes_it_leaves_out(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("pf-mine")
    site.install("pf-broken", BROKEN, row="broken")
    (tmp_path / "m.py").write_text("def build(): ...\n", encoding="utf-8")

    def stop(*_: object) -> None:
        raise RecipeError("checked elsewhere")

    monkeypatch.setattr("pocketforge.commands.check.check", stop)
    assert main(["init", str(tmp_path / "m.py"), "--data", "digits"]) == 2
    said = capsys.readouterr().err
    assert (
        "note: left out: plug-in pf-broken 1.2: pocketforge.runtimes 'broken'" in said and "checked elsewhere" in said
    )
    assert 'runtime = "mine"' in (tmp_path / "recipe.toml").read_text(encoding="utf-8")
