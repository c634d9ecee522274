"""What a device does: run one model file on given inputs, or time it. The same request and answer everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.specs.places import HERE, Place


@dataclass(frozen=True, slots=True)
class FurtherSamples:
    """Samples of another size.

    Attributes:
        inputs: One .npy per model input, samples first, without a batch axis.
        outputs: Folder for outputs_0.npy ….
    """

    inputs: tuple[Path, ...]
    outputs: Path


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Run `model` on every sample of `inputs`, one sample at a time; or time it.

    Attributes:
        session: Which runtime opens the file.
        model: The file.
        sha256: What it must be.
        inputs: One .npy per model input, samples first, without a batch axis.
        outputs: Folder for outputs_0.npy ….
        threads: Of the runtime; a phone's are the place's.
        samples: 0 to run every sample once. Else so many timed inferences at least, cycling through the inputs, and no
            outputs are written.
        warmup: Inferences before the first that is timed.
        time_s: Timed seconds at least.
        steps: How many rows of the inputs are one sequence, of a model with states that are fed back; 0 where none are.
        states: Of each state: the place of the input, and of the output that it is at the next step.
        further: Samples of other sizes, that the same session runs after those; on the host.
        look: Whether the file is only loaded, and told of: nothing is run; on the host.
        place: Where, in the words of the device's kind.
        files: Role → a file that the place is of: an emulated device's "profile" (or a shipped profile's name), a
            user's own "runner" and "runner_library" for a phone.
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
    steps: int = 0
    states: tuple[tuple[int, int], ...] = ()
    further: tuple[FurtherSamples, ...] = ()
    look: bool = False
    place: Place = HERE
    files: Mapping[str, str | Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """What came back.

    Attributes:
        inputs: The file's own, as its runtime sees them, which says nothing of layouts.
        outputs: Likewise.
        load_ms: Until the file was loaded.
        peak_rss_bytes: Of the whole process that ran the file, interpreter and runtime included.
        loaded_rss_bytes: The same once the file was loaded.
        samples_ms: Every timed inference; none where outputs were asked for.
        runtime: The runtime's package and version.
        modules: Top-level Python modules that were loaded; none where no Python ran.
        cpus: Those that it might run on; empty where that is not known.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
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
