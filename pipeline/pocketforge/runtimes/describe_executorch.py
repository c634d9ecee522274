"""Reads .pte programs and what is inside of their XNNPACK delegates, with the schemas and `flatc` of executorch.

executorch's own deserialiser imports torch and takes seconds; its schema files and `flatc` are found on disk without
an import and give the same tables. `flatc` runs as a child process: damage that crashes it cannot crash us.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pocketforge.errors import describe_exit
from pocketforge.runtimes.describe import (
    BITS,
    Contents,
    DelegateInfo,
    OtherBytes,
    TensorInfo,
    WeightInfo,
    elements,
    is_parameter,
    item_at,
    stored_bytes,
)
from pocketforge.runtimes.executorch_tables import (
    Delegate,
    ExecutionPlan,
    ExtraTensorInfo,
    ProgramTables,
    XnnData,
    XnnGraph,
    build,
)

_PROGRAM_SCHEMA = "exir/_serialize/program.fbs"
_XNNPACK_SCHEMA = "backends/xnnpack/serialization/schema.fbs"
_SECONDS = 120
_ROLES = {"filter_id": "weight", "bias_id": "bias"}
_SCALARS = {"BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64"}
_SCALARS |= {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
_XNNPACK_FLOATS = {"fp32": "float32", "pfp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_VALUES = {"Int": "int64", "Double": "float64", "Bool": "bool", "String": "string", "Null": "none"}


class Program(NamedTuple):
    """A .pte: its tables, the bytes of its segments, and which of these have names."""

    tables: ProgramTables
    segments: list[bytes]
    named: dict[str, int]


class _Stored:
    """Weights and other constants as they are met; bytes that two tensors share are counted once."""

    def __init__(self) -> None:
        self.weights: list[WeightInfo] = []
        self.other = OtherBytes()
        self.external: set[str] = set()
        self.dynamic = 0
        self._seen: set[object] = set()

    def is_new(self, key: object) -> bool:
        new = key not in self._seen
        self._seen.add(key)
        return new

    def add(self, name: str, shape: tuple[int, ...], dtype: str, size: int, layer: str, *, quantized: bool) -> None:
        expected = stored_bytes(dtype, shape)
        if expected is not None and size < expected:
            raise ValueError(f"{name} of {dtype}{list(shape)} needs {expected} bytes, has {size}")
        if is_parameter(dtype, shape, quantized=quantized):
            self.weights.append(WeightInfo(name, shape, dtype, elements(shape), size, layer))
        else:
            self.other.other_constant_bytes += size

    def metadata(self) -> dict[str, str]:
        """What a description says beside the weights."""
        about = self.other.metadata(self.dynamic)
        if self.external:
            about["external_data"] = ", ".join(sorted(self.external))
        return about


def parse(data: bytes, file_format: str) -> Contents:
    """Operators of all methods, delegates with their inner operators, constants in and out of delegates."""
    program = load_program(data)
    methods = program.tables.execution_plan
    if not methods:
        raise ValueError("the program has no methods")
    plans = [plan for plan in methods if plan.inputs or plan.instructions]
    metadata = {"schema": data[4:8].decode(), "methods": ", ".join(plan.name for plan in plans)}
    for plan in methods:
        if plan not in plans:  # a constant method: a value under a name, such as labels
            metadata.setdefault(plan.name, ", ".join(_constant_value(plan, index) for index in plan.outputs))
    stored = _Stored()
    outside: Counter[str] = Counter()
    delegates: list[DelegateInfo] = []
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for plan in plans:
        prefix = f"{plan.name}/" if len(plans) > 1 else ""
        inputs += [_interface(plan, index, f"{prefix}input_{i}") for i, index in enumerate(plan.inputs)]
        outputs += [_interface(plan, index, f"{prefix}output_{i}") for i, index in enumerate(plan.outputs)]
        _add_constants(plan, _count_kernels(plan, outside), program, stored)
        for delegate in plan.delegates:
            inner = _read_delegate(delegate, f"xnnpack_{len(delegates)}", program, stored)
            delegates.append(DelegateInfo(delegate.id, inner))
    ops = sum((Counter(delegate.ops) for delegate in delegates), Counter(outside))
    metadata |= stored.metadata()
    return Contents(
        tuple(inputs), tuple(outputs), dict(ops), tuple(stored.weights), metadata, tuple(delegates), dict(outside)
    )


def load_program(data: bytes) -> Program:
    """Raises ValueError and others of describe's for a damaged file, ImportError without executorch."""
    size, base = len(data), 0
    if data[8:12] == b"eh00":  # the extended header: where the flatbuffer ends and the segments begin
        length, size, base, total = (
            int.from_bytes(data[i:j], "little") for i, j in ((12, 16), (16, 24), (24, 32), (32, 40))
        )
        end = max(size, base + (total if length >= 32 else 0))
        if end > len(data):
            raise ValueError(f"the header promises {end} bytes")
    tables = build(ProgramTables, _flatc(data[:size], _PROGRAM_SCHEMA))
    segments = []
    for segment in tables.segments:
        start = base + segment.offset
        if start + segment.size > len(data):
            raise ValueError(f"a segment ends at byte {start + segment.size}")
        segments.append(data[start : start + segment.size])
    return Program(tables, segments, {entry.key: entry.segment_index for entry in tables.named_data})


def _count_kernels(plan: ExecutionPlan, counts: Counter[str]) -> dict[int, str]:
    """Count the calls outside of delegates; return which call first reads each value."""
    layers: dict[int, str] = {}
    for instruction in plan.instructions:
        if instruction.instr_args_type == "KernelCall":
            call = instruction.instr_args
            operator = item_at(plan.operators, call.op_index)
            name = ".".join(part for part in (operator.name, operator.overload) if part)
            for value in call.args:
                layers.setdefault(value, f"{name}_{counts[name]}")
            counts[name] += 1
    return layers


def _add_constants(plan: ExecutionPlan, layers: dict[int, str], program: Program, stored: _Stored) -> None:
    for index, value in enumerate(plan.values):
        tensor = value.tensor
        if tensor is None:
            continue
        extra = tensor.extra_tensor_info or ExtraTensorInfo()
        name, external = extra.fully_qualified_name, extra.location == "EXTERNAL"
        buffer, mutable = tensor.data_buffer_idx, tensor.allocation_info is not None
        # Buffer 0 means "no data". Data and an allocation together: a mutable tensor's initial state.
        key = name if external else (buffer, mutable)
        if (buffer or external) and stored.is_new(key):
            if external:
                stored.external.add(name)
            shape, dtype = tuple(tensor.sizes), dtype_of(tensor.scalar_type)
            size = stored_bytes(dtype, shape) or 0
            if not external:
                _check_constant(program, buffer, size, mutable=mutable)
            stored.add(name or f"constant_{buffer}", shape, dtype, size, layers.get(index, ""), quantized=False)


def _check_constant(program: Program, buffer: int, size: int, *, mutable: bool) -> None:
    constants = program.tables.constant_segment
    if not mutable and constants is not None and constants.offsets:
        segment = item_at(program.segments, constants.segment_index)
        if item_at(constants.offsets, buffer) + size > len(segment):
            raise ValueError(f"constant {buffer} ends outside of its segment")


def delegate_blob(delegate: Delegate, program: Program) -> bytes:
    """What its backend runs."""
    where = delegate.processed
    if where.location == "SEGMENT":
        return item_at(program.segments, where.index)
    return bytes(item_at(program.tables.backend_delegate_data, where.index).data)


def xnnpack_graph(blob: bytes) -> XnnGraph | None:
    """A delegate's graph; None for another version of the schema (opaque, not damaged)."""
    payload = blob
    if blob[4:8] == b"XH00":
        start, size = (int.from_bytes(blob[i : i + 4], "little") for i in (10, 14))
        payload = blob[start : start + size]
    if payload[4:6] == b"XN" and payload[4:8] != b"XN01":
        return None
    return build(XnnGraph, _flatc(payload, _XNNPACK_SCHEMA))


def _read_delegate(delegate: Delegate, prefix: str, program: Program, stored: _Stored) -> dict[str, int]:
    """Its operators by count; none of one that is opaque."""
    blob = delegate_blob(delegate, program)
    graph = xnnpack_graph(blob) if delegate.id == "XnnpackBackend" else None
    if graph is None:
        stored.other.opaque_delegate_bytes += len(blob)
        return {}
    place = _Place(blob, int.from_bytes(blob[18:22], "little") if blob[4:8] == b"XH00" else 0, prefix)
    values = {tensor.id_out: (tensor, scales) for tensor, scales in (value.parts for value in graph.xvalues)}
    counts: Counter[str] = Counter()
    for node in graph.xnodes:
        ids = node.ids
        if "filter_id" in ids:
            read, _ = values[ids["input1_id"]]
            # xnn_datatype_qd…: values that are quantized when the program runs.
            stored.dynamic += read.datatype.startswith("xnn_datatype_qd")
        layer = f"{prefix}.{node.kind}_{counts[node.kind]}"
        counts[node.kind] += 1
        for field, identity in ids.items():
            tensor, scales = values.get(identity, (None, None))
            if tensor is None or not tensor.constant_buffer_idx:
                continue
            entry = item_at(graph.constant_data, tensor.constant_buffer_idx)
            if stored.is_new(_stored_at(entry, place, program, stored)):
                shape, dtype = tuple(tensor.dims), xnnpack_dtype(tensor.datatype)
                name = f"{layer}.{_ROLES.get(field, field.removesuffix('_id'))}"
                stored.add(name, shape, dtype, entry.size, layer, quantized=scales is not None)
            if scales is not None and scales.scale_buffer_idx:
                entry = item_at(graph.constant_data, scales.scale_buffer_idx)
                if stored.is_new(_stored_at(entry, place, program, stored)):
                    stored.other.quantization_bytes += entry.size
    return dict(counts)


class _Place(NamedTuple):
    """A delegate's bytes, where its constants begin in them, and what it is called."""

    blob: bytes
    constants_at: int
    prefix: str


def _stored_at(entry: XnnData, place: _Place, program: Program, stored: _Stored) -> object:
    """Where constant data lies (its identity), once it is known to be there in full."""
    key = entry.named_key
    if not key:
        if place.constants_at + entry.offset + entry.size > len(place.blob):
            raise ValueError(f"constant data of {place.prefix} ends outside of the delegate")
        return (place.prefix, entry.offset)
    if key not in program.named:
        stored.external.add(key)
    elif entry.size > len(item_at(program.segments, program.named[key])):
        raise ValueError(f"constant data {key} is shorter than {entry.size} bytes")
    return key


def _interface(plan: ExecutionPlan, index: int, name: str) -> TensorInfo:
    value = item_at(plan.values, index)
    tensor = value.tensor
    if tensor is None:
        return TensorInfo(name, (), _VALUES.get(value.val_type, value.val_type))
    named = tensor.extra_tensor_info.fully_qualified_name if tensor.extra_tensor_info else ""
    bounded = tensor.shape_dynamism != "STATIC"
    return TensorInfo(named or name, tuple(tensor.sizes), dtype_of(tensor.scalar_type), bounded=bounded)


def _constant_value(plan: ExecutionPlan, index: int) -> str:
    value = item_at(plan.values, index)
    tensor = value.tensor
    if tensor is not None:
        return f"{dtype_of(tensor.scalar_type)}{tensor.sizes}"
    return str(next(iter(value.val.values()), "none"))


def dtype_of(scalar_type: str) -> str:
    name = _SCALARS.get(scalar_type) or scalar_type.lower().removeprefix("q").replace("float8e", "float8_e")
    if name not in BITS:
        raise ValueError(f"unknown scalar type {scalar_type}")
    return name


def xnnpack_dtype(datatype: str) -> str:
    """XNNPACK names quantization in the type: qc, qb, qd, qp are per channel, per block, dynamic, packed."""
    short = datatype.removeprefix("xnn_datatype_")
    return _XNNPACK_FLOATS.get(short) or re.sub(r"^q[bcdp]?(?=u?int)", "", short)


def _flatc(payload: bytes, schema: str) -> object:
    """Decode a flatbuffer by executorch's schema file into plain dicts and lists."""
    root = executorch_root()
    flatc = str(root / "data" / "bin" / "flatc")
    program = flatc if os.access(flatc, os.X_OK) else shutil.which("flatc")
    if program is None or not (root / schema).is_file():
        raise ImportError(f"executorch at {root} lacks {schema if program else 'flatc'}")
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder:
        source = Path(folder, "data.bin")
        source.write_bytes(payload)
        options = ["--json", "--strict-json", "--defaults-json", "--natural-utf8"]
        argv = [program, *options, "-o", folder, str(root / schema), "--", str(source)]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"flatc did not finish in {_SECONDS} s") from error
        text = source.with_suffix(".json")
        if done.returncode or not text.is_file():
            raise ValueError(f"flatc cannot read {payload[4:8]!r} by {schema} ({describe_exit(done.returncode)})")
        tables: object = json.loads(_finite_json(text.read_bytes()))
    return tables


def _finite_json(text: bytes) -> bytes:
    """flatc writes inf and nan as C does; JSON in Python knows Infinity and NaN. Strings stay as they are."""
    spelled = {b"inf": b"Infinity", b"-inf": b"-Infinity", b"nan": b"NaN", b"-nan": b"NaN"}
    return re.sub(rb'"(?:[^"\\]|\\.)*"|-?\b(?:inf|nan)\b', lambda match: spelled.get(match[0], match[0]), text)


def executorch_root() -> Path:
    spec = importlib.util.find_spec("executorch")
    for location in (spec.submodule_search_locations if spec else None) or ():
        if Path(location, _PROGRAM_SCHEMA).is_file():
            return Path(location)
    raise ImportError("executorch is not installed")
