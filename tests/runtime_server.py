"""Program: a process that holds one runtime, and forks a copy of itself for each model file that is to run in it.

`python -I runtime_server.py SESSION SOCKET OWNER`: the runner's session by its name, where to listen, and the process
that this one ends with. See warm_runtimes.py, which asks; what runs in the copy is the runner itself.
"""

import contextlib
import gc
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path

RUNNER = Path(__file__).resolve().parents[1] / "pipeline" / "pocketforge" / "runtimes" / "sessions" / "runner.py"


def main(session: str, address: str, owner: str) -> int:
    """Ends when one listens there; 1: none can."""
    ended = os.pidfd_open(int(owner))
    load(session)
    if len(os.listdir("/proc/self/task")) > 1:
        return 1  # no fork can compute of a process that has threads
    with socket.socket(socket.AF_UNIX) as listener:
        Path(f"{address}.new").unlink(missing_ok=True)  # of one that was ended with the stage that had started it
        listener.bind(f"{address}.new")
        listener.listen(64)
        os.rename(f"{address}.new", address)
        if not os.fork():
            serve(listener, ended)
    return 0


def serve(listener: socket.socket, ended: int) -> None:
    while ended not in readable(listener.fileno(), ended):
        connection, _ = listener.accept()
        with connection:
            if not os.fork():
                listener.close()
                os._exit(watch(connection))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def readable(*descriptors: int) -> list[int]:
    """Those with news, when there are some."""
    return select.select(descriptors, [], [])[0]


def load(session: str) -> None:
    """What the runner imports before it opens a file."""
    import numpy  # noqa: F401

    spec = importlib.util.spec_from_file_location("runner", RUNNER)
    assert spec is not None and spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    module = runner.load_session_module(session)
    if hasattr(module, "alone"):
        module.alone()
    module.prepare(1)
    gc.freeze()


def watch(connection: socket.socket) -> int:
    """Start the copy, say how it ended; who asked may go before."""
    with connection.makefile("rb") as asked:
        order = json.loads(asked.readline())
    pid = os.fork()
    if not pid:
        connection.close()
        run(**order)
    over = os.pidfd_open(pid)
    if over not in readable(over, connection.fileno()):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


def run(argv: list[str], environment: dict[str, str], folder: str, stderr: str) -> None:
    """As the program that it is; it ends the process."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    said = os.open(stderr, os.O_WRONLY | os.O_APPEND)
    for number, of in ((0, nothing), (1, nothing), (2, said)):
        os.dup2(of, number)
    sys.modules[Path(__file__).stem] = sys.modules["__main__"]  # the answer says what was imported
    sys.argv[:] = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
