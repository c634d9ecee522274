"""Environments of what cannot be installed beside Pocketforge: each in a folder of its own, made by `pocketforge device
setup NAME` (the only part that uses the network), and used by `verify` from then on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge.devices.web import WEB, WebEnvironment
from pocketforge.errors import ToolFailed
from pocketforge.folders import environments_dir


@dataclass(frozen=True, slots=True)
class Environment:
    """One of Python packages.

    Attributes:
        name: As `device setup` takes it.
        version: Of its package, pinned.
        module: What is imported to see that it works.
        requirements: What pip installs.
        hint: Where its packages are to be had, for one that cannot be made.
    """

    name: str
    version: str
    module: str
    requirements: tuple[str, ...]
    hint: str

    @property
    def folder(self) -> Path:
        return environments_dir() / f"{self.name}-{self.version}"

    @property
    def python(self) -> Path | None:
        """Its interpreter, or None when it was not set up."""
        python = self.folder / "bin" / "python"
        return python if (self.folder / "ready").is_file() and python.exists() else None

    @property
    def ready(self) -> bool:
        """Whether it was set up."""
        return self.python is not None

    @property
    def words(self) -> str:
        """`NAME X`, or `none`: part of keys."""
        return f"{self.name} {self.version}" if self.ready else "none"

    def setup(self) -> Path:
        """Make it; returns its interpreter. Does nothing when it is there. Raises ToolFailed."""
        ready = self.python
        if ready is not None:
            return ready
        python = self.folder / "bin" / "python"
        for argv in (
            [sys.executable, "-P", "-m", "venv", "--clear", "--without-pip", str(self.folder)],
            [sys.executable, "-P", "-m", "pip", "--python", str(python), "install", "--quiet", *self.requirements],
            [str(python), "-I", "-c", f"import {self.module}"],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode != 0:
                raise ToolFailed(argv, done.returncode, done.stderr or done.stdout, hint=self.hint)
        (self.folder / "ready").touch()
        return python


# The last release under that name, which apps still ship. It needs NumPy < 2.
TFLITE_RUNTIME = Environment(
    "tflite-runtime",
    "2.14.0",
    "tflite_runtime.interpreter",
    ("tflite-runtime==2.14.0", "numpy<2"),
    "it has packages for Python 3.9 to 3.11 on Linux; the package index must be reachable for this one command",
)
# What many apps load .tflite files with. It brings OpenCV and a runtime of its own.
MEDIAPIPE = Environment(
    "mediapipe",
    "1.2.3",
    "mediapipe.tasks.python",
    ("mediapipe==1.2.3",),
    "the package index must be reachable for this one command",
)
ENVIRONMENTS: Mapping[str, Environment | WebEnvironment] = {
    each.name: each for each in (TFLITE_RUNTIME, MEDIAPIPE, WEB)
}
