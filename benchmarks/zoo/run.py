"""The zoo: every architecture through every runtime and scheme, by `pocketforge build`, and the table of what became.

    python benchmarks/zoo/run.py build/zoo --seconds 75 [--only NAME …]   trains what is missing, builds, notes lanes
    python benchmarks/zoo/run.py build/zoo --table                        docs/zoo.md's tables of what was noted

A second run goes on where the first stopped. A lane is PASS, FAIL (made, and not right by the default limits: the check
is named), refused (an error of ours, with the way out) or crashed (anything else).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import BY_NAME, ENTRIES, Entry

HERE = Path(__file__).resolve().parent
RUNTIMES = ("executorch", "tflite", "onnx")
SCHEMES = ("fp32", "static_int8")
HEAD = """name = "zoo_{name}"
[model]
definition = "{nets}"
args = {{ name = "{name}" }}
weights = "{weights}"
[data]
source = "digits"
eval_samples = 64
calibration_samples = 48
[data.preprocess]
resize = [{size}, {size}]
color = "rgb"
scale = 16.0
mean = [0.5]
std = [0.5]
[[device]]
name = "host"
processes = 3
spacing_seconds = 0.0
min_samples = 12
min_seconds = 0.0
warmup = 1
"""
TARGET = """[[target]]
name = "{runtime}_{scheme}"
runtime = "{runtime}"
quantize = {{ scheme = "{scheme}" }}
"""
FLOAT = '[[target]]\nname = "{runtime}_fp32"\nruntime = "{runtime}"\n'


@dataclass(frozen=True, slots=True)
class Lane:
    """What became of one architecture in one runtime and scheme.

    Attributes:
        name: The architecture.
        runtime: Of the file.
        scheme: fp32 or static_int8.
        verdict: PASS, FAIL, refused or crashed.
        why: The first check that failed, or the error's first line; empty for PASS.
        sqnr_db: Of the file's outputs to PyTorch's; None where there is no file.
        accuracy: The file's top-1 share on the eval samples.
        accuracy_pytorch: PyTorch's.
        size_bytes: Of the file.
    """

    name: str
    runtime: str
    scheme: str
    verdict: str
    why: str = ""
    sqnr_db: float | None = None
    accuracy: float | None = None
    accuracy_pytorch: float | None = None
    size_bytes: int | None = None


def recipe(entry: Entry, weights: Path) -> str:
    head = HEAD.format(name=entry.name, nets=HERE / "nets.py", weights=weights.resolve(), size=entry.size)
    lanes = [(TARGET if scheme != "fp32" else FLOAT, runtime, scheme) for scheme in SCHEMES for runtime in RUNTIMES]
    return head + "".join(text.format(runtime=runtime, scheme=scheme) for text, runtime, scheme in lanes)


def build(entry: Entry, weights: Path, folder: Path, *, minutes: float) -> list[Lane]:
    """Run the build in a process of its own; its report tells every lane."""
    path = folder / f"{entry.name}.toml"
    path.write_text(recipe(entry, weights), encoding="utf-8")
    out = folder / entry.name
    command = [sys.executable, "-P", "-m", "pocketforge", "build", str(path), "--out", str(out), "--progress", "none"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes, check=False)
    except subprocess.TimeoutExpired:
        said = f"not done in {minutes:g} minutes"
        return [Lane(entry.name, runtime, scheme, "crashed", said) for runtime, scheme in lanes()]
    if not (out / "report.json").exists():
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        verdict = "refused" if ended.returncode in (2, 3) else "crashed"
        return [Lane(entry.name, runtime, scheme, verdict, said[0]) for runtime, scheme in lanes()]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return list(lanes_of(entry, report))


def lanes() -> Iterator[tuple[str, str]]:
    return ((runtime, scheme) for runtime in RUNTIMES for scheme in SCHEMES)


def lanes_of(entry: Entry, report: dict[str, Any]) -> Iterator[Lane]:
    """What a report says of each of the entry's lanes."""
    reached = (report.get("reference") or {}).get("accuracy", {}).get("accuracy_top1")
    for target in report["targets"]:
        values = {row["metric"]: row["value"] for row in report["measurements"] if row["target"] == target["name"]}
        failed = next((check for check in target["checks"] if not check["passed"]), None)
        verdict, why = "PASS", ""
        if target["status"] == "failed":
            verdict, why = ("crashed" if bare(target["error"]) else "refused"), target["error"].strip().splitlines()[0]
        elif target["status"] == "wrong":
            verdict = "FAIL"
            why = f"{failed['name']}: wanted {failed['wanted']}, found {failed['found']}" if failed else target["error"]
        yield Lane(
            name=entry.name,
            runtime=target["runtime"],
            scheme=target["scheme"],
            verdict=verdict,
            why=why,
            sqnr_db=values.get("sqnr_db"),
            accuracy=values.get("accuracy_top1"),
            accuracy_pytorch=reached,
            size_bytes=next((row["size_bytes"] for row in target["artifacts"] if row["kind"] == "model"), None),
        )


def bare(error: str) -> bool:
    """Whether an error is a library's own or a process's end: no refusal of ours, which names the layer."""
    words = ("Traceback", "signal", "Error:", "Exception", "internal", "could not be started", "AssertionError")
    return any(word in error for word in words)


def noted(path: Path) -> list[Lane]:
    if not path.exists():
        return []
    return [Lane(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def totals(rows: Sequence[Lane]) -> str:
    """A line for each runtime and scheme: how many lanes ended how."""
    verdicts = ("PASS", "FAIL", "refused", "crashed")
    text = (
        "| runtime | scheme | lanes | " + " | ".join(verdicts) + " |\n|---|---|" + "---|" * (1 + len(verdicts)) + "\n"
    )
    for runtime, scheme in lanes():
        found = Counter(row.verdict for row in rows if (row.runtime, row.scheme) == (runtime, scheme))
        counts = " | ".join(str(found[verdict]) for verdict in verdicts)
        text += f"| {runtime} | {scheme} | {sum(found.values())} | {counts} |\n"
    return text


def each(rows: Sequence[Lane]) -> str:
    """A line for each architecture: what each lane gave."""
    heads = [f"{runtime} {'int8' if scheme != 'fp32' else 'fp32'}" for runtime, scheme in lanes()]
    text = "| architecture | PyTorch | " + " | ".join(heads) + " |\n|---|---|" + "---|" * len(heads) + "\n"
    for entry in ENTRIES:
        mine = {(row.runtime, row.scheme): row for row in rows if row.name == entry.name}
        if not mine:
            continue
        reached = next((row.accuracy_pytorch for row in mine.values() if row.accuracy_pytorch is not None), None)
        cells = [cell(mine.get(lane)) for lane in lanes()]
        text += (
            f"| {entry.name} | {'' if reached is None else f'{100 * reached:.1f} %'} | " + " | ".join(cells) + " |\n"
        )
    return text


def cell(row: Lane | None) -> str:
    if row is None:
        return ""
    if row.verdict != "PASS":
        return f"**{row.verdict}**"
    said = [] if row.sqnr_db is None else [f"{row.sqnr_db:.0f} dB"]
    if row.scheme != "fp32" and row.accuracy is not None:
        said.append(f"{100 * row.accuracy:.1f} %")
    return ", ".join(said) or "PASS"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=75.0, help="CPU seconds of training for each")
    parser.add_argument("--minutes", type=float, default=20.0, help="of wall that a build may take")
    parser.add_argument("--only", nargs="*", choices=sorted(BY_NAME), default=[])
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    results = arguments.folder / "zoo.jsonl"
    if arguments.table:
        rows = noted(results)
        others = "".join(f"- {r.name}, {r.runtime} {r.scheme}: {r.verdict}: {r.why}\n" for r in rows if r.why)
        print(totals(rows), each(rows), others, sep="\n")
        return
    weights = arguments.folder / "weights"
    trainer = [sys.executable, str(HERE / "train.py"), str(weights), "--seconds", str(arguments.seconds)]
    done = {row.name for row in noted(results)}
    for entry in ENTRIES:
        if entry.name in done or (arguments.only and entry.name not in arguments.only):
            continue
        started = time.monotonic()
        subprocess.run([*trainer, "--only", entry.name], check=True)
        rows = build(entry, weights / f"{entry.name}.safetensors", arguments.folder, minutes=arguments.minutes)
        with results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
        ended = Counter(row.verdict for row in rows)
        print(f"{entry.name}: {dict(ended)}, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
