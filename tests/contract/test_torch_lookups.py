"""What torch looks up anew is looked up once, and graphs and decompositions are those that torch gives."""

from __future__ import annotations

import dataclasses
import typing
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch._export import utils  # noqa: E402, PLC2701 - no public name
from torch._export.serde import schema, serialize  # noqa: E402, PLC2701 - no public name
from torch.export import decomp_utils, exported_program  # noqa: E402
from torch.fx.traceback import NodeSource  # noqa: E402

from pocketforge.rewrites import graph_files, torch_lookups  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the toolchains deprecate parts of each other


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))).mean((2, 3)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),)), tmp_path / "model.pt2")
    return tmp_path / "model.pt2"


def test_the_graph_is_the_one_that_torch_reads(file, monkeypatch):
    ours = graph_files.load(file)
    monkeypatch.setattr(serialize, "typing", typing)
    theirs = torch.export.load(file)
    assert ours.graph_module.code == theirs.graph_module.code and str(ours.graph) == str(theirs.graph)
    assert ours.graph_signature == theirs.graph_signature and ours.range_constraints == theirs.range_constraints
    assert [str(n.meta) for n in ours.graph.nodes] == [str(n.meta) for n in theirs.graph.nodes]
    assert ours.state_dict.keys() == theirs.state_dict.keys()
    assert all(torch.equal(value, theirs.state_dict[name]) for name, value in ours.state_dict.items())


def test_the_file_is_the_one_that_torch_writes(tmp_path, monkeypatch):
    program = torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),))
    made: list[object] = []
    canonicalize = serialize.canonicalize.__wrapped__

    def theirs(*given: Any) -> Any:
        made.append(canonicalize(*given))
        return made[-1]

    written = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        torch.export.save(program, tmp_path / name / "model.pt2")
        with zipfile.ZipFile(tmp_path / name / "model.pt2") as archive:
            written.append({entry: archive.read(entry) for entry in archive.namelist()})
        monkeypatch.setattr(serialize, "canonicalize", theirs)
    assert made and written[0] == written[1]


def test_annotations_are_torchs_and_worked_out_once_a_class(file, monkeypatch):
    asked: list[type] = []
    real = typing.get_type_hints

    def counted(schema_class, globalns):
        asked.append(schema_class)
        return real(schema_class, globalns=globalns)

    torch_lookups.hints_of.cache_clear()
    monkeypatch.setattr(typing, "get_type_hints", counted)
    graph_files.load(file)
    graph_files.load(file)
    assert len(asked) == len(set(asked)) > 20
    for kind in vars(schema).values():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            assert serialize.typing.get_type_hints(kind, globalns=vars(schema)) == real(kind, globalns=vars(schema))


def test_annotations_of_anything_else_are_refused():
    with pytest.raises(TypeError, match="elsewhere than in its schema"):
        serialize.typing.get_type_hints(Net, globalns={})


def test_operators_made_of_others_are_torchs_own(monkeypatch):
    """Also where one was registered since: a library's, of which the remembered list has nothing."""
    ours = utils._collect_all_valid_cia_ops()
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", utils._materialize_cpp_cia_ops.__wrapped__)
    assert ours == utils._collect_all_valid_cia_ops() and len(ours) > 100
    monkeypatch.undo()
    with torch.library._scoped_library("pocketforge_test", "DEF") as library:
        library.define("made_of_others(Tensor x) -> Tensor")
        library.impl("made_of_others", lambda x: x + 1, torch_lookups.MADE_OF_OTHERS)
        found = utils._collect_all_valid_cia_ops() - ours
        assert {str(op) for op in found} == {"pocketforge_test.made_of_others.default"}


def test_all_that_decompose_ask_once_for_all_namespaces(monkeypatch):
    asked: list[int] = []
    ours = utils._materialize_cpp_cia_ops

    def counted() -> None:
        asked.append(1)
        ours()

    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", counted)
    for module in (decomp_utils, exported_program, utils):
        asked.clear()
        found = module._collect_all_valid_cia_ops()
        assert len(asked) == 1 and found == utils._collect_all_valid_cia_ops.__wrapped__()
        assert len(asked) > 20  # torch's own, for each
    program = torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),))
    asked.clear()
    program.run_decompositions()
    assert 0 < len(asked) < 5
    with pytest.raises(ZeroDivisionError):
        torch_lookups.materialized_once(lambda: {1 / 0})()  # type: ignore[arg-type]
    asked.clear()
    utils._materialize_cpp_cia_ops()
    assert asked == [1]


def test_what_is_registered_is_materialized_once():
    made: list[int] = []
    registered = ["aten::one"]
    once = torch_lookups.once_for_all_registered(lambda: made.append(len(registered)), lambda: list(registered))
    once()
    once()
    registered.append("aten::two")
    once()
    once()
    assert made == [1, 2]


def test_notes_of_where_nodes_come_from_are_torchs(monkeypatch):
    """The whole ancestry of each node, after decompositions; nobody has changed a note that another node shares."""

    def ancestry() -> list[Any]:
        program = torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),))
        notes = []
        for _ in range(3):
            program = program.run_decompositions()
            notes.append([note for node in program.graph.nodes for note in node.meta.get("from_node", [])])
        return [[readable(note.to_dict()) for note in each] for each in notes]

    def readable(note: dict[str, Any]) -> dict[str, Any]:
        # A graph's number is its address.
        return {name: [readable(n) for n in value] if name == "from_node" else value
                for name, value in note.items() if name != "graph_id"}  # fmt: skip

    ours = ancestry()
    monkeypatch.delattr(NodeSource, "__deepcopy__")
    assert ours == ancestry() and all(ours)


def test_the_table_of_onnx_functions_is_the_exporters_own():
    import onnxscript
    from torch.onnx._internal._lazy_import import onnxscript_apis  # noqa: PLC2701 - no public name
    from torch.onnx._internal.exporter import _registration as registry  # noqa: PLC2701 - no public name
    from torch.onnx._internal.exporter import _schemas as schemas  # noqa: PLC2701 - no public name

    import pocketforge.runtimes.onnx_functions  # noqa: F401  changes the registry and what reads signatures

    ours, again = (registry.ONNXRegistry.from_torchlib().functions for _ in range(2))
    assert registry.onnxscript_apis.get_torchlib_ops() == onnxscript_apis.get_torchlib_ops()
    assert list(ours) == list(again) and len(ours) > 300
    parsed = registry.onnxscript_apis.get_torchlib_ops()
    traced = [f.function for f in parsed if isinstance(f.function, onnxscript.TracedOnnxFunction)]
    assert {f.function_ir.domain for f in traced[:20]} == {f.opset.domain for f in traced[:20]}
    name = next(iter(ours))
    ours[name].clear()
    assert again[name] and registry.ONNXRegistry.from_torchlib().functions[name]
    # And what each function takes, which is not read anew.
    first, second = (
        [meta for some in registry.ONNXRegistry.from_torchlib().functions.values() for meta in some] for _ in range(2)
    )
    assert all(one.signature is other.signature for one, other in zip(first, second, strict=True))
    read, wanted = schemas.op_signature_from_function, schemas.op_signature_from_function.__wrapped__
    theirs = {id(f.function) for f in parsed if not isinstance(f.function, onnxscript.OnnxFunction)}
    functions = [meta for meta in first if id(meta.onnx_function) in theirs]
    assert len(functions) > 100
    for meta in functions:
        assert meta.signature == wanted(meta.onnx_function, "__traced", meta.onnx_function.__name__)
    assert read(functions[0].onnx_function, "another", "name").domain == "another"
