"""Two builds' reports and files: why one is bigger, why slower, what came and went. The command is in
tests/cli/test_report_compare.py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from report_pages import hostile, hostile_comparison
from test_report_page import timed

from pocketforge.commands.compare import compare
from pocketforge.records import Artifact, Measurement, Report, TargetFacts, TargetRecord
from pocketforge.report import comparison_tables
from pocketforge.report.comparison import Change
from pocketforge.report.page import comparison as page

HASH = "b" * 64


def net(path: Path, weights: dict[str, Any], ops: list[str]) -> None:
    """A real .onnx file: a chain of operators, which take a weight each."""
    from onnx import TensorProto, helper, numpy_helper, save

    names = [f"v{at}" for at in range(len(ops) + 1)]
    nodes = [
        helper.make_node(op, [names[at], *list(weights)[at : at + 1]], [names[at + 1]]) for at, op in enumerate(ops)
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8])] for name in (names[0], names[-1])]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    path.parent.mkdir(parents=True)
    save(helper.make_model(helper.make_graph(nodes, "net", *ends, held)), path)


def built(folder: Path, weights: dict[str, Any], ops: list[str], ms: float, float_layers: tuple[str, ...]) -> Report:
    """A build's folder: its report, and its file in release/."""
    net(folder / "release" / "one.onnx", weights, ops)
    data = (folder / "release" / "one.onnx").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    file = Artifact(HASH, "model", "one.onnx", sha256, len(data), len(data))
    one = TargetRecord("one", "onnx", "fp32", "built", (file,), facts=TargetFacts(float_layers=float_layers))
    samples, how = timed(ms)
    values = (
        Measurement("size_bytes", len(data), "bytes", "one", sha256, "host"),
        Measurement("latency_ms", ms, "ms", "one", sha256, "host", "host", samples, how),
    )
    made = Report("small", HASH, "PASS", (one,), (), values, (), environment={"host": "here", "onnx": str(ms)})
    (folder / "report.json").write_text(json.dumps(made.to_json()), encoding="utf-8")
    return made


def test_two_builds_files_say_why_one_is_bigger_and_slower(tmp_path: Path) -> None:
    small, large = tmp_path / "a", tmp_path / "b"
    before = built(
        small,
        {"kept": np.ones((8, 8), "f4"), "first": np.ones((8, 4), "i1"), "gone": np.ones(8, "f4")},
        ["MatMul", "MatMulInteger", "Mul", "Relu"],
        1.0,
        ("kept",),
    )
    after = built(
        large,
        {"kept": np.ones((8, 8), "f4"), "second": np.ones((4, 8), "f4"), "new": np.ones((8, 512), "f4")},
        ["MatMul", "MatMul", "MatMul", "Sigmoid"],
        2.0,
        ("kept", "second"),
    )
    (found,) = compare(small, large, (before, after))
    assert found.files is not None and not found.same_file and found.unread == ""
    assert [(row.name, row.before, row.after) for row in found.files.operators] == [
        ("MatMul", 1, 3), ("Sigmoid", 0, 1), ("MatMulInteger", 1, 0), ("Mul", 1, 0), ("Relu", 1, 0),
    ]  # fmt: skip
    weights = (Change("new", 0, 16_384), Change("first → second", 32, 128), Change("gone", 32, 0))
    assert found.files.weights == weights
    assert found.files.dtypes == (Change("float32", 288, 16_768), Change("int8", 32, 0))
    bytes_of = {part.name: part.growth for part in found.files.parts}
    assert bytes_of["weights"] == 16_448
    assert sum(bytes_of.values()) == after.measurements[0].value - before.measurements[0].value
    bigger, slower = found.why
    assert re.fullmatch(
        r"bigger: [\d,]+ → [\d,]+ bytes \(\+[\d,.]+%\): weights \+16,448, graph and all else [+-]\d+; "
        r"most in new \+16,384 \(new\), first → second \+96",
        bigger,
    )
    assert slower == "slower on host: 1 → 2 ms (+100.0%)"
    assert found.layers == ("float now: second", "made with onnx 1.0 → 2.0")

    shown = comparison_tables.write([found], 2)
    assert bigger in shown and "… 3 more operators changed by less (--rows)" in shown
    html = page.write(before, after, [found], 2)
    assert "what changed between two reports" in html and "slower on host" in html
    assert "1 of 1 targets have another file now" in html and "<caption>Operators (3 that changed by less" in html
    (same,) = compare(large, large, (after, after))
    assert same.same_file and same.files is None and "one: the same file" in comparison_tables.write([same], 2)

    # What lies there is another file, or none: what is known without it is told.
    (large / "release" / "one.onnx").write_bytes(b"another")
    alone = tmp_path / "alone"
    for folder, said in ((large, "is not the file that"), (alone, "is not beside")):
        (told,) = compare(small, folder, (before, after))
        assert said in told.unread and told.files is None and told.why[-1] == slower
        assert told.why[0] == bigger.partition("%)")[0] + "%)"


def test_hostile_names_are_text_on_the_page() -> None:
    html = hostile_comparison()
    assert "&lt;script&gt;" in html and "\\x1b[31m" in html
    assert not re.search(r"<(script|img)|\x1b|\u202e|\x00|\udcff", html)
    assert "not measured" in html and html.count("<section") >= len(hostile().targets)
