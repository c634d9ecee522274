"""Processes on this machine that train one model together (gloo over the loopback interface, or NCCL; no network).

`together` starts them and runs one function in each. They are new interpreters, as a process that has already used
torch's threads cannot be forked. They meet through a file, not a port, so two builds cannot meet each other.

    python -m pocketforge.training.distributed REQUEST        one of them, started by `together` only
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketforge import events
from pocketforge.errors import DeviceUnavailable, ModelError, PocketforgeError, StageFailed, ToolFailed, ToolMissing
from pocketforge.files import replace_whole
from pocketforge.folders import leave_working_folder
from pocketforge.run import tracker
from pocketforge.specs.base import Spec
from pocketforge.training.engine import WORLD_SIZE

# Errors that mean something to the user; any other is a crash, whose story is in the log.
_KINDS: dict[str, type[PocketforgeError]] = {
    "ModelError": ModelError,
    "ToolMissing": ToolMissing,
    "DeviceUnavailable": DeviceUnavailable,
}
_POLL_S = 0.1
# What processes talk through: on GPUs tensors of both sides.
_CPUS, _GPUS = "gloo", "cpu:gloo,cuda:nccl"


@dataclass(frozen=True, slots=True)
class _Request:
    """What each process is to run: `function` ("module:name") with what a stage's run gets."""

    function: str
    inputs: Mapping[str, Path]
    spec: Spec | Mapping[str, object]
    out: Path
    scratch: Path
    backend: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error that one of them met, as it goes to the process that started them."""

    kind: str
    message: str
    hint: str


def together(
    processes: int,
    function: str,
    inputs: Mapping[str, Path],
    spec: Spec | Mapping[str, object],
    out: Path,
    emit: events.Progress,
    *,
    environment: Mapping[str, str] | None = None,
    gpus: bool = False,
) -> None:
    """Run `function` ("module:name", called as a stage's run) in each of `processes` processes, and wait for all.

    Only the first one's progress is heard, and only it shall write into `out`. When one fails, the others are ended
    and its error is raised: those of _KINDS as they were, else StageFailed; ToolFailed when it was killed. gpus: each
    computes on a GPU of its own.
    """
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        folder = Path(scratch)
        request = folder / "request.pickle"
        request.write_bytes(pickle.dumps(_Request(function, dict(inputs), spec, out, folder, _GPUS if gpus else _CPUS)))
        reading, writing = os.pipe()
        started: list[subprocess.Popen[bytes]] = []
        try:
            argv = [sys.executable, "-P", "-m", __name__, os.fspath(request), str(writing)]
            for rank in range(processes):
                started.append(
                    subprocess.Popen(  # they end when their stdin closes: with us, however we end
                        argv,
                        stdin=subprocess.PIPE,
                        pass_fds=[writing],
                        env={**os.environ, **(environment or {}), **_environment(rank, processes)},
                    )
                )
            os.close(writing)
            listener = threading.Thread(target=_listen, args=(reading, emit), daemon=True)
            listener.start()
            _wait(started, folder, argv)
            listener.join()
        finally:
            for process in started:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()


def _environment(rank: int, world: int) -> dict[str, str]:
    root = os.fspath(Path(__file__).parents[2])
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world),
        WORLD_SIZE: str(world),
        # accelerate wants to see them; the processes meet through a file.
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "GLOO_SOCKET_IFNAME": loopback,
        "OMP_NUM_THREADS": "1",
    }


def _listen(reading: int, emit: events.Progress) -> None:
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            fraction, message = json.loads(line)
            emit(fraction, message)


def _wait(started: list[subprocess.Popen[bytes]], folder: Path, argv: list[str]) -> None:
    while True:
        codes = [process.poll() for process in started]
        if all(code == 0 for code in codes):
            return
        if any(codes):
            # The others notice within moments that one is gone, and fail with less telling words.
            time.sleep(_POLL_S)
            codes = [process.poll() for process in started]
            error = _error_of(folder)
            # Not SIGABRT: gloo ends a process so, that lost another.
            killed = next((code for code in codes if code is not None and code < 0 and code != -signal.SIGABRT), 0)
            # What the others say of one that a signal ended is only that it is gone.
            if error is not None and not (killed and type(error) is StageFailed):
                raise error
            raise ToolFailed(argv[:3], killed or next(filter(None, codes)), "a training process was killed")
        time.sleep(_POLL_S)


def _error_of(folder: Path) -> PocketforgeError | None:
    """The error that one of them wrote down: one that says something to the user, if there is one."""
    failures = [_Failure(**json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("error-*.json"))]
    for failure in failures:
        if failure.kind in _KINDS:
            return _KINDS[failure.kind](failure.message, failure.hint)
    if failures:
        return StageFailed(f"{failures[0].kind}: {failures[0].message}", "the whole story is in the log")
    return None


def main(request_file: str, progress: str) -> int:
    leave_working_folder()
    tracker.join()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # `together` wrote it, into a folder of its own.
    request: _Request = pickle.loads(Path(request_file).read_bytes())  # noqa: S301
    rank, world = int(os.environ["RANK"]), int(os.environ[WORLD_SIZE])

    def emit(fraction: float, message: str = "") -> None:
        if rank == 0:
            with contextlib.suppress(OSError):
                os.write(int(progress), (json.dumps([float(fraction), str(message)]) + "\n").encode())

    try:
        import torch.distributed

        torch.distributed.init_process_group(
            request.backend, init_method=(request.scratch / "meeting").as_uri(), rank=rank, world_size=world
        )
        module, _, name = request.function.partition(":")
        getattr(importlib.import_module(module), name)(request.inputs, request.spec, request.out, emit)
        # Nobody leaves while another still talks.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    except Exception as error:
        traceback.print_exc()
        failure = _Failure(type(error).__name__, str(getattr(error, "message", error)), str(getattr(error, "hint", "")))
        replace_whole(request.scratch / f"error-{rank}.json", json.dumps(dataclasses.asdict(failure)).encode())
        return 1
    return 0


def _end_with_the_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the libraries have nothing left to do.
    os._exit(code)
