"""A stage that reads files when it is told to, so that tests can swap them at each of its boundaries.

spec: "name"; "go", a folder: the stage says "before NAME", waits for go/before-NAME, does what "do" lists, says
"after NAME", waits for go/after-NAME, and writes what it read into result.txt. Its file is no part of Pocketforge: what
it opens counts as opened by the user's code.
"""

from __future__ import annotations

import glob
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from told_spec import ToldSpec

STAGE, RESUMED = "reading", "reading again"


def run(inputs: Mapping[str, Path], spec: ToldSpec, out: Path, emit: Callable[[float, str], None]) -> None:
    _hold("before", spec, emit)
    found = [ACTIONS[action](inputs, out, *arguments) for action, *arguments in spec["do"]]
    _hold("after", spec, emit)
    text = "|".join(found) + "".join(f"[{(inputs[r] / 'result.txt').read_text()}]" for r in sorted(spec["needs"]))
    (out / "result.txt").write_text(text)


def _hold(when: str, spec: ToldSpec, emit: Callable[[float, str], None]) -> None:
    if not spec["go"]:
        return
    emit(0.5, f"{when} {spec['name']}")
    deadline = time.monotonic() + 60
    while not Path(spec["go"], f"{when}-{spec['name']}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody let {spec['name']} go on")
        time.sleep(0.005)


def _read(inputs: Any, out: Path, path: str) -> str:
    if Path(path).is_dir():
        return "+".join(p.read_text() for p in sorted(Path(path).iterdir()))
    return Path(path).read_text()


def _read_if_there(inputs: Any, out: Path, path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else "none"


def _try_to_read(inputs: Any, out: Path, path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return "none"


def _globbed(inputs: Any, out: Path, path: str) -> str:
    return "+".join(Path(found).read_text() for found in glob.glob(path)) or "none"


def _names(inputs: Any, out: Path, path: str) -> str:
    return "+".join(sorted(os.listdir(path)))


def _safetensors(inputs: Any, out: Path, path: str) -> str:
    from safetensors.numpy import load_file

    return str(load_file(path)["x"].tolist())


def _in_a_thread(inputs: Any, out: Path, path: str) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(Path(path).read_text()))
    thread.start()
    thread.join()
    return found[0]


def _in_a_fork(inputs: Any, out: Path, path: str) -> str:
    pid = os.fork()
    if pid == 0:
        (out / "forked.txt").write_text(Path(path).read_text())
        os._exit(0)
    os.waitpid(pid, 0)
    return (out / "forked.txt").read_text()


def _keep_a_cache(inputs: Any, out: Path, path: str) -> str:
    """As code that prepares its data once: written when it is not there, then read."""
    if not os.path.exists(path):
        Path(path).write_text("made")
    return Path(path).read_text()


def _unpacked(inputs: Any, out: Path, path: str) -> str:
    """By another program, into a folder that goes; and beside a folder that was there."""
    Path(path).parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cp", path, folder], check=True)
        unpacked = Path(folder, Path(path).name).read_text()
    removed = Path(path).with_name("removed")
    subprocess.run(["cp", path, removed], check=True)
    read = removed.read_text()
    removed.unlink()
    return f"{unpacked}{read}{Path(path).read_text()}"


def _module(inputs: Any, out: Path, folder: str, name: str) -> str:
    from pocketforge.model.user_code import sibling_imports

    with sibling_imports(Path(folder)):
        return str(__import__(name).VALUE)


def _half_done(inputs: Any, out: Path, path: str, end: str) -> str:
    """Goes on from what the earlier run kept; ends in its middle while the file `end` is there."""
    kept = Path(inputs["partial"], "kept")
    if not kept.exists():
        kept.write_text(Path(path).read_text())
    if Path(end).exists():
        os._exit(9)
    return kept.read_text()


ACTIONS: dict[str, Callable[..., str]] = {
    "read": _read,
    "read if there": _read_if_there,
    "try to read": _try_to_read,
    "glob": _globbed,
    "names": _names,
    "safetensors": _safetensors,
    "thread": _in_a_thread,
    "fork": _in_a_fork,
    "cache": _keep_a_cache,
    "module": _module,
    "unpacked": _unpacked,
    "half done": _half_done,
}
