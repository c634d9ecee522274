"""An emulator of small parts: everything that a set-up does, on packages of a few bytes and without a compiler.

Only the C and C++ libraries, and what stands in for the runtimes' own, are real arm64 files. As a program
(`python small_emulator.py FOLDER ARGUMENTS…`) it is `pocketforge device setup emulator ARGUMENTS…` in that world.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketforge.devices.emulator import parts, pinned, provision

# With HANG set it says its process there, and goes to sleep.
ZIG = b"""#!/bin/sh
[ -z "$HANG" ] || { echo $$ >"$HANG.new"; /bin/mv "$HANG.new" "$HANG"; exec /bin/sleep 60; }
echo 0.0.1
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def wheel(folder: Path, name: str, content: bytes) -> pinned.Wheel:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        # A fixed date: the same content is the same file in every process.
        for inside, data in {
            f"{name}/main": content,
            f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_aarch64\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0)), data)
    if not path.exists() or path.read_bytes() != made.getvalue():
        path.write_bytes(made.getvalue())
    digest = hashlib.sha256(made.getvalue()).hexdigest()
    return pinned.Wheel(name, "1.0", path.name, digest, len(made.getvalue()), f"{name}/main", (f"{name}/*",))


@dataclass
class World:
    """folder/packages: what --from is given. folder/bin: the whole PATH. built: what the builders were asked for."""

    folder: Path
    libraries: Path
    build_s: float = 0.0
    built: list[str] = field(default_factory=list)
    before_building: Callable[[], None] = lambda: None

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    @property
    def qemu(self) -> Path:
        return self.folder / "bin" / "qemu-aarch64"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "POCKETFORGE_ENVIRONMENTS_DIR": str(self.folder / "environments"),
            "PATH": str(self.folder / "bin"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.packages),
        }

    def fill(self) -> None:
        """Once: the user's qemu, and the sources of what is built."""
        self.set_qemu("7.2.22")
        for name in ("runners.py", "reader.py"):
            (self.folder / name).write_text("# first version\n")

    def set_qemu(self, version: str) -> None:
        script(self.qemu, f"echo 'qemu-aarch64 version {version}'")

    def patches(self, runtimes: bytes = b"") -> list[tuple[Any, str, Any]]:
        """Module, attribute, value: what makes the set-up see this world."""
        content = runtimes or (self.libraries / "libdl.so.2").read_bytes()
        zig = wheel(self.packages, "pf_zig", ZIG)
        sources = {parts.RUNNERS: (self.folder / "runners.py",), parts.READER: (self.folder / "reader.py",)}
        return [
            (pinned, "RUNTIMES", {name: wheel(self.packages, f"pf_{name}", content) for name in pinned.RUNTIMES}),
            (pinned, "COMPILERS", dict.fromkeys(pinned.COMPILERS, zig)),
            (pinned, "SYSTEM_FOLDERS", (str(self.libraries),)),
            (parts, "_BUILT", sources),
            (provision, "_builders", lambda: provision.Builders(self.build_runners, self.build_reader)),
        ]

    def build_runners(self, zig: Path, folder: Path, wheels: Mapping[str, Path]) -> dict[str, Path]:
        assert zig.read_bytes() == ZIG
        assert os.environ["ZIG_GLOBAL_CACHE_DIR"].startswith(os.environ["POCKETFORGE_ENVIRONMENTS_DIR"])
        self.note("runners")
        return {name: Path(shutil.copy(place / f"pf_{name}" / "main", folder / name)) for name, place in wheels.items()}

    def build_reader(self, zig: Path, folder: Path) -> Path:
        self.note("reader")
        return script(folder / "reader", f"# {(self.folder / 'reader.py').read_text()}")

    def note(self, what: str) -> None:
        self.built.append(what)
        with (self.folder / "built.log").open("a") as log:
            log.write(f"{what}\n")
        time.sleep(self.build_s)
        self.before_building()


if __name__ == "__main__":
    from pocketforge.cli.main import main

    world = World(Path(sys.argv[1]), Path(os.environ["LIBRARIES"]), float(os.environ.get("BUILD_S", "0")))
    for module, name, value in world.patches():
        setattr(module, name, value)
    os.environ.update(world.environment)
    sys.exit(main(["device", "setup", "emulator", *sys.argv[2:]]))
