"""What a mobile-ML engineer writes by hand for one int8 file: one process, the same libraries, few checks.

`python handwritten.py executorch|tflite|onnx OUT_FOLDER`: digits model → static int8 file → accuracy → latency. It is
the yardstick for Pocketforge's own overhead, so it does the same work: trace, evaluate, calibrate, convert, export, run
every eval sample through the file, time it.
"""

import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

MODEL = Path(__file__).parents[1] / "models" / "digits_cnn"
sys.path.insert(0, str(MODEL))
from model import build  # noqa: E402

runtime, out = sys.argv[1], Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
images = (interpolate(images, (32, 32), mode="bilinear", antialias=True) - 0.5) / 0.5
order = np.random.RandomState(0).permutation(len(images))
held_out, calibration = order[:577], order[577:677]

model = build().eval()
model.load_state_dict(load_file(MODEL / "weights.safetensors"))
example = (images[:1],)
exported = torch.export.export(model, example)
graph = exported.module()
with torch.no_grad():
    reference = torch.cat([graph(images[i : i + 1]) for i in held_out]).numpy()

from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (  # noqa: E402
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402

prepared = prepare_pt2e(graph, XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True)))
with torch.no_grad():
    for i in calibration:
        prepared(images[i : i + 1])
unfolded = convert_pt2e(copy.deepcopy(prepared), fold_quantize=False)
folded = convert_pt2e(prepared)

if runtime == "executorch":
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(torch.export.export(folded, example), partitioner=[XnnpackPartitioner()])
    path = out / "digits.pte"
    path.write_bytes(lowered.to_executorch().buffer)
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(1)
    module = portable_lib._load_for_executorch(str(path))

    def infer(x):
        return module.forward([x])[0].numpy()

elif runtime == "tflite":
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer
    from litert_torch.quantize.pt2e_quantizer import get_symmetric_quantization_config as litert_config
    from litert_torch.quantize.quant_config import QuantConfig

    quantizer = PT2EQuantizer().set_global(litert_config(is_per_channel=True))
    path = out / "digits.tflite"
    litert_torch.convert(unfolded, example, quant_config=QuantConfig(pt2e_quantizer=quantizer)).export(str(path))
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def infer(x):
        scale, zero = given["quantization"]
        levels = np.clip(np.rint(x.numpy() / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], levels)
        interpreter.invoke()
        return (interpreter.get_tensor(got["index"]).astype(np.float32) - got["quantization"][1]) * got["quantization"][
            0
        ]

else:
    import onnxruntime

    path = out / "digits.onnx"
    torch.onnx.export(folded, example, dynamo=True, input_names=["input"], verbose=False).save(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)

    def infer(x):
        return session.run(None, {"input": x.numpy()})[0]


outputs = np.concatenate([infer(images[i : i + 1]) for i in held_out])
noise = ((outputs - reference) ** 2).sum()
samples, began = [], time.perf_counter()
while len(samples) < 100 or time.perf_counter() - began < 1.0:
    start = time.perf_counter()
    infer(images[:1])
    samples.append(time.perf_counter() - start)
print(
    f"{path.stat().st_size} bytes, top-1 {(outputs.argmax(1) == digits.target[held_out]).mean():.4f}, "
    f"SQNR {10 * np.log10((reference**2).sum() / noise):.1f} dB, p50 {1e3 * np.median(samples):.3f} ms"
)
