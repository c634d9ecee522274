"""What `check` found, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketforge.outcomes.data import Counts
from pocketforge.outcomes.reference import ModelTensor, Reference
from pocketforge.report.tables import console, told, weights_lines
from pocketforge.results.checked import Checked, TargetNumbers
from pocketforge.results.concats import concat_lines

# So many names of what stays float are told unasked.
_NAMED = 8


def show_check(checked: Checked, *, verbose: bool = False) -> None:
    """A line for each thing that was found out; verbose: all layers and operations of each int8 target."""
    model, counts = checked.reference, checked.sampled.counts
    lines = {
        "samples": _samples(counts),
        "labels": f"{len(checked.sampled.labels)}",
        **({"data": "; ".join(checked.data)} if checked.data else {}),
        **(_of_model(model, counts) if model else {}),
        "targets": ", ".join(checked.targets),
        **({"losses": ", ".join(checked.losses)} if checked.losses else {}),
    }
    screen = console()
    for name, text in lines.items():
        screen.print(f"  {name:<16} {text}")
    for numbers in checked.numbers:
        screen.print(f"  {numbers.target:<16} {_summary(numbers)}")
        for text in _details(numbers, verbose=verbose):
            screen.print(f"  {'':<16} {text}")
    for file in checked.files:
        against = f"; to be held against {file.against}" if file.against else ""
        takes, gives = (", ".join(map(str, side)) for side in (file.inputs, file.outputs))
        screen.print(f"  {file.target:<16} {file.file}, {file.scheme}: {takes} → {gives}{against}")
    for warning in (*checked.warnings, *(f"{each.target}: {text}" for each in checked.files for text in each.warnings)):
        told(screen, "warning", "yellow", warning)


def _of_model(model: Reference, counts: Counts) -> dict[str, str]:
    weights = "".join(weights_lines(model.weights)).removeprefix("weights ")
    return {
        **({"parameters": f"{model.parameters:,}"} if model.parameters is not None else {}),
        **({"MACs": f"{model.macs:,}"} if model.macs is not None else {}),
        "inputs": _tensors(model.inputs),
        "outputs": _tensors(model.outputs),
        **({"weights": weights} if weights else {}),
        **{metric: f"{value:.4f}{_of(model.eval_samples, counts)}" for metric, value in model.accuracy.items()},
    }


def _summary(numbers: TargetNumbers) -> str:
    if numbers.annotated.refused:
        return f"refused: {numbers.annotated.refused}"
    layers, operations = numbers.layers, numbers.operations
    inside = [layer for layer in layers if layer.numbers != "float"]
    weights = sum(layer.weights for layer in layers)
    share = sum(layer.weights for layer in inside) / weights if weights else 0.0
    done = sum(operation.numbers != "float" for operation in operations)
    return (
        f"{numbers.scheme}, {numbers.runtime}: {len(inside)} of {len(layers)} layers in int8 ({share:.1%} of their "
        f"weights), {done} of {len(operations)} operations"
    )


def _details(numbers: TargetNumbers, *, verbose: bool) -> Iterator[str]:
    annotated = numbers.annotated
    if verbose:
        for part in annotated.parts:
            weights = f"  {part.weights:,} weights" if part.weights else ""
            label = part.name if part.operation else f"{part.kind} ({part.name})"
            yield f"{part.numbers.replace('_', ' '):<13}{label}{weights}"
    elif numbers.left_float and not annotated.refused:
        names = [part.name if part.operation else f"{part.kind} ({part.name})" for part in numbers.left_float]
        more = f" and {len(names) - _NAMED} more (--verbose)" if len(names) > _NAMED else ""
        yield f"float: {', '.join(names[:_NAMED])}{more}"
    for concat in annotated.concats:
        yield from concat_lines(concat)
    if annotated.hint:
        yield annotated.hint


def _samples(counts: Counts) -> str:
    dropped = f", {counts.duplicates_dropped} duplicates dropped" if counts.duplicates_dropped else ""
    splits = f"{counts.train} train, {counts.eval} eval, {counts.calibration} calibration"
    return f"{counts.source} in the source: {splits}{dropped}"


def _of(evaluated: int, counts: Counts) -> str:
    """On which samples a figure is, where a build takes more."""
    return f" on {evaluated:,} of the eval samples; a build takes all" if evaluated < counts.eval else ""


def _tensors(tensors: Sequence[ModelTensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
