"""Whether outputs fit the targets and the labels that they are judged by: of a model, and of a file that has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pocketforge.accuracy.score import Judge
from pocketforge.data.official_splits import some
from pocketforge.errors import ModelError
from pocketforge.metrics import Array, last_of_each
from pocketforge.outcomes.data import Sampled


def check_targets(
    task: str, answers: Mapping[str, Array], judge: Judge, data: Sampled, whose: str = "the model"
) -> None:
    """Raises ModelError where a task's first output, or one that has labels, does not fit the targets or the labels.

    answers: output → its values, in the model's order. whose: for errors.
    """
    count = judge.targets.count
    first = last_of_each(next(iter(answers.values())), count)
    if task == "classification":
        check_labels(first, np.asarray(judge.targets.batch("label", 0, count)), data.labels, whose)
    elif task == "regression":
        targets = np.asarray(judge.targets.batch("value", 0, count))
        if first.reshape(count, -1).shape != targets.reshape(count, -1).shape:
            raise ModelError(f"the output of {whose} has shape {first.shape[1:]}, the targets have {targets.shape[1:]}")
    else:
        _check_names(answers, judge, data.labels, whose)


def _check_names(outputs: Mapping[str, Array], judge: Judge, labels: Sequence[str], whose: str) -> None:
    """Raises ModelError where the output whose classes the labels name has another number of classes."""
    for output in judge.outputs:
        values = outputs[output.name]
        if output.name != judge.labelled or not labels or values.dtype.kind != "f":
            continue
        axis = {"logits": 1, "multilabel": 1, "tokens": 2, "segmentation": 1}.get(output.role)
        classes = values.shape[axis] if axis is not None and values.ndim > axis else 0
        if classes > 1 and classes != len(labels):
            raise ModelError(
                f"output {output.name!r} of {whose} (role {output.role}) has {classes} classes, there are "
                f"{len(labels)} labels",
                "fix data.labels (they are of the first output that has classes), or build the model with that many",
            )


# What all three runtimes give.
OUTPUT_DTYPES = ("float32", "int64", "int32", "uint8", "bool")


def check_answers(names: list[str], outputs: Sequence[Array]) -> None:
    """Raises ModelError for an output that no file can have, or that is not finite."""
    for name, array in zip(names, outputs, strict=True):
        whose = "the model" if len(names) == 1 else f"output {name!r} of the model"
        if str(array.dtype) not in OUTPUT_DTYPES:
            raise ModelError(
                f"{whose} answers {array.dtype}; files can hold {', '.join(OUTPUT_DTYPES)}",
                "convert it in forward(), e.g. .float()",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"{whose} answers NaN or infinity on real samples", "check its weights and the preprocessing"
            )


def check_labels(outputs: Array, targets: Array, labels: Sequence[str], whose: str = "the model") -> None:
    """Raises ModelError when a model or a file has another number of classes than there are labels."""
    classes = int(np.prod(outputs.shape[1:]))
    if outputs.ndim != 2:
        raise ModelError(
            f"a classifier's output must be [1, classes], found {[1, *outputs.shape[1:]]}",
            'name the model\'s task: task = "regression"',
        )
    if labels and len(labels) != classes:
        raise ModelError(
            f"{whose} has {classes} outputs, there are {len(labels)} labels ({', '.join(some(labels))})",
            "fix data.labels, or build the model with that many classes (model.args)",
        )
    if int(targets.max()) >= classes:
        one = 'one output for real numbers is task = "regression", for yes or no [[output]] role = "binary"'
        raise ModelError(
            f"{whose} has {classes} outputs, the data has a label {int(targets.max())}",
            one if classes == 1 else "build the model with as many classes (model.args), or correct the labels",
        )
