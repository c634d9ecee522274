"""`report compare`: what came and went between two reports' counts (files: tests/unit/test_report_comparison.py); and
how a report shows emulated devices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pocketforge.outcomes.files import from_json
from pocketforge.records import Report, TargetFacts, TargetRecord

HASH = "b" * 64


def counts(**functions: int) -> dict[str, Any]:
    total = sum(functions.values())
    return {
        "instructions": total,
        "windows": [total, total],
        "conclusive": True,
        "doubts": [],
        "libraries": {"libLiteRt.so": HASH},
        "by_class": {"dot": functions.get("gemm", 0), "load": total - functions.get("gemm", 0)},
        "by_function": dict(functions),
        "qemu": "7.2.22",
        "cpu": "cortex-a76",
    }


ESTIMATE = {
    "cycles": 2e6, "compute_cycles": 1.5e6, "memory_cycles": 0.4e6, "overhead_cycles": 0.1e6, "latency_ms": 0.8,
    "low_ms": 0.7, "high_ms": 0.9, "coverage": 0.9, "status": "calibrated", "basis": "seen", "core": "cortex-a76",
    "source_core": "cortex-a76", "clock_ghz": 2.4, "instructions": 100, "model_version": "1", "calibration": HASH,
}  # fmt: skip
VERIFY = {
    "host": {"sqnr_db": 101.25, "argmax_agreement": 1.0, "max_abs_diff": 0.0, "max_diff_ratio": 0.0, "outputs": []},
    "device": {"accuracy": {"accuracy_top1": 0.9812}, "samples": 64, "sqnr_db": 30.0, "outputs": []},
    "runtime": "LiteRT 2.3.0",
}


def report(**targets: dict[str, Any]) -> Report:
    made = tuple(
        TargetRecord(n, "tflite", "fp32", "built", facts=from_json({"emulated": e}, TargetFacts))
        for n, e in targets.items()
    )
    return Report("small", HASH, "PASS", made, (), (), ())


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: Report) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content.to_json()), encoding="utf-8")
        return path

    return write


def test_what_grew_comes_first_and_what_stayed_is_left_out(cli, write):
    before = write("a", report(one={"pixel4": {"counts": counts(gemm=100, pad=50, same=7, gone=3)}}))
    after = write("b", report(one={"pixel4": {"counts": counts(gemm=90, pad=80, same=7, new=1)}}))
    found = json.loads(cli("report", "compare", before, after, "--json").stdout)
    (counted,) = found[0]["counts"]
    assert [(f["target"], f["other"], f["device"], f["instructions"]) for f in (counted,)] == [
        ("one", "one", "pixel4", [160, 178])
    ]
    assert [(r["name"], r["before"], r["after"]) for r in counted["functions"]] == [
        ("pad", 50, 80), ("new", 0, 1), ("gone", 3, 0), ("gemm", 100, 90),
    ]  # fmt: skip
    assert [r["name"] for r in counted["classes"]] == ["load", "dot"]
    shown = cli("report", "compare", before, after).stdout
    (why,) = found[0]["why"]
    assert why == "more instructions on pixel4: 160 → 178 (+11.25%); most in load +28; most in pad +30, new +1 (new)"
    assert why in shown and "+60.00%" in shown and "gone" in shown and "same" not in shown


def test_two_targets_of_one_report_are_compared(cli, write):
    both = write("a", report(one={"p": {"counts": counts(gemm=1)}}, two={"p": {"counts": counts(gemm=3)}}))
    found = json.loads(cli("report", "compare", both, both, "-t", "one", "--with", "two", "--json").stdout)
    assert [(f["target"], f["other"], f["counts"][0]["instructions"]) for f in found] == [("one", "two", [1, 3])]
    assert cli("report", "compare", both, both, "-t", "one", "--with", "two").stdout.startswith("one → two\n")


def test_a_comparison_is_written_into_a_file_as_its_ending_says(cli, write, tmp_path):
    path = write("a", report(one={"p": {"counts": counts(gemm=1)}}))
    assert cli("report", "compare", path, path, "-o", tmp_path / "c.html").stdout == ""
    assert (tmp_path / "c.html").read_text("utf-8").startswith("<!doctype html>")
    assert cli("report", "compare", path, path, "-o", tmp_path / "c.txt").stdout == ""
    assert (tmp_path / "c.txt").read_text("utf-8") == cli("report", "compare", path, path).stdout


def test_few_rows_are_those_that_grew_and_shrank_most(cli, write):
    before = write("a", report(one={"p": {"counts": counts(**{f"f{i}": 100 for i in range(9)})}}))
    after = write("b", report(one={"p": {"counts": counts(**{f"f{i}": 60 + 10 * i for i in range(9)})}}))
    shown = cli("report", "compare", before, after, "--rows", "2").stdout
    assert "f8" in shown and "f0" in shown and "f5" not in shown
    assert "… 6 more instructions on p by function changed by less (--rows)" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "oen"], "the report of small has no target 'oen'; did you mean 'one'?"),
        (["-t", "one", "--with", "tow"], "no target 'tow'"),
        (["--with", "one"], "name the one of BEFORE with --target"),
        (["-d", "pixel5"], "no target of both reports was counted on the same emulated device 'pixel5'"),
    ],
)
def test_names_that_are_not_there(cli, write, words, said):
    path = write("a", report(one={"pixel4": {"counts": counts(gemm=1)}}))
    done = cli("report", "compare", path, path, *words)
    assert done.code == 2 and said in done.stderr


def test_reports_without_a_common_target_have_nothing_to_compare(cli, write):
    done = cli("report", "compare", write("a", report(one={})), write("b", report(two={})))
    assert done.code == 2
    assert (
        "no target is in both reports: the first has one" in done.stderr and "--target NAME --with OTHER" in done.stderr
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "htlm"], "a comparison is written as text, html, json, found 'htlm'"),
        (["-o", "a.xml"], "found 'xml'"),
        (["--json", "--format", "html"], "--json is --format json"),
    ],
)
def test_forms_that_there_are_not(cli, write, words, said):
    path = write("a", report(one={}))
    done = cli("report", "compare", path, path, *words)
    assert done.code == 2 and said in done.stderr


def test_a_report_shows_counts_and_estimates_with_their_interval(cli, write):
    emulated = {"pixel4": {"verify": VERIFY, "counts": counts(gemm=1_234_567), "estimate": ESTIMATE}}
    shown = cli("report", write("a", report(one=emulated))).stdout
    for part in (
        "1,234,567",
        "2,000,000",
        "0.8",
        "0.7–0.9",
        "cortex-a76, calibrated",
        "0.9812",
        "101.2",
        "not phone time",
    ):
        assert part in shown, part


def test_a_report_marks_a_count_that_settles_nothing_and_an_estimate_that_is_refused(cli, write):
    doubtful = {**counts(gemm=1_234_567), "conclusive": False}
    emulated = {"pixel4": {"counts": doubtful, "estimate": {"refused": "too large"}}}
    made = report(one=emulated)
    shown = cli("report", write("a", dataclasses.replace(made, warnings=("one: no estimate: too large",)))).stdout
    assert "1,234,567 ?" in shown and "refused" in shown


def test_show_may_be_left_out(cli, write):
    path = write("a", report(one={}))
    assert cli("report", path).stdout == cli("report", "show", path).stdout
    assert cli("report", "--json", path).stdout == cli("report", "show", path, "--json").stdout
    assert cli("report").code == 2
