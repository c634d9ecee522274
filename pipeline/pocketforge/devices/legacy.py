"""The environment of tflite-runtime 2.14, the last release under that name, which apps still ship.

It needs NumPy < 2, so it lives in an environment of its own, made by
`pocketforge device setup tflite-runtime` (the only part that uses the network), and used by `verify` from then on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pocketforge.errors import ToolFailed
from pocketforge.folders import environments_dir

VERSION = "2.14.0"
REQUIREMENTS = (f"tflite-runtime=={VERSION}", "numpy<2")
HINT = "it has packages for Python 3.9 to 3.11 on Linux; the package index must be reachable for this one command"


def legacy_folder() -> Path:
    return environments_dir() / f"tflite-runtime-{VERSION}"


def legacy_python() -> Path | None:
    """The environment's interpreter, or None when it was not set up."""
    python = legacy_folder() / "bin" / "python"
    return python if (legacy_folder() / "ready").is_file() and python.exists() else None


def legacy_version() -> str:
    """`tflite-runtime X`, or `none`: part of verify's keys."""
    return f"tflite-runtime {VERSION}" if legacy_python() else "none"


def setup_legacy() -> Path:
    """Make the environment; returns its interpreter. Does nothing when it is there. Raises ToolFailed."""
    ready = legacy_python()
    if ready is not None:
        return ready
    folder = legacy_folder()
    python = folder / "bin" / "python"
    for argv in (
        [sys.executable, "-P", "-m", "venv", "--clear", "--without-pip", str(folder)],
        [sys.executable, "-P", "-m", "pip", "--python", str(python), "install", "--quiet", *REQUIREMENTS],
        [str(python), "-I", "-c", "import tflite_runtime.interpreter"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise ToolFailed(argv, done.returncode, done.stderr or done.stdout, hint=HINT)
    (folder / "ready").touch()
    return python
