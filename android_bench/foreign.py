"""Runners that users bring: how each is called, which one a program is, and what it cannot give.

    tool = foreign.tool_of("android_aarch64_benchmark_model") or foreign.tool_of(help_text)
    argv = foreign.argv(tool, "./benchmark_model", "model.tflite", threads=1, samples=50, warmup=5)
    result = parse.read(tool, stdout, stderr, logcat)            # RunnerResult; raises BadOutput
    values = foreign.values(tool, result, warmup=5)              # what counts for this round, in ms

A verdict rests on rounds, not on single inferences: where a tool gives no time for each, its average is one value a
round. All of them make up their own inputs: they say how fast a file is, never whether it is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from android_bench.runner_texts import RunnerResult


@dataclass(frozen=True, slots=True)
class Tool:
    """A known runner. `log_tag`: on a phone its results are in the log under this tag, and not on stdout."""

    name: Literal["benchmark_model", "executor_runner", "onnxruntime_perf_test"]
    runtime: Literal["tflite", "executorch", "onnx"]
    file_names: str  # a pattern of the whole name
    help_words: tuple[str, ...]  # all of them are in its --help
    # Its warm-up: as many as asked for; always one; or none, so that warm-up runs are asked for as samples.
    warmup: Literal["any", "one", "none"]
    min_seconds: bool  # whether it can be told to run for a time at least
    cannot: tuple[str, ...]
    log_tag: str = ""


BENCHMARK_MODEL = Tool(
    name="benchmark_model",
    runtime="tflite",
    file_names=r"(?:[a-z0-9_-]+[_-])?benchmark_model(?:[_-]plus[_-]flex)?",
    help_words=("--graph=", "--num_runs=", "--warmup_runs=", "--min_secs="),
    warmup="any",
    min_seconds=True,
    cannot=(
        "no flag makes it print the time of each inference: its average is one value a round",
        "runs on random inputs; outputs are not compared",
        "times are whole microseconds, averages have six digits",
    ),
)
EXECUTOR_RUNNER = Tool(
    name="executor_runner",
    runtime="executorch",
    # qnn_, mtk_ and arm_executor_runner are other programs with other options.
    file_names=r"(?:(?:xnn|xnnpack|portable)_)?executor_runner(?:[_-](?:android|arm64|aarch64|v8a)[a-z0-9_-]*)?",
    help_words=("model_path", "num_executions"),
    warmup="none",
    min_seconds=False,
    cannot=(
        "no warm-up of its own: the first executions are left out of the samples",
        "older versions print no time of each execution: their average includes the first",
        "runs on inputs of ones; outputs are not compared",
        "no peak memory",
    ),
    log_tag="ExecuTorch",
)
ONNXRUNTIME_PERF_TEST = Tool(
    name="onnxruntime_perf_test",
    runtime="onnx",
    file_names=r"(?:[a-z0-9_-]+[_-])?onnxruntime_perf_test",
    help_words=("perf_test [options...] model_path",),
    warmup="one",
    min_seconds=False,
    cannot=(
        "one warm-up run, never more",
        "the time of each inference only with -v, which slows it: its average is one value a round",
        "runs on random inputs; outputs are not compared",
        "the first inference in whole milliseconds",
    ),
)
TOOLS = {tool.name: tool for tool in (BENCHMARK_MODEL, EXECUTOR_RUNNER, ONNXRUNTIME_PERF_TEST)}
# Nothing here runs so long; its own default of 150 s would end a run before --num_runs, and it would not say so.
_MAX_SECONDS = 86_400


def tool_of(path_or_help: str) -> Tool | None:
    """Which runner a program is, by its --help text (more than one line) or its file name; None: none of these.

    Help is surer than a name: look there first where the phone can be asked. Our own runners are none of these
    (`is_ours` knows them).
    """
    if "\n" in path_or_help:
        fits = [tool for tool in TOOLS.values() if all(word in path_or_help for word in tool.help_words)]
        return fits[0] if len(fits) == 1 else None
    name = PurePath(path_or_help).name.lower().removesuffix(".exe")
    return next((tool for tool in TOOLS.values() if re.fullmatch(tool.file_names, name)), None)


def is_ours(help_text: str) -> bool:
    """Whether a program's --help is that of the contract in android_bench/runner/README.md."""
    return "--library SO --model FILE --mode describe|run|time|count" in help_text


def argv(
    tool: Tool, program: str, model: str, threads: int, samples: int, warmup: int, *, min_seconds: float = 0.0
) -> list[str]:
    """The command that times `samples` inferences after `warmup`. Raises ValueError for what the tool cannot do.

    Words, not a shell line: whoever runs it quotes them.
    """
    if threads < 1 or samples < 1 or warmup < 0 or min_seconds < 0:
        raise ValueError(
            "threads and samples are at least 1, warm-up and seconds at least 0; "
            f"found {threads}, {samples}, {warmup}, {min_seconds}"
        )
    if min_seconds and not tool.min_seconds:
        raise ValueError(f"{tool.name} counts inferences and takes no time to run for; ask for more samples")
    if tool is BENCHMARK_MODEL:
        return [
            program, f"--graph={model}", f"--num_threads={threads}", f"--num_runs={samples}",
            f"--min_secs={min_seconds:g}", f"--max_secs={_MAX_SECONDS}", f"--warmup_runs={warmup}",
            "--warmup_min_secs=0", "--report_peak_memory_footprint=false",
        ]  # fmt: skip
    if tool is EXECUTOR_RUNNER:
        return [program, f"--model_path={model}", f"--num_executions={warmup + samples}", f"--cpu_threads={threads}"]
    # A model named like an option would be taken for one.
    last = f"./{model}" if model.startswith("-") else model
    return [
        program, "-e", "cpu", "-m", "times", "-r", str(samples), "-x", str(threads), "-S", "1", "-I", "-s", last,
    ]  # fmt: skip


def values(tool: Tool, result: RunnerResult, warmup: int) -> tuple[float, ...]:
    """What a round's verdict rests on, in ms: each inference after the warm-up, or the average where there are none."""
    if tool.warmup == "none" and len(result.samples_ms) > warmup:
        return result.samples_ms[warmup:]
    return result.samples_ms or (result.avg_ms,)
