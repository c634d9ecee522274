"""What was fitted, on what, and how far off it was: `calibration.json`, made by `pocketforge device calibrate`.

The file holds, per core type, the fitted parameters, the number and range of the measurements behind them, and the
errors (logarithm of measured over predicted) of measurements that were left out of the fit, by how the prediction was
made: with the core's own parameters, with those that measured core types of its kind share, or with none at all.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pocketforge.errors import RecipeError
from pocketforge.estimation.core_model import CoreModel, load_core, tables_digest
from pocketforge.estimation.fitting import Parameters, default_parameters
from pocketforge.files import refuse_special
from pocketforge.outcomes.files import from_json

SHIPPED = Path(__file__).parent / "calibration.json"
FORMAT = 2
Status = Literal["calibrated", "transferred", "uncalibrated"]
LEAST_CALIBRATED = 3
"""Measurements of a core type below which its estimates are not called calibrated."""


@dataclass(frozen=True, slots=True)
class Span:
    """What the measurements covered, of what an estimate extrapolates in.

    An inference is a sum over operators, so its length is no limit; the size of an operator is, and so is how much of
    the work is memory's.

    Attributes:
        least_instructions_per_operator: Of all measured files.
        most_instructions_per_operator: Of all measured files.
        most_memory_bytes_per_cycle: Bytes from memory for each cycle of the scoreboard.
    """

    least_instructions_per_operator: float
    most_instructions_per_operator: float
    most_memory_bytes_per_cycle: float

    def with_(self, other: Span) -> Span:
        """The span that covers both."""
        return Span(
            min(self.least_instructions_per_operator, other.least_instructions_per_operator),
            max(self.most_instructions_per_operator, other.most_instructions_per_operator),
            max(self.most_memory_bytes_per_cycle, other.most_memory_bytes_per_cycle),
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """One core type's fit.

    Attributes:
        parameters: What was fitted.
        points: How many measurements it was fitted to.
        groups: Architectures and families of blocks that these are of.
        devices: Devices that these were measured on.
        span: What these cover.
    """

    parameters: Parameters
    points: int
    groups: tuple[str, ...]
    devices: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Errors:
    """How wide the interval is for one way of predicting.

    Attributes:
        factor: At least 1: the interval goes from the estimate divided by it to the estimate times it.
        points: Measurements that were left out of the fit to find it.
        groups: How many groups these are of.
        basis: What they were, in words.
    """

    factor: float
    points: int
    groups: int
    basis: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one core type is predicted with.

    Attributes:
        status: How its parameters came to be.
        parameters: Those.
        source_core: The core types whose measurements they are fitted to, with commas; empty for none.
        errors: How wide the interval is.
    """

    status: Status
    parameters: Parameters
    source_core: str
    errors: Errors


@dataclass(frozen=True, slots=True)
class Calibration:
    """The content of a calibration file.

    Attributes:
        coverage: The share of estimates whose interval should hold the true value, 0 to 1.
        cores: Core type → its fit.
        shared: "in-order" and "out-of-order" → what the measured core types of that kind share.
        errors: Core type → errors of its own fit; "calibrated", "transferred" (also "transferred,
            KIND" as in `shared`), "uncalibrated" → those of all others.
        tables: SHA-256 of the core tables that the fit used.
        digest: SHA-256 of the file; empty where it is not written.
        notes: Of who made it.
    """

    coverage: float
    cores: Mapping[str, Fitted]
    shared: Mapping[str, Parameters]
    errors: Mapping[str, Errors]
    tables: str
    digest: str = ""
    notes: str = ""

    def choose(self, core: CoreModel) -> Chosen:
        """What to predict this core type with: its own fit, else what its kind shares, else the priors."""
        if core.name in self.cores:
            fitted = self.cores[core.name]
            if fitted.points >= LEAST_CALIBRATED:
                return Chosen("calibrated", fitted.parameters, core.name, self._errors(core.name, "calibrated"))
            # Eight constants and a measurement or two: most of it is what other core types share, or the priors.
            return Chosen("transferred", fitted.parameters, core.name, self._transferred(core))
        kind = kind_of(core)
        if kind in self.shared:
            sources = ", ".join(name for name in sorted(self.cores) if kind_of(load_core(name)) == kind)
            return Chosen("transferred", self.shared[kind], sources, self._transferred(core))
        return Chosen("uncalibrated", default_parameters(core), "", self._errors("uncalibrated"))

    def span(self) -> Span | None:
        """What was measured on any core type: sizes extrapolate alike on all of them."""
        spans = [fitted.span for fitted in self.cores.values()]
        return functools.reduce(Span.with_, spans) if spans else None

    def _transferred(self, core: CoreModel) -> Errors:
        return self._errors(f"transferred, {kind_of(core)}", "transferred")

    def _errors(self, *names: str) -> Errors:
        for name in names:
            if name in self.errors:
                return self.errors[name]
        raise RecipeError(f"the calibration file has no errors for {' or '.join(names)}")

    def to_json(self) -> dict[str, object]:
        """The content of the file."""
        return asdict(_Content(FORMAT, self.coverage, self.tables, self.notes, self.cores, self.shared, self.errors))


@dataclass(frozen=True, slots=True)
class _Content:
    """The file, key by key."""

    format: int
    coverage: float
    tables: str
    notes: str
    cores: Mapping[str, Fitted]
    shared: Mapping[str, Parameters]
    errors: Mapping[str, Errors]


def kind_of(core: CoreModel) -> str:
    """A key of `Calibration.shared`."""
    return "in-order" if core.in_order else "out-of-order"


def save(calibration: Calibration, path: Path) -> Calibration:
    """Write the file; returns the calibration with the digest of what was written."""
    text = json.dumps(calibration.to_json(), indent=1, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    return replace(calibration, digest=hashlib.sha256(text.encode()).hexdigest())


def load(path: Path) -> Calibration:
    """Read a calibration file. Raises RecipeError when it is not one, or was fitted with other core tables."""
    try:
        refuse_special(path)
        raw = path.read_bytes()
        content = _parsed(json.loads(raw))
    except OSError as error:
        raise RecipeError(f"cannot read the calibration file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path} is not a calibration file: {error}", hint="make one with `pocketforge device calibrate`"
        ) from error
    if content.tables != tables_digest():
        raise RecipeError(
            f"{path} was fitted with other core tables than this version's",
            hint="fit again with `pocketforge device calibrate`",
        )
    digest = hashlib.sha256(raw).hexdigest()
    return Calibration(
        content.coverage, content.cores, content.shared, content.errors, content.tables, digest, content.notes
    )


@functools.cache
def shipped() -> Calibration:
    """The calibration that comes with this version."""
    return load(SHIPPED)


def _parsed(data: object) -> _Content:
    """Raises ValueError."""
    # First: what another format holds is another table's business.
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise ValueError(f"format {data.get('format')!r}, this version reads {FORMAT}")
    return from_json(data, _Content)
