"""Benchmarks on phones outside a build: one file in rounds, or two files interleaved (A B B A) in one session."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from pocketforge.commands.bench_files import File, reason_of
from pocketforge.devices import adb, host, noise_floors
from pocketforge.devices.base import RunRequest
from pocketforge.errors import DeviceError, RecipeError, StageFailed, ToolFailed
from pocketforge.facts.phones import ready_phones
from pocketforge.files import hash_file
from pocketforge.measure import ab
from pocketforge.metrics import parity, real_values
from pocketforge.plan.steps import Phone
from pocketforge.recipe.device import AdbDevice
from pocketforge.registries import RUNTIMES
from pocketforge.results.latency import latency_interval
from pocketforge.results.phones import noise
from pocketforge.stats import PERCENTILES, percentile

Say = Callable[[str], None]

_RIVAL, _OURS = "against", "file"


def bench_on_phone(
    file: File, device: AdbDevice, phone: Phone, say: Say, pause: adb.Pause = time.sleep
) -> dict[str, Any]:
    """Time a file in rounds, and compare its outputs on every sample with those on the host.

    What runs no samples (another make's runner) is not compared. Raises StageFailed (it does not load or run),
    DeviceUnavailable, DeviceTimeout, DeviceError.
    """
    measured = _measured(file, device)
    try:
        (found,) = adb.measure(phone.serial, [measured], file.inputs, _how(device), say, pause=pause)
        against_host = []
        if adb.bundle_of(measured.session, measured.runner, measured.library).tool is None:
            say(f"{file.name}: outputs on {device.name} and on the host")
            against_host = _against_host(file, measured, device, phone.serial, pause)
    except ToolFailed as error:
        raise StageFailed(f"{file.name} does not load or run on {device.name}: {reason_of(error)}") from None
    samples = found["samples_ms"]
    how = found["how"]
    floor = noise_floors.load(phone.serial, phone.identity, how["cores"])
    interval = latency_interval(samples, how, "p50") if samples else None
    return {
        "name": file.name,
        "device": device.name,
        "via": "adb",
        "serial": phone.serial,
        "phone": phone.to_json(),
        "sha256": found["sha256"],
        "runtime": how["runtime"],
        "threads": how["threads"],
        "samples": len(samples),
        "p50_low_ms": interval.low if interval and math.isfinite(interval.low) else None,
        "p50_high_ms": interval.high if interval and math.isfinite(interval.high) else None,
        **{f"{p}_ms": percentile(samples, p) if samples else None for p in ("min", *PERCENTILES)},
        "load_ms": found["load_ms"],
        "peak_rss_bytes": found["peak_rss_bytes"],
        "samples_ms": samples,
        "against_host": against_host,
        "how": {**how, **noise(how["rounds"], floor)},
    }


def bench_on_phones(
    files: Sequence[File], devices: Sequence[AdbDevice], say: Say, resolve: Callable[[str], Path]
) -> list[list[dict[str, Any]]]:
    """All files on each phone, one after another; all phones at once. For each phone its results.

    On ^C, and when a phone fails, the others' sessions are ended too and put back what they changed. Raises as
    `bench_on_phone`.
    """
    # Before the first is timed: asking what a phone is would disturb it.
    phones = ready_phones(devices, resolve)
    if len(devices) == 1:
        # In the main thread, a session hears of SIGTERM too.
        return [[bench_on_phone(file, devices[0], phones[devices[0].name], say) for file in files]]
    stop = threading.Event()

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise Interrupted

    def all_files(device: AdbDevice) -> list[dict[str, Any]]:
        return [bench_on_phone(file, device, phones[device.name], say, pause) for file in files]

    with ThreadPoolExecutor(len(devices)) as pool:
        at_work = [pool.submit(all_files, device) for device in devices]
        try:
            wait(at_work, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    failed = [error for future in at_work if (error := future.exception()) is not None]
    # The one that ended the others, not those that were ended.
    for error in sorted(failed, key=lambda error: isinstance(error, Interrupted)):
        raise error
    return [future.result() for future in at_work]


class Interrupted(Exception):
    """A session was told to end."""


def compare_on_phone(
    file: File, rival: File, device: AdbDevice, phone: Phone, tolerance: float, say: Say
) -> dict[str, Any]:
    """Time two files interleaved; PASS when `file` is at most `tolerance` (a fraction) slower than `rival`.

    The same file twice (A/A) gives the phone's noise floor, which is kept. Raises as `bench_on_phone`.
    """
    if len(file.inputs) != len(rival.inputs):
        raise RecipeError(
            f"{file.name} takes {len(file.inputs)} inputs and {rival.name} {len(rival.inputs)}: "
            "they run on the same samples"
        )
    pair = [_measured(rival, device), _measured(file, device)]
    try:
        one, two = adb.measure(phone.serial, pair, file.inputs, _how(device), say)
    except ToolFailed as error:
        raise StageFailed(
            f"{file.name} or {rival.name} does not load or run on {device.name}: {reason_of(error)}"
        ) from None
    same = one["sha256"] == two["sha256"]
    cores = one["how"]["cores"]
    rounds = _in_order(one["how"]["rounds"], two["how"]["rounds"])
    floor = noise_floors.load(phone.serial, phone.identity, cores)
    compared = ab.compare(
        rounds,
        100 * tolerance,
        a=_RIVAL,
        b=_OURS,
        noise_floor_percent=100 * floor.relative if floor and not same else 0.0,
    )
    result = {
        "name": file.name,
        "against": rival.name,
        "device": device.name,
        "via": "adb",
        "serial": phone.serial,
        "phone": phone.to_json(),
        "sha256": [two["sha256"], one["sha256"]],
        "p50_ms": [_middle(two), _middle(one)],
        "same_file": same,
        **_plain(compared),
        "how": {"file": two["how"], "against": one["how"]},
    }
    if same:
        try:
            found = ab.noise_floor(rounds, a=_RIVAL, b=_OURS)
        except ValueError as error:
            raise DeviceError(f"{device.name}: {error}", "let the phone cool down, and ask for more --rounds") from None
        kept = noise_floors.NoiseFloor(
            found.noise_floor, noise_floors.today(), phone.identity, cores, file.name, one["sha256"]
        )
        result |= {"noise_floor": _plain(found), "kept_in": str(noise_floors.save(phone.serial, kept))}
    return result


def _in_order(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> list[ab.Round]:
    """The rounds of both files as they ran."""
    both = [(r["index"], _RIVAL, r) for r in one] + [(r["index"], _OURS, r) for r in two]
    return [ab.Round(label, r["p50_ms"], r["throttled"]) for _, label, r in sorted(both, key=lambda item: item[0])]


def _plain(found: ab.Comparison | ab.NoiseFloor) -> dict[str, Any]:
    """As JSON has it, which knows no infinity: an end that nothing bounds is null."""
    content = dataclasses.asdict(found)
    interval = content.get("difference_percent")
    if interval:
        content["difference_percent"] = {k: v if math.isfinite(v) else None for k, v in interval.items()}
    return content


def _measured(file: File, device: AdbDevice) -> adb.Measure:
    return adb.Measure(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=hash_file(file.path),
        runner=device.runners.get(file.runtime, ""),
        library=device.runner_libraries.get(file.runtime, ""),
    )


def _how(device: AdbDevice) -> adb.How:
    return adb.How(**{name: getattr(device, name) for name in adb.HOW})


def _middle(found: Mapping[str, Any]) -> float | None:
    return percentile(found["samples_ms"], "p50") if found["samples_ms"] else None


def _against_host(
    file: File, measured: adb.Measure, device: AdbDevice, serial: str, pause: adb.Pause
) -> list[dict[str, Any]]:
    """For each output: how the phone's differs from the host's, over all samples."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        folders = [Path(scratch, name) for name in ("host", "phone")]
        request = RunRequest(
            session=measured.session,
            model=measured.model,
            sha256=measured.sha256,
            inputs=file.inputs,
            outputs=folders[0],
            cores=device.cores,
            time_limit_s=device.time_limit_s,
            serial=serial,
            runner=measured.runner,
            runner_library=measured.library,
        )
        host.run(request, quiet=True)
        answer = adb.run(dataclasses.replace(request, outputs=folders[1]), pause=pause)
        return [_parity(folders, index, info) for index, info in enumerate(answer.outputs)]


def _parity(folders: Sequence[Path], index: int, info: Mapping[str, Any]) -> dict[str, Any]:
    here, there = (
        real_values(np.load(folder / f"outputs_{index}.npy"), info.get("scale"), info.get("zero_point"))
        for folder in folders
    )
    return {"output": info["name"], "samples": len(here), **parity(there, here)}
