"""A stage that does what its spec says, and a build of such stages as a program of its own.

`run` is the stage: `spec["do"]` is a list of [action, *arguments]. Started as
`python -c "import fake_stages; fake_stages.main()" CACHE LOGS JOBS STEPS_JSON` it is a build that tests can interrupt
or kill; it prints one line of JSON for each event.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from told_spec import ToldSpec

from pocketforge import errors
from pocketforge.plan.steps import Plan, Step
from pocketforge.run.store import Store

STAGE = "fake"


def make_step(
    name: str,
    *do: Sequence[Any],
    journal: Path,
    needs: Sequence[str] = (),
    after: Sequence[str] = (),
    lane: str = "",
    exclusive: bool = False,
) -> Step:
    """A step whose key is made from its name; `needs` and `after` are names too."""
    spec = ToldSpec({"name": name, "journal": str(journal), "do": [list(action) for action in do]})
    return Step(
        STAGE,
        lane or name,
        spec,
        {n: key_of(n) for n in needs},
        key_of(name),
        after=tuple(key_of(n) for n in after),
        exclusive=exclusive,
        preload=("fake_stages",),  # else each stage's process would import what all of them run
    )


def key_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_plan(steps: Sequence[Step]) -> Plan:
    return Plan(tuple(steps), steps[0].key, steps[0].key, ())


def run(inputs: Mapping[str, Path], spec: ToldSpec, out: Path, emit: Callable[[float, str], None]) -> None:
    """The stage. Notes when it began and ended, does what it is told and writes result.txt."""
    note(spec, "start")
    for action, *arguments in spec["do"]:
        ACTIONS[action](spec, out, emit, *arguments)
    read = "".join(f"[{(inputs[role] / 'result.txt').read_text()}]" for role in sorted(inputs))
    (out / "result.txt").write_text(spec["name"] + read)
    note(spec, "stop")


def note(spec: ToldSpec, what: str, value: object = "") -> None:
    line = json.dumps([spec["name"], what, time.monotonic(), value]) + "\n"
    # One write to a file opened for appending: lines of several processes do not mix.
    descriptor = os.open(spec["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def _sleep(spec: Any, out: Path, emit: Any, seconds: float) -> None:
    time.sleep(seconds)


def _wait_for(spec: Any, out: Path, emit: Any, path: str) -> None:
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.02)


def _touch(spec: Any, out: Path, emit: Any, path: str) -> None:
    Path(path).touch()


def _exit(spec: Any, out: Path, emit: Any, code: int) -> None:
    os._exit(code)


def _exit_if(spec: Any, out: Path, emit: Any, path: str) -> None:
    if Path(path).exists():
        os._exit(9)


def _signal(spec: Any, out: Path, emit: Any, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def _raise(spec: Any, out: Path, emit: Any, kind: str) -> None:
    raise RAISED[kind]()


def _say(spec: Any, out: Path, emit: Any, text: str) -> None:
    print(f"python: {text}")
    subprocess.run(["/bin/sh", "-c", f"echo 'a program: {text}'; echo 'its stderr: {text}' >&2"], check=True)


def _progress(spec: Any, out: Path, emit: Any, fraction: float, text: str) -> None:
    emit(fraction, text)


def _reject(spec: Any, out: Path, emit: Any, *reasons: str) -> None:
    (out / "verdict.json").write_text(json.dumps({"passed": not reasons, "reasons": list(reasons)}))


def _start_program(spec: Any, out: Path, emit: Any) -> None:
    note(spec, "program", subprocess.Popen(["sleep", "300"]).pid)


def _half_write(spec: Any, out: Path, emit: Any) -> None:
    (out / "half.bin").write_bytes(b"x" * 100_000)


def _remove(spec: Any, out: Path, emit: Any, path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _remove_once(spec: Any, out: Path, emit: Any, path: str) -> None:
    marker = Path(f"{spec['journal']}.{spec['name']}.removed")
    if not marker.exists():
        marker.touch()
        shutil.rmtree(path)


def _clear(spec: Any, out: Path, emit: Any, cache: str) -> None:
    note(spec, "cleared", Store(Path(cache)).clear())


def _leave_temporary(spec: Any, out: Path, emit: Any) -> None:
    note(spec, "temporary", tempfile.mkdtemp(prefix="left-"))


_BURN = "import time\nwhile time.process_time() < {}: pass"


def _burn(spec: ToldSpec, out: Path, emit: Callable[..., None], seconds: float, childs: float) -> None:
    """Processor time of its own, and of a program that it starts."""
    subprocess.run([sys.executable, "-S", "-c", _BURN.format(childs)], check=True)
    before = time.process_time()
    while time.process_time() - before < seconds:
        pass


def _big(spec: Any, out: Path, emit: Any, size: int) -> None:
    (out / "big.bin").write_bytes(bytes(range(250)) * (size // 250))


def _kill_worker(spec: Any, out: Path, emit: Any) -> None:
    """The program that this stage was started by."""
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)
    time.sleep(60)


def _kill_worker_once(spec: Any, out: Path, emit: Any) -> None:
    marker = Path(f"{spec['journal']}.{spec['name']}.killed")
    if not marker.exists():
        marker.touch()
        _kill_worker(spec, out, emit)


def _worker_name(spec: Any, out: Path, emit: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    told = Path(f"/proc/{parent.pid}/cmdline").read_bytes().decode().split("\0")
    (out / "worker").write_text(told[told.index("--name") + 1])


ACTIONS: dict[str, Callable[..., None]] = {
    "sleep": _sleep,
    "burn": _burn,
    "wait_for": _wait_for,
    "touch": _touch,
    "exit": _exit,
    "exit_if": _exit_if,
    "signal": _signal,
    "raise": _raise,
    "say": _say,
    "big": _big,
    "kill_worker": _kill_worker,
    "kill_worker_once": _kill_worker_once,
    "worker_name": _worker_name,
    "progress": _progress,
    "reject": _reject,
    "start_program": _start_program,
    "half_write": _half_write,
    "clear": _clear,
    "leave_temporary": _leave_temporary,
    "remove": _remove,
    "remove_once": _remove_once,
}

RAISED: dict[str, Callable[[], BaseException]] = {
    "ToolFailed": lambda: errors.ToolFailed(["prog", "-x"], 3, "first\nlast words", hint="try less"),
    "ToolMissing": lambda: errors.ToolMissing("no adb", "install platform-tools"),
    "StageFailed": lambda: errors.StageFailed("does not fit", "make it smaller"),
    "ModelError": lambda: errors.ModelError("weights do not fit", "check the definition"),
    "RecipeError": lambda: errors.RecipeError("two faults:", "look again", faults=["a: one", "b: two"]),
    "DeviceTimeout": lambda: errors.DeviceTimeout("no answer", "plug it in"),
    "ValueError": lambda: ValueError("seven is not eight\nand more"),
    "nothing": lambda: RuntimeError(),
    "MemoryError": MemoryError,
    "ImportError": lambda: ImportError("No module named 'litert'", name="litert"),
    "full disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "no file": lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "x.bin"),
    "SystemExit": lambda: SystemExit(5),
}


def main() -> None:
    """A whole build in this process; see the module's docstring."""
    from pocketforge import events
    from pocketforge.registries import STAGES, StageInfo
    from pocketforge.run.store import Store
    from pocketforge.run.walk import run_plan

    # A test run in the background hands down an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache, logs, jobs, steps = sys.argv[1:]
    STAGES[STAGE] = StageInfo(__name__, 1, ())
    plan = make_plan(
        [Step(**{**s, "after": tuple(s["after"]), "spec": ToldSpec(s["spec"])}) for s in json.loads(steps)]
    )

    def tell(event: events.Event) -> None:
        print(json.dumps(events.to_json(event)), flush=True)

    try:
        outcome = run_plan(plan, Store(Path(cache)), logs=Path(logs), jobs=int(jobs), emit=tell)
    except KeyboardInterrupt:
        sys.exit(errors.EXIT_INTERRUPTED)
    sys.exit(errors.EXIT_STAGE if outcome.errors else errors.EXIT_OK)
