"""What a plan depends on outside the recipe: file contents, library versions, this host. Loads no torch.

File hashes are remembered (run/fingerprints.py), so that a large image folder is read once, not at every build.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pocketforge.devices.kernels import kernels_here
from pocketforge.errors import RecipeError
from pocketforge.facts.kinds import look_up
from pocketforge.facts.processors import check_threads
from pocketforge.files import is_special
from pocketforge.plan.roles import loss_role, teacher_role
from pocketforge.plan.steps import Facts, ReadFiles
from pocketforge.recipe import SHARED_DEFINITIONS, Recipe
from pocketforge.recipe.data import FUNCTION, parse_source
from pocketforge.registries import RUNTIMES, SOURCES, STAGES, RuntimeInfo
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import look_at
from pocketforge.run.store import LAYOUT


@dataclass(frozen=True, slots=True)
class _Role:
    """What lists a role's files (with what their places say besides, if they do), and the folder whose listing decides
    which they are, if one does."""

    files: Callable[[], tuple[Iterable[Path], str]]
    tree: Path | None = None


def gather(recipe: Recipe, cache: Path | None = None, *, refresh: bool = False) -> Facts:
    """Look at the files, packages and machine that the recipe's plan depends on.

    refresh: believe no remembered hash. Raises RecipeError for every file the recipe names that is not there.
    """
    from pocketforge.devices.legacy import legacy_version

    check_threads(recipe)
    _check_named(recipe)
    notes: list[str] = []
    machine = Facts({}, installed_versions(), host_identity(), legacy_version(), kernels=kernels_here())
    looked = look_up(recipe, machine)
    roles = _model_roles(recipe, notes) | {role: _exactly(*paths) for role, paths in looked.files.items()}
    files = _look_at_all(roles, cache / LAYOUT if cache and not refresh else None)
    return dataclasses.replace(
        looked.facts,
        digests={role: read.digest for role, read in files.items()},
        data_notes=tuple(notes),
        files=files,
    )


def _look_at_all(roles: dict[str, _Role], memory: Path | None) -> dict[str, ReadFiles]:
    try:
        with Fingerprints(memory) as known:
            return {name: look_at(role.files, known, role.tree) for name, role in roles.items()}
    except OSError as error:
        raise RecipeError(f"cannot read {error.filename}: {error.strerror}") from None


def _exactly(*paths: Path) -> _Role:
    return _Role(functools.partial(_plainly, functools.partial(list, paths)))


def _plainly(files: Callable[[], Iterable[Path]]) -> tuple[Iterable[Path], str]:
    return files(), ""


def _model_roles(recipe: Recipe, notes: list[str]) -> dict[str, _Role]:
    """The files that decide what the model is and what it is trained and tested on. notes: gets those of the data."""
    from pocketforge.data.files import look_at as look_at_data
    from pocketforge.data.files import source_folder
    from pocketforge.model.files import module_files

    split_folders = dataclasses.asdict(recipe.data.split_folders) if recipe.data.split_folders else None

    def data() -> tuple[Iterable[Path], str]:
        found = look_at_data(recipe.data.source, recipe.resolve, split_folders)
        notes[:] = found.notes
        return found.paths, found.layout

    roles = {
        "definition": _definition(recipe, recipe.model.definition),
        "data": _Role(data, source_folder(recipe.data.source, recipe.resolve)),
    }
    if recipe.model.weights:
        roles["weights"] = _exactly(recipe.resolve(recipe.model.weights))
    for _, entry in recipe.finetunes():
        if entry.distill and entry.distill.teacher:
            teacher = entry.distill.teacher
            roles[teacher_role(teacher)] = _definition(recipe, teacher.definition, teacher.weights)
        if entry.loss:
            loss = recipe.resolve(entry.loss.partition(":")[0])
            roles[loss_role(entry.loss)] = _Role(functools.partial(_plainly, functools.partial(module_files, loss)))
    if recipe.data.labels:
        roles["labels"] = _exactly(recipe.resolve(recipe.data.labels))
    return roles


def _definition(recipe: Recipe, definition: str, *more: str) -> _Role:
    """more: other files of the same role."""
    from pocketforge.model.files import definition_files

    def files() -> list[Path]:
        return [*definition_files(definition, recipe.resolve), *map(recipe.resolve, more)]

    kind, _, place = definition.partition(":")
    return _Role(functools.partial(_plainly, files), recipe.resolve(place) if kind == "transformers" else None)


def _check_named(recipe: Recipe) -> None:
    """Raises RecipeError for every file that the recipe names and that is not there, or cannot be read to its end."""
    named = {where: recipe.resolve(path) for where, path in _named_files(recipe).items()}
    missing = [f"{where}: no file {path}" for where, path in named.items() if not path.exists()]
    if missing:
        raise RecipeError("the recipe names files that are not there:", faults=missing)
    special = [f"{where}: {path} is a pipe, a socket or a device" for where, path in named.items() if is_special(path)]
    if special:
        raise RecipeError("the recipe names what is no regular file:", faults=special)


def _named_files(recipe: Recipe) -> dict[str, str]:
    named = {"model.weights": recipe.model.weights, "data.labels": recipe.data.labels}
    named["model.definition"] = _definition_place(recipe.model.definition)
    for where, entry in recipe.finetunes():
        if entry.distill and entry.distill.teacher:
            named[f"{where}.distill.teacher.definition"] = _definition_place(entry.distill.teacher.definition)
            named[f"{where}.distill.teacher.weights"] = entry.distill.teacher.weights
        named[f"{where}.loss"] = entry.loss.partition(":")[0]
    for index, device in enumerate(recipe.devices):
        named |= {f"device[{index}].{key}": file for key, file in device.named_files().items()}
    kind, place = parse_source(recipe.data.source)
    if kind == FUNCTION:
        named["data.source"] = place.partition(":")[0]
    elif SOURCES[kind].place in ("DIR", "FILE"):
        named["data.source"] = place
    return {where: path for where, path in named.items() if path}


def _definition_place(definition: str) -> str:
    """The file or folder that a definition names; empty for a library's model."""
    if not definition.startswith(SHARED_DEFINITIONS):
        return definition
    return definition.partition(":")[2] if definition.startswith("transformers:") else ""


# What [[compress]] and the studies use besides torch (the extra `compress`).
COMPRESS_LIBRARIES = ("torch-pruning", "accelerate", "tensorboard", "matplotlib")


def installed_versions(runtimes: Mapping[str, RuntimeInfo] = RUNTIMES) -> dict[str, str]:
    """Versions of every distribution that any stage calls; `none` where one is not installed. Imports none."""
    names = {name for stage in STAGES.values() for name in stage.libraries}
    for runtime in runtimes.values():
        names.update(runtime.export_libraries, runtime.run_libraries)
    names.update(*(source.libraries for source in SOURCES.values()))
    versions = {}
    for name in sorted(names | {"torchvision", "timm", "transformers"} | set(COMPRESS_LIBRARIES)):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions


def host_identity() -> str:
    """The processor that host benchmarks run on: another machine's results are not this one's."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "cpu part")):
                model = line.partition(":")[2].strip()
                break
    return f"{platform.node()} {platform.machine()} {model} x{os.cpu_count()}"
