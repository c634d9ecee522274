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
# What a program started by a test has as PYTHONPATH: the source root, and the folder of android_bench.
SOURCES = os.pathsep.join((str(ROOT / "pipeline"), str(ROOT)))
RELEASE = ROOT / "models" / "digits_cnn" / "release.toml"
# The emulated devices of the shipped recipe.
EMULATED = ("pixel4", "rpi3bplus")


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
        [sys.executable, "-m", "pocketforge", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": SOURCES, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Release:
    """The run's cold build of the shipped six-target recipe, but for its emulated devices: counting takes long, other
    tests wait for this build, and what devices answer is in tests/e2e/test_emulated_builds.py. (`nox -s wheel` builds
    all of it.)

    Its cache must not be changed: copy it.
    """

    recipe: Path
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


def on_the_host(folder: Path) -> Path:
    """The shipped recipe without what it says of emulated devices, in a new folder with the model's other files."""
    shutil.copytree(RELEASE.parent, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    parts = RELEASE.read_text(encoding="utf-8").split("\n[[")
    kept = [part for part in parts if not any(f'"{device}"' in part for device in EMULATED)]
    (folder / RELEASE.name).write_text("\n[[".join(kept), encoding="utf-8")
    return folder / RELEASE.name


def cold_cache(folder: Path) -> Path:
    """Where `build_once(folder)` builds. Reading in it is allowed at any time: results appear in one rename."""
    # While writing tests, a cache to keep between runs saves minutes; CI sets nothing and builds from nothing.
    kept = os.environ.get("POCKETFORGE_TEST_CACHE")
    return Path(kept) if kept else folder / "cache"


def build_once(folder: Path) -> Release:
    """All six targets of models/digits_cnn/release.toml, built from nothing in `folder`, unless they already are.

    Workers that ask at the same time wait for the one that builds.
    """
    folder.mkdir(exist_ok=True)
    cache, ended = cold_cache(folder), folder / "done.json"
    recipe = folder / RELEASE.parent.name / RELEASE.name
    with FileLock(folder / "lock"):
        if not ended.exists():
            words = ("build", on_the_host(recipe.parent), "--jobs", 2, "--out", folder / "out", "--json")
            done = pocketforge(*words, cache=cache, cwd=folder, timeout=1500)
            ended.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return Release(recipe, cache, folder / "out", Done(**json.loads(ended.read_text(encoding="utf-8"))))
