"""Packages laid out as pip would, in a folder that is on the path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pocketforge import plugins
from pocketforge.recipe import budget, schemes
from pocketforge.report import formats

RUNTIME = """\
from pocketforge.registries import FileFormat, RuntimeInfo, SchemeSupport
ROW = RuntimeInfo(
    "mine", "mine.session", (FileFormat(".mine"),), ("lib",), (), "mine",
    schemes={"fp32": SchemeSupport("native", "as trained")},
)
"""
METRIC = """\
from pocketforge.recipe.budget import Metric
from pocketforge.recipe.ranges import Range
def take(path):
    return float(path.stat().st_size)
ROW = Metric("bytes", "lower", "file", "mine", ",.0f", Range(0, 1e9), taken_by="MODULE:take")
"""
# Their registries are to be there, whichever test comes first.
REGISTRIES = (budget.METRICS, schemes.SCHEMES, formats.FORMATS)


class Site:
    """A folder of installed packages; their modules are forgotten when the test is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(
        self, name: str, code: str = RUNTIME, group: str = "runtimes", row: str = "mine", version: str = "1.2"
    ) -> Path:
        """Its module (none without code) and its metadata. Gives the folder of the latter."""
        module = name.replace("-", "_")
        if code:
            self.modules.append(module)
            (self.folder / f"{module}.py").write_text(code.replace("MODULE", module), encoding="utf-8")
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[pocketforge.{group}]\n{row} = {module}:ROW\n", encoding="utf-8")
        self.look_anew()
        return info

    def look_anew(self) -> None:
        """As a new process would: a folder that changes twice within a tick of the clock is taken for unchanged."""
        importlib.invalidate_caches()
        for registry in plugins.registries():
            registry._added = None
        for module in self.modules:
            sys.modules.pop(module, None)


@contextmanager
def site_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(folder)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        for registry in plugins.registries():
            patch.setattr(registry, "_added", None)
        yield site
    site.look_anew()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with site_of(tmp_path / "site", monkeypatch) as laid_out:
        yield laid_out
