"""Stage `reference`: the trained PyTorch model, traced once, and what it answers on the eval samples.

Every lane starts from the traced graph and is compared with these outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.errors import ModelError
from pocketforge.files import resolver
from pocketforge.metrics import accuracy
from pocketforge.model import load
from pocketforge.model.evaluate import evaluate
from pocketforge.model.lazy import settle
from pocketforge.model.weights import check_finite
from pocketforge.pruning.equality import telling_inputs
from pocketforge.pruning.subject import open_checkpoint
from pocketforge.specs.trained import ModelSource

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Build, load, trace and evaluate the model.

    inputs: "data" (stage data's folder), "data_root", "weights" or "checkpoint" (stage finetune's folder); spec:
    definition, args, inputs, outputs, task, metric. Writes model.pt2 (batch 1), outputs_0.npy … (one an output, eval
    samples first), reference.json. Raises ModelError where model, weights, data and labels do not fit together.
    """
    torch.set_num_threads(1)
    data = json.loads((inputs["data"] / "data.json").read_text("utf-8"))
    emit(0.0, "building the model")
    program, parameters, macs, weights = load_traced(inputs, spec, data)
    example = tuple(program.example_inputs[0])
    torch.export.save(program, out / "model.pt2")
    emit(0.2, "running the eval samples")
    outputs = evaluate(program.module(), load_samples(inputs["data"], "eval"), lambda f: emit(0.2 + 0.8 * f, "eval"))
    for number, array in enumerate(outputs):
        np.save(out / f"outputs_{number}.npy", array)
    names = output_names(spec, len(outputs))
    check_answers(names, outputs)
    targets = np.load(inputs["data"] / "eval_targets.npy")
    if spec["task"] == "classification":
        check_labels(outputs[0], targets, data["labels"])
    elif outputs[0].reshape(len(targets), -1).shape != targets.reshape(len(targets), -1).shape:
        raise ModelError(f"the model's output has shape {outputs[0].shape[1:]}, the targets have {targets.shape[1:]}")
    summary: dict[str, Any] = {
        "parameters": parameters,
        "macs": macs,
        **({"weights": weights} if weights else {}),
        "accuracy": accuracy(outputs[0], targets, spec["task"]),
        "eval_samples": len(targets),
        "inputs": [
            {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in zip(input_names(spec, len(example)), example, strict=True)
        ],
        "outputs": [
            {"name": name, "shape": [1, *array.shape[1:]], "dtype": str(array.dtype)}
            for name, array in zip(names, outputs, strict=True)
        ],
    }
    (out / "reference.json").write_text(json.dumps(summary, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{spec['metric']} {summary['accuracy'][spec['metric']]:.4f}")


def load_traced(
    inputs: Mapping[str, Path], spec: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[torch.export.ExportedProgram, int, int, dict[str, Any]]:
    """The traced batch-1 graph with the trained weights, its parameters and MACs, and how the weights were read."""
    resolve = resolver(inputs.get("data_root"))
    definition = spec["definition"]
    if definition.endswith(".pt2"):
        program = load.load_exported(resolve(definition))
        check_finite({**program.state_dict}, definition)
        example = load.example_inputs(definition, resolve)
        if example is None or any(tensor.shape[:1] != (1,) for tensor in example):
            found = "none" if example is None else ", ".join(str(list(t.shape)) for t in example)
            raise ModelError(
                f"{definition} must be traced with positional inputs of batch 1, found example inputs {found}",
                "torch.export.save(torch.export.export(model, (x[:1],)), FILE)",
            )
        check_samples(example, data)
        module = program.module()
        return program, load.count_parameters(module), load.count_macs(module, example), {}
    model = ModelSource(definition, spec["args"], spec["seed"], spec.get("weights_key", ""))
    checkpoint = open_checkpoint(inputs, model)
    module = checkpoint.module
    example = example_for(spec, load.example_inputs(definition, resolve), data)
    check_samples(example, data)
    # Rewrites are compared on it: zeros, which a recipe's shapes and many definitions give, would tell nothing.
    example = telling_inputs(example, _samples(inputs["data"]))
    settle(module, example, spec.get("seed", 0))
    check_finite(module.state_dict(), definition)
    program = load.trace(module, example)
    return program, load.count_parameters(module), load.count_macs(module, example), checkpoint.weights


def example_for(
    spec: Mapping[str, Any], from_definition: tuple[Tensor, ...] | None, data: Mapping[str, Any]
) -> tuple[Tensor, ...]:
    """Batch-1 inputs as the model takes: the recipe's model.input, else example_inputs(), else the samples' shape."""
    if spec["inputs"]:
        return tuple(_zeros(i["shape"], i["dtype"]) for i in spec["inputs"])
    if from_definition is not None:
        return tuple(tensor[:1] for tensor in from_definition)
    return tuple(_zeros([1, *i["shape"]], i["dtype"]) for i in data["inputs"])


def _samples(data: Path) -> Iterator[tuple[Tensor, ...]]:
    """The eval samples, one at a time."""
    arrays = load_samples(data, "eval")
    for index in range(len(arrays[0])):
        yield tuple(torch.from_numpy(np.array(array[index : index + 1])) for array in arrays)


def _zeros(shape: list[int], dtype: str) -> Tensor:
    return torch.zeros(tuple(shape), dtype=getattr(torch, dtype))


def check_samples(example: tuple[Tensor, ...], data: Mapping[str, Any]) -> None:
    """Raises ModelError unless the preprocessed samples are what the model takes."""
    wanted = [(list(t.shape[1:]), str(t.dtype).removeprefix("torch.")) for t in example]
    found = [(list(i["shape"]), i["dtype"]) for i in data["inputs"]]
    if wanted != found:
        said = [" and ".join(f"{shape} {dtype}" for shape, dtype in side) for side in (wanted, found)]
        raise ModelError(
            f"the model takes {said[0]}, the preprocessed samples are {said[1]}",
            "set data.preprocess (resize, color, layout), or the model's input shape ([[model.input]] shape = …)",
        )


# What all three runtimes give.
OUTPUT_DTYPES = ("float32", "int64", "int32", "uint8", "bool")


def check_answers(names: list[str], outputs: list[np.ndarray[Any, Any]]) -> None:
    """Raises ModelError for an output that no file can have, or that is not finite."""
    for name, array in zip(names, outputs, strict=True):
        said = "the model" if len(names) == 1 else f"output {name!r} of the model"
        if str(array.dtype) not in OUTPUT_DTYPES:
            raise ModelError(
                f"{said} answers {array.dtype}; files can hold {', '.join(OUTPUT_DTYPES)}",
                "convert it in forward(), e.g. .float()",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"{said} answers NaN or infinity on real samples", "check its weights and the preprocessing"
            )


def check_labels(outputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], labels: list[str]) -> None:
    """Raises ModelError when the model has another number of classes than there are labels."""
    classes = int(np.prod(outputs.shape[1:]))
    if outputs.ndim != 2:
        raise ModelError(
            f"a classifier's output must be [1, classes], found {[1, *outputs.shape[1:]]}",
            'name the model\'s task: task = "regression"',
        )
    if labels and len(labels) != classes:
        raise ModelError(
            f"the model has {classes} outputs, there are {len(labels)} labels",
            "fix data.labels, or build the model with that many classes (model.args)",
        )
    if int(targets.max()) >= classes:
        raise ModelError(f"the model has {classes} outputs, the data has a label {int(targets.max())}")


def input_names(spec: Mapping[str, Any], count: int) -> list[str]:
    """The recipe's names, else `input` (`input_0`, `input_1` … when there are several)."""
    given = [i["name"] for i in spec["inputs"]] if spec["inputs"] else [""] * count
    return [name or ("input" if count == 1 else f"input_{k}") for k, name in enumerate(given)]


def output_names(spec: Mapping[str, Any], count: int) -> list[str]:
    """The recipe's names, else `output` (`output_0` …). Raises ModelError when the numbers differ."""
    given = list(spec["outputs"])
    if given and len(given) != count:
        raise ModelError(f"model.outputs names {len(given)} outputs, the model gives {count}")
    return given or (["output"] if count == 1 else [f"output_{k}" for k in range(count)])
