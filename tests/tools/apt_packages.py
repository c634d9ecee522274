"""Installs the Debian packages whose programs the tests run and this machine lacks: as root, or by `sudo -n`.

    python tests/tools/apt_packages.py

A program that is there stays as it is, whoever installed it. What cannot be installed is named, with the command that
does it, and the exit code is 1.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping

# Program → the package that has it.
PROGRAMS = {
    # The browser that web consumers of files run in, and what installs and starts it there.
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
    # Compilers of the code that `pocketforge package` writes: C++ for arm64, Java, Kotlin.
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "javac": "openjdk-17-jdk-headless",
    "kotlinc": "kotlin",
    # What makes an APK.
    "aapt2": "aapt",
    "zipalign": "zipalign",
    # A server for histories: the tests start one of their own, and never the machine's.
    "initdb": "postgresql",
    # A server for remote stores, started by a test with keys of its own; the machine's is not started.
    "sshd": "openssh-server",
}
# Debian keeps each version's programs in a folder of their own, which is on nobody's PATH; root's are on root's alone.
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/sbin")


def missing(programs: Mapping[str, str] = PROGRAMS) -> tuple[str, ...]:
    """The packages of the programs that are not there."""
    folders = [os.environ.get("PATH", os.defpath), *(path for each in ELSEWHERE for path in glob.glob(each))]
    path = os.pathsep.join(folders)
    return tuple(
        dict.fromkeys(package for program, package in programs.items() if not shutil.which(program, path=path))
    )


def become_root() -> list[str] | None:
    """What a command of root's begins with here; None where there is no way."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def install(packages: Iterable[str]) -> str:
    """Install them. Why that was not possible, or nothing."""
    packages = list(packages)
    apt, root = shutil.which("apt-get"), become_root()
    if apt is None or root is None:
        why = "there is no apt-get here" if apt is None else "this user is not root, and sudo asks for a password"
        return f"{why}; install what has: {' '.join(packages)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "--quiet"], ["install", "--yes", "--quiet", "--no-install-recommends", *packages]):
        argv = [*root, apt, *words]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
        if done.returncode != 0:
            return f"{' '.join(argv)} ended with exit code {done.returncode}:\n{done.stderr or done.stdout}"
    return ""


def main() -> int:
    packages = missing()
    fault = install(packages) if packages else ""
    left = missing()
    if fault or left:
        print(
            f"wanted programs of the packages {' '.join(packages)}: {fault or 'they are still missing'}",
            file=sys.stderr,
        )
        return 1
    print(f"installed {' '.join(packages)}" if packages else "every program is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
