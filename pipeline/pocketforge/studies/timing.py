"""Sizes and host latencies of a study's models: exported in float, timed in turns with the unpruned one.

Only structures are timed, each once: training changes no shape. A *sitting* holds the files that are compared with each
other, so that what slows the machine down for a while slows all of them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketforge.errors import PocketforgeError, StageFailed
from pocketforge.measure.trial import Trial, export_float, time_in_turns
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.stats import ratio_interval
from pocketforge.studies.cells import Cells, key_of
from pocketforge.studies.settings import Settings
from pocketforge.studies.verdicts import pairs
from pocketforge.studies.workbench import structure_of

if TYPE_CHECKING:
    from torch import nn

    from pocketforge.studies.workbench import Workbench

# Samples that a timed file runs on, one after another.
SAMPLES = 64


def export_all(
    bench: Workbench,
    cells: Cells,
    module: nn.Module,
    structure: str,
    runtimes: Sequence[str],
    watch: Callable[[float, str], None],
) -> dict[str, Any]:
    """Files of the model in the cells' folder, kept for timing: runtime → size_bytes, gzip_bytes, or error."""
    layout = bench.recipe.data.preprocess.layout if bench.recipe.data.preprocess else "NCHW"
    unpruned = module is bench.module
    found: dict[str, Any] = {}
    for runtime in runtimes:
        folder = cells.files(structure) / runtime
        known = _known(folder)
        if unpruned and known is not None:
            continue
        watch(0.95, f"exporting to {runtime}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with _quiet():
                trial = export_float(module, bench.example, runtime, folder, layout)
        except Exception as error:  # an exporter raises many kinds of its own
            if unpruned:
                if isinstance(error, PocketforgeError):
                    raise
                raise StageFailed(f"the unpruned model cannot be exported to {runtime}: {error}") from error
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            found[runtime] = {"error": first}
            continue
        # The name says what a Trial needs, and is made last: half an export has none.
        trial.path.rename(folder / f"{trial.sha256}{trial.path.suffix}")
        found[runtime] = {"size_bytes": trial.size_bytes, "gzip_bytes": trial.gzip_bytes, "error": ""}
    return found


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
    bench: Workbench,
    cells: Cells,
    rows: Sequence[Mapping[str, Any]],
    settings: Settings,
    about: Mapping[str, Any],
    cache: Path,
    tell: Callable[[str], None],
    watch: Callable[[float, str], None],
) -> list[dict[str, Any]]:
    """Time every structure of the rows against the unpruned model, and each pair that a verdict compares together.

    A sitting is {runtime, structures, rounds_ms}: the unpruned model first, each with the medians of its rounds. One
    whose files do not run has its "error". about: what timings depend on.
    """
    base = structure_of(bench.module, {})
    sittings = []
    for runtime in settings.runtimes:
        exported = {r["structure"] for r in rows if r["seeds"] and _known(cells.files(r["structure"]) / runtime)}
        for group in plan_sittings(rows, base, exported):
            key = key_of({**about, "runtime": runtime, "structures": group})
            words = f"timing {len(group)} files in {runtime}"
            sit = functools.partial(_sit, bench, cells, group, runtime, settings.rounds, watch, words)
            sitting, reused = cells.once(key, sit)
            sittings.append(sitting)
            tell(f"{words}{' (kept)' if reused else ''}{': ' + sitting['error'] if sitting['error'] else ''}")
    return sittings


def plan_sittings(rows: Sequence[Mapping[str, Any]], base: str, exported: set[str]) -> list[list[str]]:
    """Which structures are timed together; the first of each is the unpruned one.

    Rows of one basis and share sit together, with the partners that the verdicts compare them with. What was timed
    before is not timed again, unless a pair has not been timed side by side.
    """
    together: dict[tuple[str, float], list[str]] = {}
    partners = [(a["structure"], b["structure"]) for basis in _bases(rows) for a, b in pairs(rows, basis)]
    for row in rows:
        if row["seeds"] and row["basis"] and row["structure"] != base and row["structure"] in exported:
            together.setdefault((row["basis"], row["ratio"]), []).append(row["structure"])
    timed: set[str] = {base}
    beside: set[tuple[str, str]] = set()
    sittings = []
    for group in together.values():
        wanted = [structure for structure in group if structure not in timed]
        for pair in partners:
            if pair[0] in group and pair not in beside and base not in pair and exported.issuperset(pair):
                wanted += pair
        wanted = list(dict.fromkeys(wanted))
        if wanted:
            sittings.append([base, *wanted])
            timed.update(wanted)
            beside.update(pair for pair in partners if set(pair) <= set(wanted))
    return sittings


def _bases(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["basis"] for row in rows if row["basis"]))


def _sit(
    bench: Workbench,
    cells: Cells,
    group: Sequence[str],
    runtime: str,
    rounds: int,
    watch: Callable[[float, str], None],
    words: str,
) -> dict[str, Any]:
    found: dict[str, Any] = {"runtime": runtime, "structures": list(group), "rounds_ms": [], "error": ""}
    trials = []
    for structure in group:
        path = _known(cells.files(structure) / runtime)
        assert path is not None
        trials.append(Trial(runtime, path, path.stem, path.stat().st_size, 0))
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        inputs = _input_files(bench, Path(scratch))
        # One benchmark on this machine at a time, builds' included. What a runtime says is in its error.
        with (
            hold_of_machine(HOST_BENCHMARK, lambda holder: watch(0.0, f"{holder} benchmarks")),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                found["rounds_ms"] = time_in_turns(trials, inputs, rounds=rounds, progress=lambda f: watch(f, words))
            except StageFailed as error:
                found["error"] = error.message
    return found


def _input_files(bench: Workbench, folder: Path) -> list[Path]:
    paths = []
    for number in range(len(bench.example)):
        arrays = [inputs[number].numpy() for inputs, _ in bench.eval[: -(-SAMPLES // 50)]]
        paths.append(folder / f"input_{number}.npy")
        np.save(paths[-1], np.concatenate(arrays)[:SAMPLES])
    return paths


def add_latencies(rows: Sequence[dict[str, Any]], sittings: Sequence[Mapping[str, Any]]) -> None:
    """Put into each row, for each runtime, its time and its ratio to the unpruned model of the same sitting."""
    for row in rows:
        row["latency"] = {}
        for sitting in sittings:
            structures, rounds = sitting["structures"], sitting["rounds_ms"]
            if sitting["error"] or row.get("structure") not in structures or sitting["runtime"] in row["latency"]:
                continue
            own, whole = rounds[structures.index(row["structure"])], rounds[0]
            ratio, low, high = ratio_interval(whole, own)
            row["latency"][sitting["runtime"]] = {
                "ms": statistics.median(own),
                "unpruned_ms": statistics.median(whole),
                "ratio": ratio,
                "low": low,
                # One round has no interval, and infinity is no JSON.
                "high": high if len(own) > 1 else None,
            }
