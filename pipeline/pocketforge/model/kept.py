"""A traced model without the outputs that files shall not have (a recipe's `keep = false`)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch.export import ExportedProgram


def only_outputs(program: ExportedProgram, kept: Sequence[int], shapes: object = None) -> ExportedProgram:
    """The program that answers a tuple of these outputs, by position; what computes the others alone is left out.

    Layers and weights keep their names. It has to answer a tuple of tensors, with positional inputs. shapes: as
    torch.export takes it, of inputs whose sizes vary.
    """
    module = program.module()
    graph = module.graph
    (output,) = [node for node in graph.nodes if node.op == "output"]
    answers = list(output.args[0])
    output.args = (tuple(answers[position] for position in kept),)
    codegen = graph._codegen
    out_spec = torch.utils._pytree.tree_structure((0,) * len(kept))
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=out_spec)
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
        return torch.export.export(module, tuple(program.example_inputs[0]), dynamic_shapes=shapes, strict=False)
