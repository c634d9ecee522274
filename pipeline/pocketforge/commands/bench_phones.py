"""Benchmarks on phones outside a build: one file in rounds, or two files interleaved (A B B A) in one session."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import ClassVar

import numpy as np

from pocketforge.commands.bench_files import File, reason_of
from pocketforge.commands.bench_kinds import Resolve, Say
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.devices import adb, host, noise_floors
from pocketforge.devices.base import RunRequest
from pocketforge.errors import DeviceError, RecipeError, StageFailed, ToolFailed
from pocketforge.facts.phones import asked_phones, ready_phones
from pocketforge.files import hash_file
from pocketforge.measure import ab
from pocketforge.measure.bench_rows import AgainstHost, ComparedRow, PhoneRow, Side, Times
from pocketforge.metrics import parity, real_values
from pocketforge.outcomes.bench_phone import PhoneBench, RoundTimes
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.plan.steps import Phone
from pocketforge.recipe.device import AdbDevice, Device
from pocketforge.registries import RUNTIMES
from pocketforge.results.phones import noise
from pocketforge.specs.bench_phone import Rounds
from pocketforge.specs.places import PhonePlace
from pocketforge.stats import percentile

_RIVAL, _OURS = "against", "file"
_PHONES_ONLY = ("--against", "--noise-floor", "--runner", "--rounds")


class BenchPhones:
    """The `BenchOn` of phones."""

    OPTIONS: ClassVar[Mapping[str, tuple[str, str]]] = {
        option: (f"{option} is for phones", "--device adb is the one that is connected") for option in _PHONES_ONLY
    }
    # All phones measure at the same time.
    AT_ONCE: ClassVar[bool] = True

    def named(
        self, words: Sequence[str], request: BenchRequest, have: Sequence[Device], resolve: Resolve
    ) -> Sequence[Device]:
        profile = ""
        if "emulator" not in request.devices:  # else the profiles are for that
            if len(request.profiles) > 1:
                raise RecipeError(
                    f"--device adb with several profiles: {', '.join(request.profiles)}", "name the one it has to be"
                )
            profile = "".join(request.profiles)
        phones = asked_phones(words, have, profile, resolve)
        return [dataclasses.replace(phone, cores=request.cores or phone.cores) for phone in phones]

    def as_asked(self, device: Device, request: BenchRequest) -> Device:
        assert isinstance(device, AdbDevice)
        return dataclasses.replace(
            device,
            threads=request.threads or device.threads,
            rounds=request.rounds or device.rounds,
            min_samples=request.min_samples or device.min_samples,
            min_seconds=device.min_seconds if request.min_seconds is None else request.min_seconds,
            runners=dict.fromkeys(RUNTIMES, request.runner) if request.runner else device.runners,
            runner_libraries=dict.fromkeys(RUNTIMES, request.runner_library)
            if request.runner_library
            else device.runner_libraries,
        )

    def run(self, files: Sequence[File], devices: Sequence[Device], say: Say, resolve: Resolve) -> Sequence[PhoneRow]:
        phones = [device for device in devices if isinstance(device, AdbDevice)]
        return [row for rows in bench_on_phones(files, phones, say, resolve) for row in rows]


BENCH = BenchPhones()


def bench_on_phone(file: File, device: AdbDevice, phone: Phone, say: Say, pause: adb.Pause = time.sleep) -> PhoneRow:
    """Time a file in rounds, and compare its outputs on every sample with those on the host.

    What runs no samples (another make's runner) is not compared. Raises StageFailed (it does not load or run),
    DeviceUnavailable, DeviceTimeout, DeviceError.
    """
    measured = _measured(file, device)
    try:
        (bench,) = adb.measure(phone.serial, [measured], file.inputs, Rounds.of(device), say, pause=pause)
        against_host: tuple[AgainstHost, ...] = ()
        if adb.bundle_of(measured.session, measured.runner, measured.library).tool is None:
            say(f"{file.name}: outputs on {device.name} and on the host")
            against_host = _against_host(file, measured, device, phone.serial, pause)
    except ToolFailed as error:
        raise StageFailed(f"{file.name} does not load or run on {device.name}: {reason_of(error)}") from None
    how = bench.how
    return PhoneRow(
        file.name,
        device.name,
        device.via,
        bench.sha256,
        how.runtime,
        how.threads,
        Times.of(bench.samples_ms, how, bench.load_ms, bench.peak_rss_bytes),
        phone.serial,
        phone,
        how,
        noise(how.rounds, noise_floors.load(phone.serial, phone.identity, how.cores)),
        against_host,
    )


def bench_on_phones(
    files: Sequence[File], devices: Sequence[AdbDevice], say: Say, resolve: Resolve
) -> list[list[PhoneRow]]:
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

    def all_files(device: AdbDevice) -> list[PhoneRow]:
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


def compare_on_phones(
    files: Sequence[File],
    rival: File | None,
    devices: Sequence[AdbDevice],
    request: BenchRequest,
    say: Say,
    resolve: Resolve,
) -> list[ComparedRow]:
    """Each file with the rival, or without one with itself, on every phone. Raises as `compare_on_phone`."""
    phones = ready_phones(devices, resolve)
    return [
        compare_on_phone(file, rival or file, device, phones[device.name], request.tolerance, say)
        for device in devices
        for file in files
    ]


def compare_on_phone(
    file: File, rival: File, device: AdbDevice, phone: Phone, tolerance: float, say: Say
) -> ComparedRow:
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
        one, two = adb.measure(phone.serial, pair, file.inputs, Rounds.of(device), say)
    except ToolFailed as error:
        raise StageFailed(
            f"{file.name} or {rival.name} does not load or run on {device.name}: {reason_of(error)}"
        ) from None
    rounds = _in_order(one.how.rounds, two.how.rounds)
    floor = noise_floors.load(phone.serial, phone.identity, one.how.cores)
    same = one.sha256 == two.sha256
    compared = ab.compare(
        rounds,
        100 * tolerance,
        a=_RIVAL,
        b=_OURS,
        noise_floor_percent=100 * floor.relative if floor and not same else 0.0,
    )
    row = ComparedRow(device.name, phone.serial, phone, _side(file, two), _side(rival, one), compared)
    return _with_noise_floor(row, rounds) if same else row


def _with_noise_floor(row: ComparedRow, rounds: Sequence[ab.Round]) -> ComparedRow:
    """An A/A with what it says of the phone, which is kept for other sessions."""
    try:
        floor = ab.noise_floor(rounds, a=_RIVAL, b=_OURS)
    except ValueError as error:
        raise DeviceError(f"{row.device}: {error}", "let the phone cool down, and ask for more --rounds") from None
    stored = noise_floors.NoiseFloor(
        floor.noise_floor,
        noise_floors.today(),
        row.phone.identity,
        row.against.how.cores,
        row.file.name,
        row.against.sha256,
    )
    return dataclasses.replace(row, noise_floor=floor, kept_in=str(noise_floors.save(row.serial, stored)))


def _side(file: File, bench: PhoneBench) -> Side:
    p50_ms = percentile(bench.samples_ms, "p50") if bench.samples_ms else None
    return Side(file.name, bench.sha256, p50_ms, bench.how)


def _in_order(one: Iterable[RoundTimes], two: Iterable[RoundTimes]) -> list[ab.Round]:
    """The rounds of both files as they ran."""
    both = [(each.index, _RIVAL, each) for each in one] + [(each.index, _OURS, each) for each in two]
    both.sort(key=lambda item: item[0])
    return [ab.Round(label, each.p50_ms, each.throttled) for _, label, each in both]


def _measured(file: File, device: AdbDevice) -> adb.Measure:
    return adb.Measure(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=hash_file(file.path),
        runner=device.runners.get(file.runtime, ""),
        library=device.runner_libraries.get(file.runtime, ""),
    )


def _against_host(
    file: File, measured: adb.Measure, device: AdbDevice, serial: str, pause: adb.Pause
) -> tuple[AgainstHost, ...]:
    """For each output: how the phone's differs from the host's, over all samples."""
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        folders = [Path(scratch, name) for name in ("host", "phone")]
        request = RunRequest(
            session=measured.session,
            model=measured.model,
            sha256=measured.sha256,
            inputs=file.inputs,
            outputs=folders[0],
            place=PhonePlace(device.via, device.cores, device.time_limit_s, device.name, serial),
            files={"runner": measured.runner, "runner_library": measured.library},
        )
        host.run(request, quiet=True)
        answer = adb.run(dataclasses.replace(request, outputs=folders[1]), pause=pause)
        return tuple(_parity(folders, index, tensor) for index, tensor in enumerate(answer.outputs))


def _parity(folders: Sequence[Path], index: int, tensor: TensorSpec) -> AgainstHost:
    on_host, on_phone = (
        real_values(np.load(folder / f"outputs_{index}.npy"), tensor.scale, tensor.zero_point) for folder in folders
    )
    return AgainstHost(tensor.name, len(on_host), parity(on_phone, on_host))
