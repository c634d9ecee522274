"""ONNX Runtime: .onnx and .ort files."""

import json
import os

# Official builds from 1.29 on report model names and hashes to Microsoft unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

DTYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int16)": "int16",
          "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool", "tensor(float16)": "float16",
          "tensor(double)": "float64", "tensor(uint16)": "uint16"}  # fmt: skip


def prepare(threads):
    import onnxruntime  # noqa: F401  imported before the clock starts: an app's runtime is already there


class Session:
    def __init__(self, path, threads, optimise=True):
        import onnxruntime as ort

        options = ort.SessionOptions()
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # Files with int8 inputs carry their quantization in the model's metadata: ONNX has no place for it in a type.
        known = json.loads(self._session.get_modelmeta().custom_metadata_map.get("io_quantization", "{}"))
        self.inputs = [describe(t, known) for t in self._session.get_inputs()]
        self.outputs = [describe(t, known) for t in self._session.get_outputs()]
        self.runtime = f"onnxruntime {ort.__version__}"
        self._names = [i["name"] for i in self.inputs]

    def run(self, feeds):
        return self._session.run(None, dict(zip(self._names, feeds, strict=True)))


def describe(tensor, known):
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": DTYPES.get(tensor.type, tensor.type),
            **known.get(tensor.name, {})}  # fmt: skip


def open_session(path, threads):
    return Session(path, threads)
