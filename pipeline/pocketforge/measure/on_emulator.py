"""One model file on one emulated device: what its inference takes, counted, and what follows for cycles and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.devices.emulator.counts import Counts
from pocketforge.errors import PocketforgeError

if TYPE_CHECKING:
    from pocketforge.estimation.outcome import Estimated


def count_file(
    model: Path,
    runtime: str,
    samples: Sequence[Path],
    profile: Path,
    cores: str,
    *,
    scratch: Path,
    time_limit_s: float,
    memory_limit_bytes: int,
) -> Counts:
    """Instructions of one inference on the first of `samples` (a .npy for each input), by class and by function.

    Raises ToolFailed when the file does not load or run there, DeviceUnavailable, DeviceTimeout.
    """
    from pocketforge.devices.emulator import counting, device
    from pocketforge.devices.emulator.launch import Order
    from pocketforge.files import hash_file

    machine = device.machine_of(profile, cores, time_limit_s, memory_limit_bytes)
    order = Order(
        runtime=runtime,
        model=model,
        sha256=hash_file(model),
        inputs=device.raw_inputs(machine, runtime, model, samples, scratch, limit=1),
        outputs=scratch,
        mode="count",
    )
    return counting.count(machine, order)


def estimate_file(model: Path, counts: Counts, profile: Path, cores: str, calibration: Path | None = None) -> Estimated:
    """Cycles and latency with their interval, or why the core model does not reach.

    calibration: a file of `pocketforge device calibrate`, the shipped one when absent. Raises RecipeError for one that
    cannot be used.
    """
    from pocketforge.devices.profile_files import load_profile
    from pocketforge.estimation import calibration_file
    from pocketforge.estimation.estimate import estimate
    from pocketforge.estimation.outcome import Estimated
    from pocketforge.estimation.traffic import Traffic
    from pocketforge.runtimes.traffic import traffic_of

    loaded = load_profile(profile)
    fitted = calibration_file.load(calibration) if calibration else calibration_file.shipped()
    try:
        moved = Traffic.from_json(traffic_of(model))
        estimated = estimate(counts, moved, loaded, loaded.cluster(cores), calibration=fitted)
    except PocketforgeError as error:
        return Estimated(None, error.message)
    return Estimated(estimated)
