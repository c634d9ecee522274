"""What outputs with roles learn from a teacher's outputs of the same names.

Scores of classes by T² × KL(teacher ‖ student), softened by the temperature T (Hinton et al. 2015), at each pixel,
token or time step; scores of labels that hold or not by the same over each one's two outcomes; numbers, places and maps
by their mean square difference; embeddings by 1 - cosine. Weights are those of the outputs' losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pocketforge.errors import ModelError
from pocketforge.recipe.output import Output
from pocketforge.training.batches import NamedTargets

_HINT = "distillation compares outputs of one name and shape: both models must be built for the same targets"


@dataclass(frozen=True, slots=True)
class RoleTeaching:
    """How far a student is from its teacher.

    Attributes:
        learning: The recipe's outputs that learn, each with its name.
        temperature: T.
    """

    learning: tuple[Output, ...]
    temperature: float

    def check(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """Raises ModelError where the teacher lacks an output, or gives it in another shape."""
        for output in self.learning:
            name = output.name
            if name not in teacher:
                listed = ", ".join(teacher)
                raise ModelError(f"the teacher has no output {name!r}, it has {listed}", _HINT)
            shapes = [list(answer[name].shape) for answer in (teacher, student)]
            if shapes[0] != shapes[1]:
                raise ModelError(f"output {name!r}: the teacher answers {shapes[0]}, the student {shapes[1]}", _HINT)

    def divergence(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], targets: NamedTargets) -> Tensor:
        """The weighted sum over the outputs, each the mean over what it holds."""
        found = [
            output.loss.weight * self._of(output, student[output.name], teacher[output.name], targets)
            for output in self.learning
        ]
        return torch.stack(found).sum()

    def _of(self, output: Output, student: Tensor, teacher: Tensor, targets: NamedTargets) -> Tensor:
        shares = output.processed == "none" and output.role in ("multilabel", "binary", "scores")
        of_one = output.role == "segmentation" and student.ndim > 3 and student.shape[1] == 1
        if shares or output.role in ("regression", "boxes", "keypoints", "heatmap", "image", "waveform"):
            return functional.mse_loss(student, teacher)
        if output.role == "embedding":
            return (1 - functional.cosine_similarity(student.flatten(1), teacher.flatten(1), dim=1)).mean()
        if output.role in ("multilabel", "binary") or output.processed == "sigmoid" or of_one:
            # Whether it holds, or not: the sigmoid is the softmax of a score and 0.
            student, teacher = (torch.stack([each, torch.zeros_like(each)], -1) for each in (student, teacher))
            return self._softened(student, teacher)
        if output.role == "segmentation":
            axis = _class_axis(student, targets, output)
            return self._softened(student.movedim(axis, -1), teacher.movedim(axis, -1))
        return self._softened(*(as_scores(output, each) for each in (student, teacher)))

    def _softened(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T² × KL; the last axis holds the classes, the mean is over all others."""
        rows = [each.reshape(-1, each.shape[-1]) / self.temperature for each in (student, teacher)]
        learned, soft = (functional.log_softmax(each, 1) for each in rows)
        return functional.kl_div(learned, soft, reduction="batchmean", log_target=True) * self.temperature**2


def as_scores(output: Output, values: Tensor) -> Tensor:
    """What a softmax makes shares of: the logarithm of an output that the recipe says holds shares of classes."""
    if output.role == "logits" and output.post.type == "none":
        return values.clamp(min=torch.finfo(values.dtype).tiny).log()
    return values


def _class_axis(scores: Tensor, targets: NamedTargets, output: Output) -> int:
    """1, or the last where the masks say that the other two are the places."""
    column = targets.columns.get(output.held_against, ())
    first = column[0] if column else None
    if isinstance(first, Tensor) and scores.ndim == 4:
        places = tuple(first.shape)
        if tuple(scores.shape[1:3]) == places != tuple(scores.shape[2:]):
            return 3
    return 1
