"""Starting a native runner under qemu as a profile's cores, and ending it whatever happens.

The program sees a fixed environment, none of the user's: counts must not change with it. Its memory is watched while
it runs (devices/watched.py); one that passed its limit unseen fails too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from android_bench.bundle import without_start_log
from pocketforge.devices import watched
from pocketforge.devices.answers import NativeAnswer
from pocketforge.devices.emulator.fake_system import write_system
from pocketforge.devices.emulator.parts import SETUP, Emulator
from pocketforge.devices.emulator.qemu import cpu_option
from pocketforge.devices.profiles import Cluster, DeviceProfile
from pocketforge.errors import DeviceUnavailable, ToolFailed

Mode = Literal["describe", "run", "time", "count"]
# The runner's own exit code for a library that is missing or unfit (android_bench/runner/README.md).
_EXIT_LIBRARY = 69


@dataclass(frozen=True, slots=True)
class Order:
    """What a runner is to do; see android_bench/runner/README.md.

    Attributes:
        runtime: Which runner.
        model: The file.
        sha256: What it must be; empty for any.
        inputs: Raw little-endian files, one an input of the model, samples back to back.
        outputs: Folder for outputs_0.bin …, made if absent.
        mode: `describe` the file, `run` every sample, `time` inferences or `count` them.
        threads: Of the runtime.
        warmup: Inferences before the first that is timed or counted.
        samples: Of mode time: so many at least.
        windows: Of mode count: so many inferences are counted.
        time_ms: Of mode time: so long at least.
        gate: Of mode count: a socket among those passed on, where the runner waits before the first window; 0 for none.
    """

    runtime: str
    model: Path
    sha256: str
    inputs: tuple[Path, ...]
    outputs: Path
    mode: Mode
    threads: int = 1
    warmup: int = 1
    samples: int = 0
    windows: int = 2
    time_ms: int = 0
    gate: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """An emulator as the cores of one cluster, and what a run there may take.

    Attributes:
        emulator: The parts that are installed.
        profile: Of the device.
        cluster: Which of its clusters.
        time_limit_s: After so long a run is given up.
        memory_limit_bytes: Of the emulator and the program in it together; 0 is no limit.
    """

    emulator: Emulator
    profile: DeviceProfile
    cluster: Cluster
    time_limit_s: float
    memory_limit_bytes: int = 0

    @property
    def cpu(self) -> str:
        """qemu's -cpu. Raises DeviceUnavailable when this qemu cannot be this core."""
        return cpu_option(self.profile, self.cluster, self.emulator.qemu, self.emulator.qemu_version)


@contextlib.contextmanager
def prefix(emulator: Emulator, profile: DeviceProfile, cluster: Cluster) -> Iterator[Path]:
    """A folder for `qemu -L`, gone afterwards: the arm64 libraries, and /proc and /sys as the device shows them."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-emulator-") as folder:
        made = Path(folder)
        (made / "lib").symlink_to((emulator.sysroot / "lib").absolute(), target_is_directory=True)
        write_system(profile, cluster, made)
        yield made


def command(machine: Machine, prefix: Path, order: Order, qemu_options: Sequence[str] = ()) -> list[str]:
    """The whole command line. Raises DeviceUnavailable when this qemu cannot be this core, or knows no such runtime."""
    emulator = machine.emulator
    if order.runtime not in emulator.runners:
        raise DeviceUnavailable(
            f"the emulator has no runner for {order.runtime}", f"it has: {', '.join(sorted(emulator.runners))}"
        )
    argv = [os.fspath(emulator.qemu), "-cpu", machine.cpu, "-L", os.fspath(prefix), *qemu_options]
    argv += [_path(emulator.runners[order.runtime]), "--library", _path(emulator.libraries[order.runtime])]
    argv += ["--model", _path(order.model), "--mode", order.mode, "--threads", str(order.threads)]
    if order.sha256:
        argv += ["--sha256", order.sha256]
    for path in order.inputs:
        argv += ["--input", _path(path)]
    if order.mode in ("run", "count"):
        argv += ["--output-dir", _path(order.outputs)]
    if order.mode in ("time", "count"):
        argv += ["--warmup", str(order.warmup)]
    if order.mode == "time":
        argv += ["--samples", str(order.samples), "--time-ms", str(order.time_ms)]
    if order.mode == "count":
        argv += ["--windows", str(order.windows)]
        argv += ["--gate", str(order.gate)] if order.gate else []
    return argv


def environment(threads: int) -> dict[str, str]:
    """All that the program sees. Not even the user's QEMU_… and LD_… get through."""
    return {
        "HOME": "/",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": str(threads),
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": "/usr/bin:/bin",
        "TMPDIR": "/tmp",  # noqa: S108  a name of fixed length; no runtime writes there
    }


def launch(
    machine: Machine,
    order: Order,
    *,
    qemu_options: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    started: Callable[[int], None] = lambda process: None,
) -> NativeAnswer:
    """Run the order and return the runner's JSON. On any error, ^C too, no process is left.

    started: is told qemu's process, which runs already. Raises ToolFailed (the model does not load or run, in the
    runner's own words; or the emulator was killed, by which signal), DeviceTimeout, DeviceUnavailable (qemu or a
    runtime's library cannot be used) and DeviceError (too much memory).
    """
    emulator, limit_bytes = machine.emulator, machine.memory_limit_bytes
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(prefix(emulator, machine.profile, machine.cluster))
        if order.mode in ("run", "count"):
            order.outputs.mkdir(parents=True, exist_ok=True)
        argv = command(machine, folder, order, qemu_options)
        stdout, stderr = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        try:
            process = subprocess.Popen(
                argv,
                env=environment(order.threads),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(pass_fds),
            )  # in our process group: what kills a stage with its group kills this too
        except OSError as error:
            raise DeviceUnavailable(f"{emulator.qemu} does not start: {error.strerror}", f"repair: {SETUP}") from None
        started(process.pid)
        where = f"the emulated {machine.profile.name} (mode {order.mode})"
        peak_bytes = watched.wait(
            process, order.model.name, where, timeout_s=machine.time_limit_s, limit_bytes=limit_bytes
        )
        answer = _answer(process.returncode, _read(stdout), _read(stderr), emulator, order)
    most_bytes = max(peak_bytes, answer["peak_rss_bytes"])
    if limit_bytes and most_bytes > limit_bytes:
        raise watched.too_much(order.model.name, limit_bytes, most_bytes)
    return answer


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _answer(returncode: int, stdout: str, stderr: str, emulator: Emulator, order: Order) -> NativeAnswer:
    words = without_start_log(stderr)
    if returncode == _EXIT_LIBRARY:
        raise DeviceUnavailable(
            f"the {order.runtime} library of the emulator cannot be used: {words}", f"make it again: {SETUP}"
        )
    name = f"{emulator.qemu.name} running {order.model.name} ({emulator.runners[order.runtime].name})"
    if returncode != 0:
        raise ToolFailed([name], returncode, words)
    try:
        answer: NativeAnswer = json.loads(stdout)
    except ValueError:
        raise ToolFailed([name], returncode, f"it gave no JSON answer but {stdout[:200]!r}\n{words}") from None
    assert isinstance(answer, dict)
    return answer


def _path(path: Path) -> str:
    # The program's current folder is another one.
    return os.fspath(path.absolute())
