"""The process that runs one stage.

Stages run in children of a fork server that has imported the heavy libraries once: each stage still has a process
of its own, so a crash or an out-of-memory kill ends that stage and nothing else, but a build does not pay the
exporters' imports (10 s and more) again for every step. Files are always *verified and benchmarked* in new
processes that hold only their runtime (see devices/host.py), never in a fork.
"""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from pipeline.errors import PocketforgeError, StageFailed, ToolMissing
from pipeline.store import explain_os_error

PRELOAD_VARIABLE = "POCKETFORGE_PRELOAD"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def context(preload: Sequence[str]) -> Any:
    """A fork-server context whose server imports `preload` before its first stage."""
    os.environ[PRELOAD_VARIABLE] = ",".join(preload)
    ctx = multiprocessing.get_context("forkserver")
    ctx.set_forkserver_preload(["pipeline.preloaded"] if preload else [])
    return ctx


def stage_main(
    module: str,
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    out: Path,
    log: Path,
    pipe: connection.Connection,
) -> None:
    """Body of a stage's process: run the stage, send ("progress" | "done" | "error" | "crash", …) over `pipe`."""
    # A group of our own, so that the build can end us together with whatever we started, and a ^C in the
    # terminal reaches only the build itself.
    os.setsid()
    # Locks that libraries make (progress bars) need no clean-up by the build's resource tracker under "fork".
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    _end_with_the_build()
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            pipe.send(message)

    try:
        stage = importlib.import_module(module)
        stage.run(inputs, spec, out, lambda fraction, text="": send("progress", float(fraction), str(text)))
    except PocketforgeError as error:
        traceback.print_exc()
        send("error", error)
    except MemoryError:
        traceback.print_exc()
        send("error", StageFailed("the stage ran out of memory", "use fewer samples or a smaller batch"))
    except OSError as error:
        traceback.print_exc()
        send("error", explain_os_error(error, out) if error.errno in _DISK_ERRORS else _crash(error))
    except ImportError as error:
        traceback.print_exc()
        send("error", _missing(error))
    except Exception as error:
        traceback.print_exc()
        send("error", _crash(error))
    else:
        send("done")
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.close()
    # The libraries' threads and exit handlers have nothing left to do that matters, and some hang.
    os._exit(0)


def _crash(error: BaseException) -> StageFailed:
    text = str(error).strip().splitlines()
    return StageFailed(f"{type(error).__name__}: {text[0] if text else 'no message'}", "the whole story is in the log")


def _missing(error: ImportError) -> PocketforgeError:
    return ToolMissing(f"cannot import {error.name or error}: {error}", "pocketforge doctor says what is missing")


def _end_with_the_build() -> None:
    """Die when the build dies, even by kill -9: nobody would read the result."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
