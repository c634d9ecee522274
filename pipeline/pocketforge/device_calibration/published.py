"""Published latencies as measurements: the CSV files that `pocketforge device calibrate` reads.

Three formats, told apart by their columns: whole models, blocks by their name, operators by their shape; and a fourth,
the manifest that `device calibrate --suite` writes for a phone measured by hand. Every row keeps its source.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.files import refuse_special

DATA = Path(__file__).parent / "data"
SHIPPED = ("models.csv", "blocks_fp32_pixel4.csv.gz", "ops_int8_pixel4.csv.gz")

_MODELS = ("source", "model", "precision", "runtime", "device", "core", "GHz", "threads", "latency_ms")
_OPERATORS = ("source", "op", "hw_in", "cin", "cout", "kernel", "stride", "core", "GHz", "threads", "latency_ms")
_MANIFEST = ("file", "sha256", "device", "core", "GHz", "threads", "latency_ms")

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
class Measurement:
    """One measured latency. `name` is unique within a table; `family` is what leave-one-family-out leaves out."""

    name: str
    kind: str  # "model", "block", "op" or "file"
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
    shape: tuple[int, ...] = ()  # of an op: hw, cin, cout, kernel, stride
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


def read(path: Path) -> list[Measurement]:
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
    formats = ((_OPERATORS, _operator_row), (_MODELS, _model_row), (_MANIFEST, _manifest_row))
    parse = next((row for needed, row in formats if set(needed) <= set(columns)), None)
    if parse is None:
        raise RecipeError(
            f"{path} has the columns {', '.join(columns) or 'none'}: not a table of measurements",
            f"known: {', '.join(_MODELS)}; {', '.join(_OPERATORS)}; {', '.join(_MANIFEST)}",
        )
    found: list[Measurement] = []
    faults = []
    for number, row in enumerate(reader, 2):
        if parse is _manifest_row and not (row.get("latency_ms") or "").strip():
            continue  # not measured yet
        try:
            found.append(parse(row))
        except (ValueError, TypeError) as fault:
            faults.append(f"line {number}: {fault}")
    if faults:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise RecipeError(f"{path}: {shown}")
    if not found:
        raise RecipeError(f"{path} holds no measurement", "fill its column latency_ms")
    return _merged(found)


def shipped() -> list[Measurement]:
    """All published measurements that come with the package."""
    return [m for name in SHIPPED for m in read(DATA / name)]


def _positive(row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        raise ValueError(f"{column} is {row[column]!r}, wanted a number") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{column} is {row[column]!r}, wanted a positive number")
    return value


def _core(text: str) -> str:
    plain = text.strip().lower()
    if _OTHER_ISA.search(plain):
        return plain
    plain = _CORES.get(plain, plain.removesuffix(" (arm64 build)").removesuffix(" (arm64)"))
    return plain.replace(" rpi5", "")


def _threads(row: Mapping[str, str]) -> int:
    value = _positive(row, "threads")
    if value != int(value):
        raise ValueError(f"threads is {row['threads']!r}, wanted a whole number")
    return int(value)


def _model_row(row: Mapping[str, str]) -> Measurement:
    name, precision = row["model"], "int8" if row["precision"].startswith("int8") else row["precision"]
    if precision not in ("fp32", "int8"):
        raise ValueError(f"precision is {row['precision']!r}, wanted fp32 or int8")
    network = re.match(r"mobilenet v(\d)", name, re.IGNORECASE)
    return Measurement(
        name=f"mobilenet_v{network[1]}" if network else name,
        kind="model" if network else "block",
        family=f"mobilenet_v{network[1]}" if network else name.split("_")[0],
        precision=precision,
        runtime=row["runtime"],
        device=row["device"],
        core=_core(row["core"]),
        clock_ghz=_positive(row, "GHz"),
        threads=_threads(row),
        latency_ms=_positive(row, "latency_ms"),
        source=row["source"],
        date=row.get("date") or "",
        note=row.get("note") or "",
    )


def _operator_row(row: Mapping[str, str]) -> Measurement:
    # An addition has neither output channels, kernel nor stride in the table.
    cin = row["cin"]
    shape = tuple(int(v) for v in (row["hw_in"], cin, row["cout"] or cin, row["kernel"] or 1, row["stride"] or 1))
    return Measurement(
        name="_".join([row["op"], *map(str, shape)]),
        kind="op",
        family=row["op"],
        precision=row["precision"],
        runtime=row["runtime"],
        device=row["device"],
        core=_core(row["core"]),
        clock_ghz=_positive(row, "GHz"),
        threads=_threads(row),
        latency_ms=_positive(row, "latency_ms"),
        source=row["source"],
        date=row.get("date") or "",
        shape=shape,
    )


def _manifest_row(row: Mapping[str, str]) -> Measurement:
    core = _core(row["core"])
    if not core:
        raise ValueError("core is empty: name the core that the run was pinned to, for example cortex-a76")
    name = row["file"].removesuffix(".tflite")
    return Measurement(
        name=name,
        kind="file",
        family=name.split("-")[0],
        precision="int8" if name.endswith("int8") else "fp32",
        runtime=row.get("runtime") or "LiteRT",
        device=row["device"],
        core=core,
        clock_ghz=_positive(row, "GHz"),
        threads=_threads(row),
        latency_ms=_positive(row, "latency_ms"),
        source=f"measured by hand: {row['sha256']}",
        note=row["sha256"],
    )


def _merged(rows: Sequence[Measurement]) -> list[Measurement]:
    """One measurement for rows that differ in the latency alone (their median), in order of first appearance."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for m in rows:
        groups.setdefault((m.name, m.precision, m.device, m.core, m.clock_ghz, m.threads, m.note), []).append(m)
    merged = []
    for group in groups.values():
        first = group[0]
        values = {f: getattr(first, f) for f in first.__dataclass_fields__}
        values |= {"latency_ms": statistics.median(m.latency_ms for m in group), "repeats": len(group)}
        merged.append(Measurement(**values))
    return merged
