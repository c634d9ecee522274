"""Batch norm folded into the layers before it, by torchao's own fusion: weights as the exported files hold them."""

from __future__ import annotations

import copy
import warnings
from typing import TypeVar

import torch
from torchao.quantization.pt2e.utils import _fuse_conv_bn_, _fuse_linear_bn_  # noqa: PLC2701 - upstream gives it no public name

from pocketforge.rewrites.passes import FOLDER, rewrite

T = TypeVar("T")


def fold_batch_norm(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    """The program as a module with storage of its own, batch norm folded into convolutions and linear layers.

    Weights are rounded or clustered after this, not before: a factor for each channel would undo it. A batch norm
    that follows no such layer stays. What the graph no longer uses is removed. The program is left as it was.
    """
    module = deep_copy(program).module()  # .module() shares the program's tensors
    rewrite(module, FOLDER)  # torchao's fusion looks at no other reader of a layer's output or weight
    _fuse_conv_bn_(module)
    _fuse_linear_bn_(module)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def deep_copy(graph: T) -> T:
    """A copy with storage of its own, of a program or a graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own internals, nothing the user could act on
        return copy.deepcopy(graph)
