"""What static int8 needs where there is attention: sums of the residual stream in float; and what else there is.

Norms read these sums, and no layer. Levels there serve nobody: a norm is computed in float, and the next sum takes its
inputs as they come. They cost a rounding in each block, and all digits where a few channels of the stream are a hundred
times the others, as in trained transformers (Bondarenko et al. 2021, arXiv:2109.12948, section 3).
"""

from __future__ import annotations

from torch.fx import Graph, Node

from pocketforge.quantization.operations import MOVING, operations_of
from pocketforge.rewrites.graph import op_name

ATTENTION = "scaled_dot_product_attention"
NORMS = frozenset({"layer_norm", "native_layer_norm", "group_norm", "rms_norm", "instance_norm"})


def sums_for_norms(graph: Graph) -> tuple[str, ...]:
    """Names of the additions whose value goes to norms, and else to other additions alone."""
    operations = operations_of(graph)
    found = []
    for node, operation in operations.items():
        if operation.kind == "add":
            read_by = {"a norm" if op_name(reader) in NORMS else op_name(reader) for reader in _readers(node)}
            if "a norm" in read_by and read_by <= {"a norm", "add", "add_"}:
                found.append(operation.name)
    return tuple(found)


def advice(graph: Graph) -> str:
    """What to try where a static int8 file of a model with attention misses its limits; empty for other models."""
    kinds = {operation.kind for operation in operations_of(graph).values()}
    if ATTENTION not in kinds and not ("softmax" in kinds and kinds & {"matmul", "bmm"}):
        return ""
    return (
        "attention: where static_int8 misses its limits, dynamic_int8 is meant: each input of a linear layer has its "
        'own range, all else stays float; in the [[target]]: quantize = { scheme = "dynamic_int8" }'
    )


def _readers(node: Node) -> set[Node]:
    """Of a value, wherever it is moved."""
    found: set[Node] = set()
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if op_name(user) in MOVING:
            waiting += user.users
        else:
            found.add(user)
    return found
