"""TFLite files: LiteRT's interpreter, or the older tflite-runtime where that is what is installed."""

import importlib.metadata


def prepare(threads):
    interpreter_class()


def interpreter_class():
    try:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

        return Interpreter, f"tflite-runtime {importlib.metadata.version('tflite-runtime')}"


class Session:
    def __init__(self, path, threads, **settings):
        interpreter, self.runtime = interpreter_class()
        self._interpreter = interpreter(model_path=str(path), num_threads=threads, **settings)
        self._interpreter.allocate_tensors()
        names = self._interpreter.get_signature_list().get("serving_default", {})
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = [describe(t, names.get("inputs", ())) for t in inputs]
        self.outputs = [describe(t, names.get("outputs", ())) for t in outputs]
        self._input_indices = [t["index"] for t in inputs]
        self._output_indices = [t["index"] for t in outputs]

    def run(self, feeds):
        for index, feed in zip(self._input_indices, feeds, strict=True):
            self._interpreter.set_tensor(index, feed)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._output_indices]


def describe(tensor, names):
    # Tensor names end in ":0" or carry the signature's name as a prefix; the exporter gives tensors the plain name.
    info = {"name": tensor["name"].removesuffix(":0"), "shape": [int(n) for n in tensor["shape"]],
             "dtype": tensor["dtype"].__name__.removesuffix("_")}  # fmt: skip
    scale, zero_point = tensor["quantization"]
    if scale:
        info |= {"scale": float(scale), "zero_point": int(zero_point)}
    info["in_signature"] = info["name"] in names
    return info


def open_session(path, threads):
    return Session(path, threads)
