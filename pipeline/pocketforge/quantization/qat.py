"""Quantization-aware training through PT2E: the model's own graph, with fake quantization, trained by training/loop.py.

Jacob et al. 2018; batch norm is folded while it trains as in section 3.2 (torchao's one-pass approximation), and its
statistics freeze before the ranges do (Krishnamoorthi 2018, arXiv:1806.08342, section 3.2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

from pocketforge.errors import ModelError, StageFailed
from pocketforge.metrics import compare
from pocketforge.model import load
from pocketforge.model.structure import leaves
from pocketforge.model.weights import check_finite
from pocketforge.quantization import graph_modes, pt2e
from pocketforge.quantization.fake_quantize import fake_quantizers
from pocketforge.quantization.qat_fold import fold_trained, fold_where_not_trained
from pocketforge.quantization.qat_guard import Guard
from pocketforge.quantization.seen_ranges import ranges_of, seen_by
from pocketforge.quantization.weighted import op_name
from pocketforge.recipe.quantize import Quantize
from pocketforge.training.constraint import WeightConstraint

Inputs = tuple[Tensor, ...]
# A smaller batch would be taken for the only one: exporting fixes sizes of 0 and 1, and XNNPACK caps those below 16.
SMALLEST_BATCH = 16
# Without rounding, the graph computes what the model does but for float32's own rounding (folding scales weights up
# and sums down again). A lost eps, a dropout left on or a branch on self.training is 40 dB and less.
SAME_DB = 60.0
# Conversion rounds the same values; now and then one falls on the other side of a step.
CONVERTED_DB = 20.0
# Its training form divides by batch norm's weight.
_SMALLEST_BN_WEIGHT = 1e-6


class TrainingGraph:
    """A model as a fake-quantized graph that `training.loop.fit` trains as any module.

    `graph` has the model's parameter names and parameters of its own; its train() and eval() switch form and ranges,
    and `check` (for fit) compares it with the model after each switch. Ranges start from what `batches` give.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[Inputs],
        quantize: Quantize,
        kept_apart: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """module: the float model, in eval mode; it is not changed. batches: calibration inputs, batch first.
        kept_apart: operations that stay float (concats.py).

        Raises ModelError when the model has no training graph or batches are too small, StageFailed from the guard.
        """
        self.quantize = quantize
        self._batches = batches
        self.batch_norm_frozen = self.ranges_frozen = False
        graph = export_for_training(copy.deepcopy(module), batches[0])
        self.schemes = schemes = {**pt2e.layer_schemes(graph.graph, quantize), **kept_apart}
        if "dynamic_int8" in schemes.values():
            raise ModelError(
                "quantize.overrides: scheme qat_int8 cannot train a layer for dynamic_int8",
                'use scheme = "fp32" for the layer, or scheme = "mixed" for the target',
            )
        self.folded_before = fold_where_not_trained(graph, schemes)
        self.guard = Guard(graph, module)
        numbers = {name: (each.eps, each.momentum) for name, each in self.guard.batch_norms.items()}
        prepared: GraphModule = prepare_qat_pt2e(graph, pt2e.make_quantizer(graph.graph, quantize, schemes, qat=True))
        self.graph = prepared
        graph_modes.set_batch_norms(prepared, numbers)
        _keep_off_zero(prepared)
        # As instance attributes: torchao forbids both on a prepared graph, as its own could do nothing.
        prepared.train, prepared.eval = self.train, self.eval
        self.eval()
        self.check(None)
        self._compare(module)
        self._measure_ranges()

    def train(self, mode: bool = True) -> GraphModule:
        """Dropout on; batch norm's statistics and the ranges move, each until it is frozen."""
        self.graph.training = mode
        graph_modes.set_form(self.graph, dropout=mode, batch_norm=mode and not self.batch_norm_frozen)
        for each in fake_quantizers(self.graph):
            each.observing = mode and not self.ranges_frozen
        return self.graph

    def eval(self) -> GraphModule:
        return self.train(False)

    def check(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Raises StageFailed when the graph is not the model any more (see `Guard.check`)."""
        training = self.graph.training
        when = f"after the switch to {'train' if training else 'eval'}"
        moving = training and not self.batch_norm_frozen
        self.guard.check(self.graph, when, dropout=training, batch_norm=moving, optimizer=optimizer)

    def freeze(self, *, batch_norm: bool, ranges: bool) -> None:
        """From now on, running statistics (batch_norm) and the ranges stay as they are; neither is ever undone.

        Dropout scales what it keeps up by 1 / (1 - p), so ranges behind one are measured anew, without it.
        """
        measure = ranges and not self.ranges_frozen and self.guard.dropouts
        self.batch_norm_frozen |= batch_norm
        self.ranges_frozen |= ranges
        self.train(self.graph.training)
        if measure:
            self.measure_again()

    def restore_frozen(self, *, batch_norm: bool, ranges: bool) -> None:
        """As they were in a training that goes on: its ranges are restored with its weights."""
        self.batch_norm_frozen, self.ranges_frozen = batch_norm, ranges

    def measure_again(self) -> None:
        """Take all ranges from the calibration inputs and the weights as they are now."""
        training = self.graph.training
        for each in fake_quantizers(self.graph):
            each.activation_post_process.forget()
        self._measure_ranges()
        self.train(training)

    def convert(self) -> tuple[pt2e.Graphs, float]:
        """((folded, unfolded), SQNR in dB of converted to trained graph on the calibration inputs).
        The training graph is used up; `ranges` has what its activations were. Raises StageFailed when conversion
        changed what was trained, or a value is not finite.
        """
        self.eval()
        for each in fake_quantizers(self.graph):
            each.settle()
        check_finite(dict(self.graph.state_dict()), "the model trained with fake quantization")
        with torch.no_grad():
            trained = [_outputs(self.graph(*inputs)) for inputs in self._batches]
        del self.graph.train, self.graph.eval
        fold_trained(self.graph)
        seen, again = seen_by(self.graph), copy.deepcopy(self.graph)
        graphs = pt2e.convert(self.graph, fold=True), pt2e.convert(again, fold=False)
        worst = math.inf
        for converted in graphs:
            with torch.no_grad():
                answers = [_outputs(converted(*inputs)) for inputs in self._batches]
            worst = min(worst, _worst_sqnr_db(trained, answers))
        if worst < CONVERTED_DB:
            raise StageFailed(
                f"the converted graph is not what was trained: SQNR {worst:.1f} dB, wanted {CONVERTED_DB:.0f} or more",
                "a fault of the conversion, not of your model: please report it; static_int8 does not train",
            )
        self.ranges = ranges_of(seen, graphs[0])
        return graphs, worst

    def _compare(self, module: nn.Module) -> None:
        """Without rounding, in eval form, the graph must compute what the model does."""
        inputs = self._batches[0]
        for each in fake_quantizers(self.graph):
            each.observing = each.quantizing = False
        with torch.no_grad():
            trained, plain = _outputs(self.graph(*inputs)), _outputs(module(*inputs))
        for each in fake_quantizers(self.graph):
            each.quantizing = True
        db = _worst_sqnr_db([plain], [trained])
        if db < SAME_DB:
            raise ModelError(
                f"the model's training graph computes something else than the model does in eval mode (SQNR {db:.1f} "
                f"dB, wanted {SAME_DB:.0f} or more)",
                "forward() must not branch on self.training, and in train mode its layers may differ only as dropout "
                'and batch norm do; use scheme = "static_int8", which needs no training graph',
            )

    def _measure_ranges(self) -> None:
        self.eval()
        for each in fake_quantizers(self.graph):
            each.observing = True
        device = next(self.graph.parameters()).device  # while it trains perhaps a GPU
        with torch.no_grad():
            for inputs in self._batches:
                self.graph(*(each.to(device) for each in inputs))
        self.eval()


class Freezing:
    """Masks that hold, and when batch norm and ranges freeze: a training.constraint.WeightConstraint.

    batch_norm, ranges: shares of the updates after which each freezes (0: from the start, 1: not before the end).
    """

    def __init__(self, training: TrainingGraph, masks: WeightConstraint | None) -> None:
        self._training, self._masks = training, masks
        self._shares = training.quantize.freeze_batch_norm, training.quantize.freeze_observers
        self._step, self._total = 0, 1
        training.freeze(**self._due())

    def after_update(self, step: int, total_steps: int) -> None:
        if self._masks is not None:
            self._masks.after_update(step, total_steps)
        self._step, self._total = step, total_steps
        due = self._due()
        if due != {"batch_norm": self._training.batch_norm_frozen, "ranges": self._training.ranges_frozen}:
            self._training.freeze(**due)

    def state(self) -> dict[str, Tensor]:
        masks = self._masks.state() if self._masks is not None else {}
        return {**masks, "freezing.steps": torch.tensor([self._step, self._total])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._step, self._total = (int(value) for value in state["freezing.steps"])
        self._training.restore_frozen(**self._due())
        if self._masks is not None:
            self._masks.load_state({name: value for name, value in state.items() if name != "freezing.steps"})

    def _due(self) -> dict[str, bool]:
        done = self._step / self._total
        return {"batch_norm": done >= self._shares[0], "ranges": done >= self._shares[1]}


def export_for_training(module: nn.Module, inputs: Inputs) -> GraphModule:
    """The module's graph in train form, for batches of any size; it shares the module's tensors.

    Raises ModelError when there is none.
    """
    if isinstance(module, GraphModule):
        raise ModelError(
            "scheme qat_int8 needs a model that can be trained; a traced graph is fixed in the mode that it was traced "
            "in",
            'give the .py definition and its weights, or use scheme = "static_int8"',
        )
    if len(inputs[0]) < SMALLEST_BATCH:
        raise ModelError(
            f"scheme qat_int8 needs {SMALLEST_BATCH} samples or more to train on, found {len(inputs[0])}",
            "lower data.calibration_samples or data.eval_fraction, or add data",
        )
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    try:
        program = load.trace(module.train(), inputs, dynamic_shapes=shapes)
    except ModelError as error:
        raise ModelError(
            f"scheme qat_int8 trains the model's graph: in train mode, with a batch of any size, {error.message}",
            f'{error.hint}; or use scheme = "static_int8", which needs no training graph',
        ) from error
    finally:
        module.eval()
    graph: GraphModule = program.module(check_guards=False)
    # Batch norm counts its batches, for a momentum of None only, which cannot be exported; in a file it would be a
    # state that changes.
    for node in list(graph.graph.nodes):
        counted = node.args[0] if op_name(node) == "add_" else None
        if isinstance(counted, Node) and str(counted.target).endswith("num_batches_tracked"):
            graph.graph.erase_node(node)
            graph.graph.erase_node(counted)
    graph.recompile()
    return graph


def _keep_off_zero(graph: GraphModule) -> None:
    """Batch norm's weights away from 0, by less than what int8 can tell: the training form divides by them."""
    for each in graph_modes.batch_norms(graph):
        if each.scaled_with_eps is not None:
            weight = graph_modes.tensor(graph, f"{each.name}.weight")
            with torch.no_grad():
                near = weight.abs() < _SMALLEST_BN_WEIGHT
                weight[near] = torch.where(weight[near] < 0, -_SMALLEST_BN_WEIGHT, _SMALLEST_BN_WEIGHT)


def _outputs(answer: object) -> list[Tensor]:
    """Every output of real numbers, in the model's order."""
    return [leaf.value for leaf in leaves(answer) if leaf.value.is_floating_point()]


def _worst_sqnr_db(wanted: Sequence[Sequence[Tensor]], found: Sequence[Sequence[Tensor]]) -> float:
    """Of the output that is furthest off, over all batches."""
    if [[each.shape for each in batch] for batch in wanted] != [[each.shape for each in batch] for batch in found]:
        return -math.inf
    pairs = zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True)
    return min(compare(torch.cat(other).numpy(), torch.cat(one).numpy()).sqnr_db for one, other in pairs)
