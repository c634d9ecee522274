"""What code is written for: a module each, which satisfies Generator."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from pocketforge.errors import ModelError, RecipeError
from pocketforge.package.model import AppModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GENERATORS = {
    "android": "pocketforge.package.android",
    "cpp": "pocketforge.package.cpp",
    "python": "pocketforge.package.python",
    "web": "pocketforge.package.web",
}


AppPictures: TypeAlias = "tuple[tuple[NDArray[np.uint8], ...], ...]"


@dataclass(frozen=True, slots=True)
class AppSamples:
    """A few samples with what is right for them, which the test beside the code is held against. Samples come first.

    Attributes:
        given: Of each input, what an app gives: [n, *AppInput.shape], in one of its accepted types.
        tensors: Of each input, what the file gets of it: [n, *tensor.shape[1:]], in the tensor's type.
        outputs: Of each output, what the file answered when it was verified: [n, *tensor.shape[1:]], levels kept.
        pictures: Of each input that takes them at any size, those that `given` was made of: [height, width, channels]
            in bytes each. Empty of others.
    """

    given: tuple[NDArray[np.generic], ...]
    tensors: tuple[NDArray[np.generic], ...]
    outputs: tuple[NDArray[Any], ...]
    pictures: AppPictures = ()

    def pictures_of(self, number: int) -> tuple[NDArray[np.uint8], ...]:
        """Of the input of that place."""
        return self.pictures[number] if self.pictures else ()

    @property
    def count(self) -> int:
        return len(self.given[0])


class Generator(Protocol):
    """A module of GENERATORS. Light to import: no toolchain.

    Attributes:
        RUNTIMES: Those whose files it writes code for.
    """

    RUNTIMES: tuple[str, ...]

    def generate(self, model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
        """Path in the output folder, with `/` → content. The model file and README.md are among them.

        The same model and samples give the same bytes. Without samples there is no test of values.
        """
        ...


def generate(kind: str, model: AppModel, samples: AppSamples | None) -> Mapping[str, bytes]:
    """Raises RecipeError for a kind that writes nothing for the file's runtime."""
    module = cast("Generator", importlib.import_module(GENERATORS[kind]))
    if model.runtime not in module.RUNTIMES:
        known = ", ".join(module.RUNTIMES)
        raise RecipeError(f"--for {kind} writes code for {known}, found {model.path.name} of {model.runtime}")
    if kind == "web" and model.arm_alone:
        raise RecipeError(
            f"{model.path.name} has int8 weights, for apps on ARM alone, and a page is opened on any processor",
            'build the target with onnx_weights = "uint8"',
        )
    return module.generate(model, samples)


def sample_files(samples: AppSamples | None, folder: str) -> dict[str, bytes]:
    """given_0.bin, tensor_0.bin, output_0.bin …: values as they lie in memory, little-endian, sample after sample;
    picture_0.bin: pictures one after the other, each of its own size."""
    if samples is None:
        return {}
    pictures = {
        f"{folder}/picture_{number}.bin": b"".join(each.tobytes() for each in found)
        for number, found in enumerate(samples.pictures)
        if found
    }
    groups = {"given": samples.given, "tensor": samples.tensors, "output": samples.outputs}
    return pictures | {
        f"{folder}/{name}_{number}.bin": array.astype(array.dtype.newbyteorder("<")).tobytes()
        for name, arrays in groups.items()
        for number, array in enumerate(arrays)
    }


def known_type(dtype: str, known: Mapping[str, object], of: str) -> None:
    """Raises ModelError for a type that a language's code is not written for. of: the tensor, in words."""
    if dtype not in known:
        raise ModelError(f"{of}: code is written for {', '.join(known)}, found {dtype}", "python takes any type")
