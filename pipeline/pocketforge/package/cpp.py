"""C++17: one header over the runtime's C API, and an example that is its test."""

from __future__ import annotations

from collections.abc import Mapping

from pocketforge.package.generators import AppSamples, known_type, sample_files
from pocketforge.package.loop import loop_of
from pocketforge.package.model import AppModel, needs_of
from pocketforge.package.readme import readme
from pocketforge.package.templates import fill
from pocketforge.recipe.image_steps import MOST_PIXELS

RUNTIMES: tuple[str, ...] = ("tflite", "onnx", "executorch")
TYPES = {
    "float32": "float",
    "uint8": "std::uint8_t",
    "int8": "std::int8_t",
    "int16": "std::int16_t",
    "int32": "std::int32_t",
    "int64": "std::int64_t",
    "bool": "std::uint8_t",  # 0 and 1: a std::vector<bool> has no values in memory
}
# By which a runtime names what a tensor's values are: LiteRT's litert_model_types.h, onnxruntime_c_api.h, ExecuTorch's
# scalar_type.h.
_ELEMENTS = {
    "tflite": {"float32": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9},
    "onnx": {
        "float32": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT",
        "uint8": "ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8",
        "int8": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8",
        "int16": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16",
        "int32": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32",
        "int64": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64",
        "bool": "ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL",
    },
    "executorch": {
        "float32": "ScalarType::Float",
        "uint8": "ScalarType::Byte",
        "int8": "ScalarType::Char",
        "int16": "ScalarType::Short",
        "int32": "ScalarType::Int",
        "int64": "ScalarType::Long",
        "bool": "ScalarType::Bool",
    },
}


def generate(model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """The header, the example, the model file, README.md; for LiteRT what is declared of its C API."""
    for tensor in model.tensors:
        known_type(tensor.dtype, TYPES, str(tensor))
    values: dict[str, object] = {
        "model": model,
        "loops": [loop_of(each) for each in model.inputs],
        "types": TYPES,
        "elements": _ELEMENTS[model.runtime],
        "samples": samples,
    }
    needs = needs_of(model)
    values |= {"needs": needs, "most_pixels": MOST_PIXELS}
    usage = fill("cpp/usage.md.j2", **values).decode().rstrip()
    files = {
        f"{model.identifier}.h": fill("cpp/model.h.j2", **values),
        "example.cpp": fill("cpp/example.cpp.j2", **values),
        model.path.name: model.path.read_bytes(),
        "README.md": readme(model, samples, usage, ()),
    }
    if needs:
        files[f"{model.identifier}_pictures.h"] = fill("cpp/pictures.h.j2", **values)
    if model.runtime == "tflite":
        files["litert_c_api.h"] = fill("cpp/litert_c_api.h.j2", model=model)
    return files | sample_files(samples, "samples")
