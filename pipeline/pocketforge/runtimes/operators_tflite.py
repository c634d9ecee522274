"""Operators of .tflite files: builtin ones with the versions that kernels are registered for, custom and Flex ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.describe import ModelFile, item_at
from pocketforge.runtimes.describe_tflite import dtype_of, operator_name
from pocketforge.runtimes.operators import BuildFile, Calls, UsedOperator, UsedOperators
from pocketforge.runtimes.tflite_objects import Graph, Model, ints

_CUSTOM, _FLEX = "custom:", "Flex"


def read(file: ModelFile) -> UsedOperators:
    operators = _operators(file.data)
    notes = []
    flex = [each.name for each in operators if each.domain == "flex"]
    custom = [each.name for each in operators if each.domain == "custom"]
    if flex:
        notes.append(
            f"TensorFlow's own operators ({', '.join(flex)}): the app needs the Flex delegate too "
            "(select-tf-ops), a library of its own that is not counted here"
        )
    if custom:
        notes.append(f"custom operators ({', '.join(custom)}): LiteRT has no kernel for them, the app must bring one")
    return UsedOperators(operators, ("Flex",) if flex else (), tuple(notes))


def build_files(paths: Sequence[Path]) -> tuple[BuildFile, ...]:
    """As TensorFlow Lite's gen_selected_ops writes it: kernels are taken in by their registrations."""
    versions: dict[str, set[int]] = {}
    for path in paths:
        for each in _operators(path.read_bytes()):
            if each.domain == "builtin":
                versions.setdefault(each.name, set()).add(each.version or 1)
    lines = [
        '#include "tensorflow/lite/kernels/builtin_op_kernels.h"',
        '#include "tensorflow/lite/mutable_op_resolver.h"',
        "",
        "void RegisterSelectedOps(::tflite::MutableOpResolver* resolver) {",
        *(
            f"  resolver->AddBuiltin(::tflite::BuiltinOperator_{name}, ::tflite::ops::builtin::Register_{name}(), "
            f"{min(found)}, {max(found)});"
            for name, found in sorted(versions.items())
        ),
        "}",
    ]
    use = "compiled with the app in place of BuiltinOpResolver; Bazel's gen_selected_ops(models = …) writes the same"
    return (BuildFile("selected_ops.cc", "\n".join(lines) + "\n", use),)


def _operators(data: bytes) -> tuple[UsedOperator, ...]:
    model: Model = schema.ModelT.InitFromPackedBuf(data, 0)
    calls = Calls()
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            code = item_at(model.operatorCodes, operator.opcodeIndex)
            domain, name = _kind(operator_name(code))
            version = max(int(code.version), 1)  # 0 is what a file of the first schema leaves out
            inputs, outputs = (_types(graph, places) for places in (operator.inputs, operator.outputs))
            calls.add(domain, name, version, inputs, outputs)
    return calls.operators()


def _kind(name: str) -> tuple[str, str]:
    if not name.startswith(_CUSTOM):
        return "builtin", name
    custom = name.removeprefix(_CUSTOM)
    return ("flex" if custom.startswith(_FLEX) else "custom"), custom


def _types(graph: Graph, places: Iterable[int]) -> list[str]:
    return [dtype_of(item_at(graph.tensors, place)) for place in ints(places) if place >= 0]
