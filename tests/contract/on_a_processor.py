"""Program: what ONNX Runtime and LiteRT do on the processor that it runs on. `python on_a_processor.py ORDER.json`

The order: "runs" ({session, model, inputs, outputs, samples}: a file's first samples through Pocketforge's own
session), "ort" ({source, target, how}: an .onnx file into .ort) and "sums" (a path for what sums of products gave).
It loads no torch, so that an emulated processor has it done in seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT)]
# ONNX Runtime's tools import torch where it is installed and do without it: 13 s on an emulated processor.
sys.modules["torch"] = None  # type: ignore[assignment]


def run(job: dict[str, Any], runner: Any) -> None:
    module = runner.load_session_module(job["session"])
    module.prepare(1)
    session = module.open_session(job["model"], 1)
    samples = np.load(job["inputs"], mmap_mode="r")[: job["samples"]]
    answers = [session.run(runner.feeds(session, [samples], index))[0] for index in range(len(samples))]
    np.save(job["outputs"], np.concatenate(answers))


def make_ort(job: dict[str, Any]) -> None:
    """how: "converter", ONNX Runtime's own for ARM as `pocketforge.runtimes.onnx` calls it; else our writer's."""
    source, target = Path(job["source"]), Path(job["target"])
    if job["how"] == "converter":
        from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

        with contextlib.redirect_stdout(sys.stderr):
            convert_onnx_models_to_ort(source, target.parent, [OptimizationStyle.Fixed], target_platform="arm")
        target.with_name(f"{source.stem}.ort").rename(target)
    else:
        from pocketforge.runtimes.onnx_weights import write_ort

        write_ort(source, target, keep_casts=job["how"] == "keep casts")


def sums(dtype: type[np.integer[Any]]) -> int:
    """64 products of 250 × 120 = 1,920,000 by MatMulInteger, the 120 as int8, or as uint8 about 128."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    zero = 0 if dtype is np.int8 else 128
    made = {
        "w": np.full((64, 8), 120 + zero, dtype),
        "zero_of_x": np.array(0, np.uint8),
        "zero_of_w": np.array(zero, dtype),
    }
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w", "zero_of_x", "zero_of_w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 8])],
        [numpy_helper.from_array(array, name) for name, array in made.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 17)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.full((1, 64), 250, np.uint8)})
    return int(answer[0, 0])


def known_sums(path: Path) -> dict[str, int]:
    """What the model by which `verify` tells kernels that saturate from exact ones comes to: output → a value."""
    import onnxruntime

    from pocketforge.runtimes.onnx_sums import write_sums

    _, (x,) = write_sums(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {
        output.name: int(values.flat[0])
        for output, values in zip(session.get_outputs(), session.run(None, {"x": x}), strict=True)
    }


def main(order_path: str) -> None:
    from pocketforge.runtimes.sessions import runner

    order = json.loads(Path(order_path).read_text(encoding="utf-8"))
    for job in order["runs"]:
        run(job, runner)
    for job in order["ort"]:
        make_ort(job)
    answers = {"int8": sums(np.int8), "uint8": sums(np.uint8), **known_sums(Path(order["sums"]).with_name("sums.onnx"))}
    Path(order["sums"]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # As the sessions' runner does: some runtimes crash while their threads are torn down.
    os._exit(0)
