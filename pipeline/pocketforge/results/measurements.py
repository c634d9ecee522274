"""Every value of a target that a budget can be on, each with the hash of the file it was taken from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Measured, Verified
from pocketforge.plan.steps import Lane
from pocketforge.recipe import METRICS
from pocketforge.records import PYTORCH, UNTOLD, Artifact, How, HowCompared, Measurement, TargetRecord
from pocketforge.results.devices import DeviceResult
from pocketforge.results.file_metrics import file_values
from pocketforge.results.plugin_words import structured
from pocketforge.results.scores import values_of
from pocketforge.run.walk import Outcome


@dataclass(frozen=True, slots=True)
class _Taken:
    """A value, and how it came about; on this host where nothing else is said."""

    metric: str
    value: float
    via: str = "host"
    how: How = UNTOLD
    device: str = ""
    samples: tuple[float, ...] = ()


def measurements_of(
    lane: Lane,
    record: TargetRecord,
    reference: Reference | None,
    outcome: Outcome,
    on_devices: Mapping[str, DeviceResult],
) -> Iterator[Measurement]:
    """Of the model file: its own values, the PyTorch model's, its outputs' on the host, and each device's."""
    if not record.artifacts:
        return
    model = record.artifacts[0]
    verified = outcome.result(lane.verify, Verified)
    for taken in (
        *_of_file(lane, model, outcome),
        *(_of_model(reference) if reference else ()),
        *(_of_outputs(verified.files["model"], next(iter(verified.runtimes))) if verified else ()),
        *_of_devices(lane, model, on_devices),
    ):
        yield Measurement(
            metric=taken.metric,
            value=float(taken.value),
            unit=METRICS[taken.metric].unit if taken.metric in METRICS else "",  # of a user's metric
            target=lane.target.name,
            artifact_sha256=model.sha256,
            via=taken.via,
            device=taken.device,
            samples=taken.samples,
            how=taken.how,
        )


def _of_file(lane: Lane, model: Artifact, outcome: Outcome) -> Iterator[_Taken]:
    yield _Taken("size_bytes", model.size_bytes)
    yield _Taken("gzip_bytes", model.gzip_bytes)
    exported = outcome.result(lane.export, Exported)
    if exported:
        for metric, value in file_values(exported.model_in(outcome.entries[lane.export].files)):
            yield _Taken(metric, value)


def _of_model(reference: Reference) -> Iterator[_Taken]:
    yield _Taken("parameters", reference.parameters, PYTORCH)
    yield _Taken("macs", reference.macs, PYTORCH)


def _of_outputs(outputs: Measured, runtime: str) -> Iterator[_Taken]:
    for each in values_of(outputs):
        yield _Taken(
            each.metric, each.value, how=HowCompared(outputs.samples, runtime, each.output or None, each.better)
        )


def _of_devices(lane: Lane, model: Artifact, on_devices: Mapping[str, DeviceResult]) -> Iterator[_Taken]:
    for value in (value for result in on_devices.values() for value in result.values):
        if value.sha256 not in ("", model.sha256):
            raise AssertionError(f"benchmark of {lane.target.name} on {value.device} is of another file")
        via = lane.on[value.device].via
        how = structured({"how": value.how}, _Told, f"devices of kind {via}").how
        yield _Taken(value.metric, value.value, via, how, value.device, value.samples)


@dataclass(frozen=True, slots=True)
class _Told:
    """Devices tell it as plain JSON: those of plug-ins have words of their own."""

    how: How
