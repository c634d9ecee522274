"""Operators of .onnx and .ort files by domain and opset, and the configuration of ONNX Runtime's reduced build.

That configuration is written by ONNX Runtime's own tools, from .ort alone: a minimal build loads no .onnx, and an
.onnx file's operators are not those that run, since they are fused when it is loaded.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pocketforge.errors import ModelError, first_line
from pocketforge.runtimes import onnx_ort_objects as ort
from pocketforge.runtimes.describe import ModelFile, format_of
from pocketforge.runtimes.describe_onnx import onnx_dtype, ort_dtypes, ort_infos, ort_schema
from pocketforge.runtimes.onnx_mobile import mobile_usability
from pocketforge.runtimes.operators import BuildFile, Calls, UsedOperators

if TYPE_CHECKING:
    import onnx

_NAME = "required_operators_and_types.config"
_USE = (
    "build.py --minimal_build --enable_reduced_operator_type_support --include_ops_by_config "
    f"{_NAME} (--minimal_build extended where NNAPI or another execution provider is used)"
)
_OWN_DOMAIN = "ai.onnx"


def read(file: ModelFile) -> UsedOperators:
    calls = Calls()
    if file.format.name == "ort":
        _OrtReader(calls).read(file.data)
        return UsedOperators(calls.operators(), notes=("ready for a minimal build, which loads .ort and no .onnx",))
    _add_onnx(file.data, calls)
    note = "a minimal build loads .ort only: the operators that it needs are those of the file converted to .ort"
    return UsedOperators(calls.operators(), notes=(note, f"ONNX Runtime's mobile checker: {_checked(file.path)}"))


def _checked(path: Path) -> str:
    try:
        usable = mobile_usability(path)
    except Exception as error:  # it loads the file in a session; what fails there has no class of its own
        return f"it cannot load the file: {first_line(error)}"
    return "an accelerator (NNAPI, CoreML) may help" if usable["accelerators_may_help"] else "for the CPU"


def build_files(paths: Sequence[Path]) -> tuple[BuildFile, ...]:
    """Of .onnx files it is that of what ONNX Runtime's converter makes of them for ARM."""
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)  # it tells stderr of each file it writes
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as folder, contextlib.redirect_stdout(io.StringIO()):
        config = Path(folder, _NAME)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # they leave each file for the collector to close
            models = []
            for number, path in enumerate(paths):
                within = Path(folder, str(number))
                within.mkdir()
                copied = within / f"model.{format_of(path)}"
                shutil.copyfile(path, copied)
                if copied.suffix == ".onnx":
                    try:
                        convert_onnx_models_to_ort(copied, within, [OptimizationStyle.Fixed], target_platform="arm")
                    except Exception as error:  # of a session, without a class of its own
                        raise _not_converted(path, error) from error
                models.append(copied.with_suffix(".ort"))
            create_config_from_models(models, config, enable_type_reduction=True)
        lines = [line for line in config.read_text("utf-8").splitlines() if not line.startswith("#")]
    # Its own first lines name the folder that we were in.
    named = [f"# - {path.name}" for path in sorted(paths)]
    return (BuildFile(_NAME, "\n".join(["# Generated from model/s:", *named, *lines]) + "\n", _USE),)


def _not_converted(path: Path, error: Exception) -> ModelError:
    wanted = f"wanted a file that ONNX Runtime {version('onnxruntime')} can convert to .ort"
    return ModelError(
        f"{path}: {wanted}, found: {first_line(error)}",
        "A minimal build loads .ort alone; custom operators need a build of your own.",
    )


def _add_onnx(data: bytes, calls: Calls) -> None:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(data), data_prop=False)
    own = {(function.domain, function.name) for function in model.functions}
    opsets = {opset.domain or _OWN_DOMAIN: opset.version for opset in model.opset_import}
    _add_graph(model.graph, opsets, {}, own, calls)
    for function in model.functions:  # they are inlined when the file is loaded; their types hang on who calls them
        within = {opset.domain or _OWN_DOMAIN: opset.version for opset in function.opset_import}
        _add_nodes(function.node, within, {}, own, calls)


def _add_graph(
    graph: onnx.GraphProto, opsets: Mapping[str, int], outer: Mapping[str, str], own: set[tuple[str, str]], calls: Calls
) -> None:
    types = dict(outer)
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.WhichOneof("value") == "tensor_type":
            types[value.name] = onnx_dtype(value.type.tensor_type.elem_type)
    types |= {each.name: onnx_dtype(each.data_type) for each in graph.initializer}
    _add_nodes(graph.node, opsets, types, own, calls)


def _add_nodes(
    nodes: Iterable[onnx.NodeProto],
    opsets: Mapping[str, int],
    types: Mapping[str, str],
    own: set[tuple[str, str]],
    calls: Calls,
) -> None:
    for node in nodes:
        domain = node.domain or _OWN_DOMAIN
        if (node.domain, node.op_type) not in own and node.op_type != "Constant":
            since = _since(domain, node.op_type, opsets)
            inputs, outputs = ([types.get(name, "?") for name in side if name] for side in (node.input, node.output))
            calls.add(domain, node.op_type, since, inputs, outputs)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _add_graph(inner, opsets, types, own, calls)


def _since(domain: str, name: str, opsets: Mapping[str, int]) -> int:
    """The opset since which an operator is as the file means it: that is what kernels are registered for."""
    import onnx

    opset = opsets.get(domain, 1)
    try:
        schema = onnx.defs.get_schema(name, opset, "" if domain == _OWN_DOMAIN else domain)
    except onnx.defs.SchemaError:
        return opset  # of ONNX Runtime's own domains `onnx` has no schemas; these have one version
    return int(schema.since_version)


class _OrtReader:
    """Walks the graphs of an .ort file."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._fbs = ort_schema()
        self._dtypes = ort_dtypes(self._fbs)

    def read(self, data: bytes) -> None:
        session = self._fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
        self._add(session.Model().Graph(), {})

    def _add(self, graph: ort.Graph, outer: Mapping[str, str]) -> None:
        types = {**outer, **{info.name: info.dtype for info in ort_infos(graph, self._fbs, self._dtypes)}}
        for i in range(graph.NodesLength()):
            node = graph.Nodes(i)
            inputs = [node.Inputs(j).decode() for j in range(node.InputsLength())]
            outputs = [node.Outputs(j).decode() for j in range(node.OutputsLength())]
            self._calls.add(
                node.Domain().decode() or _OWN_DOMAIN,
                node.OpType().decode(),
                node.SinceVersion(),
                [types.get(name, "?") for name in inputs if name],
                [types.get(name, "?") for name in outputs if name],
            )
            for j in range(node.AttributesLength()):
                if node.Attributes(j).Type() == self._fbs.AttributeType.AttributeType.GRAPH:
                    self._add(node.Attributes(j).G(), types)
