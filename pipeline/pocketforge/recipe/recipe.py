"""What a user asks for: frozen data, cross-field rules checked where each piece is built.

Paths in a recipe are relative to the recipe's own folder; `Recipe.resolve` makes them absolute.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pocketforge.recipe.compress import Compress, Finetune, PruneUnstructured, Runtime
from pocketforge.recipe.device import (
    EMULATED_METRICS,
    MEASURED_METRICS,
    OUTPUT_METRICS,
    PER_DEVICE_METRICS,
    Device,
    HostDevice,
    budget_names,
    gives,
)
from pocketforge.recipe.names import check_name, positive
from pocketforge.recipe.quantize import CALIBRATED, LEAST_CALIBRATION_SAMPLES, Quantize
from pocketforge.recipe.support import refusal

Layout = Literal["NCHW", "NHWC"]
Task = Literal["classification", "regression"]
TaskMetric = Literal["accuracy_top1", "accuracy_top5", "macro_f1", "mean_absolute_error", "root_mean_square_error"]
BudgetMetric = Literal[
    "size_bytes",
    "gzip_bytes",
    "accuracy_top1",
    "accuracy_drop",
    "metric",
    "parity_sqnr_db",
    "latency_ms",
    "load_ms",
    "peak_rss_bytes",
    "instructions",
    "estimated_cycles",
    "estimated_latency_ms",
    "parameters",
    "macs",
]
HIGHER_IS_BETTER = frozenset({"accuracy_top1", "accuracy_top5", "macro_f1", "parity_sqnr_db"})
CLASSIFICATION_METRICS = frozenset({"accuracy_top1", "accuracy_top5", "macro_f1"})
SHARED_DEFINITIONS = ("torchvision:", "timm:", "transformers:")


def suggest(found: str, known: Iterable[str]) -> str:
    """Words for a misspelt name: the nearest known one, else the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One model input: `shape` with its batch dimension of 1 first, in the PyTorch model's layout."""

    shape: tuple[int, ...]
    name: str = ""
    dtype: Literal["float32", "int32", "int64"] = "float32"

    def __post_init__(self) -> None:
        if not self.shape or self.shape[0] != 1:
            raise ValueError(f"shape must begin with a batch of 1 (files are batch-1), found {list(self.shape)}")
        if min(self.shape) < 1:
            raise ValueError(f"shape must have no empty dimension, found {list(self.shape)}")
        if self.name:
            check_name(self.name, "an input's name")


@dataclass(frozen=True, slots=True)
class Model:
    """Where the model comes from.

    definition: `file.py` (with `build(**args)`), `file.pt2` (a torch.export archive), `torchvision:NAME`,
    `timm:NAME` or `transformers:DIR`. weights: safetensors, or a checkpoint that `torch.load(weights_only=True)` takes.
    """

    definition: str
    weights: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shared = self.definition.startswith(SHARED_DEFINITIONS)
        if not shared and not self.definition.endswith((".py", ".pt2")):
            raise ValueError(
                "definition must be a .py file, a .pt2 file, torchvision:NAME, timm:NAME or transformers:DIR, "
                f"found {self.definition!r}"
            )
        if self.definition.endswith(".pt2") and (self.weights or self.args):
            raise ValueError("a .pt2 definition holds its own weights and arguments: leave out weights and args")
        for name in self.outputs:
            check_name(name, "an output's name")
        try:
            json.dumps(self.args, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"args must be plain strings, numbers, booleans, arrays and tables: {error}") from None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From a raw sample (H×W×C, the source's own range) to the model's input.

    resize: [height, width], bilinear. scale: the raw value that becomes 1.0 (0 leaves values as they are;
    by default the source's own maximum). mean/std: per channel, after scaling. layout: of the model's input.
    """

    resize: tuple[int, ...] = ()
    color: Literal["as_is", "rgb", "grayscale"] = "as_is"
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "NCHW"

    def __post_init__(self) -> None:
        if self.resize and (len(self.resize) != 2 or min(self.resize) < 1):
            raise ValueError(f"resize must be [height, width], found {list(self.resize)}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must be equally long, found {len(self.mean)} and {len(self.std)}")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std must be more than 0, found {list(self.std)}")
        if self.scale is not None and self.scale < 0:
            raise ValueError(f"scale must be 0 (leave as is) or more, found {self.scale}")


@dataclass(frozen=True, slots=True)
class Data:
    """Real samples: `digits`, `cifar10:DIR`, `imagefolder:DIR`, `npz:FILE` or `module.py:function`."""

    source: str
    labels: str = ""
    eval_fraction: float = 0.3
    eval_samples: int = 1000
    calibration_samples: int = 100
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        kind, colon, rest = self.source.partition(":")
        if kind not in ("digits", "cifar10", "imagefolder", "npz") and not kind.endswith(".py"):
            raise ValueError(
                "source must be digits, cifar10:DIR, imagefolder:DIR, npz:FILE or module.py:function, "
                f"found {self.source!r}"
            )
        if kind != "digits" and not (colon and rest):
            raise ValueError(f"source {kind!r} needs a place after a colon, as in {kind}:NAME")
        if not 0 < self.eval_fraction < 1:
            raise ValueError(f"eval_fraction must be between 0 and 1, found {self.eval_fraction}")
        positive(self.eval_samples, "eval_samples")
        positive(self.calibration_samples, "calibration_samples")


@dataclass(frozen=True, slots=True)
class Verify:
    """When a file that loads counts as wrong. Unset limits take the scheme's default (see docs/recipe.md).

    max_diff_ratio: largest absolute difference from the PyTorch reference over the reference's largest magnitude.
    min_graph_sqnr_db: against the quantized graph in PyTorch, not the model before it.
    """

    min_sqnr_db: float | None = None
    max_diff_ratio: float | None = None
    min_argmax_agreement: float | None = None
    max_accuracy_drop: float | None = None
    min_graph_sqnr_db: float | None = None
    tflite_runtime: Literal["report", "require", "skip"] = "report"


@dataclass(frozen=True, slots=True)
class Target:
    """One file to ship: a runtime and how it is quantized. Names are unique in a recipe."""

    name: str
    runtime: Runtime
    quantize: Quantize = Quantize()  # noqa: RUF009 - frozen, so one for all does no harm
    layout: Layout = "NCHW"
    io: Literal["float32", "int8"] = "float32"
    opset: int | None = None
    verify: Verify = Verify()

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if self.layout == "NHWC" and self.runtime != "tflite":
            raise ValueError(f"layout NHWC is for runtime tflite; {self.runtime} files keep the model's NCHW")
        if self.io == "int8" and not self.quantize.is_static:
            raise ValueError(
                f"io int8 needs a static int8 scheme: files of {self.quantize.scheme} take and give float32"
            )
        why = refusal(self.runtime, self.quantize)
        if why:
            raise ValueError(why)
        if self.opset is not None and self.runtime != "onnx":
            raise ValueError(f"opset is for runtime onnx, found runtime {self.runtime!r}")
        if self.opset is not None and not 18 <= self.opset <= 23:
            raise ValueError(f"opset must be 18 to 23 (what the exporter honours), found {self.opset}")
        if self.verify.tflite_runtime == "require" and self.runtime != "tflite":
            raise ValueError(f"verify.tflite_runtime is for runtime tflite, found runtime {self.runtime!r}")


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric: a maximum, or for accuracy, SQNR and F1 a minimum.

    Without `target` it holds for every target. Without `device` it holds for every device that gives the metric; one
    on the outputs (accuracy, SQNR) is then on the host's.
    """

    metric: BudgetMetric
    limit: float
    target: str = ""
    device: str = ""
    percentile: Literal["min", "p50", "p90", "p99"] = "p50"
    severity: Literal["error", "warning"] = "error"

    def __post_init__(self) -> None:
        if self.device and self.metric not in PER_DEVICE_METRICS | OUTPUT_METRICS:
            raise ValueError(f"{self.metric} does not depend on a device: leave out device = {self.device!r}")
        if self.percentile != "p50" and self.metric != "latency_ms":
            raise ValueError(f"percentile is for latency_ms, found metric {self.metric!r}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole build: one model and its data, compressed once, shipped as many targets."""

    name: str
    model: Model
    data: Data
    targets: tuple[Target, ...]
    seed: int = 0
    task: Task = "classification"
    metric: TaskMetric | None = None
    compress: tuple[Compress, ...] = ()
    devices: tuple[Device, ...] = (HostDevice(),)
    budgets: tuple[Budget, ...] = ()
    folder: str = ""

    def __post_init__(self) -> None:
        faults = [*self._fault_names(), *self._fault_task(), *self._fault_compress()]
        faults += [*self._fault_quantize(), *self._fault_budgets()]
        if faults:
            raise ValueError("\n".join(faults))

    def _fault_names(self) -> list[str]:
        faults = []
        try:
            check_name(self.name, "name")
        except ValueError as error:
            faults.append(str(error))
        if not self.targets:
            faults.append("a recipe needs at least one [[target]]")
        if not self.devices:
            faults.append("a recipe needs at least one [[device]] (leave the table out for the host)")
        for what, names in (("target", [t.name for t in self.targets]), ("device", [d.name for d in self.devices])):
            for name in sorted({n for n in names if names.count(n) > 1}):
                faults.append(f"{what} names must be unique, found {name!r} {names.count(name)} times")
        if not 0 <= self.seed < 2**32:
            faults.append(f"seed must be 0 to 2^32 - 1, found {self.seed}")
        return faults

    def _fault_task(self) -> list[str]:
        faults = []
        if self.metric and (self.metric in CLASSIFICATION_METRICS) != (self.task == "classification"):
            faults.append(f"metric {self.metric!r} is not a metric of task {self.task!r}")
        if self.compress and self.model.definition.endswith(".pt2"):
            faults.append("compress: a .pt2 is a traced graph and cannot be changed: give the .py definition")
        return faults

    def _fault_compress(self) -> list[str]:
        faults = []
        changed = False
        for index, entry in enumerate(self.compress):
            where = f"compress[{index}]"
            after = self.compress[index + 1] if index + 1 < len(self.compress) else None
            if isinstance(entry, PruneUnstructured) and entry.schedule == "cubic" and not isinstance(after, Finetune):
                faults.append(f"{where}: schedule cubic prunes during fine-tuning: a finetune must come next")
            elif isinstance(entry, PruneUnstructured) and entry.schedule == "cubic" and _stops_early(after):
                faults.append(
                    f"compress[{index + 1}].early_stop_epochs cannot go with schedule cubic: zeros are added until the "
                    "last epochs, so an earlier one's weights are never sparse enough"
                )
            goal = getattr(entry, "goal", None)
            if goal is not None and goal.emulated:
                known = [d.name for d in self.devices if d.via == "emulator"]
                if goal.device not in known:
                    faults.append(
                        f'{where}.goal.device: no [[device]] with via = "emulator" is named {goal.device!r}'
                        f"{suggest(goal.device, known)}"
                    )
            changed = changed or not isinstance(entry, Finetune)
            for inner in [finetune for place, finetune in self.finetunes() if place == where]:
                faults += self._fault_teacher(inner, where, changed)
        for where, finetune in self.finetunes():
            if self.task != "classification" and (finetune.distill or finetune.label_smoothing):
                faults.append(f"{where}: distill and label_smoothing are for task classification")
        return faults

    def _fault_teacher(self, entry: Finetune, where: str, changed: bool) -> list[str]:
        faults = []
        if entry.distill and entry.distill.teacher is None and not changed:
            faults.append(
                f"{where}.distill: the teacher is the model as it was before [[compress]], and nothing has changed it "
                "yet: prune first, or name another teacher"
            )
        own = self.model.weights or self.model.definition.startswith("transformers:")  # its folder may hold them
        if entry.distill and entry.distill.teacher is None and not own:
            faults.append(f"{where}.distill: the teacher is the recipe's model, which has no model.weights")
        return faults

    def _fault_quantize(self) -> list[str]:
        faults = []
        for index, target in enumerate(self.targets):
            quantize, where = target.quantize, f"target[{index}].quantize"
            if quantize.scheme == "qat_int8" and self.model.definition.endswith(".pt2"):
                faults.append(f"{where}: a .pt2 is a traced graph and cannot be trained: give the .py definition")
            if quantize.scheme in CALIBRATED:
                used = quantize.calibration_samples or self.data.calibration_samples
                if used > self.data.calibration_samples:
                    faults.append(
                        f"{where}.calibration_samples: wanted at most data.calibration_samples "
                        f"({self.data.calibration_samples}), found {used}"
                    )
                elif used < LEAST_CALIBRATION_SAMPLES:
                    faults.append(
                        f"{where}: {quantize.scheme} calibrates on {used} samples, wanted {LEAST_CALIBRATION_SAMPLES} "
                        "or more: ranges of fewer are chance; raise calibration_samples"
                    )
        return faults

    def _fault_budgets(self) -> list[str]:
        faults = []
        for index, budget in enumerate(self.budgets):
            if self.task != "classification" and budget.metric in ("accuracy_top1", "accuracy_drop"):
                faults.append(f"budget[{index}].metric: {budget.metric} needs task classification; use metric")
            for what, name, known in (
                ("target", budget.target, [t.name for t in self.targets]),
                ("device", budget.device, [n for d in self.devices for n in budget_names(d)]),
            ):
                if name and name not in known:
                    faults.append(f"budget[{index}].{what}: no {what} is named {name!r}{suggest(name, known)}")
            faults += self._fault_place(budget, index)
        return faults

    def _fault_place(self, budget: Budget, index: int) -> list[str]:
        """A budget that no device of the recipe can give a value for."""
        wanted = {"latency_ms": "estimated_latency_ms"}.get(budget.metric, "instructions")
        if self.devices_of(budget):
            return []
        device = next((d for d in self.devices if budget.device in budget_names(d)), None)
        if device is None:
            # One that is not there at all is said elsewhere.
            return [] if budget.device else [f"budget[{index}]: no [[device]] of the recipe gives {budget.metric}"]
        if budget.metric in MEASURED_METRICS:
            return [
                f"budget[{index}]: {budget.metric} is measured, and {device.name!r} is emulated: use {wanted}, or a "
                "device that keeps time"
            ]
        if budget.metric in EMULATED_METRICS:
            return [f'budget[{index}]: {budget.metric} comes from a device with via = "emulator", found {device.via!r}']
        return [f"budget[{index}]: {budget.metric} without a device is the host's: leave out {device.name!r}"]

    @property
    def task_metric(self) -> str:
        """The metric that the task names: top-1 for classification, mean absolute error for regression."""
        return self.metric or ("accuracy_top1" if self.task == "classification" else "mean_absolute_error")

    def devices_of(self, budget: Budget) -> list[str]:
        """Names of the devices that a budget holds for; [""] where the metric is of no device."""
        if not budget.device and budget.metric not in PER_DEVICE_METRICS:
            return [""]
        named = [d for d in self.devices if not budget.device or budget.device in budget_names(d)]
        return [d.name for d in named if gives(d, budget.metric)]

    def finetunes(self) -> list[tuple[str, Finetune]]:
        """Every finetune with its place: those of [[compress]], also inside another entry, and those of targets."""
        found = []
        for index, entry in enumerate(self.compress):
            inner = entry if isinstance(entry, Finetune) else getattr(entry, "finetune", None)
            if inner is not None:
                found.append((f"compress[{index}]", inner))
        for index, target in enumerate(self.targets):
            if target.quantize.finetune is not None:
                found.append((f"target[{index}].quantize.finetune", target.quantize.finetune))
        return found

    def resolve(self, path: str) -> Path:
        """An absolute path for a path written in the recipe."""
        return Path(os.path.abspath(os.path.join(self.folder, os.path.expanduser(path))))


def _stops_early(entry: Compress | None) -> bool:
    return isinstance(entry, Finetune) and entry.early_stop_epochs > 0


def data_spec(data: Data, seed: int, task: str) -> dict[str, Any]:
    """What reading, splitting and preprocessing a recipe's data depends on, as plain JSON values."""
    spec = dataclasses.asdict(data)
    # A path; its content is what counts, and goes into keys on its own.
    del spec["labels"]
    if data.preprocess is not None:
        spec["preprocess"] = {k: list(v) if isinstance(v, tuple) else v for k, v in spec["preprocess"].items()}
    return {**spec, "seed": seed, "task": task}
