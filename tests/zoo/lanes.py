"""What became of an architecture in each lane, as the product's report and the released file say it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_build import Done

from zoo.entries import Net

OUTCOMES = ("PASS", "refused", "FAIL", "error", "crash")
# How far the zoo's own figures, which are of fewer samples, may lie under the report's before a PASS counts as wrong.
MOST_DB_UNDER, LEAST_AGREEMENT = 6.0, 0.85
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Lane:
    """What became of one architecture in one runtime and scheme.

    Attributes:
        net: Its name.
        runtime: Of the file.
        scheme: How it was quantized.
        outcome: PASS; refused (an error of ours, with the way out); FAIL (a file was made, and a check said no);
            error (a library's own words); crash (a process or the command ended).
        why: The failed check, or the error; empty for PASS.
        sqnr_db: Of the worst output to PyTorch's, as the report has it; None where there is no file.
        own_db: The same as the zoo computes it from the file and eager PyTorch.
        own_agreement: Of the largest class, file and eager PyTorch, as a share; of classifiers.
        metric: By which files are judged.
        metric_pytorch: Its value of the model.
        metric_file: Its value of the file.
        size_bytes: Of the file.
        instructions: Of an inference on the emulated pixel4; None where it was not counted.
    """

    net: str
    runtime: str
    scheme: str
    outcome: str
    why: str = ""
    sqnr_db: float | None = None
    own_db: float | None = None
    own_agreement: float | None = None
    metric: str = ""
    metric_pytorch: float | None = None
    metric_file: float | None = None
    size_bytes: int | None = None
    instructions: int | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left: lanes, and the model file of each that has one (by runtime and scheme)."""

    lanes: tuple[Lane, ...]
    files: Mapping[tuple[str, str], Path]


def read(net: Net, wanted: tuple[tuple[str, str], ...], done: Done, out: Path, cache: Path) -> Built:
    """done: how `pocketforge build` ended. out: its output folder."""
    path = out / "report.json"
    if not path.exists():
        outcome = refusal(done.stderr) if done.code in (2, 3, 4) else "crash"
        said = shortened(done.stderr) or f"exit code {done.code}"
        return Built(tuple(Lane(net.name, *lane, outcome, said) for lane in wanted), {})
    report = json.loads(path.read_text("utf-8"))
    files = {(t["runtime"], t["scheme"]): file for t in report["targets"] if (file := model_file(t, cache)) is not None}
    return Built(tuple(lanes_of(net, report, done.stderr)), files)


def judged(lane: Lane, db: float | None, agreement: float | None, wrong: str) -> Lane:
    """The lane with the zoo's own figures; a PASS that they deny is a FAIL.

    wrong: why outputs could not be compared; empty where they were.
    """
    if not wrong and db is not None and lane.sqnr_db is not None and db < lane.sqnr_db - MOST_DB_UNDER:
        wrong = f"{db} dB to eager PyTorch where the report has {lane.sqnr_db}"
    if not wrong and agreement is not None and agreement < LEAST_AGREEMENT:
        wrong = f"the largest class is eager PyTorch's in {agreement:.2f} of the samples"
    lane = dataclasses.replace(lane, own_db=db, own_agreement=agreement)
    denied = lane.outcome == "PASS" and wrong
    return dataclasses.replace(lane, outcome="FAIL", why=f"a PASS that is wrong: {wrong}") if denied else lane


def model_file(target: Mapping[str, Any], cache: Path) -> Path | None:
    """The stored file of a target, byte for byte the one that the report is of."""
    for row in target["artifacts"]:
        if row["kind"] == "model":
            entry = cache / "v1" / "entries" / row["key"][:2] / row["key"] / "files"
            same = [file for file in entry.iterdir() if file.is_file() and digest(file) == row["sha256"]]
            assert same, f"{entry} holds no file of the report's SHA-256"
            return same[0]
    return None


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def lanes_of(net: Net, report: Mapping[str, Any], stderr: str) -> Iterator[Lane]:
    """What a report says of each target. stderr: of the build, which has the errors of all steps with their hints."""
    for target in report["targets"]:
        mine = [row for row in report["measurements"] if row["target"] == target["name"]]
        values = {row["metric"]: row["value"] for row in mine if row["device"] == ""}
        counted = [row["value"] for row in mine if row["metric"] == "instructions"]
        sizes = [row["size_bytes"] for row in target["artifacts"] if row["kind"] == "model"]
        outcome, why = verdict(target, said_of(target, report["steps"], stderr))
        yield Lane(
            net=net.name,
            runtime=target["runtime"],
            scheme=target["scheme"],
            outcome=outcome,
            why=why,
            sqnr_db=rounded(values.get("parity_sqnr_db"), 1),
            metric=net.task.metric,
            metric_pytorch=rounded((report.get("reference") or {}).get("accuracy", {}).get(net.task.metric), 4),
            metric_file=rounded(values.get(net.task.metric), 4),
            size_bytes=sizes[0] if sizes else None,
            instructions=int(counted[0]) if counted else None,
        )


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def said_of(target: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], stderr: str) -> str:
    """The whole error of the step that ended a target, its own or one that it hangs on; the report has no hints."""
    mine = [step for step in steps if {target["name"], "trunk"} & set(step["lane"].split("+"))]
    failed = [step["message"] for step in mine if step["status"] == "failed"]
    if not failed:
        return str(target["error"])
    blocks = re.split(r"^error: ", stderr, flags=re.MULTILINE)
    whole = [block for block in blocks if failed[0] in block]
    return whole[0] if whole else failed[0]


def verdict(target: Mapping[str, Any], error: str) -> tuple[str, str]:
    """A target's outcome, and why. error: of the step that ended it."""
    if target["status"] == "built":
        return "PASS", ""
    if target["status"] == "failed":
        return refusal(error), shortened(error)
    failed = [check for check in target["checks"] if not check["passed"]]
    said = [f"{check['name']}: wanted {check['wanted']}, found {check['found']}" for check in failed]
    reason = ((target.get("facts") or {}).get("why") or {}).get("sentence", "")
    return "FAIL", "; ".join(filter(None, [*said[:2], reason])) or shortened(target["error"])


def refusal(error: str) -> str:
    """refused: an error with the way out. Anything else is a library's own, or the end of a process."""
    if re.search(r"signal \d|SIG[A-Z]{3,}|ended by|internal error|Traceback", error):
        return "crash"
    return "refused" if "hint: " in error else "error"


def shortened(error: str) -> str:
    """In one line, without paths of logs, and with ours from the repository's root."""
    lines = [line.strip() for line in error.replace(f"{ROOT}/", "").strip().splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("log: "))[:600]
