"""The exported file: run as its specification says (lowered) and as an app runs it (runtime), each in a new process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pocketforge.devices import host
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.outputs import stored_outputs
from pocketforge.files import hash_file
from pocketforge.metrics import Array, real_values
from pocketforge.registries import RUNTIMES, Why
from pocketforge.runtimes.taps import FileTap, file_tapper
from pocketforge.why.forms import Form

# Kind and dimensions of a layer's weight.
Group = tuple[str, tuple[int, ...]]


def run_file(path: Path, session: str, samples: Sequence[Path], out: Path) -> tuple[RunAnswer, list[Array]]:
    """Every output of a file on the samples, de-quantized where the session knows how, samples first.

    Raises ToolFailed when it does not load or run.
    """
    answer = host.run(
        RunRequest(session=session, model=path, sha256=hash_file(path), inputs=tuple(samples), outputs=out)
    )
    return answer, [output.values for output in stored_outputs(out, answer.outputs)]


def tap_layers(how: Why, path: Path, form: Form, out: Path) -> tuple[Path, dict[str, FileTap]]:
    """A copy of a file that also gives its layers' outputs, and layer → which output. how: with a tap."""
    out.mkdir(parents=True, exist_ok=True)
    copy = out / f"tapped{path.suffix}"
    return copy, match(form, file_tapper(how).tap_file(path, copy))


def match(form: Form, taps: Sequence[FileTap]) -> dict[str, FileTap]:
    """Layers of a graph → those of the file: by order among those whose weights have the same kind and dimensions.

    Converters rename everything and order parallel branches anew, so a group of another size is left out.
    """
    in_file: dict[Group, list[FileTap]] = defaultdict(list)
    for tap in taps:
        in_file[tap.kind, _size(tap.weight)].append(tap)
    in_graph: dict[Group, list[str]] = defaultdict(list)
    for layer, graph_tap in form.taps.items():
        if graph_tap.weight:
            in_graph["conv" if graph_tap.op.startswith("conv") else "linear", _size(graph_tap.weight)].append(layer)
    matched: dict[str, FileTap] = {}
    for group, layers in in_graph.items():
        if len(in_file[group]) == len(layers):
            matched |= dict(zip(layers, in_file[group], strict=True))
    return {layer: matched[layer] for layer in form.taps if layer in matched}


def _size(weight: Sequence[int]) -> tuple[int, ...]:
    """A weight's dimensions whatever their order: layouts differ between formats."""
    return tuple(sorted(n for n in weight if n != 1))


def layer_outputs(
    path: Path, session: str, taps: Mapping[str, FileTap], samples: Sequence[Path], out: Path
) -> dict[str, Array]:
    """Layer → its output in the tapped file, in PyTorch's layout."""
    _, outputs = run_file(path, session, samples, out)
    by_layer = {}
    for layer, tap in taps.items():
        values = real_values(outputs[tap.output], tap.scale, tap.zero_point)
        by_layer[layer] = np.moveaxis(values, -1, 1) if tap.is_nhwc and values.ndim == 4 else values
    return by_layer


def app_session(runtime: str) -> str:
    """The session that stands for an app."""
    return RUNTIMES[runtime].session
