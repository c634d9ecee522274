"""TypeScript for the browser: one module with LiteRT.js or onnxruntime-web, and a page that tests it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from pocketforge.devices.web import WEB
from pocketforge.files import json_text
from pocketforge.package.generators import AppSamples, known_type, sample_files
from pocketforge.package.model import AppInput, AppModel, needs_of
from pocketforge.package.readme import readme
from pocketforge.package.steps import Step, Transpose
from pocketforge.package.templates import fill
from pocketforge.recipe.image_steps import MOST_PIXELS

RUNTIMES: tuple[str, ...] = ("tflite", "onnx")
_PACKAGES = {"tflite": "@litertjs/core", "onnx": "onnxruntime-web"}
# Where its WebAssembly lies in that package.
_WASM = {"tflite": "wasm", "onnx": "dist"}
# NumPy's type → JavaScript's array of it, for what each runtime takes and gives.
_ARRAYS = {
    "tflite": {"float32": "Float32Array", "int32": "Int32Array", "uint8": "Uint8Array"},
    "onnx": {
        "float32": "Float32Array", "float64": "Float64Array", "int8": "Int8Array", "uint8": "Uint8Array",
        "int16": "Int16Array", "int32": "Int32Array", "int64": "BigInt64Array", "bool": "Uint8Array",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Placed:
    """A step with what it is given.

    Attributes:
        kind: Name of the step's class.
        shape: Of what it is given.
        step: Its settings.
    """

    kind: str
    shape: tuple[int, ...]
    step: Step

    @property
    def limits(self) -> tuple[int, int]:
        """Of the levels that it gives."""
        return (-128, 127) if asdict(self.step).get("dtype") == "int8" else (0, 255)


def generate(model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """src/NAME.ts, package.json, tsconfig.json, the model file, README.md; with samples a page that tests it.

    Raises ModelError for types that the runtime does not have in a browser.
    """
    arrays, package = _ARRAYS[model.runtime], _PACKAGES[model.runtime]
    for tensor in model.tensors:
        known_type(tensor.dtype, arrays, f"{tensor}, in {package}")
    words: dict[str, object] = {
        "model": model, "arrays": {**arrays, "int64": "BigInt64Array"}, "package": package,
        "version": WEB.packages[package], "wasm": f"{package}/{_WASM[model.runtime]}", "samples": samples,
        "placed": [list(_placed(each)) for each in model.inputs], "pixels": [_pixels(each) for each in model.inputs],
    }  # fmt: skip
    needs = needs_of(model)
    words |= {"needs": needs, "most_pixels": MOST_PIXELS}
    words |= {
        "fitted": any(each.fit is not None and _pixels(each) for each in model.inputs),
        "at_size": any(each.fit is None and _pixels(each) for each in model.inputs),
    }
    usage = fill("web/usage.md.j2", **words).decode().rstrip()
    files = {
        f"src/{model.identifier}.ts": fill("web/model.ts.j2", **words),
        model.path.name: model.path.read_bytes(),
        "package.json": json_text(_package(model, package)).encode(),
        "tsconfig.json": json_text(_TSCONFIG).encode(),
        "README.md": readme(model, samples, usage, ()),
    }
    if needs:
        files[f"src/{model.identifier}_pictures.ts"] = fill("web/pictures.ts.j2", **words)
    if samples is not None:
        files[f"test/{model.identifier}.test.ts"] = fill("web/test.ts.j2", **words)
        files["test/index.html"] = fill("web/index.html.j2", **words)
    return files | sample_files(samples, "samples")


def _placed(taken: AppInput) -> Iterator[_Placed]:
    shape = taken.shape
    for step in taken.steps:
        yield _Placed(type(step).__name__, shape, step)
        shape = tuple(shape[axis] for axis in step.axes) if isinstance(step, Transpose) else shape


def _pixels(taken: AppInput) -> bool:
    """Whether it can be given an ImageData: its red, green and blue, with alpha where there are four."""
    return taken.takes_pixels and (taken.fit is not None or _channels(taken.shape) in (3, 4))


def _channels(shape: Sequence[int]) -> int:
    return shape[-1] if len(shape) == 3 else 0


def _package(model: AppModel, package: str) -> Mapping[str, object]:
    return {
        "name": model.identifier.replace("_", "-"),
        "version": "1.0.0",
        "private": True,
        "type": "module",
        "main": f"./dist/src/{model.identifier}.js",
        "types": f"./dist/src/{model.identifier}.d.ts",
        "scripts": {"build": "tsc --project ."},
        "dependencies": {package: WEB.packages[package]},
        "devDependencies": {"typescript": WEB.packages["typescript"]},
    }


_TSCONFIG = {
    "compilerOptions": {
        "target": "ES2022",
        "module": "ES2022",
        "moduleResolution": "bundler",
        "lib": ["ES2022", "DOM"],
        "types": [],
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "noUnusedLocals": True,
        "noUnusedParameters": True,
        "noImplicitReturns": True,
        "declaration": True,
        # Of packages: theirs name types of browsers that TypeScript does not know yet.
        "skipLibCheck": True,
        "rootDir": ".",
        "outDir": "dist",
    },
    "include": ["src", "test"],
}
