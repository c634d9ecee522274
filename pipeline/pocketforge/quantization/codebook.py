"""Scheme `codebook`: each weight tensor becomes one of a few values of its own, found by k-means.

Method: Han, Mao & Dally 2016, "Deep Compression" (weight sharing, and fine-tuning of what is shared).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pocketforge import events
from pocketforge.errors import ModelError, StageFailed
from pocketforge.metrics import PERFECT_SQNR_DB
from pocketforge.outcomes.quantize import ClusteredWeight
from pocketforge.outcomes.train import Epoch
from pocketforge.quantization.codebook_files import Codebook
from pocketforge.quantization.fold import deep_copy
from pocketforge.quantization.quantizers import kmeans
from pocketforge.quantization.weight_only import weights_of
from pocketforge.quantization.weighted import op_name
from pocketforge.recipe.compress import Finetune
from pocketforge.training.batches import TrainSamples
from pocketforge.training.loop import fit
from pocketforge.training.options import NO_OPTIONS, FitOptions, silent

# What a graph answers.
Answer: TypeAlias = Tensor | tuple[Tensor, ...]


def float_weights(graph: torch.fx.GraphModule) -> dict[str, NDArray[np.float32]]:
    """The weights of convolutions, linear layers and embeddings by parameter name, in the graph's order.

    An embedding whose rows are always the same (of positions) is left out: exporters write those rows in its place.
    Raises StageFailed when there is none, or one is not finite.
    """
    state = graph.state_dict()
    fixed = _fixed_embeddings(graph.graph)
    weights = {}
    for name in weights_of(graph.graph):
        weight = state[name]
        if weight.dtype != torch.float32 or weight.dim() < 2 or name in fixed:
            continue
        values = weight.detach().numpy()
        if not np.isfinite(values).all():
            raise StageFailed(f"the weight {name} holds NaN or infinity", "train again, or check the checkpoint")
        weights[name] = values
    if not weights:
        raise StageFailed(
            "the model has no convolution, linear layer or embedding with a float32 weight of its own to cluster",
            'use scheme = "fp32" for this model',
        )
    return weights


def _fixed_embeddings(graph: torch.fx.Graph) -> set[str]:
    """Weights of embeddings whose indices depend on no input."""
    varying = set()
    for node in graph.nodes:  # in the order of computation
        if node.op == "placeholder" or any(before in varying for before in node.all_input_nodes):
            varying.add(node)
    embeddings = [node for node in graph.nodes if op_name(node) == "embedding"]
    return {str(node.args[0].target) for node in embeddings if node.args[1] not in varying}


def cluster(graph: torch.fx.GraphModule, entries: int, emit: events.Progress = silent) -> dict[str, Codebook]:
    """A codebook of at most `entries` (2 to 256) values for each weight of a graph without batch norm (`fold.py`).

    A weight so small that its codebook would be no smaller is left out: it stays float. The same weights give the same
    codebooks. Raises StageFailed when no weight is left, or one is not finite.
    """
    if not 2 <= entries <= 256:
        raise ValueError(f"entries must be 2 to 256, found {entries}")
    weights = float_weights(graph)
    books = {}
    for number, (name, weight) in enumerate(weights.items()):
        emit(number / len(weights), f"clustering {name}")
        quantized = kmeans(weight, entries)
        book = Codebook(quantized.indices, quantized.table[0])
        if book.packed_bytes < weight.nbytes:
            books[name] = book
    if not books:
        raise StageFailed(
            f"a codebook of {entries} entries is larger than each of the model's {len(weights)} weights",
            'lower quantize.entries, or use scheme = "fp32" for this model',
        )
    return books


def with_weights(graph: torch.fx.GraphModule, weights: Mapping[str, NDArray[np.float32]]) -> torch.fx.GraphModule:
    """A copy of the graph with other values of some parameters (of their own shapes)."""
    copied = deep_copy(graph)
    with torch.no_grad():
        for name, values in weights.items():
            parameter = copied.get_parameter(name)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(parameter.shape))
    return copied


def with_codebooks(graph: torch.fx.GraphModule, codebooks: Mapping[str, Codebook]) -> torch.fx.GraphModule:
    """A copy of the graph whose weights are what the codebooks hold."""
    return with_weights(graph, {name: book.values() for name, book in codebooks.items()})


def describe(graph: torch.fx.GraphModule, codebooks: Mapping[str, Codebook]) -> tuple[ClusteredWeight, ...]:
    """What clustering cost each weight of the float `graph`."""
    return tuple(_cost(name, weight, codebooks.get(name)) for name, weight in float_weights(graph).items())


@dataclass(frozen=True, slots=True)
class WeightError:
    """How far a weight's values are from what they were.

    Attributes:
        mse: Mean squared error.
        sqnr_db: 10·log10(Σ weight² / Σ error²).
    """

    mse: float
    sqnr_db: float


def weight_error(weight: NDArray[np.float32], values: NDArray[np.float32]) -> WeightError:
    """Of `values` in place of `weight`."""
    wide = weight.astype(np.float64)
    noise, signal = float(((values - wide) ** 2).sum()), float((wide**2).sum())
    sqnr = 10 * float(np.log10(max(signal, 1e-300) / noise)) if noise else PERFECT_SQNR_DB
    return WeightError(noise / weight.size, min(sqnr, PERFECT_SQNR_DB))


def _cost(name: str, weight: NDArray[np.float32], book: Codebook | None) -> ClusteredWeight:
    error = WeightError(0.0, PERFECT_SQNR_DB) if book is None else weight_error(weight, book.values())
    return ClusteredWeight(
        name=name,
        shape=weight.shape,
        values=weight.size,
        float_bytes=weight.nbytes,
        entries=len(book.centroids) if book else 0,
        bits=book.bits if book else 32,
        entropy_bits=book.entropy_bits if book else 32.0,
        packed_bytes=book.packed_bytes if book else weight.nbytes,
        mse=error.mse,
        sqnr_db=error.sqnr_db,
    )


def finetune_centroids(
    graph: torch.fx.GraphModule,
    codebooks: Mapping[str, Codebook],
    samples: TrainSamples,
    settings: Finetune,
    options: FitOptions = NO_OPTIONS,
) -> tuple[torch.fx.GraphModule, dict[str, Codebook], tuple[Epoch, ...]]:
    """Train the values that weights share; which weight shares which stays. Returns a graph with the new weights, its
    codebooks, and the history of `fit`.

    graph: a traced batch-1 graph in eval mode, batch norm folded; it stays as it was. A centroid's gradient is the sum
    over its weights, as in Han et al. 2016; a centroid that is exactly 0 (what pruning removed) stays 0. Biases and
    other parameters of one dimension train too; statistics and weights without a codebook do not. Dropout is off, as
    the graph is traced in eval mode. settings, options: as `fit` has them; deterministic and resumable as it is.
    Raises ModelError as `fit` does.
    """
    module = _Shared(graph, codebooks)
    history = fit(module, samples, settings, options)
    trained = module.codebooks()
    values = {name: book.values() for name, book in trained.items()}
    for name, parameter in module.trained():
        values[name] = parameter.detach().numpy()
    unfit = [name for name, array in values.items() if not np.isfinite(array).all()]
    if unfit:
        raise ModelError(f"fine-tuned centroids hold NaN or infinity: {', '.join(unfit)}", "lower finetune.lr")
    return with_weights(graph, values), trained, history


class _Shared(nn.Module):
    """A batch-1 graph that takes batches, and whose weights are centroids[indices].

    The graph is no submodule: an exported one refuses train() and eval(), and its own parameters are not to train.
    """

    def __init__(self, graph: torch.fx.GraphModule, codebooks: Mapping[str, Codebook]) -> None:
        super().__init__()
        self._graph = (deep_copy(graph),)
        self._names = tuple(codebooks)
        self.centroids = nn.ParameterList(torch.from_numpy(book.centroids.copy()) for book in codebooks.values())
        for number, book in enumerate(codebooks.values()):
            self.register_buffer(f"indices_{number}", torch.from_numpy(book.indices.astype(np.int64)))
            self.register_buffer(f"kept_{number}", torch.from_numpy((book.centroids != 0).astype(np.float32)))
        self._others = tuple(
            name
            for name, p in graph.named_parameters()
            if name not in codebooks and p.dim() <= 1 and p.is_floating_point()
        )
        self.others = nn.ParameterList(graph.get_parameter(name).detach().clone() for name in self._others)

    def _levels(self) -> dict[str, Tensor]:
        return {
            name: centroids * self.get_buffer(f"kept_{number}")
            for number, (name, centroids) in enumerate(zip(self._names, self.centroids, strict=True))
        }

    def forward(self, *inputs: Tensor) -> Answer:
        weights = {}
        for number, (name, levels) in enumerate(self._levels().items()):
            indices = self.get_buffer(f"indices_{number}")
            weights[name] = levels.index_select(0, indices.reshape(-1)).reshape(indices.shape)
        weights |= dict(self.trained())
        return batched(lambda *sample: functional_call(self._graph[0], weights, sample))(*inputs)

    def trained(self) -> list[tuple[str, Tensor]]:
        """The parameters of one dimension, by the graph's names."""
        return list(zip(self._others, self.others, strict=True))

    def codebooks(self) -> dict[str, Codebook]:
        """As they are now."""
        books = {}
        for number, (name, levels) in enumerate(self._levels().items()):
            indices = self.get_buffer(f"indices_{number}").numpy().astype(np.uint8)
            books[name] = Codebook(indices, levels.detach().numpy().copy())
        return books


def batched(module: Callable[..., Answer]) -> Callable[..., Answer]:
    """A batch-1 graph as one of any batch: mapped over the samples (torch.vmap), computed together.

    It raises ModelError for a graph that cannot be: one whose steps depend on values.
    """

    def one(*sample: Tensor) -> Answer:
        answer = module(*(tensor[None] for tensor in sample))
        return tuple(part[0] for part in answer) if isinstance(answer, tuple | list) else answer[0]

    mapped = torch.vmap(one)

    def run(*inputs: Tensor) -> Answer:
        try:
            answer: Answer = mapped(*inputs)
        except RuntimeError as error:
            raise ModelError(
                f"the model cannot be computed for several samples at once: {str(error).strip().splitlines()[0]}",
                "forward() must be plain tensor code: no branching on values, no .item(), no random numbers",
            ) from error
        return answer

    return run
