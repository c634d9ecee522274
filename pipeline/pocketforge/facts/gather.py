"""What a plan depends on outside the recipe: file contents, library versions, this host. Loads no torch.

File hashes are remembered by (path, size, modification time, inode), as git's index does, so that a large image
folder is read once, not at every build.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from pocketforge.devices.kernels import kernels_here
from pocketforge.errors import RecipeError
from pocketforge.facts.processors import check_threads
from pocketforge.files import hash_file, is_special
from pocketforge.plan.roles import calibration_role, loss_role, profile_role, runner_role, teacher_role
from pocketforge.plan.steps import Facts, Phone
from pocketforge.recipe import SHARED_DEFINITIONS, Recipe
from pocketforge.recipe.device import X86_PREFIX, AdbDevice, EmulatedDevice
from pocketforge.registries import RUNTIMES, STAGES

ESTIMATION = Path(__file__).parents[1] / "estimation"


def gather(recipe: Recipe, cache: Path | None = None) -> Facts:
    """Look at the files, packages and machine that the recipe's plan depends on.

    Raises RecipeError for every file the recipe names that is not there.
    """
    from pocketforge.data.files import look_at
    from pocketforge.devices.legacy import legacy_version
    from pocketforge.model.files import definition_files, module_files

    check_threads(recipe)
    hashes = HashMemory(cache / "v1" / "fingerprints.json" if cache else None)
    _check_named(recipe)
    definition = definition_files(recipe.model.definition, recipe.resolve)
    split_folders = dataclasses.asdict(recipe.data.split_folders) if recipe.data.split_folders else None
    data = look_at(recipe.data.source, recipe.resolve, split_folders)
    roles: dict[str, Iterable[Path]] = {"definition": definition, "data": data.paths}
    if recipe.model.weights:
        roles["weights"] = [recipe.resolve(recipe.model.weights)]
    for _, entry in recipe.finetunes():
        if entry.distill and entry.distill.teacher:
            teacher = entry.distill.teacher
            files = definition_files(teacher.definition, recipe.resolve)
            roles[teacher_role(teacher)] = [*files, recipe.resolve(teacher.weights)]
        if entry.loss:
            roles[loss_role(entry.loss)] = module_files(recipe.resolve(entry.loss.partition(":")[0]))
    if recipe.data.labels:
        roles["labels"] = [recipe.resolve(recipe.data.labels)]
    emulated = [d for d in recipe.devices if isinstance(d, EmulatedDevice)]
    profiles, x86 = _profiles(recipe, emulated) if emulated else ({}, {})
    if emulated:
        roles |= {profile_role(name): [path] for name, path in profiles.items()}
        roles |= {calibration_role(d.calibration): [recipe.resolve(d.calibration)] for d in emulated if d.calibration}
        roles["core models"] = [p for p in ESTIMATION.rglob("*") if p.suffix in (".toml", ".json")]
    phones = [d for d in recipe.devices if isinstance(d, AdbDevice)]
    for device in phones:
        programs = (*device.runners.values(), *device.runner_libraries.values())
        roles |= {runner_role(file): [recipe.resolve(file)] for file in programs}
    try:
        digests = {role: hashes.of(paths) for role, paths in roles.items()}
        if data.layout:  # the names of folders that all files have in common are in no file's digest
            digests["data"] = hashlib.sha256(f"{digests['data']} {data.layout}".encode()).hexdigest()
    except OSError as error:
        raise RecipeError(f"cannot read {error.filename}: {error.strerror}") from None
    hashes.save()
    return Facts(
        digests,
        installed_versions(),
        host_identity(),
        legacy_version(),
        _emulator_identity() if any(not d.plays_x86 for d in emulated) or phones else "none",
        profiles,
        _phones(recipe, phones) if phones else {},
        kernels_here(),
        x86,
        data.notes,
    )


def _phones(recipe: Recipe, devices: Sequence[AdbDevice]) -> dict[str, Phone]:
    from pocketforge.facts.phones import find_phones

    return find_phones(devices, recipe.resolve)


def _profiles(recipe: Recipe, devices: Sequence[EmulatedDevice]) -> tuple[dict[str, Path], dict[str, str]]:
    """The devices' profiles and their files, and what plays the x86 hosts among them. Each is read, so that its faults
    are said before anything runs."""
    from pocketforge.devices.profile_files import find_profile, load_any
    from pocketforge.devices.profiles import DeviceProfile
    from pocketforge.devices.x86.device import identity

    found = {device.profile: find_profile(device.profile, recipe.resolve) for device in devices}
    x86 = {}
    for device in devices:
        profile = load_any(found[device.profile])
        if isinstance(profile, DeviceProfile) == device.plays_x86:
            kind = "an ARM device" if device.plays_x86 else "an x86 host"
            raise RecipeError(
                f"device {device.name!r}: {found[device.profile]} is a profile of {kind}",
                f"files of x86 hosts are called {X86_PREFIX}….toml, and those of ARM devices are not",
            )
        try:
            if isinstance(profile, DeviceProfile):
                profile.cluster(device.cores)
            else:
                x86[device.profile] = identity(profile)
        except ValueError as error:
            raise RecipeError(f"device {device.name!r}: {error}") from None
    return found, x86


def _check_named(recipe: Recipe) -> None:
    """Raises RecipeError for every file that the recipe names and that is not there, or cannot be read to its end."""
    named = {where: recipe.resolve(path) for where, path in _named_files(recipe).items()}
    missing = [f"{where}: no file {path}" for where, path in named.items() if not path.exists()]
    if missing:
        raise RecipeError("the recipe names files that are not there:", faults=missing)
    special = [f"{where}: {path} is a pipe, a socket or a device" for where, path in named.items() if is_special(path)]
    if special:
        raise RecipeError("the recipe names what is no regular file:", faults=special)


def _emulator_identity() -> str:
    from pocketforge.devices.emulator import parts

    return parts.identity()


def _named_files(recipe: Recipe) -> dict[str, str]:
    named = {"model.weights": recipe.model.weights, "data.labels": recipe.data.labels}
    named["model.definition"] = _definition_place(recipe.model.definition)
    for where, entry in recipe.finetunes():
        if entry.distill and entry.distill.teacher:
            named[f"{where}.distill.teacher.definition"] = _definition_place(entry.distill.teacher.definition)
            named[f"{where}.distill.teacher.weights"] = entry.distill.teacher.weights
        named[f"{where}.loss"] = entry.loss.partition(":")[0]
    for index, device in enumerate(recipe.devices):
        if isinstance(device, EmulatedDevice):
            named[f"device[{index}].calibration"] = device.calibration
        elif isinstance(device, AdbDevice):
            for key, files in (("runners", device.runners), ("runner_libraries", device.runner_libraries)):
                named |= {f"device[{index}].{key}.{runtime}": file for runtime, file in files.items()}
    kind, _, place = recipe.data.source.partition(":")
    if kind.endswith(".py"):
        named["data.source"] = kind
    elif place:
        named["data.source"] = place
    return {where: path for where, path in named.items() if path}


def _definition_place(definition: str) -> str:
    """The file or folder that a definition names; empty for a library's model."""
    if not definition.startswith(SHARED_DEFINITIONS):
        return definition
    return definition.partition(":")[2] if definition.startswith("transformers:") else ""


# What [[compress]] and the studies use besides torch (the extra `compress`).
COMPRESS_LIBRARIES = ("torch-pruning", "accelerate", "tensorboard", "matplotlib")


def installed_versions() -> dict[str, str]:
    """Versions of every distribution that any stage calls; `none` where one is not installed. Imports none."""
    names = {name for stage in STAGES.values() for name in stage.libraries}
    for runtime in RUNTIMES.values():
        names.update(runtime.export_libraries, runtime.run_libraries)
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


class HashMemory:
    """SHA-256 of files, remembered in a JSON file while size, time and inode stay the same."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._fresh = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(path.read_text(encoding="utf-8"))
                self._known = known if isinstance(known, dict) else {}

    def of(self, paths: Iterable[Path]) -> str:
        """One digest over names and contents of several files, in a fixed order."""
        files = sorted(paths)
        root = os.path.commonpath([p.parent for p in files]) if files else ""
        lines = [f"{os.path.relpath(p, root)} {self._one(p)}" for p in files]
        # A file's name is bytes, and not always UTF-8.
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def _one(self, path: Path) -> str:
        stat = path.stat()
        stamp: list[object] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:-1] == stamp:
            return str(known[-1])
        digest = hash_file(path)
        self._known[str(path)] = [*stamp, digest]
        self._fresh = True
        return digest

    def save(self) -> None:
        """Write back what was learnt. Losing it only costs time, so a failure is not an error."""
        if self._path is None or not self._fresh:
            return
        with contextlib.suppress(OSError):
            draft = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
            draft.write_text(json.dumps(self._known), encoding="utf-8")
            draft.replace(self._path)
