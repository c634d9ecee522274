"""Runners' texts are read exactly or refused: every published format, cut, doubled, mixed and garbled."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from android_bench import foreign, parse
from android_bench.errors import BadOutput
from android_bench.foreign import BENCHMARK_MODEL, EXECUTOR_RUNNER, ONNXRUNTIME_PERF_TEST, TOOLS, Tool, tool_of
from android_bench.parse import RunnerResult

# As a phone printed them; shortened where nothing is read.
LITERT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/best_int8.tflite]
INFO: Loaded model /data/local/tmp/best_int8.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 3.06409
INFO: Initialized session in 92.318ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533

INFO: Inference timings in us: Init: 92318, First inference: 235158, Warmup (avg): 211669, Inference (avg): 145528
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual …
INFO: Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 93 MB
"""
LITERT_RESULT = RunnerResult(
    tool="benchmark_model", avg_ms=145.528, count=25, median_ms=141.253, p95_ms=187.533, min_ms=140.071,
    max_ms=195.121, std_ms=13.583, load_ms=92.318, first_ms=235.158, warmup_avg_ms=211.669,
    peak_rss_bytes=97_767_444,
)  # fmt: skip
EXECUTORCH = """\
I 00:00:00.000526 executorch:executor_runner.cpp:82] Model file model.pte is loaded.
I 00:00:05.833558 executorch:executor_runner.cpp:564] Model loaded in 4463.268273 ms.
I 00:00:06.075611 executorch:executor_runner.cpp:705] Iteration 1 of 3: 241.944288 ms
I 00:00:06.175611 executorch:executor_runner.cpp:705] Iteration 2 of 3: 100.000001 ms
I 00:00:06.275611 executorch:executor_runner.cpp:705] Iteration 3 of 3: 98.500000 ms
I 00:00:06.275701 executorch:executor_runner.cpp:714] Model executed successfully 3 time(s) in 440.444289 ms.
I 00:00:06.275702 executorch:executor_runner.cpp:720] 1 outputs:
OutputX 0: tensor(sizes=[1], [2.])
"""
ONNX = """\
Setting intra_op_num_threads to 1
Disabling intra-op thread spinning between runs
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Avg CPU usage:11
Peak working set size:271122432
Runs:5
Min Latency: 0.0958204 s
Max Latency: 0.101519 s
P50 Latency: 0.0995086 s
P90 Latency: 0.101519 s
P95 Latency: 0.101519 s
P99 Latency: 0.101519 s
P999 Latency: 0.101519 s
"""
PEAKS = "Peak working set size: 271122432 bytes\nAvg CPU usage:11\nPeak working set size:271122432\n"
REAL = {BENCHMARK_MODEL: LITERT, EXECUTOR_RUNNER: EXECUTORCH, ONNXRUNTIME_PERF_TEST: ONNX}


def logged(text: str, shape: str = "threadtime", tag: str = "ExecuTorch", pid: int = 22838) -> str:
    """As logcat would print the messages of `text`."""
    heads = {
        "threadtime": f"07-14 13:14:52.097 {pid} {pid + 1} I {tag:<8}: ",
        "uid": f"2026-07-14 13:14:52.097123 +0200  2000 {pid} {pid + 1} I {tag}: ",
        "time": f"07-14 13:14:52.097 I/{tag:<8}({pid:5}): ",
        "brief": f"I/{tag}({pid:5}): ",
        "tag": f"I/{tag}: ",
        "raw": "",
    }
    lines = [re.sub(r"^I \S+ executorch:[^\]]*\] |^INFO: ", "", line) for line in text.splitlines()]
    return "--------- beginning of main\n" + "".join(f"{heads[shape]}{line}\n" for line in lines)


def same_or_less(found: RunnerResult, whole: RunnerResult) -> None:
    """What a cut text still gives is what the whole one gives; the average always is."""
    assert found.avg_ms == whole.avg_ms
    for field in dataclasses.fields(RunnerResult):
        if field.name != "warnings":
            assert getattr(found, field.name) in (getattr(whole, field.name), None, ()), field.name


# --- texts as phones printed them ------------------------------------------------------------------------------------


def test_benchmark_model_s_text() -> None:
    assert parse.read(BENCHMARK_MODEL, LITERT) == LITERT_RESULT
    # Versions that log to stderr, that print no prefix, phones with CR LF, and the app, which only logs.
    assert parse.read(BENCHMARK_MODEL, "", LITERT) == LITERT_RESULT
    assert parse.read(BENCHMARK_MODEL, LITERT.replace("INFO: ", "")) == LITERT_RESULT
    assert parse.read(BENCHMARK_MODEL, LITERT.replace("\n", "\r\n")) == LITERT_RESULT
    assert parse.read(BENCHMARK_MODEL, "WARNING: linker: unused\n", "", logged(LITERT, tag="tflite")) == LITERT_RESULT


def test_the_older_statistics_of_benchmark_model() -> None:
    old = re.sub(r"count=(\d+) first=\d+ (curr=\d+)", r"\2 count=\1", LITERT)
    old = re.sub(r" p5=\d+ median=\d+ p95=\d+", "", old)
    assert "curr=140990 count=25 min=140071" in old
    assert parse.read(BENCHMARK_MODEL, old) == dataclasses.replace(LITERT_RESULT, median_ms=None, p95_ms=None)


def test_statistics_of_runs_that_took_the_same_time() -> None:
    text = (
        "INFO: count=1 curr=9992420\nINFO: count=7 curr=1000000(all same)\n"
        "INFO: Inference timings in us: Init: 25558, First inference: 9992420, "
        "Warmup (avg): 9.99242e+06, Inference (avg): 1e+06\n"
    )
    found = parse.read(BENCHMARK_MODEL, text)
    assert (found.avg_ms, found.count, found.min_ms, found.median_ms, found.std_ms) == (1000, 7, 1000, 1000, 0)
    assert (found.first_ms, found.warmup_avg_ms) == (9992.42, 9992.42)


def test_a_run_without_warm_up_has_no_first_inference() -> None:
    text = LITERT.replace("count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669", "count=0 #")
    text = re.sub("count=0 #.*", "count=0", text)
    text = text.replace("First inference: 235158, Warmup (avg): 211669", "First inference: 0, Warmup (avg): 0")
    found = parse.read(BENCHMARK_MODEL, text)
    assert (found.first_ms, found.warmup_avg_ms, found.avg_ms) == (None, None, 145.528)


def test_timings_alone_are_read_and_said_to_be_of_unknown_count() -> None:
    found = parse.read(BENCHMARK_MODEL, "\n".join(x for x in LITERT.splitlines() if "count=" not in x) + "\n")
    assert (found.avg_ms, found.count) == (145.528, None)
    assert "unknown" in found.warnings[0]


def test_statistics_of_the_profiler_are_not_those_of_the_run() -> None:
    profile = "INFO: Timings (microseconds): count=25 first=1 curr=2 min=1 max=2 avg=1 std=1\nMemory (bytes): count=0\n"
    assert parse.read(BENCHMARK_MODEL, LITERT + profile) == LITERT_RESULT


@pytest.mark.parametrize("shape", ["threadtime", "uid", "time", "brief", "tag", "raw"])
def test_executor_runner_s_messages(shape: str) -> None:
    found = parse.read(EXECUTOR_RUNNER, "OutputX 0: tensor(sizes=[1], [2.])\n", "", logged(EXECUTORCH, shape))
    assert found == parse.read(EXECUTOR_RUNNER, "", EXECUTORCH)
    assert found.samples_ms == (241.944288, 100.000001, 98.5)
    assert (found.count, found.load_ms, found.first_ms, found.median_ms) == (3, 4463.268273, 241.944288, 100.000001)
    assert found.avg_ms == pytest.approx(440.444289 / 3) and found.warnings == ()


def test_executor_runner_of_versions_without_iterations() -> None:
    old = "\n".join(line for line in EXECUTORCH.splitlines() if "Iteration" not in line) + "\n"
    found = parse.read(EXECUTOR_RUNNER, old)
    assert (found.count, found.samples_ms, found.first_ms) == (3, (), None)
    assert "includes the first" in found.warnings[0]
    for oldest in ("Model executed successfully.", "Model executed successfully 3 time(s)."):
        with pytest.raises(BadOutput, match="prints no times"):
            parse.read(EXECUTOR_RUNNER, f"I 00:00:00.0 executorch:executor_runner.cpp:180] {oldest}\n")


def test_a_log_that_lost_iterations_gives_no_samples_and_says_so() -> None:
    found = parse.read(EXECUTOR_RUNNER, "", "", logged(EXECUTORCH.replace("Iteration 2 of 3", "Jteration 2 of 3")))
    assert (found.count, found.samples_ms) == (3, ())
    assert "1 of 3 iterations" in found.warnings[0]


def test_other_tags_and_processes_in_a_log() -> None:
    other = "07-14 13:14:52.098  1 1 I tflite  : Iteration 9 of 9: 1.000000 ms\nI/art( 12): Model loaded in 1.0 ms.\n"
    mixed = "".join(line + other for line in logged(EXECUTORCH).splitlines(keepends=True))
    assert parse.read(EXECUTOR_RUNNER, "", "", mixed) == parse.read(EXECUTOR_RUNNER, EXECUTORCH)
    # An earlier run is still in the log: which one it is must be said.
    earlier = logged(EXECUTORCH.replace("98.500000", "99.500000").replace("440.444289", "441.444289"), pid=777)
    with pytest.raises(BadOutput, match="one process in the log, found 2: 777, 22838"):
        parse.read(EXECUTOR_RUNNER, "", "", earlier + logged(EXECUTORCH))
    found = parse.read(EXECUTOR_RUNNER, "", "", earlier + logged(EXECUTORCH), pid=777)
    assert found.samples_ms[2] == 99.5
    with pytest.raises(BadOutput, match="process 5 in the log"):
        parse.read(EXECUTOR_RUNNER, "", "", logged(EXECUTORCH), pid=5)


def test_onnxruntime_s_text() -> None:
    about: Any = pytest.approx  # which stands for a float in what is compared
    found = parse.read(ONNXRUNTIME_PERF_TEST, ONNX)
    assert found == RunnerResult(
        tool="onnxruntime_perf_test", avg_ms=98.961997, count=5, median_ms=about(99.5086),
        p95_ms=about(101.519), min_ms=about(95.8204), max_ms=about(101.519),
        load_ms=about(217.932), first_ms=196.0, peak_rss_bytes=271_122_432,
    )  # fmt: skip
    for old in (
        ONNX.replace("cost total:", "cost:"),
        re.sub(r"Latency: (\S+) s", r"Latency is \1sec", ONNX),
        re.sub(r"Latency: (\S+) s", r"Latency is \1 sec", ONNX),
        re.sub(r"Latency: 0\.(\d{3})(\d+) s", r"Latency: \1.\2 ms", ONNX),
        re.sub(r"Latency: 0\.(\d{6}) s", r"Latency: \1 us", ONNX),
    ):
        again = parse.read(ONNXRUNTIME_PERF_TEST, old)
        assert (again.avg_ms, again.count) == (found.avg_ms, 5)
        assert again.median_ms == pytest.approx(99.5086)


def test_the_oldest_wording_of_onnxruntime() -> None:
    text = "Total time cost:0.49481\nTotal iterations:5\nAverage time cost:98.962 ms\n"
    found = parse.read(ONNXRUNTIME_PERF_TEST, text)
    assert (found.avg_ms, found.count, found.median_ms) == (98.962, 5, None)
    assert "-s" in found.warnings[0]


def test_verbose_iterations_are_the_samples() -> None:
    times = [0.0958204, 0.101519, 0.0995086, 0.0989618, 0.099]
    text = "".join(f"iteration:{i},time_cost:{t}\n" for i, t in enumerate(times, 1))
    assert parse.read(ONNXRUNTIME_PERF_TEST, text + ONNX).samples_ms == tuple(t * 1000 for t in times)
    assert parse.read(ONNXRUNTIME_PERF_TEST, text.split("\n", 1)[1] + ONNX).samples_ms == ()


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda t: t.name)
def test_no_output_says_what_was_wanted(tool: Tool) -> None:
    for text in ("", "\n \n"):
        with pytest.raises(BadOutput, match=f"{tool.name}: wanted .*, found no output") as raised:
            parse.read(tool, text)
        assert raised.value.hint


@pytest.mark.parametrize(
    ("tool", "text", "found"),
    [
        (BENCHMARK_MODEL, "ERROR: Failed to load model x\nERROR: Benchmarking failed.\n", "Benchmarking failed"),
        (BENCHMARK_MODEL, LITERT + "ERROR: Benchmarking failed.\n", "Benchmarking failed"),
        (EXECUTOR_RUNNER, "E 00:00:00.1 executorch:x.cpp:1] Execution of method m failed with status 0x12\n", "0x12"),
        (EXECUTOR_RUNNER, "ERROR: unknown command line flag 'cpu_threads'\n", "cpu_threads"),
        (ONNXRUNTIME_PERF_TEST, "Run failed:Non-zero status code\n", "Non-zero"),
        (ONNXRUNTIME_PERF_TEST, "Segmentation of duty\n", "duty"),
    ],
)  # fmt: skip
def test_a_failed_run_s_complaint_is_named(tool: Tool, text: str, found: str) -> None:
    with pytest.raises(BadOutput, match=found):
        parse.read(tool, text)


def test_a_run_of_nothing_is_refused() -> None:
    timings = "Inference timings in us: Init: 5, First inference: 0, Warmup (avg): 0, Inference (avg): 0\n"
    with pytest.raises(BadOutput, match="a microsecond at least"):
        parse.read(BENCHMARK_MODEL, "count=0\ncount=0\n" + timings)
    with pytest.raises(BadOutput, match="found 0 in 0 ms"):
        parse.read(EXECUTOR_RUNNER, "Model executed successfully 0 time(s) in 0.000000 ms.\n")
    with pytest.raises(BadOutput, match="wanted inferences that took time"):
        parse.read(ONNXRUNTIME_PERF_TEST, "Total iterations:5\nAverage time cost:0 ms\n")


@pytest.mark.parametrize(
    ("tool", "broken"),
    [
        (BENCHMARK_MODEL, ("avg=145528 std=13583", "avg=245528 std=13583")),  # over the maximum
        (BENCHMARK_MODEL, ("avg=145528 std=13583", "avg=145628 std=13583")),  # another average than the timings'
        (BENCHMARK_MODEL, ("Inference (avg): 145528", "Inference (avg): 14552")),
        (BENCHMARK_MODEL, ("Inference (avg): 145528", "Inference (avg): nan")),
        (BENCHMARK_MODEL, ("Inference (avg): 145528", "Inference (avg): 1e999")),
        (BENCHMARK_MODEL, ("std=13583 p5=140545", "std=13INFO: hello\n583 p5=140545")),
        (BENCHMARK_MODEL, ("std=13583 p5=140545", "std=13\nhello 583 p5=140545")),
        (BENCHMARK_MODEL, ("count=25 first", "count=25(all same) first")),
        (BENCHMARK_MODEL, (": 93.2383", ": 93.23 83")),
        (EXECUTOR_RUNNER, ("241.944288", "241.044288")),  # does not add up
        (EXECUTOR_RUNNER, ("Iteration 2 of 3", "Iteration 2 of 4")),
        (EXECUTOR_RUNNER, ("Iteration 2 of 3", "Iteration 4 of 3")),
        (EXECUTOR_RUNNER, ("of 3: 100.000001 ms", "of 3: 100.0I 00:00:01.1 executorch:x.cpp:1] a")),
        (EXECUTOR_RUNNER, ("in 4463.268273 ms.", "in 4463.268273")),
        (EXECUTOR_RUNNER, ("in 440.444289 ms.", "in 440.444289 s.")),
        (ONNXRUNTIME_PERF_TEST, ("98.961997 ms", "98.961997 min")),
        (ONNXRUNTIME_PERF_TEST, ("98.961997 ms", "9.8961997 ms")),  # not the total over the count
        (ONNXRUNTIME_PERF_TEST, (ONNX, "Total iterations:5\nTotal time cost:0.49481\nAverage time cost:9.8962 ms\n")),
        (ONNXRUNTIME_PERF_TEST, (PEAKS, "Peak working set size: 2711\n22432 bytes\n")),
        (ONNXRUNTIME_PERF_TEST, ("Runs:5", "Runs:6")),
        (ONNXRUNTIME_PERF_TEST, ("P50 Latency: 0.0995086 s", "P50 Latency: 0.995086 s")),  # over the maximum
        (ONNXRUNTIME_PERF_TEST, ("271122432 bytes", "2711\n22432 bytes")),
        (ONNXRUNTIME_PERF_TEST, ("Runs:5", "Runs:" + "5" * 5000)),
    ],
)  # fmt: skip
def test_numbers_that_contradict_or_lines_that_broke_are_refused(tool: Tool, broken: tuple[str, str]) -> None:
    assert broken[0] in REAL[tool]
    parse.read(tool, REAL[tool])
    with pytest.raises(BadOutput, match=tool.name):
        parse.read(tool, REAL[tool].replace(*broken))


def test_two_different_runs_in_one_text_are_refused() -> None:
    others = {
        BENCHMARK_MODEL: LITERT.replace("145528", "145529"),
        EXECUTOR_RUNNER: EXECUTORCH.replace("98.500000", "98.600000").replace("440.444289", "440.544289"),
        ONNXRUNTIME_PERF_TEST: ONNX.replace("0.49481", "0.49482").replace("98.961997", "98.963"),
    }
    for tool, other in others.items():
        assert parse.read(tool, other).avg_ms != parse.read(tool, REAL[tool]).avg_ms
        with pytest.raises(BadOutput, match="wanted"):
            parse.read(tool, REAL[tool] + other)


def test_a_result_that_was_printed_twice_is_one_result() -> None:
    for tool, text in REAL.items():
        assert parse.read(tool, text, text) == parse.read(tool, text)
        each_twice = "".join(line * 2 for line in text.splitlines(keepends=True))
        assert parse.read(tool, each_twice) == parse.read(tool, text)


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda t: t.name)
def test_a_cut_text_gives_the_same_values_or_is_refused(tool: Tool) -> None:
    text, refused = REAL[tool], 0
    whole = parse.read(tool, text)
    for end in range(len(text)):
        for stdout, stderr in ((text[:end], ""), ("", text[:end]), (text[:end], "5\n"), (text[end + 1 :], "")):
            try:
                same_or_less(parse.read(tool, stdout, stderr), whole)
            except BadOutput:
                refused += 1
    assert refused > 1.5 * len(text)  # of four times its length: the result comes last


# --- every text of a format ------------------------------------------------------------------------------------------

whole_us = st.integers(1, 10**8)
seeds = st.randoms(use_true_random=False)


def printed(value: float) -> str:
    """As a C++ stream prints a double: six significant digits."""
    return f"{value:.6g}"


def litert_stats(values: list[int], order: str, quantiles: bool) -> str:
    if min(values) == max(values):
        same = "(all same)" if len(values) > 1 else ""
        one = f"curr={values[-1]} count={len(values)}" if order == "old" else f"count={len(values)} curr={values[-1]}"
        return one + same
    avg = sum(values) / len(values)
    std = int(math.sqrt(max(0.0, sum(v * v for v in values) / len(values) - avg * avg)))
    head = f"count={len(values)} first={values[0]} curr={values[-1]}"
    if order == "old":
        head = f"curr={values[-1]} count={len(values)}"
    text = f"{head} min={min(values)} max={max(values)} avg={printed(avg)} std={std}"
    if quantiles and order == "new":
        s = sorted(values)
        at = [s[min(len(s) - 1, int(len(s) * q))] for q in (0.05, 0.5, 0.95)]
        text += f" p5={at[0]} median={at[1]} p95={at[2]}"
    return text


@given(
    st.lists(whole_us, min_size=1, max_size=20), st.lists(whole_us, min_size=1, max_size=20), whole_us,
    st.sampled_from(["old", "new"]), st.booleans(), st.sampled_from(["INFO: ", ""]), st.floats(0.01, 4096), seeds,
)  # fmt: skip
@settings(max_examples=75)
def test_every_text_of_benchmark_model(
    warmup: list[int], runs: list[int], init: int, order: str, quantiles: bool, prefix: str, peak: float,
    rng: random.Random,
) -> None:  # fmt: skip
    lines = [
        "STARTING!", litert_stats(warmup, order, quantiles), "", litert_stats(runs, order, quantiles), "",
        f"Inference timings in us: Init: {init}, First inference: {warmup[0]}, "
        f"Warmup (avg): {printed(sum(warmup) / len(warmup))}, Inference (avg): {printed(sum(runs) / len(runs))}",
        f"Overall peak memory footprint (MB) via periodic monitoring: {printed(peak)}",
    ]  # fmt: skip
    text = "".join(f"{prefix}{line}\n" if line else "\n" for line in lines)
    found = parse.read(BENCHMARK_MODEL, text)
    assert found.avg_ms == float(printed(sum(runs) / len(runs))) / 1000
    assert found.warmup_avg_ms == float(printed(sum(warmup) / len(warmup))) / 1000
    assert (found.count, found.min_ms, found.max_ms) == (len(runs), min(runs) / 1000, max(runs) / 1000)
    assert (found.load_ms, found.first_ms) == (init / 1000, warmup[0] / 1000)
    assert found.peak_rss_bytes == round(float(printed(peak)) * 2**20)
    check_damage(BENCHMARK_MODEL, text, found, rng)


@given(
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30), st.floats(0, 1e5), st.booleans(), st.booleans(),
    st.sampled_from(["posix", "threadtime", "uid", "time", "brief", "tag", "raw"]), seeds,
)  # fmt: skip
@settings(max_examples=75)
def test_every_text_of_executor_runner(
    times: list[float], load: float, loads: bool, iterations: bool, shape: str, rng: random.Random
) -> None:
    lines = [f"Model loaded in {load:.6f} ms."] if loads else []
    if iterations:
        lines += [f"Iteration {i} of {len(times)}: {t:.6f} ms" for i, t in enumerate(times, 1)]
    lines += [f"Model executed successfully {len(times)} time(s) in {sum(times):.6f} ms.", "1 outputs: "]
    text = "".join(f"I 00:00:05.833558 executorch:executor_runner.cpp:564] {line}\n" for line in lines)
    if shape != "posix":
        text = logged(text, shape)
    found = parse.read(EXECUTOR_RUNNER, "", "", text) if shape != "posix" else parse.read(EXECUTOR_RUNNER, "", text)
    assert found.count == len(times)
    assert found.avg_ms == float(f"{sum(times):.6f}") / len(times)
    assert found.samples_ms == (tuple(float(f"{t:.6f}") for t in times) if iterations else ())
    assert found.load_ms == (float(f"{load:.6f}") if loads else None)
    check_damage(EXECUTOR_RUNNER, text, found, rng, logcat=shape != "posix")


@given(
    st.lists(st.floats(1e-6, 100), min_size=1, max_size=30), st.floats(1e-6, 100), st.integers(0, 2**40),
    st.sampled_from(["Average inference time cost total: ", "Average inference time cost: ", "Average time cost:"]),
    st.sampled_from([("s", ": ", " "), ("sec", " is ", ""), ("ms", ": ", " "), ("us", ": ", " ")]),
    st.booleans(), seeds,
)  # fmt: skip
@settings(max_examples=75)
def test_every_text_of_onnxruntime_perf_test(
    times: list[float], load: float, peak: int, average: str, unit: tuple[str, str, str], verbose: bool,
    rng: random.Random,
) -> None:  # fmt: skip
    n, ordered, scale = len(times), sorted(times), {"s": 1.0, "sec": 1.0, "ms": 1e3, "us": 1e6}[unit[0]]
    mean_ms = f"{sum(times) / n * 1000:.6f}" if "total" in average else printed(sum(times) / n * 1000)
    lines = [f"iteration:{i},time_cost:{printed(t)}" for i, t in enumerate(times, 1)] if verbose else []
    lines += [
        f"Session creation time cost: {printed(load)} s", "First inference time cost: 7 ms",
        f"Total inference time cost: {printed(sum(times))} s", f"Total inference requests: {n}",
        f"{average}{mean_ms} ms", "Avg CPU usage: 11 %", f"Peak working set size: {peak} bytes",
        f"Peak working set size:{peak}", f"Runs:{n}",
    ]  # fmt: skip
    latencies = {"Min": 0.0, "Max": 1.0, "P50": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99, "P999": 0.999}
    at = {name: printed(ordered[min(n - 1, int(n * q))] * scale) for name, q in latencies.items()}
    lines += [f"{name} Latency{unit[1]}{value}{unit[2]}{unit[0]}" for name, value in at.items()]
    text = "".join(f"{line}\n" for line in lines)
    found = parse.read(ONNXRUNTIME_PERF_TEST, text)
    assert (found.avg_ms, found.count, found.peak_rss_bytes) == (float(mean_ms), n, peak)
    for name, value in (("Min", found.min_ms), ("Max", found.max_ms), ("P50", found.median_ms), ("P95", found.p95_ms)):
        assert value == pytest.approx(float(at[name]) / scale * 1000, rel=1e-12)
    assert found.load_ms == float(printed(load)) * 1000
    assert found.samples_ms == (tuple(float(printed(t)) * 1000 for t in times) if verbose else ())
    check_damage(ONNXRUNTIME_PERF_TEST, text, found, rng)


def check_damage(tool: Tool, text: str, whole: RunnerResult, rng: random.Random, logcat: bool = False) -> None:
    """Cut anywhere, doubled, with another program's lines between: the same values, or refused."""

    def read(damaged: str) -> RunnerResult:
        return parse.read(tool, "", "", damaged) if logcat else parse.read(tool, damaged)

    assert read(text + text) == whole
    lines = text.splitlines(keepends=True)
    noise = ("WARNING: linker: x\n", "VERBOSE: 12 of 13\n", "\n", "\x1b[0m\n")
    mixed = "".join(line + rng.choice(noise) for line in lines)
    assert read(mixed) == whole
    for _ in range(4):
        at = rng.randrange(len(text))
        for damaged in (text[:at], text[at:], text + text[:at], text[:at] + "INFO: other\n" + text[at:]):
            try:
                same_or_less(read(damaged), whole)
            except BadOutput:
                continue


@given(st.text(), st.sampled_from(sorted(TOOLS)), st.booleans())
@example("count=25 first=\n", "benchmark_model", False)
@example("Iteration 1 of " + "9" * 5000 + ": 1 ms\n", "executor_runner", True)
@example("Total iterations:999999999999999\nAverage time cost:1 ms\n", "onnxruntime_perf_test", False)
def test_garbage_is_bad_output_and_nothing_else(text: str, name: str, logcat: bool) -> None:
    tool = TOOLS[name]  # type: ignore[index]
    if text.endswith("Average time cost:1 ms\n"):  # that example is a result
        assert parse.read(tool, text).count == 999_999_999_999_999
        return
    with pytest.raises(BadOutput, match=r"(?s)wanted .*found ") as raised:
        parse.read(tool, "", "", text) if logcat else parse.read(tool, text, text)
    assert len(raised.value.message) < 600


@given(st.sampled_from(sorted(TOOLS)), st.lists(st.tuples(st.integers(0, 4000), st.text(max_size=6)), max_size=6))
@settings(max_examples=100)
def test_a_garbled_text_is_read_or_bad_output_and_nothing_else(name: str, edits: list[tuple[int, str]]) -> None:
    tool = TOOLS[name]  # type: ignore[index]
    text = REAL[tool]
    for at, put in edits:
        at %= len(text) + 1
        text = text[:at] + put + text[at + len(put) :]
    try:
        found = parse.read(tool, text)
    except BadOutput:
        return
    assert found.avg_ms > 0 and all(math.isfinite(v) for v in found.samples_ms)


# --- which tool, and how it is called --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("/opt/bin/benchmark_model", BENCHMARK_MODEL),
        ("android_aarch64_benchmark_model", BENCHMARK_MODEL),
        ("android_aarch64_benchmark_model_plus_flex", BENCHMARK_MODEL),
        ("executor_runner", EXECUTOR_RUNNER),
        ("cmake-out/xnn_executor_runner", EXECUTOR_RUNNER),
        ("executor_runner-android-arm64", EXECUTOR_RUNNER),
        ("qnn_executor_runner", None),
        ("arm_executor_runner", None),
        ("onnxruntime_perf_test", ONNXRUNTIME_PERF_TEST),
        ("onnxruntime_perf_test.exe", ONNXRUNTIME_PERF_TEST),
        ("pf_litert", None),
        ("benchmark_model.sh", None),
        ("", None),
    ],
)
def test_a_tool_by_its_file_name(name: str, tool: Tool | None) -> None:
    assert tool_of(name) is tool


def test_a_tool_by_its_help() -> None:
    litert = (
        "ERROR: usage: ./benchmark_model <flags>\nFlags:\n\t--num_runs=50\tint32\toptional\texpected number of runs\n"
        "\t--min_secs=1\tfloat\toptional\n\t--warmup_runs=1\tint32\n\t--graph=\tstring\trequired\tgraph file name\n"
    )
    gflags = (
        "executor_runner: Warning: SetUsageMessage() never called\n\n  Flags from executor_runner.cpp:\n"
        "    -model_path (Model serialized in flatbuffer format.) type: string\n"
        "    -num_executions (Number of times to run the model.) type: uint32\n"
    )
    assert tool_of(litert) is BENCHMARK_MODEL
    assert tool_of(gflags) is EXECUTOR_RUNNER
    for name in ("perf_test", "onnxruntime_perf_test"):
        assert tool_of(f"{name} [options...] model_path [result_file]\nOptions:\n\t-m [test_mode]\n") is (
            ONNXRUNTIME_PERF_TEST
        )
    qnn = "    -model_path (Model) type: string\n    -iteration (total num of iterations) type: int32\n"
    assert tool_of(qnn) is None
    ours = "usage: pf_litert --library SO --model FILE --mode describe|run|time|count [options]\n  --library SO\n"
    assert foreign.is_ours(ours) and tool_of(ours) is None and not foreign.is_ours(litert)
    assert tool_of(litert + gflags) is None  # two at once are none


def test_our_own_help_is_what_the_runner_s_source_prints() -> None:
    source = (Path(foreign.__file__).parent / "runner" / "options.c").read_text("utf-8")
    assert "--library SO --model FILE --mode describe|run|time|count" in source


def test_commands() -> None:
    assert foreign.argv(BENCHMARK_MODEL, "./b", "a b.tflite", 2, 50, 5, min_seconds=0.5) == [
        "./b", "--graph=a b.tflite", "--num_threads=2", "--num_runs=50", "--min_secs=0.5", "--max_secs=86400",
        "--warmup_runs=5", "--warmup_min_secs=0", "--report_peak_memory_footprint=false",
    ]  # fmt: skip
    assert foreign.argv(EXECUTOR_RUNNER, "./e", "m.pte", 1, 50, 5) == [
        "./e", "--model_path=m.pte", "--num_executions=55", "--cpu_threads=1",
    ]  # fmt: skip
    assert foreign.argv(ONNXRUNTIME_PERF_TEST, "./o", "-m.onnx", 4, 50, 1) == [
        "./o", "-e", "cpu", "-m", "times", "-r", "50", "-x", "4", "-S", "1", "-I", "-s", "./-m.onnx",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"samples": 0}, {"warmup": -1}, {"min_seconds": -1.0}])
def test_commands_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    numbers: dict[str, float] = {"threads": 1, "samples": 10, "warmup": 1, **wrong}
    with pytest.raises(ValueError, match="at least"):
        foreign.argv(BENCHMARK_MODEL, "b", "m", **numbers)  # type: ignore[arg-type]


def test_a_tool_that_runs_for_no_time_says_so() -> None:
    with pytest.raises(ValueError, match="takes no time to run for"):
        foreign.argv(EXECUTOR_RUNNER, "e", "m.pte", 1, 10, 1, min_seconds=1)


def test_what_counts_for_a_round() -> None:
    assert foreign.values(BENCHMARK_MODEL, LITERT_RESULT, 5) == (145.528,)
    executed = parse.read(EXECUTOR_RUNNER, EXECUTORCH)
    assert foreign.values(EXECUTOR_RUNNER, executed, 1) == (100.000001, 98.5)
    without = dataclasses.replace(executed, samples_ms=())
    assert foreign.values(EXECUTOR_RUNNER, without, 1) == (executed.avg_ms,)
