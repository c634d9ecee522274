"""What steps read that judge outputs: the user's metrics and post-processing, and the libraries of metrics."""

from __future__ import annotations

from pocketforge.plan.roles import judging_role
from pocketforge.recipe import Recipe

# Role → distributions that its metrics are taken with, beside NumPy.
LIBRARIES = {
    "boxes": ("faster-coco-eval",),
    "image": ("torch", "torchmetrics"),
    "waveform": ("torch", "torchmetrics"),
    "sequence": ("torch", "torchmetrics"),
    "regression": ("scipy",),
    "segmentation": ("torch",),
}


def judging_reads(recipe: Recipe) -> tuple[str, ...]:
    """Roles of the user's files."""
    files = {file for output in recipe.judged for file in output.judging_files().values()}
    return tuple(judging_role(file) for file in sorted(files))


def judging_libraries(recipe: Recipe) -> tuple[str, ...]:
    """Distributions whose versions figures depend on; none for a task's own metrics, which need NumPy alone."""
    outputs = [output for output in recipe.judged if recipe.task == "outputs" or "spearman" in output.metric_names]
    return tuple(dict.fromkeys(name for output in outputs for name in LIBRARIES.get(output.role, ())))
