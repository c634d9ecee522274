"""Studies as rows of words and numbers: for the terminal, and as CSV. No torch."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketforge.outcomes.sensitivity import SensitivityOutcome
from pocketforge.studies.intervals import Mean
from pocketforge.studies.pruning_study import Exported, Measured, PruningStudy, Row
from pocketforge.studies.quantizer_study import QuantizerRow, QuantizerStudy


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: What it is of.
        columns: Their names.
        rows: A cell for each column.
        numbers: Names of the columns that hold numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[str, ...] = ()


def sensitivity_table(study: SensitivityOutcome, chosen: Mapping[str, float]) -> Table:
    """Layers × ratios, and what ratio = "auto" takes of each."""
    ratios = tuple(f"{ratio:g}" for ratio in study.ratios)
    rows = [
        (
            row.name,
            str(row.channels),
            *(_figure(value) for value in row.metric),
            f"{chosen[row.name]:g}",
        )
        for row in study.layers
    ]
    whole = _figure(study.baseline.metric)
    title = f"{study.metric} with one layer pruned; unpruned {whole} on {study.samples} samples"
    numbers = ("channels", *ratios, "auto")
    return Table(title, ("layer", *numbers), rows, numbers)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def accuracy_table(study: PruningStudy) -> Table:
    """Each method at each share: what it really removed, and top-1 before and after fine-tuning."""
    numbers = ("asked", "parameters removed", "MACs removed", "top-1 before", "top-1 after", "95 % ±")
    rows = [(*_names(row), *_accuracies(row.measured)) for row in study.rows]
    count = study.settings.seeds
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    title = f"{study.recipe}: top-1 on {study.baseline.eval_samples} eval samples, {seeds}"
    return Table(title, ("basis", "method", *numbers), rows, numbers)


def _names(row: Row) -> tuple[str, str, str]:
    return row.basis or "–", row.method, f"{row.ratio:g}"


def _accuracies(measured: Measured | None) -> tuple[str, ...]:
    if measured is None:
        return ("–",) * 5
    above = measured.accuracy_after.above
    return (
        f"{measured.removed.parameters:.3f}",
        f"{measured.removed.macs:.3f}",
        f"{measured.accuracy_before.mean:.4f}",
        f"{measured.accuracy_after.mean:.4f}",
        "?" if above is None else f"{above:.4f}",
    )


def cost_table(study: PruningStudy) -> Table | None:
    """Sizes and times in each runtime; None when none was asked for."""
    runtimes = study.settings.runtimes
    numbers = ("asked", *(f"{runtime} {what}" for runtime in runtimes for what in ("bytes", "÷unpruned", "±")))
    rows = []
    for row in study.rows:
        cells = []
        for runtime in runtimes:
            size = _file(row.measured, runtime).size_bytes
            time = row.latency.get(runtime)
            half = None if time is None or time.high is None else (time.high - time.low) / 2
            cells += ["–" if size is None else f"{size:,}", "–" if time is None else f"{time.ratio:.3f}"]
            cells.append("?" if half is None else f"{half:.3f}")
        rows.append((*_names(row), *cells))
    return Table("float files and host latency", ("basis", "method", *numbers), rows, numbers) if runtimes else None


def _file(measured: Measured | None, runtime: str) -> Exported:
    """The runtime's file; one without sizes where there is none."""
    return (measured.files.get(runtime) if measured else None) or Exported("")


def verdict_table(study: PruningStudy) -> Table:
    """The claim against the figures; an interval in brackets."""
    rows = [
        (
            verdict.basis,
            verdict.runtime or "–",
            verdict.verdict,
            _with_interval(verdict.latency.layers_over_channels, ".3f"),
            _with_interval(verdict.accuracy.channels_minus_layers_after, "+.4f"),
            str(len(verdict.pairs)),
        )
        for verdict in study.verdicts
    ]
    claim = study.verdicts[0].claim if study.verdicts else ""
    columns = ("basis", "runtime", "verdict", "latency, layers ÷ channels", "top-1, channels - layers", "pairs")
    return Table(f"claim: {claim}", columns, rows, ("pairs",))


def faults(study: PruningStudy) -> list[str]:
    """What could not be reached, and what must be known to read the figures right."""
    lines = []
    for row in study.rows:
        lines += [f"{row.what}: {words}" for words in (row.error, row.note) if words]
        files = row.measured.files if row.measured else {}
        lines += [f"{row.what}: {runtime}: {file.error}" for runtime, file in files.items() if file.error]
    lines += [f"timing in {sitting.runtime}: {sitting.error}" for sitting in study.sittings if sitting.error]
    lines += [f"{verdict.basis}: {verdict.why}" for verdict in study.verdicts if verdict.why]
    return list(dict.fromkeys(lines))


def _with_interval(mean: Mean | None, form: str) -> str:
    if mean is None:
        return "not measured"
    if mean.low is None:
        return f"{mean.mean:{form}} [?]"
    return f"{mean.mean:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


_PRUNED = ("removed_parameters", "removed_macs", "parameters", "macs", "zeros")
_TIMED = ("bytes", "gzip_bytes", "ms", "ratio", "ratio_low", "ratio_high")


def to_csv(study: PruningStudy) -> str:
    """One line a cell (one method, basis, share and seed); sizes and times are those of its row, the first seed's."""
    runtimes = study.settings.runtimes
    rows = {(row.method, row.basis, row.ratio): row for row in study.rows}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    timed = [f"{runtime}_{what}" for runtime in runtimes for what in _TIMED]
    writer.writerow(
        ["method", "basis", "ratio", "seed", *_PRUNED, "accuracy_before", "accuracy_after", *timed, "note", "error"]
    )
    for cell in study.cells:
        ask, pruned, trained = cell.ask, cell.pruned, cell.trained
        values: list[object] = [ask.method, ask.basis, ask.ratio, ask.seed]
        values += (
            [pruned.removed.parameters, pruned.removed.macs, pruned.parameters, pruned.macs, pruned.zeros]
            if pruned
            else [None] * len(_PRUNED)
        )
        values += [trained.accuracy_before, trained.accuracy_after] if trained else [None, None]
        row = rows[ask.method, ask.basis, ask.ratio]
        for runtime in runtimes:
            file, time = _file(row.measured, runtime), row.latency.get(runtime)
            values += [file.size_bytes, file.gzip_bytes]
            values += [time.ms, time.ratio, time.low, time.high] if time else [None] * 4
        writer.writerow([*values, cell.note, cell.error])  # None is an empty cell
    return text.getvalue()


def quantizer_table(study: QuantizerStudy) -> Table:
    """Each quantizer at each number of bits; the float model last."""
    numbers = ("bits", "weight MSE", "weight SQNR dB", "output SQNR dB", study.metric, "packed bytes", "gzip",
               "float32 gzip")  # fmt: skip
    rows = [
        (
            row.quantizer,
            str(row.bits),
            f"{row.weight_mse:.2e}",
            f"{row.weight_sqnr_db:.1f}",
            f"{row.output_sqnr_db:.1f}",
            f"{row.accuracy:.4f}",
            f"{row.packed_bytes:,}",
            f"{row.packed_gzip_bytes:,}",
            f"{row.float_gzip_bytes:,}",
        )
        for row in study.rows
    ]
    whole = study.float
    size = f"{whole.gzip_bytes:,}"
    rows.append(("float32", "32", "0", "–", "–", f"{whole.accuracy:.4f}", f"{whole.bytes:,}", size, size))
    samples = f"{study.eval_samples} eval and {study.calibration_samples} calibration samples"
    return Table(f"{study.recipe}: {study.weights} weights, {samples}", ("quantizer", *numbers), rows, numbers)


def quantizer_csv(study: QuantizerStudy) -> str:
    """One line a quantizer and number of bits; the layers' own errors are in the JSON."""
    first = ("quantizer", "bits")
    rest = sorted({each.name for each in dataclasses.fields(QuantizerRow)} - {*first, "layers"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*first, *rest])
    writer.writerows([getattr(row, name) for name in (*first, *rest)] for row in study.rows)
    return text.getvalue()
