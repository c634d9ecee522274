"""One file of a release as generated code has to know it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from pocketforge.errors import ModelError, ReleaseError
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.package.pictures import Fitting, fitting
from pocketforge.package.steps import (
    Quantize,
    ReverseChannels,
    Step,
    Transpose,
    Words,
    changes_values,
    shape_before,
    split,
)
from pocketforge.recipe.names import suggest
from pocketforge.recipe.schemes import SCHEMES
from pocketforge.recipe.shipped_names import MODEL
from pocketforge.release.sidecars import Sidecar, read_manifest, read_sidecars
from pocketforge.release.verify import whole_release

Kind = Literal["image", "sound", "text", "numbers"]
_KINDS: Mapping[str | None, Kind] = {"HWC": "image", "waveform": "sound", "text": "text"}


@dataclass(frozen=True, slots=True)
class AppInput:
    """One input of the file, and what an app gives for it.

    Attributes:
        identifier: Its name in code, in snake_case: letters, digits and _.
        tensor: What the file takes, with the batch of 1 first.
        kind: What a raw sample of it is.
        left: Steps that the app does itself before, in the sidecar's words.
        steps: What generated code does, in order, to what it is given.
        shape: Of what it is given, without a batch axis; an image's is (height, width, channels).
        accepts: NumPy's names of the types that it may be given in: bytes become the same floats.
        fit: What code does to a picture of any size before; None where there is nothing to do, or no code for it.
        unfit: The step of pictures that no code is written for, in words.
    """

    identifier: str
    tensor: TensorSpec
    kind: Kind
    left: tuple[Words, ...]
    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    accepts: tuple[str, ...]
    fit: Fitting | None = None
    unfit: str = ""

    @property
    def size(self) -> int:
        """How many values there are."""
        return product(self.shape)

    @property
    def takes_pixels(self) -> bool:
        """Whether it can be given a picture's red, green and blue as they are: all of its steps are code; or, at the
        model's size, what is left before moves pixels, and changes neither their values nor their channels' order."""
        if self.fit is not None:
            return self.fit.channels == 3
        return self.kind == "image" and "uint8" in self.accepts and not any(map(changes_values, self.left))


@dataclass(frozen=True, slots=True)
class AppOutput:
    """One output of the file.

    Attributes:
        identifier: Its name in code, in snake_case.
        tensor: What the file gives, with the batch of 1 first; real values are (level - zero_point) * scale.
        role: As the recipe has it; `logits` of a classification; empty where nothing says one.
        labels: Names of its classes, one a value; empty where it has none.
        post: What is left to the app to do with it, in the sidecar's words; empty for nothing.
        done: What the file did to it: `softmax` …; empty for nothing.
    """

    identifier: str
    tensor: TensorSpec
    role: str
    labels: tuple[str, ...]
    post: Mapping[str, Any]
    done: str = ""

    @property
    def told(self) -> str:
        """What it is, for reading: no app shall take shares of shares."""
        return f"{self.role} after {self.done}" if self.role and self.done else self.role

    @property
    def size(self) -> int:
        return product(self.tensor.shape)


@dataclass(frozen=True, slots=True)
class AppModel:
    """One file of a release, as an app has to know it.

    Attributes:
        path: Of the file.
        target: The recipe's name of it.
        runtime: tflite, onnx or executorch.
        class_name: PascalCase.
        identifier: snake_case.
        sha256: Of the file's bytes.
        size_bytes: How many they are.
        recipe: The recipe's name.
        version: Of the release; empty where it has none.
        libraries: Library → the version that the file was made with and verified in.
        inputs: In the file's order.
        outputs: In the file's order.
        arm_alone: Whether the file is for ARM processors alone: kernels of others may saturate on its int8 weights.
        tolerance: Of an output's largest magnitude: by so much answers may differ on another processor from those that
            were verified. Floats are added in another order; in a quantized file a level may go the other way.
    """

    path: Path
    target: str
    runtime: str
    class_name: str
    identifier: str
    sha256: str
    size_bytes: int
    recipe: str
    version: str
    libraries: Mapping[str, str]
    inputs: tuple[AppInput, ...]
    outputs: tuple[AppOutput, ...]
    tolerance: float
    arm_alone: bool = False

    @property
    def pillow_takes_rows_first(self) -> bool:
        """Whether the Pillow that made the samples resizes tall pictures by their height first, as 13 does."""
        major = self.libraries.get("pillow", "13").partition(".")[0]
        return not major.isdecimal() or int(major) >= _ROWS_FIRST

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Of all inputs, then of all outputs."""
        return tuple(each.tensor for each in self.inputs) + tuple(each.tensor for each in self.outputs)


def left_to_app(given: AppInput, why: str) -> AppInput:
    """Without code that makes pictures fit."""
    left = (*given.left, *(given.fit.words if given.fit else ()))
    return replace(given, left=left, fit=None, unfit=why)


def needs_of(model: AppModel) -> frozenset[str]:
    """Parts of the code that fits pictures to its inputs; none where it takes none of any size."""
    return frozenset().union(*(each.fit.needs for each in model.inputs if each.fit))


def product(shape: Sequence[int]) -> int:
    """How many values a shape has."""
    found = 1
    for side in shape:
        found *= side
    return found


def read_model(file: Path) -> AppModel:
    """A model file of a release that is whole. Raises ReleaseError, ModelError where no code can be written for it."""
    folder = file.parent
    if not file.is_file():
        raise ReleaseError(f"there is no model file {file}", "give one of a release: build/NAME/release/MODEL.tflite")
    whole_release(folder)
    manifest = read_manifest(folder)
    sidecars = [each for each in read_sidecars(folder, manifest).values() if each.file.path == file.name]
    if not sidecars:
        names = [each.path for each in manifest.files]
        raise ReleaseError(
            f"{file.name} is no model file of the release {folder}{suggest(file.name, names)}", ", ".join(names)
        )
    (sidecar,) = sidecars
    if sidecar.file.role not in (MODEL, "ort"):
        raise ReleaseError(f"{file.name} is what goes with a model file, and none itself")
    if sidecar.sizes:
        raise ModelError(f"{file.name} takes inputs of several sizes; code is written for files of one size", _BUCKETS)
    for tensor in (*sidecar.inputs, *sidecar.outputs):
        if min(tensor.shape, default=1) < 0:
            raise ModelError(f"{tensor} has a size that is left open; code is written for fixed sizes", _BUCKETS)
    identifier = identifier_of(sidecar.file.target)
    if identifier in sys.stdlib_module_names:  # Python would find our module where it looks for its own
        identifier = f"{identifier}_model"
    return AppModel(
        file, sidecar.file.target, sidecar.file.runtime, pascal(identifier), identifier, sidecar.file.sha256,
        sidecar.file.size_bytes, manifest.recipe, manifest.version or "", sidecar.versions, tuple(_inputs(sidecar)),
        tuple(_outputs(sidecar)), _tolerance(sidecar.scheme), sidecar.export.get("onnx_weights") == "int8",
    )  # fmt: skip


_ROWS_FIRST = 13
_FLOAT_TOLERANCE, _LEVELS_TOLERANCE = 1e-4, 0.05
_BUCKETS = "give the recipe's input buckets: each is a file of its own (pocketforge docs inputs)"


def _tolerance(scheme: str) -> float:
    """Of a test's outputs. A scheme of a plug-in that is not here may round."""
    return _FLOAT_TOLERANCE if scheme in SCHEMES and SCHEMES[scheme].is_float32 else _LEVELS_TOLERANCE


def _inputs(sidecar: Sidecar) -> Iterator[AppInput]:
    names = _identifiers(sidecar)
    for number, (tensor, lists) in enumerate(zip(sidecar.inputs, _lists(sidecar), strict=True)):
        left, steps = split(lists.get("steps", ()))
        kind = _KINDS.get(lists.get("input"), "numbers")
        levels = (tensor.scale, tensor.zero_point)
        if tensor.scale is not None and levels != (1.0, 0) and not any(isinstance(each, Quantize) for each in steps):
            steps = (*steps, Quantize(tensor.scale, tensor.zero_point or 0, tensor.dtype))
        shape = shape_before(steps, tensor.shape[1:])
        accepts = _accepts(kind, steps, tensor.dtype)
        of_bytes = _of_bytes(lists.get("steps", ()), tensor)
        left, fit, unfit = _fit(kind, left, shape, accepts, of_bytes=of_bytes)
        yield AppInput(names[number], tensor, kind, left, steps, shape, accepts, fit, unfit)


def _of_bytes(steps: Sequence[Words], tensor: TensorSpec) -> bool:
    """Whether a recipe's pictures are bytes: files are, and what 255 is white in, and what a file takes as bytes."""
    divided = [float(step["by"]) for step in steps if step["step"] == "divide"]
    read = any(step["step"] == "orient" for step in steps)
    return divided[0] == _WHITE if divided else read or (tensor.dtype == "uint8" and tensor.scale is None)


_WHITE = 255.0


def _fit(
    kind: Kind, left: tuple[Words, ...], shape: Sequence[int], accepts: Sequence[str], *, of_bytes: bool
) -> tuple[tuple[Words, ...], Fitting | None, str]:
    """What is left to the app, what code does of the rest, and why it does not."""
    if kind != "image":
        return left, None, ""
    try:
        rest, fit = fitting(left, shape)
    except ModelError as error:
        return left, None, error.message
    if fit is not None and not of_bytes:
        return left, None, "nothing says that the recipe's pictures are bytes, of which 255 is white"
    if fit is not None and fit.dtype not in accepts:
        return left, None, f"{fit.dtype} of pictures, where the file takes {accepts[0]}"
    return rest, fit, ""


def _accepts(kind: Kind, steps: Sequence[Step], dtype: str) -> tuple[str, ...]:
    if all(_moves(step) for step in steps):
        return (dtype,)
    return ("uint8", "float32") if kind == "image" else ("float32",)


def _moves(step: Step) -> bool:
    return isinstance(step, ReverseChannels | Transpose)


def _lists(sidecar: Sidecar) -> list[Mapping[str, Any]]:
    """Of each input of the file."""
    said = sidecar.preprocessing
    if "inputs" not in said:
        return [said] * len(sidecar.inputs)
    found = {name: each for each in cast("Sequence[Mapping[str, Any]]", said["inputs"]) for name in each["inputs"]}
    return [found.get(tensor.name, {}) for tensor in sidecar.inputs]


def _outputs(sidecar: Sidecar) -> Iterator[AppOutput]:
    names = _identifiers(sidecar)[len(sidecar.inputs) :]
    roles = {str(each["name"]): each for each in sidecar.output_roles}
    for number, tensor in enumerate(sidecar.outputs):
        said = roles.get(tensor.name, {})
        role = str(said.get("role", ""))
        labelled = bool(said.get("labels"))
        if not roles and number == 0 and sidecar.task == "classification":
            role, labelled = "logits", True
        # Of maps and rows of several the place of the largest is no class.
        fits = labelled and tensor.shape[-1:] == (len(sidecar.labels),) == (product(tensor.shape),)
        post = cast("Mapping[str, Any]", said.get("post", {}))
        left = post if post.get("type", "none") != "none" else {}
        packed = sidecar.package
        done = packed.postprocess if packed and packed.output == tensor.name and packed.postprocess != "none" else ""
        yield AppOutput(names[number], tensor, role, sidecar.labels if fits else (), left, done)


# Of Python, C++, Java, Kotlin and TypeScript.
_LANGUAGES = """
    and as assert async await auto bool boolean break byte case catch char class const continue def default del delete
    do double elif else enum except export extends false final finally float for from fun function global goto if
    implements import in instanceof int interface is lambda let long match namespace native new nonlocal none not null
    object operator or package pass private protected public raise return self short signed sizeof static struct super
    switch synchronized template this throw throws transient true try type typedef typename undefined union unsigned
    using val var virtual void volatile when while with xor yield
"""
# What generated code itself calls something, or imports.
_OURS = """
    answer api assets bitmap buffer channel close code content count environment error faults found given i inputs
    interpreter label labels levels main model name options order outputs path pixels predict prepared run samples
    score session std tensor tensors test threads top values wanted words
    arrays collections exception integer list map math model_exception string system
    ai_edge_litert dataclasses executorch hashlib numpy np onnxruntime pathlib pytest torch
    android java javax kotlin module
"""
# Classes that generated code imports or a language has: no model's may be called so.
_CLASSES = """
    Array ArrayBuffer ArrayList Arrays AssetFileDescriptor AssetManager Bitmap BufferedReader ByteBuffer ByteOrder
    Collections CompiledModel Error EValue File FileChannel FileInputStream FileOutputStream Files Float32Array
    FloatBuffer HashMap ImageData InferenceSession InputStream InputStreamReader IntBuffer Interpreter IOException
    List LongBuffer Map MessageDigest Module NoSuchAlgorithmException Number Object OnnxJavaType OnnxTensor
    OrtEnvironment OrtException OrtSession OutputStream Override Path Paths Promise RangeError ReadonlyArray
    Record ShortBuffer StandardCharsets String Tensor Uint8Array Uint8ClampedArray URL
"""
_ENDINGS = ("_buffer", "_labels", "_shape", "_size", "_tensor", "_tensors")
_TAKEN = frozenset((_LANGUAGES + _OURS).split())
_TAKEN_CLASSES = frozenset(_CLASSES.lower().split())


def identifier_of(name: str) -> str:
    """snake_case of letters, digits and _, no word of a language."""
    parts = re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()
    found = parts or "value"
    if found[0].isdigit():
        found = f"model_{found}"
    return f"{found}_value" if found in _TAKEN or found.replace("_", "") in _TAKEN_CLASSES else found


def pascal(identifier: str) -> str:
    """PascalCase of snake_case."""
    return "".join(part.capitalize() for part in identifier.split("_"))


def camel(identifier: str) -> str:
    """camelCase of snake_case."""
    found = pascal(identifier)
    return found[:1].lower() + found[1:]


def _identifiers(sidecar: Sidecar) -> list[str]:
    """Of all inputs, then of all outputs: no two alike, in PascalCase either (`x_1` and `x1`), and none that ends as
    what generated code names after another."""
    found: dict[str, str] = {}
    for tensor in (*sidecar.inputs, *sidecar.outputs):
        number, name = 2, identifier_of(tensor.name)
        if name.endswith(_ENDINGS):
            name = f"{name}_value"
        one = name
        while pascal(one) in found:
            one, number = f"{name}_{number}", number + 1
        found[pascal(one)] = one
    return list(found.values())
