"""Running the command line: in this process where that is quick, in a new one where the real thing matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from release_build import SOURCES, Done
from warm_server import warm_stages

from pocketforge.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


Cli = Callable[..., Done]


@pytest.fixture
def cli(cache: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, with a cache of the test's own."""

    def run(*args: object) -> Done:
        capsys.readouterr()
        with warm_stages():
            code = main([str(a) for a in args])
        found = capsys.readouterr()
        return Done(code, found.out, found.err)

    return run


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share whose models see the same data, so that it is read and split once."""
    return tmp_path_factory.mktemp("warm")


@pytest.fixture(scope="session")
def program() -> Cli:
    """Run `python -m pocketforge …` in a new process."""

    def run(
        *args: object, cache: Path, cwd: Path, env: dict[str, str] | None = None, python: tuple[str, ...] = ()
    ) -> Done:
        done = subprocess.run(
            [sys.executable, *python, "-m", "pocketforge", *map(str, args)],
            cwd=cwd,
            env={**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), "PYTHONPATH": SOURCES, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
