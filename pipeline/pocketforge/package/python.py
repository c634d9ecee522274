"""Python: one module with NumPy and the runtime, nothing of Pocketforge."""

from __future__ import annotations

from collections.abc import Mapping

from pocketforge.package.generators import AppSamples, sample_files
from pocketforge.package.model import AppModel, needs_of
from pocketforge.package.readme import readme
from pocketforge.package.templates import fill
from pocketforge.recipe.image_steps import MOST_PIXELS

RUNTIMES: tuple[str, ...] = ("tflite", "onnx", "executorch")
_NEEDS = {"tflite": "ai-edge-litert", "onnx": "onnxruntime", "executorch": "executorch"}
# Packages whose own arithmetic a recipe's resize is → parts of the code that call them.
_FITTED_BY = {"pillow": ("pillow", "pil_nearest"), "opencv-python-headless": ("opencv", "opencv_nearest")}


def generate(model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """The module, the model file, a test, README.md."""
    library = _NEEDS[model.runtime]
    version = model.libraries.get(library, "")
    parts = needs_of(model)
    needs = [f"{library}=={version}" if version else library]
    # Pillow 13 resizes tall pictures in another order than those before.
    pillow = ">=13" if model.pillow_takes_rows_first else "<13"
    needs += [
        f"{package}{pillow if package == 'pillow' else ''}"
        for package, of in _FITTED_BY.items()
        if not parts.isdisjoint(of)
    ]
    usage = fill("python/usage.md.j2", model=model, needs=", ".join(needs)).decode().rstrip()
    files = {
        f"{model.identifier}.py": fill("python/model.py.j2", model=model, needs=parts, most_pixels=MOST_PIXELS),
        model.path.name: model.path.read_bytes(),
        "README.md": readme(model, samples, usage, ()),
        "requirements.txt": "\n".join(["numpy>=2", *needs, ""]).encode(),
    }
    if samples is not None:
        files[f"test_{model.identifier}.py"] = fill("python/test.py.j2", model=model, samples=samples)
    return files | sample_files(samples, "samples")
