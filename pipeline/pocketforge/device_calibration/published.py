"""Published latencies as measurements: the CSV files that `pocketforge device calibrate` reads.

Three formats, told apart by their columns: whole models, blocks by their name, operators by their shape; and a fourth,
the manifest that `device calibrate --suite` writes for a phone measured by hand. Every row keeps its source.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pocketforge.errors import RecipeError
from pocketforge.files import refuse_special

DATA = Path(__file__).parent / "data"
SHIPPED = ("models.csv", "blocks_fp32_pixel4.csv.gz", "blocks_fp32_x1_a78.csv.gz", "ops_int8_pixel4.csv.gz")

# How the tables write a core's name → ours. Kryo 3xx/4xx Gold are lightly changed A75/A76.
_CORES = {
    "kryo 360 gold (a75-class)": "cortex-a75",
    "cortex-a55 r1": "cortex-a55",
    "cortex-a76 (taskset 0x70)": "cortex-a76",
    "exynos m4": "exynos-m4",
}
_PLAIN_CORE = re.compile(r"^(cortex-[axm]\d+|neoverse-[a-z]\d+|exynos-m\d|oryon)$")
# A 32-bit build runs other kernels: its rows say nothing of ours.
_OTHER_ISA = re.compile(r"armv7", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Published:
    """One measured latency.

    Attributes:
        name: Unique within a table.
        kind: "model", "block", "op" or "file".
        family: What leave-one-family-out leaves out.
        precision: "fp32" or "int8".
        runtime: As the source words it.
        device: As the source words it.
        core: The core type, as the core tables name it, where they do.
        clock_ghz: Of the core.
        threads: That ran.
        latency_ms: Of one inference.
        source: Where it is published.
        date: Of the source; empty where it has none.
        note: Of the source; of a file its SHA-256.
        shape: Of an op: height and width, input and output channels, kernel, stride; of others ().
        repeats: How many rows this is the median of.
    """

    name: str
    kind: str
    family: str
    precision: str
    runtime: str
    device: str
    core: str
    clock_ghz: float
    threads: int
    latency_ms: float
    source: str
    date: str = ""
    note: str = ""
    shape: tuple[int, ...] = ()
    repeats: int = 1

    @property
    def builtin_kernels(self) -> bool:
        """Whether the table says that TFLite ran its own kernels, not XNNPACK's."""
        return "built-in" in self.runtime

    @property
    def usable(self) -> str:
        """Why this row cannot be compared with an estimate; empty when it can be."""
        if self.threads != 1:
            return f"{self.threads} threads: estimates are for one"
        if not _PLAIN_CORE.match(self.core):
            return f"core {self.core!r} is not one that a kernel can be chosen for"
        return ""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What every table has, as it is written; columns that a table may lack are empty. GHz is clock_ghz here."""

    device: str
    core: str
    clock_ghz: str
    threads: str
    latency_ms: str
    runtime: str = ""
    source: str = ""
    date: str = ""
    note: str = ""

    @classmethod
    def columns(cls) -> list[str]:
        """Those that a table of this form must have."""
        needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
        return [_column(name) for name in needed]

    @classmethod
    def of(cls, cells: Mapping[str, str | None]) -> Self:
        """From a CSV row. One that ends early has None, which is as empty as nothing."""
        return cls(**{field.name: cells.get(_column(field.name)) or "" for field in dataclasses.fields(cls)})

    def measurement(self) -> Published:
        """Raises ValueError for what cannot be read."""
        raise NotImplementedError

    def _measured(self, name: str, kind: str, family: str, precision: str) -> Published:
        return Published(
            name=name,
            kind=kind,
            family=family,
            precision=precision,
            runtime=self.runtime,
            device=self.device,
            core=_core(self.core),
            clock_ghz=_positive(self.clock_ghz, "GHz"),
            threads=_whole(self.threads, "threads"),
            latency_ms=_positive(self.latency_ms, "latency_ms"),
            source=self.source,
            date=self.date,
            note=self.note,
        )


@dataclass(frozen=True, kw_only=True)
class _ModelRow(_Row):
    """A whole model, or a block by its name."""

    source: str
    runtime: str
    model: str
    precision: str

    def measurement(self) -> Published:
        precision = "int8" if self.precision.startswith("int8") else self.precision
        if precision not in ("fp32", "int8"):
            raise ValueError(f"precision is {self.precision!r}, wanted fp32 or int8")
        if network := re.match(r"mobilenet v(\d)", self.model, re.IGNORECASE):
            name = f"mobilenet_v{network[1]}"
            return self._measured(name, "model", name, precision)
        return self._measured(self.model, "block", self.model.split("_")[0], precision)


@dataclass(frozen=True, kw_only=True)
class _OperatorRow(_Row):
    """One operator by its shape."""

    source: str
    op: str
    hw_in: str
    cin: str
    cout: str
    kernel: str
    stride: str
    precision: str = ""

    def measurement(self) -> Published:
        # An addition has neither output channels, kernel nor stride in the table.
        cells = (self.hw_in, self.cin, self.cout or self.cin, self.kernel or "1", self.stride or "1")
        shape = tuple(int(cell) for cell in cells)
        name = "_".join([self.op, *map(str, shape)])
        return dataclasses.replace(self._measured(name, "op", self.op, self.precision), shape=shape, note="")


@dataclass(frozen=True, kw_only=True)
class _ManifestRow(_Row):
    """One file of the suite, measured by hand."""

    file: str
    sha256: str

    def measurement(self) -> Published:
        if not _core(self.core):
            raise ValueError("core is empty: name the core that the run was pinned to, for example cortex-a76")
        name = self.file.removesuffix(".tflite")
        precision = "int8" if name.endswith("int8") else "fp32"
        return dataclasses.replace(
            self._measured(name, "file", name.split("-")[0], precision),
            runtime=self.runtime or "LiteRT",
            source=f"measured by hand: {self.sha256}",
            note=self.sha256,
            date="",
        )


_FORMS: tuple[type[_Row], ...] = (_OperatorRow, _ModelRow, _ManifestRow)


def _column(field: str) -> str:
    """A field's name in the tables."""
    return "GHz" if field == "clock_ghz" else field


def read(path: Path) -> list[Published]:
    """Measurements of one CSV file (also .csv.gz), equal configurations merged by their median.

    Raises RecipeError: unreadable, no known format, or the faults of all its rows.
    """
    try:
        refuse_special(path)
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as fault:
        raise RecipeError(f"cannot read {path}: {fault}") from None
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    form = next((form for form in _FORMS if set(form.columns()) <= set(columns)), None)
    if form is None:
        raise RecipeError(
            f"{path} has the columns {', '.join(columns) or 'none'}: not a table of measurements",
            f"known: {'; '.join(', '.join(form.columns()) for form in _FORMS)}",
        )
    measurements, faults = _measurements(form.of(cells) for cells in reader)
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise RecipeError(f"{path}: {shown}")
    if not measurements:
        raise RecipeError(f"{path} holds no measurement", "fill its column latency_ms")
    return _merged(measurements)


def _measurements(rows: Iterable[_Row]) -> tuple[list[Published], list[str]]:
    """What could be read, and what could not."""
    measurements, faults = [], []
    for number, row in enumerate(rows, 2):
        if isinstance(row, _ManifestRow) and not row.latency_ms.strip():
            continue  # not measured yet
        try:
            measurements.append(row.measurement())
        except ValueError as fault:
            faults.append(f"line {number}: {fault}")
    return measurements, faults


def shipped() -> list[Published]:
    """All published measurements that come with the package."""
    return [m for name in SHIPPED for m in read(DATA / name)]


def _positive(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, wanted a number") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{column} is {text!r}, wanted a positive number")
    return value


def _whole(text: str, column: str) -> int:
    value = _positive(text, column)
    if value != int(value):
        raise ValueError(f"{column} is {text!r}, wanted a whole number")
    return int(value)


def _core(text: str) -> str:
    plain = text.strip().lower()
    if _OTHER_ISA.search(plain):
        return plain
    plain = _CORES.get(plain, plain.removesuffix(" (arm64 build)").removesuffix(" (arm64)"))
    return plain.replace(" rpi5", "")


def _merged(rows: Sequence[Published]) -> list[Published]:
    """One measurement for rows that differ in the latency alone (their median), in order of first appearance."""
    groups: dict[tuple[object, ...], list[Published]] = {}
    for m in rows:
        groups.setdefault((m.name, m.precision, m.device, m.core, m.clock_ghz, m.threads, m.note), []).append(m)
    merged = []
    for group in groups.values():
        median = statistics.median(m.latency_ms for m in group)
        merged.append(dataclasses.replace(group[0], latency_ms=median, repeats=len(group)))
    return merged
