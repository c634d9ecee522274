"""Builds through the real toolchains, shared by the tests of a session: one cold build of the shipped recipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "models" / "digits_cnn" / "release.toml"


@dataclass(frozen=True)
class Done:
    """How a `pocketforge` process ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


def pocketforge(*args: object, cache: Path, cwd: Path, timeout: float = 600, env: dict[str, str] | None = None) -> Done:
    """Run the command line in a new process, with its own cache."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Release:
    """The session's cold build of the shipped six-target recipe. Its cache must not be changed: copy it."""

    cache: Path
    out: Path
    done: Done

    @property
    def report(self) -> Any:
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))

    def copy_cache(self, to: Path) -> Path:
        """A cache of one's own with everything already built."""
        shutil.copytree(self.cache, to)
        return to


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """All six targets of models/digits_cnn/release.toml, built from nothing."""
    folder = tmp_path_factory.mktemp("release")
    # While writing tests, a cache to keep between runs saves minutes; CI sets nothing and builds from nothing.
    kept = os.environ.get("POCKETFORGE_TEST_CACHE")
    cache = Path(kept) if kept else folder / "cache"
    done = pocketforge("build", RELEASE, "--jobs", 2, "--out", folder / "out", "--json", cache=cache, cwd=folder)
    return Release(cache, folder / "out", done)
