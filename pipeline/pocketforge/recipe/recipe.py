"""A whole recipe: the rules between its tables, and what follows from all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pocketforge.recipe.app import APP_METRICS, App
from pocketforge.recipe.budget import METRICS, THE_TASKS, Budget, place_of
from pocketforge.recipe.compress import Compress, Finetune, PruneChannels, PruneUnstructured
from pocketforge.recipe.consumers import faults_of_consumers
from pocketforge.recipe.data import Data, parse_source
from pocketforge.recipe.device import (
    Device,
    EmulatedDevice,
    HostDevice,
    gives,
)
from pocketforge.recipe.faults import Fault, WrongTable
from pocketforge.recipe.file_rules import faults_of_files
from pocketforge.recipe.fit import Fit, Objective
from pocketforge.recipe.fit_rules import faults_of_fit, faults_of_objectives
from pocketforge.recipe.input_rules import faults_of_inputs
from pocketforge.recipe.loss_rules import (
    faults_of_dropped,
    faults_of_losses,
    faults_of_schemes,
    faults_of_training,
    goes_by_losses,
)
from pocketforge.recipe.metric import Metric, Task
from pocketforge.recipe.metrics_of_outputs import metrics_of_role
from pocketforge.recipe.model import Model
from pocketforge.recipe.names import NamesFiles, check_name, suggest
from pocketforge.recipe.output import Output, output_of_task, user_metric
from pocketforge.recipe.output_rules import fault_of_metric, faults_of_outputs, find_metric, task_of
from pocketforge.recipe.package_rules import fault_of_numbers, faults_of_package
from pocketforge.recipe.preprocess import lists_of, name_faults
from pocketforge.recipe.quantize import LEAST_CALIBRATION_SAMPLES
from pocketforge.recipe.release import Release
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.shipped_names import LONGEST_NAME_BYTES, faults_of_names
from pocketforge.recipe.size_rules import budgets_of_buckets, faults_of_sizes, with_buckets
from pocketforge.recipe.slice_rules import fault_of_slice, fault_per_class
from pocketforge.recipe.target import Target
from pocketforge.recipe.training import Training, faults_of_precision
from pocketforge.recipe.waiver import TOLD_APART, Waiver
from pocketforge.recipe.weight_rules import faults_of_weights
from pocketforge.registries import DEVICES, RUNTIMES

MOST_PARTS = 200  # each is a process and a model of its own


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole build: one model and its data, compressed once, shipped as many targets.

    Attributes:
        name: Of the build and its output folder.
        model: Where the model comes from. Files made elsewhere need none (NO_MODEL): they are then held against no
            other answers.
        data: Real samples.
        targets: The files to ship, one or more; one for each bucket of a target with `sizes`.
        seed: Splits, calibration and training follow from it.
        task: What targets of samples are: class numbers or real numbers; "outputs" where [[output]] says what each of
            several outputs is. Where nothing is said it is classification.
        metric: What `metric` in budgets and reports is; None for the task's own, or the first of the first output.
        outputs: What each output of the model is; empty for a task, which is of the first one (`judged`).
        compress: What is done to the model before anything is quantized, in order.
        devices: Where files run, one or more.
        budgets: Limits that the gate holds the build to.
        waivers: Of budgets that may be not kept for a while.
        release: What the release says of itself.
        training: Where models are trained.
        app: The app that carries the files, for budgets on what it is then.
        fit: What `pocketforge fit` searches; None where the recipe says nothing of it. No build reads it.
        folder: The recipe file's own, absolute: paths are relative to it. Set by the loader.
    """

    name: str
    model: Model
    data: Data
    targets: tuple[Target, ...]
    seed: int = 0
    task: Task = ""
    metric: str | None = None
    outputs: tuple[Output, ...] = ()
    compress: tuple[Compress, ...] = ()
    devices: tuple[Device, ...] = (HostDevice(),)
    budgets: tuple[Budget, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    release: Release = Release()  # noqa: RUF009 - frozen, so one for all does no harm
    app: App = App()  # noqa: RUF009 - frozen, so one for all does no harm
    training: Training = Training()  # noqa: RUF009 - frozen, so one for all does no harm
    fit: Fit | None = None
    folder: str = ""

    def __post_init__(self) -> None:
        said = self.task
        object.__setattr__(self, "task", said or task_of(self.outputs))  # so that nobody else has to ask what is meant
        faults = [*self._fault_names(), *self._fault_task(), *self._fault_compress()]
        faults += [*self._fault_quantize(), *self._fault_cores(), *self._fault_budgets(), *self._fault_waivers()]
        lists = lists_of(self.data.preprocess)
        faults += [fault.inside("data.preprocess") for fault in name_faults(lists, self.model.given_names)]
        faults += faults_of_files(self.model, self.targets, self.compress, self.outputs)
        faults += faults_of_inputs(self.model, self.targets, self._one_step())
        faults += [fault for index, target in enumerate(self.targets) for fault in self._fault_package(index, target)]
        faults += faults_of_precision(self.training, self.finetunes(), self.targets)
        faults += faults_of_sizes(self.model, self.data.preprocess, self.targets, self._other_cores())
        faults += faults_of_weights(self.model, self.targets, self._other_cores(), _x86_hosts(self.devices))
        if faults:
            raise WrongTable(*faults)
        # So that all that is said of targets holds for each bucket's file.
        object.__setattr__(self, "budgets", budgets_of_buckets(self.budgets, self.targets))
        object.__setattr__(self, "targets", with_buckets(self.targets))

    def _fault_package(self, index: int, target: Target) -> list[Fault]:
        found = faults_of_package(target, self.model, self.data, self.judged)
        read = faults_of_consumers(target, self.model, self.data, self.judged)
        return [
            *(fault.inside(f"target[{index}].package") for fault in found),
            *(fault.inside(f"target[{index}].consumers") for fault in read),
        ]

    def _fault_names(self) -> list[Fault]:
        faults: list[Fault] = []
        try:
            check_name(self.name, "name")
        except ValueError as error:
            faults.append(Fault(str(error)))
        if not self.targets:
            faults.append(Fault("a recipe needs at least one [[target]]"))
        if not self.devices:
            faults.append(Fault("a recipe needs at least one [[device]] (leave the table out for the host)"))
        # A bucket that is there twice is told of by its place.
        files = [name for each in self.targets for name in dict.fromkeys(file.name for file in with_buckets([each]))]
        for what, names in (("target", files), ("device", [d.name for d in self.devices])):
            for name in sorted({n for n in names if names.count(n) > 1}):
                faults.append(Fault(f"{what} names must be unique, found {name!r} {names.count(name)} times"))
        targets = with_buckets(list({target.name: target for target in self.targets}.values()))
        faults += map(Fault, faults_of_names(targets, self.data.tokenizers()))
        if len(self.name) > LONGEST_NAME_BYTES:
            over = f"it names a folder, and is longer than {LONGEST_NAME_BYTES} bytes ({len(self.name)})"
            faults.append(Fault(over, "name"))
        if not 0 <= self.seed < 2**32:
            faults.append(Fault(f"seed must be 0 to 2^32 - 1, found {self.seed}"))
        return faults

    def _fault_task(self) -> list[Fault]:
        faults = list(faults_of_outputs(self.outputs, self.model.outputs))
        if self.task != task_of(self.outputs) and (self.outputs or self.task == "outputs"):
            what = f"[[output]] says {task_of(self.outputs)}" if self.outputs else "no [[output]] says what those are"
            faults.append(Fault(f"task {self.task!r}, and {what}: leave out task, or [[output]]", "task"))
        named = find_metric(self.task_metric, self.judged) if self.metric else None
        if self.metric is not None and (not self.metric or named is None or named.output is None):
            faults.append(Fault(self._unknown_metric()))
        faults += faults_of_dropped(self.outputs)
        if self.task == "outputs":
            because = next(self.going_by_losses(), "")
            faults += faults_of_losses(self.outputs, because) if because else []
            faults += faults_of_schemes(self.targets, self.outputs)
        if self.compress and self.model.definition.endswith(".pt2"):
            faults.append(Fault("a .pt2 is a traced graph and cannot be changed: give the .py definition", "compress"))
        return faults

    def _unknown_metric(self) -> str:
        """Why `metric` cannot be what it says."""
        if not self.metric:
            return "metric is empty: leave it out for the task's own"
        try:
            user_metric(self.metric)
        except ValueError as error:
            return f"metric: {error}"
        row = METRICS.get(self.metric)
        if row and row.roles and not self.outputs:
            return f"metric {self.metric!r} is not a metric of task {self.task!r}"
        fault = fault_of_metric(self.metric, self.judged)
        return f"metric: {fault}" if fault else f"metric {self.metric!r} is of no output"

    def _one_step(self) -> list[tuple[str, str]]:
        """What learns or searches by single samples, with its place."""
        found = [(f"compress[{index}]", f"type {entry.type}") for index, entry in enumerate(self.compress)]
        for index, target in enumerate(self.targets):
            quantize, where = target.quantize, f"target[{index}].quantize"
            if quantize.info.is_trained or quantize.finetune is not None:
                found.append((where, f"{quantize.scheme} with training"))
            elif quantize.info.studies_layers:
                found.append((where, f"scheme {quantize.scheme}"))
        return found

    def going_by_losses(self) -> Iterator[str]:
        """What trains by the outputs' losses, or ranks by them, in words."""
        for index, entry in enumerate(self.compress):
            if goes_by_losses(entry):
                yield f"compress[{index}] ({entry.type})"
        for index, target in enumerate(self.targets):
            quantize = target.quantize
            if (quantize.info.is_trained or quantize.finetune is not None) and not quantize.settings.loss:
                yield f"target[{index}] ({quantize.scheme})"

    def _fault_compress(self) -> list[Fault]:
        faults: list[Fault] = []
        parts = sum(entry.steps if isinstance(entry, PruneChannels) else 1 for entry in self.compress)
        if parts > MOST_PARTS:
            faults.append(Fault(f"wanted at most {MOST_PARTS} steps in all, found {parts}", "compress"))
        changed = False
        for index, entry in enumerate(self.compress):
            where = f"compress[{index}]"
            after = self.compress[index + 1] if index + 1 < len(self.compress) else None
            if isinstance(entry, PruneUnstructured) and entry.schedule == "cubic" and not isinstance(after, Finetune):
                faults.append(Fault("schedule cubic prunes during fine-tuning: a finetune must come next", where))
            elif isinstance(entry, PruneUnstructured) and entry.schedule == "cubic" and _stops_early(after):
                faults.append(
                    Fault(
                        f"compress[{index + 1}].early_stop_epochs cannot go with schedule cubic: zeros are added until "
                        "the last epochs, so an earlier one's weights are never sparse enough"
                    )
                )
            goal = getattr(entry, "goal", None)
            if goal is not None and goal.emulated:
                if goal.runtime and RUNTIMES[goal.runtime].native is None:
                    faults.append(Fault(f"{goal.runtime} has no program for ARM cores", f"{where}.goal.runtime"))
                known = [d.name for d in self.devices if d.via == "emulator" and gives(d, goal.metric)]
                if goal.device in _x86_hosts(self.devices):
                    faults.append(Fault(_outputs_alone(goal.metric, goal.device), f"{where}.goal.device"))
                elif goal.device not in known:
                    unknown = (
                        f'no [[device]] with via = "emulator" is named {goal.device!r}{suggest(goal.device, known)}'
                    )
                    faults.append(Fault(unknown, f"{where}.goal.device"))
            changed = changed or not isinstance(entry, Finetune)
            for inner in [finetune for place, finetune in self.finetunes() if place == where]:
                faults += self._fault_teacher(inner, where, changed)
        for where, finetune in self.finetunes():
            if self.task == "outputs":
                faults += faults_of_training(finetune, self.judged, where)
            elif self.task != "classification" and (finetune.distill or finetune.label_smoothing):
                faults.append(
                    Fault("distill and label_smoothing are of task classification or an [[output]]'s loss", where)
                )
        return faults

    def _fault_teacher(self, entry: Finetune, where: str, changed: bool) -> list[Fault]:
        faults: list[Fault] = []
        if entry.distill and entry.distill.teacher is None and not changed:
            same = (
                "the teacher is the model as it was before [[compress]], and nothing has changed it yet: prune first, "
                "or name another teacher"
            )
            faults.append(Fault(same, f"{where}.distill"))
        own = self.model.weights or self.model.definition.startswith("transformers:")  # its folder may hold them
        if entry.distill and entry.distill.teacher is None and not own:
            faults.append(Fault("the teacher is the recipe's model, which has no model.weights", f"{where}.distill"))
        return faults

    def _fault_quantize(self) -> list[Fault]:
        faults: list[Fault] = []
        for index, target in enumerate(self.targets):
            quantize, where = target.quantize, f"target[{index}].quantize"
            if quantize.info.is_trained and self.model.definition.endswith(".pt2"):
                faults.append(Fault("a .pt2 is a traced graph and cannot be trained: give the .py definition", where))
            if quantize.info.calibrates:
                used = quantize.calibration_samples or self.data.calibration_samples
                if used > self.data.calibration_samples:
                    most = self.data.calibration_samples
                    more = f"wanted at most data.calibration_samples ({most}), found {used}"
                    faults.append(Fault(more, f"{where}.calibration_samples"))
                elif used < LEAST_CALIBRATION_SAMPLES:
                    few = (
                        f"{quantize.scheme} calibrates on {used} samples, wanted {LEAST_CALIBRATION_SAMPLES} or more: "
                        "ranges of fewer are chance; raise calibration_samples"
                    )
                    faults.append(Fault(few, where))
        return faults

    def _fault_cores(self) -> list[Fault]:
        """ARM cores, emulated or a phone's, and a runtime that has no program for them."""
        cores = self._other_cores()
        return [
            Fault(
                f"{target.runtime} has no program for ARM cores, so it cannot run on device {cores[0]!r}; runtimes "
                f"with one: {', '.join(name for name, info in RUNTIMES.usable().items() if info.native is not None)}",
                f"target[{index}].runtime",
            )
            for index, target in enumerate(self.targets)
            if cores and RUNTIMES[target.runtime].native is None
        ]

    def _other_cores(self) -> list[str]:
        """Names of the devices that are ARM's."""
        hosts = _x86_hosts(self.devices)
        return [d.name for d in self.devices if DEVICES[d.via].native and d.name not in hosts]

    def _fault_budgets(self) -> list[Fault]:
        faults: list[Fault] = []
        files = with_buckets(self.targets)
        for index, budget in enumerate(self.budgets):
            unknown = self._fault_metric(budget.metric)
            if unknown:
                faults.append(Fault(unknown, f"budget[{index}].metric"))
                continue
            if budget.baseline and budget.limit:
                both = f"limit = {budget.limit:g} and baseline = {budget.baseline!r}: one budget for each"
                faults.append(Fault(both, f"budget[{index}]"))
            if budget.metric == THE_TASKS and not budget.baseline:
                fault = self.main_row.limits.fault(budget.limit, f"limit of metric ({self.task_metric})")
                faults += [Fault(fault, f"budget[{index}]")] if fault else []
            for what, name, known in (
                ("target", budget.target, list(dict.fromkeys(t.name for t in (*self.targets, *files)))),
                ("device", budget.device, [n for d in self.devices for n in d.budget_names]),
            ):
                if name and name not in known:
                    faults.append(
                        Fault(f"no {what} is named {name!r}{suggest(name, known)}", f"budget[{index}].{what}")
                    )
            part = self._fault_of_part(budget)
            faults += [Fault(part, f"budget[{index}].{'slice' if budget.slice else 'per'}")] if part else []
            unplaced = self._fault_place(budget) or self._fault_of_app(budget) or self._fault_of_packed(budget)
            faults += [Fault(unplaced, f"budget[{index}]")] if unplaced else []
        return faults

    def faults_of_fit(self) -> list[Fault]:
        """What is wrong between [fit] and the rest. Asked where a recipe is read, not where one is built: a part of a
        recipe (some targets, without a phone that is not there) is built whatever its search would be."""
        if self.fit is None:
            return []
        names = [name for device in self.devices for name in device.budget_names]
        objectives = faults_of_objectives(self.fit.objectives, names, self._fault_metric, self.devices_of)
        found = [*objectives, *faults_of_fit(self.fit, self.data, self.targets)]
        return [fault.inside("fit") for fault in found]

    def _fault_waivers(self) -> list[Fault]:
        """One that is of no budget, or of no target or device: it would hide a slip."""
        faults: list[Fault] = []
        targets = [each.name for each in (*self.targets, *with_buckets(self.targets))]
        devices = [name for device in self.devices for name in device.budget_names]
        for index, waiver in enumerate(self.waivers):
            for key, name, known in (
                ("metric", waiver.metric, [budget.metric for budget in self.budgets]),
                ("target", waiver.target, targets),
                ("device", waiver.device, devices),
            ):
                if name not in known and (name or key == "metric"):
                    what = "budget is on" if key == "metric" else f"{key} is named"
                    unknown = f"no {what} {name!r}{suggest(name, dict.fromkeys(known))}"
                    faults.append(Fault(unknown, f"waiver[{index}].{key}"))
            of_metric = [budget for budget in self.budgets if budget.metric == waiver.metric]
            if of_metric and not any(map(waiver.is_of, of_metric)):
                said = ", ".join(f"{name} {getattr(waiver, name)!r}" for name in TOLD_APART[1:])
                faults.append(Fault(f"no budget on {waiver.metric} has {said}", f"waiver[{index}]"))
        return faults

    def _fault_metric(self, word: str) -> str:
        """Why a budget cannot be on a metric; empty where it can."""
        row = None if self.outputs else METRICS.get(word)
        if row and row.task and row.task != self.task:
            return f"{word} needs task {row.task}; use metric"
        return fault_of_metric(word, self.judged)

    def _fault_of_part(self, budget: Budget) -> str:
        """Why nothing gives a value for each slice or class that a budget is on; empty where something does."""
        word = self.task_metric if budget.metric == THE_TASKS else budget.metric
        named = find_metric(word, self.judged)
        own = tuple(each.name for output in self.judged for each in output.user_metrics)
        if named is None or not (budget.slice or budget.per == "class"):
            return ""
        if named.output is None:
            return f"{word} is held against no targets, so no part of the samples has one"
        if budget.per == "class":
            return fault_per_class(named.name, own)
        columns = self.data.columns.slices if self.data.columns else ()
        return fault_of_slice(budget.slice, columns, self.data.source, parse_source(self.data.source)[0])

    def _fault_of_app(self, budget: Budget) -> str:
        """Why nothing tells what an app would be with the files that a budget holds for; empty where all is known."""
        held = [t for t in (*self.targets, *with_buckets(self.targets)) if budget.target in ("", t.name)]
        runtimes = dict.fromkeys(target.runtime for target in held) if budget.metric in APP_METRICS else {}
        return "; ".join(filter(None, (self.app.fault_of(runtime, budget.metric) for runtime in runtimes)))

    def _fault_of_packed(self, budget: Budget) -> str:
        """Why a file that finishes its answers itself has no value for a budget; empty where each has one."""
        named = find_metric(self.task_metric if budget.metric == THE_TASKS else budget.metric, self.judged)
        if named is None or named.output is None:
            return ""
        held = (t for t in (*self.targets, *with_buckets(self.targets)) if budget.target in ("", t.name))
        of = (named.row.drop_of or named.name, self.judged[named.output])
        return next(filter(None, (fault_of_numbers(target, *of, self.judged) for target in held)), "")

    def _fault_place(self, budget: Budget) -> str:
        """Why no device of the recipe can give a value for a budget; empty where one can."""
        place = place_of(budget.metric)
        instead = {"latency_ms": "estimated_latency_ms"}.get(budget.metric, "instructions")
        if self.devices_of(budget):
            return ""
        device = next((d for d in self.devices if budget.device in d.budget_names), None)
        if device is None:
            # One that is not there at all is said elsewhere.
            return "" if budget.device else f"no [[device]] of the recipe gives {budget.metric}"
        if device.name in _x86_hosts(self.devices) and place in ("timed", "emulated"):
            return _outputs_alone(budget.metric, device.name)
        if place == "timed":
            emulated = f"{budget.metric} is measured, and {device.name!r} is emulated"
            return f"{emulated}: use {instead}, or a device that keeps time"
        if place == "emulated":
            return f'{budget.metric} comes from a device with via = "emulator", found {device.via!r}'
        return f"{budget.metric} without a device is the host's: leave out {device.name!r}"

    @property
    def judged(self) -> tuple[Output, ...]:
        """The outputs that files are judged by: those of [[output]] that are kept, else the one that the task means."""
        if self.outputs:
            return tuple(output for output in self.outputs if output.keep)
        own = output_of_task(self.task)
        further = self.metric if self.metric and self.metric not in own.metrics else ""
        if further and (further in metrics_of_role(own.role) or _is_users(further)):
            return (replace(own, metrics=(*own.metrics, further)),)
        return (own,)

    @property
    def task_metric(self) -> str:
        """The metric that the task names: top-1 for classification, mean absolute error for regression; of [[output]]
        the first that is taken, as `OUTPUT.NAME` where there are several."""
        if self.metric:
            own = user_metric(self.metric) if _is_users(self.metric) else None
            return own.name if own else self.metric
        for output in self.judged:
            if output.metric_names:
                return f"{output.name}.{output.metric_names[0]}" if len(self.judged) > 1 else output.metric_names[0]
        return "parity_sqnr_db"

    @property
    def main_row(self) -> Metric:
        """All that is known of `task_metric`."""
        named = find_metric(self.task_metric, self.judged)
        return named.row if named else METRICS[ROLES["logits"].metrics[0]]  # what is unknown is said elsewhere

    def devices_of(self, budget: Budget | Objective) -> list[str]:
        """Names of the devices that a budget holds for, or that give an objective; [""] where it is of no device."""
        if not budget.device and place_of(budget.metric) not in ("timed", "emulated"):
            return [""]
        named = [d for d in self.devices if not budget.device or budget.device in d.budget_names]
        return [d.name for d in named if gives(d, budget.metric)]

    def finetunes(self) -> list[tuple[str, Finetune]]:
        """Every finetune with its place: those of [[compress]], also inside another entry, and those of targets."""
        entries = []
        for index, entry in enumerate(self.compress):
            inner = entry if isinstance(entry, Finetune) else getattr(entry, "finetune", None)
            if inner is not None:
                entries.append((f"compress[{index}]", inner))
        for index, target in enumerate(self.targets):
            if target.quantize.finetune is not None:
                entries.append((f"target[{index}].quantize.finetune", target.quantize.finetune))
        return entries

    def tables_with_files(self) -> Iterator[tuple[str, NamesFiles]]:
        """Every table that may name files of the user's, with its place."""
        yield "model", self.model
        yield "data", self.data
        for index, output in enumerate(self.outputs or self.judged):
            yield f"output[{index}]" if self.outputs else "metric", output
        yield from self.finetunes()
        for index, target in enumerate(self.targets):
            yield f"target[{index}]", target
        for index, device in enumerate(self.devices):
            yield f"device[{index}]", device
        yield "app", self.app

    def named_files(self) -> dict[str, Path]:
        """Place of a key → the file or folder that it names."""
        return {
            f"{where}.{key}": self.resolve(file)
            for where, table in self.tables_with_files()
            for key, file in table.named_files().items()
            if file
        }

    def resolve(self, path: str) -> Path:
        """An absolute path for a path written in the recipe."""
        return Path(os.path.abspath(os.path.join(self.folder, os.path.expanduser(path))))


def _is_users(metric: str) -> bool:
    """Whether it is a user's metric that says which values are better; what does not is said by the rules."""
    try:
        return user_metric(metric) is not None
    except ValueError:
        return False


def _stops_early(entry: Compress | None) -> bool:
    return isinstance(entry, Finetune) and entry.early_stop_epochs > 0


def _x86_hosts(devices: Iterable[Device]) -> set[str]:
    return {d.name for d in devices if isinstance(d, EmulatedDevice) and d.plays_x86}


def _outputs_alone(metric: str, device: str) -> str:
    return (
        f"{metric} of {device!r}: nothing is counted, timed or estimated for an x86 host, only its outputs are compared"
    )
