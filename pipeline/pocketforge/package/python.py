"""Python: one module with NumPy and the runtime, nothing of Pocketforge."""

from __future__ import annotations

from collections.abc import Mapping

from pocketforge.package.generators import AppSamples, sample_files
from pocketforge.package.model import AppModel
from pocketforge.package.readme import readme
from pocketforge.package.templates import fill

RUNTIMES: tuple[str, ...] = ("tflite", "onnx", "executorch")
_NEEDS = {"tflite": "ai-edge-litert", "onnx": "onnxruntime", "executorch": "executorch"}


def generate(model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """The module, the model file, a test, README.md."""
    library = _NEEDS[model.runtime]
    version = model.libraries.get(library, "")
    needs = f"{library}=={version}" if version else library
    usage = fill("python/usage.md.j2", model=model, needs=needs).decode().rstrip()
    files = {
        f"{model.identifier}.py": fill("python/model.py.j2", model=model),
        model.path.name: model.path.read_bytes(),
        "README.md": readme(model, samples, usage, ()),
        "requirements.txt": f"numpy>=2\n{needs}\n".encode(),
    }
    if samples is not None:
        files[f"test_{model.identifier}.py"] = fill("python/test.py.j2", model=model, samples=samples)
    return files | sample_files(samples, "samples")
