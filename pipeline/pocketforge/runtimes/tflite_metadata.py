"""TFLite Metadata, as MediaPipe Tasks and Android's libraries read it: a flatbuffer in the model's buffers, and the
labels in a zip archive behind the model.

The format is metadata_schema.fbs of tflite-support and MediaPipe (file identifier M001). No light package has its
generated code, and what is written here are eleven of its tables: they are written by their field numbers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pocketforge.errors import ModelError
from pocketforge.outcomes.about import About, AboutInput, AboutOutput
from pocketforge.recipe.score_calibration import ScoreCalibration
from pocketforge.runtimes.tflite_objects import Buffer, Metadata, packed, unpacked

FIELD = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_FEATURE, _IMAGE, _BOXES, _AUDIO = 1, 2, 3, 4  # ContentProperties
# BoundingBoxProperties: left, top, right, bottom, BOUNDARIES; RATIO is what is left out. MediaPipe takes no other.
_CORNERS, _BOUNDARIES = (0, 1, 2, 3), 1
_COLORS = {"": 0, "rgb": 1, "gray": 2}  # ColorSpaceType: unknown, RGB, GRAYSCALE
_NORMALIZATION, _CALIBRATION = 1, 2  # ProcessUnitOptions
_LABELS = {"axis": 2, "values": 3}  # AssociatedFileType: TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS
_CALIBRATION_FILE = 4  # AssociatedFileType: TENSOR_AXIS_SCORE_CALIBRATION
_TRANSFORMATIONS = {"identity": 0, "log": 1, "inverse_logistic": 2}  # ScoreTransformationType
_BERT, _VOCABULARY_FILE, _VOCABULARY = 4, 5, "vocab.txt"  # BertTokenizerOptions; AssociatedFileType: VOCABULARY
# By these names MediaPipe knows a BERT model's inputs.
_TOKENS = {"ids": "ids", "mask": "mask", "type_ids": "segment_ids"}
# Of the earliest reader that knows all that is written here: AudioProperties and tokenizers came later.
_PARSER, _PARSER_OF_MORE = "1.0.0", "1.3.0"
# Equal files have equal bytes: the archive's format has no earlier time.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Byte:
    value: int


@dataclass(frozen=True, slots=True)
class _Word:
    value: int


@dataclass(frozen=True, slots=True)
class _Words:
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Real:
    value: float


@dataclass(frozen=True, slots=True)
class _Table:
    """Fields by their number in the schema; None is left out."""

    fields: Sequence[_Field]


_Field: TypeAlias = "_Table | Sequence[_Table] | Sequence[float] | str | _Byte | _Word | _Words | _Real | None"


def add_metadata(data: bytes, about: About) -> bytes:
    """The file with metadata in it and its labels behind it. data: without any. Raises ModelError as `_lines`."""
    files = {_labels_file(each): _lines(each.labels) for each in about.outputs if each.labelled}
    files |= {_VOCABULARY: "\n".join(about.words) + "\n"} if about.words else {}
    files |= {_calibration_file(each): _rows(each.calibration) for each in about.outputs if each.calibration}
    model = unpacked(data)
    buffer: Buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata_of(about), np.uint8)
    model.buffers.append(buffer)
    entry: Metadata = schema.MetadataT()
    entry.name, entry.buffer = FIELD.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    written = packed(model, len(data) + 4096)
    return written + _archive(files, len(written)) if files else written


def _lines(labels: Sequence[str]) -> str:
    """A label a line. Raises ModelError for one that is no line: all after it would be of another class."""
    for label in labels:
        if not label or {"\n", "\r"} & set(label):
            raise ModelError(
                f"package.metadata: label {label!r} is no line of text, and a .tflite file's labels are lines",
                "name the class otherwise (data.labels), or leave metadata out",
            )
    return "\n".join(labels) + "\n"


def _rows(calibration: ScoreCalibration) -> str:
    """A line a class; an empty one has no curve. Without a newline at the end: behind it another class would stand."""
    return "\n".join(",".join(repr(value) for value in row) for row in calibration.curve)


def metadata_of(about: About) -> bytes:
    """The flatbuffer, its root a ModelMetadata."""
    units = None
    if about.words:
        vocabulary = _Table((_VOCABULARY, None, _Byte(_VOCABULARY_FILE)))
        units = [_Table((_Byte(_BERT), _Table(([vocabulary],))))]
    inputs, outputs = [_input(each) for each in about.inputs], [_output(each) for each in about.outputs]
    graph = _Table((None, None, inputs, outputs, None, units))
    later = about.words or any(each.rate_hz for each in about.inputs)
    parser = _PARSER_OF_MORE if later else _PARSER
    root = _Table((about.name, None, None, [graph], None, None, None, parser))
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, root), _IDENTIFIER)
    return bytes(builder.Output())


def _input(each: AboutInput) -> _Table:
    content, units = None, None
    if each.rate_hz:
        content = _content(_AUDIO, _Table((_Word(each.rate_hz), _Word(each.channels))))
    elif each.channels:
        content = _content(_IMAGE, _Table((_Byte(_COLORS[each.color]),)))
    if each.mean:
        units = [_Table((_Byte(_NORMALIZATION), _Table((each.mean, each.std))))]
    stats = _Table((each.high, each.low)) if each.high else None
    return _Table((_TOKENS.get(each.token, each.name), None, None, content, units, stats))


def _output(each: AboutOutput) -> _Table:
    stats = _Table(((1.0,), (0.0,))) if each.shares else None
    belong = [_Table((_labels_file(each), None, _Byte(_LABELS[each.labelled])))] if each.labelled else []
    units = None
    if each.calibration:
        how = (_Byte(_TRANSFORMATIONS[each.calibration.transformation]), _Real(each.calibration.default))
        units = [_Table((_Byte(_CALIBRATION), _Table(how)))]
        belong.append(_Table((_calibration_file(each), None, _Byte(_CALIBRATION_FILE))))
    content = _content(_FEATURE, _Table(()))
    if each.detection == "location":
        content = _content(_BOXES, _Table((_Words(_CORNERS), _Byte(_BOUNDARIES))))
    # Of a detector MediaPipe knows its outputs by these names; by others it takes classes for scores without a word.
    return _Table((each.detection or each.name, None, None, content, units, stats, belong or None))


def _content(kind: int, properties: _Table) -> _Table:
    return _Table((_Byte(kind), properties))


def _labels_file(output: AboutOutput) -> str:
    return f"labels_{output.name}.txt"


def _calibration_file(output: AboutOutput) -> str:
    return f"score_calibration_{output.name}.txt"


def _write(builder: flatbuffers.Builder, node: _Table) -> int:
    """A table's offset. What it refers to is written first, as flatbuffers are from their end."""
    written = [_place(builder, field) for field in node.fields]
    builder.StartObject(len(node.fields))
    for number, (field, offset) in enumerate(zip(node.fields, written, strict=True)):
        if isinstance(field, _Byte):
            builder.PrependUint8Slot(number, field.value, 0)
        elif isinstance(field, _Word):
            builder.PrependUint32Slot(number, field.value, 0)
        elif isinstance(field, _Real):
            builder.PrependFloat32Slot(number, field.value, 0.0)
        elif field is not None:
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return int(builder.EndObject())


def _place(builder: flatbuffers.Builder, field: _Field) -> int:
    if isinstance(field, str):
        return int(builder.CreateString(field))
    if isinstance(field, _Table):
        return _write(builder, field)
    if field is None or isinstance(field, _Byte | _Word | _Real):
        return 0
    if isinstance(field, _Words):
        return int(builder.CreateNumpyVector(np.array(field.values, np.uint32)))
    if field and isinstance(field[0], _Table):
        offsets = [_write(builder, each) for each in field if isinstance(each, _Table)]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    return int(builder.CreateNumpyVector(np.array(field, np.float32)))


def _archive(files: dict[str, str], before: int) -> bytes:
    """A zip archive whose offsets count from the file's start. before: so many bytes stand before it."""
    target = io.BytesIO(b"\0" * before)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content.encode())
    return target.getvalue()[before:]
