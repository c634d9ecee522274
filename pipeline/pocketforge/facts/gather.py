"""What a plan depends on outside the recipe: file contents, library versions, this host. Loads no torch.

File hashes are remembered (run/fingerprints.py), so that a large image folder is read once, not at every build.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.kernels import kernels_here
from pocketforge.errors import RecipeError
from pocketforge.facts.calibration_rows import check_calibration_rows
from pocketforge.facts.gpus import training_gpus
from pocketforge.facts.kinds import look_up
from pocketforge.facts.processors import check_threads
from pocketforge.facts.versions import recipe_versions, version_of
from pocketforge.files import is_special
from pocketforge.plan.roles import file_role, judging_role, loss_role, teacher_role
from pocketforge.plan.steps import Facts, ReadFiles
from pocketforge.recipe import Data, Model, Output, Recipe, Target
from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.user_words import user_code
from pocketforge.run.fingerprints import Fingerprints
from pocketforge.run.inputs import look_at
from pocketforge.run.store import LAYOUT


@dataclass(frozen=True, slots=True)
class _Role:
    """Files that steps read under one name.

    Attributes:
        files: Lists them, with what their places say besides, if they do.
        tree: The folder whose listing decides which they are, if one does.
    """

    files: Callable[[], tuple[Iterable[Path], str]]
    tree: Path | None = None


def gather(recipe: Recipe, cache: Path | None = None, *, refresh: bool = False) -> Facts:
    """Look at the files, packages and machine that the recipe's plan depends on.

    refresh: believe no remembered hash. Raises RecipeError for every file the recipe names that is not there.
    """
    from pocketforge.devices.environments import TFLITE_RUNTIME

    check_threads(recipe)
    _check_named(recipe)
    check_calibration_rows(recipe)
    notes: list[str] = []
    machine = Facts(
        {},
        recipe_versions(recipe),
        host_identity(),
        TFLITE_RUNTIME.words,
        kernels=kernels_here(),
        consumers=_consumers(recipe),
        gpus=training_gpus(recipe),
    )
    looked = look_up(recipe, machine)
    roles = _model_roles(recipe, notes) | {role: _exactly(*paths) for role, paths in looked.files.items()}
    files = _look_at_all(roles, cache / LAYOUT if cache and not refresh else None)
    return dataclasses.replace(
        looked.facts,
        digests={role: read.digest for role, read in files.items()},
        data_notes=tuple(notes),
        files=files,
    )


def _consumers(recipe: Recipe) -> dict[str, str]:
    """Each that a target names → its environment."""
    from pocketforge.devices.environments import MEDIAPIPE
    from pocketforge.devices.web import WEB

    named = dict.fromkeys(consumer for target in recipe.targets for consumer in target.consumers)
    known = {
        "mediapipe": lambda: MEDIAPIPE.words,
        "litert_js": lambda: WEB.words,
        "onnxruntime_web": lambda: WEB.words,
        "mobile_checker": lambda: f"onnxruntime {version_of('onnxruntime')}",
    }
    return {name: known[name]() for name in named}


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
    roles: dict[str, _Role] = {}
    for _, table in recipe.tables_with_files():
        if isinstance(table, Model):
            if table.definition:
                roles["definition"] = _definition(recipe, table.definition)
            if table.weights:
                roles["weights"] = _exactly(recipe.resolve(table.weights))
        elif isinstance(table, Data):
            roles["data"] = _data(recipe, table, notes)
            if table.labels:
                roles["labels"] = _exactly(recipe.resolve(table.labels))
            if used := sorted({recipe.resolve(file) for file in table.preprocess_files().values()}):
                roles["preprocess"] = _exactly(*used)
        elif isinstance(table, Finetune):
            roles |= _training_roles(recipe, table)
        elif isinstance(table, Output):
            roles |= _output_roles(recipe, table)
        elif isinstance(table, Target) and table.file:
            roles[file_role(table.file)] = _exactly(recipe.resolve(table.file))
    return roles


def _data(recipe: Recipe, table: Data, notes: list[str]) -> _Role:
    from pocketforge.data.files import look_at as look_at_data
    from pocketforge.data.files import source_folder

    split_folders = dataclasses.asdict(table.split_folders) if table.split_folders else None

    def files() -> tuple[Iterable[Path], str]:
        read = look_at_data(table.source, recipe.resolve, split_folders, table.columns)
        notes[:] = read.notes
        return read.paths, read.layout

    return _Role(files, source_folder(table.source, recipe.resolve))


def _training_roles(recipe: Recipe, entry: Finetune) -> dict[str, _Role]:
    roles: dict[str, _Role] = {}
    if entry.distill and entry.distill.teacher:
        teacher = entry.distill.teacher
        roles[teacher_role(teacher)] = _definition(recipe, teacher.definition, teacher.weights)
    return roles | ({loss_role(entry.loss): _code(recipe, entry.loss.partition(":")[0])} if entry.loss else {})


def _output_roles(recipe: Recipe, output: Output) -> dict[str, _Role]:
    """The code of the user's metrics, post-processing and loss."""
    roles = {judging_role(file): _code(recipe, file) for file in output.judging_files().values()}
    loss = user_code(output.loss.type)
    return roles | ({loss_role(output.loss.type): _code(recipe, loss[0])} if loss else {})


def _code(recipe: Recipe, file: str) -> _Role:
    """A file of the user's with what it imports of its neighbours."""
    from pocketforge.model.files import module_files

    return _Role(functools.partial(_plainly, functools.partial(module_files, recipe.resolve(file))))


def _definition(recipe: Recipe, definition: str, *more: str) -> _Role:
    """more: other files of the same role."""
    from pocketforge.model.files import definition_files

    def files() -> list[Path]:
        return [*definition_files(definition, recipe.resolve), *map(recipe.resolve, more)]

    kind, _, place = definition.partition(":")
    return _Role(functools.partial(_plainly, files), recipe.resolve(place) if kind == "transformers" else None)


def _check_named(recipe: Recipe) -> None:
    """Raises RecipeError for every file that the recipe names and that is not there, or cannot be read to its end."""
    named = recipe.named_files()
    missing = [f"{where}: no file {path}" for where, path in named.items() if not path.exists()]
    if missing:
        raise RecipeError("the recipe names files that are not there:", faults=missing)
    special = [f"{where}: {path} is a pipe, a socket or a device" for where, path in named.items() if is_special(path)]
    if special:
        raise RecipeError("the recipe names what is no regular file:", faults=special)


def host_identity() -> str:
    """The processor that host benchmarks run on: another machine's results are not this one's."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "cpu part")):
                model = line.partition(":")[2].strip()
                break
    return f"{platform.node()} {platform.machine()} {model} x{os.cpu_count()}"
