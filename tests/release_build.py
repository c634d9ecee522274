"""One cold build of the shipped recipe for a whole test run, also when several workers run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
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
    """The run's cold build of the shipped six-target recipe. Its cache must not be changed: copy it."""

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


def build_once(folder: Path) -> Release:
    """All six targets of models/digits_cnn/release.toml, built from nothing in `folder`, unless they already are.

    Workers that ask at the same time wait for the one that builds.
    """
    folder.mkdir(exist_ok=True)
    # While writing tests, a cache to keep between runs saves minutes; CI sets nothing and builds from nothing.
    kept = os.environ.get("POCKETFORGE_TEST_CACHE")
    cache, ended = Path(kept) if kept else folder / "cache", folder / "done.json"
    with FileLock(folder / "lock"):
        if not ended.exists():
            done = pocketforge(
                "build", RELEASE, "--jobs", 2, "--out", folder / "out", "--json", cache=cache, cwd=folder
            )
            ended.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return Release(cache, folder / "out", Done(**json.loads(ended.read_text(encoding="utf-8"))))
