"""The asserts of test files, rewritten once in a run: pytest does so as it imports a file, and each worker imports all.

pytest's own functions, and private: its cache is what the workers read, by the hash of the source. Where Python is told
to write no bytecode, as containers tell it, pytest writes none; and in a fresh clone, workers that start together
would all find it empty.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

rewrite: Any = importlib.import_module("_pytest.assertion.rewrite")


def rewrite_once(config: pytest.Config, files: Sequence[Path]) -> None:
    """Put the rewritten files where pytest looks for them first, on all processors."""
    missing = [path for path in files if rewrite._read_pyc(path, cached(path)) is None]
    if missing:
        fork = multiprocessing.get_context("fork")  # pytest's configuration is not pickled; no thread runs yet
        with ProcessPoolExecutor(os.cpu_count(), fork, _take, (config,)) as pool:
            list(pool.map(_rewrite, missing, chunksize=8))


def cached(path: Path) -> Path:
    folder: Path = rewrite.get_cache_dir(path)
    return folder / f"{path.stem}{rewrite.PYC_TAIL}"


_config: Any = None


def _take(config: pytest.Config) -> None:
    global _config
    _config = config


def _rewrite(path: Path) -> None:
    source_hash, code = rewrite._rewrite_test(path, _config)
    to = cached(path)
    if rewrite.try_makedirs(to.parent):
        rewrite._write_pyc(_config.stash[rewrite.assertstate_key], code, source_hash, to)
