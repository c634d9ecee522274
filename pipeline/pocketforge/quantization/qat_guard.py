"""What must stay as it is while a fake-quantized graph trains: dropout's p, batch norm's eps and momentum, and every
parameter's identity. Tools that switch or rewrite a graph lose them without a word, and the model trained is another.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule

from pocketforge.errors import StageFailed
from pocketforge.outcomes.qat import BatchNormNumbers, Guarded
from pocketforge.quantization.graph_modes import batch_norms, dropouts

_HINT = "a fault of the training graph, not of your model: please report it; static_int8 does not train"


class Guard:
    """Knows the model as it was exported for training, and compares the graph with it after every switch.

    exported: the graph before fake quantization; module: the float model, which must share no tensor with it.
    """

    def __init__(self, exported: GraphModule, module: nn.Module) -> None:
        self.dropouts = dropouts(exported)
        self.batch_norms = {each.name: each for each in batch_norms(exported)}
        self.parameters = dict(exported.named_parameters())
        self._places = {name: value.data_ptr() for name, value in self.parameters.items()}
        self._buffers = {
            name: value.data_ptr()
            for name, value in exported.named_buffers()
            if not name.endswith("num_batches_tracked")  # nothing computes with it
        }
        self._theirs = {
            value.untyped_storage().data_ptr(): name
            for name, value in [*module.named_parameters(), *module.named_buffers()]
        }

    def check(
        self,
        graph: GraphModule,
        when: str,
        *,
        dropout: bool,
        batch_norm: bool,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Raises StageFailed naming all that changed, or is not in the form (see graph_modes.set_form) wanted.

        optimizer: must hold this graph's trainable parameters, all of them (it may hold others, as a hint's).
        """
        faults = [
            *self._fault_dropouts(graph, dropout),
            *self._fault_batch_norms(graph, batch_norm),
            *self._fault_parameters(graph),
            *(self._fault_optimizer(optimizer) if optimizer is not None else ()),
        ]
        if faults:
            listed = "\n  ".join(faults)
            raise StageFailed(f"the graph in training is not the model any more, {when}:\n  {listed}", _HINT)

    def report(self) -> Guarded:
        """What was compared."""
        return Guarded(
            dropout={each.place: each.p for each in self.dropouts},
            batch_norm={name: BatchNormNumbers(each.eps, each.momentum) for name, each in self.batch_norms.items()},
            parameters=len(self.parameters),
        )

    def _fault_dropouts(self, graph: GraphModule, training: bool) -> list[str]:
        now_there = dropouts(graph)
        if len(now_there) != len(self.dropouts):
            return [f"{len(self.dropouts)} dropouts became {len(now_there)}"]
        faults = []
        for was, now in zip(self.dropouts, now_there, strict=True):
            if was.p != now.p:
                faults.append(f"dropout {was.place}: p was {was.p}, is {now.p}")
            if now.training != training:
                faults.append(f"dropout {was.place}: is in {_form(now.training)} form, wanted {_form(training)}")
        return faults

    def _fault_batch_norms(self, graph: GraphModule, training: bool) -> list[str]:
        norms = batch_norms(graph)
        faults = [f"batch norm {name}: is gone" for name in sorted({*self.batch_norms} - {b.name for b in norms})]
        for now in norms:
            was = self.batch_norms.get(now.name)
            if was is None:
                faults.append(f"batch norm {now.name}: was not in the model")
                continue
            for what in ("eps", "momentum"):
                if getattr(was, what) != getattr(now, what):
                    faults.append(f"batch norm {now.name}: {what} was {getattr(was, what)}, is {getattr(now, what)}")
            if now.scaled_with_eps not in (None, was.eps):
                faults.append(f"batch norm {now.name}: eps is {was.eps}, its weights' scale has {now.scaled_with_eps}")
            if now.training != training:
                faults.append(f"batch norm {now.name}: is in {_form(now.training)} form, wanted {_form(training)}")
        return faults

    def _fault_parameters(self, graph: GraphModule) -> list[str]:
        parameters = dict(graph.named_parameters())
        faults = [f"parameter {name}: is gone" for name in self.parameters if name not in parameters]
        faults += [f"parameter {name}: is new" for name in parameters if name not in self.parameters]
        for name, parameter in self.parameters.items():
            if name in parameters and parameters[name] is not parameter:
                faults.append(f"parameter {name}: is another object than the one in training")
            elif parameter.data_ptr() != self._places[name]:
                faults.append(f"parameter {name}: its values are in another place")
        buffers = dict(graph.named_buffers())
        for name, place in self._buffers.items():
            if name not in buffers:
                faults.append(f"buffer {name}: is gone")
            elif buffers[name].data_ptr() != place:
                faults.append(f"buffer {name}: its values are in another place")
        for name, tensor in [*parameters.items(), *buffers.items()]:
            shared = self._theirs.get(tensor.untyped_storage().data_ptr()) if tensor.numel() else None
            if shared:
                faults.append(f"{name}: shares its values with {shared} of the float model")
        return faults

    def _fault_optimizer(self, optimizer: torch.optim.Optimizer) -> list[str]:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [
            f"parameter {name}: the optimizer does not train it"
            for name, parameter in self.parameters.items()
            if parameter.requires_grad and id(parameter) not in held
        ]


def _form(training: bool) -> str:
    return "train" if training else "eval"
