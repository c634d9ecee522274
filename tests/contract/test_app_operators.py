"""Operators that a build of a runtime needs for a file, held against what each runtime itself says of the file."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_store import DigitsParts

from pocketforge.errors import ModelError
from pocketforge.runtimes.operators import BuildFile, UsedOperators, build_files, operators_of
from pocketforge.runtimes.operators_executorch import OPTIMIZED


def names(used: UsedOperators) -> Counter[str]:
    return Counter({f"{each.domain}::{each.name}": each.count for each in used.operators})


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_ort_files_need_what_onnx_runtimes_own_tool_says(digits_parts: DigitsParts, kind: str) -> None:
    model = digits_parts.model("onnx", kind)
    path = model.with_suffix(".ort")
    (config,) = build_files([path])
    assert config.name == "required_operators_and_types.config" and str(path.parent) not in config.text
    told = {
        (domain, int(version), name)
        for domain, version, operators in (
            line.split(";", 2) for line in config.text.splitlines() if not line.startswith("#")
        )
        for name in re.sub(r"\{(?:[^{}]|\{[^{}]*\})*\}", "", operators).split(",")
    }
    used = operators_of(path)
    assert {(each.domain, each.version, each.name) for each in used.operators} == told
    # One whose types the tool writes too.
    typed = "uint8_t" if kind == "int8" else "float"
    assert f'{"QuantizeLinear" if kind == "int8" else "Conv"}{{"' in config.text and f'"{typed}"' in config.text
    # That of the .onnx file is of what it becomes: the same kernels.
    (of_onnx,) = build_files([model])
    assert [*of_onnx.text.splitlines()][2:] == [*config.text.splitlines()][2:]


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_onnx_files_need_what_onnx_runtime_loads_without_fusing(
    digits_parts: DigitsParts, tmp_path: Path, kind: str
) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "plain.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    path = digits_parts.model("onnx", kind)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    loaded, used = operators_of(tmp_path / "plain.ort"), operators_of(path)
    # Names, the opset since which each is so, and types; not counts: ONNX Runtime gives each reader of quantized values
    # a DequantizeLinear of its own.
    alike = [[dataclasses.replace(each, count=1) for each in found.operators] for found in (used, loaded)]
    assert alike[0] == alike[1]
    assert any("minimal build loads .ort only" in note for note in used.notes)
    assert any("mobile checker" in note for note in used.notes)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_tflite_files_need_what_the_interpreter_runs(digits_parts: DigitsParts, kind: str) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = digits_parts.model("tflite", kind)
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    told = Counter(f"builtin::{each['op_name']}" for each in interpreter._get_ops_details())
    used = operators_of(path)
    assert names(used) == told and not used.delegates
    (selected,) = build_files([path])
    registered = re.findall(
        r"BuiltinOperator_(\w+), ::tflite::ops::builtin::Register_\1\(\), (\d+), (\d+)\)", selected.text
    )
    assert {(name, int(most)) for name, _, most in registered} == {(each.name, each.version) for each in used.operators}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pte of which XNNPACK takes a part: a sum, and what it has no kernels for."""

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            y = torch.cumsum(x + x, 1)
            return torch.topk(y, 2, 1)[0], torch.exp(y).argmax(1)

    path = tmp_path_factory.mktemp("mixed") / "mixed.pte"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of the toolchain deprecate each other
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(Net(), (torch.ones(1, 4),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        path.write_bytes(lowered.buffer)
    return path


def test_pte_files_need_what_executorch_reads_in_them(mixed: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Python binding says that it is experimental
        from executorch.runtime import Runtime

        registered = set(Runtime.get().operator_registry.operator_names)
    theirs = importlib.import_module("executorch.codegen.tools.selective_build")  # what gen_oplist reads with
    used, program = operators_of(mixed), theirs._get_program_from_buffer(mixed.read_bytes())
    told = set(theirs._get_program_operators(program))
    assert set(names(used)) == told and {"aten::cumsum.out", "aten::topk.values"} <= told
    assert told <= registered
    assert used.delegates == ("XnnpackBackend",)
    kernels = {each.name: each.kernels for each in used.operators}
    assert kernels["cumsum.out"] == "portable"
    assert all(kernels[name.removeprefix("aten::")] == "portable, optimized" for name in told & set(OPTIMIZED))
    # Types, by PyTorch's numbers: float32 is 6, int64 4.
    numbers = {"float32": 6, "int64": 4}
    for name, variants in theirs._get_io_metadata_for_program_operators(program).items():
        seen = {each.dtype for variant in variants for each in variant if each.kernel_type == 5}
        mine = next(each for each in used.operators if f"{each.domain}::{each.name}" == name)
        assert {numbers[word] for types in mine.types for word in re.findall(r"\w+\d", types)} == seen


def test_the_lists_of_selective_builds_have_every_operator(mixed: Path, digits_parts: DigitsParts) -> None:
    delegated = digits_parts.model("executorch", "int8")
    one, other, together = build_files([mixed, delegated])
    assert one.name == "mixed.selected_operators.yaml" and str(mixed.parent) not in one.text
    listed = together.text.strip().split(",")
    assert listed == sorted(names(operators_of(mixed)))
    assert all(f"  {name}:\n" in one.text for name in listed) and "operators: {}" in other.text
    used = operators_of(delegated)
    assert not used.operators and used.delegates == ("XnnpackBackend",)
    assert used.notes == (
        "everything is delegated: the app needs no library of kernels, only the core and the delegate",
    )
    assert together == BuildFile("select_ops_list.txt", together.text, together.use)


def test_optimized_kernels_are_those_of_executorchs_library() -> None:
    from elftools.elf.elffile import ELFFile

    spec = importlib.util.find_spec("executorch")
    assert spec is not None and spec.submodule_search_locations
    library = Path(spec.submodule_search_locations[0], "lib", "libexecutorch_kernels_optimized.so")
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynstr").data().split(b"\0")
    found = {
        name[1].decode()
        for name in map(re.compile(rb"_ZN5torch8executor6native\d+(opt_\w+?_out)E").match, symbols)
        if name
    }
    assert found == set(OPTIMIZED.values())


def test_a_file_with_external_data_is_refused(digits_parts: DigitsParts, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(digits_parts.model("onnx", "fp32"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=64)
    with pytest.raises(ModelError, match=r"found that data of it lies beside it: m\.bin"):
        operators_of(tmp_path / "m.onnx")


def test_what_onnx_runtime_cannot_load_is_told_and_has_no_list(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mine", ["x"], ["y"], domain="my.own")], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.own", 3)]
    path = tmp_path / "mine.onnx"
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    used = operators_of(path)
    assert [(each.domain, each.name, each.version) for each in used.operators] == [("my.own", "Mine", 3)]
    assert any("it cannot load the file" in note for note in used.notes)
    with pytest.raises(ModelError, match=r"wanted a file that ONNX Runtime .* can convert to \.ort, found: .*my\.own"):
        build_files([path])


def test_operators_that_litert_has_not_are_told(digits_parts: DigitsParts, tmp_path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(digits_parts.model("tflite", "fp32").read_bytes(), 0)
    for code, custom in zip(model.operatorCodes, (b"FlexErf", b"Mine"), strict=False):
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = custom
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "odd.tflite"
    path.write_bytes(builder.Output())
    used = operators_of(path)
    assert {(each.domain, each.name) for each in used.operators} >= {("flex", "FlexErf"), ("custom", "Mine")}
    assert used.delegates == ("Flex",)
    assert any("FlexErf" in note and "select-tf-ops" in note for note in used.notes)
    assert any("Mine" in note and "the app must bring one" in note for note in used.notes)
    (selected,) = build_files([path])
    assert "Mine" not in selected.text and "Flex" not in selected.text
