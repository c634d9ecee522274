"""Versions of the libraries that stages call. They are read from what pip wrote; no library is imported for them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from pocketforge.facts.parts import Info
from pocketforge.facts.plugged import package_versions, rows_of, used_runtime
from pocketforge.plan.steps import UNKNOWN_VERSION
from pocketforge.recipe import Metric, Recipe
from pocketforge.recipe.preprocess import STEP_LIBRARIES
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.registries import (
    DEVICES,
    RUNTIMES,
    SOURCES,
    STAGES,
    DeviceInfo,
    RuntimeInfo,
)

# What [[compress]] and the studies use besides torch (the extra `compress`).
COMPRESS_LIBRARIES = ("torch-pruning", "accelerate", "tensorboard", "matplotlib")
# What outputs with roles are judged with (the extra `metrics`).
METRICS_LIBRARIES = ("torchmetrics", "faster-coco-eval", "scipy")
# What a recipe's model may be of.
_MODEL_LIBRARIES = ("torchvision", "timm", "transformers")


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions by name, sorted."""
    return {name: version_of(name) for name in sorted(set(names))}


def version_of(name: str) -> str:
    """Of one library; `none` where it is not installed, `unknown` where its metadata does not say."""
    try:
        found: str | None = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
    except (KeyError, TypeError, ValueError):  # damaged metadata, by version of Python
        found = None
    return found or UNKNOWN_VERSION


def installed_versions() -> dict[str, str]:
    """Of every library that any stage calls, those of plug-ins that can be used too."""
    rows: list[Info] = []
    for registry in (RUNTIMES, SCHEMES, DEVICES, SOURCES):
        rows += registry.usable().values()
    return versions_of(_libraries(rows))


def recipe_versions(recipe: Recipe) -> dict[str, str]:
    """Of every library that a stage of ours calls, and of those that the recipe's own rows name. Of a package that
    brings one of these rows also a digest of its files: what is edited in place has no new version."""
    used = rows_of(recipe)
    versions = versions_of(our_libraries() | _libraries(row.info for row in used))
    return versions | package_versions(used)


def our_libraries() -> set[str]:
    """Every library that a stage of ours calls."""
    ours: list[Info] = []
    for registry in (RUNTIMES, SCHEMES, DEVICES, SOURCES):
        ours += registry.ours.values()
    return _libraries(ours)


def runtime_versions(name: str) -> dict[str, str]:
    """Of what exports to a runtime and runs its files. Raises KeyError for a name that none has, PluginFailed."""
    row = used_runtime(name)
    assert isinstance(row.info, RuntimeInfo)
    return versions_of((*row.info.export_libraries, *row.info.run_libraries)) | package_versions([row])


def _libraries(rows: Iterable[Info]) -> set[str]:
    """What these rows name, and what every build may use."""
    names = {*COMPRESS_LIBRARIES, *METRICS_LIBRARIES, *STEP_LIBRARIES, *_MODEL_LIBRARIES}
    names.update(*(stage.libraries for stage in STAGES.values()))
    for row in rows:
        if isinstance(row, RuntimeInfo):
            names.update(row.export_libraries, row.run_libraries)
        elif not isinstance(row, Metric):  # no step depends on one
            names.update(row.libraries)
        if isinstance(row, DeviceInfo):
            names.update(*(stage.libraries for stage in row.stages.values()))
    return names
