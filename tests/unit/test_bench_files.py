"""What `bench` says of a runtime that ended: its own words, and the signal where it was one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pocketforge.commands.bench_files import reason_of
from pocketforge.errors import ToolFailed


def ended(program: str) -> ToolFailed:
    """What a run that went so leaves."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return ToolFailed(["the onnx runtime on m.onnx"], done.returncode, done.stderr)


KILL = "import os, signal, sys; print({words!r}, file=sys.stderr, flush=True); os.kill(os.getpid(), signal.{name})"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        # Case E7: the words are of a warning, the signal is why it ended.
        (KILL.format(words="[W:onnxruntime] a node has no kernel", name="SIGSEGV"),
         "SIGSEGV (crashed: it read or wrote outside its memory)\n  [W:onnxruntime] a node has no kernel"),
        (KILL.format(words="", name="SIGKILL"), "SIGKILL (killed; often out of memory)"),
        ("raise ValueError('no such shape')", "ValueError: no such shape"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)  # fmt: skip
def test_a_signal_is_said_beside_what_the_runtime_said(program: str, said: str) -> None:
    assert reason_of(ended(program)) == said
