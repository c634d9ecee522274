"""`[training]`: on which processor models are trained, and what only a GPU can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pocketforge.recipe.compress import Finetune
from pocketforge.recipe.faults import Fault
from pocketforge.recipe.target import Target


@dataclass(frozen=True, slots=True)
class Training:
    """Table `[training]`: of every finetune of [[compress]] and of qat_int8, with their teachers.

    Attributes:
        device: `cpu`; `cuda`, NVIDIA's GPUs, or an error where there is none; `auto`: those where they are, else the
            CPU. Which it was is in the step's key.
    """

    device: Literal["cpu", "auto", "cuda"] = "cpu"


def gpus_in_words(gpus: Sequence[str], processes: int) -> str:
    """Where so many processes train, as keys and reports have it. gpus: each in words; none: it is the CPU, empty."""
    return " + ".join(dict.fromkeys(gpus[:processes]))


def places_of_training(finetunes: Iterable[tuple[str, Finetune]], targets: Sequence[Target]) -> dict[str, Finetune]:
    """Place in the recipe → what is trained where `training.device` says: all but the values of a codebook."""
    found = {place: entry for place, entry in finetunes if not _of_codebook(place, targets)}
    for index, target in enumerate(targets):
        if target.quantize.info.is_trained:  # also without a table of its own
            found[f"target[{index}].quantize.finetune"] = target.quantize.settings
    return found


def faults_of_precision(
    training: Training, finetunes: Iterable[tuple[str, Finetune]], targets: Sequence[Target]
) -> Iterator[Fault]:
    """fp16 where there is surely no GPU: its gradients are scaled by what accelerate has for GPUs alone."""
    for place, entry in finetunes:
        if entry.precision != "fp16":
            continue
        if _of_codebook(place, targets):
            yield Fault(
                '"fp16" is for GPUs, and a codebook is trained on the CPU: "bf16" or "fp32"', f"{place}.precision"
            )
        elif training.device == "cpu":
            yield Fault(
                '"fp16" is for GPUs, and training.device is "cpu": device = "auto" or "cuda", or precision "bf16"',
                f"{place}.precision",
            )


def _of_codebook(place: str, targets: Sequence[Target]) -> bool:
    where = {f"target[{index}].quantize.finetune" for index, each in enumerate(targets) if not _trains(each)}
    return place in where


def _trains(target: Target) -> bool:
    return bool(target.quantize.info.is_trained)
