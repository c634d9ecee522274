"""Benchmarks outside a build: stored targets of a recipe again, or any model file on given samples.

Timed on the host, counted on emulated devices.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.arrays_on_disk import sample_paths
from pipeline.device import Device, EmulatedDevice, HostDevice
from pipeline.devices import host
from pipeline.devices.base import RunRequest
from pipeline.errors import RecipeError, StageFailed, ToolFailed, describe_exit
from pipeline.facts import gather
from pipeline.plan import make_plan
from pipeline.recipe import Recipe, suggest
from pipeline.runtimes import RUNTIMES
from pipeline.stats import PERCENTILES, percentile, percentile_interval
from pipeline.store import Store, hash_file

Say = Callable[[str], None]


def bench_recipe(
    recipe: Recipe, cache: Path, names: Sequence[str], how: Mapping[str, Any], devices: Sequence[Device], say: Say
) -> list[dict[str, Any]]:
    """Run stored targets on each device. Raises RecipeError for unknown names or unbuilt targets."""
    known = [t.name for t in recipe.targets]
    for name in names:
        if name not in known:
            raise RecipeError(f"no target is named {name!r}{suggest(name, known)}")
    plan = make_plan(recipe, gather(recipe, cache))
    store = Store(cache)
    lanes = [lane for lane in plan.lanes if not names or lane.target.name in names]
    inputs = sample_paths(_stored(store, plan.data, "the recipe's data"), "eval")
    files = []
    for lane in lanes:  # all of them before the first is timed
        folder = _stored(store, lane.export, f"target {lane.target.name!r}")
        exported = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        files.append(folder / exported["files"]["model"])
    results = []
    for lane, file in zip(lanes, files, strict=True):
        for device in devices:
            results.append(_on(device, file, lane.target.runtime, inputs, how, lane.target.name, say, recipe, store))
    return results


def _on(
    device: Device,
    file: Path,
    runtime: str,
    inputs: Sequence[Path],
    how: Mapping[str, Any],
    name: str,
    say: Say,
    recipe: Recipe | None = None,
    store: Store | None = None,
) -> dict[str, Any]:
    if isinstance(device, HostDevice):
        with store.lock("host-benchmark") if store else contextlib.nullcontext():
            return _bench(file, runtime, inputs, device, how, name)
    from pipeline.profile_files import find_profile

    resolve = recipe.resolve if recipe else Path
    profile = find_profile(device.profile, resolve)
    calibration = resolve(device.calibration) if device.calibration else None
    say(f"counting {name} on {device.name}")
    return _emulate(file, runtime, inputs, device, profile, calibration, name)


def _stored(store: Store, key: str, what: str) -> Path:
    entry = store.get(key)
    if entry is None:
        raise RecipeError(f"{what} is not built, or changed since", "pocketforge build RECIPE builds it")
    return entry.files


def bench_file(
    path: Path, inputs: Sequence[Path], how: Mapping[str, Any], devices: Sequence[Device], say: Say
) -> list[dict[str, Any]]:
    """Run one model file on each device, on samples from .npy files.

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
    return [_on(device, path, runtimes[path.suffix], inputs, how, path.name, say) for device in devices]


def _count_samples(file: Path) -> int:
    try:
        samples = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecipeError(f"wanted a .npy file of numbers, found {file}: {error}") from None
    if not isinstance(samples, np.ndarray) or samples.dtype.kind not in "biuf" or samples.ndim == 0 or not len(samples):
        found = f"{samples.dtype} {list(samples.shape)}" if isinstance(samples, np.ndarray) else "several arrays"
        raise RecipeError(f"wanted an array of numbers with at least one sample, found {found} in {file}")
    return len(samples)


def _bench(
    model: Path, runtime: str, inputs: Sequence[Path], device: HostDevice, how: Mapping[str, Any], name: str
) -> dict[str, Any]:
    sha256 = hash_file(model)
    request = RunRequest(
        session=RUNTIMES[runtime].session,
        model=model,
        sha256=sha256,
        inputs=tuple(inputs),
        outputs=model.parent,  # nothing is written when timing
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
        raise StageFailed(f"{name} does not load or run: {_reason(error)}") from None
    interval = percentile_interval(answer.samples_ms, "p50")
    return {
        "name": name,
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


def _emulate(
    model: Path,
    runtime: str,
    inputs: Sequence[Path],
    device: EmulatedDevice,
    profile: Path,
    calibration: Path | None,
    name: str,
) -> dict[str, Any]:
    from pipeline.emulated import count_file, estimate_file

    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        try:
            counts = count_file(
                model,
                runtime,
                inputs,
                profile,
                device.cores,
                scratch=Path(scratch),
                time_limit_s=device.time_limit_s,
                memory_limit_bytes=device.memory_limit_bytes,
            )
        except ToolFailed as error:
            raise StageFailed(f"{name} does not load or run on {device.name}: {_reason(error)}") from None
    content = counts.to_json()
    del content["blocks"]
    return {
        "name": name,
        "device": device.name,
        "via": "emulator",
        "sha256": hash_file(model),
        "runtime": runtime,
        "threads": 1,
        "counts": content,
        "estimate": estimate_file(model, counts, profile, device.cores, calibration),
    }


def _reason(error: ToolFailed) -> str:
    """What the runtime said, without the Python frames it passed through."""
    lines = [line for line in error.stderr_tail.splitlines() if line.strip() and line[0] not in " \t"]
    lines = [line for line in lines if not line.startswith("Traceback")]
    # The runner ends with the exception's own name and text, which the traceback had with its module.
    said = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not after or not line.endswith(after)]
    return "\n  ".join(said[-4:]) or describe_exit(error.returncode)
