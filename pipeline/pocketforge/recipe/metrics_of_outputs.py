"""The metrics that outputs have by their roles, and each one's drop against the PyTorch model."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pocketforge.recipe.metric import Metric, Task
from pocketforge.recipe.ranges import DECIBELS, SHARE_BELOW_ONE, Range

_SCORE = Range(0, 1, open_low=True, share=True)
_ERROR = Range(0, 1e30, open_low=True)
_CORRELATION = Range(-1, 1)
_LOSS = Range(0, 1e30)


def _share(title: str, *roles: str, task: Task = "", column: bool = False) -> Metric:
    """A ratio of counts, of which more is better."""
    return Metric(
        "", "higher", "outputs", title, ".4f", _SCORE, task, roles, counted=True, of_task=True, column=column
    )  # fmt: skip


def _rate(title: str, *roles: str) -> Metric:
    """A ratio of counts, of which less is better."""
    return Metric("", "lower", "outputs", title, ".4f", _ERROR, "", roles, counted=True, of_task=True, column=True)


def _real(title: str, *roles: str, limits: Range = _SCORE, column: bool = False) -> Metric:
    """A mean of real values, of which more is better."""
    return Metric("", "higher", "outputs", title, ".4f", limits, "", roles, of_task=True, column=column)


def _error(title: str) -> Metric:
    return Metric(
        "", "lower", "outputs", title, ".4g", _ERROR, "regression", ("regression",), of_task=True, column=True
    )  # fmt: skip


def _decibels(title: str, role: str) -> Metric:
    return Metric("dB", "higher", "outputs", title, ".2f", DECIBELS, "", (role,), of_task=True, column=True)


_LABELLED = ("logits", "multilabel", "tokens")
_RANKED = ("logits", "multilabel", "binary")
_VALUES: Final[dict[str, Metric]] = {
    "accuracy_top1": _share("top-1", "logits", task="classification", column=True),
    "accuracy_top5": _share("top-5", "logits", task="classification"),
    "macro_f1": _share("F1", *_LABELLED),
    "micro_f1": _share("micro F1", *_LABELLED),
    "f1_worst_class": _share("worst F1", *_LABELLED),
    "auroc": _share("AUROC", *_RANKED),
    "average_precision": _share("AP", *_RANKED),
    "exact_match": _share("all labels", "multilabel"),
    "binary_accuracy": _share("accuracy", "binary", column=True),
    "binary_f1": _share("F1", "binary"),
    "eer": _rate("EER", "binary", "embedding"),
    "mean_absolute_error": _error("MAE"),
    "root_mean_square_error": _error("RMSE"),
    "r2": replace(_real("R²", "regression", limits=_CORRELATION, column=True), task="regression"),
    "correlation": replace(_real("r", "regression", limits=_CORRELATION), task="regression"),
    "spearman": _real("Spearman", "regression", limits=_CORRELATION),
    "cosine": _real("cosine", "embedding", "regression", limits=_CORRELATION),
    "miou": _share("mIoU", "segmentation", column=True),
    "dice": _share("Dice", "segmentation"),
    "iou_worst_class": _share("worst IoU", "segmentation"),
    "pixel_accuracy": _share("pixels", "segmentation"),
    "map": _real("mAP", "boxes", column=True),
    "map_50": _real("mAP@.5", "boxes"),
    "map_75": _real("mAP@.75", "boxes"),
    "mar_100": _real("mAR@100", "boxes"),
    "pck": _share("PCK", "keypoints", "heatmap", column=True),
    "oks": _real("OKS", "keypoints", "heatmap"),
    "recall_at_1": _share("recall@1", "embedding", column=True),
    "recall_at_5": _share("recall@5", "embedding"),
    "recall_at_10": _share("recall@10", "embedding"),
    "token_accuracy": _share("tags", "tokens", column=True),
    "wer": _rate("WER", "sequence"),
    "cer": _rate("CER", "sequence"),
    "psnr_db": _decibels("PSNR dB", "image"),
    "ssim": _real("SSIM", "image", limits=_CORRELATION, column=True),
    "si_sdr_db": _decibels("SI-SDR dB", "waveform"),
    "snr_db": _decibels("SNR dB", "waveform"),
}


def drop_name(metric: str) -> str:
    """The name of a metric's drop: the unit stays last."""
    return f"{metric.removesuffix('_db')}_drop_db" if metric.endswith("_db") else f"{metric}_drop"


def _drop(name: str, metric: Metric) -> Metric:
    """How much worse than the PyTorch model a file is, in the metric's unit."""
    is_share = metric.limits is _SCORE
    return replace(
        metric,
        better="lower",
        title=f"{metric.title} drop",
        form=f"+{metric.form}",
        limits=SHARE_BELOW_ONE if is_share else _LOSS,
        of_task=False,
        column=False,
        drop_of=name,
    )


# Metric → its row, and each one's drop.
ROWS: Final[dict[str, Metric]] = {
    **_VALUES,
    **{drop_name(name): _drop(name, metric) for name, metric in _VALUES.items()},
}


def metrics_of_role(role: str) -> tuple[str, ...]:
    """Names of ours that an output of a role can be held to, without drops."""
    return tuple(name for name, metric in _VALUES.items() if role in metric.roles)
