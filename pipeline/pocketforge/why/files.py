"""The exported file: run as its specification says (lowered) and as an app runs it (runtime), each in a new process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.files import hash_file
from pocketforge.metrics import real_values
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.taps import FileTap
from pocketforge.why.forms import Form

Array = NDArray[Any]
# How each runtime's file is run without what makes it fast; ExecuTorch's cannot be (see tap_executorch).
PLAIN = {
    "onnx": ("onnx_reference", "ONNX Runtime, no graph optimization"),
    "tflite": ("tflite_reference", "LiteRT's reference kernels, no delegate"),
}


def run_file(path: Path, session: str, samples: Sequence[Path], out: Path) -> tuple[RunAnswer, list[Array]]:
    """Every output of a file on the samples, de-quantized where the session knows how, samples first.

    Raises ToolFailed when it does not load or run.
    """
    answer = host.run(
        RunRequest(session=session, model=path, sha256=hash_file(path), inputs=tuple(samples), outputs=out)
    )
    found = []
    for number, info in enumerate(answer.outputs):
        values = np.load(out / f"outputs_{number}.npy", mmap_mode="r")
        found.append(real_values(values, info.get("scale"), info.get("zero_point")))
    return answer, found


def tap_layers(runtime: str, path: Path, form: Form, out: Path) -> tuple[Path, dict[str, FileTap]]:
    """A copy of an .onnx or .tflite file that also gives its layers' outputs, and layer → which output."""
    if runtime == "onnx":
        from pocketforge.runtimes.tap_onnx import tap_file
    else:
        from pocketforge.runtimes.tap_tflite import tap_file
    out.mkdir(parents=True, exist_ok=True)
    copy = out / f"tapped{path.suffix}"
    return copy, match(form, tap_file(path, copy))


def match(form: Form, taps: Sequence[FileTap]) -> dict[str, FileTap]:
    """Layers of a graph → those of the file: by order among those whose weights have the same kind and dimensions.

    Converters rename everything and order parallel branches anew, so a group of another size is left out.
    """
    theirs: dict[Any, list[FileTap]] = defaultdict(list)
    for tap in taps:
        theirs[tap.kind, _size(tap.weight)].append(tap)
    ours: dict[Any, list[str]] = defaultdict(list)
    for layer, graph_tap in form.taps.items():
        if graph_tap.weight:
            ours["conv" if graph_tap.op.startswith("conv") else "linear", _size(graph_tap.weight)].append(layer)
    found: dict[str, FileTap] = {}
    for group, layers in ours.items():
        if len(theirs[group]) == len(layers):
            found |= dict(zip(layers, theirs[group], strict=True))
    return {layer: found[layer] for layer in form.taps if layer in found}


def _size(weight: Sequence[int]) -> tuple[int, ...]:
    """A weight's dimensions whatever their order: layouts differ between formats."""
    return tuple(sorted(n for n in weight if n != 1))


def layer_outputs(
    runtime: str, path: Path, session: str, taps: Mapping[str, FileTap], samples: Sequence[Path], out: Path
) -> dict[str, Array]:
    """Layer → its output in the tapped file, in PyTorch's layout."""
    _, outputs = run_file(path, session, samples, out)
    found = {}
    for layer, tap in taps.items():
        values = real_values(outputs[tap.output], tap.scale, tap.zero_point)
        found[layer] = np.moveaxis(values, -1, 1) if tap.is_nhwc and values.ndim == 4 else values
    return found


def app_session(runtime: str) -> str:
    """The session that stands for an app."""
    return RUNTIMES[runtime].session
