"""What an output of a model is for: which target it is held against, by which metrics, and in which form.

ROLES is the one place of a role. Metrics' own rows (metrics_of_outputs.py) say which roles have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pocketforge.recipe.output_loss import LossName

RoleName = Literal[
    "logits",
    "multilabel",
    "binary",
    "regression",
    "segmentation",
    "boxes",
    "scores",
    "classes",
    "count",
    "keypoints",
    "heatmap",
    "embedding",
    "tokens",
    "sequence",
    "image",
    "waveform",
    "state",
]
# Of the samples' targets, by their standard names (docs/outputs.md says the shape and the type of each).
TargetName = Literal[
    "label", "labels", "mask", "boxes", "keypoints", "tags", "text", "image", "waveform", "value"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Role:
    """All that is known of one role.

    Attributes:
        about: What an output of it holds, in words, with its shape (batch 1 first).
        targets: Kinds of targets that it can be held against, the usual one first; empty where there is none to hold.
        metrics: Taken where the recipe names none; empty where another output's role takes them.
        posts: Post-processing that it can have, the default first; a user's `file.py:function` can stand for any.
        losses: What it can be trained by, the default first; a user's `file.py:function` can stand for any.
        untrained: Why there is no default among them, in words; empty where there is one.
        page: Of the documentation, about the task that such an output is for.
    """

    about: str
    targets: tuple[TargetName, ...] = ()
    metrics: tuple[str, ...] = ()
    posts: tuple[str, ...] = ("none",)
    losses: tuple[LossName, ...] = ()
    untrained: str = ""
    page: str = "outputs"


ROLES: Final[dict[RoleName, Role]] = {
    "logits": Role(
        "scores of classes that exclude each other, [1, classes]",
        ("label",),
        ("accuracy_top1", "accuracy_top5", "macro_f1"),
        ("none", "softmax"),
        losses=("cross_entropy", "focal"),
        page="classification",
    ),
    "multilabel": Role(
        "a score for each label, of which any number may hold, [1, labels]",
        ("labels",),
        ("macro_f1", "micro_f1", "average_precision"),
        ("sigmoid", "none"),
        losses=("bce", "focal"),
        page="classification",
    ),
    "binary": Role(
        "one score: whether something holds, [1] or [1, 1]",
        ("label",),
        ("binary_accuracy", "binary_f1", "auroc"),
        ("sigmoid", "none"),
        losses=("bce", "focal"),
        page="classification",
    ),
    "regression": Role(
        "real numbers, [1, …]",
        ("value",),
        ("mean_absolute_error", "root_mean_square_error", "r2", "correlation"),
        losses=("mse", "l1", "smooth_l1"),
        page="regression",
    ),
    "segmentation": Role(
        "scores of each class for each pixel, [1, classes, H, W] (one class: of what is not background), or class "
        "numbers, [1, H, W]",
        ("mask",),
        ("miou", "dice", "pixel_accuracy"),
        ("argmax", "sigmoid", "none"),
        losses=("cross_entropy", "focal", "bce"),
        page="segmentation",
    ),
    "boxes": Role(
        "corners or centres of boxes, [1, n, 4], or a detector's one head of boxes and scores",
        ("boxes",),
        ("map", "map_50", "map_75"),
        ("none", "nms"),
        losses=("smooth_l1", "l1", "mse"),
        untrained="which of its boxes answers which target is the detector's own matching",
        page="detection",
    ),
    "scores": Role(
        "how sure each box is, [1, n], or of each class, [1, n, classes]",
        posts=("none", "sigmoid", "softmax"),
        untrained="its targets follow from the matching of its boxes",
        page="detection",
    ),
    "classes": Role(
        "the class number of each box, [1, n]", untrained="class numbers have no gradient", page="detection"
    ),
    "count": Role(
        "how many boxes a detector found, [1]: compared with PyTorch's and judged by no target",
        untrained="it is held against no target",
        page="detection",
    ),
    "keypoints": Role(
        "places in pixels of the model's input, [1, K, 2] or [1, K, 3] with how sure each is",
        ("keypoints",),
        ("pck", "oks"),
        losses=("smooth_l1", "l1", "mse"),
        page="keypoints",
    ),
    "heatmap": Role(
        "a map for each keypoint whose peak is its place, [1, K, h, w]",
        ("keypoints",),
        ("pck", "oks"),
        ("peak",),
        losses=("mse", "l1", "smooth_l1"),
        page="keypoints",
    ),
    "embedding": Role(
        "a vector that is near to those of the same label, [1, n]",
        ("label", "value"),
        ("recall_at_1", "recall_at_5", "eer"),
        ("none", "normalize"),
        losses=("cosine",),
        page="embedding",
    ),
    "tokens": Role(
        "scores of each tag for each token, [1, T, tags]",
        ("tags",),
        ("token_accuracy", "macro_f1", "micro_f1"),
        losses=("cross_entropy", "focal"),
        page="tagging",
    ),
    "sequence": Role(
        "scores of each letter for each time step, [1, T, letters]",
        ("text",),
        ("wer", "cer"),
        ("ctc_greedy",),
        losses=("ctc",),
        page="speech",
    ),
    "image": Role(
        "an image, [1, C, H, W] or [1, H, W, C]",
        ("image",),
        ("psnr_db", "ssim"),
        ("none",),
        ("l1", "mse", "smooth_l1"),
        page="images",
    ),
    "waveform": Role(
        "sound, [1, T] or [1, 1, T]",
        ("waveform",),
        ("si_sdr_db", "snr_db"),
        ("none",),
        ("l1", "mse", "smooth_l1"),
        page="speech",
    ),
    "state": Role(
        "what goes into the next call's input: compared with PyTorch's and judged by no target",
        untrained="it is held against no target",
        page="streaming",
    ),
}


def page_of(role: str) -> str:
    """What to read about a role, for a hint."""
    return f"pocketforge docs {ROLES[role].page}" if role in ROLES else "pocketforge docs outputs"


# Whose outputs together are one detector; the metrics are those of its boxes.
DETECTION: Final = frozenset({"boxes", "scores", "classes"})
