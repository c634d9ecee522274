"""What quantizing each layer costs: the model with only that layer in int8, and with only that layer in float.

One converted graph serves every question: its quantize and dequantize ops can be switched off one by one, so nothing is
calibrated or converted again. Judged on calibration samples and the first train samples, never on eval samples; those
of the train split were trained on, so what counts is the difference from the float model on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from pocketforge.accuracy.task import accuracy
from pocketforge.data.dataset import open_dataset
from pocketforge.files import resolver
from pocketforge.metrics import Array, Arrays, compare
from pocketforge.outcomes import files
from pocketforge.outcomes.layers import LayerCost, LayerStudy, Score
from pocketforge.outcomes.reference import Reference
from pocketforge.quantization.pt2e import calibrate, convert, layer_schemes, prepare, quantize_graph
from pocketforge.quantization.weighted import WEIGHTED, count_weights, layers_of, op_name, owner
from pocketforge.recipe.quantize import Quantize
from pocketforge.rewrites.graph import first_input, is_guard
from pocketforge.specs.sampling import Sampling

VERSION = 1
# Multiply-accumulates that one question may cost, by which the number of samples follows: seconds on one core.
QUESTION_MACS = 5e9
FEWEST_SAMPLES, MOST_SAMPLES = 32, 512
_BATCH = 32


class Scorer:
    """Real samples with their targets, what the float model answers to them, and how far another graph is from it."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        samples: Arrays,
        quantize: Quantize,
        inputs: Mapping[str, Path],
        sampling: Sampling,
    ) -> None:
        """inputs: data_root, labels (may be absent), reference."""
        self.program, self.samples, self.quantize, self.task = program, samples, quantize, sampling.task
        data = open_dataset(sampling.data, resolver(inputs.get("data_root")), inputs.get("labels"))
        macs = files.read(inputs["reference"], Reference).macs
        assert macs is not None, "a PyTorch model's are counted"
        count = int(min(MOST_SAMPLES, max(FEWEST_SAMPLES, QUESTION_MACS / max(macs, 1))))
        parts = (data.calibration, data.train)
        taken = [part[i] for part in parts for i in range(min(len(part), count))][:count]
        self.arrays = [np.stack(column) for column in zip(*(arrays for arrays, _ in taken), strict=True)]
        self.targets = np.stack([np.asarray(target) for _, target in taken])
        self.reference = self.answers(_unguarded(program.module()))
        self.baseline = self._metric(self.reference)

    def answers(self, graph: Callable[..., object]) -> Array:
        """The graph's first output for every sample; in batches, where the traced graph takes them."""
        count = len(self.arrays[0])
        size = _BATCH if self._takes_batches(graph) else 1
        with torch.no_grad():
            batches = [
                _first(graph(*(torch.from_numpy(a[start : start + size]) for a in self.arrays)))
                for start in range(0, count, size)
            ]
        return np.concatenate([batch.numpy() for batch in batches])

    def score(self, graph: Callable[..., object]) -> Score:
        """How far the graph is from the float model."""
        answers = self.answers(graph)
        metric = self._metric(answers)
        higher = self.task == "classification"
        drop = self.baseline - metric if higher else metric / max(self.baseline, 1e-12) - 1
        near = compare(answers, self.reference, classes=higher)
        return Score(drop, metric, near.sqnr_db)

    def converted(self, schemes: Mapping[str, str]) -> Score:
        """`score` of the graph that really is quantized so."""
        prepared = prepare(self.program, self.quantize, schemes)
        calibrate(prepared, self.samples)
        return self.score(_unguarded(convert(prepared, fold=False)))

    def _metric(self, answers: Array) -> float:
        name = "accuracy_top1" if self.task == "classification" else "mean_absolute_error"
        return float(accuracy(answers, self.targets, self.task)[name])

    def _takes_batches(self, graph: Callable[..., object]) -> bool:
        """Whether two samples at once give what each gives alone: some graphs hold the batch of 1 in a shape."""
        pair = [torch.from_numpy(a[:2]) for a in self.arrays]
        with torch.no_grad():
            try:
                together = _first(graph(*pair))
            except (RuntimeError, AssertionError):
                return False
            alone = torch.cat([_first(graph(*(a[i : i + 1] for a in pair))) for i in range(len(pair[0]))])
        return together.shape == alone.shape and bool(torch.allclose(together, alone, rtol=1e-3, atol=1e-4))


class Switchboard:
    """A converted graph whose layers can each be int8 or float, as long as it is called through `only`."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        """graph: unfolded, so that weights lie behind their own quantize ops."""
        self.graph = graph
        self.layers = list(dict.fromkeys(layer.name for layer in layers_of(graph.graph)))
        self.near: dict[torch.fx.Node, set[str]] = {}  # a quantize or dequantize op → the layers it is of
        for node in graph.graph.nodes:
            if _is_quantize(node):
                ends = [user for user in node.users if _is_dequantize(user)]
                near = {*_owners(_before(node)), *(name for end in ends for name in _owners(_after(end)))}
                self.near.update(dict.fromkeys((node, *ends), near))

    def only(self, quantized: Collection[str]) -> Callable[..., object]:
        """The graph with these layers in int8, all others in float.

        Activations that an int8 layer takes or gives are quantized; those that no layer does (between an addition and
        a pooling) where all layers are.
        """
        on = set(quantized)
        full = on.issuperset(self.layers)
        return _runnable(self.graph, {n for n, near in self.near.items() if not (near & on or full)})


class _Switched(torch.fx.Interpreter):
    def __init__(self, graph: torch.fx.GraphModule, off: set[torch.fx.Node]) -> None:
        super().__init__(graph)
        self.off = off

    def run_node(self, n: torch.fx.Node) -> object:
        """A node that is off gives its input back."""
        if n in self.off:
            return self.env[first_input(n)]
        if is_guard(n):
            return None
        return super().run_node(n)


def study(scorer: Scorer, emit: Callable[[float, str], None]) -> LayerStudy:
    """What the model loses with only one layer in int8, and with only one in float; of each that can be int8."""
    _, unfolded = quantize_graph(
        scorer.program, scorer.samples, scorer.quantize, progress=lambda f: emit(0.1 * f, "calibrating")
    )
    board = Switchboard(unfolded)
    quantizable = {name for name, scheme in layer_schemes(unfolded.graph, scorer.quantize).items() if scheme != "fp32"}
    # A module that is called twice is one layer.
    layers = list({layer.name: layer for layer in layers_of(unfolded.graph) if layer.name in quantizable}.values())
    names = [layer.name for layer in layers]
    costs = []
    for number, layer in enumerate(layers):
        emit(0.1 + 0.9 * number / len(layers), layer.name)
        costs.append(
            LayerCost(
                name=layer.name,
                op=layer.op,
                weights=count_weights(unfolded, layer.name),
                only_quantized=scorer.score(board.only([layer.name])),
                only_float=scorer.score(board.only([name for name in names if name != layer.name])),
            )
        )
    all_quantized = scorer.score(board.only(names))
    return LayerStudy(VERSION, len(scorer.targets), scorer.baseline, all_quantized, tuple(costs))


def _is_quantize(node: torch.fx.Node) -> bool:
    name = str(node.target)
    return node.op == "call_function" and "quantize_per" in name and "dequantize" not in name


def _is_dequantize(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and "dequantize_per" in str(node.target)


def _before(node: torch.fx.Node) -> Iterable[torch.fx.Node]:
    """Nodes that a quantize op's value comes from, up to the next dequantize op: a layer, perhaps its ReLU."""
    waiting, seen = [a for a in node.args[:1] if isinstance(a, torch.fx.Node)], set()
    while waiting:
        each = waiting.pop()
        if each in seen or _is_dequantize(each):
            continue
        seen.add(each)
        yield each
        if op_name(each) not in WEIGHTED:
            waiting += each.all_input_nodes


def _after(node: torch.fx.Node) -> Iterable[torch.fx.Node]:
    """Nodes that a dequantized value goes to, up to the next quantize op."""
    waiting, seen = list(node.users), set()
    while waiting:
        each = waiting.pop()
        if each in seen or _is_quantize(each):
            continue
        seen.add(each)
        yield each
        if op_name(each) not in WEIGHTED:
            waiting += each.users


def _owners(nodes: Iterable[torch.fx.Node]) -> list[str]:
    return [owner(node) for node in nodes if op_name(node) in WEIGHTED]


def _first(answer: object) -> torch.Tensor:
    first = answer[0] if isinstance(answer, tuple | list) else answer
    assert isinstance(first, torch.Tensor)
    return first


def _unguarded(module: torch.fx.GraphModule) -> Callable[..., object]:
    """A traced graph that does not insist on the batch of 1 that it was traced with."""
    return _runnable(module, set())


def _runnable(graph: torch.fx.GraphModule, off: set[torch.fx.Node]) -> Callable[..., object]:
    run: Callable[..., object] = _Switched(graph, off).run
    return run
