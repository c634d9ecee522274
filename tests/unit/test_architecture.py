"""DESIGN's "What may import what", checked in the source: every import, also those inside functions."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "pipeline"
PACKAGE = SOURCE / "pocketforge"
BENCH = ROOT / "android_bench"

# Rooms from low to high: each may import what stands in the rows above it, and itself; nothing else, no exceptions.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "errors events stats metrics version folders streams",
        "plugin_code row_types",
        "plugins",
        "registries",
        "files recipe crash",
        "specs outcomes",
        "records plan model devices figures rewrites",
        "data run estimation release",
        "facts results accuracy package",
        "training",
        "pruning quantization",
        "runtimes",
        "measure why device_calibration",
        "history",
        "report",
        "search",
        "stages commands studies",
        "api",
        "cli",
    )
)
ROW = {room: number for number, row in enumerate(LAYERS) for room in row}
# Files that may lie at the package's root; all else has a room.
ROOT_FILES = {
    "__init__", "__main__", "version", "errors", "events", "stats", "metrics", "registries", "files",
    "folders", "figures", "streams", "crash", "plugin_code", "plugins", "row_types",
}  # fmt: skip
# What a plan is made of costs nothing to import: no package but the standard library.
STANDARD_LIBRARY_ONLY = (
    "recipe/",
    "specs/",
    "plan/",
    "records/",
    "registries.py",
    "plugin_code.py",
    "plugins.py",
    "row_types.py",
    "errors.py",
    "events.py",
    "folders.py",
)
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
    top = SOURCE if name.partition(".")[0] == "pocketforge" else ROOT
    path = top.joinpath(*name.split("."))
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
            modules = [m for m in members if m.startswith(("pocketforge.", "android_bench.")) and is_module(m)]
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


def sources(*folders: Path) -> Iterator[tuple[Path, str, str]]:
    """Each module's file, its name, and the package that its relative imports start from."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            module = module_of(path)
            yield path, module, module if path.name == "__init__.py" else module.rpartition(".")[0]


@functools.cache
def imports_of(folder: Path) -> list[Import]:
    """Once a run, and not when tests are collected, which each worker does."""
    found: list[Import] = []
    for path, _, package in sources(folder):
        found += imports_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)), package)
    return found


def arrows(imports: list[Import]) -> dict[str, set[str]]:
    """Module → the modules that it imports, anywhere in its text: inside functions and under TYPE_CHECKING too."""
    graph: dict[str, set[str]] = {}
    for i in imports:
        module = module_of(ROOT / i.file)
        name = i.name
        while name and not is_module(name):
            name = name.rpartition(".")[0]
        if name and name != module:
            graph.setdefault(module, set()).add(name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others (Tarjan's components of two or more)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_path: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        open_path.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
            if other in open_path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            at = open_path.index(module)
            group = open_path[at:]
            del open_path[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return groups


def room_of(module: str) -> str:
    """`pocketforge.plan.steps` → plan; empty for the package itself and for another's."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "pocketforge" else ""


def inside(*places: str) -> Callable[[Import], bool]:
    """Whether an import is in one of these files or folders of the package."""
    names = tuple(f"pipeline/pocketforge/{place}" for place in places)
    return lambda i: any(i.file == n or (n.endswith("/") and i.file.startswith(n)) for n in names)


def of(*libraries: str) -> Callable[[Import], bool]:
    return lambda i: any(i.name == name or i.name.startswith(f"{name}.") for name in libraries)


def told(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def only_in(library: Callable[[Import], bool], place: Callable[[Import], bool]) -> list[Import]:
    return [i for i in imports_of(PACKAGE) if library(i) and not place(i)]


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


def test_circles_are_seen_through_other_modules() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f"}}
    assert circles(graph) == [["a", "b", "c"], ["f", "g"]]
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_there_are_files_to_check() -> None:
    files = {i.file for i in imports_of(PACKAGE)}
    assert len(files) > 200 and len({i.file for i in imports_of(BENCH)}) > 20
    assert set(ROW) == {path.stem if path.is_file() else path.name for path in rooms()}


def rooms() -> list[Path]:
    """The package's folders, and its modules but the two that only start it."""
    inside = [path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "_shipped")]
    return [p for p in inside if p.is_dir() or (p.suffix == ".py" and p.stem not in ("__init__", "__main__"))]


def test_no_file_is_loose_at_the_root() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_FILES
    assert [
        str(path) for path in (ROOT / "pipeline").iterdir() if path.name not in ("pocketforge", "__pycache__")
    ] == []


def test_each_room_imports_what_stands_below_it_only() -> None:
    wrong = []
    for i in imports_of(PACKAGE):
        ours, theirs = room_of(module_of(ROOT / i.file)), room_of(i.name)
        if not ours or ours == "__main__" or not theirs or ours == theirs:
            continue
        if ROW[theirs] >= ROW[ours]:
            wrong.append(i)
    assert not wrong, told(wrong)


def test_contributing_tells_of_every_room_in_the_order_of_layers() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room | what it is for")[2].partition("\n\n")[0]
    rooms_told = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)/?`", line.split("|")[1])]
    assert sorted(rooms_told) == sorted(ROW)
    rows = [ROW[name] for name in rooms_told]
    assert rows == sorted(rows)


def test_the_screen_that_shows_foreign_text_as_it_is_has_no_rival() -> None:
    wrong = only_in(of("rich.console", "rich.markup", "rich.get_console", "rich.print"), inside("report/tables.py"))
    assert not wrong, told(wrong)


def test_what_is_echoed_goes_through_one_place_that_makes_a_line_of_it() -> None:
    wrong = [path.name for path in (PACKAGE / "cli").glob("*.py") if "click.echo(" in path.read_text(encoding="utf-8")]
    assert wrong == ["options.py"]


def test_nothing_imports_the_package_s_own_face() -> None:
    assert not (wrong := [i for i in imports_of(PACKAGE) if i.name == "pocketforge"]), told(wrong)


@pytest.mark.parametrize("folder", [PACKAGE, BENCH], ids=["pocketforge", "android_bench"])
def test_no_modules_import_each_other(folder: Path) -> None:
    assert circles(arrows(imports_of(folder))) == []


def test_what_a_plan_is_made_of_imports_the_standard_library_and_its_own_layers_only() -> None:
    own = of("pocketforge")
    wrong = [
        i
        for i in imports_of(PACKAGE)
        if inside(*STANDARD_LIBRARY_ONLY)(i)
        and not own(i)
        and i.name.partition(".")[0] not in sys.stdlib_module_names
        # Reading TOML is cattrs' (below); which cache folder a system has is platformdirs'.
        and (i.file.rpartition("/")[2], i.name.partition(".")[0])
        not in (("toml.py", "cattrs"), ("folders.py", "platformdirs"))
    ]
    assert not wrong, told(wrong)


def test_the_bench_of_phones_imports_the_standard_library_and_itself_only() -> None:
    wrong = [
        i
        for i in imports_of(BENCH)
        if not of("android_bench")(i) and i.name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, told(wrong)


def test_every_module_that_a_registry_names_is_there() -> None:
    from pocketforge.registries import DEVICES, METHODS, RUNTIMES, SOURCES, STAGES

    named = [*(s.module for s in STAGES.values()), *(r.module for r in RUNTIMES.values())]
    named += [
        place.partition(":")[0]
        for info in DEVICES.values()
        for part, place in dataclasses.asdict(info).items()
        if isinstance(place, str) and place and part != "about"
    ]
    for runtime in RUNTIMES.values():
        sessions = [runtime.session]
        if runtime.why is not None:
            sessions += [runtime.why.plain.session] if runtime.why.plain else []
            named += [runtime.why.tap or runtime.why.lowered]
        named += [f"pocketforge.runtimes.sessions.{session}" for session in sessions]
        named += [m for each in runtime.formats for m in (each.parser, each.traffic, each.operators) if m]
    named += [source.module for source in SOURCES.values()]
    named += METHODS.values()
    assert [n for n in named if not is_module(n)] == []


def test_cattrs_stands_at_the_border_of_files() -> None:
    wrong = only_in(of("cattrs", "attrs", "attr"), inside("recipe/toml.py", "outcomes/structure.py"))
    assert not wrong, told(wrong)


def test_click_and_rich_are_for_the_command_line_and_reports() -> None:
    wrong = only_in(of("click", "rich"), inside("cli/", "report/"))
    wrong += only_in(of("click"), inside("cli/"))
    assert not wrong, told(wrong)


def test_the_cluster_alone_knows_dask_and_its_placement_does_not() -> None:
    assert not only_in(of("distributed", "dask"), inside("run/cluster/"))
    deciding = inside(*(f"run/cluster/{name}.py" for name in ("offers", "placement", "engine", "node", "mirror")))
    wrong = [i for i in imports_of(PACKAGE) if deciding(i) and of("distributed", "dask")(i)]
    assert not wrong, told(wrong)


def test_databases_are_the_historys() -> None:
    assert not only_in(of("sqlalchemy", "alembic", "psycopg", "ruptures"), inside("history/"))


def test_remote_file_systems_have_one_door() -> None:
    assert not only_in(of("fsspec", "sshfs", "asyncssh", "s3fs", "botocore"), inside("run/remote_files.py"))


def test_torch_is_where_models_are() -> None:
    places = inside(
        "model/",
        "measure/",
        "commands/model.py",
        "data/",
        "training/",
        "accuracy/",
        "pruning/",
        "why/",
        "studies/",
        "quantization/",
        "rewrites/",
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
        for i in imports_of(PACKAGE)
        if i.file.startswith("pipeline/pocketforge/runtimes/")
        for runtime, mine in own.items()
        if runtime in Path(i.file).stem
        and i.name.partition(".")[0] in TOOLCHAINS
        and i.name.partition(".")[0] not in mine
    ]
    assert not wrong, told(wrong)


def test_no_stage_imports_a_stage() -> None:
    stages = inside("stages/")
    wrong = [i for i in imports_of(PACKAGE) if stages(i) and i.name.startswith("pocketforge.stages.")]
    assert not wrong, told(wrong)


def test_no_runtime_imports_another() -> None:
    from pocketforge.registries import RUNTIMES

    def runtime_of(name: str) -> str | None:
        return next((r for r in RUNTIMES if r in name.rpartition("/")[2].rpartition(".")[2]), None)

    wrong = []
    for i in imports_of(PACKAGE):
        if i.file.startswith("pipeline/pocketforge/runtimes/") and i.name.startswith("pocketforge.runtimes."):
            ours, theirs = runtime_of(i.file.removesuffix(".py")), runtime_of(i.name)
            if theirs is not None and theirs != ours:
                wrong.append(i)
    assert not wrong, told(wrong)


def test_stages_runtimes_and_devices_never_see_the_plan_or_the_walk() -> None:
    walk = of("pocketforge.run.walk", "pocketforge.run.part", "pocketforge.plan")
    wrong = [i for i in imports_of(PACKAGE) if inside("stages/", "runtimes/", "devices/", "data/")(i) and walk(i)]
    assert not wrong, told(wrong)


def test_android_bench_is_the_devices_alone() -> None:
    wrong = only_in(of("android_bench"), inside("devices/"))
    assert not wrong, told(wrong)


def test_models_are_loaded_by_path_never_imported() -> None:
    wrong = [i for i in imports_of(PACKAGE) if of("models", "tests")(i)]
    assert not wrong, told(wrong)


def test_no_module_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(p) for p in PACKAGE.rglob("*.py") if p.stem in vague or p.parent.name in vague] == []
