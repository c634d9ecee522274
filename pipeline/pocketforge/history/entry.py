"""What a history keeps of a build: where it comes from, its values and verdicts as rows, and its whole report."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pocketforge.facts.checkout import Checkout
from pocketforge.outcomes import files
from pocketforge.recipe import METRICS
from pocketforge.records import HowCarried, HowCompared, HowEstimated, Measurement, Report
from pocketforge.results.relative import conditions_of, doubt_of, interval_of, is_timed, kind_of_host
from pocketforge.stats import Interval
from pocketforge.version import version


@dataclass(frozen=True, slots=True)
class Entry:
    """A build to be kept.

    Attributes:
        report: What it found.
        checkout: Of which commit; all empty where that is not known.
        built_s: When it ended, in seconds since 1970; of an old report's file, when that was written.
        pocketforge: The version that built; empty where that is not known.
    """

    report: Report
    checkout: Checkout = field(default_factory=Checkout)
    built_s: int = 0
    pocketforge: str = ""

    @classmethod
    def of_now(cls, report: Report, checkout: Checkout, now_s: float) -> Entry:
        """A build that has just ended."""
        return cls(report, checkout, int(now_s), version())

    def text(self) -> str:
        """The report as it is stored: JSON of ASCII alone, since PostgreSQL has no character 0."""
        return json.dumps(self.report.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Value:
    """One measured value, in the form that trends are made of.

    Attributes:
        metric: Its name.
        target: Whose file was measured.
        device: The device's name; empty for what is of no device, and for outputs on the host.
        via: The kind of device.
        conditions: What it was taken under, in words: values of other conditions, as of another kind of host, are never
            in one line with it.
        value: In `unit`.
        unit: The metric's.
        low: Lower end of its 95 % interval (of an estimate, of the model's own); None where nothing bounds it.
        high: The upper end.
        samples: How many raw values it is of; 0 of what is no sample.
        sha256: Of the file that was measured.
        better: Which values are: "lower", "higher", or empty where that is not known.
        noisy: Whether a second run may give another value.
        evidence: SHA-256 of the whole measurement: a timing that a later build reused has the same.
        doubt: Why it settles nothing, as the device says it; empty where it does.
    """

    metric: str
    target: str
    device: str
    via: str
    conditions: str
    value: float
    unit: str
    low: float | None
    high: float | None
    samples: int
    sha256: str
    better: str
    noisy: bool
    evidence: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """A build that a history has.

    Attributes:
        id: Its number there.
        recipe: Its recipe's name.
        recipe_sha256: Of what that recipe says.
        verdict: The report's.
        commit: Of which it is; empty where that is not known.
        branch: Empty where that is not known.
        commit_s: When that was committed, in seconds since 1970.
        dirty: Whether files of the commit had been changed; None where that is not known.
        built_s: When it ended, in seconds since 1970.
        host: The machine.
        pocketforge: The version that built; empty where that is not known.
        report_sha256: Of the report's text there.
    """

    id: int
    recipe: str
    recipe_sha256: str
    verdict: str
    commit: str
    branch: str
    commit_s: int | None
    dirty: bool | None
    built_s: int
    host: str
    pocketforge: str
    report_sha256: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which builds; what is empty is not asked for.

    Attributes:
        recipe: Of this recipe.
        branch: Of this branch.
        commit: Of the commit whose hash begins so.
    """

    recipe: str = ""
    branch: str = ""
    commit: str = ""


def host_of(report: Report) -> str:
    return report.environment.get("host", "")


def values_of(report: Report) -> list[Value]:
    """Every measurement of a report that is a finite number, in its order."""
    return [_value(each, report) for each in report.measurements if math.isfinite(each.value)]


def _value(measured: Measurement, report: Report) -> Value:
    row = METRICS.if_usable(measured.metric)
    try:
        interval = interval_of(measured, "p50")
    except (ArithmeticError, ValueError):  # of a report by another's hand, whose parts are not as many samples
        interval = Interval(measured.value, -math.inf, math.inf)
    how = measured.how
    own = how.better if isinstance(how, HowCompared) else None
    content = json.dumps(files.to_json(measured), sort_keys=True)
    return Value(
        metric=measured.metric,
        target=measured.target,
        device=measured.device,
        via=measured.via,
        conditions=_conditions(measured, report),
        value=measured.value,
        unit=measured.unit,
        low=interval.low if math.isfinite(interval.low) else None,
        high=interval.high if math.isfinite(interval.high) else None,
        samples=len(measured.samples),
        sha256=measured.artifact_sha256,
        better=own or (row.better if row else ""),
        # An estimate has an interval, and is the same each time.
        noisy=is_timed(measured) and not isinstance(how, HowEstimated),
        evidence=hashlib.sha256(content.encode()).hexdigest(),
        doubt=doubt_of(measured),
    )


def _conditions(measured: Measurement, report: Report) -> str:
    found = conditions_of(measured)
    host = found.pop("the processor", "") or kind_of_host(host_of(report))
    words = [f"{what.removeprefix('the ')} {value}" for what, value in found.items()]
    how = measured.how
    if isinstance(how, HowCarried):
        words += [how.abi, how.as_sent]
    target = next((each for each in report.targets if each.name == measured.target), None)
    phone = target.facts.phones.get(measured.device) if target else None
    if phone is not None and measured.via == "adb":
        words.insert(0, phone.phone.model or phone.phone.serial)
    # What runs on the host hangs on its processor: times, and the last bits of outputs. A file's size does not.
    if measured.via == "host" and (measured.device or isinstance(how, HowCompared)):
        words.insert(0, host)
    return ", ".join(words)


def storable(text: str) -> str:
    """Text as both databases take it: without character 0 and halves of surrogates, which stay to be seen."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def date(seconds: int) -> str:
    """The day and the minute, in UTC; of a year that no calendar has the seconds, as git writes them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):  # a commit may be of any year
        return f"@{seconds}"
