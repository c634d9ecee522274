"""`pocketforge bench --device sandbox`: what it runs, and how it shows that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pocketforge.commands.bench_files import File
from pocketforge.commands.bench_request import BenchRequest
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.measure.bench_rows import BenchRow, TimedRow, Times
from pocketforge.recipe.device import Device
from pocketforge.registries import RUNTIMES
from pocketforge.specs.places import Place
from pocketforge_sandbox.entry import Sandbox
from pocketforge_sandbox.timing import time_file

Say, Resolve = Callable[[str], None], Callable[[str], Path]


class BenchSandboxes:
    OPTIONS: ClassVar[Mapping[str, tuple[str, str]]] = {}
    AT_ONCE: ClassVar[bool] = False

    def named(self, _words: Sequence[str], *_: object) -> Sequence[Device]:
        return [Sandbox()]

    def as_asked(self, device: Device, _request: BenchRequest) -> Device:
        return device

    def run(self, files: Sequence[File], devices: Sequence[Device], _say: Say, _resolve: Resolve) -> Sequence[TimedRow]:
        return [_row(file, device) for file in files for device in devices if isinstance(device, Sandbox)]


def _row(file: File, device: Sandbox) -> TimedRow:
    request = RunRequest(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=hash_file(file.path),
        inputs=file.inputs,
        outputs=file.path.parent,
        samples=device.samples,
        place=Place(device.via, "", device.time_limit_s),
    )
    bench = time_file(request, device.processes)
    times = Times.of(bench.samples_ms, bench.how, bench.load_ms, bench.peak_rss_bytes)
    return TimedRow(file.name, device.name, device.via, bench.sha256, bench.how.runtime, 1, times)


def show(rows: Sequence[BenchRow], *, explain: bool) -> None:
    from pocketforge.report.tables import console, milliseconds, table

    drawn = table("benchmark (via sandbox)", "file", "device", "p50 ms", numbers=("p50 ms",))
    for row in rows:
        assert isinstance(row, TimedRow)
        drawn.add_row(row.name, row.device, milliseconds(row.times.percentile_ms("p50") or 0.0))
    console().print(drawn)


BENCH = BenchSandboxes()
