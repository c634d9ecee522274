"""Sizes and host latencies of a study's models: exported in float, timed in turns with the unpruned one.

Only structures are timed, each once: training changes no shape. A *sitting* holds the files that are compared with each
other, so that what slows the machine down for a while slows all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketforge.errors import PocketforgeError, StageFailed
from pocketforge.measure.trial import Trial, export_float, time_in_turns
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.stats import ratio_interval
from pocketforge.studies.cells import Cells, key_of
from pocketforge.studies.pruning_study import Exported, Latency, Row, Sitting
from pocketforge.studies.verdicts import bases_of, pairs
from pocketforge.studies.workbench import Workbench, structure_of

if TYPE_CHECKING:
    from torch import nn

    from pocketforge.events import Progress, Say
    from pocketforge.studies.settings import Basis

# Samples that a timed file runs on, one after another.
SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where files are made and timed, and who hears of it.

    Attributes:
        bench: The unpruned model and the samples.
        cells: Where files and timings are kept.
        tell: Gets a line for each sitting.
        watch: Progress inside one.
    """

    bench: Workbench
    cells: Cells
    tell: Say
    watch: Progress


def export_all(place: Place, module: nn.Module, structure: str, runtimes: Sequence[str]) -> dict[str, Exported]:
    """Files of the model in the cells' folder, kept for timing: runtime → sizes, or the error. Of the unpruned model
    only what is not there yet; its errors are raised.
    """
    bench = place.bench
    layout = bench.recipe.data.layout
    unpruned = module is bench.module
    exported: dict[str, Exported] = {}
    for runtime in runtimes:
        folder = place.cells.files(structure) / runtime
        if unpruned and _known(folder) is not None:
            continue
        place.watch(0.95, f"exporting to {runtime}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with _quiet():
                trial = export_float(module, bench.example, runtime, folder, layout)
        except Exception as error:  # an exporter raises many kinds of its own
            if unpruned:
                if isinstance(error, PocketforgeError):
                    raise
                raise StageFailed(f"the unpruned model cannot be exported to {runtime}: {error}") from error
            exported[runtime] = Exported((str(error).strip() or type(error).__name__).splitlines()[0])
            continue
        # The name says what a Trial needs, and is made last: half an export has none.
        trial.path.rename(folder / f"{trial.sha256}{trial.path.suffix}")
        exported[runtime] = Exported("", trial.size_bytes, trial.gzip_bytes)
    return exported


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk on stdout, where the result is to be, and warn of their own libraries' news."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _known(folder: Path) -> Path | None:
    """The exported file, if a whole export is there."""
    return next((p for p in sorted(folder.glob("*")) if p.is_file() and len(p.stem) == 64), None)


def time_all(
    place: Place, rows: Sequence[Row], runtimes: Sequence[str], rounds: int, about: Mapping[str, object]
) -> list[Sitting]:
    """Time every structure of the rows against the unpruned model, and each pair that a verdict compares together.

    In each sitting the unpruned model comes first. One whose files do not run has its error. about: what timings depend
    on.
    """
    base = structure_of(place.bench.module, {})
    structures = {row.measured.structure for row in rows if row.measured is not None}
    sittings = []
    for runtime in runtimes:
        exported = {structure for structure in structures if _known(place.cells.files(structure) / runtime)}
        for group in plan_sittings(rows, base, exported):
            key = key_of({**about, "runtime": runtime, "structures": group})
            words = f"timing {len(group)} files in {runtime}"
            sit = functools.partial(_sit, place, group, runtime, rounds, words)
            sitting, reused = place.cells.once(key, Sitting, sit)
            sittings.append(sitting)
            place.tell(f"{words}{' (kept)' if reused else ''}{': ' + sitting.error if sitting.error else ''}")
    return sittings


def plan_sittings(rows: Sequence[Row], base: str, exported: set[str]) -> list[list[str]]:
    """Which structures are timed together; the first of each is the unpruned one.

    Rows of one basis and share sit together, with the partners that the verdicts compare them with. What was timed
    before is not timed again, unless a pair has not been timed side by side.
    """
    together: dict[tuple[Basis, float], list[str]] = {}
    partners = [
        (a.measured.structure, b.measured.structure)
        for basis in bases_of(rows)
        for a, b in pairs(rows, basis)
        if a.measured and b.measured
    ]
    for row in rows:
        if row.measured is None or row.basis == "":
            continue
        structure = row.measured.structure
        if structure != base and structure in exported:
            together.setdefault((row.basis, row.ratio), []).append(structure)
    timed: set[str] = {base}
    beside: set[tuple[str, str]] = set()
    sittings = []
    for group in together.values():
        to_time = [structure for structure in group if structure not in timed]
        for pair in partners:
            if pair[0] in group and pair not in beside and base not in pair and exported.issuperset(pair):
                to_time += pair
        to_time = list(dict.fromkeys(to_time))
        if to_time:
            sittings.append([base, *to_time])
            timed.update(to_time)
            beside.update(pair for pair in partners if set(pair) <= set(to_time))
    return sittings


def _sit(place: Place, group: Sequence[str], runtime: str, rounds: int, words: str) -> Sitting:
    trials = []
    for structure in group:
        path = _known(place.cells.files(structure) / runtime)
        assert path is not None
        trials.append(Trial(runtime, path, path.stem, path.stat().st_size, 0))
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        inputs = _input_files(place.bench, Path(scratch))
        # One benchmark on this machine at a time, builds' included. What a runtime says is in its error.
        with (
            hold_of_machine(HOST_BENCHMARK, lambda holder: place.watch(0.0, f"{holder} benchmarks")),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                rounds_ms = time_in_turns(trials, inputs, rounds=rounds, progress=lambda f: place.watch(f, words))
            except StageFailed as error:
                return Sitting(runtime, tuple(group), (), error.message)
    return Sitting(runtime, tuple(group), tuple(map(tuple, rounds_ms)), "")


def _input_files(bench: Workbench, folder: Path) -> list[Path]:
    paths = []
    for number in range(len(bench.example)):
        arrays = [inputs[number].numpy() for inputs, _ in bench.eval[: -(-SAMPLES // 50)]]
        paths.append(folder / f"input_{number}.npy")
        np.save(paths[-1], np.concatenate(arrays)[:SAMPLES])
    return paths


def with_latencies(rows: Sequence[Row], sittings: Sequence[Sitting]) -> list[Row]:
    """The rows, each with its time in each runtime and its ratio to the unpruned model of the same sitting."""
    return [
        dataclasses.replace(row, latency=_latencies(row.measured.structure, sittings)) if row.measured else row
        for row in rows
    ]


def _latencies(structure: str, sittings: Sequence[Sitting]) -> dict[str, Latency]:
    latencies: dict[str, Latency] = {}
    for sitting in sittings:
        if sitting.error or structure not in sitting.structures or sitting.runtime in latencies:
            continue
        own, whole = sitting.rounds_of(structure), sitting.rounds_ms[0]
        ratio, low, high = ratio_interval(whole, own)
        # One round has no interval, and infinity is no JSON.
        bounded_high = high if len(own) > 1 else None
        latencies[sitting.runtime] = Latency(statistics.median(own), statistics.median(whole), ratio, low, bounded_high)
    return latencies
