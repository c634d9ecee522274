"""The packages of this folder, installed for a test: a folder with their modules and what pip writes beside them."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pocketforge import plugins

HERE = Path(__file__).parent
# What builds with a plug-in begin with: a model of two layers, and a recipe to which each adds what it is about.
MODEL = """\
from torch import nn


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""
HEAD = """\
name = "outside"
[model]
definition = "model.py"
[data]
source = "digits"
eval_samples = 40
calibration_samples = 10
"""


@dataclass(frozen=True)
class Package:
    """A plug-in package: what it adds to, and what of its pyproject.toml an installation knows."""

    kind: str
    name: str
    version: str
    entry_points: dict[str, dict[str, str]]

    @property
    def files(self) -> list[str]:
        """What its author wrote, by name."""
        inside = (HERE / self.kind).rglob("*")
        return sorted(str(p.relative_to(HERE / self.kind)) for p in inside if p.is_file() and p.suffix != ".pyc")


def package(kind: str) -> Package:
    project = tomllib.loads((HERE / kind / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Package(kind, project["name"], project["version"], project["entry-points"])


def packages() -> list[Package]:
    return [package(path.parent.name) for path in sorted(HERE.glob("*/pyproject.toml"))]


@contextmanager
def installed(
    kind: str, site: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "", path: bool = True
) -> Iterator[Package]:
    """`pip install tests/plugins/KIND` into `site`, which this process and those that it starts look in."""
    one = package(kind)
    one = replace(one, version=version or one.version)
    site.mkdir(parents=True, exist_ok=True)
    modules = [name for name in one.files if name != "pyproject.toml"]
    for name in modules:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / kind / name, site / name)
    info = site / f"{one.name.replace('-', '_')}-{one.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {one.name}\nVersion: {one.version}\n", "utf-8")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in rows.items())])
        for group, rows in one.entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(sections) + "\n", "utf-8")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(site)
        for registry in plugins.registries():
            patch.setattr(registry, "_added", None)
        yield one
    for name in modules:
        sys.modules.pop(name.removesuffix(".py").partition("/")[0], None)
