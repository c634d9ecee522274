"""The command line in this process, with one fork server for all stages of all tests.

A program's fork server imports the toolchains before its first stage: 3 s for tracing, 10 and more with three
exporters, for each program that a test starts. What a build answers does not depend on it: stages have processes of
their own either way. Tests of the program itself (signals, kills, imports, what is left open) start a real one.

Nothing here imports torch into this process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from common_server import CommonServer
from release_build import ROOT, Done
from warm_runtimes import WarmRuntimes

from pocketforge.errors import EXIT_INTERRUPTED
from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.run import stage_server, worker

# Of a server that has computed with several threads, no fork can: it would wait for them for ever. Here, as conftest.py
# imports this before it sets its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What the server starts with, whichever test needs it first. Stages have the environment of the test instead.
ENVIRONMENT = dict(os.environ)

_start_server = worker.context
_lock = threading.Lock()
# Beside the one of this process, which tests of few stages start with what those need: to give one up for the other
# would be to import everything again each time.
_warm_server = CommonServer()
_warm_runtimes: WarmRuntimes | None = None


def share(folder: Path, run: int | None = None) -> None:
    """The warm server is the one of all processes that name this folder, and so are the runtimes that files run in.
    run: the process that these end with; this one when absent.
    """
    global _warm_runtimes
    _warm_server.folder = folder
    _warm_runtimes = WarmRuntimes(folder / "runtimes", run or os.getpid(), ENVIRONMENT)


def warm_runtimes() -> contextlib.AbstractContextManager[None]:
    """Model files of this process run in forks of what all workers share."""
    return _warm_runtimes.here() if _warm_runtimes is not None else contextlib.nullcontext()


def everything() -> list[str]:
    """What any build's server imports, each module once, and patterns that stages would trace anew, each for itself."""
    preloads = [*((*stage.preload, stage.module) for stage in STAGES.values()), *(r.preload for r in RUNTIMES.values())]
    modules = [name for preload in preloads for name in preload]
    return list(dict.fromkeys([*modules, "warm_patterns"]))


def in_process(
    *args: object,
    cache: Path,
    cwd: Path,
    timeout: float = 600,
    env: dict[str, str] | None = None,
    hidden: Collection[str] = (),
    stages: contextlib.AbstractContextManager[None] | None = None,
) -> Done:
    """As `release_build.pocketforge`, without a new process for the command line.

    What `main` changes of this process is put back: signal handlers, environment, folder, stdout and stderr.
    hidden: packages that stages find not installed. stages: where they come from, if not from the warm server.
    """
    argv = [str(a) for a in args]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_as_it_was({**os.environ, "POCKETFORGE_CACHE_DIR": str(cache), **(env or {})}, cwd))
        stack.enter_context(stages or warm_stages(hidden))
        out, err = (stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        with _streams(out, err), _at_most(timeout, argv):
            code = _exit_code(argv)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt  # at the terminal: it was meant for pytest, and `main` took it
        return Done(code, _text(out), _text(err))


@contextlib.contextmanager
def warm_stages(hidden: Collection[str] = ()) -> Iterator[None]:
    """Stages of builds in this process come from the one server that has imported everything, and the files that they
    and it run are run by processes that have imported a runtime."""

    def context(preload: Sequence[str]) -> _Context:
        return _Context(_warm_context(), hidden)

    before, worker.context = worker.context, context
    try:
        with stage_server.replaced(_warm_server), warm_runtimes():
            yield
    finally:
        worker.context = before


def in_stage(function: str, *args: object) -> None:
    """Run `module.function` of a file in tests/ in a process that has the toolchains, as this one need not."""
    with warm_stages():
        process = worker.context(()).Process(target=_call, args=(function, *args), name=function)
        process.start()
        process.join()
    assert process.exitcode == 0, function


def _call(function: str, *args: object) -> None:
    module, _, name = function.partition(".")
    getattr(importlib.import_module(module), name)(*args)


@dataclass(frozen=True)
class Surroundings:
    """What a stage finds as if the server were of its build's own: the test's environment, not the server's.

    What libraries set when the server imported them stays, as it would. runtimes: None starts a new interpreter for
    each file that is run.
    """

    environment: dict[str, str]
    gone: Collection[str]
    hidden: Collection[str]
    runtimes: WarmRuntimes | None

    def run(self, stage: Callable[..., None], *args: Any) -> None:
        """Body of a stage's process."""
        for name in self.gone:
            os.environ.pop(name, None)
        set_by_libraries = {name: value for name, value in os.environ.items() if name not in self.environment}
        os.environ.update(self.environment)
        modules: dict[str, Any] = sys.modules
        modules.update(dict.fromkeys(self.hidden))  # None there is what the import system takes for "not found"
        with self.runtimes.here(set_by_libraries) if self.runtimes is not None else contextlib.nullcontext():
            stage(*args)


class _Context:
    """A fork-server context as `pocketforge.run.walk` uses one."""

    def __init__(self, context: Any, hidden: Collection[str]) -> None:
        self._context = context
        self._hidden = tuple(hidden)
        self.Pipe = context.Pipe

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> Any:
        environment = dict(os.environ)
        gone = {*ENVIRONMENT, "PYTHONPATH"} - environment.keys()
        surroundings = Surroundings(environment, gone, self._hidden, _warm_runtimes)
        return self._context.Process(target=surroundings.run, args=(target, *args), name=name)


def _warm_context() -> Any:
    with _lock:
        # The environment and the folder of the test that happens to be first are none of the next test's.
        told = {name: value for name, value in os.environ.items() if name == "ORT_DISABLE_TELEMETRY"}
        told["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "tests"), ENVIRONMENT.get("PYTHONPATH", "")]))
        with _as_it_was({**ENVIRONMENT, **told}, ROOT):
            context = _start_server(everything())
            _start()
    return context


def _start() -> None:
    for name in {"COLUMNS", "LINES"} - ENVIRONMENT.keys():
        # readline, which pytest imports, sets them where os.environ does not see it, and the server would have them.
        os.unsetenv(name)
    _warm_server.ensure_running()


def _exit_code(argv: list[str]) -> int:
    """As Python would end: what `main` lets through is a traceback on stderr and exit code 1."""
    from pocketforge.cli.main import main  # not needed by stages, which import this module too

    try:
        return main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception:
        traceback.print_exc()
        return 1


@contextlib.contextmanager
def _as_it_was(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """In this environment and folder; afterwards both are as before, and so are the handlers of signals."""
    variables, cwd = dict(os.environ), Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(variables)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _streams(out: IO[str], err: IO[str]) -> Iterator[None]:
    """stdout and stderr into these files, also of what writes to the descriptors without asking Python."""
    saved, streams = [os.dup(1), os.dup(2)], (sys.stdin, sys.stdout, sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    for number, file in ((1, out), (2, err)):
        os.dup2(file.fileno(), number)
    try:
        with (
            open(os.devnull, encoding="utf-8") as sys.stdin,
            open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
            open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1) as sys.stderr,
        ):
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextlib.contextmanager
def _at_most(seconds: float, argv: list[str]) -> Iterator[None]:
    """End a command that hangs as ^C would: stages are stopped and the store stays whole."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if ended.is_set():
        raise subprocess.TimeoutExpired(argv, seconds)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
