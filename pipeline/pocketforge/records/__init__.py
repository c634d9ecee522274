"""What a build produces, as frozen data that goes to `report.json` and comes back.

schema.json is written from these types (docs/report_schema.py). What an installed package may add (a metric, a
runtime, a kind of device) stands under `more` here, and beside the named keys in the file.
"""

from __future__ import annotations

from pocketforge.outcomes.bench import HowHere
from pocketforge.outcomes.verify import FileCheck as Check
from pocketforge.records.devices import (
    Counted,
    Estimated,
    HeldAgainstHost,
    OnEmulator,
    OnPhone,
    PhoneIs,
    Refused,
    TimedOnPhone,
)
from pocketforge.records.measured import (
    UNTOLD,
    GateResult,
    How,
    HowCarried,
    HowCompared,
    HowCounted,
    HowElse,
    HowEstimated,
    HowOnThePhone,
    Measurement,
    Verdict,
    Via,
)
from pocketforge.records.model import Agreement, Compression, CompressionStep, OutputAgreement, Reference
from pocketforge.records.report import SCHEMA_VERSION, Empty, Report, StepRecord
from pocketforge.records.target import (
    UNKNOWN_SCHEME,
    Artifact,
    Calibration,
    Delegation,
    JudgedOn,
    MobileUsability,
    TargetFacts,
    TargetRecord,
    WhyWrong,
)
from pocketforge.registries import PYTORCH

__all__ = [
    "PYTORCH",
    "SCHEMA_VERSION",
    "UNKNOWN_SCHEME",
    "UNTOLD",
    "Agreement",
    "Artifact",
    "Calibration",
    "Check",
    "Compression",
    "CompressionStep",
    "Counted",
    "Delegation",
    "Empty",
    "Estimated",
    "GateResult",
    "HeldAgainstHost",
    "How",
    "HowCarried",
    "HowCompared",
    "HowCounted",
    "HowElse",
    "HowEstimated",
    "HowHere",
    "HowOnThePhone",
    "JudgedOn",
    "Measurement",
    "MobileUsability",
    "OnEmulator",
    "OnPhone",
    "OutputAgreement",
    "PhoneIs",
    "Reference",
    "Refused",
    "Report",
    "StepRecord",
    "TargetFacts",
    "TargetRecord",
    "TimedOnPhone",
    "Verdict",
    "Via",
    "WhyWrong",
]
