"""What a device does: run one model file on given inputs, or time it. The same request and answer everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Run `model` (its SHA-256 must be `sha256`) on every sample of `inputs`, one sample at a time.

    session: which runtime opens the file. inputs: one .npy per model input, samples first, without a batch axis.
    outputs: folder for outputs_0.npy …. time_s/samples/warmup: with samples > 0, run for at least so many timed
    inferences and so long instead, cycling through the inputs, and write no outputs. profile, cores: which emulated
    device (a shipped profile's name or its file), and which cluster of it (its fastest when empty); the host has
    neither. memory_limit_bytes: of the processes that run it, 0 for none; the host sets none. serial: which phone over
    adb; `cores` is then of the phone. runner, runner_library: a
    program of the user's to run it there, and what that loads.
    """

    session: str
    model: Path
    sha256: str
    inputs: tuple[Path, ...]
    outputs: Path
    threads: int = 1
    samples: int = 0
    warmup: int = 0
    time_s: float = 0.0
    profile: str = ""
    cores: str = ""
    time_limit_s: float = 1800.0
    memory_limit_bytes: int = 0
    serial: str = ""
    runner: str = ""
    runner_library: str = ""


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """What came back: the file's own inputs and outputs as its runtime sees them, and timings in ms.

    peak_rss_bytes: of the whole process that ran the file, interpreter and runtime included.
    """

    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    load_ms: float
    peak_rss_bytes: int
    loaded_rss_bytes: int
    samples_ms: tuple[float, ...]
    runtime: str
    modules: tuple[str, ...]
    cpus: tuple[int, ...]


class DeviceRunner(Protocol):
    """A module of `DEVICES`."""

    def run(self, request: RunRequest) -> RunAnswer:
        """Raises ToolFailed (the file does not load or run), DeviceUnavailable or DeviceTimeout."""
        ...
