"""The zoo's record and document: the last result of a lane stands, a run goes on where it stopped, nothing is counted
that was not run. No net is built here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from zoo import lanes, tables
from zoo.entries import Net, Task
from zoo.nets import NETS as ALL
from zoo.recipes import recipe

from pocketforge.recipe.toml import load_recipe

ROOT = Path(__file__).resolve().parents[2]
TASK = Task("digits", "", "accuracy_top1", "cross_entropy")
NETS = (Net("one", "small", TASK, dict), Net("two", "large", TASK, dict, int8={"onnx": "dynamic_int8"}))


def row(net: str = "one", runtime: str = "onnx", scheme: str = "fp32", **more: Any) -> tables.Row:
    found = {"net": net, "runtime": runtime, "scheme": scheme, "outcome": "PASS", "why": "", "sqnr_db": 101.2,
             "own_db": 101.0, "own_agreement": 1.0, "metric": "accuracy_top1", "metric_pytorch": 0.95,
             "metric_file": 0.95, "size_bytes": 12_300, "instructions": None, "cpu_s": 3.0, "date": "2026-01-02",
             "code": "abc", "versions": {"torch": "2.0"}}  # fmt: skip
    return {**found, **more}


def test_the_last_result_of_a_lane_stands_in_the_order_of_the_nets(tmp_path: Path) -> None:
    path = tmp_path / "zoo.json"
    tables.record([row("two"), row(outcome="FAIL", why="sqnr_db"), row("gone")], path, NETS)
    tables.record([row()], path, NETS)
    assert [(each["net"], each["outcome"]) for each in tables.recorded(path)] == [("one", "PASS"), ("two", "PASS")]


def test_a_count_stays_with_a_file_of_its_size_and_with_no_other(tmp_path: Path) -> None:
    path = tmp_path / "zoo.json"
    tables.record([row(instructions=5_000_000)], path, NETS)
    tables.record([row()], path, NETS)
    assert tables.recorded(path)[0]["instructions"] == 5_000_000
    assert "| one | 5.00 M | not counted |" in tables.document(tables.recorded(path), NETS)
    tables.record([row(size_bytes=99)], path, NETS)
    assert tables.recorded(path)[0]["instructions"] is None


def test_a_line_that_a_kill_cut_off_is_a_lane_that_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "zoo.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row(scheme="static_int8"))[:40], "utf-8")
    assert [tables.key(each) for each in tables.read(path)] == [("one", "onnx", "fp32")]
    assert tables.read(tmp_path / "none.jsonl") == []


def test_a_run_goes_on_with_the_lanes_that_have_no_result() -> None:
    rows = [row(), row("two", scheme="dynamic_int8")]
    assert tables.missing(NETS[0], rows, "onnx|lite") == (("onnx", "static_int8"), ("tflite", "fp32"),
                                                          ("tflite", "static_int8"))  # fmt: skip
    assert tables.missing(NETS[1], rows, "onnx") == (("onnx", "fp32"),)
    assert tables.missing(NETS[1], rows, "onnx .*int8") == ()


def test_the_document_counts_what_was_run_and_says_what_was_not() -> None:
    said = "layer a|b cannot be quantized hint: keep it float"
    rows = [
        row(),
        row(scheme="static_int8", sqnr_db=31.4, metric_file=0.9, size_bytes=4_000),
        row("two", scheme="dynamic_int8", outcome="refused", why=said, size_bytes=None),
    ]
    text = tables.document(rows, NETS)
    assert "3 of 12 lanes of 2 nets have been run, 2026-01-02, with torch 2.0." in text
    assert "| onnx | fp32 | 1 | 1 | 0 | 0 | 0 | 0 | 100 % | 1 |" in text
    assert "| onnx | int8 | 2 | 1 | 1 | 0 | 0 | 0 | 50 % | 0 |" in text
    assert "| tflite | fp32 | 0 | 0 | 0 | 0 | 0 | 0 |  | 2 |" in text
    assert "| one | 64 | accuracy_top1 .950 | 101 dB, 12 kB | 31 dB, .900, 4 kB | not run yet |" in text
    assert "- **two**, onnx dynamic_int8: refused: layer a\\|b cannot be quantized hint: keep it float" in text


WRONG = [{"name": "sqnr_db", "wanted": "at least 15", "found": "3", "passed": False}]


@pytest.mark.parametrize(
    ("target", "error", "wanted"),
    [
        ({"status": "built"}, "", ("PASS", "")),
        ({"status": "failed"}, "cat@1: not here\n  hint: fp32\n  log: /a", ("refused", "cat@1: not here hint: fp32")),
        ({"status": "failed"}, "KeyError: 'x'\n  log: /a", ("error", "KeyError: 'x'")),
        ({"status": "failed"}, "ended by signal 11\n  hint: try", ("crash", "ended by signal 11 hint: try")),
        ({"status": "wrong", "checks": WRONG}, "", ("FAIL", "sqnr_db: wanted at least 15, found 3")),
    ],
)
def test_only_an_error_of_ours_with_the_way_out_is_a_refusal(
    target: dict[str, Any], error: str, wanted: tuple[str, str]
) -> None:
    assert lanes.verdict(target, error) == wanted


def test_a_target_has_the_error_of_the_step_that_it_hangs_on_with_its_hint() -> None:
    steps = [
        {"stage": "quantize", "lane": "a+b", "status": "failed", "message": "layer x has no 8 bits"},
        {"stage": "export", "lane": "c", "status": "failed", "message": "op y is not known"},
    ]
    stderr = (
        "warning: z\nerror: quantize a+b: layer x has no 8 bits\n  hint: fp32\nerror: export c: op y is not known\n"
    )
    said = {name: lanes.said_of({"name": name, "error": "none"}, steps, stderr) for name in "abcd"}
    assert said["a"] == said["b"] == "quantize a+b: layer x has no 8 bits\n  hint: fp32\n"
    assert (said["c"], said["d"]) == ("export c: op y is not known\n", "none")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ((30.0, 0.97, ""), ""),
        ((21.9, 0.97, ""), "a PASS that is wrong: 21.9 dB to eager PyTorch where the report has 31.0"),
        ((30.0, 0.5, ""), "a PASS that is wrong: the largest class is eager PyTorch's in 0.50 of the samples"),
        ((None, None, "output 0 is not finite"), "a PASS that is wrong: output 0 is not finite"),
    ],
)
def test_a_pass_that_the_zoo_s_own_figures_deny_is_none(found: tuple[Any, Any, str], why: str) -> None:
    lane = lanes.judged(lanes.Lane("one", "onnx", "static_int8", "PASS", sqnr_db=31.0), *found)
    assert (lane.outcome, lane.why) == ("FAIL" if why else "PASS", why)


def test_every_net_has_a_recipe_that_the_door_takes_and_a_family_of_its_own_table(tmp_path: Path) -> None:
    assert len(ALL) >= 60
    for task in {net.task.name: net for net in ALL}.values():
        path = tmp_path / f"{task.name}.toml"
        path.write_text(recipe(task, tmp_path / "weights.safetensors", task.lanes, count=True), "utf-8")
        assert len(load_recipe(path).targets) == 6


def test_the_document_is_what_the_record_says() -> None:
    recorded = tables.recorded(ROOT / "docs" / "zoo.json")
    assert tables.document(recorded, ALL) == (ROOT / "docs" / "zoo.md").read_text("utf-8")
