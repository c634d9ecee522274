"""Studies as rows of words and numbers: for the terminal, and as CSV. Standard library only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocketforge.outcomes.sensitivity import SensitivityOutcome


@dataclass(frozen=True, slots=True)
class Table:
    """`numbers` names the columns that hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[str, ...] = ()


def sensitivity_table(study: SensitivityOutcome, chosen: Mapping[str, float]) -> Table:
    """Layers × ratios, and what ratio = "auto" takes of each."""
    by_accuracy = study.baseline.accuracy_top1 is not None
    ratios = tuple(f"{ratio:g}" for ratio in study.ratios)
    rows = [
        (
            row.name,
            str(row.channels),
            *(_figure(value) for value in (row.accuracy_top1 if by_accuracy else row.loss)),
            f"{chosen[row.name]:g}",
        )
        for row in study.layers
    ]
    what = "top-1" if by_accuracy else "loss"
    whole = _figure(study.baseline.accuracy_top1 if by_accuracy else study.baseline.loss)
    title = f"{what} with one layer pruned; unpruned {whole} on {study.samples} samples"
    numbers = ("channels", *ratios, "auto")
    return Table(title, ("layer", *numbers), rows, numbers)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def accuracy_table(found: Mapping[str, Any]) -> Table:
    """Each method at each share: what it really removed, and top-1 before and after fine-tuning."""
    numbers = ("asked", "parameters removed", "MACs removed", "top-1 before", "top-1 after", "95 % ±")
    rows = []
    for row in found["rows"]:
        names = (row["basis"] or "–", row["method"], f"{row['ratio']:g}")
        if not row["seeds"]:
            rows.append((*names, "–", "–", "–", "–", "–"))
            continue
        removed, after = row["removed"], row["accuracy_after"]
        half = "?" if after["high"] is None else f"{after['high'] - after['mean']:.4f}"
        rows.append(
            (
                *names,
                f"{removed['parameters']:.3f}",
                f"{removed['macs']:.3f}",
                f"{row['accuracy_before']['mean']:.4f}",
                f"{after['mean']:.4f}",
                half,
            )
        )
    title = f"{found['recipe']}: top-1 on {found['baseline']['eval_samples']} eval samples, {_seeds(found)}"
    return Table(title, ("basis", "method", *numbers), rows, numbers)


def cost_table(found: Mapping[str, Any]) -> Table | None:
    """Sizes and times in each runtime; None when none was asked for."""
    runtimes = found["settings"]["runtimes"]
    numbers = ("asked", *(f"{runtime} {what}" for runtime in runtimes for what in ("bytes", "÷unpruned", "±")))
    rows = []
    for row in found["rows"]:
        cells = []
        for runtime in runtimes:
            file = row.get("files", {}).get(runtime, {})
            cells.append(f"{file['size_bytes']:,}" if "size_bytes" in file else "–")
            time = row["latency"].get(runtime)
            cells.append("–" if time is None else f"{time['ratio']:.3f}")
            half = None if time is None or time["high"] is None else (time["high"] - time["low"]) / 2
            cells.append("?" if half is None else f"{half:.3f}")
        rows.append((row["basis"] or "–", row["method"], f"{row['ratio']:g}", *cells))
    return Table("float files and host latency", ("basis", "method", *numbers), rows, numbers) if runtimes else None


def verdict_table(found: Mapping[str, Any]) -> Table:
    """The claim against the figures; an interval in brackets."""
    rows = [
        (
            verdict["basis"],
            verdict["runtime"] or "–",
            verdict["verdict"],
            _with_interval(verdict["latency"]["layers_over_channels"], ".3f"),
            _with_interval(verdict["accuracy"]["channels_minus_layers_after"], "+.4f"),
            str(len(verdict["pairs"])),
        )
        for verdict in found["verdicts"]
    ]
    claim = found["verdicts"][0]["claim"] if found["verdicts"] else ""
    columns = ("basis", "runtime", "verdict", "latency, layers ÷ channels", "top-1, channels - layers", "pairs")
    return Table(f"claim: {claim}", columns, rows, ("pairs",))


def faults(found: Mapping[str, Any]) -> list[str]:
    """What could not be reached, and what must be known to read the figures right."""
    said = []
    for row in found["rows"]:
        for words in (row["error"], row["note"]):
            if words:
                said.append(f"{row['method']} {row['ratio']:g} of {row['basis']}: {words}")
        for runtime, file in row.get("files", {}).items():
            if file["error"]:
                said.append(f"{row['method']} {row['ratio']:g} of {row['basis']}: {runtime}: {file['error']}")
    said += [f"timing in {s['runtime']}: {s['error']}" for s in found["sittings"] if s["error"]]
    said += [f"{v['basis']}: {v['why']}" for v in found["verdicts"] if v["why"]]
    return list(dict.fromkeys(said))


def _with_interval(found: Mapping[str, Any] | None, form: str) -> str:
    if found is None:
        return "not measured"
    if found["low"] is None:
        return f"{found['mean']:{form}} [?]"
    return f"{found['mean']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def _seeds(found: Mapping[str, Any]) -> str:
    count = found["settings"]["seeds"]
    return f"{count} seed{'s' if count > 1 else ''}"


def to_csv(found: Mapping[str, Any]) -> str:
    """One line a cell (one method, basis, share and seed); sizes and times are those of its row, the first seed's."""
    runtimes: Sequence[str] = found["settings"]["runtimes"]
    rows = {(row["method"], row["basis"], row["ratio"]): row for row in found["rows"]}
    timed = [f"{runtime}_{what}" for runtime in runtimes for what in ("bytes", "gzip_bytes", "ms", *_RATIO)]
    plain = ["method", "basis", "ratio", "seed", "removed_parameters", "removed_macs", "parameters", "macs", "zeros"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, "accuracy_before", "accuracy_after", *timed, "note", "error"])
    for cell in found["cells"]:
        removed = cell.get("removed", {})
        values = [cell[name] for name in plain[:4]]
        values += [removed.get("parameters", ""), removed.get("macs", "")]
        values += [cell.get(name, "") for name in (*plain[6:], "accuracy_before", "accuracy_after")]
        row = rows[cell["method"], cell["basis"], cell["ratio"]]
        for runtime in runtimes:
            file, time = row.get("files", {}).get(runtime, {}), row["latency"].get(runtime, {})
            values += [file.get("size_bytes", ""), file.get("gzip_bytes", ""), time.get("ms", "")]
            values += [time.get(name, "") for name in ("ratio", "low", "high")]
        writer.writerow([*values, cell["note"], cell["error"]])
    return text.getvalue()


_RATIO = ("ratio", "ratio_low", "ratio_high")


def quantizer_table(found: Mapping[str, Any]) -> Table:
    """Each quantizer at each number of bits; the float model last."""
    numbers = ("bits", "weight MSE", "weight SQNR dB", "output SQNR dB", found["metric"], "packed bytes", "gzip",
               "float32 gzip")  # fmt: skip
    rows = [
        (
            row["quantizer"],
            str(row["bits"]),
            f"{row['weight_mse']:.2e}",
            f"{row['weight_sqnr_db']:.1f}",
            f"{row['output_sqnr_db']:.1f}",
            f"{row['accuracy']:.4f}",
            f"{row['packed_bytes']:,}",
            f"{row['packed_gzip_bytes']:,}",
            f"{row['float_gzip_bytes']:,}",
        )
        for row in found["rows"]
    ]
    whole = found["float"]
    size = f"{whole['gzip_bytes']:,}"
    rows.append(("float32", "32", "0", "–", "–", f"{whole['accuracy']:.4f}", f"{whole['bytes']:,}", size, size))
    samples = f"{found['eval_samples']} eval and {found['calibration_samples']} calibration samples"
    title = f"{found['recipe']}: {found['weights']} weights, {samples}"
    return Table(title, ("quantizer", *numbers), rows, numbers)


def quantizer_csv(found: Mapping[str, Any]) -> str:
    """One line a quantizer and number of bits; the layers' own errors are in the JSON."""
    names = [name for name in found["rows"][0] if name != "layers"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    first = ("quantizer", "bits")
    names = [*first, *sorted(set(names) - set(first))]
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in found["rows"])
    return text.getvalue()
