"""Stage `count`: the exact instructions of one inference of the exact exported file, on an emulated device."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.measure.on_emulator import count_file
from pocketforge.outcomes import files
from pocketforge.outcomes.elsewhere import fed
from pocketforge.outcomes.export import Exported
from pocketforge.specs.count import CountSpec


def run(inputs: Mapping[str, Path], spec: CountSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "export", "profile".

    Writes counts.json (see devices/emulator/counts.py). Windows that differ are a result, not an error. Raises
    ToolFailed, DeviceUnavailable, DeviceTimeout.
    """
    emit(0.0, "warming up")
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        counts = count_file(
            files.read(inputs["export"], Exported).model_in(inputs["export"]),
            spec.runtime,
            fed(inputs["export"], sample_paths(inputs["data"], "eval")),
            inputs["profile"],
            spec.device.cores,
            scratch=Path(scratch),
            time_limit_s=spec.device.time_limit_s,
            memory_limit_bytes=spec.device.memory_limit_bytes,
        )
    (out / "counts.json").write_text(json.dumps(counts.to_json(), sort_keys=True), "utf-8")
    emit(1.0, f"{counts.instructions:,} instructions")
