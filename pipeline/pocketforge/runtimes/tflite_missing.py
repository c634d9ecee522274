"""What litert's converter writes, or fails to write, because no TFLite runtime has it: refused by the layer's name."""

from __future__ import annotations

from collections.abc import Iterable

from ai_edge_litert import schema_py_generated as schema
from torch.fx import Node

from pocketforge.errors import StageFailed, first_line
from pocketforge.rewrites.graph import op_name, where
from pocketforge.runtimes.tflite_objects import unpacked

# What the converter makes of a sort or of a topk whose indices nobody reads, of these.
SORTS = ("sort", "topk", "msort", "argsort")
# What it makes of values that are put or added up in computed places. The runtime has the form for some of them.
SCATTERS = (
    *("col2im", "scatter", "scatter_add", "scatter_reduce", "index_add", "index_put", "index_reduce", "index_copy"),
    *("masked_scatter", "bincount", "histc", "one_hot"),
)
# What it says of the sort of positions, which it writes in 64 bits and reads in 32.
_SORT_FAILED = "comparator block argument"


def sort_refused(error: Exception, nodes: Iterable[Node]) -> StageFailed | None:
    """The refusal, where a conversion failed at a sort; its own words are of the converter's insides."""
    return _sorts(nodes) if _SORT_FAILED in str(error) else None


def refuse_missing(data: bytes, nodes: Iterable[Node]) -> None:
    """Raises StageFailed where the runtime could not load the file: it would not say which layer it means.

    nodes: of the graph that the user's model is.
    """
    kinds = {code.builtinCode for code in unpacked(data).operatorCodes}
    if schema.BuiltinOperator.STABLEHLO_SORT in kinds:
        raise _sorts(nodes)
    if schema.BuiltinOperator.STABLEHLO_SCATTER in kinds and (said := _dead(data)):
        raise StageFailed(
            f"tflite cannot put or add up values in computed places{_at(nodes, SCATTERS)}: the runtime does not load "
            f"the file: {said}",
            "write it as a product with a matrix of zeros and ones or as a transposed convolution, or try another "
            "runtime (onnx, executorch)",
        )


def _sorts(nodes: Iterable[Node]) -> StageFailed:
    return StageFailed(
        f"tflite has no operator that sorts{_at(nodes, SORTS)}: the runtime would not load the file",
        "let the model read both values and indices of a topk (which TFLite has), sort in the app, or try another "
        "runtime (onnx, executorch)",
    )


def _at(nodes: Iterable[Node], ops: tuple[str, ...]) -> str:
    layers = dict.fromkeys(where(node) for node in nodes if op_name(node).rstrip("_") in ops)
    return f", at {' or '.join(layers)}" if layers else ""


def _dead(data: bytes) -> str:
    """What the runtime says of a file that it does not load; empty where it does."""
    from ai_edge_litert.interpreter import Interpreter  # only files with such an operator need it here

    try:
        Interpreter(model_content=data).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return first_line(error)
    return ""
