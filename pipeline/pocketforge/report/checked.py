"""What `check` found, in words."""

from __future__ import annotations

from collections.abc import Sequence

from pocketforge.outcomes.data import Counts
from pocketforge.outcomes.reference import ModelTensor
from pocketforge.report.tables import console, weights_lines
from pocketforge.results.checked import Checked


def show_check(checked: Checked) -> None:
    """A line for each thing that was found out."""
    model, counts = checked.reference, checked.sampled.counts
    weights = "".join(weights_lines(model.weights)).removeprefix("weights ")
    lines = {
        "samples": _samples(counts),
        "labels": f"{len(checked.sampled.labels)}",
        "parameters": f"{model.parameters:,}",
        "MACs": f"{model.macs:,}",
        **({"data": "; ".join(checked.data)} if checked.data else {}),
        "inputs": _tensors(model.inputs),
        "outputs": _tensors(model.outputs),
        **({"weights": weights} if weights else {}),
        **{metric: f"{value:.4f}{_of(model.eval_samples, counts)}" for metric, value in model.accuracy.items()},
        "targets": ", ".join(checked.targets),
        **({"losses": ", ".join(checked.losses)} if checked.losses else {}),
    }
    screen = console()
    for name, text in lines.items():
        screen.print(f"  {name:<16} {text}")


def _samples(counts: Counts) -> str:
    dropped = f", {counts.duplicates_dropped} duplicates dropped" if counts.duplicates_dropped else ""
    splits = f"{counts.train} train, {counts.eval} eval, {counts.calibration} calibration"
    return f"{counts.source} in the source: {splits}{dropped}"


def _of(evaluated: int, counts: Counts) -> str:
    """On which samples a figure is, where a build takes more."""
    return f" on {evaluated:,} of the eval samples; a build takes all" if evaluated < counts.eval else ""


def _tensors(tensors: Sequence[ModelTensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
