"""What the results hold, as docs/zoo.json keeps it and docs/zoo.md shows it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.entries import RUNTIMES, Net
from zoo.lanes import OUTCOMES

LIBRARIES = ("torch", "torchao", "executorch", "onnxruntime", "litert-torch", "ai-edge-litert", "timm", "torchvision",
             "transformers")  # fmt: skip
Row = dict[str, Any]
Key = tuple[str, str, str]
FLOAT, INT8 = "fp32", "int8"


def code_of(root: Path) -> str:
    """What names the code that is run: git's name of pipeline/, with a plus where it was changed since."""
    git = ["git", "-C", str(root)]
    tree = subprocess.run(
        [*git, "rev-parse", "--short=10", "HEAD:pipeline"], capture_output=True, text=True, check=True
    )
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "pipeline"], check=False).returncode
    return tree.stdout.strip() + ("+" if changed else "")


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name).partition("+")[0] for name in LIBRARIES}


def read(path: Path) -> list[Row]:
    """The lines of a run; one that a kill cut off is left out, and its lane runs again."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def key(row: Row) -> Key:
    return row["net"], row["runtime"], row["scheme"]


def missing(net: Net, rows: Iterable[Row], pattern: str) -> tuple[tuple[str, str], ...]:
    """The net's lanes that have no result, of those whose "runtime scheme" the pattern is found in."""
    done = {key(row) for row in rows}
    return tuple(
        lane for lane in net.lanes if (net.name, *lane) not in done and re.search(pattern, " ".join(lane))
    )  # fmt: skip


def recorded(path: Path) -> list[Row]:
    return list(json.loads(path.read_text("utf-8"))) if path.exists() else []


def record(results: Iterable[Row], path: Path, nets: Sequence[Net]) -> None:
    """Add a run's lanes; the last result of a lane stands. A count of instructions stays while its file has its size.

    Lanes that no net has any more go.
    """
    known = {key(row): row for row in recorded(path)}
    for row in results:
        before = known.get(key(row))
        if before and row["instructions"] is None and before["size_bytes"] == row["size_bytes"]:
            row = {**row, "instructions": before["instructions"]}
        known[key(row)] = row
    wanted = [(net.name, *lane) for net in nets for lane in net.lanes]
    lines = [json.dumps(known[each], ensure_ascii=False) for each in wanted if each in known]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


def document(rows: Sequence[Row], nets: Sequence[Net]) -> str:
    """docs/zoo.md."""
    parts = [
        HEAD,
        sources(rows, nets),
        totals(rows, nets),
        BESIDE,
        *families(rows, nets),
        counted(rows, nets),
        others(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sources(rows: Sequence[Row], nets: Sequence[Net]) -> str:
    """How much has been run, when, and with which versions."""
    dates = sorted({row["date"] for row in rows})
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, version in row["versions"].items():
            found.setdefault(name, set()).add(version)
    listed = ", ".join(f"{name} {' and '.join(sorted(each))}" for name, each in found.items())
    lanes = sum(len(net.lanes) for net in nets)
    when = f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, with {listed}" if rows else ""
    return f"{len(rows):,} of {lanes:,} lanes of {len(nets)} nets have been run{when}."


def totals(rows: Sequence[Row], nets: Sequence[Net]) -> str:
    """A line for each runtime and kind of scheme: how many lanes ended how."""
    lines = [f"| runtime | scheme | lanes run | {' | '.join(OUTCOMES)} | PASS, of those run | not run yet |"]
    lines.append("|---" * (len(OUTCOMES) + 5) + "|")
    for runtime in RUNTIMES:
        for kind in (FLOAT, INT8):
            mine = [row for row in rows if row["runtime"] == runtime and kind_of(row["scheme"]) == kind]
            found = Counter(row["outcome"] for row in mine)
            share = f"{100 * found['PASS'] / len(mine):.0f} %" if mine else ""
            counts = " | ".join(str(found[outcome]) for outcome in OUTCOMES)
            lines.append(f"| {runtime} | {kind} | {len(mine)} | {counts} | {share} | {len(nets) - len(mine)} |")
    return "\n".join(lines)


def kind_of(scheme: str) -> str:
    return FLOAT if scheme == FLOAT else INT8


def families(rows: Sequence[Row], nets: Sequence[Net]) -> list[str]:
    """A table for each family: what each lane of its nets gave."""
    found = {key(row): row for row in rows}
    heads = [f"{runtime} {kind}" for runtime in RUNTIMES for kind in (FLOAT, INT8)]
    parts = []
    for family in dict.fromkeys(net.family for net in nets):
        lines = [f"## {family[0].upper()}{family[1:]}", "", f"| net | input | PyTorch | {' | '.join(heads)} |"]
        lines.append("|---" * (3 + len(heads)) + "|")
        for net in nets:
            if net.family == family:
                mine = [found.get((net.name, *lane)) for lane in net.lanes]
                lines.append(f"| {net.name} | {net.size} | {reached(mine)} | {' | '.join(map(cell, mine))} |")
        parts.append("\n".join(lines))
    return parts


def reached(rows: Iterable[Row | None]) -> str:
    for row in rows:
        if row is not None and row["metric_pytorch"] is not None:
            return f"{row['metric']} {short(row['metric_pytorch'])}"
    return ""


def cell(row: Row | None) -> str:
    if row is None:
        return "not run yet"
    if row["outcome"] != "PASS":
        return f"**{row['outcome']}**"
    said = [f"{row['sqnr_db']:.0f} dB"] if row["sqnr_db"] is not None else []
    if row["scheme"] != FLOAT and row["metric_file"] is not None:
        said.append(short(row["metric_file"]))
    kind = [row["scheme"]] if row["scheme"] not in (FLOAT, "static_int8") else []
    return ", ".join([*kind, *said, f"{row['size_bytes'] / 1000:,.0f} kB"])


def short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if abs(value) < 1 else f"{value:.2f}"


def counted(rows: Sequence[Row], nets: Sequence[Net]) -> str:
    """Instructions where they were counted."""
    mine = {key(row): row["instructions"] for row in rows if row["instructions"] is not None}
    lines = ["## Instructions on a Pixel 4", "", COUNTED, ""]
    if not mine:
        return "\n".join([*lines, "None have been counted yet."])
    heads = [f"{runtime} {kind}" for runtime in RUNTIMES for kind in (FLOAT, INT8)]
    lines += [f"| net | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for net in nets:
        values = [mine.get((net.name, *lane)) for lane in net.lanes]
        if any(values):
            cells = ["not counted" if value is None else f"{value / 1e6:,.2f} M" for value in values]
            lines.append(f"| {net.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def others(rows: Sequence[Row]) -> str:
    """Every lane that is no PASS, with what was said."""
    lines = [
        f"- **{row['net']}**, {row['runtime']} {row['scheme']}: {row['outcome']}: {shown(row['why'])}"
        for row in rows
        if row["outcome"] != "PASS"
    ]
    return "\n".join(["## What is no PASS, and why", "", *(lines or ["Nothing of what has been run."])])


def shown(text: str) -> str:
    """Without what Markdown would take for its own."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


HEAD = """# The zoo

Architectures that people ship, each through every runtime in fp32 and in 8 bits, by `pocketforge build` as a user
runs it: recipe, trace, quantizer, export, verify with the default limits. `nox -s zoo` goes on where it stopped;
`nox -s zoo -- --record` writes this page from what was found (`docs/zoo.json`). None of it was written by hand.

Random weights say nothing about 8 bits. So each net is trained for a minute on real samples that ship with
scikit-learn: its scanned digits, its two photographs, the pages about its data sets, its diabetes table. They are
small, so inputs are small. The learning rate falls to nothing in the end, norms' statistics are then taken anew, and
targets are smoothed. Of the nets below that was so, but for the smoothing, of tv_mnasnet0_5 and
tv_lraspp_mobilenet_v3_large alone: the others ran before, and are to be run again. The column PyTorch says how good the
net became. Weights are in build/zoo, not in git.

A lane is

- **PASS**: the file was made, ran, and was right by the default limits of its scheme: dB to PyTorch, the task's
  metric, its own quantized graph;
- **refused**: an error of ours, with the way out;
- **FAIL**: the file was made, and a check said no: it would not have been released;
- **error**: a library's own words; **crash**: a process ended. There must be none of these two.

Each file is also run beside eager PyTorch by the zoo's own code (`tests/zoo/check.py`), which does not ask the product
what it found: a PASS whose outputs are others would be FAIL, as "a PASS that is wrong"."""
BESIDE = """In the tables below a PASS has the worst output's SQNR to PyTorch, in 8 bits the file's metric, and the
file's size; a scheme other than static_int8 is named. `input` is its height and width in pixels, or its length."""
COUNTED = "Of one inference, counted in the emulator (`--count`), in millions. Other nets' files are not counted."
