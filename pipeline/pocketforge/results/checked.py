"""What `pocketforge check` finds out about a model and its data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pocketforge.outcomes import files
from pocketforge.outcomes.annotate import Annotated, AnnotatedPart
from pocketforge.outcomes.data import Sampled
from pocketforge.outcomes.recurrent import MOST_IN_FLOAT, refusal
from pocketforge.outcomes.reference import Reference
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.registries import RUNTIMES, RuntimeInfo


@dataclass(frozen=True, slots=True)
class TargetNumbers:
    """What a target's file will compute in, as far as its quantizer says it before calibration.

    Attributes:
        target: Its name.
        runtime: Its runtime.
        scheme: Its scheme.
        annotated: Layers and operations, in int8 or in float by what the runtime has kernels for.
    """

    target: str
    runtime: str
    scheme: str
    annotated: Annotated

    @property
    def layers(self) -> list[AnnotatedPart]:
        """What has weights."""
        return [part for part in self.annotated.parts if not part.operation]

    @property
    def operations(self) -> list[AnnotatedPart]:
        """What is computed between layers."""
        return [part for part in self.annotated.parts if part.operation]

    @property
    def left_float(self) -> list[AnnotatedPart]:
        """Layers and operations that are computed in float."""
        return [part for part in self.annotated.parts if part.numbers == "float"]


def in_runtime(annotated: Annotated, runtime: str) -> Annotated:
    """An operation whose inputs and output have levels is int8 where the runtime computes it so, one whose inputs have
    them where it keeps those, else float."""
    info = RUNTIMES[runtime]
    annotated = _with_kernels(annotated, info)
    if info.int8_operations is None:  # nobody says more than that levels are on both sides
        known = tuple(
            dataclasses.replace(part, numbers="float") if part.numbers in ("through", "behind") else part
            for part in annotated.parts
        )
        return dataclasses.replace(annotated, parts=known)
    kernels = {"int8": info.int8_operations, "between": info.int8_operations, "behind": info.keeps_levels}
    if info.keeps_levels:
        kernels["through"] = info.int8_operations
    in_int8 = {""}
    for part in annotated.parts:  # in the graph's order
        if part.operation and part.made_by in in_int8 and part.is_of(kernels.get(part.numbers, frozenset())):
            in_int8.add(part.name)
    parts = tuple(
        dataclasses.replace(part, numbers="int8" if part.name in in_int8 else "float") if part.operation else part
        for part in annotated.parts
    )
    return dataclasses.replace(annotated, parts=parts)


def _with_kernels(annotated: Annotated, info: RuntimeInfo) -> Annotated:
    """Dynamic layers that the runtime has no kernel for stay float; a build refuses a model that is mostly of them."""
    lost = [
        part
        for part in annotated.parts
        if part.numbers == "dynamic_int8" and not part.operation and part.kind not in info.dynamic_layers
    ]
    if not lost:
        return annotated
    parts = tuple(dataclasses.replace(part, numbers="float") if part in lost else part for part in annotated.parts)
    layers = [part for part in parts if not part.operation]
    share = sum(part.weights for part in lost) / max(1, sum(part.weights for part in layers))
    if share <= MOST_IN_FLOAT and any(part.numbers != "float" for part in layers):
        return dataclasses.replace(annotated, parts=parts)
    labels = [f"{part.kind} ({part.name})" for part in lost]
    refused, hint = refusal("dynamic_int8", share, labels, info.title)
    return Annotated((), annotated.concats, refused, hint)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A model file made elsewhere that its runtime loads and that the samples fit.

    Attributes:
        target: Its name.
        file: The file's own.
        scheme: A name of SCHEMES, by what it holds.
        inputs: What it takes.
        outputs: What it gives.
        against: What it will be held against, in words; empty for nothing.
        warnings: What a user should know of the samples that it gets, in words.
    """

    target: str
    file: str
    scheme: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    against: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe whose data were read and whose model ran.

    Attributes:
        sampled: Which samples the data gives a build.
        reference: What the model is, and how good; None of a recipe of files made elsewhere that has none.
        data: What the data's folders and files were taken as, in words.
        targets: Names of the recipe's targets.
        losses: What each output is trained by, in words, where the recipe trains outputs with roles.
        numbers: Of those that compute in integers, in the recipe's order.
        warnings: What a user should know before anything is trained, in words.
        files: Model files made elsewhere.
    """

    sampled: Sampled
    reference: Reference | None
    data: tuple[str, ...]
    targets: tuple[str, ...]
    losses: tuple[str, ...] = ()
    numbers: tuple[TargetNumbers, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[CheckedFile, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """Targets that a build would refuse."""
        return tuple(each.target for each in self.numbers if each.annotated.refused)

    def to_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "samples": files.to_json(self.sampled.counts),
            "labels": len(self.sampled.labels),
            "data": self.data,
            **(_of_model(self.reference) if self.reference else {}),
            "targets": self.targets,
            **({"refused": self.refused} if self.refused else {}),
            **({"losses": self.losses} if self.losses else {}),
            **({"warnings": self.warnings} if self.warnings else {}),
            **({"files": files.to_json(self.files)} if self.files else {}),
            "numbers": {
                each.target: {
                    "runtime": each.runtime,
                    "scheme": each.scheme,
                    **files.to_json(each.annotated),
                }
                for each in self.numbers
            },
        }


def _of_model(model: Reference) -> dict[str, object]:
    return {
        "evaluated": model.eval_samples,
        "inputs": files.to_json(model.inputs),
        "outputs": files.to_json(model.outputs),
        "parameters": model.parameters,
        "macs": model.macs,
        **({"weights": files.to_json(model.weights)} if model.weights else {}),
        "accuracy": {name: round(value, 6) for name, value in model.accuracy.items()},
    }
