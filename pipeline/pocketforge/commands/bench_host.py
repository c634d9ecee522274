"""Files timed on this host, outside a build."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pocketforge import events
from pocketforge.commands.bench_files import File, reason_of
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.devices.base import RunRequest
from pocketforge.errors import StageFailed, ToolFailed
from pocketforge.facts.processors import check_threads_option
from pocketforge.files import Resolve, hash_file
from pocketforge.measure.bench_rows import HostRow, Times
from pocketforge.measure.processes import time_in_processes
from pocketforge.recipe.device import Device, HostDevice
from pocketforge.registries import RUNTIMES
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine


class BenchHost:
    """The `BenchOn` of this host."""

    OPTIONS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "--processes": ("--processes is for the host", "a phone is timed in --rounds")
    }
    AT_ONCE: ClassVar[bool] = False

    def named(
        self, _words: Sequence[str], _request: BenchRequest, _have: Sequence[Device], _resolve: Resolve
    ) -> Sequence[Device]:
        return [HostDevice()]

    def as_asked(self, device: Device, request: BenchRequest) -> Device:
        assert isinstance(device, HostDevice)
        check_threads_option(request.threads)
        return dataclasses.replace(
            device,
            threads=request.threads or device.threads,
            processes=request.processes or device.processes,
            min_samples=request.min_samples or device.min_samples,
            min_seconds=device.min_seconds if request.min_seconds is None else request.min_seconds,
        )

    def run(
        self, files: Sequence[File], devices: Sequence[Device], say: events.Say, _resolve: Resolve
    ) -> Sequence[HostRow]:
        rows = []
        for file in files:
            for device in devices:
                assert isinstance(device, HostDevice)
                with hold_of_machine(HOST_BENCHMARK, lambda holder: say(f"waiting: {holder} benchmarks here")):
                    rows.append(_time(file, device))
        return rows


def _time(file: File, device: HostDevice) -> HostRow:
    request = RunRequest(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=hash_file(file.path),
        inputs=file.inputs,
        outputs=file.path.parent,  # nothing is written when timing
        threads=device.threads,
        samples=device.min_samples,
        warmup=device.warmup,
        time_s=device.min_seconds,
    )
    try:
        # Not what a runtime says on the way: stderr is the user's terminal, and the error says all that matters.
        bench = time_in_processes(request, device.processes, device.spacing_seconds, quiet=True)
    except ToolFailed as error:
        raise StageFailed(f"{file.name} does not load or run: {reason_of(error)}") from None
    times = Times.of(bench.samples_ms, bench.how, bench.load_ms, bench.peak_rss_bytes)
    return HostRow(
        file.name,
        device.name,
        device.via,
        bench.sha256,
        bench.how.runtime,
        device.threads,
        times,
        bench.how.processes,
    )


BENCH = BenchHost()
