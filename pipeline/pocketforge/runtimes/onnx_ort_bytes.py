"""One order of bytes for an `.ort` file. ONNX Runtime writes the table of its operators' types in the order of a hash
table whose seed is an address: another file each time, of the same size and meaning.

The rest of the file is written before that table (a flatbuffer is written from its end), and refers to nothing in it,
so that its bytes stay as they are and the table is written anew, sorted, before them.
https://onnxruntime.ai/docs/reference/ort-format-models.html; schema: onnxruntime/core/flatbuffers/schema/ort.fbs
"""

from __future__ import annotations

import mmap
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import flatbuffers
from flatbuffers import encode, packer

from pocketforge.errors import StageFailed
from pocketforge.runtimes.describe_onnx import ort_schema

IDENTIFIER = b"ORTM"
# No scalar and no tensor of the format is aligned to more.
_ALIGNED = 16
_OTHER = "install the version of onnxruntime that `pocketforge doctor` calls tested"
# Operator → the names of its types → kind (input or output) and number of each that has it.
_Types = dict[bytes, dict[bytes, list[tuple[int, int]]]]


def put_in_one_order(path: Path) -> None:
    """Write the file anew, in the bytes that each conversion of its model gives. Raises StageFailed for a file that
    ONNX Runtime has written in another way than it did.
    """
    ordered = path.with_name(f"{path.name}.part")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first, begins = _front(data)
        with ordered.open("wb") as out:
            out.write(first)
            file.seek(begins)
            shutil.copyfileobj(file, out, 1 << 20)
    ordered.replace(path)


def _front(data: mmap.mmap) -> tuple[bytes, int]:
    """What stands before the bytes that stay, and where these begin."""
    fbs = ort_schema()
    if not fbs.InferenceSession.InferenceSession.InferenceSessionBufferHasIdentifier(data, 0):
        raise StageFailed("ONNX Runtime's .ort file is not in the format that it was", _OTHER)
    session = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
    resolver = session.KernelTypeStrResolver()
    model: int = session.Model()._tab.Pos
    begins = min(model, model - encode.Get(packer.soffset, data, model))
    if resolver is not None and resolver._tab.Pos > begins:
        raise StageFailed(
            "ONNX Runtime writes an .ort file in another order than it did", "see runtimes/onnx_ort_bytes.py"
        )
    # Offsets say how far behind they point, and places are counted from the end: of what stays, the first bytes with
    # the model in them are enough.
    padding = -(len(data) - begins) % _ALIGNED
    held = -(-(padding + model - begins + 4) // _ALIGNED) * _ALIGNED
    stub = bytes(padding) + data[begins : begins + held - padding]
    builder = flatbuffers.Builder(1 << 16)
    builder.Bytes[len(builder.Bytes) - held :] = stub
    builder.head = len(builder.Bytes) - held
    builder.minalign = _ALIGNED
    types = _write(builder, fbs, _read(resolver)) if resolver is not None else None
    version = builder.CreateString(session.OrtVersion())
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddOrtVersion(builder, version)
    fbs.InferenceSession.AddModel(builder, held - padding - (model - begins))
    if types is not None:
        fbs.InferenceSession.AddKernelTypeStrResolver(builder, types)
    builder.Finish(fbs.InferenceSession.End(builder), IDENTIFIER)
    return bytes(builder.Output()), begins + held - padding


def _read(resolver: Any) -> _Types:
    found: _Types = {}
    for i in range(resolver.OpKernelTypeStrArgsLength()):
        operator = resolver.OpKernelTypeStrArgs(i)
        named = [operator.KernelTypeStrArgs(j) for j in range(operator.KernelTypeStrArgsLength())]
        found[operator.OpId()] = {
            each.KernelTypeStr(): [(each.Args(k).ArgType(), each.Args(k).Index()) for k in range(each.ArgsLength())]
            for each in named
        }
    return found


def _write(builder: flatbuffers.Builder, fbs: ModuleType, types: _Types) -> int:
    operators = []
    for operator in sorted(types):
        entries = []
        for name, places in sorted(types[operator].items()):
            places_at = _vector(builder, [_place(builder, fbs, *place) for place in places])
            name_at = builder.CreateString(name)
            fbs.KernelTypeStrArgsEntry.Start(builder)
            fbs.KernelTypeStrArgsEntry.AddKernelTypeStr(builder, name_at)
            fbs.KernelTypeStrArgsEntry.AddArgs(builder, places_at)
            entries.append(fbs.KernelTypeStrArgsEntry.End(builder))
        entries_at = _vector(builder, entries)
        operator_at = builder.CreateString(operator)
        fbs.OpIdKernelTypeStrArgsEntry.Start(builder)
        fbs.OpIdKernelTypeStrArgsEntry.AddOpId(builder, operator_at)
        fbs.OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, entries_at)
        operators.append(fbs.OpIdKernelTypeStrArgsEntry.End(builder))
    all_at = _vector(builder, operators)
    fbs.KernelTypeStrResolver.Start(builder)
    fbs.KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, all_at)
    return int(fbs.KernelTypeStrResolver.End(builder))


def _place(builder: flatbuffers.Builder, fbs: ModuleType, kind: int, number: int) -> int:
    fbs.ArgTypeAndIndex.Start(builder)
    fbs.ArgTypeAndIndex.AddArgType(builder, kind)
    fbs.ArgTypeAndIndex.AddIndex(builder, number)
    return int(fbs.ArgTypeAndIndex.End(builder))


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
