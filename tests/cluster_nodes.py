"""A small cluster on loopback: real programs, a folder each that stands for a machine's disk.

`python -c "import cluster_nodes; cluster_nodes.main()" ARGUMENTS` is `pocketforge ARGUMENTS` with the fake stages; a
worker also pretends to be what POCKETFORGE_TEST_NODE says: `facts`, `resources` and `versions` that it has besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120
VARIABLE = "POCKETFORGE_TEST_NODE"


@dataclass
class Program:
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str) -> str:
        """The first line with this in it. A program that ends without saying it fails the test."""
        assert self.process.stderr is not None
        while not (found := next((line for line in self.lines if text in line), "")):
            line = self.process.stderr.readline()
            assert line, f"ended without {text!r}: {self.lines}"
            self.lines.append(line.rstrip("\n"))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Cluster:
    """A scheduler and its workers, until `stop`."""

    def __init__(self, folder: Path, certificates: Path | None = None) -> None:
        self.folder, self.certificates = folder, certificates
        self._programs: list[Program] = []
        kind = "tcp" if certificates is None else "tls"
        self.scheduler, self.address = self.serve(f"{kind}://127.0.0.1:0")

    def serve(self, address: str) -> tuple[Program, str]:
        """A scheduler, and where it is."""
        program = self._start("scheduler", address, "--serve-on-stderr")
        return program, program.wait_for("127.0.0.1:")

    def worker(self, name: str, *options: str, limit_bytes: int = 0, **about: Any) -> Program:
        """One that serves already. about: `facts`, `resources`, `versions`. limit_bytes: of any file that it writes."""
        cache = str(self.folder / name)
        started = self._start(
            "worker", self.address, "--name", name, "--cache-dir", cache, *options, about=about, limit_bytes=limit_bytes
        )
        started.wait_for(f"worker {name} serves")
        return started

    def _start(self, *arguments: str, about: dict[str, Any] | None = None, limit_bytes: int = 0) -> Program:
        secret = () if self.certificates is None else ("--certificates", str(self.certificates))
        places = (ROOT / "pipeline", ROOT, ROOT / "tests", ROOT / "tests" / "unit")
        limit = (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes},) * 2); " if limit_bytes else ""
        )
        process = subprocess.Popen(
            [sys.executable, "-c", f"{limit}import cluster_nodes; cluster_nodes.main()", *arguments, *secret],
            env={
                **os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), VARIABLE: json.dumps(about or {}),
                "POCKETFORGE_LOCKS_DIR": str(self.folder / "locks"), "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder,
        )  # fmt: skip
        program = Program(process)
        self._programs.append(program)
        return program

    def stop(self) -> None:
        for program in self._programs:
            program.process.send_signal(signal.SIGTERM)
        for program in self._programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(20)
            program.kill()
            assert program.process.stderr is not None
            program.process.stderr.close()


@contextlib.contextmanager
def cluster(folder: Path, certificates: Path | None = None) -> Iterator[Cluster]:
    folder.mkdir(exist_ok=True)
    started = Cluster(folder, certificates)
    try:
        yield started
    finally:
        started.stop()


def alive(pid: int) -> bool:
    """Not one that is dead and waits to be reaped either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Waits for it."""
    deadline = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def main() -> None:
    import fake_stages

    from pocketforge.cli.main import main as command_line
    from pocketforge.registries import STAGES, StageInfo

    STAGES[fake_stages.STAGE] = StageInfo("fake_stages", 1, (), user_code=True)
    STAGES["reading"] = StageInfo("reading_stage", 1, (), user_code=True)
    arguments = sys.argv[1:]
    if arguments[0] == "worker":
        _pretend(json.loads(os.environ[VARIABLE]))
    if "--serve-on-stderr" in arguments:
        arguments.remove("--serve-on-stderr")
        os.dup2(2, 1)
    sys.exit(command_line(arguments))


def _pretend(about: dict[str, Any]) -> None:
    import dataclasses

    from pocketforge.commands import cluster as commands
    from pocketforge.facts.phones import Connected
    from pocketforge.run.cluster.offers import PHONE

    really = commands.offer_here

    def pretended(*arguments: Any) -> Any:
        offer, phones = really(*arguments)
        return (
            dataclasses.replace(
                offer,
                versions={**offer.versions, **about.get("versions", {})},
                facts={**offer.facts, **about.get("facts", {})},
                resources=offer.resources | set(about.get("resources", ())),
                machine=about.get("machine", offer.machine),
            ),
            [*phones, *(Connected(each.removeprefix(PHONE), each) for each in about.get("resources", ()))],
        )

    vars(commands)["offer_here"] = pretended
