"""Coverage's tracer runs where measured rooms may, and rests elsewhere: under it, Python 3.11 takes half as much again
to twice as long, also for code that is not measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Tracing:
    """The tracer of a pytest-cov run; without one, nothing happens here."""

    def __init__(self, config: pytest.Config) -> None:
        plugin: Any = config.pluginmanager.getplugin("_cov")  # pytest-cov's
        self._controller: Any = plugin and plugin.cov_controller
        self._root = config.rootpath

    def stop(self) -> None:
        """As the process is set up: that which hands out tests to pytest-xdist's workers runs none, and a worker's own
        tracer starts with its session. pytest-cov 7.1 starts another one in each worker before, as if it handed out
        tests too: that one would trace whenever the worker's own rests, for nothing that is kept.
        """
        if self._controller is not None:
            self._controller.pause()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is traced meanwhile but measured modules as they are imported, with what they import: their
        definitions run once in a process, whoever is the first to need them. (A tracer that is stopped within a module
        goes on behind it, and sees no more of that module.)
        """
        if self._controller is None or not self._controller.started:
            yield
            return
        measured = [(self._root / source).resolve() for source in self._controller.cov.config.source or []]
        loaders: Any = SourceFileLoader
        inherited = loaders.exec_module

        def run(loader: SourceFileLoader, module: ModuleType) -> None:
            with contextlib.ExitStack() as stack:
                if not self._controller.started and any(Path(loader.path).is_relative_to(room) for room in measured):
                    self._controller.resume()
                    stack.callback(self._controller.pause)
                inherited(loader, module)

        self._controller.pause()
        loaders.exec_module = run
        try:
            yield
        finally:
            del loaders.exec_module
            self._controller.resume()
