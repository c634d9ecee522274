"""Benchmarks outside a build: stored targets of a recipe again, or any model file on given samples.

Timed on the host, counted on emulated devices, timed on phones (phone_benching.py).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.errors import RecipeError, StageFailed, ToolFailed, describe_exit
from pocketforge.facts.gather import gather
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe.device import AdbDevice, Device, EmulatedDevice, HostDevice
from pocketforge.recipe.recipe import Recipe, suggest
from pocketforge.run.store import Store, hash_file
from pocketforge.runtimes import RUNTIMES
from pocketforge.stats import PERCENTILES, percentile, percentile_interval

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class File:
    """A model file to benchmark, and samples for it: one .npy for each of its inputs."""

    name: str
    path: Path
    runtime: str
    inputs: tuple[Path, ...]


def stored_files(recipe: Recipe, cache: Path, names: Sequence[str]) -> list[File]:
    """Built targets of a recipe, all when none are named. Raises RecipeError for unknown names or unbuilt targets."""
    known = [t.name for t in recipe.targets]
    for name in names:
        if name not in known:
            raise RecipeError(f"no target is named {name!r}{suggest(name, known)}")
    plan = make_plan(recipe, gather(recipe, cache))
    store = Store(cache)
    inputs = tuple(sample_paths(_stored(store, plan.data, "the recipe's data"), "eval"))
    files = []
    for lane in plan.lanes:
        if not names or lane.target.name in names:
            folder = _stored(store, lane.export, f"target {lane.target.name!r}")
            exported = json.loads((folder / "export.json").read_text(encoding="utf-8"))
            model = folder / exported["files"]["model"]
            files.append(File(lane.target.name, model, lane.target.runtime, inputs))
    return files


def _stored(store: Store, key: str, what: str) -> Path:
    entry = store.get(key)
    if entry is None:
        raise RecipeError(f"{what} is not built, or changed since", "pocketforge build RECIPE builds it")
    return entry.files


def given_file(path: Path, inputs: Sequence[Path]) -> File:
    """A model file of the user's, with samples from .npy files.

    Raises RecipeError for a file that is not there or of no known kind, and for samples that cannot be fed.
    """
    runtimes = {info.suffix: name for name, info in RUNTIMES.items()} | {".ort": "onnx"}
    if path.suffix not in runtimes:
        known = ", ".join(sorted(runtimes))
        raise RecipeError(f"cannot tell the runtime of {path.name}", f"known endings: {known}, and .toml for a recipe")
    if not path.is_file():
        raise RecipeError(f"no model file at {path}")
    if not inputs:
        raise RecipeError(
            f"{path.name} needs samples to run on: --inputs SAMPLES.npy for each of its inputs, samples first",
            "real samples: timings on zeros or noise are not those of your data",
        )
    counts = {str(file): _count_samples(file) for file in inputs}
    if len(set(counts.values())) > 1:
        faults = [f"{file}: {count}" for file, count in counts.items()]
        raise RecipeError("every input needs as many samples as the others, found:", faults=faults)
    return File(path.name, path, runtimes[path.suffix], tuple(inputs))


def _count_samples(file: Path) -> int:
    try:
        samples = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecipeError(f"wanted a .npy file of numbers, found {file}: {error}") from None
    if not isinstance(samples, np.ndarray) or samples.dtype.kind not in "biuf" or samples.ndim == 0 or not len(samples):
        found = f"{samples.dtype} {list(samples.shape)}" if isinstance(samples, np.ndarray) else "several arrays"
        raise RecipeError(f"wanted an array of numbers with at least one sample, found {found} in {file}")
    return len(samples)


def bench_files(
    files: Sequence[File],
    devices: Sequence[Device],
    how: Mapping[str, Any],
    say: Say,
    *,
    resolve: Callable[[str], Path] = Path,
    store: Store | None = None,
) -> list[dict[str, Any]]:
    """Run every file on each device. resolve: makes a path of one that a device names. store: whose host benchmarks
    take turns."""
    results = []
    phones = [device for device in devices if isinstance(device, AdbDevice)]
    for file in files:
        for device in devices:
            if isinstance(device, HostDevice):
                with store.lock("host-benchmark") if store else contextlib.nullcontext():
                    results.append(_bench(file, device, how))
            elif isinstance(device, EmulatedDevice):
                say(f"counting {file.name} on {device.name}")
                results.append(_emulate(file, device, resolve))
    if phones:
        from pocketforge.commands.bench_phones import bench_on_phones

        results += [row for rows in bench_on_phones(files, phones, say, resolve) for row in rows]
    return results


def _bench(file: File, device: HostDevice, how: Mapping[str, Any]) -> dict[str, Any]:
    sha256 = hash_file(file.path)
    request = RunRequest(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=sha256,
        inputs=file.inputs,
        outputs=file.path.parent,  # nothing is written when timing
        threads=how["threads"] or device.threads,
        samples=how["min_samples"] or device.min_samples,
        warmup=device.warmup,
        time_s=device.min_seconds if how["min_seconds"] is None else how["min_seconds"],
    )
    try:
        # A stage's stderr is its log; here it is the user's terminal, and the error says all that matters.
        with contextlib.redirect_stderr(io.StringIO()):
            answer = host.run(request)
    except ToolFailed as error:
        raise StageFailed(f"{file.name} does not load or run: {reason_of(error)}") from None
    interval = percentile_interval(answer.samples_ms, "p50")
    return {
        "name": file.name,
        "device": device.name,
        "via": "host",
        "sha256": sha256,
        "runtime": answer.runtime,
        "threads": how["threads"] or device.threads,
        "samples": len(answer.samples_ms),
        "p50_low_ms": interval.low if math.isfinite(interval.low) else None,
        "p50_high_ms": interval.high if math.isfinite(interval.high) else None,
        **{f"{p}_ms": percentile(answer.samples_ms, p) for p in ("min", *PERCENTILES)},
        "load_ms": answer.load_ms,
        "peak_rss_bytes": answer.peak_rss_bytes,
        "samples_ms": list(answer.samples_ms),
    }


def _emulate(file: File, device: EmulatedDevice, resolve: Callable[[str], Path]) -> dict[str, Any]:
    from pocketforge.devices.profile_files import find_profile
    from pocketforge.measure.on_emulator import count_file, estimate_file

    profile = find_profile(device.profile, resolve)
    calibration = resolve(device.calibration) if device.calibration else None
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        try:
            counts = count_file(
                file.path,
                file.runtime,
                file.inputs,
                profile,
                device.cores,
                scratch=Path(scratch),
                time_limit_s=device.time_limit_s,
                memory_limit_bytes=device.memory_limit_bytes,
            )
        except ToolFailed as error:
            raise StageFailed(f"{file.name} does not load or run on {device.name}: {reason_of(error)}") from None
    content = counts.to_json()
    del content["blocks"]
    return {
        "name": file.name,
        "device": device.name,
        "via": "emulator",
        "sha256": hash_file(file.path),
        "runtime": file.runtime,
        "threads": 1,
        "counts": content,
        "estimate": estimate_file(file.path, counts, profile, device.cores, calibration),
    }


def reason_of(error: ToolFailed) -> str:
    """What the runtime said, without the Python frames it passed through."""
    lines = [line for line in error.stderr_tail.splitlines() if line.strip() and line[0] not in " \t"]
    lines = [line for line in lines if not line.startswith("Traceback")]
    # The runner ends with the exception's own name and text, which the traceback had with its module.
    said = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not after or not line.endswith(after)]
    return "\n  ".join(said[-4:]) or describe_exit(error.returncode)
