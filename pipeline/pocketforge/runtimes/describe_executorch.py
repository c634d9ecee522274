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
from typing import Any, NamedTuple

from pocketforge.errors import describe_exit
from pocketforge.runtimes.describe import (
    BITS,
    Contents,
    DelegateInfo,
    TensorInfo,
    WeightInfo,
    elements,
    is_parameter,
    stored_bytes,
)

_PROGRAM_SCHEMA = "exir/_serialize/program.fbs"
_XNNPACK_SCHEMA = "backends/xnnpack/serialization/schema.fbs"
_SECONDS = 120
_ROLES = {"filter_id": "weight", "bias_id": "bias"}
_SCALARS = {"BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64"}
_SCALARS |= {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
_XNNPACK_FLOATS = {"fp32": "float32", "pfp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_VALUES = {"Int": "int64", "Double": "float64", "Bool": "bool", "String": "string", "Null": "none"}


class _Program(NamedTuple):
    tables: dict[str, Any]
    segments: list[bytes]
    named: dict[str, int]


class _Found:
    """Weights and other constants as they are met; bytes that two tensors share are counted once."""

    def __init__(self) -> None:
        self.weights: list[WeightInfo] = []
        self.other: Counter[str] = Counter()
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
            self.other["other_constant_bytes"] += size


def parse(data: bytes, file_format: str) -> Contents:
    """Operators of all methods, delegates with their inner operators, constants in and out of delegates."""
    program = load_program(data)
    plans = [plan for plan in program.tables.get("execution_plan") or [] if plan.get("inputs") or instructions(plan)]
    if not program.tables.get("execution_plan"):
        raise ValueError("the program has no methods")
    metadata = {"schema": data[4:8].decode(), "methods": ", ".join(plan["name"] for plan in plans)}
    for plan in program.tables["execution_plan"]:
        if plan not in plans:  # a constant method: a value under a name, such as labels
            values = (_constant_value(plan, index) for index in plan.get("outputs") or [])
            metadata.setdefault(plan["name"], ", ".join(values))
    found = _Found()
    outside: Counter[str] = Counter()
    delegates: list[DelegateInfo] = []
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for plan in plans:
        prefix = f"{plan['name']}/" if len(plans) > 1 else ""
        inputs += [_interface(plan, index, f"{prefix}input_{i}") for i, index in enumerate(plan.get("inputs") or [])]
        outputs += [_interface(plan, index, f"{prefix}output_{i}") for i, index in enumerate(plan.get("outputs") or [])]
        layers = _count_kernels(plan, outside)
        _add_constants(plan, layers, program, found)
        for delegate in plan.get("delegates") or []:
            blob = delegate_blob(delegate, program)
            inner: dict[str, int] = {}
            if delegate["id"] == "XnnpackBackend":
                inner = _read_xnnpack(blob, f"xnnpack_{len(delegates)}", program, found)
            else:
                found.other["opaque_delegate_bytes"] += len(blob)
            delegates.append(DelegateInfo(delegate["id"], inner))
    metadata |= {key: str(size) for key, size in found.other.items() if size}
    if found.dynamic:
        metadata["dynamically_quantized_ops"] = str(found.dynamic)
    if found.external:
        metadata["external_data"] = ", ".join(sorted(found.external))
    ops = sum((Counter(delegate.ops) for delegate in delegates), Counter(outside))
    return Contents(
        tuple(inputs), tuple(outputs), dict(ops), tuple(found.weights), metadata, tuple(delegates), dict(outside)
    )


def load_program(data: bytes) -> _Program:
    size, base = len(data), 0
    if data[8:12] == b"eh00":  # the extended header: where the flatbuffer ends and the segments begin
        length, size, base, total = (
            int.from_bytes(data[i:j], "little") for i, j in ((12, 16), (16, 24), (24, 32), (32, 40))
        )
        end = max(size, base + (total if length >= 32 else 0))
        if end > len(data):
            raise ValueError(f"the header promises {end} bytes")
    tables = _flatc(data[:size], _PROGRAM_SCHEMA)
    segments = []
    for segment in tables.get("segments") or []:
        start = base + segment["offset"]
        if start + segment["size"] > len(data):
            raise ValueError(f"a segment ends at byte {start + segment['size']}")
        segments.append(data[start : start + segment["size"]])
    named = {entry["key"]: entry["segment_index"] for entry in tables.get("named_data") or []}
    return _Program(tables, segments, named)


def instructions(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [instruction for chain in plan.get("chains") or [] for instruction in chain.get("instructions") or []]


def _count_kernels(plan: dict[str, Any], counts: Counter[str]) -> dict[int, str]:
    """Count the calls outside of delegates; return which call first reads each value."""
    layers: dict[int, str] = {}
    for instruction in instructions(plan):
        if instruction["instr_args_type"] == "KernelCall":
            call = instruction["instr_args"]
            operator = _at(plan["operators"], call["op_index"])
            name = ".".join(part for part in (operator["name"], operator.get("overload")) if part)
            for value in call["args"]:
                layers.setdefault(value, f"{name}_{counts[name]}")
            counts[name] += 1
    return layers


def _add_constants(plan: dict[str, Any], layers: dict[int, str], program: _Program, found: _Found) -> None:
    for index, value in enumerate(plan["values"]):
        tensor = value.get("val") or {}
        if value["val_type"] != "Tensor":
            continue
        extra = tensor.get("extra_tensor_info") or {}
        name, external = extra.get("fully_qualified_name", ""), extra.get("location") == "EXTERNAL"
        buffer = tensor["data_buffer_idx"]
        # Buffer 0 means "no data". Data and an allocation together: a mutable tensor's initial state.
        key = name if external else (buffer, "allocation_info" in tensor)
        if (buffer or external) and found.is_new(key):
            if external:
                found.external.add(name)
            shape, dtype = tuple(tensor["sizes"]), dtype_of(tensor["scalar_type"])
            size = stored_bytes(dtype, shape) or 0
            if not external:
                _check_constant(program, buffer, size, mutable="allocation_info" in tensor)
            found.add(name or f"constant_{buffer}", shape, dtype, size, layers.get(index, ""), quantized=False)


def _check_constant(program: _Program, buffer: int, size: int, *, mutable: bool) -> None:
    offsets = program.tables.get("constant_segment") or {}
    if not mutable and offsets.get("offsets"):
        segment = _at(program.segments, offsets["segment_index"])
        if _at(offsets["offsets"], buffer) + size > len(segment):
            raise ValueError(f"constant {buffer} ends outside of its segment")


def delegate_blob(delegate: dict[str, Any], program: _Program) -> bytes:
    where = delegate["processed"]
    if where["location"] == "SEGMENT":
        blob: bytes = _at(program.segments, where["index"])
        return blob
    return bytes(_at(program.tables["backend_delegate_data"], where["index"]).get("data") or [])


def xnnpack_graph(blob: bytes) -> dict[str, Any] | None:
    """A delegate's graph; None for another version of the schema (opaque, not damaged)."""
    payload = blob
    if blob[4:8] == b"XH00":
        start, size = (int.from_bytes(blob[i : i + 4], "little") for i in (10, 14))
        payload = blob[start : start + size]
    if payload[4:6] == b"XN" and payload[4:8] != b"XN01":
        return None
    return _flatc(payload, _XNNPACK_SCHEMA)


def _read_xnnpack(blob: bytes, prefix: str, program: _Program, found: _Found) -> dict[str, int]:
    graph = xnnpack_graph(blob)
    if graph is None:
        found.other["opaque_delegate_bytes"] += len(blob)
        return {}
    constants_at = int.from_bytes(blob[18:22], "little") if blob[4:8] == b"XH00" else 0
    entries = graph.get("constant_data") or []
    values = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        quantized = value["xvalue_union_type"] == "XNNQuantizedTensorValue"
        base = tensor["tensor_value"] if quantized else tensor
        values[base["id_out"]] = (base, tensor.get("quant_params") if quantized else None)
    counts: Counter[str] = Counter()
    for node in graph["xnodes"]:
        kind = node["xnode_union_type"].removeprefix("XNN")
        if "filter_id" in node["xnode_union"]:
            read, _ = values[node["xnode_union"]["input1_id"]]
            # xnn_datatype_qd…: values that are quantized when the program runs.
            found.dynamic += read["datatype"].startswith("xnn_datatype_qd")
        layer = f"{prefix}.{kind}_{counts[kind]}"
        counts[kind] += 1
        for field, identity in node["xnode_union"].items():
            base, quantization = values.get(identity, (None, None)) if field.endswith("_id") else (None, None)
            if base is None or not base["constant_buffer_idx"]:
                continue
            entry = _at(entries, base["constant_buffer_idx"])
            if found.is_new(_stored_at(entry, blob, constants_at, prefix, program, found)):
                shape, dtype = tuple(base["dims"]), xnnpack_dtype(base["datatype"])
                name = f"{layer}.{_ROLES.get(field, field.removesuffix('_id'))}"
                found.add(name, shape, dtype, entry["size"], layer, quantized=quantization is not None)
            if quantization and quantization.get("scale_buffer_idx"):
                entry = _at(entries, quantization["scale_buffer_idx"])
                if found.is_new(_stored_at(entry, blob, constants_at, prefix, program, found)):
                    found.other["quantization_bytes"] += entry["size"]
    return dict(counts)


def _stored_at(
    entry: dict[str, Any], blob: bytes, constants_at: int, prefix: str, program: _Program, found: _Found
) -> object:
    """Where constant data lies (its identity), once it is known to be there in full."""
    key = entry.get("named_key")
    if not key:
        if constants_at + entry["offset"] + entry["size"] > len(blob):
            raise ValueError(f"constant data of {prefix} ends outside of the delegate")
        return (prefix, entry["offset"])
    if key not in program.named:
        found.external.add(key)
    elif entry["size"] > len(_at(program.segments, program.named[key])):
        raise ValueError(f"constant data {key} is shorter than {entry['size']} bytes")
    return key


def _interface(plan: dict[str, Any], index: int, name: str) -> TensorInfo:
    value = _at(plan["values"], index)
    if value["val_type"] != "Tensor":
        return TensorInfo(name, (), _VALUES.get(value["val_type"], value["val_type"]))
    tensor = value["val"]
    named = (tensor.get("extra_tensor_info") or {}).get("fully_qualified_name")
    bounded = tensor["shape_dynamism"] != "STATIC"
    return TensorInfo(named or name, tuple(tensor["sizes"]), dtype_of(tensor["scalar_type"]), bounded=bounded)


def _constant_value(plan: dict[str, Any], index: int) -> str:
    value = _at(plan["values"], index)
    kind, content = value["val_type"], value.get("val") or {}
    if kind == "Tensor":
        return f"{dtype_of(content['scalar_type'])}{content['sizes']}"
    return str(next(iter(content.values()), "none"))


def dtype_of(scalar_type: str) -> str:
    name = _SCALARS.get(scalar_type) or scalar_type.lower().removeprefix("q").replace("float8e", "float8_e")
    if name not in BITS:
        raise ValueError(f"unknown scalar type {scalar_type}")
    return name


def xnnpack_dtype(datatype: str) -> str:
    """XNNPACK names quantization in the type: qc, qb, qd, qp are per channel, per block, dynamic, packed."""
    short = datatype.removeprefix("xnn_datatype_")
    return _XNNPACK_FLOATS.get(short) or re.sub(r"^q[bcdp]?(?=u?int)", "", short)


def _at(items: list[Any], index: int) -> Any:
    # Python would read a negative index from the end of the list, and hide the damage.
    if index < 0:
        raise IndexError(f"negative index {index}")
    return items[index]


def _flatc(payload: bytes, schema: str) -> dict[str, Any]:
    """Decode a flatbuffer by executorch's schema file into plain dicts and lists."""
    root = _executorch_root()
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
        tables: dict[str, Any] = json.loads(_finite_json(text.read_bytes()))
    return tables


def _finite_json(text: bytes) -> bytes:
    """flatc writes inf and nan as C does; JSON in Python knows Infinity and NaN. Strings stay as they are."""
    spelled = {b"inf": b"Infinity", b"-inf": b"-Infinity", b"nan": b"NaN", b"-nan": b"NaN"}
    return re.sub(rb'"(?:[^"\\]|\\.)*"|-?\b(?:inf|nan)\b', lambda match: spelled.get(match[0], match[0]), text)


def _executorch_root() -> Path:
    spec = importlib.util.find_spec("executorch")
    for location in (spec.submodule_search_locations if spec else None) or ():
        if Path(location, _PROGRAM_SCHEMA).is_file():
            return Path(location)
    raise ImportError("executorch is not installed")
