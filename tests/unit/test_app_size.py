"""What an app carries with a model file: sizes, the libraries that are counted, budgets, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketforge.cli.main import main
from pocketforge.commands.size import app_for, files_of, write_build_files
from pocketforge.errors import EXIT_USAGE, ModelError, RecipeError, ToolMissing
from pocketforge.measure.app_size import carried_for
from pocketforge.recipe import METRICS
from pocketforge.recipe.app import App, AppLibrary, Compression
from pocketforge.recipe.runtime_libraries import (
    ABIS,
    RuntimeLibrary,
    default_library,
    library_named,
    not_read,
    runtime_libraries,
)
from pocketforge.recipe.toml import parse_recipe
from pocketforge.records import Artifact, HowCarried, Measurement, Report, TargetRecord
from pocketforge.registries import RUNTIMES
from pocketforge.report.formats import written
from pocketforge.results import app_size, packing
from pocketforge.results.app_size import (
    Part,
    app_values,
    asked_of_app,
    check_app,
    counted_library,
    installed_bytes,
)
from pocketforge.results.gate import judge
from pocketforge.runtimes import operators
from pocketforge.runtimes.describe import open_file
from pocketforge.runtimes.operators import BuildFile, Calls, operators_of

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
name = "small"
[model]
definition = "m.py"
[data]
source = "digits"
[[target]]
name = "a"
runtime = "{runtime}"
[[budget]]
metric = "{metric}"
limit = {limit}
[app]
{app}
"""
DOWNLOAD, INSTALLED = "app_download_bytes", "app_installed_bytes"


def recipe_text(app: str = "", runtime: str = "onnx", metric: str = DOWNLOAD, limit: float = 20e6) -> str:
    return RECIPE.format(app=app, runtime=runtime, metric=metric, limit=limit)


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text)
    assert refused.value.exit_code == EXIT_USAGE
    return tuple(refused.value.faults)


def elf(machine: int, size: int = 5000) -> bytes:
    """The head of a 64-bit little-endian ELF file, and what packs badly."""
    head = b"\x7fELF\x02\x01" + bytes(12) + machine.to_bytes(2, "little")
    rest = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(size // 32 + 1))
    return (head + rest)[:size]


# Sizes


def test_an_apk_is_as_large_as_zipalign_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Debian's zipalign -p 4 made of ZIPs with these entries, stored. Its pages are of 4 KiB, Android's of 16.
    monkeypatch.setattr(app_size, "_PAGE_BYTES", 4096)
    library = Part("lib/arm64-v8a/libLiteRt.so", 5_991_672)
    three = [Part("assets/model.tflite", 172_161), library, Part("lib/arm64-v8a/libx.so", 1001)]
    assert installed_bytes(three, "arm64-v8a") == 6_169_803
    two = [Part("assets/m.onnx", 3), Part("lib/arm64-v8a/liba.so", 16_384)]
    assert installed_bytes(two, "arm64-v8a") == 20_628
    assert installed_bytes([Part("assets/m.onnx", 5)], "arm64-v8a") == 130
    assert installed_bytes(two, "linux-aarch64") == 16_387


def test_a_size_says_its_compression_and_a_missing_package_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    data = elf(183)
    assert packing.packed_bytes(data, "gzip") <= len(data) + 100
    packages: dict[Compression, str] = {"zstd": "zstandard", "brotli": "brotli"}
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ToolMissing, match=f"{name} sizes need the package {module}") as missing:
            packing.packed_bytes(data, name)
        assert "brotli>=1.1" in missing.value.hint
        assert packing.packed_if_installed(data, name) is None


@pytest.mark.parametrize(("name", "module"), [("zstd", "zstandard"), ("brotli", "brotli")])
def test_what_is_packed_can_be_unpacked(name: Any, module: str) -> None:
    library = pytest.importorskip(module)
    data = b"weights " * 1000
    packed = library.compress(data) if name == "brotli" else library.ZstdCompressor(level=19).compress(data)
    unpacked = library.decompress(packed) if name == "brotli" else library.ZstdDecompressor().decompress(packed)
    assert unpacked == data and 10 < packing.packed_bytes(data, name) < 100


# The table of libraries


def test_every_library_was_read_from_a_file() -> None:
    rows = runtime_libraries()
    assert len({row.name for row in rows}) == len(rows) >= 9
    assert {row.abi for row in rows} <= set(ABIS) and {row.runtime for row in rows} == set(RUNTIMES.ours)
    for row in rows:
        assert row.files and row.source and row.version in row.name
        for file in row.files:
            assert len(file.sha256) == 64
            packed = (file.gzip_bytes, file.zstd_bytes, file.brotli_bytes)
            # gzip is the app's default: what it keeps, the others keep.
            assert 0 < max(packed) == file.gzip_bytes < file.size_bytes, file.name
    of = [(row.runtime, row.abi) for row in rows if row.default]
    assert len(set(of)) == len(of), "two libraries would be counted by default"


def test_what_was_not_read_is_no_row_and_has_no_size() -> None:
    assert {each.runtime for each in not_read()} == set(RUNTIMES.ours)
    assert default_library("tflite", "arm64-v8a") is None and default_library("executorch", "arm64-v8a") is None
    assert {field.name for field in dataclasses.fields(not_read()[0])} == {"runtime", "library", "source"}


def test_the_page_shows_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "size.md").read_text("utf-8")
    for row in runtime_libraries():
        for file in row.files:
            stripped = {True: "yes", False: "no", None: "-"}[file.stripped]
            sizes = (file.size_bytes, file.gzip_bytes, file.zstd_bytes, file.brotli_bytes)
            cells = [f"`{row.name}`", row.abi, f"`{file.name}`", *(f"{size:,}" for size in sizes), stripped]
            assert f"| {' | '.join(cells)} |" in page, f"| {' | '.join(cells)} |"
        assert f"| `{row.name}` | {'yes' if row.default else 'no'} | {row.source} |" in page
    for each in not_read():
        assert f"| {each.runtime} | {each.library} | {each.source} | not read here |" in page


# Budgets


def test_a_budget_without_a_known_library_is_refused_and_says_what_to_give() -> None:
    (fault,) = faults(recipe_text(runtime="tflite"))
    assert fault.startswith(
        "budget[0]: app_download_bytes counts the runtime's library too, and the size of tflite's library for "
        "arm64-v8a is not known; not read here: Maven com.google.ai.edge.litert:litert"
    )
    assert fault.endswith("with runtime = 'tflite' and file, known or runtime_library_download_bytes")
    assert "known for linux-aarch64, wasm32" in fault
    (fault,) = faults(recipe_text(runtime="executorch", metric=INSTALLED))
    assert "another build's is: react-native-executorch" in fault and fault.endswith("or runtime_library_bytes")
    assert parse_recipe(recipe_text(metric="size_bytes", runtime="tflite")).app == App()


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ('abi = "arm64"', "app.abi: unknown value 'arm64'; did you mean 'arm64-v8a'?"),
        ('compression = "xz"', "app.compression: unknown value 'xz'"),
        ('[[app.library]]\nruntime = "onnx"', "app.library[0]: give one of file, known, or runtime_library_bytes"),
        (
            '[[app.library]]\nruntime = "onnx"\nfile = "a.so"\nruntime_library_bytes = 5',
            "app.library[0]: give one of file, known, or runtime_library_bytes and runtime_library_download_bytes, "
            "found 2 of them",
        ),
        ('[[app.library]]\nruntime = "onnx"\nknown = "litert"', "known: no library of onnx is 'litert'"),
        (
            '[[app.library]]\nruntime = "onnx"\nruntime_library_bytes = 0',
            "app.library[0]: runtime_library_bytes must be more than 0",
        ),
        (
            '[[app.library]]\nruntime = "onnx"\nknown = "onnxruntime-1.32.0-linux-aarch64"',
            "app: library: onnxruntime-1.32.0-linux-aarch64 is for linux-aarch64, found abi = 'arm64-v8a'",
        ),
        (
            '[[app.library]]\nruntime = "onnx"\nfile = "a.so"\n[[app.library]]\nruntime = "onnx"\nfile = "b.so"',
            "app: library: onnx is there twice",
        ),
        (
            '[[app.library]]\nruntime = "onnx"\nruntime_library_bytes = 5',
            "budget[0]: app_download_bytes needs runtime_library_download_bytes of onnx's library",
        ),
    ],
)
def test_an_app_that_says_too_little_or_too_much_is_refused(app: str, said: str) -> None:
    assert any(said in fault for fault in faults(recipe_text(app))), faults(recipe_text(app))


def _measured(recipe_toml: str, folder: Path, size: int = 1000) -> tuple[Any, Artifact, list[Measurement]]:
    recipe = parse_recipe(recipe_toml, folder=str(folder))
    path = folder / "model.onnx"
    path.write_bytes(elf(0, size))
    model = Artifact("k" * 64, "model", "a.onnx", "0" * 64, size, packing.packed_bytes(path.read_bytes(), "gzip"))
    found = [
        Measurement(metric, float(value), METRICS[metric].unit, "a", model.sha256, "host", how=how)
        for metric, value, how in app_values(recipe, "onnx", model, path, asked_of_app(recipe, "a"))
    ]
    return recipe, model, found


def test_the_library_that_was_counted_is_in_the_report_and_in_its_texts(tmp_path: Path) -> None:
    recipe, model, found = _measured(recipe_text(), tmp_path)
    row = default_library("onnx", "arm64-v8a")
    assert row is not None
    (measured,) = found
    packed = sum(file.gzip_bytes for file in row.files)
    assert measured.value == model.gzip_bytes + packed
    assert measured.how == HowCarried(
        abi="arm64-v8a",
        as_sent="gzip -9",
        model_part_bytes=model.gzip_bytes,
        library=f"ONNX Runtime {row.version} for arm64-v8a",
        library_part_bytes=packed,
        library_from=row.source,
        library_sha256={file.name: file.sha256 for file in row.files},
    )
    gates = judge(recipe, found)
    assert [gate.verdict for gate in gates] == ["PASS"]
    target = TargetRecord("a", "onnx", "fp32", "built", (model,))
    report = Report("small", "0" * 64, "PASS", (target,), (), tuple(found), gates)
    assert Report.from_json(json.loads(report.to_text())) == report
    for form in ("text", "markdown"):
        assert row.version in written(form, report) and f"{packed:,}" in written(form, report).replace("\\", "")


def test_one_byte_more_than_the_limit_fails(tmp_path: Path) -> None:
    value = int(_measured(recipe_text(metric=INSTALLED), tmp_path)[2][0].value)
    for limit, verdict in ((value, "PASS"), (value - 1, "FAIL")):
        recipe, _, found = _measured(recipe_text(metric=INSTALLED, limit=limit), tmp_path)
        assert [gate.verdict for gate in judge(recipe, found)] == [verdict]


def test_a_report_of_another_app_settles_nothing(tmp_path: Path) -> None:
    _, _, found = _measured(recipe_text(limit=1e12), tmp_path)
    (tmp_path / "libonnxruntime.so").write_bytes(elf(183))
    for app in (
        'abi = "armeabi-v7a"',
        'compression = "brotli"',
        '[[app.library]]\nruntime = "onnx"\nfile = "libonnxruntime.so"',
        '[[app.library]]\nruntime = "onnx"\nruntime_library_download_bytes = 5',
    ):
        (gate,) = judge(parse_recipe(recipe_text(app, limit=1e12)), found)
        assert gate.verdict == "MISSING" and gate.reason.startswith("measured for another app: ONNX Runtime")
    of_file = _measured(recipe_text('[[app.library]]\nruntime = "onnx"\nfile = "libonnxruntime.so"'), tmp_path)
    assert [gate.verdict for gate in judge(of_file[0], of_file[2])] == ["PASS"]
    assert [gate.verdict for gate in judge(parse_recipe(recipe_text()), of_file[2])] == ["MISSING"]
    (tmp_path / "libonnxruntime.so").write_bytes(elf(183, 6000))  # another one of its name
    assert [gate.verdict for gate in judge(of_file[0], of_file[2])] == ["MISSING"]
    given = '[[app.library]]\nruntime = "onnx"\nruntime_library_download_bytes = {}'
    of_sizes = _measured(recipe_text(given.format(700)), tmp_path)
    assert of_sizes[2][0].value == of_sizes[1].gzip_bytes + 700
    assert [gate.verdict for gate in judge(of_sizes[0], of_sizes[2])] == ["PASS"]
    assert [gate.verdict for gate in judge(parse_recipe(recipe_text(given.format(701))), of_sizes[2])] == ["MISSING"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (elf(62), "wanted a runtime's library for arm64-v8a, found an ELF library for x86_64"),
        (elf(40), "found an ELF library for armeabi-v7a"),
        (elf(8), "found an ELF library for another processor"),
        (b"\0asm\1\0\0\0", "found WebAssembly (wasm32)"),
        (b"PK\x03\x04 aar", "found a ZIP archive: unpack it (of an .aar, jni/ABI/libNAME.so)"),
        (b"<!DOCTYPE html>", "found bytes b'<!DO'"),
    ],
)
def test_a_file_that_is_no_library_for_the_abi_is_refused_before_a_build(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "lib.so").write_bytes(content)
    text = recipe_text('[[app.library]]\nruntime = "onnx"\nfile = "lib.so"')
    recipe = parse_recipe(text, folder=str(tmp_path))
    with pytest.raises(RecipeError) as refused:
        check_app(recipe)
    assert said in str(refused.value)
    with pytest.raises(RecipeError, match="wanted a runtime's library"):
        counted_library(recipe.app, "onnx", recipe.resolve)


def test_a_library_of_the_users_is_measured(tmp_path: Path) -> None:
    (tmp_path / "libort.so").write_bytes(elf(183))
    app = app_for("arm64-v8a", "gzip", [f"onnx={tmp_path / 'libort.so'}"])
    library = counted_library(app, "onnx", Path)
    assert library is not None and library.parts == (Part("lib/arm64-v8a/libort.so", 5000),)
    assert library.sha256 == {"libort.so": hashlib.sha256(elf(183)).hexdigest()}
    assert library.download_bytes == packing.packed_bytes(elf(183), "gzip")
    name = next(row.name for row in runtime_libraries() if row.abi == "arm64-v8a" and not row.default)
    assert app_for("arm64-v8a", "gzip", [f"executorch={name}"]).library_of("executorch") == library_named(name)


# The command


def test_a_compression_that_is_not_installed_is_no_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ToolMissing, match="zstandard"):
        carried_for([Path("a.onnx")], App(compression="zstd"))


@pytest.mark.parametrize("word", ["onnx", "onx=a.so", "=a.so"])
def test_a_library_of_no_runtime_is_refused(word: str) -> None:
    with pytest.raises(RecipeError, match="--library is RUNTIME=FILE or RUNTIME=NAME"):
        app_for("arm64-v8a", "gzip", [word])
    with pytest.raises(RecipeError, match="onnx is there twice"):
        app_for("arm64-v8a", "gzip", ["onnx=a.so", "onnx=b.so"])


def test_a_release_is_all_of_its_files_and_each_is_the_one_that_was_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"wanted a release \(a folder with SHA256SUMS\), found a folder without"):
        files_of(tmp_path)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("")
    with pytest.raises(RecipeError, match="names no files"):
        files_of(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"a")
    sums.write_text(f"{hashlib.sha256(b'a').hexdigest()}  a.onnx\n")
    assert files_of(tmp_path) == [tmp_path / "a.onnx"]
    (tmp_path / "a.onnx").write_bytes(b"b")
    with pytest.raises(RecipeError, match="is not the file that was built"):
        files_of(tmp_path)
    (tmp_path / "a.onnx").unlink()
    with pytest.raises(RecipeError, match=r"lacks a\.onnx"):
        files_of(tmp_path)


def test_a_report_without_its_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("small", "0" * 64, "FAIL", (), (), (), ())
    (tmp_path / "report.json").write_text(report.to_text())
    for path in (tmp_path, tmp_path / "report.json"):
        assert main(["size", str(path)]) == EXIT_USAGE
        assert "has a report, and neither release/ nor failed/ with its files" in capsys.readouterr().err
    assert main(["size", str(tmp_path / "gone.json")]) == EXIT_USAGE
    assert "no report at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.onnx", None, "No such file"),
        ("a.bin", b"what is it", "wanted a model file"),
        ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "truncated or damaged"),
    ],
)
def test_what_is_no_model_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["size", str(tmp_path / name)]) == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_a_file_whose_weights_lie_beside_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x0a\x12\x07")
    monkeypatch.setattr(operators, "contents_of", lambda _: SimpleNamespace(metadata={"external_data": "w.bin"}))
    with pytest.raises(
        ModelError, match=r"wanted a file that holds its weights, found .* beside it: w\.bin"
    ) as refused:
        operators_of(path)
    assert refused.value.hint


def test_a_format_without_a_reader_of_operators_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x0a\x12\x07")
    monkeypatch.setattr(operators, "contents_of", lambda _: SimpleNamespace(metadata={}))
    file = open_file(path)
    bare = dataclasses.replace(file, format=dataclasses.replace(file.format, operators=""))
    monkeypatch.setattr(operators, "open_file", lambda _: bare)
    with pytest.raises(ModelError, match="runtime onnx has no module for it"):
        operators_of(path)


def test_operators_are_in_one_order_with_each_combination_of_types() -> None:
    calls = Calls()
    calls.add("d", "B", 2, ["int8"], ["int8"])
    calls.add("d", "A", None, [], [])
    calls.add("d", "B", 2, ["float32"], ["float32"])
    calls.add("d", "B", 1, ["float32"], ["float32"])
    found = [(each.name, each.version, each.types, each.count) for each in calls.operators()]
    assert found == [
        ("A", None, ("nothing -> nothing",), 1),
        ("B", 1, ("float32 -> float32",), 1),
        ("B", 2, ("float32 -> float32", "int8 -> int8"), 2),
    ]


def test_two_lists_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    one = BuildFile("a.yaml", "x", "")
    with pytest.raises(RecipeError, match=r"would write a\.yaml twice"):
        write_build_files([one, one], tmp_path / "new")
    write_build_files([one], tmp_path / "new")
    assert (tmp_path / "new" / "a.yaml").read_text() == "x"


def test_a_row_counts_each_of_its_files() -> None:
    row = default_library("onnx", "arm64-v8a")
    assert isinstance(row, RuntimeLibrary) and len(row.files) == 2
    library = counted_library(App(), "onnx", Path)
    assert library is not None and library.size_bytes == sum(file.size_bytes for file in row.files)
    sizes = AppLibrary("tflite", runtime_library_bytes=9)
    assert counted_library(App(libraries=(sizes,)), "tflite", Path) == app_size.CountedLibrary(
        "sizes that the recipe gives", "the recipe", (Part("lib/arm64-v8a/libtflite.so", 9),), None
    )
