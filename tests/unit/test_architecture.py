"""DESIGN's "What may import what", checked in the source: every import, also those inside functions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "pipeline"
PACKAGE = SOURCE / "pocketforge"

CORE = (
    "recipe.recipe", "recipe.compress", "recipe.quantize", "recipe.backends", "recipe.support", "recipe.device",
    "recipe.names", "recipe.limits", "records", "errors", "events", "stats", "plan.lanes", "plan.compress",
    "plan.quantize", "plan.devices", "results.gate", "devices.emulator.counts", "devices.profiles", "devices.match",
)  # fmt: skip
# The core's own neighbours: what a plan depends on besides the recipe, and the two registries, which are plain data.
CORE_NEIGHBOURS = {"pocketforge.runtimes", "pocketforge.stages"}
TORCH = {"torch", "torchvision", "timm", "transformers"}
TOOLCHAINS = {
    "executorch",
    "litert_torch",
    "ai_edge_litert",
    "tflite_runtime",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "torchao",
}


class Import(NamedTuple):
    file: str
    line: int
    # Modules as they may be meant: `from a.b import c` is a.b and, where that is a module, a.b.c.
    name: str
    within: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports_in(source: str, file: str, package: str) -> Iterator[Import]:
    tree = ast.parse(source)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, id(node) not in top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            members = [f"{base}.{alias.name}" for alias in node.names]
            modules = [m for m in members if m.startswith("pocketforge.") and is_module(m)]
            for name in modules if len(modules) == len(members) else [base, *modules]:
                yield Import(file, node.lineno, name, id(node) not in top)
        elif (
            # importlib.import_module("x") with the name written out; registries' names are data and are checked below.
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(file, node.lineno, str(node.args[0].value), True)


def all_imports() -> list[Import]:
    found: list[Import] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = module_of(path)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found += imports_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)), package)
    return found


IMPORTS = all_imports()


def inside(*places: str) -> Callable[[Import], bool]:
    """Whether an import is in one of these files or folders of the package."""
    names = tuple(f"pipeline/pocketforge/{place}" for place in places)
    return lambda i: any(i.file == n or (n.endswith("/") and i.file.startswith(n)) for n in names)


def of(*libraries: str) -> Callable[[Import], bool]:
    return lambda i: any(i.name == name or i.name.startswith(f"{name}.") for name in libraries)


def told(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def only_in(library: Callable[[Import], bool], place: Callable[[Import], bool]) -> list[Import]:
    return [i for i in IMPORTS if library(i) and not place(i)]


def test_the_reader_of_imports_finds_them_all() -> None:
    source = (
        "import torch.nn as nn, os\n"
        "from pocketforge import stages\n"
        "from pocketforge.stages import export, STAGES\n"
        "from . import sibling\n"
        "from ..devices.host import run\n"
        "def f():\n"
        "    from onnx import helper\n"
        "    if 1:\n"
        "        import rich\n"
        "    importlib.import_module('timm')\n"
    )
    found = [(i.line, i.name, i.within) for i in imports_in(source, "x.py", "pocketforge.stages")]
    assert sorted(found) == [
        (1, "os", False),
        (1, "torch.nn", False),
        (2, "pocketforge.stages", False),
        (3, "pocketforge.stages", False),
        (3, "pocketforge.stages.export", False),
        (4, "pocketforge.stages", False),
        (5, "pocketforge.devices.host", False),
        (7, "onnx", True),
        (9, "rich", True),
        (10, "timm", True),
    ]


def test_there_are_files_to_check() -> None:
    files = {i.file for i in IMPORTS}
    assert {f"pipeline/pocketforge/{name.replace('.', '/')}.py" for name in CORE} <= files
    assert len(files) > 50


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_the_standard_library_and_itself_only(name: str) -> None:
    allowed = {f"pocketforge.{n}" for n in CORE} | (CORE_NEIGHBOURS if name == "plan.lanes" else set())
    wrong = [
        i
        for i in IMPORTS
        if i.file == f"pipeline/pocketforge/{name.replace('.', '/')}.py"
        and i.name not in allowed
        and i.name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, told(wrong)


@pytest.mark.parametrize("name", ["runtimes/__init__.py", "stages/__init__.py"])
def test_the_registries_are_plain_data(name: str) -> None:
    wrong = [i for i in IMPORTS if inside(name)(i) and i.name.partition(".")[0] not in sys.stdlib_module_names]
    assert not wrong, told(wrong)


def test_every_module_that_a_registry_names_is_there() -> None:
    from pocketforge.runtimes import RUNTIMES
    from pocketforge.stages import STAGES

    named = [*(s.module for s in STAGES.values()), *(r.module for r in RUNTIMES.values())]
    named += [f"pocketforge.runtimes.sessions.{r.session}" for r in RUNTIMES.values()]
    assert [n for n in named if not is_module(n)] == []


def test_cattrs_is_config_s_alone() -> None:
    wrong = only_in(of("cattrs", "attrs", "attr"), inside("recipe/toml.py"))
    assert not wrong, told(wrong)


def test_click_and_rich_are_for_the_command_line_and_reports() -> None:
    wrong = only_in(of("click", "rich"), inside("cli/", "report/"))
    wrong += only_in(of("click"), inside("cli/"))
    assert not wrong, told(wrong)


def test_torch_is_where_models_are() -> None:
    places = inside(
        "model/",
        "measure/",
        "commands/model.py",
        "data/",
        "training/",
        "pruning/",
        "why/",
        "studies/",
        "quantization/",
        "stages/",
        "runtimes/",
    )
    wrong = only_in(of(*TORCH), places)
    assert not wrong, told(wrong)


def test_toolchains_are_in_their_runtime_or_quantizer() -> None:
    def allowed(i: Import) -> bool:
        if inside("runtimes/", "quantization/")(i):
            return True
        # Micro-models are written straight in the format's schema.
        if inside("device_calibration/")(i) and of("ai_edge_litert")(i):
            return True
        # Registers torchao's operators, so that a quantized program can be read back.
        return inside("stages/export.py")(i) and i.name == "torchao.quantization.pt2e"

    wrong = only_in(of(*TOOLCHAINS), allowed)
    assert not wrong, told(wrong)


def test_machine_code_is_read_where_arm_cores_are_emulated_or_modelled() -> None:
    assert not only_in(of("elftools"), inside("devices/emulator/"))
    assert not only_in(of("capstone"), inside("devices/emulator/", "estimation/"))


def test_a_runtime_file_imports_its_own_toolchain_only() -> None:
    own = {
        "executorch": {"executorch", "torchao"},
        "tflite": {"litert_torch", "ai_edge_litert", "tflite_runtime", "torchao"},
        "onnx": {"onnx", "onnxruntime", "onnxscript"},
    }
    wrong = [
        i
        for i in IMPORTS
        if i.file.startswith("pipeline/pocketforge/runtimes/")
        for runtime, mine in own.items()
        if runtime in Path(i.file).stem
        and i.name.partition(".")[0] in TOOLCHAINS
        and i.name.partition(".")[0] not in mine
    ]
    assert not wrong, told(wrong)


def test_no_stage_imports_a_stage() -> None:
    stages = inside("stages/")
    wrong = [i for i in IMPORTS if stages(i) and i.name.startswith("pocketforge.stages.")]
    assert not wrong, told(wrong)


def test_no_runtime_imports_another() -> None:
    from pocketforge.runtimes import RUNTIMES

    def runtime_of(name: str) -> str | None:
        return next((r for r in RUNTIMES if r in name.rpartition("/")[2].rpartition(".")[2]), None)

    wrong = []
    for i in IMPORTS:
        if i.file.startswith("pipeline/pocketforge/runtimes/") and i.name.startswith("pocketforge.runtimes."):
            ours, theirs = runtime_of(i.file.removesuffix(".py")), runtime_of(i.name)
            if theirs is not None and theirs != ours:
                wrong.append(i)
    assert not wrong, told(wrong)


def test_devices_import_neither_stages_nor_runtimes() -> None:
    wrong = [i for i in IMPORTS if inside("devices/")(i) and of("pocketforge.stages", "pocketforge.runtimes")(i)]
    assert not wrong, told(wrong)


def test_stages_and_runtimes_never_see_the_walk_or_the_command_line() -> None:
    walk = of(
        "pocketforge.run.walk",
        "pocketforge.commands.build",
        "pocketforge.plan.lanes",
        "pocketforge.cli",
        "pocketforge.report",
    )
    wrong = [i for i in IMPORTS if inside("stages/", "runtimes/", "devices/", "data/")(i) and walk(i)]
    assert not wrong, told(wrong)


def test_nothing_imports_the_command_line() -> None:
    wrong = only_in(of("pocketforge.cli"), inside("cli/", "__main__.py"))
    assert not wrong, told(wrong)


def test_android_bench_is_the_devices_alone() -> None:
    wrong = only_in(of("android_bench"), inside("devices/"))
    assert not wrong, told(wrong)
    bench = ROOT / "android_bench"
    theirs = [
        i
        for path in sorted(bench.rglob("*.py"))
        for i in imports_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)), module_of(path))
        if of("pocketforge")(i)
    ]
    assert not theirs, told(theirs)


def test_models_are_loaded_by_path_never_imported() -> None:
    wrong = [i for i in IMPORTS if of("models", "tests")(i)]
    assert not wrong, told(wrong)


def test_no_module_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(p) for p in PACKAGE.rglob("*.py") if p.stem in vague or p.parent.name in vague] == []
