"""Uniform, quantile and k-means quantizers of a recipe's weights at equal bits: error, accuracy and size.

The model is the one that lanes start from (after `[[compress]]`), its batch norm folded; activations stay float, and
nothing is trained after quantizing. A *cell* is one quantizer at one number of bits, kept once it is made.
"""

from __future__ import annotations

import functools
import gzip
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pocketforge import events
from pocketforge.accuracy.task import accuracy
from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.errors import RecipeError
from pocketforge.facts.gather import gather
from pocketforge.metrics import Array, compare
from pocketforge.model.load import load_exported
from pocketforge.plan.lanes import make_plan
from pocketforge.quantization.codebook import batched, float_weights, weight_error, with_weights
from pocketforge.quantization.codebook_files import entropy_bits, pack_bits
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.quantization.quantizers import QUANTIZERS, QuantizedWeight
from pocketforge.recipe import Recipe
from pocketforge.recipe.roles import ROLES
from pocketforge.run.part import run_part
from pocketforge.run.reuse import origin_of
from pocketforge.studies.asked import check_single_steps
from pocketforge.studies.cells import Cells, key_of
from pocketforge.studies.quantizer_study import FloatModel, LayerError, QuantizerRow, QuantizerStudy
from pocketforge.training.loop import deterministic

VERSION = 1
_BATCH = 50


def run_study(
    recipe: Recipe,
    bits: Sequence[int],
    cache: Path,
    cells: Cells,
    *,
    tell: events.Say,
    emit: events.Emit = events.ignore,
) -> QuantizerStudy:
    """Make every cell that is not kept yet.

    bits: of an index, 2 to 8 each. tell: gets a line for each cell. Raises what the model's and the data's steps raise,
    and StageFailed when the model has no weight to quantize; RecipeError for a metric that it does not take.
    """
    able = ROLES["regression" if recipe.task == "regression" else "logits"].metrics
    if recipe.task == "outputs" or recipe.task_metric not in able:
        raise RecipeError(
            f"study quantizers compares one figure of the first output: it needs a task and one of {', '.join(able)} "
            f"as metric, found task {recipe.task!r} and metric {recipe.task_metric!r}"
        )
    check_single_steps(recipe, "quantizers")
    plan = make_plan(recipe, gather(recipe, cache))
    outcome = run_part(plan, (plan.data, plan.reference), cache, "study", emit)
    data, reference = outcome.entries[plan.data], outcome.entries[plan.reference]
    subject = _Subject(recipe, data.files, reference.files)
    asks = [(number, name) for number in bits for name in QUANTIZERS]
    rows = []
    for index, (number, name) in enumerate(asks):
        key = key_of({"version": VERSION, "reference": origin_of(reference), "data": origin_of(data),
                      "metric": recipe.task_metric, "quantizer": name, "bits": number})  # fmt: skip
        row, reused = cells.once(key, QuantizerRow, functools.partial(subject.row, name, number))
        rows.append(row)
        tell(
            f"[{index + 1}/{len(asks)}] {name}, {number} bits: {recipe.task_metric} {row.accuracy:.4f}, output SQNR "
            f"{row.output_sqnr_db:.1f} dB, {row.packed_bytes:,} bytes" + (" (kept)" if reused else "")
        )
    return QuantizerStudy(
        version=VERSION,
        recipe=recipe.name,
        metric=recipe.task_metric,
        bits=tuple(bits),
        quantizers=tuple(QUANTIZERS),
        eval_samples=len(subject.targets),
        calibration_samples=len(subject.outputs),
        weights=len(subject.weights),
        weight_values=sum(weight.size for weight in subject.weights.values()),
        float=subject.float_model(),
        rows=tuple(rows),
    )


class _Subject:
    """The folded float model, its samples, and what it answers."""

    def __init__(self, recipe: Recipe, data: Path, reference: Path) -> None:
        self.recipe = recipe
        self.graph = fold_batch_norm(load_exported(reference / "model.pt2"))
        self.weights = float_weights(self.graph)
        self.rest = {
            name: parameter.detach().numpy()
            for name, parameter in self.graph.named_parameters()
            if name not in self.weights
        }
        self.calibration, self.eval = load_samples(data, "calibration"), load_samples(data, "eval")
        self.targets = np.load(data / "eval_targets.npy")
        self.outputs = self._run(self.graph, self.calibration)
        self.accuracy = self._accuracy(self.graph)

    def float_model(self) -> FloatModel:
        raw = [array.tobytes() for array in (*self.weights.values(), *self.rest.values())]
        return FloatModel(self.accuracy, sum(map(len, raw)), _gzip(raw))

    def row(self, name: str, bits: int) -> QuantizerRow:
        """One cell."""
        values: dict[str, NDArray[np.float32]] = {}
        packed: list[bytes] = []
        entropy = 0.0
        layers = []
        for weight_name, weight in self.weights.items():
            quantized = QUANTIZERS[name](weight, 2**bits)
            parts = [pack_bits(quantized.indices, bits).tobytes(), _stored(quantized)]
            ideal = entropy_bits(quantized.indices) * weight.size / 8 + len(parts[1])
            stays_float = sum(map(len, parts)) >= weight.nbytes  # as scheme codebook does where nothing would be gained
            values[weight_name] = weight if stays_float else quantized.values
            packed += [weight.tobytes()] if stays_float else parts
            entropy += weight.nbytes if stays_float else ideal
            error = weight_error(weight, values[weight_name])
            layers.append(LayerError(weight_name, stays_float, error.mse, error.sqnr_db))
        graph = with_weights(self.graph, values)
        rest = [array.tobytes() for array in self.rest.values()]
        before, after = (np.concatenate([w.reshape(-1) for w in side.values()]) for side in (self.weights, values))
        whole = weight_error(before, after)
        return QuantizerRow(
            quantizer=name,
            bits=bits,
            weight_mse=whole.mse,
            weight_sqnr_db=whole.sqnr_db,
            output_sqnr_db=compare(self._run(graph, self.calibration), self.outputs).sqnr_db,
            accuracy=self._accuracy(graph),
            packed_bytes=sum(map(len, packed)) + sum(map(len, rest)),
            packed_gzip_bytes=_gzip(packed + rest),
            entropy_bytes=math.ceil(entropy) + sum(map(len, rest)),
            float_gzip_bytes=_gzip([array.tobytes() for array in values.values()] + rest),
            layers=tuple(layers),
        )

    def _accuracy(self, graph: torch.fx.GraphModule) -> float:
        return float(accuracy(self._run(graph, self.eval), self.targets, self.recipe.task)[self.recipe.task_metric])

    def _run(self, graph: torch.fx.GraphModule, samples: Sequence[Array]) -> Array:
        """The first output for all samples."""
        module = batched(graph)
        outputs = []
        with deterministic(self.recipe.seed), torch.no_grad():
            for start in range(0, len(samples[0]), _BATCH):
                answer = module(*(torch.from_numpy(np.array(array[start : start + _BATCH])) for array in samples))
                outputs.append((answer[0] if isinstance(answer, tuple) else answer).numpy())
        return np.concatenate(outputs)


def _stored(quantized: QuantizedWeight) -> bytes:
    """What a file would hold besides the indices. A uniform quantizer's levels follow from a scale: its largest one."""
    table = quantized.table if quantized.stored_floats == quantized.table.size else quantized.table[:, -1]
    return table.astype(np.float32).tobytes()


def _gzip(parts: list[bytes]) -> int:
    return len(gzip.compress(b"".join(parts), 9, mtime=0))
