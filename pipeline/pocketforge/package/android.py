"""Android: the same class in Java and in Kotlin, the asset, Gradle's lines, and an AI pack's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pocketforge.errors import ModelError
from pocketforge.package.generators import AppSamples, known_type, sample_files
from pocketforge.package.loop import loop_of
from pocketforge.package.model import AppInput, AppModel, AppOutput, needs_of
from pocketforge.package.readme import readme
from pocketforge.package.templates import fill
from pocketforge.recipe.image_steps import MOST_PIXELS

RUNTIMES: tuple[str, ...] = ("tflite", "onnx", "executorch")


@dataclass(frozen=True, slots=True)
class JvmType:
    """How a tensor's values are held.

    Attributes:
        java: Of one value.
        kotlin: Of an array of them.
        buffer: NIO's buffer of them, without `Buffer`.
        size: Bytes of one.
        unsigned: Whether the value's bits are those of an unsigned byte.
    """

    java: str
    kotlin: str
    buffer: str
    size: int
    unsigned: bool = False


TYPES = {
    "float32": JvmType("float", "FloatArray", "Float", 4),
    "uint8": JvmType("byte", "ByteArray", "Byte", 1, unsigned=True),
    "int8": JvmType("byte", "ByteArray", "Byte", 1),
    "int16": JvmType("short", "ShortArray", "Short", 2),
    "int32": JvmType("int", "IntArray", "Int", 4),
    "int64": JvmType("long", "LongArray", "Long", 8),
}
# Of all lists together: a method of a class file has at most 65,535 bytes, and a label in a list takes seven or eight.
MOST_LABELS = 4000
_NOTE = (
    "The classes are compiled in Pocketforge's tests against interfaces written from Android's and the runtime's "
    "public API documentation, and their preprocessing is run on a JVM; the whole class runs on a phone only. Versions "
    "in `gradle/model.gradle` are not tried there."
)


def generate(model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """java/, kotlin/ (take one of them), assets/, gradle/, aipack/, README.md, and tests of the preprocessing."""
    # ExecuTorch's Java tensors have no int16.
    known = {dtype: each for dtype, each in TYPES.items() if (model.runtime, dtype) != ("executorch", "int16")}
    for tensor in model.tensors:
        known_type(tensor.dtype, known, str(tensor))
    package = model.identifier.replace("_", "")
    needs = needs_of(model)
    kept = _kept_labels(model)
    values: dict[str, object] = {
        "model": model,
        "loops": [loop_of(each) for each in model.inputs],
        "types": TYPES,
        "samples": samples,
        "package": package,
        "kept": kept,
        "files_of_labels": {each.identifier: _labels_file(model, each) for each in kept},
        "bitmap": len(model.inputs) == 1 and _takes_bitmaps(model.inputs[0]),
        "needs": needs,
        "most_pixels": MOST_PIXELS,
        "version": model.libraries.get({"onnx": "onnxruntime"}.get(model.runtime, model.runtime), ""),
    }
    if samples is not None:
        held = [*(array.dtype.name for array in samples.given), *(each.tensor.dtype for each in model.inputs)]
        values["used_buffers"] = sorted({TYPES[dtype].buffer for dtype in held} - {"Byte"})
    name = model.class_name
    files = {
        f"java/{package}/{name}.java": fill("android/Model.java.j2", **values),
        f"java/{package}/{name}Preprocessing.java": fill("android/Preprocessing.java.j2", **values),
        f"kotlin/{package}/{name}.kt": fill("android/Model.kt.j2", **values),
        f"kotlin/{package}/{name}Preprocessing.kt": fill("android/Preprocessing.kt.j2", **values),
        "gradle/model.gradle": fill("android/model.gradle.j2", **values),
        "aipack/build.gradle": fill("android/aipack.gradle.j2", **values),
        f"assets/{model.path.name}": model.path.read_bytes(),
        **{f"assets/{_labels_file(model, each)}": _lines(each) for each in kept},
        "README.md": readme(model, samples, fill("android/usage.md.j2", **values).decode().rstrip(), (_NOTE,)),
    }
    if needs:
        files[f"java/{package}/{name}Pictures.java"] = fill("android/Pictures.java.j2", **values)
        files[f"kotlin/{package}/{name}Pictures.kt"] = fill("android/Pictures.kt.j2", **values)
    if samples is not None:
        files[f"test/java/{package}/{name}Test.java"] = fill("android/Test.java.j2", **values)
        files[f"test/kotlin/{package}/{name}Test.kt"] = fill("android/Test.kt.j2", **values)
    return files | sample_files(samples, "test/samples")


def _takes_bitmaps(given: AppInput) -> bool:
    return given.takes_pixels and (given.fit is not None or given.shape[-1:] == (3,))


def _kept_labels(model: AppModel) -> list[AppOutput]:
    """Outputs whose labels are lines of an asset: all that have some, where code cannot hold them."""
    labelled = [each for each in model.outputs if each.labels]
    return labelled if sum(len(each.labels) for each in labelled) > MOST_LABELS else []


def _labels_file(model: AppModel, output: AppOutput) -> str:
    return f"{model.path.stem}_{output.identifier}_labels.txt"


def _lines(output: AppOutput) -> bytes:
    """A label a line, as Java reads lines. Raises ModelError for one that is none."""
    for label in output.labels:
        if {"\n", "\r"} & set(label):
            raise ModelError(
                f"label {label!r} of {output.identifier} is no line of text, and so many labels are lines of a file",
                "name the class otherwise (data.labels)",
            )
    return "".join(f"{label}\n" for label in output.labels).encode()
