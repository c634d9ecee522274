"""The emulated device: a model file runs on ARM kernels under qemu, as on the cores of a profile, or as on an x86 host.

Same request and same arrays out as on the host. Times are the emulator's own: they say nothing of a phone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pocketforge.devices.answers import NativeAnswer
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.emulator import parts
from pocketforge.devices.emulator.arrays import described, read_outputs, write_inputs
from pocketforge.devices.emulator.launch import Machine, Mode, Order, launch
from pocketforge.devices.emulator.native_runners import native_runner
from pocketforge.devices.profile_files import load_any, load_profile
from pocketforge.devices.x86 import device as x86
from pocketforge.devices.x86.hosts import X86Host
from pocketforge.errors import RecipeError
from pocketforge.specs.count import EmulatedPlace

# As many as the host prepares for timing.
_TIMED_SAMPLES = 32


def run(request: RunRequest) -> RunAnswer:
    """Run or time one file on the x86 host, or the cluster `place.cores` of the profile.

    Raises ToolFailed with the runtime's own words, DeviceUnavailable, DeviceTimeout, DeviceError (too much memory, a
    session that has no native runner), RecipeError (no such profile or cluster).
    """
    place, named = request.place, request.files["profile"]
    assert isinstance(place, EmulatedPlace)
    profile = load_any(named)
    if isinstance(profile, X86Host):
        return x86.run(request, profile)
    machine = machine_of(named, place.cores, place.time_limit_s, place.memory_limit_bytes)
    mode: Mode = "time" if request.samples else "run"
    limit = _TIMED_SAMPLES if request.samples else 0
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        folder = Path(scratch)
        inputs = raw_inputs(machine, request.session, request.model, request.inputs, folder, limit=limit)
        order = Order(
            runtime=request.session,
            model=request.model,
            sha256=request.sha256,
            inputs=inputs,
            outputs=folder / "outputs",
            mode=mode,
            threads=request.threads,
            warmup=request.warmup,
            samples=request.samples,
            time_ms=round(1e3 * request.time_s),
        )
        answer = launch(machine, order)
        if mode == "run":
            read_outputs(answer["outputs"], request.outputs, len(np.load(request.inputs[0], mmap_mode="r")))
    return run_answer(answer, request.session)


def run_answer(answer: NativeAnswer, session: str, cpus: tuple[int, ...] = ()) -> RunAnswer:
    """What a native runner said, as every device says it. cpus: that it ran on, where that is known."""
    inputs, outputs = described(answer, session)
    return RunAnswer(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        load_ms=answer["load_ms"],
        peak_rss_bytes=answer["peak_rss_bytes"],
        loaded_rss_bytes=answer["loaded_rss_bytes"],
        samples_ms=tuple(answer["samples_ms"]),
        runtime=f"{native_runner(session).package} {answer['runtime_version']}",
        modules=(),
        cpus=cpus,
    )


def machine_of(profile: str | Path, cores: str, time_limit_s: float, memory_limit_bytes: int) -> Machine:
    """cores: a cluster's name, "" for the fastest. Raises RecipeError (profile, cluster) and DeviceUnavailable."""
    loaded = load_profile(profile)
    try:
        cluster = loaded.cluster(cores)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return Machine(parts.installed(), loaded, cluster, time_limit_s, memory_limit_bytes)


def raw_inputs(
    machine: Machine, runtime: str, model: Path, samples: Sequence[Path], folder: Path, *, limit: int = 0
) -> tuple[Path, ...]:
    """The .npy `samples` (one file an input, the first `limit` of each; 0: all) as raw files in `folder` for a runner.

    The model is loaded once on the device to ask it for its inputs. Raises as `run`.
    """
    native_runner(runtime)  # before anything is started
    order = Order(runtime=runtime, model=model, sha256="", inputs=(), outputs=folder, mode="describe")
    inputs, _ = described(launch(machine, order), runtime)
    return write_inputs(inputs, samples, folder, model=model.name, limit=limit)
