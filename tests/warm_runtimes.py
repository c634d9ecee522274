"""Model files of builds in this process run in forks of processes that hold their runtime, one for each in a run.

A new interpreter takes 1.0 CPU s until it has ExecuTorch's runtime, .2 with the others', and a target that is verified
and timed takes four. A fork too is a process of its own with that runtime and nothing else in it. Real starts are
seen where the process is the point: tests/contract/test_devices.py, and builds that are programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pocketforge.devices import host

PROGRAM = Path(__file__).with_name("runtime_server.py")
# Longer than any import here takes on a busy machine.
START_S = 300
# What no runtime with one thread reads, and what libraries here set as they are imported, which they may be at any
# time. Any other variable that is not as it was when the tests began is for a new interpreter to find.
INDIFFERENT = (
    "POCKETFORGE_", "PYTEST_", "ANDROID_", "ADB_", "TMPDIR", "PYTHONPATH", "PWD", "COLUMNS", "LINES",
    "ORT_DISABLE_TELEMETRY", "OMP_WAIT_POLICY", "TORCHINDUCTOR_CACHE_DIR", "TPU_SKIP_MDS_QUERY", "LD_LIBRARY_PATH",
    "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK",
)  # fmt: skip

_complete = host.complete


@dataclass(frozen=True)
class WarmRuntimes:
    """folder: where they listen. run: the process that they end with. environment: what they are started with."""

    folder: Path
    run: int
    environment: dict[str, str]

    @contextlib.contextmanager
    def here(self, more: Mapping[str, str] | None = None) -> Iterator[None]:
        """For the files of this process. more: variables that are none of a test's."""
        warm = dataclasses.replace(self, environment={**self.environment, **(more or {})})
        before, host.complete = host.complete, warm.complete
        try:
            yield
        finally:
            host.complete = before

    def complete(
        self, argv: list[str], environment: dict[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `host.complete`."""
        order = json.loads(Path(argv[-2]).read_text(encoding="utf-8")) if argv[2:3] == [str(host.RUNNER)] else {}
        session = str(order.get("session", ""))
        plain = argv[:2] == [sys.executable, "-I"] and session and os.sep not in session
        if not plain or not self._as_here(environment) or not self._ready(session):
            return _complete(argv, environment, timeout_s)
        with tempfile.NamedTemporaryFile(prefix="pocketforge-") as stderr:
            asked = {"argv": argv[2:], "environment": environment, "folder": str(Path.cwd()), "stderr": stderr.name}
            code = self._ask(session, json.dumps(asked), timeout_s, argv)
            said = stderr.read().decode("utf-8", "replace")
        return subprocess.CompletedProcess(argv, code, "", said)

    def _as_here(self, environment: dict[str, str]) -> bool:
        ours = self._own_environment()
        return all(
            name.startswith(INDIFFERENT) or environment.get(name) == ours.get(name)
            for name in environment.keys() | ours.keys()
        )

    def _own_environment(self) -> dict[str, str]:
        return {**self.environment, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}

    def _ready(self, session: str) -> bool:
        """Whether one listens, which the first that asks starts."""
        address, failed = self.folder / session, self.folder / f"{session}.failed"
        if not address.exists():
            self.folder.mkdir(exist_ok=True)
            with FileLock(self.folder / f"{session}.lock"):
                if not address.exists() and not failed.exists() and not self._start(session, address):
                    failed.touch()
        return address.exists()

    def _start(self, session: str, address: Path) -> bool:
        started = subprocess.run(
            [sys.executable, "-I", str(PROGRAM), session, str(address), str(self.run)],
            cwd="/", env=self._own_environment(), start_new_session=True, timeout=START_S, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return started.returncode == 0

    def _ask(self, session: str, asked: str, timeout_s: float, argv: list[str]) -> int:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self.folder / session))
            try:
                connection.sendall(f"{asked}\n".encode())
                with connection.makefile("rb") as answer:
                    return int(answer.readline())
            except TimeoutError:
                raise subprocess.TimeoutExpired(argv, timeout_s) from None
