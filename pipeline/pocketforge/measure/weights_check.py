"""Whether a file's weights are stored as its scheme says: parity alone cannot tell, as a float file is nearer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from pocketforge.measure.file_checks import check
from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized, QuantizedLayer
from pocketforge.outcomes.verify import FileCheck
from pocketforge.recipe.schemes import SCHEMES, SchemeInfo
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.describe import Description, describe

# Of the whole file's weights, where nobody says which layers are quantized: biases and scales are wider.
LEAST_STORED_SHARE = 0.5
# Of the quantized layers' own weights.
LEAST_DUE_SHARE = 0.9


def check_weights(path: Path, runtime: str, scheme: str, quantized: Path | None) -> list[FileCheck]:
    """The check of one file; none for schemes that a file's data types say nothing of. quantized: the folder of the
    step that quantized the model, where there is one."""
    info = SCHEMES[scheme]
    if not info.stored_as:
        return []
    described = describe(path)
    bytes_of = described.dtypes
    total = sum(bytes_of.values())
    stored = sum(bytes_of.get(dtype, 0) for dtype in info.stored_as)
    share = stored / total if total else 0.0
    name = "int8 weights" if info.weights == "int8" else f"{' or '.join(info.stored_as)} weights"
    kinds = RUNTIMES[runtime].dynamic_layers
    layers = files.read(quantized, Quantized).in_runtime(kinds).layers if quantized else ()
    # What a scheme leaves float, four bytes a value, neither counts against the rest nor excuses it: of the quantized
    # layers' own weights, a byte a value (half a one of 4 bits), as much has to be there.
    due = info.bits / 8 * sum({layer.name: layer.weights for layer in layers if layer.scheme != "fp32"}.values())
    other = _largest_other(described, info.stored_as)
    if not due:
        passed = share >= LEAST_STORED_SHARE
        found = f"{share:.1%}" if passed or not other else f"{share:.1%} (the largest other: {other})"
        return [check(name, f"at least {LEAST_STORED_SHARE:.0%} of the weights' bytes", found, passed)]
    passed = stored >= LEAST_DUE_SHARE * due or (stored > 0 and _stored_once(described, info, layers, due - stored))
    left_float = list(dict.fromkeys(layer.name for layer in layers if layer.scheme == "fp32" and layer.weights))
    notes = [f"float: {', '.join(left_float)}"] if left_float else []
    if share < LEAST_STORED_SHARE:  # nobody is to take it for a file of a quarter the size
        notes.append(f"{share:.1%} of the whole file's")
    if other and (share < LEAST_STORED_SHARE or not passed):
        notes.append(f"the largest other: {other}")
    wanted = f"at least {LEAST_DUE_SHARE:.0%} of {due:,.0f} bytes, which the quantized layers' weights take"
    told = f" ({'; '.join(notes)})" if notes else ""
    return [check(name, wanted, f"{stored / due:.1%}{told}", passed)]


def _stored_once(file: Description, info: SchemeInfo, layers: Sequence[QuantizedLayer], missing_bytes: float) -> bool:
    """Whether what is missing lies nowhere in the file as numbers: layers with equal weights share what is stored."""
    floats = {layer.name: layer.weights for layer in layers if layer.scheme == "fp32"}
    others = [w for w in file.weights if w.dtype not in info.stored_as and len(w.shape) > 1]
    return sum(math.prod(w.shape) for w in others) - sum(floats.values()) < missing_bytes * 8 / info.bits


def _largest_other(file: Description, stored_as: Collection[str]) -> str:
    """The weight that is stored otherwise and takes the most, in words: often an embedding's."""
    others = [weight for weight in file.weights if weight.dtype not in stored_as]
    if not others:
        return ""
    most = max(others, key=lambda weight: math.prod(weight.shape))
    return f"{most.name} {list(most.shape)} {most.dtype}"
