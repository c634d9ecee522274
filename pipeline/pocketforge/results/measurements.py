"""Every value of a target that a budget can be on, each with the hash of the file it was taken from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pocketforge.errors import PluginFailed
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.verify import Measured
from pocketforge.plan.steps import Lane
from pocketforge.recipe import METRICS, Recipe, suggest
from pocketforge.recipe.worst_part import whole_metric
from pocketforge.records import PYTORCH, UNTOLD, Artifact, How, HowCompared, Measurement, TargetRecord
from pocketforge.registries import DEVICES
from pocketforge.results.app_size import app_values, asked_of_app
from pocketforge.results.devices import DeviceResult, Value
from pocketforge.results.file_metrics import asked_of_files, file_values, finite
from pocketforge.results.judged import verified_of
from pocketforge.results.plugin_words import HINT, check_parts, structured
from pocketforge.results.scores import values_of
from pocketforge.row_types import type_fault
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
    recipe: Recipe,
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
    verified = verified_of(lane, outcome)
    for taken in (
        *_of_file(recipe, lane, model, outcome),
        *(_of_model(reference) if reference else ()),
        *(_of_outputs(verified.files["model"], next(iter(verified.runtimes))) if verified else ()),
        *of_devices(lane, model, on_devices),
    ):
        row = METRICS.if_usable(whole_metric(taken.metric))  # a user's metric has none
        yield Measurement(
            metric=taken.metric,
            value=taken.value,
            unit=row.unit if row else "",
            target=lane.target.name,
            artifact_sha256=model.sha256,
            via=taken.via,
            device=taken.device,
            samples=taken.samples,
            how=taken.how,
        )


def _of_file(recipe: Recipe, lane: Lane, model: Artifact, outcome: Outcome) -> Iterator[_Taken]:
    yield _Taken("size_bytes", float(model.size_bytes))
    yield _Taken("gzip_bytes", float(model.gzip_bytes))
    asked = asked_of_files(recipe)
    of_app = asked_of_app(recipe, lane.target.name)
    exported = outcome.result(lane.export, Exported) if asked or of_app else None
    if exported:
        path = exported.model_in(outcome.entries[lane.export].files)
        for metric, value in file_values(path, asked):
            yield _Taken(metric, value)
        for metric, size, how in app_values(recipe, lane.target.runtime, model, path, of_app):
            yield _Taken(metric, float(size), how=how)


def _of_model(reference: Reference) -> Iterator[_Taken]:
    for metric, value in (("parameters", reference.parameters), ("macs", reference.macs)):
        if value is not None:
            yield _Taken(metric, float(value), PYTORCH)


def _of_outputs(outputs: Measured, runtime: str) -> Iterator[_Taken]:
    for each in values_of(outputs):
        yield _Taken(
            each.metric,
            each.value,
            how=HowCompared(
                outputs.samples if each.samples is None else each.samples,
                runtime,
                each.output or None,
                each.better,
                each.worst,
            ),
        )


def of_devices(lane: Lane, model: Artifact, on_devices: Mapping[str, DeviceResult]) -> Iterator[_Taken]:
    """What each device gave. Raises PluginFailed for what no budget can be judged by: ours give none."""
    for device, result in on_devices.items():
        timed: set[str] = set()
        for value in result.values:
            taken = _of_device(lane, model, device, value)
            if taken.metric in timed:
                raise PluginFailed(f"{taken.metric} on {device} is given twice: nothing says which one counts", HINT)
            row = METRICS.get(whole_metric(taken.metric))
            if row is not None and row.place != "outputs":  # of these each output has its own, and a user's is of one
                timed.add(taken.metric)
            yield taken


def _of_device(lane: Lane, model: Artifact, device: str, value: Value) -> _Taken:
    via = lane.on[device].via
    plugin = DEVICES.brought_by(via)
    whose = plugin.words if plugin else f"devices of kind {via}"
    if fault := type_fault(dataclasses.replace(value, value=0.0, samples=())):
        raise PluginFailed(f"{whose} gives a Value of other types: {fault}", HINT)
    if value.device != device:
        raise PluginFailed(f"{whose}: {value.metric} on {device} is said to be on {value.device!r}", HINT)
    what = f"{whose}: {value.metric} on {value.device}"
    if value.sha256 not in ("", model.sha256):
        found = f"wanted SHA-256 {model.sha256}, found {value.sha256}"
        raise PluginFailed(f"{what} is of another file than that of {lane.target.name}: {found}", HINT)
    if not isinstance(value.samples, Iterable):
        raise PluginFailed(f"{what}: samples must be numbers, found {value.samples!r}", HINT)
    a_sample = f"{what}: a sample"
    samples = tuple(finite(sample, a_sample, HINT) for sample in value.samples)
    if value.metric == "latency_ms" and not samples:
        raise PluginFailed(f"{what} has no samples: nothing tells how sure it is", HINT)
    how = structured({"how": value.how}, _Told, whose).how
    is_users = isinstance(how, HowCompared) and how.better is not None
    if not is_users and whole_metric(value.metric) not in METRICS:
        raise PluginFailed(f"{what}: that is no metric{suggest(value.metric, METRICS)}", HINT)
    if samples:
        check_parts(how, samples, what)
    return _Taken(value.metric, finite(value.value, what, HINT), via, how, value.device, samples)


@dataclass(frozen=True, slots=True)
class _Told:
    """Devices tell it as plain JSON: those of plug-ins have words of their own."""

    how: How
