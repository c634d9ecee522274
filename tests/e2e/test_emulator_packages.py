"""The real set-up of the emulator, from the packages that an earlier one kept: what a machine without network does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pocketforge.devices.emulator import manifest, parts, pinned

ROOT = Path(__file__).parents[2]


def test_the_real_set_up_works_from_kept_packages_alone(tmp_path):
    """Everything unpacked and compiled anew, on a machine without an index, mirrors or compiler."""
    real = parts.emulator_folder()
    assert manifest.read(real), "set it up first: pocketforge device setup emulator"
    (tmp_path / "bin").mkdir()
    apt_get = tmp_path / "bin" / "apt-get"
    apt_get.write_text("#!/bin/sh\necho no network >&2; exit 100\n")
    apt_get.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "pocketforge", "device", "setup", "emulator", "--from", real / "downloads"],
        cwd=ROOT,
        env={
            **os.environ,
            "POCKETFORGE_ENVIRONMENTS_DIR": str(tmp_path / "environments"),
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            "HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "home"),
        },
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    root = tmp_path / "environments" / "emulator-1"
    assert (done.returncode, done.stdout) == (0, f"{root}\n"), done.stderr
    assert not (tmp_path / "home").exists(), "a compiler's cache in the user's home"
    made, ours = manifest.read(root), manifest.read(real)
    assert made is not None and ours is not None
    assert made[parts.QEMU].version == ours[parts.QEMU].version
    for name in (*pinned.RUNTIMES, parts.LIBRARIES):
        assert {n: f.sha256 for n, f in made[name].files.items()} == {n: f.sha256 for n, f in ours[name].files.items()}
    # Each runner starts under the qemu and with the libraries that came with it, and says how it is used.
    for runtime in pinned.RUNTIMES:
        argv: list[str | Path] = [made["qemu"].path("qemu"), "-cpu", "cortex-a76", "-L", made[parts.LIBRARIES].folder]
        run = subprocess.run([*argv, made[parts.RUNNERS].path(runtime)], capture_output=True, text=True, timeout=60)
        assert run.returncode == 64 and run.stderr.startswith("pf_"), (runtime, run)
