"""Every number of a recipe and of the command line has a range: nonsense is refused at the door, by name."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import typing
from pathlib import Path
from typing import Any

import click
import pytest
from test_config import GOOD, changed, faults_of, to_toml

from pocketforge import recipe as face
from pocketforge.cli.main import cli
from pocketforge.errors import RecipeError
from pocketforge.facts import processors
from pocketforge.recipe import app, compress, device, output, output_loss, quantize, target
from pocketforge.recipe.budget import METRICS
from pocketforge.recipe.budget import limits as budget_limits
from pocketforge.recipe.preprocess import STEPS
from pocketforge.recipe.ranges import Range
from pocketforge.recipe.toml import load_recipe, parse_recipe

TABLES: tuple[Any, ...] = (
    face.Recipe, face.Model, face.InputSpec, face.Data, face.Preprocess, face.SplitFolders, face.Budget, face.Target,
    face.Verify, app.AppLibrary, face.Output, face.Post, output.OwnLimits, output_loss.OutputLoss,
    target.OutputLimits, quantize.Quantize, quantize.Override, *compress.KINDS.values(), compress.Goal,
    compress.Distill, compress.Teacher, compress.LayerPair, *device.KINDS.values(), face.InputSteps, *STEPS.values(),
)  # fmt: skip
# Numbers whose rule is written out where the table is built.
RULED = {
    ("Recipe", "seed"), ("Budget", "limit"), ("Target", "opset"), ("InputSpec", "shape"), ("Preprocess", "resize"),
    ("Model", "eval_size"), ("Target", "sizes"), ("Target", "bucket"), ("Budget", "max_regression"),
}  # fmt: skip


def numbers(table: Any) -> set[str]:
    """Fields that hold numbers, also several of them."""
    found = set()
    for name, kind in typing.get_type_hints(table).items():
        if name in {f.name for f in dataclasses.fields(table)} and re.search(r"\b(int|float)\b", str(kind)):
            found.add(name)
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_number_of_a_recipe_is_without_a_range(table: Any) -> None:
    ranges: dict[str, Range] = getattr(table, "RANGES", {})
    ruled = {name for owner, name in RULED if owner == table.__name__}
    assert numbers(table) == set(ranges) | ruled
    for name, allowed in ranges.items():
        assert math.isfinite(allowed.low) and math.isfinite(allowed.high), name
        for value in (math.nan, math.inf, -math.inf, 1e30, 10**30):
            assert value not in allowed, name
    for field in dataclasses.fields(table):
        if field.name in ranges and isinstance(field.default, int | float):
            assert field.default in ranges[field.name], f"{field.name}: its own default"


# As docs/recipe.md calls them.
SECTIONS: dict[str, list[Any]] = {
    "[data]": [face.Data],
    "[data.preprocess]": [face.Preprocess],
    **{f"step {name}": [step] for name, step in STEPS.items() if hasattr(step, "RANGES")},
    "[[compress]] goal": [compress.Goal],
    "prune_unstructured": [compress.PruneUnstructured],
    "prune_channels": [compress.PruneChannels],
    "drop_layers": [compress.DropLayers],
    "finetune": [compress.Finetune],
    "distill": [compress.Distill],
    "quantize": [quantize.Quantize],
    "verify": [face.Verify],
    "[[output]] loss": [output_loss.OutputLoss],
    "[[output]] post": [face.Post],
    "[[app.library]]": [app.AppLibrary],
    "[[device]] host": [device.HostDevice],
    "[[device]] emulator": [device.EmulatedDevice],
    "[[device]] adb": [device.AdbDevice],
}


def reference() -> str:
    """The table of docs/recipe.md."""
    lines = ["| table | ranges |", "|---|---|"]
    for section, tables in SECTIONS.items():
        cells = " · ".join(f"`{key}` {allowed}" for table in tables for key, allowed in table.RANGES.items())
        lines.append(f"| `{section}` | {cells} |")
    # Those of outputs stand in docs/outputs.md.
    other = {metric: allowed for metric, allowed in budget_limits().items() if not METRICS[metric].roles}
    limits = " · ".join(f"`{metric}` {allowed}" for metric, allowed in other.items())
    return "\n".join([*lines, f"| `[[budget]] limit` | {limits} |"])


def test_the_reference_has_every_range() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert reference() in text, f"docs/recipe.md, Ranges, has to be:\n{reference()}"
    assert {table for tables in SECTIONS.values() for table in tables} == {
        table for table in TABLES if hasattr(table, "RANGES")
    } - {target.OutputLimits, output.OwnLimits}, "both are verify's"


NONSENSE = [
    ("budget[0]", {"metric": "accuracy_drop", "limit": 1},
     "budget[0]: limit of accuracy_drop must be 0 or more and less than 1, found 1.0"),
    ("budget[0]", {"metric": "accuracy_drop", "limit": 2},
     "budget[0]: limit of accuracy_drop must be 0 or more and less than 1, found 2.0; did you mean 0.02?"),
    ("budget[0]", {"metric": "accuracy_drop", "limit": -0.5},
     "budget[0]: limit of accuracy_drop must be 0 or more and less than 1, found -0.5"),
    ("budget[0]", {"metric": "accuracy_top1", "limit": 98},
     "budget[0]: limit of accuracy_top1 must be more than 0 and at most 1, found 98.0; did you mean 0.98?"),
    ("budget[0]", {"metric": "metric", "limit": 98},
     "budget[0]: limit of metric (macro_f1) must be more than 0 and at most 1, found 98.0; did you mean 0.98?"),
    ("budget[0].limit", 0,
     "budget[0]: limit of size_bytes must be more than 0 and at most 1,125,899,906,842,624 bytes, found 0.0"),
    ("budget[1].limit", -0.0,
     "budget[1]: limit of latency_ms must be more than 0 and at most 1,000,000,000 milliseconds, found 0.0"),
    ("target[1].verify.min_argmax_agreement", -1,
     "target[1].verify: min_argmax_agreement must be 0 to 1, found -1.0"),
    ("target[1].verify.min_argmax_agreement", 95,
     "target[1].verify: min_argmax_agreement must be 0 to 1, found 95.0; did you mean 0.95?"),
    ("target[1].verify.max_accuracy_drop", 2,
     "target[1].verify: max_accuracy_drop must be 0 to 1, found 2.0; did you mean 0.02?"),
    ("target[1].verify.min_sqnr_db", 1e9, "target[1].verify: min_sqnr_db must be -200 to 300 dB, found 1000000000.0"),
    ("target[1].verify.outputs", [{"name": "y", "max_dead_channels": -1}],
     "target[1].verify.outputs[0]: max_dead_channels must be 0 to 10,000,000, found -1"),
    ("data.eval_fraction", 30,
     "data: eval_fraction must be more than 0 and less than 1, found 30.0; did you mean 0.3?"),
    ("data.eval_samples", 10**18, "data: eval_samples must be 1 to 10,000,000, found 1000000000000000000"),
    ("data.eval_samples", 10**30, "data.eval_samples: wanted an integer of at most 64 bits, found one of 100"),
    ("data.preprocess.resize", [10**6, 10**18],
     "data.preprocess: resize must be [height, width] of at most 16,777,216 pixels in all, "
     "found [1000000, 1000000000000000000]"),
    ("data.preprocess", {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
     "data: preprocess.mean must be of values scaled to 0..1, found [123.675, 116.28, 103.53]; did you mean "
     "[0.485, 0.456, 0.406]? (scale = 0 leaves values as they are)"),
    ("data", {"source": "imagefolder:d", "preprocess": {"scale": 255.0, "mean": [123.7], "std": [58.4]}},
     "data: preprocess.mean must be of values scaled to 0..1, found [123.7]"),
    ("data.preprocess.std[0]", 5000, "data: preprocess.std must be of values scaled to 0..1, found [5000.0, 0.5, 0.5]"),
    ("model.input[0].shape", [1, 10**6, 10**6],
     "model.input[0]: shape must have at most 8 dimensions and 268,435,456 values in all, found [1, 1000000, 1000000]"),
    ("compress[0].epochs", 10**30, "compress[0].epochs: wanted an integer of at most 64 bits, found one of 100"),
    ("compress[0].epochs", 10**9, "compress[0]: epochs must be 1 to 10,000, found 1000000000"),
    ("compress[0].lr", 1e6, "compress[0]: lr must be more than 0 and at most 100, found 1000000.0"),
    ("compress[0].batch_size", 10**9, "compress[0]: batch_size must be 1 to 65,536, found 1000000000"),
    ("compress[0]", {"type": "prune_channels", "ratio": 50.0},
     "compress[0]: ratio must be more than 0 and less than 1, found 50.0; did you mean 0.5?"),
    ("compress[0]", {"type": "prune_channels", "ratio": 0.5, "steps": 1_000_000},
     "compress[0]: steps must be 1 to 100, found 1000000"),
    ("compress", [{"type": "prune_channels", "ratio": 0.5, "steps": 100}] * 3,
     "compress: wanted at most 200 steps in all, found 300"),
    ("device[0].threads", 10**6, "device[0]: threads must be 1 to 1,024, found 1000000"),
    ("device[0].min_seconds", 1e9, "device[0]: min_seconds must be 0 to 86,400 seconds, found 1000000000.0"),
    ("target", [{"name": f"t{n}", "runtime": "onnx"} for n in range(1001)],
     "target: wanted at most 1,000 entries, found 1,001"),
    ("model.weights", "w" * 300,
     "model: weights must be a path whose names have at most 255 bytes, found one of 300"),
    ("model.weights", "w\0", "model: weights must be a path, found one with a NUL character in it"),
    ("data.labels", "d/" * 2100, "data: labels must be a path of at most 4096 bytes, found 4200"),
    ("data.source", "npz:" + "w" * 300,
     "data: source must be a path whose names have at most 255 bytes, found one of 304"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "fault"), NONSENSE, ids=[f"{p}={str(v)[:40]}" for p, v, _ in NONSENSE])
def test_nonsense_is_refused_with_the_key_what_is_wanted_and_what_was_found(path: str, value: Any, fault: str) -> None:
    found = faults_of(changed(path, value))
    assert fault in found
    assert all(f == fault or f.startswith("budget[") for f in found)


def test_minus_nothing_is_nothing() -> None:
    scale = parse_recipe(changed("data.preprocess.scale", -0.0)).data.preprocess
    assert isinstance(scale, face.Preprocess) and math.copysign(1, scale.scale or 0.0) == 1


WRAPPED = (
    'name = "x"\ndata = {source = "digits"}\ntarget = [{name = "a", runtime = "onnx"}]\nmodel = {definition = "m.py"}\n'
)
TEACHER = (
    '[[compress]]\ntype = "prune_channels"\nratio = 0.5\n[[compress]]\ntype = "finetune"\n[compress.distill.teacher]\n'
)
PLACES = {
    "args": WRAPPED.replace('"m.py"}', '"m.py", args = {x = VALUE}}'),
    "args.x": WRAPPED + TEACHER + 'definition = "t.py"\nweights = "t"\nargs = {x = VALUE}\n',
}


@pytest.mark.parametrize(
    "value",
    ["2020-01-01", "2020-01-01T00:00:00Z", "10:00:00", "[1, [2020-01-01]]", "nan", "inf", "0x" + "f" * 99,
     "[" * 40 + "]" * 40],
    ids=lambda value: value[:20],
)  # fmt: skip
@pytest.mark.parametrize("place", PLACES)
def test_arguments_of_models_and_teachers_are_plain(place: str, value: str) -> None:
    (fault,) = faults_of(PLACES[place].replace("VALUE", value))
    assert re.search(r": args must (be plain|hold integers of at most 64 bits|not be nested deeper)", fault)


def test_a_date_is_no_value_of_any_key() -> None:
    for path in ("name", "seed", "data.eval_fraction", "data.preprocess.mean", "target[0].verify", "budget[0].limit"):
        text = changed(path, "PLACE").replace('"PLACE"', "2020-01-01")
        (fault,) = faults_of(text)
        assert fault.startswith(f"{path}: wanted") and fault.endswith("found a date"), fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a" + ".a" * 400_000 + " = 1", "is not valid TOML: a key has 50 parts or more"),
        ("[" + "1." * 400_000 + "a]", "is not valid TOML: a key has 50 parts or more"),
        ("x = " + "{a=" * 300_000, "is not valid TOML"),
        (to_toml(GOOD) + "\n".join(f"k{n} = 1" for n in range(60_000)), "59980 more unknown keys"),
        (f'task = "{"c" * 900_000}"', "unknown value 'ccc"),
        ("seed = 0x" + "f" * 900_000, "seed: wanted an integer of at most 64 bits, found one of 3600000"),
        ('"a\\nname" = 1\n"b\\u001b" = 2', r"a\\nname: unknown key"),
    ],
    ids=["dotted", "header", "nested", "keys", "value", "digits", "control"],
)
def test_a_recipe_that_would_take_for_ever_is_refused_at_once_and_in_few_words(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        parse_recipe(text)
    assert len(str(caught.value)) < 60_000 and len(str(caught.value).splitlines()) < 60


def test_what_is_no_file_of_a_recipe_is_refused_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "utf16").write_bytes(to_toml(GOOD).encode("utf-16"))
    for name, said in (
        ("fifo", "it is no regular file"),
        ("/dev/zero", "it is no regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("large", "wanted at most 1,048,576 bytes, found 1,048,577"),
        ("utf16", "it is not UTF-8 text"),
        ("n" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
        (".", "Is a directory"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_recipe(tmp_path / name)
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbf" + to_toml(GOOD).encode())
    assert load_recipe(tmp_path / "mark").name == "full"


def test_threads_are_at_most_the_processors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with pytest.raises(RecipeError) as caught:
        processors.check_threads(parse_recipe(to_toml(GOOD)))
    assert caught.value.faults == ("device[0].threads must be 1 to 1 (the processors of this host), found 2",)
    processors.check_threads(parse_recipe(changed("device[0].threads", 1)))
    with pytest.raises(RecipeError, match=r"--threads must be 1 to 1 \(the processors of this host\), found 64"):
        processors.check_threads_option(64)


def options(command: Any, name: str = "") -> list[tuple[str, Any]]:
    found = [(name, p) for p in command.params if isinstance(p, click.Option)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            inner = command.get_command(context, child)
            assert inner is not None
            found += options(inner, f"{name} {child}")
    return found


def test_every_number_on_the_command_line_has_two_ends_and_is_finite() -> None:
    ranged = 0
    for name, option in options(cli):
        kind: Any = option.type
        where = f"{name} {option.opts}"
        assert not isinstance(kind, click.types.IntParamType | click.types.FloatParamType) or isinstance(
            kind, click.IntRange | click.FloatRange
        ), where
        if isinstance(kind, click.IntRange | click.FloatRange):
            ranged += 1
            assert kind.min is not None and kind.max is not None, where
            convert: Any = kind.convert
            for word in ("nan", "inf", "-inf", "1e400", "-1", str(10**30), "true"):
                with pytest.raises(click.BadParameter):
                    convert(word, option, None)
    assert ranged > 20
