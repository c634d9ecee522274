"""Building what counts blocks: the reader of qemu's log, and the plugin for a qemu that can load one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from pocketforge.errors import ToolFailed

NATIVE = Path(__file__).parent / "native"
READER = "pf_block_reader"
# qemu 7 is version 1 of the plugin interface, 9.0 is 2, 9.1 is 3, 9.2 and 10.0 are 4 …; each refuses the others'.
PLUGIN_VERSIONS = (6, 5, 4, 3, 2, 1)
TIMEOUT_S = 300


def plugin_name(version: int) -> str:
    return f"libpf_blocks_{version}.so"


def build(zig: Path, folder: Path) -> Path:
    """Compile the reader and the plugins into `folder` for this machine; returns the reader. zig: the compiler's
    program. Raises ToolFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Baseline: the folder may be on a disk that machines with other CPUs share.
    common = [os.fspath(zig), "cc", "-O2", "-g0", "-mcpu=baseline", "-Wall", "-Wextra", "-Werror"]
    with tempfile.TemporaryDirectory(prefix="pocketforge-zig-") as cache:
        # zig would write to the user's cache folder; the set-up has chosen another already.
        environment = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ}
        _compile([*common, "-o", os.fspath(folder / READER), os.fspath(NATIVE / "block_reader.c")], environment)
        plugin = [*common, "-shared", "-fPIC", "-fvisibility=hidden", os.fspath(NATIVE / "block_counter_plugin.c")]
        for version in PLUGIN_VERSIONS:
            output = os.fspath(folder / plugin_name(version))
            _compile([*plugin, f"-DPLUGIN_VERSION={version}", "-o", output], environment)
    return folder / READER


def _compile(argv: list[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", env=environment, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolFailed(argv, 124, f"no end after {TIMEOUT_S} s", hint="the machine may be overloaded") from None
    if done.returncode != 0:
        raise ToolFailed(argv, done.returncode, done.stderr, hint="the compiler is Zig's, fetched by the set-up")
