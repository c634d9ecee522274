"""What the zoo's nets are for. Samples are real and ship with scikit-learn: its scanned digits, its two photographs,
the pages about its data sets, its diabetes table (samples*.py)."""

from __future__ import annotations

from zoo.entries import Task

# Calibration is by as many samples as a recipe has that does not say it, but for WAVES.
_COUNTS = "eval_samples = 64\n"
_IMAGE = "\n[data.preprocess]\nmean = [0.5]\nstd = [0.5]\n"
_IDS = "".join(f'\n[[model.input]]\nname = "{name}"\nshape = [1, 32]\ndtype = "int64"\n' for name in ("ids", "mask"))


def _of(function: str, after: str = "", file: str = "samples") -> str:
    """`[data]` with samples of a function, and what comes after it."""
    return f'\n[data]\nsource = "{{folder}}/{file}.py:{function}"\n{_COUNTS}{after}'


def _output(role: str, more: str = "", name: str = "") -> str:
    return "\n[[output]]\n" + (f'name = "{name}"\n' if name else "") + f'role = "{role}"\n{more}'


# Of 64 samples one is 1.6 %, and the limit on what 8 bits may lose 2 %.
DIGITS = Task(
    "digits",
    """
[data]
source = "digits"
eval_samples = 256
[data.preprocess]
resize = [{size}, {size}]
color = "rgb"
scale = 16.0
mean = [0.5]
std = [0.5]
""",
    "accuracy_top1",
    "cross_entropy",
)
MASKS = Task("masks", _of("masks", _IMAGE) + _output("segmentation", 'metrics = ["miou"]\n'), "miou", "pixels")
BOXES = Task(
    "boxes",
    _of("boxes", _IMAGE) + _output("boxes", 'metrics = ["map_50"]\n', name="boxes") + _output("scores", name="scores"),
    "map_50",
    "detection",
)
HEAD = Task(
    "boxes",
    _of("boxes", _IMAGE)
    + _output("boxes", 'metrics = ["map_50"]\npost = { type = "nms", head = "columns", format = "cxcywh" }\n'),
    "map_50",
    "yolo",
)
HEATMAPS = Task("keypoints", _of("keypoints", _IMAGE) + _output("heatmap", 'metrics = ["pck"]\n'), "pck", "peaks")
KEYPOINTS = Task("keypoints", _of("keypoints", _IMAGE) + _output("keypoints", 'metrics = ["pck"]\n'), "pck", "points")
_PLAIN = "\n[data.preprocess]\n"
_PSNR = 'metrics = ["psnr_db"]\n'
LARGER = Task("super-resolution", _of("halved", _PLAIN) + _output("image", _PSNR), "psnr_db", "pictures")
CLEANER = Task("denoising", _of("noisy", _PLAIN) + _output("image", _PSNR), "psnr_db", "pictures")
ITSELF = Task("reconstruction", _of("ink") + _output("image", _PSNR), "psnr_db", "pictures")
PAGES = Task("which page", _IDS + _of("pages", file="samples_words"), "accuracy_top1", "cross_entropy")
LETTERS = Task(
    "capitals",
    _IDS + _of("letters", file="samples_words") + _output("tokens", 'metrics = ["token_accuracy"]\n'),
    "token_accuracy",
    "tags",
)
ROWS = Task("digits, row by row", _of("rows"), "accuracy_top1", "cross_entropy")
WINDOWS = Task("windows of three signals", _of("windows", file="samples_signals"), "accuracy_top1", "cross_entropy")
# Few waves lie far out: calibrated on 100 samples DS-CNN's scores are cut off, and its build says to write this line.
WAVES = Task(
    "waves",
    _of("waves", "calibration_samples = 250\n", file="samples_signals"),
    "accuracy_top1",
    "cross_entropy",
)
CLEAN_WAVES = Task(
    "denoising of waves",
    _of("noisy_waves", file="samples_signals") + _output("waveform", 'metrics = ["si_sdr_db"]\n'),
    "si_sdr_db",
    "waves",
)
PAIRS = Task(
    "same digit",
    _of("pairs") + _output("binary", 'metrics = ["binary_accuracy"]\npost = "sigmoid"\n'),
    "binary_accuracy",
    "one_logit",
)
NEAR = Task("embedding", _of("numbers") + _output("embedding", 'metrics = ["recall_at_1"]\n'), "recall_at_1", "near")
TRAITS = Task(
    "traits of digits",
    _of("traits") + _output("multilabel", 'metrics = ["micro_f1"]\npost = "sigmoid"\n'),
    "micro_f1",
    "labels",
)
DIABETES = Task("diabetes", _of("diabetes"), "r2", "values", top='task = "regression"\nmetric = "r2"\n')
