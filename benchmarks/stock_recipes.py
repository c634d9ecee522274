"""Our int8 files beside the libraries' stock recipes: accuracy, SQNR, size and host latency of the same trained models.

    python benchmarks/stock_recipes.py [--models resnet,mobilenet] [--rounds 6] [--out stock.json]

executorch   its XNNPACK example flow: XNNPACKQuantizer with get_symmetric_quantization_config(is_per_channel=True),
             prepare, calibrate, convert, lower
onnx         onnxruntime.quantization: quant_pre_process and quantize_static with their defaults, of our fp32 file
tflite       ai-edge-quantizer: recipe.static_wi8_ai8() as it is, of our fp32 file
ours         scheme static_int8 as a build makes it, in all three

All are calibrated on the same samples, run on the same eval samples, each in a new process, and timed in turns. Exit 1
when ours is below one of them in SQNR or accuracy by more than noise (0.5 dB; two samples).

The models: the shipped ResNet-20 on digits, and MobileNetV2-224 with random weights, whose SQNR alone means something.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pocketforge.data.arrays_on_disk import load_samples, sample_paths
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.facts.gather import gather
from pocketforge.files import hash_file
from pocketforge.measure.trial import Trial, time_in_turns
from pocketforge.metrics import accuracy, parity, real_values
from pocketforge.plan.lanes import make_plan
from pocketforge.recipe import Target
from pocketforge.recipe.quantize import Quantize
from pocketforge.recipe.toml import load_recipe
from pocketforge.registries import RUNTIMES
from pocketforge.run.part import run_part
from pocketforge.stats import ratio_interval

ROOT = Path(__file__).parents[1]
MODELS = {"resnet": "models/resnet_cifar/digits.toml", "mobilenet": "models/mobilenet_v2/recipe.toml"}
NOISE_DB = 0.5


class Shop:
    """One model: its samples, its reference, our files, and the stock recipes' files beside them."""

    def __init__(self, recipe_path: Path, cache: Path, folder: Path) -> None:
        recipe = load_recipe(recipe_path)
        targets = tuple(
            Target(f"{runtime}_{scheme}", runtime, Quantize(scheme))
            for runtime in RUNTIMES
            for scheme in ("fp32", "static_int8")
        )
        recipe = dataclasses.replace(recipe, targets=targets, budgets=(), compress=())
        plan = make_plan(recipe, gather(recipe, cache))
        outcome = run_part(plan, [lane.export for lane in plan.lanes], cache, "benchmark")
        self.folder, self.task = folder, recipe.task
        self.data = outcome.entries[plan.data].files
        self.reference = np.load(outcome.entries[plan.reference].files / "outputs_0.npy")
        self.program = outcome.entries[plan.reference].files / "model.pt2"
        self.targets = np.load(self.data / "eval_targets.npy")
        self.files = {}
        for lane in plan.lanes:
            entry = outcome.entries[lane.export]
            names = json.loads((entry.files / "export.json").read_text("utf-8"))["files"]
            self.files[lane.target.name] = entry.files / names["model"]

    def calibration(self) -> list[np.ndarray[Any, Any]]:
        return [np.array(array) for array in load_samples(self.data, "calibration")]

    def measure(self, runtime: str, path: Path) -> dict[str, float]:
        """A file's answers to the eval samples, from a new process."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        inputs = tuple(sample_paths(self.data, "eval"))
        answer = host.run(RunRequest(RUNTIMES[runtime].session, path, hash_file(path), inputs, out))
        info = answer.outputs[0]
        outputs = real_values(np.load(out / "outputs_0.npy"), info.get("scale"), info.get("zero_point"))
        near = parity(outputs, self.reference)
        found = {"sqnr_db": near.sqnr_db, "argmax_agreement": near.argmax_agreement}
        if self.task == "classification":
            found["accuracy_top1"] = accuracy(outputs, self.targets, self.task)["accuracy_top1"]
        return {**found, "size_bytes": path.stat().st_size}


def stock_executorch(shop: Shop) -> Path:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    program = torch.export.load(shop.program)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(copy.deepcopy(program.module()), quantizer)
    samples = shop.calibration()
    with torch.no_grad():
        for index in range(len(samples[0])):
            prepared(*(torch.from_numpy(array[index : index + 1]) for array in samples))
    exported = torch.export.export(convert_pt2e(prepared), program.example_inputs[0])
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path = shop.folder / "stock.pte"
    path.write_bytes(lowered.to_executorch().buffer)
    return path


def stock_onnx(shop: Shop) -> Path:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

    source, ready, path = shop.files["onnx_fp32"], shop.folder / "ready.onnx", shop.folder / "stock.onnx"
    names = [i.name for i in onnxruntime.InferenceSession(str(source)).get_inputs()]
    samples = shop.calibration()

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(
                {name: array[index : index + 1] for name, array in zip(names, samples, strict=True)}
                for index in range(len(samples[0]))
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    quant_pre_process(str(source), str(ready))
    quantize_static(str(ready), str(path), Reader())
    return path


def stock_tflite(shop: Shop) -> Path:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    source, path = shop.files["tflite_fp32"], shop.folder / "stock.tflite"
    interpreter = Interpreter(model_path=str(source))
    ((key, signature),) = interpreter.get_signature_list().items()
    samples = shop.calibration()
    feeds = [
        {name: array[index : index + 1] for name, array in zip(signature["inputs"], samples, strict=True)}
        for index in range(len(samples[0]))
    ]
    made = quantizer.Quantizer(str(source))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    made.quantize(made.calibrate({key: feeds})).export_model(str(path), overwrite=True)
    return path


STOCK = {"executorch": stock_executorch, "tflite": stock_tflite, "onnx": stock_onnx}


def compare(name: str, shop: Shop, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for runtime, make in STOCK.items():
        print(f"{name}: {runtime}", file=sys.stderr, flush=True)
        files = {
            "ours": shop.files[f"{runtime}_static_int8"],
            "stock": make(shop),
            "fp32": shop.files[f"{runtime}_fp32"],
        }
        found = {which: shop.measure(runtime, path) for which, path in files.items()}
        trials = [Trial(runtime, path, hash_file(path), path.stat().st_size, 0) for path in files.values()]
        inputs = tuple(sample_paths(shop.data, "eval"))
        ours, stock, float_ = time_in_turns(trials, inputs, rounds=rounds)
        rows.append(
            {
                "model": name,
                "runtime": runtime,
                **found,
                "ours_over_stock_latency": ratio_interval(stock, ours),
                "ours_over_fp32_latency": ratio_interval(float_, ours),
                "ours_latency_ms": float(np.median(ours)),
            }
        )
    return rows


def worse(row: dict[str, Any], samples: int) -> list[str]:
    """In which respects ours is below the stock recipe by more than noise."""
    found = []
    if row["ours"]["sqnr_db"] < row["stock"]["sqnr_db"] - NOISE_DB:
        found.append(f"SQNR {row['ours']['sqnr_db']:.1f} dB, stock {row['stock']['sqnr_db']:.1f} dB")
    if row["model"] != "mobilenet" and row["ours"]["accuracy_top1"] < row["stock"]["accuracy_top1"] - 2.5 / samples:
        found.append(f"top-1 {row['ours']['accuracy_top1']:.4f}, stock {row['stock']['accuracy_top1']:.4f}")
    return [f"{row['model']} {row['runtime']}: {each}" for each in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models.split(","):
            folder = Path(scratch) / name
            folder.mkdir()
            shop = Shop(ROOT / MODELS[name], options.cache or Path(scratch) / "cache", folder)
            rows += compare(name, shop, options.rounds)
            faults += [fault for row in rows if row["model"] == name for fault in worse(row, len(shop.targets))]
    print(
        "| model, runtime | SQNR dB ours / stock | top-1 ours / stock / fp32 | bytes ours / stock | ÷ stock | ÷ fp32 |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        top1 = " / ".join(f"{row[k]['accuracy_top1']:.4f}" for k in ("ours", "stock", "fp32"))
        ratios = [
            "{:.2f} ({:.2f} to {:.2f})".format(*row[key])
            for key in ("ours_over_stock_latency", "ours_over_fp32_latency")
        ]
        print(
            f"| {row['model']}, {row['runtime']} | {row['ours']['sqnr_db']:.1f} / {row['stock']['sqnr_db']:.1f} | "
            f"{top1 if row['model'] != 'mobilenet' else '-'} | {row['ours']['size_bytes']:,} / "
            f"{row['stock']['size_bytes']:,} | {ratios[0]} | {ratios[1]} |"
        )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1), "utf-8")
    for fault in faults:
        print(f"below a stock recipe: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
