"""The suite of micro-models measured on a connected phone: fills the manifest that a calibration is fitted to."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from pocketforge.device_calibration.suite import COLUMNS, MANIFEST, SEED, write_suite
from pocketforge.devices import adb
from pocketforge.devices.phones import PhoneFacts, open_phone, phone_facts
from pocketforge.errors import DeviceError, RecipeError, StoreError
from pocketforge.events import Say
from pocketforge.files import hash_file, refuse_special, write_whole
from pocketforge.outcomes.bench_phone import PhoneBench
from pocketforge.specs.bench_phone import Rounds

# Micro-models take microseconds to tens of milliseconds: a round of half a second holds tens of the slowest.
HOW = Rounds(
    cores="", threads=1, warmup=10, rounds=3, min_samples=50, min_seconds=0.5, max_thermal_status=0, max_battery_c=38.0,
    cool_timeout_s=600.0, time_limit_s=600.0,
)  # fmt: skip


def measure_suite(folder: Path, serial: str, cores: str, say: Say, names: Sequence[str] = ()) -> tuple[Path, list[str]]:
    """Measure the files of the suite in `folder`, written first if it is not there, on one cluster of a phone.

    Each latency goes into the manifest at once, and files that have one are not measured again: a stopped measurement
    goes on where it was. names: only these files. Returns the manifest, and what was left empty and why: rounds that do
    not settle a latency are no measurement. Raises RecipeError (a cluster of cores that the phone does not name, a
    manifest of another phone), DeviceUnavailable, DeviceTimeout, DeviceError, StoreError.
    """
    facts = phone_facts(open_phone(serial))
    core = _core(facts, cores)
    path = folder / MANIFEST
    if not path.exists():
        write_suite(folder)
    rows = _read(path)
    others = {row["device"] for row in rows if row["device"]} - {facts.model}
    if others:
        models = ", ".join(sorted(others))
        raise RecipeError(f"{path} holds latencies of {models}, and the phone is a {facts.model}", "name a new folder")
    left = []
    to_measure = [row for row in rows if not row["latency_ms"] and (not names or row["file"] in names)]
    for number, row in enumerate(to_measure, 1):
        say(f"{number} of {len(to_measure)}: {row['file']}")
        bench = _measured(folder / row["file"], row, serial, cores)
        clocks = [each.clock_ghz for each in bench.how.clean if each.clock_ghz is not None]
        if not bench.how.conclusive or not clocks:
            left.append(f"{row['file']}: {bench.how.reason or 'the phone does not tell its clock'}")
            say(f"  {left[-1]}")
            continue
        row |= {"device": facts.model, "core": core, "GHz": f"{median(clocks):.4g}"}
        row["latency_ms"] = f"{median(bench.samples_ms):.6g}"
        _write(path, rows)
    return path, left


def _core(facts: PhoneFacts, cores: str) -> str:
    """What the cores of a cluster are, as the tables of measurements name them."""
    cluster = next((c for c in facts.clusters if c.name == cores), None)
    if cluster is None:
        known = ", ".join(c.name for c in facts.clusters) or "none that could be read"
        raise RecipeError(f"--cores: wanted one cluster of the phone, found {cores!r}", f"its clusters: {known}")
    if not cluster.core:
        raise DeviceError(f"what the {cores} cores of {facts.model} are is not known", "fill the manifest by hand")
    return cluster.core


def _measured(model: Path, row: dict[str, str], serial: str, cores: str) -> PhoneBench:
    dtype, _, shape = row["input"].partition(" ")
    if not re.fullmatch(r"(float32|int8) \d+(x\d+)*", row["input"]) or hash_file(model) != row["sha256"]:
        raise StoreError(f"{model} is not the file that the manifest names", "name a new folder for --suite")
    dims = [int(n) for n in shape.split("x")][1:]
    rng = np.random.default_rng(SEED)
    samples = rng.standard_normal((4, *dims)) if dtype == "float32" else rng.integers(-128, 128, (4, *dims))
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        inputs = Path(scratch, "samples.npy")
        np.save(inputs, samples.astype(np.float32))
        file = adb.Measure("tflite", model, row["sha256"])
        how = dataclasses.replace(HOW, cores=cores)
        (bench,) = adb.measure(serial, [file], [inputs], how, lambda text: None)
    return bench


def _read(path: Path) -> list[dict[str, str]]:
    try:
        refuse_special(path)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {error}") from None
    if not rows or set(rows[0]) != set(COLUMNS):
        raise StoreError(f"{path} is not a manifest of `pocketforge device calibrate --suite`", "name a new folder")
    return rows


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode(), "--suite")
