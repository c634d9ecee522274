"""A mount namespace for all tests of a worker that need a small disk, with one process in it that runs their builds.

`pocketforge` in such a script is the command line in that process, its stages are of one fork server: a new program for
each would import the toolchain anew, 3 CPU s and twice a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from release_build import SOURCES
from warm_server import in_process

from pocketforge.registries import RUNTIMES, STAGES
from pocketforge.run import stage_server, worker

NAMESPACE = ("unshare", "--map-root-user", "--mount")
# In place of the program: the words go to the process, whose answer is awaited.
FUNCTION = """
pocketforge() { printf '%s\\n' "$* --cache-dir '$DISK/cache'"; read -r told; }
"""


class SmallDisks:
    """The process, started when it is first needed."""

    def __init__(self) -> None:
        path = os.pathsep.join((SOURCES, str(Path(__file__).parents[1])))
        self._process = subprocess.Popen(
            [*NAMESPACE, sys.executable, "-P", __file__],
            env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, script: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, str]:
        """A script's exit code and stderr."""
        asking, telling = self._process.stdin, self._process.stdout
        assert asking is not None and telling is not None
        asking.write(json.dumps([script, str(cwd), dict(env)]) + "\n")
        asking.flush()
        told = telling.readline()
        assert told, f"the process in the namespace ended with {self._process.wait()}"
        code, said = json.loads(told)
        return code, said

    def close(self) -> None:
        self._process.communicate(timeout=60)


def serve() -> None:
    """Run the scripts of stdin's lines, and say on stdout how each ended."""
    stages = [STAGES[name] for name in ("data", "reference", "export", "verify", "bench")]
    preload = [name for stage in stages for name in (*stage.preload, stage.module)]
    # A fork server stays as it is started: by a process that does nothing, before a build with less to import.
    nothing = worker.context([*preload, *RUNTIMES["onnx"].preload]).Process(target=int)
    with stage_server.current().in_use():  # nor does it end with one
        nothing.start()
        nothing.join()
        for line in sys.stdin:
            script, cwd, env = json.loads(line)
            print(json.dumps(run(script, Path(cwd), env)), flush=True)


def run(script: str, cwd: Path, env: dict[str, str]) -> tuple[int, str]:
    with subprocess.Popen(
        ["sh", "-eu", "-c", script],
        cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as shell:  # fmt: skip
        assert shell.stdin is not None and shell.stdout is not None and shell.stderr is not None
        for words in shell.stdout:
            name, *argv = shlex.split(words)
            done = in_process(*argv, cache=Path(env["CACHE"]), cwd=cwd, env=env, stages=contextlib.nullcontext())
            answer = Path(env["ANSWERS"]) / name
            for suffix, text in ((".code", str(done.code)), (".stdout", done.stdout), (".stderr", done.stderr)):
                answer.with_suffix(suffix).write_text(text, encoding="utf-8")
            shell.stdin.write("\n")
            shell.stdin.flush()
        said = shell.stderr.read()
    # The mounts of other tests' disks would stay as long as this process.
    subprocess.run(["umount", "--lazy", env["DISK"]], check=False, stderr=subprocess.DEVNULL)  # if it was mounted
    return shell.returncode, said


if __name__ == "__main__":
    serve()
