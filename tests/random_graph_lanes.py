"""What a build does with a random network, lane by lane, by the stages' own functions; and how right the files are.

Lanes: `fold` and `prepare` (the graph before and after everything is folded, in float), then runtime × scheme.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import math
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import file_answers
import numpy as np
import torch
from numpy.typing import NDArray
from random_graph_ties import goes_either_way, nudged_answers
from random_graphs import RandomGraph, grove, make
from safetensors.torch import save_file

from pocketforge.data.arrays_on_disk import load_samples
from pocketforge.devices.kernels import kernels_here
from pocketforge.errors import PocketforgeError
from pocketforge.metrics import PERFECT_SQNR_DB
from pocketforge.model.evaluate import evaluate
from pocketforge.outcomes import files
from pocketforge.outcomes.data import Counts, Preprocessing, Sampled, SampleTensor
from pocketforge.outcomes.export import Exported
from pocketforge.outcomes.verify import FileCheck, Verified
from pocketforge.quantization.fold import fold_batch_norm
from pocketforge.quantization.pt2e import prepare
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.target import Verify
from pocketforge.specs.base import Spec
from pocketforge.specs.export import ExportSpec
from pocketforge.specs.quantize import QuantizeSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.trained import ModelSource
from pocketforge.specs.verify import VerifySpec
from pocketforge.stages import export, quantize, reference, verify

RUNTIMES = ("onnx", "executorch", "tflite")
SCHEMES = ("fp32", "static_int8", "dynamic_int8")
FOLDS = ("fold", "prepare")
LANES = (*FOLDS, *(f"{runtime} {scheme}" for scheme in SCHEMES for runtime in RUNTIMES))
EVAL_SAMPLES = 8
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"

LEAST_FOLD_DB = 110.0
LEAST_FLOAT_DB = 100.0
# Against the quantized graph. A runtime that rounds a value between two levels to the other one is a step off there,
# and more where later layers amplify it: a file is as its graph when it is near in steps or in dB.
MOST_STEPS, LEAST_INT8_DB = 4.0, 30.0
BETTER_DB = 3.0
LEAST_INT8_AGREEMENT = 0.75  # of integer outputs: a step decides an argmax between near values
Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LaneResult:
    """status: ok, refused, unnamed (refused without the layer's name), wrong, error (not an error of ours) or crashed.

    db: of the worst output, about its mean; against the trained model, or int8 against its own quantized graph. steps:
    the largest difference in steps of an output, or of what was quantized last before it. message: of what refused or
    failed.
    """

    seed: int
    lane: str
    status: str
    db: float | None = None
    steps: float | None = None
    graph_db: float | None = None
    message: str = ""


def run_lanes(graph: RandomGraph, folder: Path, lanes: Callable[[str], bool] = lambda _: True) -> Iterator[LaneResult]:
    """Each wanted lane's result, as soon as it is known. folder: an empty one, or what an earlier call left."""
    inputs = _model_folder(graph, folder)
    names = _layer_names(graph)
    traced = _said(lambda: _stage(reference, inputs, _reference_spec(), folder / "reference"), names)
    inputs = {**inputs, "reference": folder / "reference"}
    quantized: dict[str, tuple[str, str] | None] = {}
    for lane in filter(lanes, LANES):
        if traced:
            yield LaneResult(graph.seed, lane, traced[0], message=traced[1])
            continue
        scheme = lane.partition(" ")[2]
        if scheme in ("static_int8", "dynamic_int8") and scheme not in quantized:
            quantized[scheme] = _said(lambda: _with_quantized(lane, inputs, folder), names)  # noqa: B023 called at once
        if (refused := quantized.get(scheme)) is not None:
            yield LaneResult(graph.seed, lane, refused[0], message=refused[1])
            continue
        mine = _with_quantized(lane, inputs, folder)
        yield _lane(graph, lane, mine, folder / lane.replace(" ", "_"), names)


def run_together(
    graphs: Sequence[RandomGraph], folder: Path, lanes: Callable[[str], bool] = lambda _: True
) -> Iterator[LaneResult]:
    """`run_lanes` for each of several networks, side by side in one file where that is right; where it is not, in
    halves, down to the one that is not.

    What is right together has the worst network's dB and steps. Dynamic schemes refuse a network without linear layers,
    so that such stay out of a grove's dynamic lanes. folder: an empty one, or what an earlier call left.
    """
    linear = [graph for graph in graphs if any(isinstance(m, torch.nn.Linear) for m in graph.module.modules())]
    others = [graph for graph in graphs if graph not in linear]
    for lane in filter(lanes, LANES):
        if "dynamic" not in lane:
            yield from _in_groves(graphs, lane, folder)
            continue
        yield from _in_groves(linear, lane, folder)
        for graph in others:
            yield from _in_groves([graph], lane, folder)


def _in_groves(graphs: Sequence[RandomGraph], lane: str, folder: Path) -> Iterator[LaneResult]:
    """A lane of all of them together, or of each half, and so on down to the network that is not right. What a stage
    made of the same networks for another lane is taken from its folder.
    """
    if len(graphs) < 2:
        for graph in graphs:
            (folder / str(graph.seed)).mkdir(exist_ok=True)
            yield from run_lanes(graph, folder / str(graph.seed), [lane].__contains__)
        return
    together = folder / f"grove_{'_'.join(str(graph.seed) for graph in graphs)}"
    together.mkdir(exist_ok=True)
    (result,) = run_lanes(grove(graphs), together, [lane].__contains__)
    if result.status == "ok":
        yield from (dataclasses.replace(result, seed=graph.seed) for graph in graphs)
        return
    half = len(graphs) // 2
    yield from _in_groves(graphs[:half], lane, folder)
    yield from _in_groves(graphs[half:], lane, folder)


def failed_checks(graph: RandomGraph, lane: str, folder: Path, name: str = "file") -> dict[str, FileCheck]:
    """What the stage `verify` finds wrong with a lane's file, by the checks' names, with the limits of its scheme.

    name: of this file; others of one folder share what comes before the export.
    """
    runtime, _, scheme = lane.partition(" ")
    inputs = _model_folder(graph, folder)
    _stage(reference, inputs, _reference_spec(), folder / "reference")
    inputs = _with_quantized(lane, {**inputs, "reference": folder / "reference"}, folder)
    _export(lane, inputs, folder / name)
    spec = VerifySpec(runtime, scheme, False, "regression", Verify(), kernels_here())
    _stage(verify, {**inputs, "export": folder / name}, spec, out := folder / f"{name}_verify")
    return {each.name: each for each in files.read(out, Verified).checks if not each.passed}


def warm_up(lanes: list[str]) -> None:
    """Have the toolchains do what they do once in a process. No file is run: no fork has the threads of a runtime."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        graph = make(3)
        inputs = _model_folder(graph, folder)
        _stage(reference, inputs, _reference_spec(), folder / "reference")
        inputs["reference"] = folder / "reference"
        if "prepare" in lanes:
            _fold(graph, "prepare", inputs)
        for lane in lanes:
            if " " in lane and not lane.endswith("dynamic_int8"):
                _export(lane, _with_quantized(lane, inputs, folder), folder / lane.replace(" ", "_"))


def _lane(graph: RandomGraph, lane: str, inputs: dict[str, Path], out: Path, names: list[str]) -> LaneResult:
    found: list[LaneResult] = []

    def go() -> None:
        if lane in FOLDS:
            found.append(_fold(graph, lane, inputs))
            return
        _export(lane, inputs, out)
        model = files.read(out, Exported).model_in(out)
        answers: Arrays = file_answers.answers(lane.partition(" ")[0], model, load_samples(inputs["data"], "eval"))
        found.append(_judged(graph, lane, inputs, answers))

    refused = _said(go, names)
    return LaneResult(graph.seed, lane, refused[0], message=refused[1]) if refused else found[0]


def _with_quantized(lane: str, inputs: dict[str, Path], folder: Path) -> dict[str, Path]:
    """inputs, with the quantize stage's folder where the lane's scheme has one."""
    scheme: Any = lane.partition(" ")[2]
    if scheme not in ("static_int8", "dynamic_int8"):
        return inputs
    entry = Quantize(scheme, calibration="minmax") if scheme == "static_int8" else Quantize(scheme)
    _stage(quantize, inputs, QuantizeSpec(entry.settled()), folder / scheme)
    return {**inputs, "quantize": folder / scheme}


def _export(lane: str, inputs: dict[str, Path], out: Path) -> None:
    runtime, _, scheme = lane.partition(" ")
    _stage(export, inputs, ExportSpec(runtime, scheme, "NCHW", "NCHW", "float32", None), out)


def _fold(graph: RandomGraph, lane: str, inputs: dict[str, Path]) -> LaneResult:
    program = torch.export.load(inputs["reference"] / "model.pt2")
    samples = load_samples(inputs["data"], "eval")
    db = _folded_db(lane, program, samples, _eager(inputs))
    if db < LEAST_FOLD_DB:
        # A norm that divides by almost nothing makes float32's last bits large: in double precision they are not seen.
        module = copy.deepcopy(graph.module).double()
        exact = [s.astype(np.float64) if s.dtype.kind == "f" else np.array(s) for s in samples]
        program = torch.export.export(module, tuple(torch.from_numpy(s[:1]) for s in exact))
        db = _folded_db(lane, program, exact, evaluate(module, exact, lambda _: None))
    return LaneResult(graph.seed, lane, "ok" if db >= LEAST_FOLD_DB else "wrong", db)


def _folded_db(lane: str, program: torch.export.ExportedProgram, samples: Arrays, wanted: Arrays) -> float:
    static = Quantize("static_int8", calibration="minmax")
    folded = fold_batch_norm(program) if lane == "fold" else prepare(program, static)
    return min(map(sqnr_db, evaluate(folded, samples, lambda _: None), wanted))


def _judged(graph: RandomGraph, lane: str, inputs: dict[str, Path], answers: Arrays) -> LaneResult:
    eager = _eager(inputs)
    if "quantize" not in inputs:
        wrong, db = _compare(answers, eager, LEAST_FLOAT_DB, 1.0)
        return LaneResult(graph.seed, lane, "wrong" if wrong else "ok", db, message=wrong)
    program = torch.export.load(inputs["quantize"] / "folded.pt2")
    own = evaluate(program.module(), load_samples(inputs["data"], "eval"), lambda _: None)
    scales = _last_scales(program)
    steps = [_steps(*each) for each in zip(answers, own, scales, strict=False)]
    # What is within some steps is right, whatever its dB.
    near = [s is not None and s <= MOST_STEPS for s in steps]
    wrong, db = _compare(answers, own, LEAST_INT8_DB, LEAST_INT8_AGREEMENT)
    if wrong and len(answers) == len(own):
        wrong, _ = _compare(_taken(own, answers, near), own, LEAST_INT8_DB, LEAST_INT8_AGREEMENT)
    if wrong and len(answers) == len(own):
        twins = zip(*nudged_answers(program, load_samples(inputs["data"], "eval")), strict=True)
        allowed = [MOST_STEPS * scale if scale else 0.0 for scale in scales]
        either = [goes_either_way(*each) for each in zip(answers, own, map(list, twins), allowed, strict=True)]
        # A rounding that the converter leaves out makes a file another than its graph, and better.
        better = [_is_better(*each) for each in zip(answers, own, eager, strict=True)]
        near = [any(each) for each in zip(near, either, better, strict=True)]
        wrong, _ = _compare(_taken(own, answers, near), own, LEAST_INT8_DB, LEAST_INT8_AGREEMENT)
    most = max((s for s in steps if s is not None), default=None)
    graph_db = min(
        (sqnr_db(o, e) for o, e in zip(own, eager, strict=True) if e.dtype.kind == "f"), default=PERFECT_SQNR_DB
    )
    return LaneResult(graph.seed, lane, "wrong" if wrong else "ok", db, most, graph_db, wrong)


def _is_better(answer: NDArray[Any], own: NDArray[Any], eager: NDArray[Any]) -> bool:
    if eager.dtype.kind != "f" or answer.shape != eager.shape:
        return False
    return sqnr_db(answer, eager) >= sqnr_db(own, eager) + BETTER_DB


def _taken(own: Arrays, answers: Arrays, near: list[bool]) -> Arrays:
    return [o if n else a for o, a, n in zip(own, answers, near, strict=True)]


def _last_scales(program: torch.export.ExportedProgram) -> list[float | None]:
    """For each output, the largest step of the last values before it that were quantized."""
    nodes = {node.name: node for node in program.graph.nodes}
    found: list[float | None] = []
    for name in program.graph_signature.user_outputs:
        waiting, seen = [nodes[str(name)]], set()
        scales: list[float] = []
        while waiting:
            node = waiting.pop()
            seen.add(node)
            if "dequantize_per_tensor" in str(node.target) and isinstance(node.args[1], float):
                scales.append(node.args[1])
            else:
                waiting += [each for each in node.all_input_nodes if each not in seen]
        found.append(max(scales) if scales else None)
    return found


def _steps(answer: NDArray[Any], own: NDArray[Any], scale: float | None) -> float | None:
    """The largest difference of an output, in steps."""
    known = scale and own.dtype.kind == "f" and answer.shape == own.shape
    return float(np.abs(answer - own).max()) / scale if known and scale else None


def _compare(answers: Arrays, wanted: Arrays, least_db: float, least_agreement: float) -> tuple[str, float]:
    """What is wrong with the worst output (empty where nothing is), and its dB."""
    if len(answers) != len(wanted):
        return f"shape: {len(answers)} outputs instead of {len(wanted)}", -math.inf
    wrong, worst = "", PERFECT_SQNR_DB
    for number, (answer, want) in enumerate(zip(answers, wanted, strict=True)):
        if answer.shape != want.shape:
            return f"shape: output {number} is {list(answer.shape)} instead of {list(want.shape)}", -math.inf
        if want.dtype.kind != "f":
            agreement = float((answer == want).mean())
            if agreement < least_agreement:
                wrong = f"output {number} ({want.dtype}): {agreement:.0%} agree"
            continue
        db = sqnr_db(answer, want)
        if db < worst:
            worst = db
            wrong = f"output {number}: {db:.1f} dB" if db < least_db else wrong
    return wrong, worst


def sqnr_db(outputs: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Signal to noise; the signal is what differs from the mean, so that an offset hides nothing."""
    real = wanted.astype(np.float64)
    noise = float(((outputs.astype(np.float64) - real) ** 2).sum())
    if not math.isfinite(noise):
        return -PERFECT_SQNR_DB
    signal = float(((real - real.mean()) ** 2).sum())
    return PERFECT_SQNR_DB if noise == 0 else min(10 * math.log10(max(signal, 1e-300) / noise), PERFECT_SQNR_DB)


def _said(work: Callable[[], object], names: list[str]) -> tuple[str, str] | None:
    """None, or how it ended and what was said."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work()
    except PocketforgeError as error:
        text = f"{error.message} | {error.hint}"
        named = re.search(r"model\.py:\d+", text) or any(re.search(rf"\b{re.escape(n)}\b", text) for n in names)
        cause = error.__cause__ or error.__context__
        return ("refused" if named else "unnamed"), text + (f" <- {_innermost(cause)}" if cause and not named else "")
    except Exception as error:
        return "error", _innermost(error)
    return None


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} ({Path(at.filename).name}:{at.lineno})"


def _stage(module: Any, inputs: dict[str, Path], spec: Spec, out: Path) -> None:
    if out.exists():
        return  # by an earlier call, whose lanes did not come to an end
    partial = out.with_name(f"{out.name}.part")
    partial.mkdir(exist_ok=True)
    module.run(inputs, spec, partial, lambda *_: None)
    partial.rename(out)


def _model_folder(graph: RandomGraph, folder: Path) -> dict[str, Path]:
    """The model as a user's folder holds it, and the data stage's folder with samples of it."""
    data = folder / "data"
    inputs = {"data": data, "data_root": folder, "weights": folder / "weights.safetensors"}
    if data.exists():
        return inputs
    (folder / "model.py").write_text(HEAD + graph.recipe, "utf-8")
    save_file({k: v.detach().contiguous().clone() for k, v in graph.module.state_dict().items()}, inputs["weights"])
    data.mkdir(parents=True)
    drawn = [t.numpy() for t in graph.draw(EVAL_SAMPLES)]
    for number, (calibration, samples) in enumerate(zip(graph.samples, drawn, strict=True)):
        np.save(data / f"calibration_{number}.npy", calibration.numpy())
        np.save(data / f"eval_{number}.npy", samples)
    eager = evaluate(graph.module, [np.array(d) for d in drawn], lambda _: None)
    np.save(data / "eval_targets.npy", eager[0])
    for number, array in enumerate(eager):
        np.save(data / f"eager_{number}.npy", array)
    samples = tuple(SampleTensor(tuple(d.shape[1:]), str(d.dtype)) for d in drawn)
    counts, prepared = Counts(0, 0, 0, 0, 0, 0), Preprocessing(None, "NCHW", ())
    files.write(data, Sampled("", "regression", (), counts, {}, samples, SampleTensor((), ""), prepared, None, ()))
    return inputs


def _eager(inputs: dict[str, Path]) -> Arrays:
    """What the network itself answers, before anything of ours has touched it."""
    return load_samples(inputs["data"], "eager")


def _reference_spec() -> ReferenceSpec:
    return ReferenceSpec(ModelSource("model.py", {}, 0), (), (), "regression", "mean_absolute_error")


def _layer_names(graph: RandomGraph) -> list[str]:
    return [name for name, _ in graph.module.named_modules() if name]
