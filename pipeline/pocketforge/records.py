"""What a build produces, as frozen data that goes to `report.json` and comes back.

`SCHEMA_VERSION` changes when a reader of an older report would misread a newer one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pocketforge.recipe import Budget

SCHEMA_VERSION = 1

Verdict = Literal["PASS", "FAIL", "MISSING", "INCONCLUSIVE"]
Via = str  # a kind of device (registries.DEVICES), or "pytorch"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a step made. `key` is the step's; `kind` is the file's format."""

    key: str
    kind: str
    path: str
    sha256: str
    size_bytes: int
    gzip_bytes: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of exactly one file (`artifact_sha256`), and how it was measured.

    `samples` are the raw values in measuring order, where there are several (latency in ms). `via` is where the
    file ran; `pytorch` marks facts of the model itself (parameters, MACs), which no runtime measures.
    """

    metric: str
    value: float
    unit: str
    target: str
    artifact_sha256: str
    via: Via
    device: str = ""
    samples: tuple[float, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateResult:
    """A budget, what was measured against it, and the verdict. Only PASS passes."""

    budget: Budget
    target: str
    device: str
    measurement: Measurement | None
    value: float | None
    verdict: Verdict
    reason: str = ""

    @property
    def blocks(self) -> bool:
        return self.verdict != "PASS" and self.budget.severity == "error"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison that `verify` made on a file."""

    name: str
    wanted: str
    found: str
    passed: bool


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How a step ended. `wall_s` and `peak_rss_bytes` (of the step's own process, with the libraries it runs in) are of
    the run that made the result, also when it was reused.
    """

    stage: str
    lane: str
    key: str
    status: Literal["run", "reused", "failed", "rejected", "skipped"]
    wall_s: float = 0.0
    message: str = ""
    log: str = ""
    peak_rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """One target: its files, what `verify` found and what went wrong."""

    name: str
    runtime: str
    scheme: str
    status: Literal["built", "wrong", "failed"]
    artifacts: tuple[Artifact, ...] = ()
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a build knows about itself; `verdict` is what the exit code says.

    compression: "states" (the model as given and after each step of [[compress]], measured), "flags" (steps that
    lowered MACs and not time), "steps" (what each step says of itself); empty without [[compress]]. agreement: each two
    files of one quantization, compared (see results/agreement.py).
    data: what the source's folders and files were taken as, in words.
    """

    recipe: str
    recipe_sha256: str
    verdict: Literal["PASS", "FAIL", "ERROR"]
    targets: tuple[TargetRecord, ...]
    steps: tuple[StepRecord, ...]
    measurements: tuple[Measurement, ...]
    gates: tuple[GateResult, ...]
    reference: dict[str, Any] = field(default_factory=dict)
    compression: dict[str, Any] = field(default_factory=dict)
    agreement: tuple[dict[str, Any], ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    wall_s: float = 0.0
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """Read a report back. Raises ValueError when it is of another schema version or not a report."""
        if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
            found = data.get("schema_version", "none") if isinstance(data, dict) else "none"
            raise ValueError(f"wanted a report of schema version {SCHEMA_VERSION}, found {found}")
        try:
            return cls(
                **{
                    **data,
                    "targets": tuple(_target(t) for t in data["targets"]),
                    "steps": tuple(StepRecord(**s) for s in data["steps"]),
                    "measurements": tuple(_measurement(m) for m in data["measurements"]),
                    "gates": tuple(_gate(g) for g in data["gates"]),
                    "warnings": tuple(data["warnings"]),
                    "agreement": tuple(data["agreement"]),
                    "data": tuple(data.get("data", ())),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a whole report: {error}") from None


def _target(data: dict[str, Any]) -> TargetRecord:
    return TargetRecord(
        **{
            **data,
            "artifacts": tuple(Artifact(**a) for a in data["artifacts"]),
            "checks": tuple(Check(**c) for c in data["checks"]),
            "warnings": tuple(data["warnings"]),
        }
    )


def _measurement(data: dict[str, Any]) -> Measurement:
    return Measurement(**{**data, "samples": tuple(data["samples"])})


def _gate(data: dict[str, Any]) -> GateResult:
    measurement = data["measurement"]
    return GateResult(
        **{
            **data,
            "budget": Budget(**data["budget"]),
            "measurement": None if measurement is None else _measurement(measurement),
        }
    )
