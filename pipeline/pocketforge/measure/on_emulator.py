"""One model file on one emulated device: what its inference takes, counted, and what follows for cycles and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.devices.emulator.counts import Counts
from pocketforge.errors import PocketforgeError, RecipeError

if TYPE_CHECKING:
    from pocketforge.devices.profiles import Cluster
    from pocketforge.estimation.calibration_file import Calibration
    from pocketforge.estimation.layers import Layer
    from pocketforge.estimation.outcome import Estimated
    from pocketforge.estimation.what_if import WhatIf

CLOCK_LEAST, CLOCK_MOST = 0.2, 1.5


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


def estimate_file(
    model: Path,
    counts: Counts,
    profile: Path,
    cores: str,
    calibration: Path | None = None,
    *,
    supposed: WhatIf | None = None,
    clock_ghz: float | None = None,
) -> Estimated:
    """Cycles and latency with their interval, or why the core model does not reach.

    calibration: a file of `pocketforge device calibrate`, the shipped one when absent. supposed: of the model as it
    would be; clock_ghz: on cores that are clocked otherwise than the profile says. Raises RecipeError for a calibration
    that cannot be used, or a clock that no such core has.
    """
    from pocketforge.devices.profile_files import load_profile
    from pocketforge.estimation.estimate import estimate
    from pocketforge.estimation.outcome import Estimated
    from pocketforge.estimation.traffic import Traffic
    from pocketforge.runtimes.traffic import traffic_of

    loaded, fitted = load_profile(profile), _calibration(calibration)
    cluster = _clocked(loaded.cluster(cores), clock_ghz)
    try:
        moved = Traffic.from_json(traffic_of(model))
        estimated = estimate(counts, moved, loaded, cluster, calibration=fitted, supposed=supposed)
    except PocketforgeError as error:
        return Estimated(None, error.message)
    return Estimated(estimated)


def layers_of_file(
    model: Path, counts: Counts, profile: Path, cores: str, calibration: Path | None = None
) -> tuple[Layer, ...]:
    """`estimate_file`'s estimate, operator by operator: for what it does not refuse."""
    from pocketforge.devices.profile_files import load_profile
    from pocketforge.estimation.estimate import by_layer
    from pocketforge.estimation.traffic import Traffic
    from pocketforge.runtimes.traffic import traffic_of

    loaded, fitted = load_profile(profile), _calibration(calibration)
    moved = Traffic.from_json(traffic_of(model))
    return by_layer(counts, moved, loaded, loaded.cluster(cores), calibration=fitted)


def _calibration(path: Path | None) -> Calibration:
    from pocketforge.estimation import calibration_file

    return calibration_file.load(path) if path else calibration_file.shipped()


def check_clock(profile: Path, cores: str, clock_ghz: float | None) -> None:
    """Raises RecipeError for a clock that no such core has: before anything is counted."""
    from pocketforge.devices.profile_files import load_profile

    _clocked(load_profile(profile).cluster(cores), clock_ghz)


def _clocked(cluster: Cluster, clock_ghz: float | None) -> Cluster:
    if clock_ghz is None:
        return cluster
    if not CLOCK_LEAST <= clock_ghz / cluster.clock_ghz <= CLOCK_MOST:
        raise RecipeError(
            f"--clock: wanted {CLOCK_LEAST * cluster.clock_ghz:.3g} to {CLOCK_MOST * cluster.clock_ghz:.3g} GHz, found "
            f"{clock_ghz:g}",
            f"{cluster.core} has {cluster.clock_ghz:g} GHz in the profile",
        )
    return dataclasses.replace(cluster, clock_ghz=clock_ghz)
