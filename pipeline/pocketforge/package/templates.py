"""Filling the templates in templates/: Jinja2, in which a name that is not there is an error."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.package.model import AppInput, camel, pascal, product
from pocketforge.package.pictures import Crop, Pad, PictureStep, Resize
from pocketforge.package.steps import Divide, Normalize, Quantize, ReverseChannels, Step, ToFloat, Transpose

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).with_name("templates")


def fill(template: str, **values: object) -> bytes:
    """template: a path in templates/, as `python/model.py.j2`."""
    filled: str = _environment().get_template(template).render(**values)
    return filled.encode()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  # code and Markdown: foreign texts go through the filter `text`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "camel": camel,
        "pascal": pascal,
        "product": product,
        "text": text,
        "kotlin_text": kotlin_text,
        "python_text": python_text,
        "float32": float32,
        "fits": fits,
        "has": lambda needs, *wanted: not needs.isdisjoint(wanted),
        "kind": lambda step: type(step).__name__,
        "words": words,
        "does": does,
        "tuple": python_tuple,
        "signatures": signatures,
        "boxed": {"float": "Float", "byte": "Byte", "short": "Short", "int": "Integer", "long": "Long"}.__getitem__,
        "ort_tensor": ort_tensor,
        "c_float": c_float,
        "c_text": c_text,
    }
    return made


def text(value: str) -> str:
    """A text in double quotes, as Java and TypeScript have it: ASCII, the rest in UTF-16's units."""
    return json.dumps(value)


def kotlin_text(value: str) -> str:
    """As `text`; a dollar would begin a template, and Kotlin has no word for a form feed."""
    inside = "\\u000c".join(text(part)[1:-1] for part in value.split("\f"))
    return f'"{inside}"'.replace("$", "\\$")


def python_text(value: str) -> str:
    """As `text`, in UTF-8: Python's escapes are no units of UTF-16."""
    return json.dumps(value, ensure_ascii=False)


def float32(value: float) -> str:
    """The shortest decimal number that is this float32: `0.485`, `1e-05`."""
    import numpy as np

    return str(np.float32(value))


def python_tuple(values: Sequence[object]) -> str:
    """As Python writes it."""
    parts = [python_text(value) if isinstance(value, str) else str(value) for value in values]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def does(step: Step) -> str:
    """A step of generated code for reading."""
    settings = " ".join(str(list(value) if isinstance(value, tuple) else value) for value in astuple(step))
    return f"{_DOES[type(step)]} {settings}".rstrip()


_DOES: dict[type, str] = {
    ReverseChannels: "turns RGB into BGR",
    Divide: "divides by",
    Normalize: "subtracts means and divides by deviations",
    ToFloat: "makes float32",
    Transpose: "puts axes in the order",
    Quantize: "quantizes by scale, zero point",
}


def fits(step: PictureStep) -> str:
    """A step that makes pictures fit, for reading."""
    if isinstance(step, Resize):
        to = {
            "size": f"to {step.height} × {step.width}",
            "shorter": f"its shorter side to {step.height}",
            "within": f"into {step.height} × {step.width}",
        }[step.way]
        return f"resized {to}, {step.filter} like {step.like}{', smoothed' if step.smooths else ''}"
    if isinstance(step, Crop):
        return f"its middle of {step.height} × {step.width}"
    if isinstance(step, Pad):
        sides = f"by {list(step.by)}" if step.by else f"to {step.height} × {step.width}"
        return f"padded {sides}, {step.mode}{f' {list(step.value)}' if step.value else ''}"
    return {"Reverse": "its channels reversed", "Gray": "made gray", "Round": "rounded to bytes"}[type(step).__name__]


def c_float(value: float) -> str:
    """A float32 as C++, Java and Kotlin write it: `0.485f`, `1e-05f`."""
    return f"{float32(value)}f"


def c_text(value: str) -> str:
    """A text as C++ has it: UTF-8 bytes, what is not ASCII in octal, which ends after three digits."""
    shown = {0x22: '\\"', 0x5C: "\\\\", 0x3F: "\\?"}
    return (
        '"'
        + "".join(shown.get(byte, chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in value.encode())
        + '"'
    )


def signatures(inputs: Sequence[AppInput]) -> list[tuple[str, ...]]:
    """Of each way to call with types that inputs accept: a type for each input."""
    return list(itertools.product(*(each.accepts for each in inputs)))


def ort_tensor(given: AppInput) -> str:
    """How ONNX Runtime's Java API makes a tensor of an array that is called as the input is."""
    shape = ", ".join(map(str, given.tensor.shape))
    name = camel(given.identifier)
    buffer = {"float32": "Float", "int16": "Short", "int32": "Int", "int64": "Long"}.get(given.tensor.dtype)
    if buffer:
        return f"OnnxTensor.createTensor(environment, java.nio.{buffer}Buffer.wrap({name}), longArrayOf({shape}))"
    kind = f"OnnxJavaType.{given.tensor.dtype.upper()}"
    return f"OnnxTensor.createTensor(environment, ByteBuffer.wrap({name}), longArrayOf({shape}), {kind})"


def words(step: Mapping[str, object]) -> str:
    """A step of the sidecar for reading: `resize height=224 width=224 filter=bilinear`."""
    rest = [f"{name}={value}" for name, value in step.items() if name != "step"]
    return " ".join([str(step["step"]), *rest])
