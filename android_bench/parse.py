"""What a runner printed → RunnerResult, in milliseconds and bytes. Pure.

Each runner's format, with its upstream source, is in a file of its own: `parse_litert` (benchmark_model),
`parse_executorch` (executor_runner), `parse_onnxruntime` (onnxruntime_perf_test).
"""

from __future__ import annotations

from android_bench import logcat as log
from android_bench import parse_executorch, parse_litert, parse_onnxruntime
from android_bench.errors import BadOutput
from android_bench.foreign import BENCHMARK_MODEL, EXECUTOR_RUNNER, Tool
from android_bench.runner_texts import RunnerResult, complete_lines, missing

__all__ = ["RunnerResult", "read"]


def read(tool: Tool, stdout: str, stderr: str = "", logcat: str = "", *, pid: int | None = None) -> RunnerResult:
    """The result of one run, from its texts as they came (not stripped: a line without its end counts as cut off).

    `logcat` (`logcat -d -s TAG:I`, any format) is read only where stdout and stderr hold no result; `pid` is the
    runner's process, where the log may hold earlier runs. Raises BadOutput, naming what was wanted and found: nothing
    there, broken or cut lines, more than one run, or numbers that contradict each other.
    """
    # Without a line end between them, stderr's first line would continue stdout's last, cut one.
    printed = stdout[: stdout.rfind("\n") + 1] + stderr
    if tool is BENCHMARK_MODEL:
        if logcat and "Inference timings" not in printed and "Benchmarking failed" not in printed:
            return parse_litert.read("".join(f"{line}\n" for line in _of_process(tool, logcat, "tflite", pid)))
        return parse_litert.read(printed)
    if tool is EXECUTOR_RUNNER:
        lines = complete_lines(printed)
        if logcat and not any("Model executed successfully" in line or "status 0x" in line for line in lines):
            lines = _of_process(tool, logcat, parse_executorch.LOG_TAG, pid)
        return parse_executorch.read(lines)
    return parse_onnxruntime.read(printed)


def _of_process(tool: Tool, logcat: str, tag: str, pid: int | None) -> list[str]:
    """The messages of one process: the named one, or the only one there is."""
    found = list(log.messages(complete_lines(logcat), tag))
    processes = {process for process, _ in found if process is not None}
    if pid is not None and processes:
        if pid not in processes:
            raise missing(tool.name, f"messages of process {pid} in the log", [m for _, m in found], [logcat])
        return [message for process, message in found if process == pid]
    if len(processes) > 1:
        found_pids = ", ".join(map(str, sorted(processes)[:4]))
        raise BadOutput(
            f"{tool.name}: wanted one process in the log, found {len(processes)}: {found_pids}",
            "clear the log before the run (adb logcat -c), or name the process",
        )
    return [message for _, message in found]
