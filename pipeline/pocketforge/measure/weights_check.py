"""Whether a file's weights are stored as its scheme says: parity alone cannot tell, as a float file is nearer."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from pocketforge.measure.file_checks import check
from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized
from pocketforge.outcomes.verify import FileCheck
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.runtimes.describe import Description, describe

LEAST_STORED_SHARE = 0.5


def check_weights(path: Path, scheme: str, quantized: Path | None) -> list[FileCheck]:
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
    layers = files.read(quantized, Quantized).layers if quantized else ()
    left_float = [layer.name for layer in layers if layer.scheme == "fp32"]
    if share >= LEAST_STORED_SHARE or not left_float:
        # Biases and scales are wider.
        wanted = f"at least {LEAST_STORED_SHARE:.0%} of the weights' bytes"
        passed = share >= LEAST_STORED_SHARE
        other = "" if passed else _largest_other(described, info.stored_as)
        return [check(name, wanted, f"{share:.1%}{other}", passed)]
    # What stayed float, four bytes a value, does not excuse the rest: of the quantized layers' own weights, a byte a
    # value (half a one of 4 bits), as much has to be there.
    weights = {layer.name: layer.weights for layer in layers if layer.scheme != "fp32"}
    due = info.bits / 8 * sum(weights.values())
    wanted = f"at least {LEAST_STORED_SHARE:.0%} of {due:,.0f} bytes, which the quantized layers' weights take"
    found = f"{stored / max(due, 1):.1%} (float: {', '.join(left_float)})"
    return [check(name, wanted, found, stored > 0 and stored >= LEAST_STORED_SHARE * due)]


def _largest_other(file: Description, stored_as: Collection[str]) -> str:
    """The weight that is stored otherwise and takes the most, in words: often an embedding's."""
    others = [weight for weight in file.weights if weight.dtype not in stored_as]
    if not others:
        return ""
    most = max(others, key=lambda weight: math.prod(weight.shape))
    return f" (the largest other: {most.name} {list(most.shape)} {most.dtype})"
