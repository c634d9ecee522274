"""Float weights of an ONNX model → a table of centroids and indices into it, looked up in the graph:

    indices (uint4 or uint8) ─ Cast ─ Gather (centroids) ─ what took the weight

ONNX Runtime computes constant nodes once, when a model is loaded: the .onnx file is small, loading takes a little
longer, and a running session has float weights, as fast and as large as before. An .ort file is saved after that step,
so it holds float weights: no smaller than fp32 but for gzip. (Saved before it, an .ort would look up its weights in
each inference, 2.7 times slower on the digits CNN; and its format has no uint4.)
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketforge.errors import StageFailed
from pocketforge.metrics import Array
from pocketforge.quantization.codebook_files import Codebook, load_codebooks, pack_bits

# ONNX has UINT4 since then; below it, and for more than 16 entries, an index takes a byte.
UINT4_OPSET, UINT4_ENTRIES = 21, 16


def apply_codebooks(model: onnx.ModelProto, encodings: Path) -> dict[str, int]:
    """Replace each weight that has a codebook, in place. encodings: the quantize step's folder.

    A weight is found by its values: the exporter keeps convolutions' and most linear layers' weights under their own
    name, but writes those of a MatMul transposed under another, and equal ones once. Returns {weights, uint4, uint8}:
    how many weights were replaced, and with how many bits an index.
    Raises StageFailed when a codebook's weight is not in the model: it would be shipped in float silently.
    """
    books = load_codebooks(encodings)
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    by_values = _by_values(books)
    placed: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    count = {"uint4": 0, "uint8": 0}
    for initializer in list(model.graph.initializer):
        if initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2:
            continue
        name = initializer.name
        known = by_values.get(_digest(numpy_helper.to_array(initializer)))
        if known is None:
            continue
        names, indices, centroids = known
        placed.update(names)
        small = len(centroids) <= UINT4_ENTRIES and opset >= UINT4_OPSET
        count["uint4" if small else "uint8"] += 1
        # Names of our own have a slash: a user's cannot.
        model.graph.initializer.remove(initializer)
        model.graph.initializer.append(_stored(f"{name}/indices", indices, small))
        model.graph.initializer.append(numpy_helper.from_array(centroids, f"{name}/centroids"))
        nodes.append(helper.make_node("Cast", [f"{name}/indices"], [f"{name}/int32"], to=TensorProto.INT32))
        nodes.append(helper.make_node("Gather", [f"{name}/centroids", f"{name}/int32"], [name], axis=0))
    missing = sorted(set(books) - placed)
    if missing:
        raise StageFailed(
            f"the exporter wrote no constant with the clustered values of {', '.join(missing)}",
            'use scheme = "weight_only_int8", or leave these layers as the exporter knows them',
        )
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return {"weights": sum(count.values()), **count}


def _by_values(
    books: dict[str, Codebook],
) -> dict[bytes, tuple[list[str], NDArray[np.uint8], NDArray[np.float32]]]:
    """What a constant's values are the clustered form of: names of the weights, indices of its shape, centroids."""
    by_digest: dict[bytes, tuple[list[str], NDArray[np.uint8], NDArray[np.float32]]] = {}
    for name, book in books.items():
        for indices in (book.indices, book.indices.T) if book.indices.ndim == 2 else (book.indices,):
            known = by_digest.setdefault(_digest(book.centroids[indices]), ([], indices, book.centroids))
            if name not in known[0]:
                known[0].append(name)
    return by_digest


def _digest(values: Array) -> bytes:
    array = np.ascontiguousarray(values, np.float32)
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()


def _stored(name: str, indices: NDArray[np.uint8], small: bool) -> onnx.TensorProto:
    if not small:
        return numpy_helper.from_array(np.ascontiguousarray(indices), name)
    # Two to a byte, the lower half first, as ONNX stores UINT4.
    data = pack_bits(indices, 4).tobytes()
    return TensorProto(name=name, data_type=TensorProto.UINT4, dims=indices.shape, raw_data=data)
