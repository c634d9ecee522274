"""The layers of one stage, compared with those of the stage before it: each kind of stage in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.fx import Node

from pocketforge.metrics import Array
from pocketforge.registries import Why
from pocketforge.runtimes.taps import lowering
from pocketforge.why import files
from pocketforge.why.causes import compare_weights
from pocketforge.why.chain import Chain
from pocketforge.why.forms import Form, eager_layers, unique
from pocketforge.why.layer_outputs import GraphSource, LayerDifference, StoredSource, compare
from pocketforge.why.taps import Tap, taps_of

_SAME_WEIGHT, _QUANTIZED_WEIGHT = 1e-5, 2e-2
_RIGHT_DB = 24.0  # every layer is nearer than a bad stage's output may be: the fault is not in what was looked at
_NOT_IN_A_TAPPED_FILE = (
    "the runtime answers rightly when it also has to give its layers' outputs: it is a fusion across layers"
)
_NOT_IN_A_NEW_FILE = (
    "a {suffix} gives no layer's output, and one written again from the same graph is right in every layer: it is what "
    "half precision or a fusion across layers does, or the shipped file is not what the exporter writes from it"
)


def _nothing_known(_layer: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class LayersFound:
    """The layers of one stage.

    Attributes:
        rows: One a layer, in order.
        missing: Why there are none, in words; empty where there are.
        weights: Layer → what is known of its weights, in words.
    """

    rows: Sequence[LayerDifference]
    missing: str = ""
    weights: Callable[[str], str] = _nothing_known


def layers_of_stage(chain: Chain, name: str, *, bad: bool) -> LayersFound:
    """Compare the layers of stage `name` with those of the nearest stage before it. bad: whether its outputs differ."""
    ran = [form for form in chain.forms if form.outputs is not None]
    here = next(form for form in ran if form.name == name)
    before = ran[ran.index(here) - 1]
    count = min(len(chain.samples[0]), _count(chain))
    if here.module is not None:
        return (
            _from_module(chain, before, here, count) if before.name == "eager" else _graphs(chain, before, here, count)
        )
    if chain.why is None:
        return LayersFound([], f"no layer of a {chain.file.suffix} file can be seen: its runtime's row has no `why`")
    return (_in_file if chain.why.tap else _lowered_again)(chain, chain.why, here, count, bad)


def _count(chain: Chain) -> int:
    return len(np.load(chain.few[0], mmap_mode="r"))


class _ModuleSource:
    """The eager module."""

    def __init__(self, module: torch.nn.Module, chain: Chain) -> None:
        self._module, self._chain = module, chain

    def look(self, index: int, clean: Mapping[str, Array] | None = None) -> dict[str, Array]:
        return eager_layers(self._module, self._chain.given_module(index))


def _from_module(chain: Chain, before: Form, here: Form, count: int) -> LayersFound:
    """Module by module: before any fusing, a module's output is the op's."""
    assert before.module is not None
    taps = unique(taps_of(here.graph.graph, raw=True))
    modules = dict(before.module.named_modules())
    source = GraphSource(here.graph, taps, chain.samples, chain.sequence)
    layers = {name: tap.op for name, tap in taps.items() if name.partition("#")[0] in modules}
    rows = compare(_ModuleSource(before.module, chain), source, layers, count, forced=True)
    of_module, of_graph = before.module.state_dict(), here.graph.state_dict()

    def weights(layer: str) -> str:
        name = f"{layer.partition('#')[0]}.weight"
        if name not in of_module or name not in of_graph:
            return ""
        return compare_weights(of_module[name].detach().numpy(), of_graph[name].detach().numpy(), _SAME_WEIGHT)

    return LayersFound(rows, "" if rows else "no layer of the graph has the name of a module", weights)


def _graphs(chain: Chain, before: Form, here: Form, count: int) -> LayersFound:
    layers = {name: tap.op for name, tap in before.taps.items() if name in here.taps}
    one = GraphSource(before.graph, {n: before.taps[n] for n in layers}, chain.samples, chain.sequence)
    other = GraphSource(here.graph, {n: here.taps[n] for n in layers}, chain.samples, chain.sequence)
    rows = compare(one, other, layers, count, forced=True)

    def weights(layer: str) -> str:
        # Batch norm is folded in one and not in the other where a float graph becomes a quantized one.
        if before.name == "exported":
            return ""
        old, new = (_weight(form, form.taps[layer], chain) for form in (before, here))
        return compare_weights(old, new, _QUANTIZED_WEIGHT)

    return LayersFound(rows, "" if rows else "no layer of one graph is found in the other", weights)


def _weight(form: Form, tap: Tap, chain: Chain) -> Array | None:
    """The weight that a layer computes with, in real values: what comes in at its second place."""
    if not tap.weight or len(tap.anchor.args) < 2:
        return None
    from pocketforge.why.taps import Tapped

    node = tap.anchor.args[1]
    assert isinstance(node, Node)
    seen = Tapped(form.graph, {"weight": Tap("weight", tap.op, node, node, (node,))}).look(chain.given(0))
    weight: Array = seen["weight"].detach().numpy()
    return weight


def _in_file(chain: Chain, how: Why, here: Form, count: int, bad: bool) -> LayersFound:
    """A file that also gives its layers' outputs, plain and as an app runs it. how: with a tap."""
    copy, taps = files.tap_layers(how, chain.file, chain.graph, chain.scratch / "taps")
    layers = {name: chain.graph.taps[name].op for name in taps}
    if not taps:
        return LayersFound([], "no op of the file can be told to be a certain layer of the graph")

    def run(session: str, folder: str) -> StoredSource:
        return StoredSource(files.layer_outputs(copy, session, taps, chain.few, chain.scratch / folder))

    lowered = next(form for form in chain.forms if form.name == "lowered")
    if lowered.missing:
        return LayersFound([], lowered.missing)
    assert how.plain is not None  # Why sees to it
    plain = run(how.plain.session, "lowered_layers")
    if here.name == "lowered":
        graph = GraphSource(chain.graph.graph, {n: chain.graph.taps[n] for n in layers}, chain.samples, chain.sequence)
        return LayersFound(compare(graph, plain, layers, count, forced=False))
    fast = run(files.app_session(chain.runtime), "runtime_layers")
    rows = compare(plain, fast, layers, count, forced=False)
    # Asked for its layers' outputs, a runtime fuses less.
    return _unless_all_right(rows, bad, _NOT_IN_A_TAPPED_FILE)


def _lowered_again(chain: Chain, how: Why, here: Form, count: int, bad: bool) -> LayersFound:
    """The graph with its layers' outputs as further outputs, lowered, run in Python and as a file."""
    lower = lowering(how)
    form = chain.graph
    layers = {name: tap.op for name, tap in form.taps.items()}
    example = tuple(chain.given(0))
    program = lower.with_outputs(form.graph, [form.taps[name].node for name in layers], example)
    path = chain.scratch / f"tapped{chain.file.suffix}"
    run = lower.lower(program, path)

    class Lowered:
        def look(self, index: int, clean: Mapping[str, Array] | None = None) -> dict[str, Array]:
            with torch.no_grad():
                outputs = run(*chain.given(index))
            return {name: o.numpy() for name, o in zip(layers, outputs, strict=True)}

    if here.name == "lowered":
        graph = GraphSource(form.graph, form.taps, chain.samples, chain.sequence)
        return LayersFound(compare(graph, Lowered(), layers, count, forced=False))
    _, outputs = files.run_file(path, files.app_session(chain.runtime), chain.few, chain.scratch / "runtime_layers")
    stored = StoredSource(dict(zip(layers, outputs, strict=True)))
    rows = compare(Lowered(), stored, layers, count, forced=False)
    return _unless_all_right(rows, bad, _NOT_IN_A_NEW_FILE.format(suffix=chain.file.suffix))


def _unless_all_right(rows: Sequence[LayerDifference], bad: bool, otherwise: str) -> LayersFound:
    """The rows; none where the stage is bad and each layer is right: then the fault is elsewhere, `otherwise` where."""
    if bad and rows and min(row.seen.sqnr_db for row in rows) >= _RIGHT_DB:
        return LayersFound([], otherwise)
    return LayersFound(rows)
