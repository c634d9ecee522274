"""Benchmarks outside a build: stored targets of a recipe again, or any model file on given samples."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.devices import host
from pipeline.devices.base import RunRequest
from pipeline.errors import RecipeError, StageFailed
from pipeline.facts import gather
from pipeline.plan import make_plan
from pipeline.recipe import Device, Recipe, suggest
from pipeline.runtimes import RUNTIMES
from pipeline.stats import PERCENTILES, percentile, percentile_interval
from pipeline.store import Store, hash_file


def bench_recipe(recipe: Recipe, cache: Path, names: Sequence[str], how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Time stored targets on every device of the recipe. Raises RecipeError for unknown names or unbuilt targets."""
    known = [t.name for t in recipe.targets]
    for name in names:
        if name not in known:
            raise RecipeError(f"no target is named {name!r}{suggest(name, known)}")
    plan = make_plan(recipe, gather(recipe, cache))
    store = Store(cache)
    data = store.get(plan.data)
    results = []
    for lane in plan.lanes:
        if names and lane.target.name not in names:
            continue
        entry = store.get(lane.export)
        if entry is None or data is None:
            raise RecipeError(f"target {lane.target.name!r} is not built", "pocketforge build RECIPE builds it")
        exported = json.loads((entry.files / "export.json").read_text(encoding="utf-8"))
        inputs = sorted(data.files.glob("eval_[0-9]*.npy"), key=lambda p: int(p.stem.rpartition("_")[2]))
        for device in recipe.devices:
            with store.lock("host-benchmark"):
                results.append(
                    _bench(
                        entry.files / exported["files"]["model"], lane.target.runtime, inputs, device, how,
                        lane.target.name,
                    )
                )  # fmt: skip
    return results


def bench_file(path: Path, inputs: Sequence[Path], how: Mapping[str, Any]) -> dict[str, Any]:
    """Time one model file on samples from .npy files. Raises RecipeError for an unknown kind of file or no samples."""
    runtimes = {info.suffix: name for name, info in RUNTIMES.items()} | {".ort": "onnx"}
    if path.suffix not in runtimes:
        raise RecipeError(f"cannot tell the runtime of {path.name}", f"known endings: {', '.join(sorted(runtimes))}")
    if not inputs:
        raise RecipeError(
            f"{path.name} needs samples to run on: --inputs SAMPLES.npy for each of its inputs, samples first",
            "real samples: timings on zeros or noise are not those of your data",
        )
    return _bench(path, runtimes[path.suffix], list(inputs), Device(), how, path.name)


def _bench(
    model: Path, runtime: str, inputs: Sequence[Path], device: Device, how: Mapping[str, Any], name: str
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pocketforge-bench-") as scratch:
        answer = host.run(
            RunRequest(
                session=RUNTIMES[runtime].session,
                model=model,
                sha256=hash_file(model),
                inputs=tuple(inputs),
                outputs=Path(scratch),
                threads=how["threads"] or device.threads,
                samples=how["min_samples"] or device.min_samples,
                warmup=device.warmup,
                time_s=device.min_seconds if how["min_seconds"] is None else how["min_seconds"],
            )
        )
    if not answer.samples_ms:
        raise StageFailed(f"benchmarking {name} gave no samples")
    interval = percentile_interval(answer.samples_ms, "p50")
    return {
        "name": name,
        "device": device.name,
        "via": "host",
        "sha256": hash_file(model),
        "runtime": answer.runtime,
        "threads": how["threads"] or device.threads,
        "samples": len(answer.samples_ms),
        "p50_low_ms": interval.low,
        "p50_high_ms": interval.high,
        **{f"{p}_ms": percentile(answer.samples_ms, p) for p in ("min", *PERCENTILES)},
        "load_ms": answer.load_ms,
        "peak_rss_bytes": answer.peak_rss_bytes,
        "samples_ms": list(answer.samples_ms),
    }
