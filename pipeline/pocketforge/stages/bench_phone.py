"""Stage `bench_phone`: time the exact exported file on a phone, on real samples, batch 1, in rounds.

A round in which the phone slowed down is kept, marked, and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import adb
from pocketforge.files import hash_file
from pocketforge.outcomes import files
from pocketforge.outcomes.elsewhere import fed
from pocketforge.outcomes.export import Exported
from pocketforge.registries import RUNTIMES
from pocketforge.specs.bench_phone import BenchPhoneSpec


def run(inputs: Mapping[str, Path], spec: BenchPhoneSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "export", the user's own "runner" and "runner_library".

    Writes bench.json. Raises ToolFailed when the file does not load or run, DeviceUnavailable, DeviceTimeout (too hot
    for too long) and DeviceError.
    """
    model = files.read(inputs["export"], Exported).model_in(inputs["export"])
    file = adb.Measure(
        session=RUNTIMES[spec.runtime].session,
        model=model,
        sha256=hash_file(model),
        runner=str(inputs.get("runner", "")),
        library=str(inputs.get("runner_library", "")),
    )
    emit(0.0, f"{spec.how.rounds} rounds on the {spec.how.cores} cores")
    (bench,) = adb.measure(
        spec.serial,
        (file,),
        fed(inputs["export"], sample_paths(inputs["data"], "eval")),
        spec.how,
        lambda text: emit(0.5, text),
    )
    files.write(out, bench)
    emit(1.0, f"{len(bench.samples_ms)} samples")
